"""Node selectors: requirements with every operator, terms, nodeSelector and required affinity, against one node.

Pure; shared by the scheduler and the DaemonSet controller. Source: k8s.io/component-helpers
scheduling/corev1/nodeaffinity.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Term = Mapping[str, Any]


def matches_requirement(requirement: Mapping[str, Any], values: Mapping[str, str]) -> bool:
    """One of In, NotIn, Exists, DoesNotExist, Gt, Lt against labels (or fields)."""
    key, operator = requirement["key"], requirement["operator"]
    wanted: list[str] = requirement.get("values") or []
    present = key in values
    if operator == "In":
        return present and values[key] in wanted
    if operator == "NotIn":
        return not present or values[key] not in wanted
    if operator == "Exists":
        return present
    if operator == "DoesNotExist":
        return not present
    if operator not in {"Gt", "Lt"} or not present or len(wanted) != 1:
        return False
    try:
        have, bound = int(values[key]), int(wanted[0])
    except ValueError:
        return False
    return have > bound if operator == "Gt" else have < bound


def matches_term(term: Term, name: str, labels: Mapping[str, str]) -> bool:
    """All expressions and fields of the term; a term that says nothing matches nothing."""
    expressions, fields = term.get("matchExpressions") or (), term.get("matchFields") or ()
    if not expressions and not fields:
        return False
    return all(matches_requirement(requirement, labels) for requirement in expressions) and all(
        matches_requirement(requirement, {"metadata.name": name}) for requirement in fields
    )


def matches_required(pod_spec: Mapping[str, Any], name: str, labels: Mapping[str, str]) -> bool:
    """The pod's nodeSelector and the required terms of its node affinity (one of them must match)."""
    for key, value in (pod_spec.get("nodeSelector") or {}).items():
        if labels.get(key) != value:
            return False
    affinity = (pod_spec.get("affinity") or {}).get("nodeAffinity") or {}
    required = affinity.get("requiredDuringSchedulingIgnoredDuringExecution")
    if required is None:
        return True
    return any(matches_term(term, name, labels) for term in required.get("nodeSelectorTerms") or ())
