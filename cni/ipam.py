"""Which address a pod gets: round robin over ranges, as host-local hands them out.

This file decides; `store` remembers. The search starts after the address reserved last and wraps around, so an address
rests as long as possible before its next use: a peer's ARP entry or a connection of its last owner has time to die.
With the set of taken addresses at hand a reservation looks at one candidate, not at every lease:

    10.244.1.0/24   .0 network   .1 gateway   .2 ... .57 | .58 next ... .254   .255 broadcast
                                              last reserved ^

One address is given per range set; a set may have several ranges of one family. Source: CNI SPEC section 4 (delegated
IPAM); field names and defaults of the reference host-local plugin.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from podnet.cni.types import POOL_EXHAUSTED, CNIError, expect, parse_address, parse_network, refuse
from podnet.topology.kernel import IPAddress, IPInterface, IPNetwork

_FIELDS = ("subnet", "rangeStart", "rangeEnd", "gateway")


@dataclass(frozen=True, slots=True)
class Range:
    """Addresses `start` to `end` (inclusive) of a subnet; the gateway is never given away."""

    subnet: IPNetwork
    start: IPAddress
    end: IPAddress
    gateway: IPAddress

    def __str__(self) -> str:
        return f"{self.start}-{self.end}"

    def __contains__(self, address: object) -> bool:
        return (
            isinstance(address, type(self.start))
            and int(self.start) <= int(address) <= int(self.end)
            and address != self.gateway
        )

    @property
    def size(self) -> int:
        """How many addresses it can give."""
        inside = int(self.start) <= int(self.gateway) <= int(self.end)
        return int(self.end) - int(self.start) + 1 - int(inside)

    def overlaps(self, other: Range) -> bool:
        """Whether some address is in both."""
        same = self.subnet.version == other.subnet.version
        return same and int(self.start) <= int(other.end) and int(other.start) <= int(self.end)


RangeSet: TypeAlias = tuple[Range, ...]


@dataclass(frozen=True, slots=True)
class Allocation:
    """One address given, with the prefix length and gateway of its subnet."""

    address: IPInterface
    gateway: IPAddress


def parse_range(body: Any, path: str) -> Range:
    """Read one range and fill in what it leaves out: start .1, end before broadcast, gateway .1."""
    obj = expect(body, dict, path)
    for key in obj:
        if key not in _FIELDS:
            refuse(f"{path}.{key}", "unknown field")
    subnet = parse_network(obj.get("subnet"), f"{path}.subnet")
    if subnet.num_addresses < 4:
        refuse(f"{path}.subnet", f"{subnet} is too small to allocate from")
    first = subnet.network_address + 1
    last = subnet.broadcast_address - (1 if subnet.version == 4 else 0)
    start = parse_address(obj["rangeStart"], f"{path}.rangeStart") if "rangeStart" in obj else first
    end = parse_address(obj["rangeEnd"], f"{path}.rangeEnd") if "rangeEnd" in obj else last
    gateway = parse_address(obj["gateway"], f"{path}.gateway") if "gateway" in obj else first
    for key, address in (("rangeStart", start), ("rangeEnd", end)):
        if address not in subnet or not int(first) <= int(address) <= int(last):
            refuse(f"{path}.{key}", f"{address} is not a usable address of {subnet}")
    if int(start) > int(end):
        refuse(f"{path}.rangeStart", f"{start} is after rangeEnd {end}")
    return Range(subnet, start, end, gateway)


def allocate(
    range_set: RangeSet, taken: Collection[IPAddress], last: IPAddress | None, requested: IPAddress | None = None
) -> Allocation:
    """The requested address, or the next free one after `last`. CNIError 100 when there is none."""
    if requested is not None:
        owner = next((item for item in range_set if requested in item), None)
        if owner is None:
            text = ",".join(str(item) for item in range_set)
            raise CNIError(POOL_EXHAUSTED, f"requested IP address {requested} is not available in range set {text}")
        if requested in taken:
            raise CNIError(POOL_EXHAUSTED, f"requested IP address {requested} is already allocated")
        return _allocation(owner, requested)
    for item, address in candidates(range_set, last):
        if address not in taken:
            return _allocation(item, address)
    raise CNIError(POOL_EXHAUSTED, f"no IP addresses available in range set: {','.join(str(r) for r in range_set)}")


def _allocation(item: Range, address: IPAddress) -> Allocation:
    return Allocation(ipaddress.ip_interface(f"{address}/{item.subnet.prefixlen}"), item.gateway)


def candidates(range_set: RangeSet, last: IPAddress | None) -> Iterator[tuple[Range, IPAddress]]:
    """Every address of the set once, beginning after `last`. An address outside the set (the configuration has
    changed) begins at the start."""
    position = next(
        (i for i, item in enumerate(range_set) if last is not None and (last in item or last == item.gateway)), None
    )
    if position is None or last is None:
        for item in range_set:
            yield from _addresses(item, int(item.start), int(item.end))
        return
    here = range_set[position]
    yield from _addresses(here, int(last) + 1, int(here.end))
    for item in (*range_set[position + 1 :], *range_set[:position]):
        yield from _addresses(item, int(item.start), int(item.end))
    yield from _addresses(here, int(here.start), int(last))


def _addresses(item: Range, first: int, last: int) -> Iterator[tuple[Range, IPAddress]]:
    kind = type(item.start)
    for number in range(first, last + 1):
        address = kind(number)
        if address != item.gateway:
            yield item, address


def assign_requested(range_sets: Sequence[RangeSet], requested: Sequence[IPAddress]) -> tuple[IPAddress | None, ...]:
    """Which requested address belongs to which range set. Every one must find a set of its own."""
    left = list(requested)
    chosen: list[IPAddress | None] = []
    for range_set in range_sets:
        match = next((ip for ip in left if any(ip in item for item in range_set)), None)
        if match is not None:
            left.remove(match)
        chosen.append(match)
    if left:
        text = ", ".join(str(ip) for ip in left)
        raise CNIError(POOL_EXHAUSTED, f"failed to allocate all requested IPs: {text} in no range set of its own")
    return tuple(chosen)


def free_addresses(range_set: RangeSet, taken: Collection[IPAddress]) -> int:
    """How many addresses the set can still give."""
    return sum(item.size for item in range_set) - sum(1 for ip in taken if any(ip in item for item in range_set))
