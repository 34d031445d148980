"""Leases: which subnet a node has, and where its VTEP is, as flannel keeps them in the Node object.

This file decides; it talks to nobody. A node's subnet is `spec.podCIDR`; everything else its own agent publishes in
annotations, and peers believe only those:

    flannel.alpha.coreos.com/backend-type           vxlan | host-gw
    flannel.alpha.coreos.com/backend-data           {"VNI": 1, "VtepMAC": "8e:1f:..."}
    flannel.alpha.coreos.com/public-ip              192.168.100.11
    flannel.alpha.coreos.com/kube-subnet-manager    true

A node whose annotations are missing or broken has no lease: it is left out until they are right, and breaks nobody.
"""

from __future__ import annotations

import ipaddress
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network
from typing import Any

PREFIX = "flannel.alpha.coreos.com/"
BACKEND_TYPE = PREFIX + "backend-type"
BACKEND_DATA = PREFIX + "backend-data"
PUBLIC_IP = PREFIX + "public-ip"
PUBLIC_IP_OVERWRITE = PREFIX + "public-ip-overwrite"
SUBNET_MANAGER = PREFIX + "kube-subnet-manager"

_MAC = re.compile(r"^([0-9a-f]{2}:){5}[0-9a-f]{2}$")
_MULTICAST_BIT = 1


@dataclass(frozen=True, slots=True)
class Lease:
    """One node's part of the overlay. `vtep_mac` is empty where the mode has no VTEP."""

    node: str
    pod_cidr: IPv4Network
    public_ip: IPv4Address
    vtep_mac: str = ""
    vni: int = 0
    backend: str = "vxlan"


def valid_mac(mac: object) -> bool:
    """Whether it is the MAC of one station, in the kernel's spelling."""
    return isinstance(mac, str) and bool(_MAC.match(mac)) and not int(mac[:2], 16) & _MULTICAST_BIT


def parse_backend_data(annotations: Mapping[str, str]) -> tuple[int, str]:
    """(VNI, VTEP MAC) of the backend-data annotation; (0, "") where it is missing or broken."""
    try:
        data = json.loads(annotations.get(BACKEND_DATA) or "{}")
        vni, mac = data.get("VNI", 0), str(data.get("VtepMAC", "")).lower()
    except (ValueError, AttributeError):
        return 0, ""
    if not isinstance(vni, int) or isinstance(vni, bool):
        return 0, ""
    return vni, mac if valid_mac(mac) else ""


def node_pod_cidr(node: Mapping[str, Any]) -> IPv4Network | None:
    """The node's IPv4 subnet, once the controller manager has given it one."""
    spec = node.get("spec") or {}
    for text in (spec.get("podCIDR"), *(spec.get("podCIDRs") or ())):
        try:
            return IPv4Network(text)
        except (ValueError, TypeError):
            continue
    return None


def node_annotations(node: Mapping[str, Any]) -> Mapping[str, str]:
    """metadata.annotations, empty where there are none."""
    return (node.get("metadata") or {}).get("annotations") or {}


def parse_lease(node: Mapping[str, Any]) -> Lease | None:
    """The lease a Node object stands for, or None."""
    annotations, pod_cidr = node_annotations(node), node_pod_cidr(node)
    backend = annotations.get(BACKEND_TYPE, "")
    try:
        public_ip = IPv4Address(annotations.get(PUBLIC_IP_OVERWRITE) or annotations.get(PUBLIC_IP, ""))
    except ValueError:
        return None
    # One entry that the kernel refuses would hold up those of every other node.
    if public_ip.is_multicast or public_ip.is_unspecified or public_ip.is_loopback or public_ip.is_reserved:
        return None
    vni, mac = parse_backend_data(annotations)
    if pod_cidr is None or not backend or (backend == "vxlan" and not (vni and mac)):
        return None
    return Lease(node["metadata"]["name"], pod_cidr, public_ip, mac, vni, backend)


def parse_leases(nodes: Iterable[Mapping[str, Any]], pod_network: IPv4Network | None = None) -> tuple[Lease, ...]:
    """All leases inside the pod network, by node name. Where two nodes claim overlapping subnets, or one VTEP MAC, the
    older node keeps it: everybody decides alike, no entry flaps, and a newcomer takes nothing away."""
    leases: list[Lease] = []
    for node in sorted(nodes, key=_seniority):
        lease = parse_lease(node)
        if lease is None or (pod_network is not None and not lease.pod_cidr.subnet_of(pod_network)):
            continue
        rivals = (
            other.pod_cidr.overlaps(lease.pod_cidr) or (lease.vtep_mac and other.vtep_mac == lease.vtep_mac)
            for other in leases
        )
        if not any(rivals):
            leases.append(lease)
    return tuple(sorted(leases, key=lambda lease: lease.node))


def _seniority(node: Mapping[str, Any]) -> tuple[str, str]:
    metadata = node["metadata"]
    return str(metadata.get("creationTimestamp") or ""), str(metadata["name"])


def render_annotations(lease: Lease) -> dict[str, str]:
    """What a node's agent publishes about itself."""
    data = {"VNI": lease.vni, "VtepMAC": lease.vtep_mac} if lease.backend == "vxlan" else None
    return {
        BACKEND_TYPE: lease.backend,
        BACKEND_DATA: json.dumps(data, separators=(",", ":")),
        PUBLIC_IP: str(lease.public_ip),
        SUBNET_MANAGER: "true",
    }


def annotation_patch(node: Mapping[str, Any], lease: Lease) -> dict[str, Any] | None:
    """The merge patch that makes the node's annotations say this; None when they do."""
    present = node_annotations(node)
    changed = {key: value for key, value in render_annotations(lease).items() if present.get(key) != value}
    return {"metadata": {"annotations": changed}} if changed else None


def gateway_of(pod_cidr: IPv4Network) -> ipaddress.IPv4Interface:
    """The address of the node's bridge: the first of its subnet, with the prefix length."""
    return ipaddress.IPv4Interface((pod_cidr.network_address + 1, pod_cidr.prefixlen))


def render_subnet_env(network: IPv4Network, pod_cidr: IPv4Network, mtu: int, *, masquerade: bool) -> str:
    """subnet.env as flannel writes it for its CNI plugin."""
    return (
        f"FLANNEL_NETWORK={network}\n"
        f"FLANNEL_SUBNET={gateway_of(pod_cidr)}\n"
        f"FLANNEL_MTU={mtu}\n"
        f"FLANNEL_IPMASQ={'true' if masquerade else 'false'}\n"
    )
