"""ClusterSpec: what one cluster is made of, every default filled in, as immutable values.

This file only states values. `load` makes them from text, `render` makes text from them. Units are in the names;
addresses are `ipaddress` objects. Field names are Kubernetes' where it has them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network
from typing import Any, Literal, TypeAlias

API_VERSION = "podnet.dev/v1alpha1"
KIND = "Cluster"

Role: TypeAlias = Literal["control-plane", "worker"]
HostRole: TypeAlias = Literal["client", "internet"]
SwitchKind: TypeAlias = Literal["linux-bridge", "openflow"]
Profile: TypeAlias = Literal["lab", "upstream"]

ROLES: tuple[Role, ...] = ("control-plane", "worker")
HOST_ROLES: tuple[HostRole, ...] = ("client", "internet")
SWITCH_KINDS: tuple[SwitchKind, ...] = ("linux-bridge", "openflow")
PROFILES: tuple[Profile, ...] = ("lab", "upstream")
OVERLAY_MODES = ("vxlan",)
PROXY_MODES = ("nftables", "iptables", "none")
STORE_DRIVERS = ("sqlite", "memory", "etcd")
TAINT_EFFECTS = ("NoSchedule", "PreferNoSchedule", "NoExecute")

CONTROL_PLANE_LABEL = "node-role.kubernetes.io/control-plane"


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong with a cluster.yaml: where, and what. Line 0 = no single line."""

    path: str
    line: int
    message: str


class SpecError(Exception):
    """Everything that is wrong with a cluster.yaml, one line each: `cluster.yaml:7: spec.nodes[1].rol: unknown …`."""

    def __init__(self, source: str, problems: tuple[Problem, ...]) -> None:
        self.source = source
        self.problems = problems
        super().__init__("\n".join(self.lines()))

    def lines(self) -> list[str]:
        """The problems as text, in the order of the file."""
        return [_problem_line(self.source, p) for p in sorted(self.problems, key=lambda p: p.line)]


def _problem_line(source: str, problem: Problem) -> str:
    where = f"{source}:{problem.line}" if problem.line else source
    return ": ".join(part for part in (where, problem.path, problem.message) if part)


_POD_CIDR = IPv4Network("10.244.0.0/16")
_SERVICE_CIDR = IPv4Network("10.96.0.0/16")
_UNDERLAY_CIDR = IPv4Network("192.168.100.0/24")
_UNDERLAY_GATEWAY = IPv4Address("192.168.100.1")
_CLUSTER_DNS = IPv4Address("10.96.0.10")


@dataclass(frozen=True, slots=True)
class OverlaySpec:
    """How pods reach pods on other nodes."""

    mode: str = "vxlan"
    vni: int = 1
    port: int = 8472
    mtu: int = 1450


@dataclass(frozen=True, slots=True)
class ProxySpec:
    """How Services are programmed. `masquerade_all`: an endpoint sees the node in place of the pod that called a cluster
    IP, as KubeProxyConfiguration's masqueradeAll has it."""

    mode: str = "nftables"
    masquerade_all: bool = False


@dataclass(frozen=True, slots=True)
class DNSSpec:
    """The cluster's name server. `cluster_ip` is the tenth address of the Service range unless given. `node_names` adds
    `<node>.node.<cluster domain>`, which Kubernetes does not have."""

    enabled: bool = True
    cluster_ip: IPv4Address = _CLUSTER_DNS
    node_names: bool = False


@dataclass(frozen=True, slots=True)
class StoreSpec:
    """Where the API server keeps objects. `etcd`: the real one, with a member on each control-plane node."""

    driver: str = "sqlite"


@dataclass(frozen=True, slots=True)
class UnderlaySpec:
    """The network the nodes stand in. `gateway` is every node's default route; nothing is behind it."""

    cidr: IPv4Network = _UNDERLAY_CIDR
    gateway: IPv4Address = _UNDERLAY_GATEWAY
    mtu: int = 1500


@dataclass(frozen=True, slots=True)
class TimingSpec:
    """Node life-cycle times. `upstream` has Kubernetes' defaults; `lab` has seconds, so that a cut link shows soon."""

    profile: Profile = "lab"
    node_monitor_period_s: float = 1.0
    node_monitor_grace_period_s: float = 8.0
    node_status_update_frequency_s: float = 2.0
    node_lease_duration_s: int = 8
    default_toleration_s: int = 10


