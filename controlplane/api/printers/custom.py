r"""Tables of custom resources: the columns a CustomResourceDefinition declares, each with a path into the object.

Only the part of JSONPath that definitions use is read: `.spec.replicas`, `.spec.hosts[0]`, `.spec.hosts[*]`,
`.metadata.labels['a\\.b']` and `.status.conditions[?(@.type=="Ready")].status`.

Rule: a path that leads nowhere is a null cell, which kubectl prints as `<none>`; a path that cannot be read is one too.
Source: Kubernetes concepts "Additional printer columns"; apiextensions-apiserver's table convertor.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from podnet.controlplane.api import timestamps
from podnet.controlplane.api.printers.cells import Printer, name, parse_column
from podnet.controlplane.api.types import Object

_STEP = re.compile(
    r"""\.(?P<field>(?:[^.\[\]\\]|\\.)+)"""
    r"""|\[(?P<index>-?\d+|\*)\]"""
    r"""|\[['"](?P<key>[^'"]*)['"]\]"""
    r"""|\[\?\(@\.(?P<test>[\w.\-]+)\s*==\s*['"](?P<value>[^'"]*)['"]\)\]""",
    re.ASCII,
)
_AGE = {"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"}


def custom_printer(columns: Sequence[dict[str, Any]] | None) -> Printer:
    """The printer for a version's `additionalPrinterColumns`; with none declared, Name and Age."""
    declared = list(columns or [_AGE])
    definitions = [parse_column("Name")]
    definitions += [
        {
            "name": column.get("name") or "",
            "type": column.get("type") or "string",
            "format": column.get("format") or "",
            "description": column.get("description") or "",
            "priority": column.get("priority") or 0,
        }
        for column in declared
    ]
    paths = [(_parse_path(column.get("jsonPath") or ""), column.get("type") or "string") for column in declared]

    def cells(obj: Object, now: float) -> list[Any]:
        return [name(obj), *(_cell(obj, path, type_, now) for path, type_ in paths)]

    return Printer(tuple(definitions), cells)


def _parse_path(path: str) -> list[dict[str, str | None]] | None:
    """The steps of a path, None when it cannot be read."""
    path = path.strip().removeprefix("{").removesuffix("}").removeprefix("$")
    if path and path[0] not in ".[":
        path = "." + path
    steps, at = [], 0
    while at < len(path):
        match = _STEP.match(path, at)
        if match is None:
            return None
        steps.append(match.groupdict())
        at = match.end()
    return steps


def _cell(obj: Object, path: list[dict[str, str | None]] | None, type_: str, now: float) -> Any:
    found: list[Any] = [obj] if path else []
    for step in path or ():
        found = [value for item in found for value in _step(item, step)]
    if not found or found[0] is None:
        return None
    first = found[0]
    if type_ == "date":
        return timestamps.age(first, now) if isinstance(first, str) else None
    if type_ == "integer":
        return int(first) if isinstance(first, (int, float)) else None
    if type_ == "number":
        return first if isinstance(first, (int, float)) else None
    if type_ == "boolean":
        return first if isinstance(first, bool) else None
    return ",".join(_text(value) for value in found)


def _step(item: Any, step: dict[str, str | None]) -> list[Any]:
    field = step["field"] if step["field"] is not None else step["key"]
    if field is not None:
        key = field.replace("\\", "")
        return [item[key]] if isinstance(item, dict) and key in item else []
    if not isinstance(item, list):
        return []
    if step["index"] == "*":
        return item
    if step["index"] is not None:
        index = int(step["index"])
        return [item[index]] if -len(item) <= index < len(item) else []
    return [row for row in item if isinstance(row, dict) and _text(_dig(row, step["test"] or "")) == step["value"]]


def _dig(row: dict[str, Any], path: str) -> Any:
    value: Any = row
    for part in path.split("."):
        value = value.get(part) if isinstance(value, dict) else None
    return value


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (dict, list)):
        import json

        return json.dumps(value, separators=(",", ":"))
    return "" if value is None else str(value)
