"""The compiled form of Kubernetes' schemas: a tree of nodes, each knowing its Go type, its fields and its merge rules.

A node is one *use* of a type: `PodSpec.containers` has a merge key of its own, its item type `Container` is shared. Nodes
resolve their fields on first use, so a process pays only for the kinds it meets, and recursive types end.

    struct    fields by name           map      values of one kind
    list      items of one kind        leaf     string int32 int64 number bool time micro quantity int_or_string bytes any

Each node offers two compiled closures: `accepts(value)`, which is the fast "nothing is wrong here", and
`decode(value)`, what a Go server would hold after decoding. What is wrong, and where, is `schema_errors`' job.
Source: OpenAPI of Kubernetes 1.32 and its x-kubernetes-* extensions; encoding/json for what a field accepts.
"""

from __future__ import annotations

import binascii
from collections.abc import Callable, Mapping
from typing import Any, Literal

from podnet.controlplane.api import quantity, timestamps

Kind = Literal[
    "struct", "map", "list", "string", "int32", "int64", "number", "bool", "time", "micro", "quantity", "int_or_string",
    "bytes", "any", "object",
]  # fmt: skip

_REF = "#/$defs/"
_META = "io.k8s.apimachinery.pkg."
_SPECIAL: dict[str, tuple[Kind, str]] = {
    _META + "apis.meta.v1.Time": ("time", "v1.Time"),
    _META + "apis.meta.v1.MicroTime": ("micro", "v1.MicroTime"),
    _META + "api.resource.Quantity": ("quantity", "resource.Quantity"),
    _META + "util.intstr.IntOrString": ("int_or_string", "intstr.IntOrString"),
}
_INT_RANGE = {"int32": 2**31, "int64": 2**63}


class Node:
    """One use of a type. `go_type` is what Go's reflection calls it, `struct_name` the bare name of a struct."""

    __slots__ = (
        "_accepts", "_decode", "_definition", "_definitions", "_fields", "_item", "go_type", "kind", "list_map_keys",
        "list_type", "map_type", "merge_key", "strategies", "struct_name",
    )  # fmt: skip

    def __init__(self, definitions: Mapping[str, Any], use: Mapping[str, Any], name: str = "") -> None:
        self._definitions = definitions
        target = use.get("$ref")
        if isinstance(target, str):
            name = target.removeprefix(_REF)
            definition = definitions[name]
        else:
            definition = use
        self._definition = definition
        self._fields: dict[str, Node] | None = None
        self._item: Node | None = None
        self._accepts: Callable[[Any], bool] | None = None
        self._decode: Callable[[Any], Any] | None = None
        self.struct_name = name.rpartition(".")[2]
        self.kind: Kind = _kind(definition, name)
        strategy = use.get("x-kubernetes-patch-strategy") or ""
        self.strategies: frozenset[str] = frozenset(strategy.split(",")) if strategy else frozenset()
        self.merge_key: str | None = use.get("x-kubernetes-patch-merge-key")
        self.list_type: str | None = use.get("x-kubernetes-list-type")
        self.list_map_keys: tuple[str, ...] = tuple(use.get("x-kubernetes-list-map-keys") or ())
        self.map_type: str | None = use.get("x-kubernetes-map-type") or definition.get("x-kubernetes-map-type")
        self.go_type = _go_type(self, name)

    @property
    def fields(self) -> dict[str, Node]:
        """The fields of a struct by JSON name (none for other kinds)."""
        if self._fields is None:
            properties = self._definition.get("properties") or {} if self.kind == "struct" else {}
            self._fields = {name: Node(self._definitions, use) for name, use in properties.items()}
        return self._fields

    @property
    def item(self) -> Node:
        """What a list or a map holds (an `any` node where the schema does not say)."""
        if self._item is None:
            use = self._definition.get("items" if self.kind == "list" else "additionalProperties")
            self._item = Node(self._definitions, use if isinstance(use, dict) else {})
        return self._item

    @property
    def required(self) -> tuple[str, ...]:
        """Fields OpenAPI calls required (validation is code; this is for documents)."""
        return tuple(self._definition.get("required") or ())

    @property
    def merges(self) -> bool:
        """A list which a strategic merge patch merges instead of replacing it."""
        return "merge" in self.strategies

    @property
    def accepts(self) -> Callable[[Any], bool]:
        """`accepts(value)`: every field is known and has the type it must have."""
        if self._accepts is None:
            self._accepts = _compile_accepts(self)
        return self._accepts

    @property
    def decode(self) -> Callable[[Any], Any]:
        """`decode(value)`: the value without what a Go server would not keep, quantities and times in canonical form.

        Not kept are unknown fields, nulls, and empty maps and lists of fields that are not required (`omitempty`).

        Returns the very same object where nothing changes; never changes its argument.
        """
        if self._decode is None:
            self._decode = _compile_decode(self)
        return self._decode


def _kind(definition: Mapping[str, Any], name: str) -> Kind:
    if name in _SPECIAL:
        return _SPECIAL[name][0]
    if "properties" in definition:
        return "struct"
    declared = definition.get("type")
    kind = next((entry for entry in declared if entry != "null"), None) if isinstance(declared, list) else declared
    form = definition.get("format")
    if kind == "object":
        return "map" if isinstance(definition.get("additionalProperties"), dict) else "object"
    if kind == "array":
        return "list"
    if kind == "string":
        return "bytes" if form == "byte" else "string"
    if kind == "integer":
        return "int32" if form == "int32" else "int64"
    if kind == "number":
        return "number"
    if kind == "boolean":
        return "bool"
    return "any"


