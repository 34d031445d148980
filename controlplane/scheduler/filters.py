"""Filters: can this pod run on this node, and if not, why, in upstream's words.

Pure: each filter is a function of a pod, a node and the cycle's counts. `FILTERS` is their order; the first that
objects speaks for the node. `resolvable` says whether evicting pods could help.
Source: kubernetes pkg/scheduler/framework/plugins.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from podnet.controlplane.client.taints import find_untolerated, tolerates
from podnet.controlplane.scheduler.node_affinity import matches_required
from podnet.controlplane.scheduler.topology import PodTopology
from podnet.controlplane.scheduler.types import HostPort, NodeInfo, PodInfo
from podnet.controlplane.scheduler.volumes import ONE_POD_ONLY


@dataclass(frozen=True, slots=True)
class Objection:
    """Why a node will not do."""

    reasons: tuple[str, ...]
    resolvable: bool


Filter = Callable[[PodInfo, NodeInfo, PodTopology], Objection | None]

_UNSCHEDULABLE_TAINT = {"key": "node.kubernetes.io/unschedulable", "effect": "NoSchedule"}


def node_unschedulable(pod: PodInfo, node: NodeInfo, _topology: PodTopology) -> Objection | None:
    """A cordoned node takes only pods that tolerate its taint."""
    if not node.unschedulable:
        return None
    if any(tolerates(toleration, _UNSCHEDULABLE_TAINT) for toleration in pod.spec.get("tolerations") or ()):
        return None
    return Objection(("node(s) were unschedulable",), resolvable=False)


def node_name(pod: PodInfo, node: NodeInfo, _topology: PodTopology) -> Objection | None:
    """A pod that names its node fits nowhere else."""
    wanted = pod.spec.get("nodeName")
    if not wanted or wanted == node.name:
        return None
    return Objection(("node(s) didn't match the requested node name",), resolvable=False)


def taint_toleration(pod: PodInfo, node: NodeInfo, _topology: PodTopology) -> Objection | None:
    """NoSchedule and NoExecute taints keep away who does not tolerate them."""
    taint = find_untolerated(node.taints, pod.spec.get("tolerations") or (), ("NoSchedule", "NoExecute"))
    if taint is None:
        return None
    reason = f"node(s) had untolerated taint {{{taint['key']}: {taint.get('value') or ''}}}"
    return Objection((reason,), resolvable=False)


def node_affinity(pod: PodInfo, node: NodeInfo, _topology: PodTopology) -> Objection | None:
    """NodeSelector and required node affinity."""
    if matches_required(pod, node):
        return None
    return Objection(("node(s) didn't match Pod's node affinity/selector",), resolvable=False)


def ports_conflict(one: HostPort, other: HostPort) -> bool:
    """The same port of one protocol, on one address or on all."""
    if one[0] != other[0] or one[2] != other[2]:
        return False
    return one[1] == other[1] or "0.0.0.0" in {one[1], other[1]}


def node_ports(pod: PodInfo, node: NodeInfo, _topology: PodTopology) -> Objection | None:
    """Host ports are free."""
    for port in pod.host_ports:
        if any(ports_conflict(port, used) for used in node.used_ports):
            return Objection(("node(s) didn't have free ports for the requested pod ports",), resolvable=True)
    return None


def resources_fit(pod: PodInfo, node: NodeInfo, _topology: PodTopology) -> Objection | None:
    """What the node has, less what its pods requested, is enough."""
    reasons: list[str] = []
    resolvable = True
    if len(node.pods) + 1 > node.allocatable.get("pods", 0):
        reasons.append("Too many pods")
    for name, amount in pod.requests.items():
        if amount <= 0:
            continue
        allocatable = node.allocatable.get(name, 0)
        if amount > allocatable - node.requested.get(name, 0):
            reasons.append(f"Insufficient {name}")
            # Not even an empty node would do: evicting others cannot help.
            resolvable = resolvable and amount <= allocatable
    return Objection(tuple(reasons), resolvable) if reasons else None


def volume_restrictions(_pod: PodInfo, _node: NodeInfo, topology: PodTopology) -> Objection | None:
    """A claim that only one pod may use has none yet."""
    return Objection((ONE_POD_ONLY,), resolvable=True) if topology.volumes.conflicts else None


def volume_binding(_pod: PodInfo, node: NodeInfo, topology: PodTopology) -> Objection | None:
    """The volumes of bound claims are reachable, and claims that waited for this pod can be bound."""
    reasons = topology.volumes.reasons(node)
    return Objection(reasons, resolvable=False) if reasons else None


def topology_spread(_pod: PodInfo, node: NodeInfo, topology: PodTopology) -> Objection | None:
    """Hard topology spread constraints."""
    reason = topology.spread_reason(node)
    return Objection((reason,), resolvable="missing required label" not in reason) if reason else None


def inter_pod_affinity(_pod: PodInfo, node: NodeInfo, topology: PodTopology) -> Objection | None:
    """Required pod affinity and anti-affinity, in both directions."""
    if not topology.affinity_holds(node):
        return Objection(("node(s) didn't match pod affinity rules",), resolvable=False)
    if not topology.anti_affinity_holds(node):
        return Objection(("node(s) didn't match pod anti-affinity rules",), resolvable=True)
    if topology.is_forbidden(node):
        return Objection(("node(s) didn't satisfy existing pods anti-affinity rules",), resolvable=True)
    return None


FILTERS: tuple[tuple[str, Filter], ...] = (
    ("NodeUnschedulable", node_unschedulable),
    ("NodeName", node_name),
    ("TaintToleration", taint_toleration),
    ("NodeAffinity", node_affinity),
    ("NodePorts", node_ports),
    ("NodeResourcesFit", resources_fit),
    ("VolumeRestrictions", volume_restrictions),
    ("VolumeBinding", volume_binding),
    ("PodTopologySpread", topology_spread),
    ("InterPodAffinity", inter_pod_affinity),
)
"""Name (the plugin's, upstream) and function, in the order they are asked."""


def find_objection(pod: PodInfo, node: NodeInfo, topology: PodTopology) -> Objection | None:
    """The first filter's objection, None when the node will do."""
    for _, check in FILTERS:
        objection = check(pod, node, topology)
        if objection is not None:
            return objection
    return None
