"""Two versions of one stored thing: events (core and events.k8s.io) and HorizontalPodAutoscalers (v1 and v2).

`resources.storage_resource` says which version is stored; here are the two directions. Reading back what was written
through either version gives the same object in that version. Metadata is shared, never changed in place.

    events.k8s.io/v1   regarding      note     reportingController  deprecatedSource  deprecatedCount ...
    core/v1            involvedObject message  reportingComponent   source            count ...

What autoscaling/v1 has no field for stands in its `autoscaling.alpha.kubernetes.io/...` annotations.
Source: pkg/apis/core/v1 and pkg/apis/autoscaling/v1 conversions of Kubernetes 1.32.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson

from podnet.controlplane.api.resources import EVENTS, EVENTS_V1, HORIZONTALPODAUTOSCALERS, HORIZONTALPODAUTOSCALERS_V1
from podnet.controlplane.api.types import Object, Resource

_EVENT_FIELDS = {
    "regarding": "involvedObject",
    "note": "message",
    "reportingController": "reportingComponent",
    "deprecatedSource": "source",
    "deprecatedCount": "count",
    "deprecatedFirstTimestamp": "firstTimestamp",
    "deprecatedLastTimestamp": "lastTimestamp",
}
_EVENT_FIELDS_BACK = {core: events for events, core in _EVENT_FIELDS.items()}

_ANNOTATION = "autoscaling.alpha.kubernetes.io/"
_CPU_TARGET = "targetCPUUtilizationPercentage"
_CPU_CURRENT = "currentCPUUtilizationPercentage"


def to_stored(obj: Object, resource: Resource) -> Object:
    """An object of `resource` in the version that is stored; itself when that is the same."""
    if resource == EVENTS_V1:
        return _renamed(obj, _EVENT_FIELDS, EVENTS)
    if resource == HORIZONTALPODAUTOSCALERS_V1:
        return _hpa_v2(obj)
    return obj


def from_stored(obj: Object, resource: Resource) -> Object:
    """A stored object as `resource` shows it; itself when that is the same."""
    if resource == EVENTS_V1:
        return _renamed(obj, _EVENT_FIELDS_BACK, EVENTS_V1)
    if resource == HORIZONTALPODAUTOSCALERS_V1:
        return _hpa_v1(obj)
    return obj


def _renamed(obj: Object, names: Mapping[str, str], resource: Resource) -> Object:
    out = {names.get(name, name): value for name, value in obj.items()}
    out["apiVersion"] = resource.api_version
    return out


def _hpa_v2(obj: Object) -> Object:
    metadata = dict(obj.get("metadata") or {})
    annotations = dict(metadata.get("annotations") or {})
    spec, status = dict(obj.get("spec") or {}), dict(obj.get("status") or {})
    cpu = spec.pop(_CPU_TARGET, None)
    metrics = _take(annotations, "metrics") or []
    if cpu is not None:
        target = {"type": "Utilization", "averageUtilization": cpu}
        metrics = [*metrics, {"type": "Resource", "resource": {"name": "cpu", "target": target}}]
    _put(spec, "metrics", metrics)
    _put(spec, "behavior", _take(annotations, "behavior"))
    current_cpu = status.pop(_CPU_CURRENT, None)
    current = _take(annotations, "current-metrics") or []
    if current_cpu is not None:
        usage = {"averageUtilization": current_cpu}
        current = [*current, {"type": "Resource", "resource": {"name": "cpu", "current": usage}}]
    _put(status, "currentMetrics", current)
    _put(status, "conditions", _take(annotations, "conditions"))
    return _assembled(obj, HORIZONTALPODAUTOSCALERS, metadata, annotations, spec, status)


def _hpa_v1(obj: Object) -> Object:
    metadata = dict(obj.get("metadata") or {})
    annotations = dict(metadata.get("annotations") or {})
    spec, status = dict(obj.get("spec") or {}), dict(obj.get("status") or {})
    metrics = spec.pop("metrics", None) or []
    # v1 has room for one CPU utilization target: the last one, because that is where the other direction puts it.
    for index in range(len(metrics) - 1, -1, -1):
        utilization = _cpu_utilization(metrics[index], "target")
        if utilization is not None:
            spec[_CPU_TARGET] = utilization
            metrics = metrics[:index] + metrics[index + 1 :]
            break
    current = status.pop("currentMetrics", None) or []
    for index in range(len(current) - 1, -1, -1):
        utilization = _cpu_utilization(current[index], "current")
        if utilization is not None:
            status[_CPU_CURRENT] = utilization
            current = current[:index] + current[index + 1 :]
            break
    kept = {
        "metrics": metrics,
        "behavior": spec.pop("behavior", None),
        "current-metrics": current,
        "conditions": status.pop("conditions", None),
    }
    for name, value in kept.items():
        if value:
            annotations[_ANNOTATION + name] = orjson.dumps(value).decode()
    return _assembled(obj, HORIZONTALPODAUTOSCALERS_V1, metadata, annotations, spec, status)


def _cpu_utilization(metric: Mapping[str, Any], part: str) -> int | None:
    source = metric.get("resource") or {}
    if metric.get("type") != "Resource" or source.get("name") != "cpu":
        return None
    utilization = (source.get(part) or {}).get("averageUtilization")
    return utilization if isinstance(utilization, int) else None


def _take(annotations: dict[str, str], name: str) -> Any:
    """The value kept in an annotation, which is taken out; text that is not ours stays where it is."""
    text = annotations.get(_ANNOTATION + name)
    if text is None:
        return None
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError:
        return None
    del annotations[_ANNOTATION + name]
    return value


def _put(target: dict[str, Any], name: str, value: Any) -> None:
    if value:
        target[name] = value


def _assembled(
    obj: Object,
    resource: Resource,
    metadata: dict[str, Any],
    annotations: dict[str, str],
    spec: dict[str, Any],
    status: dict[str, Any],
) -> Object:
    if annotations:
        metadata["annotations"] = annotations
    else:
        metadata.pop("annotations", None)
    out = {**obj, "apiVersion": resource.api_version, "metadata": metadata}
    parts = {"spec": spec, "status": status}
    return out | {name: value for name, value in parts.items() if value or name in obj}
