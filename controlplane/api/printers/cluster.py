"""The tables of nodes, namespaces, configuration, events, quotas, leases, priorities and runtimes.

Source: k8s.io/kubernetes pkg/printers/internalversion (the rules of 1.32, restated).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from podnet.controlplane.api import timestamps
from podnet.controlplane.api.printers.cells import (
    NONE,
    UNKNOWN,
    Printer,
    age,
    condition,
    created_at,
    items,
    name,
    part,
    printer,
)
from podnet.controlplane.api.types import Object

_ROLE_PREFIX = "node-role.kubernetes.io/"


def _node(obj: Object, now: float) -> list[Any]:
    info = part(obj, "status", "nodeInfo")
    ready = condition(obj, "Ready")
    status = "Unknown" if ready is None else "Ready" if ready.get("status") == "True" else "NotReady"
    if part(obj, "spec").get("unschedulable"):
        status += ",SchedulingDisabled"
    return [
        name(obj),
        status,
        ",".join(_roles(obj)) or NONE,
        age(obj, now),
        info.get("kubeletVersion") or "",
        _address(obj, "InternalIP"),
        _address(obj, "ExternalIP"),
        info.get("osImage") or UNKNOWN,
        info.get("kernelVersion") or UNKNOWN,
        info.get("containerRuntimeVersion") or UNKNOWN,
    ]


def _roles(node: Object) -> list[str]:
    roles = set()
    for key, value in part(node, "metadata", "labels").items():
        if key.startswith(_ROLE_PREFIX):
            roles.add(key.removeprefix(_ROLE_PREFIX))
        elif key == "kubernetes.io/role":
            roles.add(value)
    return sorted(roles - {""})


def _address(node: Object, type_: str) -> str:
    rows = items(node, "status", "addresses")
    return next((row.get("address") or "" for row in rows if row.get("type") == type_), NONE)


def _namespace(obj: Object, now: float) -> list[Any]:
    return [name(obj), part(obj, "status").get("phase") or "", age(obj, now)]


def _config_map(obj: Object, now: float) -> list[Any]:
    return [name(obj), len(part(obj, "data")) + len(part(obj, "binaryData")), age(obj, now)]


def _secret(obj: Object, now: float) -> list[Any]:
    return [name(obj), obj.get("type") or "", len(part(obj, "data")), age(obj, now)]


def _event(obj: Object, now: float) -> list[Any]:
    """Both forms: core/v1, and events.k8s.io/v1 with its other names for the same fields."""
    source = part(obj, "source") or part(obj, "deprecatedSource")
    target = part(obj, "involvedObject") or part(obj, "regarding")
    first = obj.get("firstTimestamp") or obj.get("deprecatedFirstTimestamp") or obj.get("eventTime")
    last = obj.get("lastTimestamp") or obj.get("deprecatedLastTimestamp") or first
    count = obj.get("count") or obj.get("deprecatedCount") or 1
    series = part(obj, "series")
    if series:
        last, count = series.get("lastObservedTime"), series.get("count") or 0
    component = source.get("component") or obj.get("reportingComponent") or obj.get("reportingController") or ""
    instance = source.get("host") or obj.get("reportingInstance") or ""
    return [
        timestamps.age(last, now),
        obj.get("type") or "",
        obj.get("reason") or "",
        f"{(target.get('kind') or '').lower()}/{target.get('name') or ''}",
        target.get("fieldPath") or "",
        f"{component}, {instance}" if instance else component,
        (obj.get("message") or obj.get("note") or "").strip(),
        timestamps.age(first, now),
        count,
        name(obj),
    ]


def _resource_quota(obj: Object, now: float) -> list[Any]:
    used = part(obj, "status", "used")
    requests: list[str] = []
    limits: list[str] = []
    for resource, hard in sorted(part(obj, "status", "hard").items()):
        text = f"{resource}: {used.get(resource, '0')}/{hard}"
        (limits if resource.startswith("limits") else requests).append(text)
    return [name(obj), age(obj, now), ", ".join(requests), ", ".join(limits)]


def _created(obj: Object, _: float) -> list[Any]:
    return [name(obj), created_at(obj)]


def _counted(field: str) -> Callable[[Object, float], list[Any]]:
    """Cells of the kinds that say how many of something they hold."""

    def cells(obj: Object, now: float) -> list[Any]:
        return [name(obj), len(items(obj, *field.split("."))), age(obj, now)]

    return cells


def _lease(obj: Object, now: float) -> list[Any]:
    return [name(obj), part(obj, "spec").get("holderIdentity") or "", age(obj, now)]


def _priority_class(obj: Object, now: float) -> list[Any]:
    default = bool(obj.get("globalDefault"))
    return [name(obj), obj.get("value") or 0, default, age(obj, now), obj.get("preemptionPolicy") or ""]


def _runtime_class(obj: Object, now: float) -> list[Any]:
    return [name(obj), obj.get("handler") or "", age(obj, now)]


def _component_status(obj: Object, _: float) -> list[Any]:
    row: dict[str, Any] = next((row for row in items(obj, "conditions") if row.get("type") == "Healthy"), {})
    status = {"True": "Healthy", "False": "Unhealthy"}.get(row.get("status") or "", "Unknown")
    return [name(obj), status, row.get("message") or "", row.get("error") or ""]


def _api_service(obj: Object, now: float) -> list[Any]:
    service = part(obj, "spec", "service")
    available = condition(obj, "Available")
    text = "Unknown"
    if available is not None:
        text = available.get("status") or ""
        if text != "True":
            text = f"{text} ({available.get('reason') or ''})"
    where = f"{service.get('namespace')}/{service.get('name')}" if service else "Local"
    return [name(obj), where, text, age(obj, now)]


_EVENTS = printer("Last Seen, Type, Reason, Object, +Subobject, +Source, Message, +First Seen, +Count, +Name", _event)
_CREATED = printer("Name, Created At:date", _created)

PRINTERS: dict[str, Printer] = {
    "nodes": printer(
        "Name, Status, Roles, Age, Version, +Internal-IP, +External-IP, +OS-Image, +Kernel-Version, +Container-Runtime",
        _node,
    ),
    "namespaces": printer("Name, Status, Age", _namespace),
    "configmaps": printer("Name, Data, Age", _config_map),
    "secrets": printer("Name, Type, Data, Age", _secret),
    "serviceaccounts": printer("Name, Secrets, Age", _counted("secrets")),
    "events": _EVENTS,
    "events.events.k8s.io": _EVENTS,
    "resourcequotas": printer("Name, Age, Request, Limit", _resource_quota),
    "limitranges": _CREATED,
    "leases.coordination.k8s.io": printer("Name, Holder, Age", _lease),
    "priorityclasses.scheduling.k8s.io": printer(
        "Name, Value:integer, Global-Default:boolean, Age, PreemptionPolicy", _priority_class
    ),
    "runtimeclasses.node.k8s.io": printer("Name, Handler, Age", _runtime_class),
    "componentstatuses": printer("Name, Status, Message, Error", _component_status),
    "customresourcedefinitions.apiextensions.k8s.io": _CREATED,
    "apiservices.apiregistration.k8s.io": printer("Name, Service, Available, Age", _api_service),
    "roles.rbac.authorization.k8s.io": _CREATED,
    "clusterroles.rbac.authorization.k8s.io": _CREATED,
    "mutatingwebhookconfigurations.admissionregistration.k8s.io": printer(
        "Name, Webhooks:integer, Age", _counted("webhooks")
    ),
    "validatingwebhookconfigurations.admissionregistration.k8s.io": printer(
        "Name, Webhooks:integer, Age", _counted("webhooks")
    ),
    "csinodes.storage.k8s.io": printer("Name, Drivers:integer, Age", _counted("spec.drivers")),
}
