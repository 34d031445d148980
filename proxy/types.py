"""What kube-proxy makes of Services and EndpointSlices: frozen values, nothing else.

The model is independent of the mode: renderers (`nftables`, `iptables`) and `evaluate` read the same one.
"""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network
from typing import Literal, NamedTuple

Protocol = Literal["tcp", "udp", "sctp"]


class ServicePortName(NamedTuple):
    """One port of one Service: what chains and comments are named after."""

    namespace: str
    service: str
    port: str
    protocol: Protocol

    def __str__(self) -> str:
        return f"{self.namespace}/{self.service}" + (f":{self.port}" if self.port else "")


class Socket(NamedTuple):
    """An address and a port."""

    ip: IPv4Address
    port: int

    def __str__(self) -> str:
        return f"{self.ip}:{self.port}"


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One endpoint of one Service port. `name` is its pod's (for comments), `is_local`: it runs on this node.

    `may_be_local` is also true where nobody said on which node it runs (hand-made slices).
    """

    ip: IPv4Address
    port: int
    name: str = ""
    is_local: bool = False
    may_be_local: bool = False
    ready: bool = True
    serving: bool = True
    terminating: bool = False
    node_hints: frozenset[str] = frozenset()
    zone_hints: frozenset[str] = frozenset()

    @property
    def socket(self) -> Socket:
        """Where packets go."""
        return Socket(self.ip, self.port)


@dataclass(frozen=True, slots=True)
class ServicePort:
    """Everything a node's rules need to know of one port of one Service.

    `cluster_endpoints` are the usable ones anywhere (after hints), `local_endpoints` the usable ones on this node; the
    fallback from ready to serving-and-terminating was decided for each set by itself. `affinity_s` 0: none.
    """

    name: ServicePortName
    cluster_ip: IPv4Address
    port: int
    node_port: int = 0
    external_ips: tuple[IPv4Address, ...] = ()
    load_balancer_ips: tuple[IPv4Address, ...] = ()
    source_ranges: tuple[IPv4Network, ...] = ()
    affinity_s: int = 0
    internal_local: bool = False
    external_local: bool = False
    health_check_node_port: int = 0
    cluster_endpoints: tuple[Endpoint, ...] = ()
    local_endpoints: tuple[Endpoint, ...] = ()
    local_ready: int = 0

    @property
    def protocol(self) -> Protocol:
        """The transport."""
        return self.name.protocol

    @property
    def has_endpoints(self) -> bool:
        """Whether anybody could be reached at all, from anywhere."""
        return bool(self.cluster_endpoints or (self.uses_local and self.local_endpoints))

    @property
    def uses_local(self) -> bool:
        """Whether one of the two policies is Local."""
        return self.internal_local or self.external_local

    @property
    def internal_endpoints(self) -> tuple[Endpoint, ...]:
        """Who answers on the cluster IP."""
        return self.local_endpoints if self.internal_local else self.cluster_endpoints

    @property
    def external_endpoints(self) -> tuple[Endpoint, ...]:
        """Who answers what came from outside to a node port, external IP or load balancer IP."""
        return self.local_endpoints if self.external_local else self.cluster_endpoints

    @property
    def reachable_endpoints(self) -> tuple[Endpoint, ...]:
        """Both sets, each endpoint once."""
        if not self.uses_local:
            return self.cluster_endpoints
        extra = {endpoint.socket for endpoint in self.cluster_endpoints}
        return self.cluster_endpoints + tuple(e for e in self.local_endpoints if e.socket not in extra)

    @property
    def outside_ips(self) -> tuple[IPv4Address, ...]:
        """External and load balancer IPs, each once."""
        return tuple(dict.fromkeys((*self.external_ips, *self.load_balancer_ips)))


@dataclass(frozen=True, slots=True)
class NodeFacts:
    """What of the node itself enters the rules. `service_cidrs` empty: not known, then unallocated IPs are left alone."""

    name: str
    ip: IPv4Address
    zone: str = ""
    pod_cidr: IPv4Network | None = None
    service_cidrs: tuple[IPv4Network, ...] = ()
    node_port_addresses: tuple[IPv4Address, ...] = ()
    masquerade_all: bool = False

    @property
    def node_port_ips(self) -> tuple[IPv4Address, ...]:
        """Where node ports listen: the node's primary address unless said otherwise, and never localhost."""
        return self.node_port_addresses or (self.ip,)
