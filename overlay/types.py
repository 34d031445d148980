"""What the overlay wants of one node's namespace, as a value: the part of a NetnsState that is the overlay's own.

Ownership is by name and place, so that pruning never touches another's work: everything on the overlay's own device, and
those routes into the pod network that leave by that device, or are static through a gateway on the underlay.
"""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Network

from podnet.topology.kernel import FdbEntry, IPAddress, IPInterface, Neighbour, Route


@dataclass(frozen=True, slots=True)
class VxlanDevice:
    """The VTEP: its device and how it must be made."""

    name: str
    vni: int
    local: IPAddress
    device: str
    port: int
    mac: str
    mtu: int
    address: IPInterface


@dataclass(frozen=True, slots=True)
class OverlayState:
    """Device, neighbours, forwarding entries and routes. `device` None: the mode has none."""

    device: VxlanDevice | None = None
    routes: frozenset[Route] = frozenset()
    neighbours: frozenset[Neighbour] = frozenset()
    fdb: frozenset[FdbEntry] = frozenset()


@dataclass(frozen=True, slots=True)
class Owned:
    """What is the overlay's to change: the VXLAN device of this name, and routes to parts of `pod_network` through a
    gateway on `underlay`."""

    vxlan: str
    underlay: str
    pod_network: IPv4Network
