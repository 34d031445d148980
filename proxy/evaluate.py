"""What becomes of the first packet of a connection: the proxy's rules as a function.

This file decides; the kernel is not asked. It is the oracle to which the rulesets of both modes are held, and what
`podnet trace` predicts with.

    packet -> load-balancer firewall -> which service port -> endpoints, or reject/drop -> masqueraded?

Source: kube-proxy's packet-flow semantics; the differences between its modes (unknown ports of a cluster IP) are flags.
"""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network
from typing import Literal, TypeAlias

from podnet.proxy.model import Endpoint, Model, NodeFacts, ServicePort

Origin: TypeAlias = Literal["pod", "node", "external"]
Action: TypeAlias = Literal["dnat", "reject", "drop", "pass"]


@dataclass(frozen=True, slots=True)
class Packet:
    """The first packet of a connection, where it enters this node: from one of the cluster's pods, from the node's own
    sockets, or from anybody else."""

    src: IPv4Address
    dst: IPv4Address
    protocol: str
    dport: int
    origin: Origin


@dataclass(frozen=True, slots=True)
class Verdict:
    """What happens. With `dnat`, one of `endpoints` gets it; `masquerade`: whichever it is, under the node's address."""

    action: Action
    endpoints: tuple[Endpoint, ...] = ()
    masquerade: bool = False
    service: str = ""

    def is_masqueraded(self, packet: Packet, endpoint: Endpoint) -> bool:
        """Whether that endpoint sees the node's address: always when it is the sender itself (hairpin)."""
        return self.masquerade or packet.src == endpoint.ip


PASS = Verdict("pass")


def evaluate(model: Model, packet: Packet, mode: Literal["nftables", "iptables"] = "nftables") -> Verdict:
    """The verdict of this node on one packet."""
    for port in model.ports:
        if port.protocol != packet.protocol:
            continue
        if packet.dport == port.port and packet.dst == port.cluster_ip:
            return _internal(model, port, packet)
        if packet.dport == port.port and packet.dst in port.outside_ips:
            if packet.dst in port.load_balancer_ips and not _admitted(model, port, packet):
                return Verdict("drop", service=port.full_name)
            return _external(model, port, packet)
    for port in model.ports:
        if (packet.protocol, packet.dport) == (port.protocol, port.node_port) and packet.dst in model.node.ips:
            return _external(model, port, packet)
    if mode == "nftables":
        if any(packet.dst == port.cluster_ip for port in model.ports):
            return Verdict("reject")
        if model.node.service_cidr is not None and packet.dst in model.node.service_cidr:
            return Verdict("drop")
    return PASS


def allowed_sources(node: NodeFacts, port: ServicePort) -> tuple[IPv4Network, ...]:
    """Who may use the load balancer's addresses. A node inside the ranges may also speak from such an address itself,
    where a load balancer has put it on the node."""
    if not any(ip in network for ip in node.ips for network in port.source_ranges):
        return port.source_ranges
    return (*port.source_ranges, *(IPv4Network(ip) for ip in port.load_balancer_ips))


def _admitted(model: Model, port: ServicePort, packet: Packet) -> bool:
    return not port.source_ranges or any(packet.src in network for network in allowed_sources(model.node, port))


def _internal(model: Model, port: ServicePort, packet: Packet) -> Verdict:
    if not port.internal_endpoints:
        return Verdict("drop" if port.has_endpoints else "reject", service=port.full_name)
    masquerade = model.node.masquerade_all or packet.src not in model.node.pod_cidr
    return Verdict("dnat", port.internal_endpoints, masquerade, port.full_name)


def _external(model: Model, port: ServicePort, packet: Packet) -> Verdict:
    if not port.has_endpoints:
        return Verdict("reject", service=port.full_name)
    if not port.external_local:
        return Verdict("dnat", port.cluster_endpoints, masquerade=True, service=port.full_name)
    if packet.src in model.node.pod_cidr:
        return Verdict("dnat", port.cluster_endpoints, service=port.full_name)
    if packet.origin == "node":
        return Verdict("dnat", port.cluster_endpoints, masquerade=True, service=port.full_name)
    if not port.local_endpoints:
        return Verdict("drop", service=port.full_name)
    return Verdict("dnat", port.local_endpoints, service=port.full_name)
