"""Server-side apply and the book-keeping of managedFields.

`apply` merges what a manager wants into the live object, takes away what it wanted before and no longer does (unless
someone else owns it too), and refuses to change what others own unless forced. `track_update` records who changed what by
any other kind of write.

The rule: every field has the owners that set it; a field nobody owns any more goes with its last applier's interest.
Source: KEP-555; "Server-Side Apply" in the Kubernetes documentation; conflict messages of apimachinery managedfields.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal

from podnet.controlplane.api.apply.fieldset import Path, decode, encode, render, values_by_path, without
from podnet.controlplane.api.apply.merge import merged
from podnet.controlplane.api.errors import StatusError, bad_request
from podnet.controlplane.api.meta import deep_copy
from podnet.controlplane.api.schema_node import Node
from podnet.controlplane.api.types import Object

BEFORE_FIRST_APPLY = "before-first-apply"
_NOT_OWNED = frozenset(
    {("f:apiVersion",), ("f:kind",)}
    | {
        ("f:metadata", f"f:{name}")
        for name in (
            "name", "namespace", "uid", "resourceVersion", "creationTimestamp", "generation", "managedFields", "selfLink",
            "deletionTimestamp", "deletionGracePeriodSeconds",
        )
    }
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Manager:
    """One entry of managedFields; `paths` is what it owns."""

    name: str
    operation: Literal["Apply", "Update"]
    api_version: str
    time: str
    subresource: str = ""
    paths: frozenset[Path] = frozenset()

    def same_as(self, other: Manager) -> bool:
        """Whether both are one manager; an applier is one whatever version it speaks."""
        if (self.name, self.operation, self.subresource) != (other.name, other.operation, other.subresource):
            return False
        return self.operation == "Apply" or self.api_version == other.api_version

    def __str__(self) -> str:
        text = f'"{self.name}"' + (f' with subresource "{self.subresource}"' if self.subresource else "")
        return f"{text} using {self.api_version}" if self.operation == "Update" else text


def apply(  # the seven are the request: spelling them out beats an object made for one call
    live: Object | None,
    applied: Object,
    manager: str,
    *,
    force: bool,
    schema: Node | None,
    time: str,
    subresource: str = "",
) -> Object:
    """The object after `manager` applied `applied`, with managedFields.

    Raises StatusError 400 for a body that cannot be applied, 409 Conflict when others own what it would change.
    """
    if not manager:
        raise bad_request(
            "PatchOptions.meta.k8s.io is invalid: fieldManager: Required value: is required for apply patch"
        )
    if (applied.get("metadata") or {}).get("managedFields"):
        raise bad_request("metadata.managedFields must be nil")
    wanted = _owned(applied, schema)
    me = Manager(manager, "Apply", applied.get("apiVersion", ""), time, subresource, frozenset(wanted))
    if live is None:
        return _with_managers(applied, [me])
    managers = _managers(live, schema)
    mine = next((entry for entry in managers if entry.same_as(me)), None)
    others = [entry for entry in managers if not entry.same_as(me)]
    result: Object = merged(_bare(live), _bare(applied), schema)
    if mine is not None:
        result = without(schema, result, _abandoned(mine.paths - me.paths, others), ()) or {}
    before, after = _owned(live, schema), _owned(result, schema)
    changed = frozenset(path for path in wanted if path not in before or before[path] != after.get(path))
    conflicts = [(entry, path) for entry in others for path in sorted(entry.paths & changed)]
    if conflicts and not force:
        raise _conflict(conflicts)
    others = [replace(entry, paths=(entry.paths - changed) & after.keys()) for entry in others]
    if mine is not None and mine.paths == me.paths and before == after:
        me = replace(me, time=mine.time)  # an apply that changes nothing leaves no trace
    return _with_managers(result, [me, *others])


def track_update(
    old: Object | None, new: Object, manager: str, *, schema: Node | None, time: str, subresource: str = ""
) -> Object:
    """`new` with managedFields that give `manager` what it added or changed and take from everyone what is gone."""
    after = _owned(new, schema)
    managers = _entries(old) if old is not None else []
    before = _owned(old, schema) if old is not None else {}
    changed = frozenset(path for path, value in after.items() if path not in before or before[path] != value)
    me = Manager(manager, "Update", new.get("apiVersion", ""), time, subresource, changed)
    out: list[Manager] = []
    for entry in managers:
        if entry.same_as(me):
            me = replace(me, paths=me.paths | (entry.paths & after.keys()), time=time if changed else entry.time)
        else:
            out.append(replace(entry, paths=(entry.paths - changed) & after.keys()))
    return _with_managers(new, [*out, me])


def _bare(obj: Object) -> Object:
    metadata = {name: value for name, value in (obj.get("metadata") or {}).items() if name != "managedFields"}
    return {**obj, "metadata": metadata}


def _owned(obj: Object, schema: Node | None) -> dict[Path, Any]:
    return {path: value for path, value in values_by_path(schema, _bare(obj)) if path not in _NOT_OWNED}


def _abandoned(paths: frozenset[Path], others: list[Manager]) -> frozenset[Path]:
    """What nobody else owns, nor owns a part of."""
    held = {path[:length] for entry in others for path in entry.paths for length in range(1, len(path) + 1)}
    return paths - held


def _entries(obj: Object) -> list[Manager]:
    out: list[Manager] = []
    for entry in (obj.get("metadata") or {}).get("managedFields") or ():
        paths = frozenset(decode(entry.get("fieldsV1") or {}))
        operation: Literal["Apply", "Update"] = "Apply" if entry.get("operation") == "Apply" else "Update"
        name, version = entry.get("manager") or "", entry.get("apiVersion") or ""
        out.append(Manager(name, operation, version, entry.get("time") or "", entry.get("subresource") or "", paths))
    return out


def _managers(live: Object, schema: Node | None) -> list[Manager]:
    """The managers of an object; all of one that was never tracked belongs to `before-first-apply`."""
    found = _entries(live)
    if found:
        return found
    created = (live.get("metadata") or {}).get("creationTimestamp") or ""
    paths = frozenset(_owned(live, schema))
    return [Manager(BEFORE_FIRST_APPLY, "Update", live.get("apiVersion", ""), created, "", paths)]


def _with_managers(obj: Object, managers: list[Manager]) -> Object:
    result: Object = deep_copy(obj)
    entries = [_entry(manager) for manager in managers if manager.paths]
    metadata = result.setdefault("metadata", {})
    metadata.pop("managedFields", None)
    if entries:
        # Appliers first, then by time, as upstream sorts them.
        entries.sort(key=lambda entry: (entry["operation"], entry.get("time", ""), entry["manager"]))
        metadata["managedFields"] = entries
    return result


def _entry(manager: Manager) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "manager": manager.name,
        "operation": manager.operation,
        "apiVersion": manager.api_version,
        "time": manager.time,
        "fieldsType": "FieldsV1",
        "fieldsV1": encode(manager.paths),
    }
    if manager.subresource:
        entry["subresource"] = manager.subresource
    if not manager.time:
        del entry["time"]
    return entry


def _conflict(conflicts: list[tuple[Manager, Path]]) -> StatusError:
    causes = [
        {"reason": "FieldManagerConflict", "message": f"conflict with {manager}", "field": render(path)}
        for manager, path in conflicts
    ]
    if len(conflicts) == 1:
        manager, path = conflicts[0]
        message = f"Apply failed with 1 conflict: conflict with {manager}: {render(path)}"
    else:
        lines: list[str] = []
        for name in sorted({str(manager) for manager, _ in conflicts}):
            lines.append(f"conflicts with {name}:")
            lines += [f"- {render(path)}" for manager, path in conflicts if str(manager) == name]
        message = f"Apply failed with {len(conflicts)} conflicts: " + "\n".join(lines)
    return StatusError(409, "Conflict", message, {"causes": causes})
