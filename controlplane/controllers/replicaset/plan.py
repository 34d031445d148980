"""What a ReplicaSet does next: how many pods to create, which to delete, and what its status says.

This file decides; it never talks to the API server. Source: kubernetes pkg/controller/replicaset (replica_set.go,
replica_set_utils.go).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from podnet.controlplane.api import meta
from podnet.controlplane.api.timestamps import format_time
from podnet.controlplane.api.types import Object
from podnet.controlplane.controllers.pods import available_at, deletion_order, is_active, is_ready

BURST_REPLICAS = 500
"""At most so many creations or deletions in one pass."""


@dataclass(frozen=True, slots=True)
class Scale:
    """The next step towards spec.replicas: one of the two is empty."""

    create: int
    delete: tuple[Object, ...]


@dataclass(frozen=True, slots=True)
class Failure:
    """Why the last step could not be taken: it becomes the condition ReplicaFailure."""

    reason: str
    message: str


def plan_scale(replica_set: Object, pods: Sequence[Object], related: Iterable[Object], now: float) -> Scale:
    """`pods` are the active pods it owns, `related` those of all ReplicaSets with the same controller."""
    if meta.is_terminating(replica_set):
        return Scale(0, ())
    difference = len(pods) - int(replica_set["spec"].get("replicas", 1))
    if difference < 0:
        return Scale(min(-difference, BURST_REPLICAS), ())
    if difference == 0:
        return Scale(0, ())
    neighbours = Counter(pod["spec"].get("nodeName", "") for pod in related if is_active(pod))
    order = deletion_order(pods, neighbours, now)
    return Scale(0, tuple(order[: min(difference, BURST_REPLICAS)]))


def slow_start_batches(count: int) -> Iterator[int]:
    """1, 2, 4, … until `count` is used up: one refused creation then costs one request and not `count`."""
    size = 1
    while count > 0:
        batch = min(size, count)
        yield batch
        count -= batch
        size *= 2


def desired_pod(replica_set: Object) -> Object:
    """The pod to create, from the template."""
    template = replica_set["spec"]["template"]
    metadata = template.get("metadata") or {}
    pod_metadata: Object = {
        "generateName": replica_set["metadata"]["name"] + "-",
        "namespace": replica_set["metadata"]["namespace"],
        "ownerReferences": [meta.controller_reference(replica_set)],
    }
    for field in ("labels", "annotations", "finalizers"):
        if metadata.get(field):
            pod_metadata[field] = meta.deep_copy(metadata[field])
    return {"apiVersion": "v1", "kind": "Pod", "metadata": pod_metadata, "spec": meta.deep_copy(template["spec"])}


def desired_status(replica_set: Object, pods: Sequence[Object], failure: Failure | None, now: float) -> Object:
    """The status for the active pods it owns; zeros are left out, as upstream's `omitempty` does."""
    spec = replica_set["spec"]
    template_labels = (spec["template"].get("metadata") or {}).get("labels") or {}
    min_ready_s = int(spec.get("minReadySeconds", 0))
    labelled = sum(1 for pod in pods if template_labels.items() <= (pod["metadata"].get("labels") or {}).items())
    ready = sum(1 for pod in pods if is_ready(pod))
    moments = [available_at(pod, min_ready_s) for pod in pods]
    available = sum(1 for moment in moments if moment is not None and moment <= now)
    old = (replica_set.get("status") or {}).get("conditions") or []
    status: Object = {"replicas": len(pods)}
    counts = {"fullyLabeledReplicas": labelled, "readyReplicas": ready, "availableReplicas": available}
    status.update({key: value for key, value in counts.items() if value})
    status["observedGeneration"] = int(replica_set["metadata"].get("generation", 0))
    conditions = _conditions(old, failure, now)
    if conditions:
        status["conditions"] = conditions
    return status


def _conditions(old: list[dict[str, Any]], failure: Failure | None, now: float) -> list[dict[str, Any]]:
    present = any(condition["type"] == "ReplicaFailure" for condition in old)
    if failure is None:
        return [condition for condition in old if condition["type"] != "ReplicaFailure"]
    if present:
        return old
    condition = {"type": "ReplicaFailure", "status": "True", "reason": failure.reason, "message": failure.message}
    return meta.with_condition(old, condition, format_time(now))
