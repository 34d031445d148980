"""loadbalance: shuffles addresses and mail exchanges in answers; CNAMEs stay first.

Syntax: `loadbalance [round_robin]`.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace

from podnet.dns.config import Setup
from podnet.dns.handler import Handler, Plugin, Request, Response
from podnet.dns.message import A_, AAAA_, CNAME_, MX_, NOERROR, Record


class Loadbalance(Plugin):
    """The fast path turns the addresses instead of shuffling them (`Reuse.rotates`; `exchange.Block` says so of prepared ones)."""

    name = "loadbalance"
    transparent = True

    async def serve(self, request: Request, next_: Handler) -> Response:
        """Shuffle what comes from below."""
        response = await next_(request)
        message = response.message
        if message.rcode != NOERROR or len(message.answers) + len(message.additional) < 2:
            return response
        shuffled = replace(
            message,
            answers=shuffle(message.answers),
            authority=shuffle(message.authority),
            additional=shuffle(message.additional),
        )
        reuse = replace(response.reuse, rotates=True) if response.reuse else None
        return replace(response, message=shuffled, reuse=reuse)


def shuffle(records: Sequence[Record]) -> tuple[Record, ...]:
    """CNAMEs, other records, addresses in any order, mail exchanges in any order."""
    addresses = [each for each in records if each.type in {A_, AAAA_}]
    exchanges = [each for each in records if each.type == MX_]
    if len(addresses) < 2 and len(exchanges) < 2:
        return tuple(records)
    random.shuffle(addresses)
    random.shuffle(exchanges)
    aliases = [each for each in records if each.type == CNAME_]
    rest = [each for each in records if each.type not in {A_, AAAA_, MX_, CNAME_}]
    return (*aliases, *rest, *addresses, *exchanges)


def setup(setup: Setup) -> Sequence[Plugin]:
    """Only one policy is here."""
    directive = setup.once()
    if directive.words not in {(), ("round_robin",)} or directive.block:
        raise directive.error("only the policy round_robin is known", directive.args[0] if directive.args else None)
    return [Loadbalance()]
