"""Preemption: whom to evict so that a more important pod fits.

Pure. On every node that evictions could help, all less important pods are imagined away; if the pod then fits, they are
put back one by one, the most important first, as long as it still fits; who remains out is a victim. Of the nodes the
one is taken whose victims matter least. PodDisruptionBudgets are not weighed.
Source: kubernetes pkg/scheduler/framework/preemption, plugins/defaultpreemption.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from podnet.controlplane.api import meta
from podnet.controlplane.scheduler.filters import Objection, find_objection
from podnet.controlplane.scheduler.topology import NamespaceLabels, PodTopology
from podnet.controlplane.scheduler.types import NodeInfo, PodInfo, parse_node
from podnet.controlplane.scheduler.volumes import NO_VOLUMES, VolumeSnapshot

NOT_ELIGIBLE_NEVER = "not eligible due to preemptionPolicy=Never."
NOT_ELIGIBLE_WAITING = "not eligible due to a terminating pod on the nominated node."


@dataclass(frozen=True, slots=True)
class Preemption:
    """The node to be, and who has to leave it first."""

    node: str
    victims: tuple[PodInfo, ...]


def ineligible_reason(pod: PodInfo, nodes: Sequence[NodeInfo]) -> str:
    """Why the pod may not preempt (again); empty when it may."""
    if pod.spec.get("preemptionPolicy") == "Never":
        return NOT_ELIGIBLE_NEVER
    nominated = (pod.obj.get("status") or {}).get("nominatedNodeName")
    for node in nodes:
        if node.name == nominated and any(
            meta.is_terminating(other.obj) and other.priority < pod.priority for other in node.pods.values()
        ):
            # Its victims are on their way out: more of them would be one eviction too many.
            return NOT_ELIGIBLE_WAITING
    return ""


def plan_preemption(
    pod: PodInfo,
    nodes: Sequence[NodeInfo],
    objections: Mapping[str, Objection],
    namespace_labels: NamespaceLabels,
    volumes: VolumeSnapshot = NO_VOLUMES,
) -> Preemption | None:
    """The least harmful way to make room, None when there is none."""
    candidates: list[Preemption] = []
    for index, node in enumerate(nodes):
        objection = objections.get(node.name)
        if objection is not None and objection.resolvable:
            victims = _victims(pod, nodes, index, namespace_labels, volumes)
            if victims:
                candidates.append(Preemption(node.name, victims))
    return min(candidates, key=_harm) if candidates else None


def _victims(
    pod: PodInfo,
    nodes: Sequence[NodeInfo],
    index: int,
    namespace_labels: NamespaceLabels,
    volumes: VolumeSnapshot,
) -> tuple[PodInfo, ...]:
    node = nodes[index]
    less_important = [other for other in node.pods.values() if other.priority < pod.priority]
    if not less_important:
        return ()
    emptied = copy_node(node, without={other.key for other in less_important})
    imagined = [*nodes[:index], emptied, *nodes[index + 1 :]]

    def fits() -> bool:
        return find_objection(pod, emptied, PodTopology(pod, imagined, namespace_labels, volumes)) is None

    if not fits():
        return ()
    victims: list[PodInfo] = []
    for other in sorted(less_important, key=lambda entry: (-entry.priority, _started(entry))):
        emptied.add_pod(other)
        if not fits():
            emptied.remove_pod(other.key)
            victims.append(other)
    return tuple(victims)


def copy_node(node: NodeInfo, *, without: set[str] | None = None, also: Sequence[PodInfo] = ()) -> NodeInfo:
    """The node as it would be without some of its pods, or with some more."""
    copy = parse_node(node.obj)
    for other in [*node.pods.values(), *also]:
        if without is None or other.key not in without:
            copy.add_pod(other)
    return copy


def _harm(candidate: Preemption) -> tuple[int, int, int, str]:
    priorities = [victim.priority for victim in candidate.victims]
    return max(priorities), sum(priorities), len(priorities), candidate.node


def _started(pod: PodInfo) -> str:
    return str((pod.obj.get("status") or {}).get("startTime") or "")
