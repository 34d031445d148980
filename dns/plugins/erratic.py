"""erratic: an upstream that misbehaves on purpose, for trying out clients: it delays, drops and truncates answers.

Syntax: `erratic { drop [AMOUNT]; truncate [AMOUNT]; delay [AMOUNT [DURATION]] }`. One in AMOUNT queries (2 unless said)
is treated so, beginning with the first; without a block every second query is dropped. A is always 192.0.2.53, AAAA
2001:db8::53 (the documentation's addresses, RFC 5737 and RFC 3849); other types are SERVFAIL, transfers refused.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace
from ipaddress import IPv4Address, IPv6Address

from podnet.dns.config import Directive, Setup, parse_duration, parse_number
from podnet.dns.handler import Handler, Plugin, Request, Response, failure
from podnet.dns.message import A_, AAAA, AAAA_, AXFR_, IXFR_, REFUSED, A, Rdata, record, reply

DEFAULT_AMOUNT = 2
DEFAULT_DELAY_S = 0.1
MAX_AMOUNT = 2**31 - 1
_DATA: dict[int, Rdata] = {A_: A(IPv4Address("192.0.2.53")), AAAA_: AAAA(IPv6Address("2001:db8::53"))}


@dataclass(frozen=True, slots=True)
class Habits:
    """One in how many; 0 is never."""

    drop: int = 0
    truncate: int = 0
    delay: int = 0
    delay_s: float = DEFAULT_DELAY_S


class Erratic(Plugin):
    """Ends the chain. What it says is never served again without asking: the next time it may behave otherwise."""

    name = "erratic"

    def __init__(self, habits: Habits) -> None:
        self.habits = habits
        self._count = 0

    async def serve(self, request: Request, next_: Handler) -> Response:  # noqa: ARG002 - it answers everything
        """The static answer, or whatever the turn wants."""
        habits, turn = self.habits, self._count
        self._count += 1
        if request.qtype in {AXFR_, IXFR_}:
            return Response(reply(request.message, REFUSED, authoritative=False))
        data = _DATA.get(request.qtype)
        if habits.delay and turn % habits.delay == 0:
            await asyncio.sleep(habits.delay_s)
        if data is None:
            return failure(request, "erratic answers A and AAAA only")
        message = reply(request.message, answers=[record(request.qname, 0, data)])
        if habits.truncate and turn % habits.truncate == 0:
            message = replace(message, truncated=True)
        return Response(message, silent=bool(habits.drop and turn % habits.drop == 0))


def setup(setup: Setup) -> Sequence[Plugin]:
    """See the module."""
    directive = setup.once()
    if directive.args:
        raise directive.error("erratic takes no arguments", directive.args[0])
    if not directive.block:
        return [Erratic(Habits(drop=DEFAULT_AMOUNT))]
    habits = Habits()
    for line in directive.block:
        habits = _habit(line, habits)
    return [Erratic(habits)]


def _habit(line: Directive, habits: Habits) -> Habits:
    if line.name not in {"drop", "truncate", "delay"}:
        raise line.error(f"unknown property '{line.name}'")
    if len(line.args) > (2 if line.name == "delay" else 1):
        raise line.error(f"wrong number of arguments to '{line.name}'", line.args[-1])
    amount = parse_number(line.args[0], 0, MAX_AMOUNT) if line.args else DEFAULT_AMOUNT
    if line.name == "drop":
        return replace(habits, drop=amount)
    if line.name == "truncate":
        return replace(habits, truncate=amount)
    delay_s = parse_duration(line.args[1]) if len(line.args) > 1 else DEFAULT_DELAY_S
    return replace(habits, delay=amount, delay_s=delay_s)