TIMING_PROFILES: Mapping[str, TimingSpec] = {
    "lab": TimingSpec(),
    "upstream": TimingSpec("upstream", 5.0, 50.0, 10.0, 40, 300),
}


@dataclass(frozen=True, slots=True)
class Taint:
    """A taint, as in a Node's spec."""

    key: str
    effect: str
    value: str = ""

    def to_dict(self) -> dict[str, str]:
        """Its JSON."""
        value = {"value": self.value} if self.value else {}
        return {"key": self.key, **value, "effect": self.effect}


@dataclass(frozen=True, slots=True)
class NodeSpec:
    """One node of the cluster."""

    name: str
    role: Role
    ip: IPv4Address
    switch: str
    labels: Mapping[str, str] = field(default_factory=dict)
    taints: tuple[Taint, ...] = ()


@dataclass(frozen=True, slots=True)
class HostRoute:
    """A route of an outside host: `to` through `via`."""

    to: IPv4Network
    via: IPv4Address


@dataclass(frozen=True, slots=True)
class HostSpec:
    """A machine outside the cluster. A `client` runs nothing; the `internet` serves names and a web page, and is the
    name server in every node's resolv.conf."""

    name: str
    ip: IPv4Address
    switch: str
    routes: tuple[HostRoute, ...] = ()
    role: HostRole = "client"


@dataclass(frozen=True, slots=True)
class SwitchSpec:
    """A switch of the underlay."""

    name: str
    kind: SwitchKind = "linux-bridge"


@dataclass(frozen=True, slots=True)
class LinkSpec:
    """A cable. One end at least is a switch; 0 means unlimited, none, none."""

    a: str
    b: str
    rate_bit_s: int = 0
    delay_ms: float = 0.0
    loss_percent: float = 0.0

    def joins(self, a: str, b: str) -> bool:
        """Whether it is the cable between these two, in either order."""
        return {self.a, self.b} == {a, b}


@dataclass(frozen=True, slots=True)
class ClusterSpec:
    """A whole cluster. Every node and host has exactly one link in `links`, to its switch."""

    name: str
    nodes: tuple[NodeSpec, ...]
    hosts: tuple[HostSpec, ...]
    switches: tuple[SwitchSpec, ...]
    links: tuple[LinkSpec, ...]
    pod_cidr: IPv4Network = _POD_CIDR
    service_cidr: IPv4Network = _SERVICE_CIDR
    node_cidr_mask_size: int = 24
    cluster_domain: str = "cluster.local"
    underlay: UnderlaySpec = field(default_factory=UnderlaySpec)
    overlay: OverlaySpec = field(default_factory=OverlaySpec)
    proxy: ProxySpec = field(default_factory=ProxySpec)
    dns: DNSSpec = field(default_factory=DNSSpec)
    store: StoreSpec = field(default_factory=StoreSpec)
    timing: TimingSpec = field(default_factory=TimingSpec)

    def node(self, name: str) -> NodeSpec | None:
        """The node of this name, or None."""
        return next((node for node in self.nodes if node.name == name), None)

    @property
    def control_plane(self) -> NodeSpec:
        """The node where the control plane runs: the first with that role."""
        return self.control_planes[0]

    @property
    def control_planes(self) -> tuple[NodeSpec, ...]:
        """Every node with that role. More than one only for etcd, which has a member on each."""
        return tuple(node for node in self.nodes if node.role == "control-plane")

    @property
    def internet(self) -> HostSpec | None:
        """The host that plays the outside world, or None."""
        return next((host for host in self.hosts if host.role == "internet"), None)

    def link(self, a: str, b: str) -> LinkSpec | None:
        """The cable between these two, in either order."""
        return next((link for link in self.links if link.joins(a, b)), None)

    def to_dict(self) -> dict[str, Any]:
        """The cluster.yaml that says all of this, as a dict."""
        from podnet.topology.spec.render import cluster_dict  # it needs these types

        return cluster_dict(self)

    def to_yaml(self) -> str:
        """The cluster.yaml that says all of this; loading it gives an equal spec."""
        from podnet.topology.spec.render import cluster_yaml  # it needs these types

        return cluster_yaml(self)
