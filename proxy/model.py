"""Services and EndpointSlices as one node sees them: what the proxy is to do, before any rule of any mode.

This file decides; it never touches the kernel. `compile_model` is the only reader of API objects in this room, and all
backends, the evaluator and the health checks work from its result.

    Services + EndpointSlices + node  ->  Model(service ports, each with its Cluster and its Local endpoints)

An endpoint is usable when it is ready; where a set has none that is, those serving although terminating are (KEP-1669).
The sets for the Cluster and the Local policy decide that for themselves. Source: kube-proxy's semantics, KEP-2086 (internal
policy), KEP-2433, KEP-4444 (hints).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network
from typing import Any

from podnet.controlplane.api.addresses import parse_ip, parse_network

LABEL_SERVICE_NAME = "kubernetes.io/service-name"
LABEL_ZONE = "topology.kubernetes.io/zone"
IGNORE_LABELS = ("service.kubernetes.io/service-proxy-name", "service.kubernetes.io/headless")
DEFAULT_AFFINITY_TIMEOUT_S = 10800
PROTOCOLS = ("TCP", "UDP", "SCTP")


@dataclass(frozen=True, slots=True, order=True)
class Endpoint:
    """One address and port behind a service port."""

    ip: IPv4Address
    port: int
    is_local: bool = False

    def __str__(self) -> str:
        return f"{self.ip}:{self.port}"


@dataclass(frozen=True, slots=True)
class ServicePort:
    """One port of one Service. `affinity_timeout_s` 0: no session affinity. `serving`: every endpoint to which a
    connection may be alive. `has_endpoints`: some node has a usable one."""

    namespace: str
    name: str
    port_name: str
    protocol: str
    cluster_ip: IPv4Address
    port: int
    node_port: int = 0
    external_ips: tuple[IPv4Address, ...] = ()
    load_balancer_ips: tuple[IPv4Address, ...] = ()
    source_ranges: tuple[IPv4Network, ...] = ()
    affinity_timeout_s: int = 0
    internal_local: bool = False
    external_local: bool = False
    cluster_endpoints: tuple[Endpoint, ...] = ()
    local_endpoints: tuple[Endpoint, ...] = ()
    serving: tuple[Endpoint, ...] = ()
    has_endpoints: bool = False

    @property
    def full_name(self) -> str:
        """`namespace/name:port_name`, as kube-proxy writes a ServicePortName."""
        return f"{self.namespace}/{self.name}" + (f":{self.port_name}" if self.port_name else "")

    @property
    def internal_endpoints(self) -> tuple[Endpoint, ...]:
        """Behind the cluster IP."""
        return self.local_endpoints if self.internal_local else self.cluster_endpoints

    @property
    def outside_ips(self) -> tuple[IPv4Address, ...]:
        """External and load-balancer addresses."""
        return tuple(dict.fromkeys((*self.external_ips, *self.load_balancer_ips)))

    @property
    def has_outside(self) -> bool:
        """Whether anything but the cluster IP leads here."""
        return bool(self.node_port or self.external_ips or self.load_balancer_ips)


@dataclass(frozen=True, slots=True)
class HealthCheck:
    """A healthCheckNodePort and what it answers."""

    namespace: str
    name: str
    port: int
    local_endpoints: int


@dataclass(frozen=True, slots=True)
class NodeFacts:
    """What the proxy knows of its node and cluster. `service_cidr` None: not known. `masquerade_all`: whoever calls a
    cluster IP is masqueraded, pods too (kube-proxy's masqueradeAll, which leaves the addresses from outside alone)."""

    name: str
    ips: tuple[IPv4Address, ...]
    pod_cidr: IPv4Network
    service_cidr: IPv4Network | None = None
    zone: str = ""
    masquerade_all: bool = False


@dataclass(frozen=True, slots=True)
class Model:
    """Everything one sync needs, in a stable order."""

    node: NodeFacts
    ports: tuple[ServicePort, ...] = ()
    health_checks: tuple[HealthCheck, ...] = ()


@dataclass(frozen=True, slots=True)
class _Candidate:
    """An endpoint with its conditions, before the choice."""

    endpoint: Endpoint
    ready: bool
    serving: bool
    terminating: bool
    zones: frozenset[str]
    nodes: frozenset[str]

    @property
    def is_fallback(self) -> bool:
        return self.serving and self.terminating


_PortKey = tuple[str, str, str, str]


def compile_model(node: NodeFacts, services: Iterable[Mapping[str, Any]], slices: Iterable[Mapping[str, Any]]) -> Model:
    """The model of one node. Objects that make no sense here are left out and hurt nobody else."""
    candidates = _candidates(node, slices)
    ports: list[ServicePort] = []
    checks: list[HealthCheck] = []
    for service in services:
        found = _service_ports(node, service, candidates)
        ports += found
        spec = service.get("spec") or {}
        check_port = int(spec.get("healthCheckNodePort") or 0)
        if found and check_port and spec.get("externalTrafficPolicy") == "Local":
            count = max(_ready_local(candidates.get(_port_key(port), ())) for port in found)
            checks.append(HealthCheck(found[0].namespace, found[0].name, check_port, count))
    return _sorted_model(node, ports, checks)


def merge_models(node: NodeFacts, models: Iterable[Model]) -> Model:
    """One model of many, of one Service each, in the order of their namespaces and names: equal to that of all Services
    at once. Nothing is sorted here, since this is done for every change."""
    ports: list[ServicePort] = []
    checks: list[HealthCheck] = []
    for model in models:
        ports += model.ports
        checks += model.health_checks
    return Model(node, tuple(ports), tuple(checks))


def _sorted_model(node: NodeFacts, ports: list[ServicePort], checks: list[HealthCheck]) -> Model:
    ports.sort(key=lambda port: (port.namespace, port.name, port.port, port.protocol, port.port_name))
    checks.sort(key=lambda check: (check.namespace, check.name))
    return Model(node, tuple(ports), tuple(checks))


def is_handled(service: Mapping[str, Any]) -> bool:
    """Whether this proxy has anything to do with a Service: not headless, not ExternalName, not another proxy's."""
    spec = service.get("spec") or {}
    labels = (service.get("metadata") or {}).get("labels") or {}
    if any(label in labels for label in IGNORE_LABELS) or spec.get("type") == "ExternalName":
        return False
    return _ipv4(spec.get("clusterIP")) is not None


def _service_ports(
    node: NodeFacts, service: Mapping[str, Any], candidates: Mapping[_PortKey, Sequence[_Candidate]]
) -> list[ServicePort]:
    if not is_handled(service):
        return []
    spec, meta = service["spec"], service["metadata"]
    cluster_ip = _ipv4(spec["clusterIP"])
    assert cluster_ip is not None
    kind = spec.get("type") or "ClusterIP"
    load_balancer_ips = _load_balancer_ips(service) if kind == "LoadBalancer" else ()
    timeout_s = 0
    if spec.get("sessionAffinity") == "ClientIP":
        client_ip = (spec.get("sessionAffinityConfig") or {}).get("clientIP") or {}
        timeout_s = int(client_ip.get("timeoutSeconds") or DEFAULT_AFFINITY_TIMEOUT_S)
    ports = []
    for entry in spec.get("ports") or ():
        protocol = entry.get("protocol") or "TCP"
        if protocol not in PROTOCOLS:
            continue
        key = (meta["namespace"], meta["name"], entry.get("name") or "", protocol)
        behind = candidates.get(key, ())
        ports.append(
            ServicePort(
                *key,
                cluster_ip=cluster_ip,
                port=int(entry["port"]),
                node_port=int(entry.get("nodePort") or 0) if kind in ("NodePort", "LoadBalancer") else 0,
                external_ips=_ipv4s(spec.get("externalIPs") or ()),
                load_balancer_ips=load_balancer_ips,
                source_ranges=_networks(spec.get("loadBalancerSourceRanges") or ()) if load_balancer_ips else (),
                affinity_timeout_s=timeout_s,
                internal_local=spec.get("internalTrafficPolicy") == "Local",
                external_local=spec.get("externalTrafficPolicy") == "Local",
                cluster_endpoints=_usable(_hinted(node, behind), behind),
                local_endpoints=_usable([c for c in behind if c.endpoint.is_local and c.ready],
                                        [c for c in behind if c.endpoint.is_local]),
                serving=tuple(sorted(c.endpoint for c in behind if c.serving or c.ready)),
                has_endpoints=any(c.ready or c.is_fallback for c in behind),
            )
        )  # fmt: skip
    return ports


def _usable(chosen: Sequence[_Candidate], fallback: Sequence[_Candidate]) -> tuple[Endpoint, ...]:
    usable = chosen or [candidate for candidate in fallback if candidate.is_fallback]
    return tuple(sorted(candidate.endpoint for candidate in usable))


def _hinted(node: NodeFacts, candidates: Sequence[_Candidate]) -> list[_Candidate]:
    """The ready ones, narrowed by hints: node hints first, then zone hints, and only hints that every ready endpoint
    has and that leave one."""
    ready = [candidate for candidate in candidates if candidate.ready]
    for here, hints in ((node.name, [c.nodes for c in ready]), (node.zone, [c.zones for c in ready])):
        if here and all(hints):
            near = [candidate for candidate, hint in zip(ready, hints, strict=True) if here in hint]
            if near:
                return near
    return ready


def _candidates(node: NodeFacts, slices: Iterable[Mapping[str, Any]]) -> dict[_PortKey, list[_Candidate]]:
    """The endpoints of all slices by service port; one that several slices name counts once, the readiest wins."""
    merged: dict[_PortKey, dict[tuple[IPv4Address, int], _Candidate]] = {}
    for piece in slices:
        meta = piece.get("metadata") or {}
        labels = meta.get("labels") or {}
        service = labels.get(LABEL_SERVICE_NAME)
        if not service or piece.get("addressType") != "IPv4" or any(label in labels for label in IGNORE_LABELS):
            continue
        for entry in piece.get("ports") or ():
            if not entry.get("port"):
                continue
            key = (meta["namespace"], service, entry.get("name") or "", entry.get("protocol") or "TCP")
            found = merged.setdefault(key, {})
            for endpoint in piece.get("endpoints") or ():
                candidate = _candidate(node, endpoint, int(entry["port"]))
                if candidate is None:
                    continue
                place = (candidate.endpoint.ip, candidate.endpoint.port)
                if place not in found or _rank(candidate) > _rank(found[place]):
                    found[place] = candidate
    return {key: list(found.values()) for key, found in merged.items()}


def _candidate(node: NodeFacts, endpoint: Mapping[str, Any], port: int) -> _Candidate | None:
    address = _ipv4(next(iter(endpoint.get("addresses") or ()), None))
    if address is None:
        return None
    conditions = endpoint.get("conditions") or {}
    ready = conditions.get("ready") is not False  # nil: unknown, which counts as ready
    serving = conditions.get("serving")
    hints = endpoint.get("hints") or {}
    return _Candidate(
        Endpoint(address, port, bool(endpoint.get("nodeName")) and endpoint.get("nodeName") == node.name),
        ready=ready,
        serving=ready if serving is None else bool(serving),
        terminating=bool(conditions.get("terminating")),
        zones=frozenset(zone.get("name", "") for zone in hints.get("forZones") or ()),
        nodes=frozenset(entry.get("name", "") for entry in hints.get("forNodes") or ()),
    )


def _rank(candidate: _Candidate) -> tuple[bool, bool, bool]:
    return candidate.ready, candidate.serving, candidate.endpoint.is_local


def _ready_local(candidates: Sequence[_Candidate]) -> int:
    return sum(candidate.ready and candidate.endpoint.is_local for candidate in candidates)


def _port_key(port: ServicePort) -> _PortKey:
    return port.namespace, port.name, port.port_name, port.protocol


def _load_balancer_ips(service: Mapping[str, Any]) -> tuple[IPv4Address, ...]:
    ingress = ((service.get("status") or {}).get("loadBalancer") or {}).get("ingress") or ()
    return _ipv4s(entry.get("ip") for entry in ingress if entry.get("ipMode") != "Proxy")


def _ipv4(text: object) -> IPv4Address | None:
    try:
        address = parse_ip(text) if isinstance(text, str) else None
    except ValueError:
        return None
    return address if isinstance(address, IPv4Address) else None


def _ipv4s(texts: Iterable[object]) -> tuple[IPv4Address, ...]:
    return tuple(dict.fromkeys(address for text in texts if (address := _ipv4(text)) is not None))


def _networks(texts: Iterable[str]) -> tuple[IPv4Network, ...]:
    """The IPv4 networks among the texts. When there are ranges and none is IPv4, nobody may pass: the empty network
    0.0.0.0/32 stands for that."""
    listed = [text.strip() for text in texts if text.strip()]
    found = []
    for text in listed:
        try:
            network = parse_network(text)
        except ValueError:
            continue
        if isinstance(network, IPv4Network):
            found.append(network)
    return tuple(dict.fromkeys(found)) or ((IPv4Network("0.0.0.0/32"),) if listed else ())
