"""Answers of the zone as wire bytes, for questions that are wire bytes: what the fast path serves. Pure.

    question   | 4 web 7 default 3 svc | 7 cluster 5 local 0 | type | class |      lower case
                 ▲ offset 12             ▲ where the zone begins: SOA, its mname and rname point here
    body       | c00c A IN ttl 4 10.96.0.7 | …

The rule: the same answer as `lookup` and `rendering` give, or None. Only addresses and negative answers are made here: all
they repeat of the question is pointers, so they are right for every spelling of it. The rest comes through the chain once
and is remembered by the server.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from ipaddress import ip_address
from struct import Struct

from podnet.dns.message import A_, AAAA_, IN, SOA_
from podnet.dns.records.rendering import SOA_EXPIRE_S, SOA_REFRESH_S, SOA_RETRY_S, SOA_TTL_MAX_S
from podnet.dns.records.types import Answer, Labels

_RECORD = Struct("!HHHIH")
_POINTER = Struct("!H")
_SOA_NUMBERS = Struct("!IIIII")
_QNAME = 0xC00C
_SAFE = frozenset(b"abcdefghijklmnopqrstuvwxyz0123456789-_")


@dataclass(frozen=True, slots=True)
class PreparedName:
    """A question taken apart: the labels before the zone, and where the zone's name begins in a message."""

    labels: Labels
    zone_at: int
    qtype: int


def parse_question(question: bytes, zone: bytes) -> PreparedName | None:
    """The parts of a lower-case question of class IN below `zone` (its wire name); None for any other."""
    name, qtype, qclass = question[:-4], question[-4:-2], question[-2:]
    split = len(name) - len(zone)
    if qclass != b"\0\1" or split < 0 or name[split:] != zone:
        return None
    labels: list[str] = []
    at = 0
    while at < split:
        end = at + 1 + name[at]
        label = name[at + 1 : end]
        if end > split or not _SAFE.issuperset(label):
            return None  # the zone's bytes begin inside a label, or text and bytes of this label are not the same
        labels.append(label.decode("ascii"))
        at = end
    return PreparedName(tuple(labels), 12 + split, int.from_bytes(qtype, "big"))


def encode_addresses(answer: Answer) -> bytes:
    """The answer section of an answer that is nothing but addresses of the question's own name."""
    return b"".join(_address_record(each.type, each.ttl_s, each.value) for each in answer.records)


@lru_cache(maxsize=65536)
def _address_record(rtype: int, ttl_s: int, address: str) -> bytes:
    packed = ip_address(address).packed
    return _RECORD.pack(_QNAME, rtype, IN, ttl_s, len(packed)) + packed


def encode_soa(zone_at: int, serial: int, ttl_s: int) -> bytes:
    """The authority section of a negative answer."""
    zone = _POINTER.pack(0xC000 | zone_at)
    numbers = _SOA_NUMBERS.pack(serial, SOA_REFRESH_S, SOA_RETRY_S, SOA_EXPIRE_S, ttl_s)
    data = b"\2ns\3dns" + zone + b"\x0ahostmaster" + zone + numbers
    return _RECORD.pack(0xC000 | zone_at, SOA_, IN, min(ttl_s, SOA_TTL_MAX_S), len(data)) + data


def is_addresses(name: PreparedName, answer: Answer) -> bool:
    """Whether `encode_addresses` can make all of this answer."""
    return (
        name.qtype in (A_, AAAA_) and not answer.additional and all(each.type == name.qtype for each in answer.records)
    )
