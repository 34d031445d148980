"""What several plugins need to know about names and answers: fallthrough, own zones, negative answers.

The rule kept here: pure; each function says in its name what CoreDNS calls it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address

from podnet.dns.config import Directive, Setup, longest_match
from podnet.dns.message import SOA, Record, is_subdomain


@dataclass(frozen=True, slots=True)
class Fallthrough:
    """For which names a plugin that found nothing asks the next one: none, all, or those in some zones."""

    zones: tuple[str, ...] = ()

    def through(self, name: str) -> bool:
        """May the next plugin be asked for this lower-case name?"""
        return longest_match(name, self.zones) is not None


NO_FALLTHROUGH = Fallthrough()


def parse_fallthrough(line: Directive, setup: Setup) -> Fallthrough:
    """`fallthrough [ZONES...]`: without zones it is for all names."""
    return Fallthrough(setup.zones_of(line.args) if line.args else (".",))


def reversed_address(name: str) -> IPv4Address | IPv6Address | None:
    """The address whose reverse name this is (lower-case), or None."""
    if is_subdomain(name, "in-addr.arpa."):
        labels = name.removesuffix(".in-addr.arpa.").split(".")
        text = ".".join(reversed(labels)) if len(labels) == 4 else ""
    elif is_subdomain(name, "ip6.arpa."):
        labels = name.removesuffix(".ip6.arpa.").split(".")
        digits = "".join(reversed(labels)) if len(labels) == 32 and all(len(each) == 1 for each in labels) else ""
        text = ":".join(digits[index : index + 4] for index in range(0, len(digits), 4))
    else:
        return None
    try:
        return ip_address(text)
    except ValueError:
        return None


def respelled(records: Sequence[Record], qname: str) -> tuple[Record, ...]:
    """The records with the owner name spelled as in the question where it is that name."""
    lower = qname.lower()
    return tuple(
        each
        if each.name == qname or each.name.lower() != lower
        else Record(qname, each.type, each.ttl, each.data, each.rclass)
        for each in records
    )


def negative_soa(soa: Record) -> Record:
    """The SOA as it stands in a negative answer: its TTL is at most its minimum (RFC 2308 section 3)."""
    assert isinstance(soa.data, SOA)
    return Record(soa.name, soa.type, min(soa.ttl, soa.data.minimum), soa.data, soa.rclass)
