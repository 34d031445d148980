"""The tables of the workloads: apps, batch, ReplicationController, PodTemplate, autoscaling, disruption budgets.

Source: k8s.io/kubernetes pkg/printers/internalversion (the rules of 1.32, restated).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from podnet.controlplane.api import timestamps
from podnet.controlplane.api.printers.cells import (
    NONE,
    UNKNOWN,
    UNSET,
    Printer,
    age,
    boolean_text,
    containers,
    is_true,
    items,
    labels,
    name,
    part,
    printer,
    selector,
    some,
    terminating,
)
from podnet.controlplane.api.types import Object


def _number(obj: Object, *path: str) -> int:
    return part(obj, *path[:-1]).get(path[-1]) or 0


def _template(obj: Object) -> list[str]:
    return containers(part(obj, "spec", "template", "spec"))


def _pod_template(obj: Object, _: float) -> list[Any]:
    return [
        name(obj),
        *containers(part(obj, "template", "spec")),
        labels(part(obj, "template", "metadata").get("labels")),
    ]


def _replicas(selector_text: Callable[[Any], str]) -> Callable[[Object, float], list[Any]]:
    """Cells of ReplicaSets and ReplicationControllers, which differ in the form of their selector."""

    def cells(obj: Object, now: float) -> list[Any]:
        counts = [
            _number(obj, "spec", "replicas"),
            _number(obj, "status", "replicas"),
            _number(obj, "status", "readyReplicas"),
        ]
        return [name(obj), *counts, age(obj, now), *_template(obj), selector_text(part(obj, "spec").get("selector"))]

    return cells


def _daemon_set(obj: Object, now: float) -> list[Any]:
    counts = (
        "desiredNumberScheduled",
        "currentNumberScheduled",
        "numberReady",
        "updatedNumberScheduled",
        "numberAvailable",
    )
    return [
        name(obj),
        *(_number(obj, "status", count) for count in counts),
        labels(part(obj, "spec", "template", "spec").get("nodeSelector")),
        age(obj, now),
        *_template(obj),
        selector(part(obj, "spec").get("selector")),
    ]


def _ready(obj: Object) -> str:
    return f"{_number(obj, 'status', 'readyReplicas')}/{_number(obj, 'spec', 'replicas')}"


def _deployment(obj: Object, now: float) -> list[Any]:
    updated, available = _number(obj, "status", "updatedReplicas"), _number(obj, "status", "availableReplicas")
    return [
        name(obj),
        _ready(obj),
        updated,
        available,
        age(obj, now),
        *_template(obj),
        selector(part(obj, "spec").get("selector")),
    ]


def _stateful_set(obj: Object, now: float) -> list[Any]:
    return [name(obj), _ready(obj), age(obj, now), *_template(obj)]


def _controller_revision(obj: Object, now: float) -> list[Any]:
    controller = NONE
    for owner in items(obj, "metadata", "ownerReferences"):
        if owner.get("controller"):
            group = (owner.get("apiVersion") or "").rpartition("/")[0]
            kind = (owner.get("kind") or "") + (f".{group}" if group else "")
            controller = f"{kind.lower()}/{owner.get('name') or ''}"
    return [name(obj), controller, obj.get("revision") or 0, age(obj, now)]


def _job_status(obj: Object) -> str:
    for condition, text in (("Complete", "Complete"), ("Failed", "Failed")):
        if is_true(obj, condition):
            return text
    if terminating(obj):
        return "Terminating"
    for condition in ("Suspended", "FailureTarget"):
        if is_true(obj, condition):
            return condition
    return "Running"


def _job(obj: Object, now: float) -> list[Any]:
    spec, status = part(obj, "spec"), part(obj, "status")
    done, wanted, parallel = status.get("succeeded") or 0, spec.get("completions"), spec.get("parallelism") or 0
    completions = (
        f"{done}/{wanted}" if wanted is not None else f"{done}/1" + (f" of {parallel}" if parallel > 1 else "")
    )
    duration = ""
    if status.get("startTime"):
        end = timestamps.parse_time(status["completionTime"]) if status.get("completionTime") else now
        duration = timestamps.age(status["startTime"], end)
    return [
        name(obj),
        _job_status(obj),
        completions,
        duration,
        age(obj, now),
        *_template(obj),
        selector(spec.get("selector")),
    ]


def _cron_job(obj: Object, now: float) -> list[Any]:
    spec, status = part(obj, "spec"), part(obj, "status")
    last = status.get("lastScheduleTime")
    job = part(spec, "jobTemplate", "spec")
    return [
        name(obj),
        spec.get("schedule") or "",
        spec.get("timeZone") or NONE,
        boolean_text(spec.get("suspend")),
        len(items(obj, "status", "active")),
        timestamps.age(last, now) if last else NONE,
        age(obj, now),
        *containers(part(job, "template", "spec")),
        selector(job.get("selector")),
    ]


def _disruption_budget(obj: Object, now: float) -> list[Any]:
    spec = part(obj, "spec")
    limits = ["N/A" if spec.get(field) is None else str(spec[field]) for field in ("minAvailable", "maxUnavailable")]
    return [name(obj), *limits, _number(obj, "status", "disruptionsAllowed"), age(obj, now)]


def _autoscaler(obj: Object, now: float) -> list[Any]:
    spec = part(obj, "spec")
    target = part(spec, "scaleTargetRef")
    minimum = spec.get("minReplicas")
    return [
        name(obj),
        f"{target.get('kind') or ''}/{target.get('name') or ''}",
        some(_metrics(obj), NONE, most=2).replace(",", ", "),
        UNSET if minimum is None else str(minimum),
        spec.get("maxReplicas") or 0,
        _number(obj, "status", "currentReplicas"),
        age(obj, now),
    ]


def _metrics(obj: Object) -> list[str]:
    """One text a metric, current over target; the v1 shape knows only the CPU."""
    percent = part(obj, "spec").get("targetCPUUtilizationPercentage")
    if percent is not None:
        current = part(obj, "status").get("currentCPUUtilizationPercentage")
        return [f"cpu: {UNKNOWN if current is None else f'{current}%'}/{percent}%"]
    current_metrics = items(obj, "status", "currentMetrics")
    texts = []
    for index, metric in enumerate(items(obj, "spec", "metrics")):
        now_metric = current_metrics[index] if index < len(current_metrics) else {}
        texts.append(_metric(metric, now_metric if isinstance(now_metric, dict) else {}))
    return texts


_SOURCES = {
    "External": "external",
    "Pods": "pods",
    "Object": "object",
    "Resource": "resource",
    "ContainerResource": "containerResource",
}


def _metric(metric: dict[str, Any], current: dict[str, Any]) -> str:
    kind = metric.get("type") or ""
    if kind not in _SOURCES:
        return "<unknown type>"
    source, now_value = part(metric, _SOURCES[kind]), part(current, _SOURCES[kind], "current")
    target = part(source, "target")
    label = f"{source.get('name') or ''}: " if kind in {"Resource", "ContainerResource"} else ""
    average = target.get("averageValue")
    if average is not None:
        note = " (avg)" if kind in {"External", "Object"} else ""
        return f"{label}{now_value.get('averageValue') or UNKNOWN}/{average}{note}"
    if label:
        used, wanted = now_value.get("averageUtilization"), target.get("averageUtilization")
        return f"{label}{UNKNOWN if used is None else f'{used}%'}/{'<auto>' if wanted is None else f'{wanted}%'}"
    return f"{now_value.get('value') or UNKNOWN}/{target.get('value') or ''}"


_REPLICAS = "Name, Desired:integer, Current:integer, Ready:integer, Age, +Containers, +Images, +Selector"

PRINTERS: dict[str, Printer] = {
    "podtemplates": printer("Name, Containers, Images, Pod Labels", _pod_template),
    "replicationcontrollers": printer(_REPLICAS, _replicas(labels)),
    "replicasets.apps": printer(_REPLICAS, _replicas(selector)),
    "daemonsets.apps": printer(
        "Name, Desired:integer, Current:integer, Ready:integer, Up-to-date:integer, Available:integer, Node Selector, Age, "
        "+Containers, +Images, +Selector",
        _daemon_set,
    ),
    "deployments.apps": printer(
        "Name, Ready, Up-to-date, Available, Age, +Containers, +Images, +Selector", _deployment
    ),
    "statefulsets.apps": printer("Name, Ready, Age, +Containers, +Images", _stateful_set),
    "controllerrevisions.apps": printer("Name, Controller, Revision, Age", _controller_revision),
    "jobs.batch": printer("Name, Status, Completions, Duration, Age, +Containers, +Images, +Selector", _job),
    "cronjobs.batch": printer(
        "Name, Schedule, Timezone, Suspend:boolean, Active:integer, Last Schedule, Age, +Containers, +Images, +Selector",
        _cron_job,
    ),
    "poddisruptionbudgets.policy": printer(
        "Name, Min Available, Max Unavailable, Allowed Disruptions:integer, Age", _disruption_budget
    ),
    "horizontalpodautoscalers.autoscaling": printer(
        "Name, Reference, Targets, MinPods, MaxPods, Replicas, Age", _autoscaler
    ),
}
