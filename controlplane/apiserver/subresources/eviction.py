"""pods/eviction: a DELETE that respects PodDisruptionBudgets.

Source: pkg/registry/core/pod/storage/eviction.go of Kubernetes 1.32.
"""

from __future__ import annotations

from typing import Any

from podnet.controlplane.api import meta
from podnet.controlplane.api.errors import StatusError, bad_request
from podnet.controlplane.api.resources import PODDISRUPTIONBUDGETS, PODS
from podnet.controlplane.api.selectors import from_label_selector_object
from podnet.controlplane.api.timestamps import format_time
from podnet.controlplane.api.types import Object
from podnet.controlplane.apiserver.options import DeleteOptions, WriteOptions
from podnet.controlplane.apiserver.registry import Registry

REFUSED = "Cannot evict pod as it would violate the pod's disruption budget."
MANY_BUDGETS = "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support."
EVICTED = {
    "type": "DisruptionTarget",
    "status": "True",
    "reason": "EvictionByEvictionAPI",
    "message": "Eviction API: evicting",
}


async def evict(
    registry: Registry, namespace: str, name: str, eviction: Object, options: WriteOptions, delete: DeleteOptions
) -> Object:
    """Delete the pod if its budget allows it now; 429 when not."""
    said = (eviction.get("metadata") or {}).get("name")
    if said not in {None, "", name}:
        raise bad_request("name in URL does not match name in Eviction object")
    pod = (await registry.get(PODS, namespace, name)).obj
    if not _is_free_to_go(pod):
        budgets = _budgets_of(registry, pod)
        if len(budgets) > 1:
            raise StatusError(500, "", MANY_BUDGETS)
        for budget in budgets:
            if not (_ready(pod) is False and _may_evict_unhealthy(budget)):
                await _charge(registry, budget, pod, options)
        await _mark(registry, pod, options)
    await registry.delete(PODS, namespace, name, delete)
    return {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201}


def _is_free_to_go(pod: Object) -> bool:
    status = pod.get("status") or {}
    return bool(pod["metadata"].get("deletionTimestamp")) or status.get("phase") in {"Pending", "Succeeded", "Failed"}


def _ready(pod: Object) -> bool:
    conditions = (pod.get("status") or {}).get("conditions") or ()
    return any(c.get("type") == "Ready" and c.get("status") == "True" for c in conditions)


def _may_evict_unhealthy(budget: Object) -> bool:
    spec, status = budget.get("spec") or {}, budget.get("status") or {}
    if spec.get("unhealthyPodEvictionPolicy") == "AlwaysAllow":
        return True
    return bool(status.get("desiredHealthy")) and int(status.get("currentHealthy") or 0) >= int(
        status["desiredHealthy"]
    )


def _budgets_of(registry: Registry, pod: Object) -> list[Object]:
    labels = pod["metadata"].get("labels")
    return [
        budget
        for budget in registry.objects(PODDISRUPTIONBUDGETS, pod["metadata"]["namespace"])
        if from_label_selector_object((budget.get("spec") or {}).get("selector")).matches(labels)
    ]


async def _charge(registry: Registry, budget: Object, pod: Object, options: WriteOptions) -> None:
    """Take one disruption off the budget's status, so that two evictions cannot both have the last one."""

    def transform(current: Object) -> Object:
        status: dict[str, Any] = current.setdefault("status", {})
        name, generation = current["metadata"]["name"], current["metadata"].get("generation") or 0
        if int(status.get("observedGeneration") or 0) < generation:
            raise _too_many(
                name, f"The disruption budget {name} is still being processed by the server.", retry_after_s=10
            )
        if int(status.get("disruptionsAllowed") or 0) <= 0:
            raise _too_many(name, _why_none(name, status))
        status["disruptionsAllowed"] = int(status["disruptionsAllowed"]) - 1
        if not status["disruptionsAllowed"]:
            condition = {"type": "DisruptionAllowed", "status": "False", "reason": "InsufficientPods", "message": ""}
            meta.set_condition(current, {**condition, "observedGeneration": generation}, format_time(registry.clock()))
        status.setdefault("disruptedPods", {})[pod["metadata"]["name"]] = format_time(registry.clock())
        return current

    metadata = budget["metadata"]
    await registry.write(
        PODDISRUPTIONBUDGETS, metadata["namespace"], metadata["name"], transform, options, subresource="status"
    )


def _why_none(name: str, status: Object) -> str:
    failed = [c for c in status.get("conditions") or () if c.get("reason") == "SyncFailed"]
    if failed:
        why = failed[0].get("message", "")
        return f"The disruption budget {name} does not allow evicting pods currently because it failed sync: {why}"
    healthy, wanted = status.get("currentHealthy", 0), status.get("desiredHealthy", 0)
    return f"The disruption budget {name} needs {wanted} healthy pods and has {healthy} currently"


async def _mark(registry: Registry, pod: Object, options: WriteOptions) -> None:
    """Note on the pod why it goes: its controllers and its owner read that."""

    def transform(current: Object) -> Object:
        if current["metadata"]["uid"] == pod["metadata"]["uid"]:
            meta.set_condition(current, EVICTED, format_time(registry.clock()))
        return current

    metadata = pod["metadata"]
    await registry.write(PODS, metadata["namespace"], metadata["name"], transform, options, subresource="status")


def _too_many(budget: str, message: str, *, retry_after_s: int = 0) -> StatusError:
    details: dict[str, Any] = {"causes": [{"reason": "DisruptionBudget", "message": message}]}
    if retry_after_s:
        details["retryAfterSeconds"] = retry_after_s
    error = StatusError(429, "TooManyRequests", REFUSED, details)
    error.add_note(f"budget {budget}")
    return error
