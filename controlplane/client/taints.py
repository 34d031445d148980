"""Taints and tolerations: who may be where, and for how long.

Pure; shared by the scheduler (NoSchedule, PreferNoSchedule), the node lifecycle controller and the kubelet (NoExecute).
Source: k8s.io/component-helpers scheduling/corev1, k8s.io/api core/v1 Toleration.ToleratesTaint.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

Taint = Mapping[str, Any]
Toleration = Mapping[str, Any]


def tolerates(toleration: Toleration, taint: Taint) -> bool:
    """Whether one toleration covers one taint. No effect covers all effects, no key (with Exists) all keys."""
    effect, key = toleration.get("effect"), toleration.get("key")
    if effect and effect != taint.get("effect"):
        return False
    if key and key != taint.get("key"):
        return False
    operator = toleration.get("operator") or "Equal"
    if operator == "Exists":
        return True
    return operator == "Equal" and bool(key) and (toleration.get("value") or "") == (taint.get("value") or "")


def find_untolerated(
    taints: Iterable[Taint], tolerations: Sequence[Toleration], effects: Iterable[str]
) -> Taint | None:
    """The first taint of these effects that nothing tolerates."""
    wanted = frozenset(effects)
    for taint in taints:
        if taint.get("effect") in wanted and not any(tolerates(toleration, taint) for toleration in tolerations):
            return taint
    return None


def toleration_seconds(taints: Sequence[Taint], tolerations: Sequence[Toleration]) -> float | None:
    """For how long a pod may stay under these NoExecute taints: 0 when one is not tolerated, None for ever.

    The shortest tolerationSeconds of all tolerations that are in use counts.
    """
    shortest: float | None = None
    for taint in taints:
        used = [toleration for toleration in tolerations if tolerates(toleration, taint)]
        if not used:
            return 0.0
        for toleration in used:
            seconds = toleration.get("tolerationSeconds")
            if seconds is not None:
                limit = max(0.0, float(seconds))
                shortest = limit if shortest is None else min(shortest, limit)
    return shortest
