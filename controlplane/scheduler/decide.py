"""One scheduling decision: filter, score, choose; or say why not.

Pure: the snapshot and the tie-breaker are arguments. The messages are upstream's, to the letter: people search for them.
Source: kubernetes pkg/scheduler (schedule_one.go, framework/types.go FitError, framework/preemption).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from podnet.controlplane.api.types import Object
from podnet.controlplane.scheduler.filters import FILTERS, Objection, find_objection
from podnet.controlplane.scheduler.node_affinity import named_nodes
from podnet.controlplane.scheduler.preemption import Preemption, Situation, ineligible_reason, plan_preemption
from podnet.controlplane.scheduler.scores import SCORES
from podnet.controlplane.scheduler.topology import NamespaceLabels, PodTopology
from podnet.controlplane.scheduler.types import NodeInfo, PodInfo
from podnet.controlplane.scheduler.volumes import NO_VOLUMES, VolumeSnapshot

NO_NODES = "no nodes available to schedule pods"
NOT_HELPFUL = "Preemption is not helpful for scheduling"
NO_VICTIMS = "No preemption victims found for incoming pod"
NOT_NAMED = Objection(("node(s) didn't satisfy plugin(s) [NodeAffinity]",), resolvable=False)


def _no_labels(_namespace: str) -> Mapping[str, str]:
    return {}


@dataclass(frozen=True, slots=True)
class Placement:
    """The node to bind to."""

    node: str


@dataclass(frozen=True, slots=True)
class Unschedulable:
    """Nowhere: what each node objects, and whom to evict so that the next try succeeds. `refusal`: what of the pod
    itself is not ready, so that no node was looked at.
    """

    objections: Mapping[str, Objection]
    ineligible: str = ""
    preemption: Preemption | None = None
    refusal: str = ""

    @property
    def message(self) -> str:
        """`0/3 nodes are available: 1 node(s) had …, 2 Insufficient cpu. preemption: …`."""
        if not self.objections:
            return NO_NODES
        total = len(self.objections)
        reasons = Counter(reason for objection in self.objections.values() for reason in objection.reasons)
        summary = f"0/{total} nodes are available: {self.refusal or _counted(reasons)}."
        if self.preemption is not None:
            return summary
        after = self.ineligible
        if not after:
            verdicts = Counter(
                NO_VICTIMS if objection.resolvable else NOT_HELPFUL for objection in self.objections.values()
            )
            after = f"0/{total} nodes are available: {_counted(verdicts)}."
        return f"{summary} preemption: {after}"


def _counted(reasons: Counter[str]) -> str:
    return ", ".join(sorted(f"{count} {reason}" for reason, count in reasons.items()))


def decide(
    pod: PodInfo,
    nodes: Sequence[NodeInfo],
    choose: Callable[[int], int],
    namespace_labels: NamespaceLabels = _no_labels,
    volumes: VolumeSnapshot = NO_VOLUMES,
    budgets: Sequence[Object] = (),
) -> Placement | Unschedulable:
    """Where `pod` goes. `choose(n)` picks one of n equally good nodes; `budgets`: PodDisruptionBudgets."""
    topology = PodTopology(pod, nodes, namespace_labels, volumes)
    refusal = topology.volumes.refusal
    if refusal:
        same = Objection((refusal,), resolvable=False)
        return Unschedulable({node.name: same for node in nodes}, ineligible_reason(pod, nodes), refusal=refusal)
    objections: dict[str, Objection] = {}
    feasible: list[NodeInfo] = []
    names = named_nodes(pod)
    for node in nodes:
        is_named = names is None or node.name in names
        objection = find_objection(pod, node, topology) if is_named else NOT_NAMED
        if objection is None:
            feasible.append(node)
        else:
            objections[node.name] = objection
    if not feasible:
        ineligible = ineligible_reason(pod, nodes)
        situation = Situation(nodes, objections, namespace_labels, volumes, budgets)
        plan = None if ineligible else plan_preemption(pod, situation)
        return Unschedulable(objections, ineligible, plan)
    if len(feasible) == 1:
        return Placement(feasible[0].name)
    totals = total_scores(pod, feasible, topology)
    best = max(totals)
    winners = [node for node, total in zip(feasible, totals, strict=True) if total == best]
    return Placement(winners[choose(len(winners))].name)


def total_scores(pod: PodInfo, nodes: Sequence[NodeInfo], topology: PodTopology) -> list[int]:
    """The weighted sum per node."""
    totals = [0] * len(nodes)
    for _, weight, score in SCORES:
        for index, value in enumerate(score(pod, nodes, topology)):
            totals[index] += weight * value
    return totals


@dataclass(frozen=True, slots=True)
class NodeVerdict:
    """What every filter and every score says of one node, for people."""

    node: str
    filters: Mapping[str, tuple[str, ...]]
    scores: Mapping[str, int]
    total: int | None


def explain(
    pod: PodInfo,
    nodes: Sequence[NodeInfo],
    namespace_labels: NamespaceLabels = _no_labels,
    volumes: VolumeSnapshot = NO_VOLUMES,
) -> list[NodeVerdict]:
    """All objections of all filters, and the scores of the nodes that have none."""
    topology = PodTopology(pod, nodes, namespace_labels, volumes)
    refused: dict[str, dict[str, tuple[str, ...]]] = {}
    for node in nodes:
        answers = {name: check(pod, node, topology) for name, check in FILTERS}
        refused[node.name] = {name: answer.reasons for name, answer in answers.items() if answer is not None}
    feasible = [node for node in nodes if not refused[node.name]]
    scores: dict[str, dict[str, int]] = {node.name: {} for node in feasible}
    totals: dict[str, int] = dict.fromkeys(scores, 0)
    for name, weight, score in SCORES if feasible else ():
        for node, value in zip(feasible, score(pod, feasible, topology), strict=True):
            scores[node.name][name] = value
            totals[node.name] += weight * value
    return [
        NodeVerdict(node.name, refused[node.name], scores.get(node.name, {}), totals.get(node.name)) for node in nodes
    ]
