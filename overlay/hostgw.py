"""The host-gw mode: no tunnel, one plain route per peer through its node address.

This file decides. It needs every node on one link, since a gateway must be a neighbour; in exchange no byte is added and
the MTU stays the underlay's. Source: flannel's host-gw backend and kindnet (design).
"""

from __future__ import annotations

from collections.abc import Iterable

from podnet.overlay.lease import Lease
from podnet.overlay.types import OverlayState
from podnet.topology.kernel import Route


def desired_hostgw(own: Lease, peers: Iterable[Lease], device: str) -> OverlayState:
    """One route per peer."""
    routes = frozenset(
        Route(peer.pod_cidr, device, gateway=peer.public_ip)
        for peer in peers
        if peer.node != own.node and peer.backend == "host-gw"
    )
    return OverlayState(routes=routes)
