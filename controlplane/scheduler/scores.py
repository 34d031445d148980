"""Scores: of the nodes that would do, which is the best.

Pure: each score looks at all feasible nodes at once and gives each 0 to 100; `SCORES` holds their weights, upstream's.
Source: kubernetes pkg/scheduler/framework/plugins, apis/config/v1/default_plugins.go.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

from podnet.controlplane.client.taints import tolerates
from podnet.controlplane.scheduler.node_affinity import preferred_weight
from podnet.controlplane.scheduler.topology import ZONE, PodTopology
from podnet.controlplane.scheduler.types import NodeInfo, PodInfo

MAX_SCORE = 100

Score = Callable[[PodInfo, Sequence[NodeInfo], PodTopology], list[int]]


def least_allocated(pod: PodInfo, nodes: Sequence[NodeInfo], _topology: PodTopology) -> list[int]:
    """The share of cpu and memory that would stay free."""
    return [_least_allocated(pod, node) for node in nodes]


def _least_allocated(pod: PodInfo, node: NodeInfo) -> int:
    score = kinds = 0
    for name in ("cpu", "memory"):
        capacity = node.allocatable.get(name, 0)
        if capacity > 0:
            requested = node.score_requested.get(name, 0) + pod.score_requests.get(name, 0)
            score += max(0, capacity - requested) * MAX_SCORE // capacity
            kinds += 1
    return score // kinds if kinds else 0


def balanced_allocation(pod: PodInfo, nodes: Sequence[NodeInfo], _topology: PodTopology) -> list[int]:
    """How evenly cpu and memory would be used: one of them running out first wastes the other."""
    return [_balanced(pod, node) for node in nodes]


def _balanced(pod: PodInfo, node: NodeInfo) -> int:
    shares: list[float] = []
    for name in ("cpu", "memory"):
        capacity = node.allocatable.get(name, 0)
        if capacity > 0:
            requested = node.requested.get(name, 0) + pod.requests.get(name, 0)
            shares.append(min(1.0, requested / capacity))
    deviation = abs(shares[0] - shares[1]) / 2 if len(shares) == 2 else 0.0
    return int((1 - deviation) * MAX_SCORE)


def normalized(raw: Sequence[int], *, reverse: bool = False) -> list[int]:
    """Scaled so that the largest is 100; reversed, 100 is for the smallest."""
    highest = max(raw, default=0)
    if highest == 0:
        return [MAX_SCORE if reverse else 0 for _ in raw]
    scaled = [MAX_SCORE * value // highest for value in raw]
    return [MAX_SCORE - value for value in scaled] if reverse else scaled


def taint_toleration(pod: PodInfo, nodes: Sequence[NodeInfo], _topology: PodTopology) -> list[int]:
    """Fewer PreferNoSchedule taints that the pod does not tolerate."""
    tolerations = pod.spec.get("tolerations") or ()
    raw = [
        sum(
            1
            for taint in node.taints
            if taint.get("effect") == "PreferNoSchedule" and not any(tolerates(t, taint) for t in tolerations)
        )
        for node in nodes
    ]
    return normalized(raw, reverse=True)


def node_affinity(pod: PodInfo, nodes: Sequence[NodeInfo], _topology: PodTopology) -> list[int]:
    """Preferred node affinity."""
    return normalized([preferred_weight(pod, node) for node in nodes])


def topology_spread(pod: PodInfo, nodes: Sequence[NodeInfo], topology: PodTopology) -> list[int]:
    """Fewer pods of this kind in the node's domains."""
    siblings: Counter[str] = Counter()
    for node in nodes:
        if ZONE in node.labels:
            siblings[node.labels[ZONE]] += node.owners[pod.owner]
    counted = [node for node in nodes if not topology.is_beside_the_point(node)]
    sizes = topology.domain_sizes(counted)
    raw = {node.name: topology.crowding(node, sizes, siblings) for node in counted}
    highest, lowest = max(raw.values(), default=0), min(raw.values(), default=0)
    if highest == 0:
        return [MAX_SCORE if node.name in raw else 0 for node in nodes]
    return [int(MAX_SCORE * (highest + lowest - raw[node.name]) / highest) if node.name in raw else 0 for node in nodes]


def inter_pod_affinity(_pod: PodInfo, nodes: Sequence[NodeInfo], topology: PodTopology) -> list[int]:
    """Preferred pod affinity and anti-affinity."""
    raw = [topology.preference(node) for node in nodes]
    highest, lowest = max(raw), min(raw)
    if highest == lowest:
        return [0 for _ in nodes]
    return [MAX_SCORE * (value - lowest) // (highest - lowest) for value in raw]


SCORES: tuple[tuple[str, int, Score], ...] = (
    ("TaintToleration", 3, taint_toleration),
    ("NodeAffinity", 2, node_affinity),
    ("NodeResourcesFit", 1, least_allocated),
    ("PodTopologySpread", 2, topology_spread),
    ("InterPodAffinity", 2, inter_pod_affinity),
    ("NodeResourcesBalancedAllocation", 1, balanced_allocation),
)
"""Name (the plugin's, upstream), weight and function."""
