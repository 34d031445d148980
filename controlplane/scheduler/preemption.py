"""Preemption: whom to evict so that a more important pod fits.

Pure. On every node that evictions could help, all less important pods are imagined away; if the pod then fits, they are
put back one by one, those first whose PodDisruptionBudget would be broken, then the most important, as long as it still
fits; who remains out is a victim. Of the nodes the one is taken that breaks the fewest budgets and whose victims matter
least. A budget is a wish here: where nothing else helps it is broken.
Source: kubernetes pkg/scheduler/framework/preemption, plugins/defaultpreemption.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from podnet.controlplane.api import meta
from podnet.controlplane.api.selectors import from_label_selector_object
from podnet.controlplane.api.types import Object
from podnet.controlplane.scheduler.filters import Objection, find_objection
from podnet.controlplane.scheduler.topology import NamespaceLabels, PodTopology
from podnet.controlplane.scheduler.types import NodeInfo, PodInfo, parse_node
from podnet.controlplane.scheduler.volumes import NO_VOLUMES, VolumeSnapshot

NOT_ELIGIBLE_NEVER = "not eligible due to preemptionPolicy=Never."
NOT_ELIGIBLE_WAITING = "not eligible due to a terminating pod on the nominated node."


@dataclass(frozen=True, slots=True)
class Preemption:
    """The node to be, who has to leave it first, and how many of those their budgets would keep."""

    node: str
    victims: tuple[PodInfo, ...]
    violations: int = 0


@dataclass(frozen=True, slots=True)
class Situation:
    """What the pod met: every node, what they object, and PodDisruptionBudgets."""

    nodes: Sequence[NodeInfo]
    objections: Mapping[str, Objection]
    namespace_labels: NamespaceLabels
    volumes: VolumeSnapshot = NO_VOLUMES
    budgets: Sequence[Object] = ()


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


def plan_preemption(pod: PodInfo, situation: Situation) -> Preemption | None:
    """The least harmful way to make room, None when there is none."""
    candidates: list[Preemption] = []
    for index, node in enumerate(situation.nodes):
        objection = situation.objections.get(node.name)
        if objection is not None and objection.resolvable:
            candidate = _plan_node(pod, situation, index)
            if candidate is not None:
                candidates.append(candidate)
    if not candidates:
        return None
    least = min(map(_harm, candidates))
    equals = sorted((one for one in candidates if _harm(one) == least), key=lambda one: one.node)
    return max(equals, key=_youth)


def _plan_node(pod: PodInfo, situation: Situation, index: int) -> Preemption | None:
    nodes = situation.nodes
    node = nodes[index]
    less_important = [other for other in node.pods.values() if other.priority < pod.priority]
    if not less_important:
        return None
    emptied = copy_node(node, without={other.key for other in less_important})
    imagined = [*nodes[:index], emptied, *nodes[index + 1 :]]

    def fits() -> bool:
        topology = PodTopology(pod, imagined, situation.namespace_labels, situation.volumes)
        return find_objection(pod, emptied, topology) is None

    if not fits():
        return None
    in_order = sorted(less_important, key=lambda entry: (-entry.priority, _started(entry)))
    protected = _protected(in_order, situation.budgets)
    victims: list[PodInfo] = []
    for other in sorted(in_order, key=lambda entry: entry.key not in protected):
        emptied.add_pod(other)
        if not fits():
            emptied.remove_pod(other.key)
            victims.append(other)
    victims.sort(key=lambda entry: (-entry.priority, _started(entry)))
    violations = sum(victim.key in protected for victim in victims)
    return Preemption(node.name, tuple(victims), violations) if victims else None


def _protected(pods: Sequence[PodInfo], budgets: Sequence[Object]) -> set[str]:
    """The pods (of some that are all to go, in this order) whose going would break a budget."""
    allowed = [int((budget.get("status") or {}).get("disruptionsAllowed") or 0) for budget in budgets]
    found: set[str] = set()
    for pod in pods:
        for index, budget in enumerate(budgets):
            if not _covers(budget, pod):
                continue
            allowed[index] -= 1
            if allowed[index] < 0:
                found.add(pod.key)
    return found


def _covers(budget: Object, pod: PodInfo) -> bool:
    if meta.namespace(budget) != pod.namespace or not pod.labels:
        return False
    if meta.name(pod.obj) in ((budget.get("status") or {}).get("disruptedPods") or {}):
        return False  # its going was allowed and counted already
    selector = (budget.get("spec") or {}).get("selector")
    return bool(selector) and from_label_selector_object(selector).matches(pod.labels)


def copy_node(node: NodeInfo, *, without: set[str] | None = None, also: Sequence[PodInfo] = ()) -> NodeInfo:
    """The node as it would be without some of its pods, or with some more."""
    copy = parse_node(node.obj)
    for other in [*node.pods.values(), *also]:
        if without is None or other.key not in without:
            copy.add_pod(other)
    return copy


_OFFSET = 1 << 31
"""Makes every victim count in a sum, also those of negative priority."""
_NOT_STARTED = "9"


def _harm(candidate: Preemption) -> tuple[int, int, int, int]:
    priorities = [victim.priority for victim in candidate.victims]
    total = sum(priority + _OFFSET for priority in priorities)
    return candidate.violations, max(priorities), total, len(priorities)


def _youth(candidate: Preemption) -> str:
    """When the first of its most important victims began: the later, the less work is lost."""
    highest = max(victim.priority for victim in candidate.victims)
    return min(_started(victim) for victim in candidate.victims if victim.priority == highest)


def _started(pod: PodInfo) -> str:
    return str((pod.obj.get("status") or {}).get("startTime") or _NOT_STARTED)
