"""What a Deployment's status says: counts, Available, Progressing, ReplicaFailure, with upstream's words.

Pure: `now` (seconds since the epoch) is an argument.
Source: kubernetes pkg/controller/deployment (progress.go, sync.go calculateStatus).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from podnet.controlplane.api import meta
from podnet.controlplane.api.timestamps import format_time, parse_time
from podnet.controlplane.api.types import Object
from podnet.controlplane.controllers.deployment.plan import (
    available_of,
    replicas_of,
    resolve_limits,
    total_replicas,
)

NO_DEADLINE = 2**31 - 1
"""progressDeadlineSeconds of this size means: none (upstream's MaxInt32)."""

NEW_AVAILABLE = "NewReplicaSetAvailable"
TIMED_OUT = "ProgressDeadlineExceeded"
PAUSED = "DeploymentPaused"

Conditions = list[dict[str, Any]]


def has_deadline(deployment: Object) -> bool:
    """ProgressDeadlineSeconds is set and finite."""
    deadline = deployment["spec"].get("progressDeadlineSeconds")
    return deadline is not None and int(deadline) != NO_DEADLINE


def find(conditions: Sequence[dict[str, Any]], kind: str) -> dict[str, Any] | None:
    """The condition of a type."""
    return next((condition for condition in conditions if condition["type"] == kind), None)


def with_progressing(conditions: Conditions, status: str, reason: str, message: str, now: float) -> Conditions:
    """The list with the condition Progressing; the same status and reason leave it as it is."""
    return _with(conditions, {"type": "Progressing", "status": status, "reason": reason, "message": message}, now)


def _with(conditions: Conditions, condition: dict[str, Any], now: float) -> Conditions:
    old = find(conditions, condition["type"])
    if old is not None and old["status"] == condition["status"] and old.get("reason") == condition["reason"]:
        return conditions
    stamp = format_time(now)
    return meta.with_condition(conditions, {**condition, "lastUpdateTime": stamp}, stamp)


def _without(conditions: Conditions, kind: str) -> Conditions:
    return [condition for condition in conditions if condition["type"] != kind]


def counted_status(deployment: Object, new: Object | None, everyone: Sequence[Object], now: float) -> Object:
    """Counts and the condition Available; the other conditions as they were."""
    old = deployment.get("status") or {}
    statuses = [replica_set.get("status") or {} for replica_set in everyone]
    available = sum(available_of(replica_set) for replica_set in everyone)
    counts = {
        "replicas": sum(int(status.get("replicas", 0)) for status in statuses),
        "updatedReplicas": int(((new or {}).get("status") or {}).get("replicas", 0)),
        "readyReplicas": sum(int(status.get("readyReplicas", 0)) for status in statuses),
        "availableReplicas": available,
        "unavailableReplicas": max(0, total_replicas(everyone) - available),
    }
    status: Object = {"observedGeneration": meta.generation(deployment)}
    status.update({key: value for key, value in counts.items() if value})
    if "collisionCount" in old:
        status["collisionCount"] = old["collisionCount"]
    enough = available >= replicas_of(deployment) - resolve_limits(deployment).unavailable
    condition = {
        "type": "Available",
        "status": "True" if enough else "False",
        "reason": "MinimumReplicasAvailable" if enough else "MinimumReplicasUnavailable",
        "message": f"Deployment {'has' if enough else 'does not have'} minimum availability.",
    }
    status["conditions"] = _with(old.get("conditions") or [], condition, now)
    return status


def rollout_status(deployment: Object, new: Object | None, everyone: Sequence[Object], now: float) -> Object:
    """The whole status during or after a rollout."""
    status = counted_status(deployment, new, everyone, now)
    conditions: Conditions = status["conditions"]
    if not has_deadline(deployment):
        conditions = _without(conditions, "Progressing")
    else:
        conditions = _progress(deployment, status, new, conditions, now)
    status["conditions"] = _replica_failure(conditions, new, everyone, now)
    return status


def is_complete(deployment: Object, status: Object) -> bool:
    """All replicas are new and available, and nothing else is left."""
    wanted = replicas_of(deployment)
    return all(
        int(status.get(field, 0)) == wanted for field in ("updatedReplicas", "replicas", "availableReplicas")
    ) and int(status.get("observedGeneration", 0)) >= meta.generation(deployment)


def _progress(deployment: Object, status: Object, new: Object | None, old: Conditions, now: float) -> Conditions:
    current = find((deployment.get("status") or {}).get("conditions") or [], "Progressing")
    if current is not None and current.get("reason") == NEW_AVAILABLE and _all_updated(status):
        return old
    subject = f'ReplicaSet "{meta.name(new)}"' if new is not None else f'Deployment "{meta.name(deployment)}"'
    if is_complete(deployment, status):
        return with_progressing(old, "True", NEW_AVAILABLE, f"{subject} has successfully progressed.", now)
    if _has_progressed(deployment.get("status") or {}, status):
        stamp = format_time(now)
        condition = {
            "type": "Progressing",
            "status": "True",
            "reason": "ReplicaSetUpdated",
            "message": f"{subject} is progressing.",
            # Every step counts as an update, or a slow but steady rollout would pass for a stuck one.
            "lastUpdateTime": stamp,
        }
        return meta.with_condition(old, condition, stamp)
    if is_timed_out(deployment, status, now):
        return with_progressing(old, "False", TIMED_OUT, f"{subject} has timed out progressing.", now)
    return old


def _all_updated(status: Object) -> bool:
    return int(status.get("replicas", 0)) == int(status.get("updatedReplicas", 0))


def _has_progressed(old: Object, new: Object) -> bool:
    def count(status: Object, field: str) -> int:
        return int(status.get(field, 0))

    def outdated(status: Object) -> int:
        return count(status, "replicas") - count(status, "updatedReplicas")

    return (
        count(new, "updatedReplicas") > count(old, "updatedReplicas")
        or outdated(new) < outdated(old)
        or count(new, "readyReplicas") > count(old, "readyReplicas")
        or count(new, "availableReplicas") > count(old, "availableReplicas")
    )


def is_timed_out(deployment: Object, status: Object, now: float) -> bool:
    """No progress for progressDeadlineSeconds."""
    condition = find(status.get("conditions") or [], "Progressing")
    if condition is None or not has_deadline(deployment) or condition.get("reason") == NEW_AVAILABLE:
        return False
    if condition.get("reason") == TIMED_OUT:
        return True
    if condition.get("reason") == PAUSED:
        return False
    return parse_time(condition["lastUpdateTime"]) + int(deployment["spec"]["progressDeadlineSeconds"]) < now


def recheck_after_s(deployment: Object, status: Object, now: float) -> float | None:
    """When to look again for a missed deadline; None when there is none to miss."""
    condition = find(status.get("conditions") or [], "Progressing")
    if condition is None or not has_deadline(deployment) or is_complete(deployment, status):
        return None
    if condition.get("reason") in {TIMED_OUT, PAUSED}:
        return None
    due = parse_time(condition["lastUpdateTime"]) + int(deployment["spec"]["progressDeadlineSeconds"])
    # One second more, because times are cut to whole seconds.
    return max(1.0, math.ceil(due - now) + 1.0)


def paused_conditions(deployment: Object, now: float) -> Conditions | None:
    """The conditions after a pause or a resume; None when nothing changes."""
    conditions: Conditions = (deployment.get("status") or {}).get("conditions") or []
    if not has_deadline(deployment):
        return None
    current = find(conditions, "Progressing")
    if current is not None and current.get("reason") == TIMED_OUT:
        return None
    paused = bool(deployment["spec"].get("paused"))
    was_paused = current is not None and current.get("reason") == PAUSED
    if paused == was_paused:
        return None
    if paused:
        return with_progressing(conditions, "Unknown", PAUSED, "Deployment is paused", now)
    return with_progressing(conditions, "Unknown", "DeploymentResumed", "Deployment is resumed", now)


def _replica_failure(conditions: Conditions, new: Object | None, everyone: Sequence[Object], now: float) -> Conditions:
    del now
    failures = [(rs, meta.get_condition(rs, "ReplicaFailure")) for rs in everyone]
    mine = [failure for rs, failure in failures if failure is not None and new is not None and rs is new]
    others = [failure for rs, failure in failures if failure is not None and rs is not new]
    found = next(iter(mine or others), None)
    rest = _without(conditions, "ReplicaFailure")
    if found is None:
        return rest
    stamp = found.get("lastTransitionTime")
    condition = {
        "type": "ReplicaFailure",
        "status": found["status"],
        "reason": found.get("reason", ""),
        "message": found.get("message", ""),
        "lastUpdateTime": stamp,
        "lastTransitionTime": stamp,
    }
    return [*rest, condition]
