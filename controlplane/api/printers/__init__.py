"""Server-side tables: what `kubectl get` prints, worked out here so that every client prints the same.

    Table { columnDefinitions [name type format priority], rows [ {cells, object, conditions} ] }

All columns are always sent; kubectl hides those of priority 1 unless `-o wide` is asked for.

Rule: pure; the moment is an argument. A kind without a printer gets Name and Created At, as upstream's default convertor.
Source: apimachinery meta/v1 Table, apiserver pkg/registry/rest/table.go.
"""

from __future__ import annotations

from typing import Any, Literal

from podnet.controlplane.api.printers import access, cluster, network, pods, storage, workloads
from podnet.controlplane.api.printers.cells import Printer, age, created_at, name, part, printer
from podnet.controlplane.api.types import Object, Resource

IncludeObject = Literal["Metadata", "Object", "None"]

_DEFAULT = printer("Name, Created At:date", lambda obj, _: [name(obj), created_at(obj)])
_SCALE = printer(
    "Name, Desired:integer, Available:integer, Age",
    lambda obj, now: [
        name(obj),
        part(obj, "spec").get("replicas") or 0,
        part(obj, "status").get("replicas") or 0,
        age(obj, now),
    ],
)
_STATUS = printer(
    "Status, Reason, Message",
    lambda obj, _: [obj.get("status") or "", obj.get("reason") or "", obj.get("message") or ""],
)
_PRINTERS: dict[str, Printer] = {
    **pods.PRINTERS,
    **workloads.PRINTERS,
    **network.PRINTERS,
    **cluster.PRINTERS,
    **storage.PRINTERS,
    **access.PRINTERS,
}


def printer_of(resource: Resource) -> Printer:
    """The printer of a built-in resource, or the default one."""
    return _PRINTERS.get(resource.qualified_name, _DEFAULT)


def table_columns(resource: Resource) -> list[dict[str, Any]]:
    """The column definitions of a resource."""
    return [dict(column) for column in printer_of(resource).columns]


def table(
    resource: Resource,
    objects: list[Object],
    *,
    now: float,
    include_object: IncludeObject = "Metadata",
    list_meta: dict[str, Any] | None = None,
    columns: bool = True,
    how: Printer | None = None,
) -> Object:
    """The Table of some objects at the moment `now` (seconds since the epoch).

    `columns=False` leaves the definitions out, as every event of a watch but the first does. `how` prints a resource that
    is not built in: `custom.custom_printer` makes one from a CustomResourceDefinition's columns."""
    how = how or printer_of(resource)
    return render_table(how, objects, now=now, include_object=include_object, list_meta=list_meta, columns=columns)


def render_table(
    how: Printer,
    objects: list[Object],
    *,
    now: float,
    include_object: IncludeObject = "Metadata",
    list_meta: dict[str, Any] | None = None,
    columns: bool = True,
) -> Object:
    """The Table of some objects with a given printer."""
    rows = []
    for obj in objects:
        row: dict[str, Any] = {"cells": how.cells(obj, now)}
        conditions = how.conditions(obj)
        if conditions:
            row["conditions"] = conditions
        row["object"] = _row_object(obj, include_object)
        rows.append(row)
    return {
        "kind": "Table",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": dict(list_meta or {}),
        "columnDefinitions": [dict(column) for column in how.columns] if columns else [],
        "rows": rows,
    }


def scale_table(scale: Object, *, now: float, include_object: IncludeObject = "Metadata") -> Object:
    """The Table of an autoscaling/v1 Scale."""
    meta = _version_of(scale)
    return render_table(_SCALE, [scale], now=now, include_object=include_object, list_meta=meta)


def status_table(status: Object) -> Object:
    """The Table of a Status."""
    return render_table(_STATUS, [status], now=0, include_object="Object")


def _version_of(obj: Object) -> dict[str, Any]:
    version = part(obj, "metadata").get("resourceVersion")
    return {"resourceVersion": version} if version else {}


def _row_object(obj: Object, include_object: IncludeObject) -> Object | None:
    if include_object == "None":
        return None
    if include_object == "Object":
        return obj
    return {"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": obj.get("metadata") or {}}
