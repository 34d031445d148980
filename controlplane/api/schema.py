"""Kubernetes' own schemas, as the kubernetes-validate package carries them (v1.32), compiled on first use.

`strict_errors`, `type_errors` and `prune_unknown` are the three things a decoder has to say about a body; `node` gives
patches and server-side apply their merge keys. Kinds without a schema (custom resources) check only their metadata.
Source: OpenAPI of Kubernetes 1.32, api/openapi-spec in k/k, through kubernetes-validate's `v1.32.0-local`.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from functools import cache
from itertools import islice
from pathlib import Path
from typing import Any

import orjson

from podnet.controlplane.api.schema_errors import (
    MAX_UNKNOWN_FIELDS,
    TypeProblem,
    type_problems,
    unknown_fields,
)
from podnet.controlplane.api.schema_node import Node
from podnet.controlplane.api.types import Object

__all__ = [
    "Node",
    "TypeProblem",
    "decode_error",
    "definition",
    "definition_name",
    "definitions",
    "list_map_keys",
    "merge_key",
    "node",
    "prune_unknown",
    "strict_errors",
    "type_errors",
]

_PACKAGE = "kubernetes_validate"
_FILE = "kubernetes-json-schema/v1.32.0-local/_definitions.json"
_OBJECT_META = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"
_CUSTOM = {
    "properties": {
        "apiVersion": {"type": "string"},
        "kind": {"type": "string"},
        "metadata": {"$ref": f"#/$defs/{_OBJECT_META}"},
    }
}


class SchemaNotFoundError(RuntimeError):
    """The package with the schemas, or its 1.32 file, is not installed."""


@cache
def definitions() -> Mapping[str, Any]:
    """Every definition by its full name, as JSON schema with x-kubernetes-* extensions. Do not change it."""
    # find_spec does not import the package: that would pull in a JSON schema validator nobody here needs.
    spec = importlib.util.find_spec(_PACKAGE)
    if spec is None or spec.origin is None:
        raise SchemaNotFoundError(f"python package {_PACKAGE} is not installed: it carries the Kubernetes schemas")
    path = Path(spec.origin).parent / _FILE
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise SchemaNotFoundError(f"cannot read the Kubernetes schemas: {error}") from error
    loaded: Mapping[str, Any] = orjson.loads(raw)["$defs"]
    return loaded


@cache
def _names_by_kind() -> Mapping[tuple[str, str], str]:
    names: dict[tuple[str, str], str] = {}
    for name, schema in definitions().items():
        for gvk in schema.get("x-kubernetes-group-version-kind") or ():
            group, version = gvk["group"], gvk["version"]
            names[f"{group}/{version}" if group else version, gvk["kind"]] = name
    return names


def definition_name(api_version: str, kind: str) -> str | None:
    """`("apps/v1", "Deployment")` -> `io.k8s.api.apps.v1.Deployment`."""
    return _names_by_kind().get((api_version, kind))


def definition(api_version: str, kind: str) -> Mapping[str, Any] | None:
    """The JSON schema of a kind, None for kinds that are not built in."""
    name = definition_name(api_version, kind)
    return None if name is None else definitions()[name]


@cache
def node(api_version: str, kind: str) -> Node | None:
    """The compiled schema of a kind, None for kinds that are not built in."""
    name = definition_name(api_version, kind)
    return None if name is None else Node(definitions(), {"$ref": f"#/$defs/{name}"})


@cache
def _custom_node() -> Node:
    return Node(definitions(), _CUSTOM)


def _node_of(obj: Mapping[str, Any]) -> Node | None:
    api_version, kind = obj.get("apiVersion"), obj.get("kind")
    if not isinstance(api_version, str) or not isinstance(kind, str):
        return None
    return node(api_version, kind)


def strict_errors(obj: Object) -> list[str]:
    """`unknown field "spec.containers[0].foo"` for each field the schema does not know (at most 100)."""
    schema = _node_of(obj)
    if schema is None:
        metadata = obj.get("metadata")
        paths = unknown_fields(_custom_node().fields["metadata"], metadata, "metadata")
    elif schema.accepts(obj):
        return []
    else:
        paths = unknown_fields(schema, obj)
    return [f'unknown field "{path}"' for path in islice(paths, MAX_UNKNOWN_FIELDS)]


def type_errors(obj: Object) -> list[TypeProblem]:
    """Values of the wrong type, in document order. `str()` of one is what Go's decoder says of it."""
    schema = _node_of(obj)
    if schema is None:
        schema = _custom_node()
        obj = {name: obj[name] for name in ("apiVersion", "kind", "metadata") if name in obj}
    if schema.accepts(obj):
        return []
    return list(type_problems(schema, obj))


def decode_error(obj: Object) -> str | None:
    """Upstream's whole sentence for a body that cannot be decoded, None when it can: the message of a 400."""
    problem = _first_problem(obj)
    if problem is None:
        return None
    kind, version = obj.get("kind"), str(obj.get("apiVersion") or "").rpartition("/")[2]
    return f'{kind} in version "{version}" cannot be handled as a {kind}: {problem}'


def _first_problem(obj: Object) -> str | None:
    try:
        return next(map(str, type_errors(obj)), None)
    except RecursionError:  # only a CRD's schema can nest itself that deep
        return "exceeded max depth"


def prune_unknown(obj: Object) -> Object:
    """The object as a Go server holds it after decoding: unknown fields and nulls gone, quantities and times canonical.

    Shares what did not change with its argument, which it leaves alone.
    """
    schema = _node_of(obj)
    if schema is not None:
        pruned: Object = schema.decode(obj)
        return pruned
    metadata = obj.get("metadata")
    decoded = _custom_node().fields["metadata"].decode(metadata)
    return obj if decoded is metadata else {**obj, "metadata": decoded}


def at(schema: Node | None, *path: str) -> Node | None:
    """The node at a path of field names; list items and map values are passed through without a step of their own."""
    for name in path:
        while schema is not None and schema.kind in {"list", "map"}:
            schema = schema.item
        schema = None if schema is None else schema.fields.get(name)
    return schema


def merge_key(api_version: str, kind: str, *path: str) -> str | None:
    """The strategic merge key of a list, such as `name` for `spec.containers`; None when the list is replaced."""
    found = at(node(api_version, kind), *path)
    return found.merge_key if found is not None and found.merges else None


def list_map_keys(api_version: str, kind: str, *path: str) -> tuple[str, ...]:
    """The keys of a list of list-type map, such as (containerPort, protocol); empty for other lists."""
    found = at(node(api_version, kind), *path)
    return found.list_map_keys if found is not None and found.list_type == "map" else ()
