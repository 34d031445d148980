"""What the scheduler decides on: pods and nodes, parsed once.

Pure. `PodInfo` is immutable; `NodeInfo` is kept up to date by the cache and only read by filters and scores.
Resource amounts are integers: cpu in thousandths, everything else in units.
Source: kubernetes pkg/scheduler/framework/types.go, component-helpers resource (PodRequests).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from podnet.controlplane.api import meta, quantity
from podnet.controlplane.api.types import Object

Amounts = dict[str, int]

DEFAULT_CPU_MILLI = 100
DEFAULT_MEMORY = 200 * 1024 * 1024
"""What a container without requests counts for in scores, so that a node does not fill up with such pods unseen."""
_REQUEST_DEFAULTS = {"cpu": DEFAULT_CPU_MILLI, "memory": DEFAULT_MEMORY}

HostPort = tuple[str, str, int]
"""(protocol, address, port)"""


def parse_amounts(amounts: Mapping[str, Any] | None) -> Amounts:
    """A resource list as integers."""
    out: Amounts = {}
    for name, text in (amounts or {}).items():
        value = quantity.of(text)
        out[name] = value.to_milli() if name == "cpu" else value.to_int()
    return out


def add_amounts(into: Amounts, other: Mapping[str, int], sign: int = 1) -> None:
    """Add `other` to `into`, in place."""
    for name, amount in other.items():
        into[name] = into.get(name, 0) + sign * amount


def pod_requests(spec: Mapping[str, Any], defaults: Mapping[str, int] | None = None) -> Amounts:
    """What the pod as a whole asks for: the sum of its containers and sidecars, or the largest init step if that is
    more, plus the overhead. `defaults` stand in for what a container does not say.
    """

    def of(container: Mapping[str, Any]) -> Amounts:
        requests = parse_amounts((container.get("resources") or {}).get("requests"))
        for name, amount in (defaults or {}).items():
            requests.setdefault(name, amount)
        return requests

    total: Amounts = {}
    for container in spec.get("containers") or ():
        add_amounts(total, of(container))
    sidecars: Amounts = {}
    peak: Amounts = {}
    for container in spec.get("initContainers") or ():
        step = of(container)
        if container.get("restartPolicy") == "Always":
            add_amounts(sidecars, step)
            step = dict(sidecars)
        else:
            add_amounts(step, sidecars)
        for name, amount in step.items():
            peak[name] = max(peak.get(name, 0), amount)
    add_amounts(total, sidecars)
    for name, amount in peak.items():
        total[name] = max(total.get(name, 0), amount)
    add_amounts(total, parse_amounts(spec.get("overhead")))
    return total


def _host_ports(spec: Mapping[str, Any]) -> tuple[HostPort, ...]:
    sidecars = [c for c in spec.get("initContainers") or () if c.get("restartPolicy") == "Always"]
    return tuple(
        (port.get("protocol") or "TCP", port.get("hostIP") or "0.0.0.0", int(port["hostPort"]))
        for container in [*sidecars, *(spec.get("containers") or ())]
        for port in container.get("ports") or ()
        if port.get("hostPort")
    )


@dataclass(frozen=True, slots=True)
class PodInfo:
    """One pod, parsed. `owner` is the uid of its controller: pods of one owner are spread."""

    key: str
    uid: str
    obj: Object
    namespace: str
    labels: Mapping[str, str]
    requests: Amounts
    score_requests: Amounts
    host_ports: tuple[HostPort, ...]
    owner: str
    priority: int

    @property
    def spec(self) -> Mapping[str, Any]:
        """The pod's spec."""
        spec: Mapping[str, Any] = self.obj["spec"]
        return spec

    @property
    def affinity(self) -> Mapping[str, Any]:
        """spec.affinity, or nothing."""
        return self.spec.get("affinity") or {}


def parse_pod(pod: Object) -> PodInfo:
    """The pod as the scheduler sees it."""
    spec = pod["spec"]
    reference = meta.controller_of(pod)
    return PodInfo(
        key=meta.key(pod),
        uid=meta.uid(pod),
        obj=pod,
        namespace=meta.namespace(pod),
        labels=meta.labels(pod),
        requests=pod_requests(spec),
        score_requests=pod_requests(spec, _REQUEST_DEFAULTS),
        host_ports=_host_ports(spec),
        owner=str(reference["uid"]) if reference is not None else "",
        priority=int(spec.get("priority") or 0),
    )


@dataclass(slots=True)
class NodeInfo:
    """One node with the pods on it and the sums over them."""

    name: str
    obj: Object
    labels: Mapping[str, str]
    taints: tuple[Mapping[str, Any], ...]
    allocatable: Amounts
    pods: dict[str, PodInfo] = field(default_factory=dict)
    requested: Amounts = field(default_factory=dict)
    score_requested: Amounts = field(default_factory=dict)
    owners: Counter[str] = field(default_factory=Counter)
    used_ports: Counter[HostPort] = field(default_factory=Counter)
    anti_affine: dict[str, PodInfo] = field(default_factory=dict)
    """Of `pods`, those that refuse company; `choosy`: those that have any wish about it."""
    choosy: dict[str, PodInfo] = field(default_factory=dict)

    def set_node(self, node: Object) -> None:
        """Take over a changed Node; the pods stay."""
        self.obj = node
        self.labels = meta.labels(node)
        self.taints = tuple((node.get("spec") or {}).get("taints") or ())
        self.allocatable = parse_amounts((node.get("status") or {}).get("allocatable"))

    @property
    def unschedulable(self) -> bool:
        """spec.unschedulable: cordoned."""
        return bool((self.obj.get("spec") or {}).get("unschedulable"))

    def add_pod(self, pod: PodInfo) -> None:
        """Count a pod (one with the same key gives way)."""
        self.remove_pod(pod.key)
        self.pods[pod.key] = pod
        self._count(pod, 1)
        if (pod.affinity.get("podAntiAffinity") or {}).get("requiredDuringSchedulingIgnoredDuringExecution"):
            self.anti_affine[pod.key] = pod
        if pod.affinity.get("podAffinity") or pod.affinity.get("podAntiAffinity"):
            self.choosy[pod.key] = pod

    def remove_pod(self, key: str) -> None:
        """Count a pod no more."""
        pod = self.pods.pop(key, None)
        if pod is not None:
            self._count(pod, -1)
            self.anti_affine.pop(key, None)
            self.choosy.pop(key, None)

    def _count(self, pod: PodInfo, sign: int) -> None:
        add_amounts(self.requested, pod.requests, sign)
        add_amounts(self.score_requested, pod.score_requests, sign)
        if pod.owner:
            self.owners[pod.owner] += sign
        for port in pod.host_ports:
            self.used_ports[port] += sign
            if not self.used_ports[port]:
                del self.used_ports[port]


def parse_node(node: Object) -> NodeInfo:
    """An empty node."""
    info = NodeInfo(meta.name(node), node, {}, (), {})
    info.set_node(node)
    return info


def node_infos(nodes: Iterable[Object], pods: Iterable[Object] = ()) -> list[NodeInfo]:
    """Nodes with their pods, for a decision outside the scheduler's own cache (tests, `explain`)."""
    infos = {meta.name(node): parse_node(node) for node in nodes}
    for pod in pods:
        node_name = pod["spec"].get("nodeName")
        if node_name in infos:
            infos[node_name].add_pod(parse_pod(pod))
    return [*infos.values()]
