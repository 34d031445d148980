"""The vxlan mode: every node has one VTEP, and for each peer exactly three entries.

This file decides; `diff` and the agent apply.

    pod 10.244.1.5 -> 10.244.2.7
      route       10.244.2.0/24 via 10.244.2.0 dev flannel.1 onlink      which VTEP
      neighbour   10.244.2.0 lladdr 8e:1f:...                            its MAC, so nobody asks by ARP
      fdb         8e:1f:... dst 192.168.100.12                           the node it lives on
      outer       192.168.100.11 -> 192.168.100.12, UDP 8472, VNI 1

History, as flannel lived it: at first the kernel asked a daemon for every unknown destination (L2MISS, L3MISS), so a
daemon that was down cut new connections; then one route per node plus entries learnt on demand; in the end all three are
put in place when a node appears, with learning off, and the data path needs nobody. Table growth is three entries a node,
whatever the number of pods. The address of the VTEP is the subnet's base, /32: it must make no route by itself.

Sources: RFC 7348; flannel's vxlan backend (design); ip-link(8), bridge(8).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Interface, IPv4Network

from podnet.overlay.lease import Lease
from podnet.overlay.types import OverlayState, VxlanDevice
from podnet.topology.kernel import FdbEntry, Neighbour, Route

OVERHEAD = 50  # outer IPv4 20, UDP 8, VXLAN 8, inner Ethernet 14


@dataclass(frozen=True, slots=True)
class VxlanParams:
    """How this cluster's VTEPs are made. `direct_network`: peers in it are routed to without encapsulation."""

    vni: int = 1
    port: int = 8472
    mtu: int = 1450
    device: str = "eth0"
    direct_network: IPv4Network | None = None


def device_name(vni: int) -> str:
    """`flannel.1`."""
    return f"flannel.{vni}"


def vtep_address(pod_cidr: IPv4Network) -> IPv4Interface:
    """The VTEP's address: the base of the node's subnet, and nothing around it."""
    return IPv4Interface((pod_cidr.network_address, 32))


def desired_vxlan(own: Lease, peers: Iterable[Lease], params: VxlanParams) -> OverlayState:
    """The VTEP of this node and its entries for every peer that speaks the same VNI."""
    name = device_name(params.vni)
    device = VxlanDevice(
        name=name,
        vni=params.vni,
        local=own.public_ip,
        device=params.device,
        port=params.port,
        mac=own.vtep_mac,
        mtu=params.mtu,
        address=vtep_address(own.pod_cidr),
    )
    routes, neighbours, fdb = set(), set(), set()
    for peer in peers:
        if peer.node == own.node or peer.backend != "vxlan" or peer.vni != params.vni:
            continue
        if params.direct_network is not None and _both_in(params.direct_network, own.public_ip, peer.public_ip):
            routes.add(Route(peer.pod_cidr, params.device, gateway=peer.public_ip))
            continue
        vtep = peer.pod_cidr.network_address
        routes.add(Route(peer.pod_cidr, name, gateway=vtep, onlink=True))
        neighbours.add(Neighbour(name, vtep, peer.vtep_mac))
        fdb.add(FdbEntry(name, peer.vtep_mac, peer.public_ip))
    return OverlayState(device, frozenset(routes), frozenset(neighbours), frozenset(fdb))


def _both_in(network: IPv4Network, *addresses: IPv4Address) -> bool:
    return all(address in network for address in addresses)
