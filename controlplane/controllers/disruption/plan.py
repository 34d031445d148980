"""How many of a PodDisruptionBudget's pods may be disturbed now.

Pure. The expected number of pods is that of their controllers (what they want, not what there is) unless minAvailable is
a plain number. Source: kubernetes pkg/controller/disruption/disruption.go.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from podnet.controlplane.api import meta
from podnet.controlplane.api.timestamps import format_time, parse_time
from podnet.controlplane.api.types import Object
from podnet.controlplane.controllers.deployment.plan import resolve_percent
from podnet.controlplane.controllers.pods import is_ready

DELETION_TIMEOUT_S = 120.0
"""An eviction that was allowed and has not shown for so long did not happen."""

Scale = Callable[[Object], tuple[str, int] | None]
"""(uid, replicas) of the controller that a pod counts for, None when it has none; `NoScaleError` when that has no size."""


class NoScaleError(Exception):
    """A pod's controller does not say how many pods it wants, so no share of them can be counted."""


@dataclass(frozen=True, slots=True)
class Expectation:
    """`count` pods should be there, `healthy` of them have to be."""

    count: int
    healthy: int


def expectation(budget: Object, pods: Sequence[Object], scale: Scale) -> Expectation:
    """What the budget asks of these pods."""
    spec = budget["spec"]
    minimum, maximum = spec.get("minAvailable"), spec.get("maxUnavailable")
    if maximum is not None:
        count = _controllers_count(pods, scale)
        unavailable = resolve_percent(maximum, count, round_up=True)
        return Expectation(count, max(0, count - unavailable))
    if isinstance(minimum, str):
        count = _controllers_count(pods, scale)
        return Expectation(count, resolve_percent(minimum, count, round_up=True))
    return Expectation(len(pods), int(minimum or 0) if minimum is not None else 0)


def _controllers_count(pods: Sequence[Object], scale: Scale) -> int:
    scales = dict(found for pod in pods if (found := scale(pod)) is not None)
    return sum(scales.values())


def disrupted_pods(budget: Object, pods: Sequence[Object], now: float) -> dict[str, str]:
    """The evictions that were allowed and are still to show: the pod is there, is not going, and it was not long ago."""
    noted: Mapping[str, str] = (budget.get("status") or {}).get("disruptedPods") or {}
    staying = {meta.name(pod) for pod in pods if not meta.is_terminating(pod)}
    return {
        name: stamp for name, stamp in noted.items() if name in staying and parse_time(stamp) + DELETION_TIMEOUT_S > now
    }


def desired_status(budget: Object, pods: Sequence[Object], scale: Scale, now: float) -> Object:
    """The budget's status for the pods that it selects."""
    expected = expectation(budget, pods, scale)
    disrupted = disrupted_pods(budget, pods, now)
    healthy = sum(1 for p in pods if is_ready(p) and not meta.is_terminating(p) and meta.name(p) not in disrupted)
    allowed = max(0, healthy - expected.healthy) if expected.count > 0 else 0
    status: Object = {
        "currentHealthy": healthy,
        "desiredHealthy": expected.healthy,
        "expectedPods": expected.count,
        "disruptionsAllowed": allowed,
        "observedGeneration": meta.generation(budget),
    }
    if disrupted:
        status["disruptedPods"] = disrupted
    condition = {
        "type": "DisruptionAllowed",
        "status": "True" if allowed else "False",
        "reason": "SufficientPods" if allowed else "InsufficientPods",
        "message": "",
        "observedGeneration": meta.generation(budget),
    }
    old = (budget.get("status") or {}).get("conditions")
    return status | {"conditions": meta.with_condition(old, condition, format_time(now))}


def counts_controllers(budget: Object) -> bool:
    """The budget asks for a share of what the pods' controllers want."""
    spec = budget["spec"]
    return spec.get("maxUnavailable") is not None or isinstance(spec.get("minAvailable"), str)


def failed_status(budget: Object, why: str, now: float) -> Object:
    """The status when nothing can be counted: nothing is allowed, and the condition says why."""
    old = budget.get("status") or {}
    zeros = dict.fromkeys(("currentHealthy", "desiredHealthy", "expectedPods"), 0)
    condition = {
        "type": "DisruptionAllowed",
        "status": "False",
        "reason": "SyncFailed",
        "message": why,
        "observedGeneration": int(old.get("observedGeneration") or 0),
    }
    conditions = meta.with_condition(old.get("conditions"), condition, format_time(now))
    return {**zeros, **old, "disruptionsAllowed": 0, "conditions": conditions}


def recheck_after_s(status: Object, now: float) -> float | None:
    """When the oldest allowed eviction is forgotten."""
    stamps = (status.get("disruptedPods") or {}).values()
    return min((parse_time(stamp) + DELETION_TIMEOUT_S - now for stamp in stamps), default=None)
