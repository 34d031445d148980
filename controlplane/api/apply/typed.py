"""What server-side apply says of values that are not of their field's type.

    .data.a: expected string, got &value.valueUnstructured{Value:5}
    .spec.template.spec.containers[name="c"].ports: expected list, got &{map[]}

The rule: what has a type of its own in Go (times, quantities, IntOrString, bytes) is a scalar here, and any scalar will
do: what is wrong with it is found later, by the decoder. Source: structured-merge-diff typed/validate.go.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import orjson

from podnet.controlplane.api.apply.fieldset import Path, element_of, render
from podnet.controlplane.api.errors import StatusError
from podnet.controlplane.api.patch.list_order import go_value
from podnet.controlplane.api.schema_node import Node


def type_conflicts(node: Node | None, value: Any, path: Path = ()) -> Iterator[str]:
    """Every value of a wrong type, with its path, in document order."""
    if node is None or value is None:
        return
    if node.kind in {"struct", "map"}:
        if not isinstance(value, dict):
            yield f"{render(path)}: expected map, got {_pointer(value)}"
            return
        for name, child in value.items():
            field = node.item if node.kind == "map" else node.fields.get(name)
            if field is not None:
                yield from type_conflicts(field, child, (*path, f"f:{name}"))
    elif node.kind == "list":
        if not isinstance(value, list):
            yield f"{render(path)}: expected list, got {_pointer(value)}"
            return
        for index, child in enumerate(value):
            yield from type_conflicts(node.item, child, (*path, _element(node, index, child)))
    else:
        problem = _scalar_problem(node, value)
        if problem:
            yield f"{render(path)}: {problem}"


def _element(node: Node, index: int, item: Any) -> str:
    if node.list_type not in {"map", "set"}:
        return f"i:{index}"
    try:
        return element_of(node, item)
    except StatusError:
        return f"i:{index}"


def _scalar_problem(node: Node, value: Any) -> str:
    if node.kind == "string" and not isinstance(value, str):
        return f"expected string, got &value.valueUnstructured{{Value:{_syntax(value)}}}"
    if node.kind in {"int32", "int64", "number"} and (isinstance(value, bool) or not isinstance(value, (int, float))):
        return f"expected numeric (int or float), got {_go_type(value)}"
    if node.kind == "bool" and not isinstance(value, bool):
        return f"expected boolean, got {_pointer(value)}"
    return ""


def _pointer(value: Any) -> str:
    return f"&{{{go_value(value)}}}"


def _syntax(value: Any) -> str:
    """A value as Go's %#v has it."""
    if isinstance(value, dict):
        inner = ", ".join(f"{orjson.dumps(key).decode()}:{_syntax(value[key])}" for key in sorted(value))
        return f"map[string]interface {{}}{{{inner}}}"
    if isinstance(value, list):
        return f"[]interface {{}}{{{', '.join(_syntax(item) for item in value)}}}"
    return "interface {}(nil)" if value is None else orjson.dumps(value).decode()


def _go_type(value: Any) -> str:
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, str):
        return "string"
    return "[]interface {}" if isinstance(value, list) else "map[string]interface {}"
