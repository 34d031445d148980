"""A zone read from a master file, and what it says to a question (RFC 1034 section 4.3.2, RFC 4592 for wildcards).

The rule kept here: pure and immutable. A change of the file makes another zone.

    name found      the type, or its CNAME, or no data       cut on the way   referral with glue
    DNAME above     the DNAME, and a CNAME made from it (RFC 6672)
    nothing there   the wildcard nearest to it, if that is directly below the closest name that exists; else NXDOMAIN
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from podnet.dns.message import (
    A_,
    AAAA_,
    ANY_,
    CNAME,
    CNAME_,
    MX,
    NS,
    NS_,
    NXDOMAIN,
    SOA,
    SOA_,
    SRV,
    Raw,
    Record,
    is_subdomain,
)
from podnet.dns.rare_types import DNAME_
from podnet.dns.wire import decode_name
from podnet.dns.zones import negative_soa

MAX_CHAIN = 10
MAX_NAME = 254
"""Of a name as text with its final dot (RFC 1035: 255 bytes with the length of each label and of the root)."""
YXDOMAIN = 6


@dataclass(frozen=True, slots=True)
class Lookup:
    """What a zone answers. `chase` is a name outside of the zone at the end of a CNAME chain."""

    rcode: int = 0
    answers: tuple[Record, ...] = ()
    authority: tuple[Record, ...] = ()
    additional: tuple[Record, ...] = ()
    authoritative: bool = True
    chase: str = ""


class FileZone:
    """Records by name and type."""

    def __init__(self, origin: str, records: Iterable[Record]) -> None:
        self.origin = origin.lower()
        self._names: dict[str, dict[int, list[Record]]] = {}
        for each in records:
            name = each.name.lower()
            if not is_subdomain(name, self.origin):
                continue  # CoreDNS leaves out what is not of the zone, too
            self._names.setdefault(name, {}).setdefault(each.type, []).append(each)
            # Everything between a name and the apex exists, if only empty.
            while name != self.origin:
                name = name.partition(".")[2] or "."
                self._names.setdefault(name, {})
        soas = self._names.get(self.origin, {}).get(SOA_, [])
        if len(soas) != 1:
            raise ValueError(f"zone {origin} has {len(soas)} SOA records, not one")
        self.soa = soas[0]

    @property
    def serial(self) -> int:
        """Of the SOA."""
        assert isinstance(self.soa.data, SOA)
        return self.soa.data.serial

    def lookup(self, qname: str, qtype: int) -> Lookup:
        """The answer; owners are spelled as in the question."""
        answers: list[Record] = []
        name = qname
        for _ in range(MAX_CHAIN):
            step = self._step(name, qtype)
            answers += step.answers
            last = step.answers[-1] if step.answers else None
            if last is None or qtype in {CNAME_, ANY_} or not isinstance(last.data, CNAME):
                return Lookup(
                    step.rcode,
                    tuple(answers),
                    step.authority,
                    step.additional,
                    authoritative=step.authoritative or bool(answers),
                )
            name = last.data.target
            if not is_subdomain(name.lower(), self.origin):
                return Lookup(0, tuple(answers), self._apex_ns(), chase=name)
        return Lookup(0, tuple(answers), self._apex_ns())

    def _step(self, qname: str, qtype: int) -> Lookup:
        """One name, without following its CNAME."""
        name = qname.lower()
        cut = self._cut(name)
        if cut is not None:
            servers = tuple(self._names[cut][NS_])
            return Lookup(0, (), servers, self._addresses(servers), authoritative=False)
        moved = self._moved(qname)
        if moved is not None:
            return moved
        types = self._names.get(name)
        if types is None:
            types = self._wildcard(name)
            if types is None:
                return Lookup(NXDOMAIN, (), (negative_soa(self.soa),))
        if qtype == ANY_:
            found = [each for records in types.values() for each in records]
        else:
            found = types.get(qtype) or types.get(CNAME_, [])
        if not found:
            return Lookup(0, (), (negative_soa(self.soa),))
        answers = tuple(Record(qname, each.type, each.ttl, each.data, each.rclass) for each in found)
        authority = () if qtype == NS_ and name == self.origin else self._apex_ns()
        return Lookup(0, answers, authority, self._addresses(answers))

    def _cut(self, name: str) -> str | None:
        """The highest delegation above or at a name."""
        labels = name.removesuffix(self.origin).split(".")
        below = self.origin
        for label in reversed([each for each in labels if each]):
            below = f"{label}." + ("" if below == "." else below)
            if NS_ in self._names.get(below, {}):
                return below
        return None

    def _moved(self, qname: str) -> Lookup | None:
        """What a DNAME above a name makes of it."""
        owner = qname
        while owner.lower() != self.origin:
            owner = owner.partition(".")[2] or "."
            found = self._names.get(owner.lower(), {}).get(DNAME_)
            if found and isinstance(found[0].data, Raw):
                target, _ = decode_name(found[0].data.data, 0)
                new = qname[: len(qname) - len(owner)] + ("" if target == "." else target)
                dname = Record(owner, DNAME_, found[0].ttl, found[0].data)
                if len(new) > MAX_NAME:
                    return Lookup(YXDOMAIN, (dname,), self._apex_ns())
                return Lookup(0, (dname, Record(qname, CNAME_, found[0].ttl, CNAME(new))), self._apex_ns())
        return None

    def _wildcard(self, name: str) -> dict[int, list[Record]] | None:
        """The records at `*` below the closest name that exists."""
        while name != self.origin:
            name = name.partition(".")[2] or "."
            if name in self._names:
                return self._names.get(f"*.{name}" if name != "." else "*.")
        return None

    def _apex_ns(self) -> tuple[Record, ...]:
        return tuple(self._names[self.origin].get(NS_, ()))

    def _addresses(self, records: Iterable[Record]) -> tuple[Record, ...]:
        """Addresses of the targets that are in the zone."""
        found: list[Record] = []
        for each in records:
            if isinstance(each.data, (NS, SRV)):
                types = self._names.get(each.data.target.lower(), {})
            elif isinstance(each.data, MX):
                types = self._names.get(each.data.exchange.lower(), {})
            else:
                continue
            found += [*types.get(A_, ()), *types.get(AAAA_, ())]
        return tuple(dict.fromkeys(found))
