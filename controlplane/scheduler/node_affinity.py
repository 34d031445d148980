"""Node affinity as the scheduler asks for it: of a PodInfo and a NodeInfo.

Pure; the selectors themselves are `client.node_selector`'s, which the DaemonSet controller asks too.
"""

from __future__ import annotations

from podnet.controlplane.client import node_selector
from podnet.controlplane.client.node_selector import Term, matches_requirement
from podnet.controlplane.scheduler.types import NodeInfo, PodInfo

__all__ = ["matches_required", "matches_requirement", "matches_term", "named_nodes", "preferred_weight"]


def matches_term(term: Term, node: NodeInfo) -> bool:
    """All expressions and fields of the term; a term that says nothing matches nothing."""
    return node_selector.matches_term(term, node.name, node.labels)


def matches_required(pod: PodInfo, node: NodeInfo) -> bool:
    """NodeSelector and the required terms (one of them must match)."""
    return node_selector.matches_required(pod.spec, node.name, node.labels)


def named_nodes(pod: PodInfo) -> frozenset[str] | None:
    """The nodes that the required terms name one by one (as a DaemonSet's do); None when some term names none."""
    required = (pod.affinity.get("nodeAffinity") or {}).get("requiredDuringSchedulingIgnoredDuringExecution") or {}
    found: set[str] = set()
    for term in required.get("nodeSelectorTerms") or ():
        names: set[str] | None = None
        for row in term.get("matchFields") or ():
            if row["key"] == "metadata.name" and row["operator"] == "In":
                values = set(row.get("values") or ())
                names = values if names is None else names & values
        if names is None:
            return None
        found |= names
    return frozenset(found) if required else None


def preferred_weight(pod: PodInfo, node: NodeInfo) -> int:
    """The sum of the weights of the preferred terms that match; an empty preference matches all nodes alike."""
    affinity = pod.affinity.get("nodeAffinity") or {}
    return sum(
        int(entry["weight"])
        for entry in affinity.get("preferredDuringSchedulingIgnoredDuringExecution") or ()
        if matches_term(entry.get("preference") or {}, node)
    )
