"""Which part of the cluster's pod network a node gets.

Pure. A node keeps what it has; a new one gets the lowest free subnet, so that a cluster that grows the same way gets the
same addresses. A node that holds a subnet outside the cluster's network, or one that another node held first, is
reported and left alone: pods may already live there.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from ipaddress import IPv4Network, IPv6Network

from podnet.controlplane.api.addresses import parse_network
from podnet.controlplane.api.types import Object

Network = IPv4Network | IPv6Network


def pod_cidr_of(node: Object) -> str:
    """spec.podCIDR, empty when there is none yet."""
    return str((node.get("spec") or {}).get("podCIDR") or "")


def used_subnets(nodes: Iterable[Object], reserved: Mapping[str, str]) -> set[Network]:
    """All subnets that nodes hold, and those promised (`reserved`: node name to CIDR) but not yet seen on a node."""
    texts = [cidr for node in nodes if (cidr := pod_cidr_of(node))]
    return {parse_network(text) for text in [*texts, *reserved.values()]}


def plan_subnet(cluster: Network, prefix_length: int, used: Iterable[Network]) -> Network | None:
    """The lowest subnet of that size that overlaps no used one; None when the cluster's network is exhausted."""
    taken = sorted(
        (network for network in used if network.version == cluster.version),
        key=lambda network: int(network.network_address),
    )
    size = 1 << (cluster.max_prefixlen - prefix_length)
    candidate = int(cluster.network_address)
    end = int(cluster.broadcast_address) + 1
    for network in taken:
        first, last = int(network.network_address), int(network.broadcast_address)
        if last < candidate:
            continue
        if first >= candidate + size:
            break
        # The next aligned start behind this one.
        candidate = (last // size + 1) * size
    if candidate + size > end:
        return None
    return IPv4Network((candidate, prefix_length)) if cluster.version == 4 else IPv6Network((candidate, prefix_length))
