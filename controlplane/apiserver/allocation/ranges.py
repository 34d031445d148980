"""What Services may be given: address ranges and node ports, each with a static and a dynamic band.

    10.96.0.0/16     10.96.0.1 ............ 10.96.1.0 | 10.96.1.1 ..................... 10.96.255.254
                     static: asked for by hand        | dynamic: drawn from here first
    30000-32767      30000 .................... 30085 | 30086 ............................... 32767

Rule: whoever asks for nothing in particular is served from the dynamic band while it lasts, so that a fixed number
from the lower band is seldom taken when somebody wants it. Which one of the free numbers is drawn is up to the caller's
`draw`: the same number should not come back at once, because a node may still remember connections to it.
Source: KEP-3070 (addresses), KEP-3668 (node ports).
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Container
from dataclasses import dataclass
from itertools import chain

DNS_OFFSET = 10
"""`kube-dns` stands at the tenth address by convention; it is given only to whom asks for it."""

Draw = Callable[[int], int]
"""A number from 0 up to, but not including, the argument (`random.randrange`)."""


@dataclass(frozen=True, slots=True)
class ServiceRanges:
    """What may be given out. `network` is the cluster's own range, `more` what ServiceCIDR objects add."""

    network: ipaddress.IPv4Network
    node_ports: tuple[int, int]
    more: tuple[ipaddress.IPv4Network, ...] = ()

    @property
    def reserved(self) -> str:
        """The address of `default/kubernetes`."""
        return str(self.network.network_address + 1)

    @property
    def networks(self) -> tuple[ipaddress.IPv4Network, ...]:
        """All ranges, the cluster's own first."""
        return (self.network, *self.more)

    def holds(self, address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
        """Whether a Service may have this address at all: a network's first and last are nobody's."""
        return any(address in network and int(address) in usable(network) for network in self.networks)

    def draw_address(self, taken: Container[int], draw: Draw) -> str:
        """A free address, or the empty string when there is none."""
        first = int(self.network.network_address)
        kept = {first + 1, first + DNS_OFFSET}
        for network in self.networks:
            whole = usable(network)
            offset = band_offset(network.num_addresses, 16, 256, 16)
            for band in (whole[offset:], whole[:offset]):
                found = draw_free(band, taken, kept, draw)
                if found is not None:
                    return str(ipaddress.IPv4Address(found))
        return ""

    def draw_node_port(self, taken: Container[int], draw: Draw) -> int | None:
        """A free node port, or None."""
        whole = range(self.node_ports[0], self.node_ports[1] + 1)
        offset = band_offset(len(whole), 16, 128, 32)
        for band in (whole[offset:], whole[:offset]):
            found = draw_free(band, taken, frozenset(), draw)
            if found is not None:
                return found
        return None


def usable(network: ipaddress.IPv4Network) -> range:
    """The addresses of a range that a Service may have, as numbers."""
    first = int(network.network_address)
    return range(first + 1, first + network.num_addresses - 1)


def band_offset(size: int, minimum: int, maximum: int, step: int) -> int:
    """How many numbers at the bottom are the static band: a part of the whole, within limits; none of a small range."""
    if size <= minimum:
        return 0
    return min(max(minimum, size // step), maximum)


def draw_free(band: range, taken: Container[int], kept: Container[int], draw: Draw) -> int | None:
    """A number of the band that is free: the drawn one, else the next one above it, around the end."""
    if not band:
        return None
    start = draw(len(band))
    free = (number for number in chain(band[start:], band[:start]) if number not in taken and number not in kept)
    return next(free, None)
