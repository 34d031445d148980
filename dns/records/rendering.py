"""The zone's relative answers as DNS records, with the zone spelled as the question spelled it. Pure.

The rule: a name that was asked comes back letter for letter, every other name ends in the asker's spelling of the zone.
Source: RFC 2308 for the SOA of negative answers; the CoreDNS kubernetes plugin for its values.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address

from podnet.dns import message
from podnet.dns.message import Rdata, record
from podnet.dns.records import types

SOA_REFRESH_S, SOA_RETRY_S, SOA_EXPIRE_S = 7200, 1800, 86400
SOA_TTL_MAX_S = 300


@dataclass(frozen=True, slots=True)
class Asked:
    """A question and its zone: `qname` and `zone` in the asker's case, `primary` the zone that PTR records point into."""

    qname: str
    zone: str
    primary: str

    def absolute(self, relative: str) -> str:
        """The whole name of one relative to the zone."""
        end = len(self.qname) - len(self.zone) - 1
        # The asked name itself keeps its case; the comparison is by what it stands for.
        if len(relative) == end and self.qname[:end].lower() == relative:
            return self.qname
        return join(relative, self.zone)


def join(relative: str, zone: str) -> str:
    """`a.b` in `zone.` → `a.b.zone.`; the empty name is the zone itself."""
    if not relative:
        return zone
    return f"{relative}." if zone == "." else f"{relative}.{zone}"


def render(records: Iterable[types.Record], asked: Asked) -> tuple[message.Record, ...]:
    """Records of an answer, absolute."""
    return tuple(record(asked.absolute(each.owner), each.ttl_s, _rdata(each, asked)) for each in records)


def render_reverse(records: Iterable[types.Record], asked: Asked) -> tuple[message.Record, ...]:
    """The same for PTR answers, whose owner is the question and whose targets are in the primary zone."""
    return tuple(record(asked.qname, each.ttl_s, message.PTR(join(each.value, asked.primary))) for each in records)


def render_soa(zone: str, serial: int, ttl_s: int) -> message.Record:
    """The zone's SOA; its minimum is how long a negative answer may be kept."""
    data = message.SOA(
        join("ns.dns", zone), join("hostmaster", zone), serial, SOA_REFRESH_S, SOA_RETRY_S, SOA_EXPIRE_S, ttl_s
    )
    return record(zone, min(ttl_s, SOA_TTL_MAX_S), data)


def render_address(owner: str, address: str, ttl_s: int) -> message.Record:
    """An A or AAAA record, by the address."""
    return record(owner, ttl_s, _address(address))


def _rdata(each: types.Record, asked: Asked) -> Rdata:
    match each.type:
        case message.A_ | message.AAAA_:
            return _address(each.value)
        case message.SRV_:
            return message.SRV(0, each.weight, each.port, asked.absolute(each.value))
        case message.CNAME_:
            return message.CNAME(each.value)
        case message.TXT_:
            return message.TXT((each.value.encode(),))
    raise AssertionError(f"the zone index makes no records of type {each.type}")


@lru_cache(maxsize=65536)
def _address(text: str) -> Rdata:
    return message.AAAA(IPv6Address(text)) if ":" in text else message.A(IPv4Address(text))
