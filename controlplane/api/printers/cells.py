"""What cells are made of: ages, label lists, container lists, and the columns' notation.

A column list is written `"Name, Ready, Desired:integer, Age, +IP"`: a type after the colon (string when there is none), a
plus for a wide column (priority 1). The column called Name has the format `name`.

Rule: a cell is never an error. An object that lacks a field prints what upstream prints for Go's zero value.
Source: k8s.io/kubernetes pkg/printers (the column definitions of 1.32), apimachinery meta/v1 FormatLabelSelector.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from podnet.controlplane.api import selectors, timestamps
from podnet.controlplane.api.types import Object

NONE, UNSET, UNKNOWN = "<none>", "<unset>", "<unknown>"

_DESCRIPTIONS = {
    "Name": "Name must be unique within a namespace.",
    "Age": "The time since the object was created.",
    "Created At": "The time at which the server created the object.",
}


@dataclass(frozen=True, slots=True)
class Printer:
    """How a kind prints: its column definitions, the cells of an object, and the row's conditions (Pods have some)."""

    columns: tuple[dict[str, Any], ...]
    cells: Callable[[Object, float], list[Any]]
    conditions: Callable[[Object], list[dict[str, str]]] = field(default=lambda _: [])


def printer(
    columns: str,
    cells: Callable[[Object, float], list[Any]],
    conditions: Callable[[Object], list[dict[str, str]]] | None = None,
) -> Printer:
    """A printer from the columns' notation."""
    definitions = tuple(parse_column(text.strip()) for text in columns.split(","))
    return Printer(definitions, cells, conditions) if conditions else Printer(definitions, cells)


def parse_column(text: str) -> dict[str, Any]:
    """One column of the notation as a TableColumnDefinition."""
    wide = text.startswith("+")
    name, _, type_ = text.lstrip("+").partition(":")
    type_, _, format_ = type_.partition("/")
    return {
        "name": name,
        "type": type_ or "string",
        "format": format_ or ("name" if name == "Name" else ""),
        "description": _DESCRIPTIONS.get(name, ""),
        "priority": int(wide),
    }


def part(obj: Object, *path: str) -> dict[str, Any]:
    """The object at a path, empty when any step is missing."""
    for name in path:
        value = obj.get(name)
        if not isinstance(value, dict):
            return {}
        obj = value
    return obj


def items(obj: Object, *path: str) -> list[Any]:
    """The list at a path, empty when it is missing."""
    value = part(obj, *path[:-1]).get(path[-1])
    return value if isinstance(value, list) else []


def name(obj: Object) -> str:
    """metadata.name."""
    return part(obj, "metadata").get("name") or ""


def age(obj: Object, now: float) -> str:
    """The time since creation."""
    return timestamps.age(part(obj, "metadata").get("creationTimestamp"), now)


def created_at(obj: Object) -> str | None:
    """The creation time as text, for the columns called Created At."""
    return part(obj, "metadata").get("creationTimestamp")


def terminating(obj: Object) -> bool:
    """Whether the object waits to be deleted."""
    return part(obj, "metadata").get("deletionTimestamp") is not None


def labels(pairs: Any) -> str:
    """`a=b,c=d` sorted by key."""
    return selectors.format_labels(pairs)


def selector(value: Any) -> str:
    """A LabelSelector: `a=b,c in (d,e),!f`; one that is absent or empty prints `<none>`."""
    return selectors.format_label_selector(value) if isinstance(value, dict) else NONE


def containers(pod_spec: dict[str, Any]) -> list[str]:
    """Two cells: the names and the images of the containers."""
    rows = [container for container in pod_spec.get("containers") or () if isinstance(container, dict)]
    return [",".join(row.get("name") or "" for row in rows), ",".join(row.get("image") or "" for row in rows)]


def some(texts: Iterable[str], empty: str, most: int = 3) -> str:
    """The first few, and how many more."""
    texts = list(texts)
    shown = ",".join(texts[:most])
    if len(texts) > most:
        shown = f"{shown} + {len(texts) - most} more..."
    return shown or empty


def boolean_text(value: Any) -> str:
    """`True` or `False` as text, `<unset>` for null."""
    return UNSET if value is None else str(bool(value))


def condition(obj: Object, type_: str) -> dict[str, Any] | None:
    """The status condition of a type."""
    for row in items(obj, "status", "conditions"):
        if isinstance(row, dict) and row.get("type") == type_:
            return row
    return None


def is_true(obj: Object, type_: str) -> bool:
    """Whether a status condition holds."""
    return (condition(obj, type_) or {}).get("status") == "True"
