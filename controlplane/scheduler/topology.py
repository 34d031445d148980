"""What depends on other pods: pod affinity, pod anti-affinity, topology spread. What depends on its claims comes along.

Pure. Each constraint is counted once per scheduling cycle over all nodes (`PodTopology`), and then asked per node.
Source: kubernetes pkg/scheduler/framework/plugins/{interpodaffinity,podtopologyspread}.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from podnet.controlplane.api import meta
from podnet.controlplane.api.selectors import LabelSelector, Requirement, from_label_selector_object
from podnet.controlplane.client.taints import find_untolerated
from podnet.controlplane.scheduler.node_affinity import matches_required
from podnet.controlplane.scheduler.types import NodeInfo, PodInfo
from podnet.controlplane.scheduler.volumes import NO_VOLUMES, PodVolumes, VolumeSnapshot

HOSTNAME = "kubernetes.io/hostname"
ZONE = "topology.kubernetes.io/zone"
HARD_AFFINITY_WEIGHT = 1
"""What it counts in scores that a pod which is there *requires* this one's company (upstream's hardPodAffinityWeight)."""
_REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"
_PREFERRED = "preferredDuringSchedulingIgnoredDuringExecution"

NamespaceLabels = Callable[[str], Mapping[str, str]]


@dataclass(frozen=True, slots=True)
class AffinityTerm:
    """One pod affinity term of `owner`, ready to be matched."""

    selector: LabelSelector
    namespaces: frozenset[str]
    namespace_selector: LabelSelector | None
    topology_key: str
    weight: int = 0

    def matches(self, pod: PodInfo, namespace_labels: NamespaceLabels) -> bool:
        """Whether `pod` is one of those the term speaks of."""
        if not self.selector.matches(pod.labels):
            return False
        if pod.namespace in self.namespaces:
            return True
        return self.namespace_selector is not None and self.namespace_selector.matches(namespace_labels(pod.namespace))


def _term(raw: Mapping[str, Any], owner: PodInfo, weight: int = 0) -> AffinityTerm:
    namespaces = frozenset(raw.get("namespaces") or ())
    namespace_selector = raw.get("namespaceSelector")
    if not namespaces and namespace_selector is None:
        namespaces = frozenset({owner.namespace})
    selector = from_label_selector_object(raw.get("labelSelector"))
    extra = [
        Requirement(key, "in", (owner.labels[key],)) for key in raw.get("matchLabelKeys") or () if key in owner.labels
    ]
    extra += [
        Requirement(key, "notin", (owner.labels[key],))
        for key in raw.get("mismatchLabelKeys") or ()
        if key in owner.labels
    ]
    return AffinityTerm(
        LabelSelector((*selector.requirements, *extra), selector.nothing),
        namespaces,
        from_label_selector_object(namespace_selector) if namespace_selector is not None else None,
        raw["topologyKey"],
        weight,
    )


def required_terms(pod: PodInfo, kind: str) -> list[AffinityTerm]:
    """The required terms of `podAffinity` or `podAntiAffinity`."""
    return [_term(raw, pod) for raw in (pod.affinity.get(kind) or {}).get(_REQUIRED) or ()]


def preferred_terms(pod: PodInfo, kind: str, sign: int) -> list[AffinityTerm]:
    """The preferred terms, anti-affinity with negative weights."""
    return [
        _term(entry["podAffinityTerm"], pod, sign * int(entry["weight"]))
        for entry in (pod.affinity.get(kind) or {}).get(_PREFERRED) or ()
    ]


@dataclass(frozen=True, slots=True)
class SpreadConstraint:
    """One topology spread constraint of the pod."""

    topology_key: str
    max_skew: int
    selector: LabelSelector
    hard: bool
    min_domains: int
    honour_taints: bool
    honour_affinity: bool


def spread_constraints(pod: PodInfo) -> list[SpreadConstraint]:
    """The constraints of the spec."""
    constraints: list[SpreadConstraint] = []
    for raw in pod.spec.get("topologySpreadConstraints") or ():
        selector = from_label_selector_object(raw.get("labelSelector"))
        extra = [
            Requirement(key, "in", (pod.labels[key],)) for key in raw.get("matchLabelKeys") or () if key in pod.labels
        ]
        constraints.append(
            SpreadConstraint(
                raw["topologyKey"],
                int(raw["maxSkew"]),
                LabelSelector((*selector.requirements, *extra), selector.nothing),
                hard=raw.get("whenUnsatisfiable", "DoNotSchedule") == "DoNotSchedule",
                min_domains=int(raw.get("minDomains") or 1),
                honour_taints=raw.get("nodeTaintsPolicy", "Ignore") == "Honor",
                honour_affinity=raw.get("nodeAffinityPolicy", "Honor") == "Honor",
            )
        )
    return constraints


@dataclass(slots=True)
class _Spread:
    constraint: SpreadConstraint
    counts: Counter[str] = field(default_factory=Counter)
    domains: set[str] = field(default_factory=set)

    @property
    def minimum(self) -> int:
        if len(self.domains) < self.constraint.min_domains:
            return 0
        return min((self.counts[domain] for domain in self.domains), default=0)


class PodTopology:
    """The counts for one pod over one snapshot."""

    def __init__(
        self,
        pod: PodInfo,
        nodes: Sequence[NodeInfo],
        namespace_labels: NamespaceLabels,
        volumes: VolumeSnapshot = NO_VOLUMES,
    ) -> None:
        self._pod = pod
        self.volumes = PodVolumes(pod, nodes, volumes)
        self._namespace_labels = namespace_labels
        self._affinity = required_terms(pod, "podAffinity")
        self._anti_affinity = required_terms(pod, "podAntiAffinity")
        self._preferred = preferred_terms(pod, "podAffinity", 1) + preferred_terms(pod, "podAntiAffinity", -1)
        self._spreads = [_Spread(constraint) for constraint in spread_constraints(pod)]
        self._keys = {
            hard: frozenset(s.constraint.topology_key for s in self._spreads if s.constraint.hard is hard)
            for hard in (True, False)
        }
        self._affine: Counter[tuple[int, str]] = Counter()
        self._anti_affine: Counter[tuple[int, str]] = Counter()
        self._forbidden: set[tuple[str, str]] = set()
        self._preference: Counter[tuple[str, str]] = Counter()
        wants_pods = bool(self._affinity or self._anti_affinity or self._preferred)
        for node in nodes:
            for existing in node.anti_affine.values():
                self._count_repulsion(existing, node)
            for existing in node.choosy.values():
                self._count_attraction(existing, node)
            for existing in node.pods.values():
                if wants_pods:
                    self._count_affinity(existing, node)
            for spread in self._spreads:
                self._count_spread(spread, node)

    def _count_repulsion(self, existing: PodInfo, node: NodeInfo) -> None:
        for term in required_terms(existing, "podAntiAffinity"):
            value = node.labels.get(term.topology_key)
            if value is not None and term.matches(self._pod, self._namespace_labels):
                self._forbidden.add((term.topology_key, value))

    def _count_attraction(self, existing: PodInfo, node: NodeInfo) -> None:
        """What the pods that are there wish of this one."""
        terms = preferred_terms(existing, "podAffinity", 1) + preferred_terms(existing, "podAntiAffinity", -1)
        terms += [replace(term, weight=HARD_AFFINITY_WEIGHT) for term in required_terms(existing, "podAffinity")]
        for term in terms:
            value = node.labels.get(term.topology_key)
            if value is not None and term.matches(self._pod, self._namespace_labels):
                self._preference[term.topology_key, value] += term.weight

    def _count_affinity(self, existing: PodInfo, node: NodeInfo) -> None:
        for counts, terms in ((self._affine, self._affinity), (self._anti_affine, self._anti_affinity)):
            for index, term in enumerate(terms):
                value = node.labels.get(term.topology_key)
                if value is not None and term.matches(existing, self._namespace_labels):
                    counts[index, value] += 1
        for term in self._preferred:
            value = node.labels.get(term.topology_key)
            if value is not None and term.matches(existing, self._namespace_labels):
                self._preference[term.topology_key, value] += term.weight

    def _count_spread(self, spread: _Spread, node: NodeInfo) -> None:
        constraint = spread.constraint
        # A node that lacks the key of one constraint counts for none of its kind.
        if not self._keys[constraint.hard] <= node.labels.keys():
            return
        if constraint.honour_affinity and not matches_required(self._pod, node):
            return
        value = node.labels[constraint.topology_key]
        if constraint.honour_taints:
            tolerations = self._pod.spec.get("tolerations") or ()
            if find_untolerated(node.taints, tolerations, ("NoSchedule", "NoExecute")) is not None:
                return
        spread.domains.add(value)
        spread.counts[value] += sum(
            1
            for existing in node.pods.values()
            if existing.namespace == self._pod.namespace
            and not meta.is_terminating(existing.obj)
            and constraint.selector.matches(existing.labels)
        )

    def affinity_holds(self, node: NodeInfo) -> bool:
        """Every required affinity term finds a pod in the node's domain, or may be satisfied by the pod itself."""
        if not self._affinity:
            return True
        if any(term.topology_key not in node.labels for term in self._affinity):
            return False
        if all(self._affine[index, node.labels[term.topology_key]] for index, term in enumerate(self._affinity)):
            return True
        # The first pod of a group that is affine to itself: nobody matches anywhere, and it matches its own terms.
        return not self._affine and all(term.matches(self._pod, self._namespace_labels) for term in self._affinity)

    def anti_affinity_holds(self, node: NodeInfo) -> bool:
        """No pod that the pod avoids is in the node's domain."""
        return not any(
            self._anti_affine[index, node.labels.get(term.topology_key, "")]
            for index, term in enumerate(self._anti_affinity)
        )

    def is_forbidden(self, node: NodeInfo) -> bool:
        """A pod in the node's domain avoids this one."""
        return any(node.labels.get(key) == value for key, value in self._forbidden)

    def spread_reason(self, node: NodeInfo) -> str:
        """Why the node breaks a hard spread constraint; empty when it does not."""
        for spread in self._spreads:
            constraint = spread.constraint
            if not constraint.hard:
                continue
            value = node.labels.get(constraint.topology_key)
            if value is None:
                return "node(s) didn't match pod topology spread constraints (missing required label)"
            own = 1 if constraint.selector.matches(self._pod.labels) else 0
            if spread.counts[value] + own - spread.minimum > constraint.max_skew:
                return "node(s) didn't match pod topology spread constraints"
        return ""

    def preference(self, node: NodeInfo) -> int:
        """The weight of preferred affinity and anti-affinity on this node, the pod's own and that of those around it."""
        return sum(weight for (key, value), weight in self._preference.items() if node.labels.get(key) == value)

    def is_beside_the_point(self, node: NodeInfo) -> bool:
        """Whether a soft constraint spreads over domains of which the node has none: nothing speaks for it then."""
        return not self._keys[False] <= node.labels.keys()

    def domain_sizes(self, nodes: Sequence[NodeInfo]) -> dict[str, int]:
        """Topology key → how many domains of it these nodes make, for the keys that `crowding` may look at."""
        keys = {HOSTNAME, ZONE, *self._keys[False]}
        return {key: len({node.labels[key] for node in nodes if key in node.labels}) for key in keys}

    def crowding(self, node: NodeInfo, sizes: Mapping[str, int], siblings: Counter[str]) -> float:
        """How full the node's domains are with pods of this kind: the fewer, the better.

        Without soft constraints of its own the pod is spread over hosts and zones among its siblings, as upstream's
        default constraints do. A domain kind with many members weighs more (logarithmically): there, one pod more or
        less says more.
        """
        soft = [spread for spread in self._spreads if not spread.constraint.hard]
        if soft:
            return sum(
                spread.counts[node.labels[spread.constraint.topology_key]]
                * math.log(sizes[spread.constraint.topology_key] + 2)
                + spread.constraint.max_skew
                - 1
                for spread in soft
            )
        if not self._pod.owner or self._pod.spec.get("topologySpreadConstraints"):
            return 0.0
        score = node.owners[self._pod.owner] * math.log(sizes[HOSTNAME] + 2) + 2
        zone = node.labels.get(ZONE)
        if zone is not None:
            score += siblings[zone] * math.log(sizes[ZONE] + 2) + 4
        return score
