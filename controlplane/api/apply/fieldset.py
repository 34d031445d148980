"""Sets of fields as managedFields names them, and the values an object has at them.

A path is a tuple of elements, each spelled as in FieldsV1:

    f:spec   a field or a map's key        k:{"name":"a"}   the item of a list with these keys
    v:"x"    a member of a set             .                (only encoded) the container itself

    ("f:spec", "f:containers", 'k:{"name":"a"}', "f:image")    prints    .spec.containers[name="a"].image

The rule: a list or a map is looked into only when the schema says it is granular; an atomic one is a single leaf.
Source: KEP-555; "Server-Side Apply" in the Kubernetes documentation; structured-merge-diff's fieldpath serialization.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import orjson

from podnet.controlplane.api.errors import bad_request
from podnet.controlplane.api.schema_node import Node

Path = tuple[str, ...]
CONTAINER = object()
"""The value at a path that is a granular container: it is there, and that is all there is to compare."""

_KEY_DEFAULTS = {"protocol": "TCP"}
"""Defaults of list-map-keys: the only one among the built-in kinds is that of ports."""


def is_atomic(node: Node | None, value: Any) -> bool:
    """Whether the value is owned as one. Without a schema maps are granular and lists atomic."""
    if isinstance(value, dict):
        return node is not None and (node.map_type == "atomic" or node.kind not in {"struct", "map"})
    if isinstance(value, list):
        return node is None or node.list_type not in {"map", "set"}
    return True


def child_of(node: Node | None, name: str) -> Node | None:
    """The node of a field or of a map's value."""
    if node is None:
        return None
    return node.item if node.kind == "map" else node.fields.get(name)


def item_of(node: Node | None) -> Node | None:
    """The node of a list's items."""
    return None if node is None else node.item


def element_of(node: Node | None, item: Any) -> str:
    """The path element of an item of a granular list. Raises StatusError 400 for an item without its keys."""
    if node is None or node.list_type == "set":
        return "v:" + orjson.dumps(item).decode()
    keys: dict[str, Any] = {}
    for key in node.list_map_keys:
        value = item.get(key, _KEY_DEFAULTS.get(key)) if isinstance(item, dict) else None
        if value is None:
            raise bad_request(
                f"associative list with keys has an element that omits key field {orjson.dumps(key).decode()}"
            )
        keys[key] = value
    return "k:" + orjson.dumps(keys, option=orjson.OPT_SORT_KEYS).decode()


def values_by_path(node: Node | None, value: Any, path: Path = ()) -> Iterator[tuple[Path, Any]]:
    """Every path the value owns, with the leaf's value or CONTAINER."""
    if is_atomic(node, value):
        yield path, value
    elif isinstance(value, dict):
        if not value and path:
            yield path, CONTAINER
        for name, child in value.items():
            where = (*path, f"f:{name}")
            yield from values_by_path(child_of(node, name), child, where)
            if node is not None and node.kind == "map" and isinstance(child, (dict, list)):
                yield where, CONTAINER
    else:
        for item in value:
            where = (*path, element_of(node, item))
            yield where, CONTAINER
            if isinstance(item, dict):
                yield from values_by_path(item_of(node), item, where)


def without(node: Node | None, value: Any, remove: frozenset[Path], path: Path = ()) -> Any:
    """The value without the fields at `remove`; a container that loses all it had goes too (None)."""
    if is_atomic(node, value):
        return value
    if isinstance(value, dict):
        kept: dict[str, Any] = {}
        for name, child in value.items():
            where = (*path, f"f:{name}")
            rest = (
                None
                if where in remove and _leaf_at(node, name, child)
                else without(child_of(node, name), child, remove, where)
            )
            if rest is not None or child is None:
                kept[name] = rest
        return kept if kept or not value else None
    items = []
    for item in value:
        where = (*path, element_of(node, item))
        if where in remove:
            continue
        keys = {(*where, f"f:{key}") for key in node.list_map_keys} if node is not None else set()
        items.append(without(item_of(node), item, remove - keys, where) if isinstance(item, dict) else item)
    return items or None


def _leaf_at(node: Node | None, name: str, child: Any) -> bool:
    """A granular container is emptied through its parts, so that what others own in it stays."""
    return is_atomic(child_of(node, name), child) or not child


def encode(paths: Iterable[Path]) -> dict[str, Any]:
    """A set as FieldsV1."""
    root: dict[str, Any] = {}
    members = sorted(paths)
    for path in members:
        place = root
        for element in path:
            place = place.setdefault(element, {})
    for path in members:  # a member that also has parts needs the dot to say so
        place = root
        for element in path:
            place = place[element]
        if place:
            place["."] = {}
    return _sorted(root)


def _sorted(tree: dict[str, Any]) -> dict[str, Any]:
    return {element: _sorted(tree[element]) for element in sorted(tree)}


def decode(fields: Mapping[str, Any], path: Path = ()) -> Iterator[Path]:
    """The paths of a FieldsV1."""
    for element, inner in fields.items():
        if element == ".":
            yield path
        elif not isinstance(inner, dict) or not inner:
            yield (*path, element)
        else:
            yield from decode(inner, (*path, element))


def render(path: Path) -> str:
    """A path as conflicts name it."""
    out = []
    for element in path:
        kind, _, text = element.partition(":")
        if kind == "f":
            out.append(f".{text}")
        elif kind == "k":
            keys = orjson.loads(text)
            out.append("[" + ",".join(f"{key}={orjson.dumps(value).decode()}" for key, value in keys.items()) + "]")
        elif kind == "i":
            out.append(f"[{text}]")
        else:
            out.append(f"[={text}]")
    return "".join(out)
