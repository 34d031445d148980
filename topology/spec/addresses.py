"""Which underlay address a machine gets that names none: the same one for the same file, every time.

Pure. Nodes count up from .10 and hosts from .200, so that adding a node at the end of the list moves nobody; in a
network too small for that, both count up from the bottom. Addresses that are given are skipped.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address
from itertools import chain

from podnet.topology.spec.types import UnderlaySpec

_FIRST_NODE, _FIRST_HOST = 10, 200


@dataclass(frozen=True, slots=True)
class Assigned:
    """The addresses, in the order of the machines. `unset` where the network is full."""

    nodes: tuple[IPv4Address, ...]
    hosts: tuple[IPv4Address, ...]


def assign_addresses(
    underlay: UnderlaySpec, nodes: Sequence[IPv4Address], hosts: Sequence[IPv4Address], *, unset: IPv4Address
) -> Assigned:
    """Fill in the unset ones."""
    used = {underlay.gateway, *nodes, *hosts}
    found = []
    for wanted, first in ((nodes, _FIRST_NODE), (hosts, _FIRST_HOST)):
        free = _free(underlay, first, used)
        row = []
        for ip in wanted:
            chosen = next(free, unset) if ip == unset else ip
            used.add(chosen)
            row.append(chosen)
        found.append(tuple(row))
    return Assigned(found[0], found[1])


def next_node_address(underlay: UnderlaySpec, used: Collection[IPv4Address]) -> IPv4Address | None:
    """The address of a node that joins later; None where the network is full."""
    return next(_free(underlay, _FIRST_NODE, {underlay.gateway, *used}), None)


def _free(underlay: UnderlaySpec, first: int, used: set[IPv4Address]) -> Iterator[IPv4Address]:
    size = underlay.cidr.num_addresses
    start = first if size >= 256 else 2
    # From the start up, then what is left below; network and broadcast addresses are nobody's.
    for offset in chain(range(start, size - 1), range(1, min(start, size - 1))):
        ip = underlay.cidr[offset]
        if ip not in used:
            yield ip
