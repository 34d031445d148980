"""acl: who may ask what.

Syntax: `acl [ZONES...] { allow|block|filter|drop [type QTYPE...] [net SOURCE...] }`. The first rule that fits decides,
else it is allowed. block is REFUSED, filter an empty answer, drop no answer at all.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

from podnet.dns.config import Directive, Setup, longest_match
from podnet.dns.handler import Handler, Plugin, Request, Response, Runtime
from podnet.dns.message import REFUSED, reply, type_number

Network: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network
ACTIONS = ("allow", "block", "filter", "drop")


@dataclass(frozen=True, slots=True)
class Policy:
    """One line. Without types or networks it is for all."""

    action: str
    qtypes: frozenset[int] = frozenset()
    networks: tuple[Network, ...] = ()

    def matches(self, request: Request) -> bool:
        """Is the line about this request?"""
        if self.qtypes and request.qtype not in self.qtypes:
            return False
        return not self.networks or any(request.client in network for network in self.networks)


@dataclass(frozen=True, slots=True)
class Rule:
    """The lines of one acl, and the zones they are for."""

    zones: tuple[str, ...]
    policies: tuple[Policy, ...]


class Acl(Plugin):
    """All rules of a server block. What it lets through depends on the client, so nothing is served twice."""

    name = "acl"

    def __init__(self, rules: Sequence[Rule]) -> None:
        self.rules = rules

    async def start(self, runtime: Runtime) -> None:
        """Count decisions."""
        labels = ("server", "zone", "view")
        self._counters = {
            action: runtime.metrics.counter(
                f"coredns_acl_{word}_requests_total", f"Counter of DNS requests being {word}.", labels
            )
            for action, word in {
                "allow": "allowed",
                "block": "blocked",
                "filter": "filtered",
                "drop": "dropped",
            }.items()
        }

    async def serve(self, request: Request, next_: Handler) -> Response:
        """Decide."""
        for rule in self.rules:
            zone = longest_match(request.name, rule.zones)
            if zone is None:
                continue
            action = next((policy.action for policy in rule.policies if policy.matches(request)), "allow")
            if action == "allow":
                continue
            self._count(action, zone)
            empty = Response(reply(request.message, REFUSED if action == "block" else 0, authoritative=False))
            return replace(empty, silent=action == "drop")
        self._count("allow", "")
        return (await next_(request)).once()

    def _count(self, action: str, zone: str) -> None:
        counters = getattr(self, "_counters", None)
        if counters:
            counters[action].add("", zone, "")


def setup(setup: Setup) -> Sequence[Plugin]:
    """Several acls of a block are asked in order."""
    return [
        Acl(
            [
                Rule(setup.zones_of(directive.args), tuple(_policy(line) for line in directive.block))
                for directive in setup.directives
            ]
        )
    ]


def _policy(line: Directive) -> Policy:
    if line.name not in ACTIONS:
        raise line.error(f"unexpected token '{line.name}'; expect 'allow', 'block', 'filter' or 'drop'")
    qtypes: set[int] = set()
    networks: list[Network] = []
    mode = ""
    for arg in line.args:
        text = arg.text
        if text in {"type", "net"}:
            mode = text
        elif mode == "type" and text == "*":
            qtypes.clear()
        elif mode == "type":
            try:
                qtypes.add(type_number(text))
            except KeyError as error:
                raise line.error(f"'{text}' is no type", arg) from error
        elif mode == "net" and text == "*":
            networks += [ipaddress.ip_network("0.0.0.0/0"), ipaddress.ip_network("::/0")]
        elif mode == "net":
            try:
                networks.append(ipaddress.ip_network(text, strict=False))
            except ValueError as error:
                raise line.error(f"illegal CIDR notation '{text}'", arg) from error
        else:
            raise line.error(f"unexpected token '{text}'; expect 'type' or 'net'", arg)
    return Policy(line.name, frozenset(qtypes), tuple(networks))