def _go_type(node: Node, name: str) -> str:
    if name in _SPECIAL:
        return _SPECIAL[name][1]
    if node.kind in {"struct", "object"} and name:
        package, _, own = name.rpartition(".")
        return f"{package.rpartition('.')[2]}.{own}"
    if node.kind == "list":
        return f"[]{node.item.go_type}"
    if node.kind == "map":
        return f"map[string]{node.item.go_type}"
    plain: dict[str, str] = {
        "number": "float64",
        "bytes": "[]uint8",
        "any": "interface {}",
        "object": "map[string]interface {}",
    }
    return plain.get(node.kind, node.kind)


# --- accepts ---------------------------------------------------------------------------------------------------------


def is_base64(text: str) -> bool:
    """Standard base64 with padding; line breaks are skipped, as Go does."""
    try:
        binascii.a2b_base64(text.replace("\n", "").replace("\r", ""), strict_mode=True)
    except (binascii.Error, ValueError):
        return False
    return True


def _accepts_int(bits: str) -> Callable[[Any], bool]:
    limit = _INT_RANGE[bits]
    return lambda value: value is None or (type(value) is int and -limit <= value < limit)


_INT32 = _accepts_int("int32")
_LEAF: dict[str, Callable[[Any], bool]] = {
    "string": lambda value: type(value) is str or value is None,
    "int32": _INT32,
    "int64": _accepts_int("int64"),
    "number": lambda value: value is None or type(value) in (int, float),
    "bool": lambda value: type(value) is bool or value is None,
    "time": lambda value: value is None or (type(value) is str and timestamps.is_time(value)),
    "micro": lambda value: value is None or (type(value) is str and timestamps.is_micro_time(value)),
    "quantity": lambda value: value is None or quantity.is_valid(value),
    "int_or_string": lambda value: type(value) is str or _INT32(value),
    "bytes": lambda value: value is None or (type(value) is str and is_base64(value)),
    "any": lambda _value: True,
    "object": lambda value: type(value) is dict or value is None,
}


def _compile_accepts(node: Node) -> Callable[[Any], bool]:
    if node.kind == "struct":
        return _accepts_struct(node)
    if node.kind == "list":
        item = node.item
        return lambda value: value is None or (type(value) is list and all(map(item.accepts, value)))
    if node.kind == "map":
        item = node.item
        return lambda value: value is None or (type(value) is dict and all(map(item.accepts, value.values())))
    return _LEAF[node.kind]


def _accepts_struct(node: Node) -> Callable[[Any], bool]:
    checks: dict[str, Callable[[Any], bool]] = {}
    fields = node.fields

    def accepts(value: Any) -> bool:
        if type(value) is not dict:
            return value is None
        for name, child in value.items():
            check = checks.get(name)
            if check is None:  # compiled at the first meeting, so that recursive types end
                field = fields.get(name)
                if field is None:
                    return False
                check = checks[name] = field.accepts
            if not check(child):
                return False
        return True

    return accepts


# --- decode ----------------------------------------------------------------------------------------------------------

_ZERO: dict[str, Any] = {
    "string": "", "int32": 0, "int64": 0, "number": 0, "bool": False, "quantity": "0", "int_or_string": 0, "bytes": "",
}  # fmt: skip


def _zero(node: Node) -> Any:
    """What Go holds for a null inside a list or a map."""
    return {} if node.kind == "struct" else _ZERO.get(node.kind)


def _same(value: Any) -> Any:
    return value


def _decode_time(value: Any) -> Any:
    if type(value) is not str or (len(value) == 20 and value[19] == "Z"):
        return value
    try:
        return timestamps.format_time(timestamps.parse_time(value))
    except (ValueError, OverflowError):
        return value


def _decode_quantity(value: Any) -> Any:
    try:
        text = quantity.canonical(value)
    except quantity.QuantityError:
        return value
    return value if text == value else text


def _compile_decode(node: Node) -> Callable[[Any], Any]:
    if node.kind == "struct":
        return _decode_struct(node)
    if node.kind == "list":
        return _decode_list(node)
    if node.kind == "map":
        return _decode_map(node)
    if node.kind == "time":
        return _decode_time
    return _decode_quantity if node.kind == "quantity" else _same


def _decode_struct(node: Node) -> Callable[[Any], Any]:
    fields = node.fields
    omit_empty = {name for name, field in fields.items() if field.kind in {"map", "list"}} - set(node.required)

    def decode(value: Any) -> Any:
        if type(value) is not dict:
            return value
        changed: dict[str, Any] | None = None
        for name, child in value.items():
            field = fields.get(name)
            if field is None or child is None or (not child and name in omit_empty):
                changed = dict(value) if changed is None else changed
                del changed[name]
                continue
            decoded = field.decode(child)
            if decoded is not child:
                changed = dict(value) if changed is None else changed
                changed[name] = decoded
        return value if changed is None else changed

    return decode


def _decode_list(node: Node) -> Callable[[Any], Any]:
    item = node.item
    if item.kind == "any":
        return _same

    def decode(value: Any) -> Any:
        if type(value) is not list:
            return value
        decoded = [_zero(item) if child is None else item.decode(child) for child in value]
        return value if all(map(_is, decoded, value)) else decoded

    return decode


def _decode_map(node: Node) -> Callable[[Any], Any]:
    item = node.item
    if item.kind == "any":
        return _same

    def decode(value: Any) -> Any:
        if type(value) is not dict:
            return value
        decoded = {name: _zero(item) if child is None else item.decode(child) for name, child in value.items()}
        return value if all(map(_is, decoded.values(), value.values())) else decoded

    return decode


def _is(left: Any, right: Any) -> bool:
    return left is right
