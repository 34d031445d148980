"""OpenAPI v3 documents, one a group and version: what kubectl's create, apply, edit and explain read.

kubectl finds a kind through `paths`: an item path's PATCH operation that carries `x-kubernetes-group-version-kind` and a
query parameter `fieldValidation` tells it that this server validates; `explain` walks the schemas. The schemas are those
of Kubernetes 1.32 as kubernetes-validate ships them, turned from JSON Schema into OpenAPI's spelling.

Rule: pure; a document is a function of the registry and the schemas, built once and kept.
Source: k8s.io/kube-openapi pkg/handler3 and builder3, spec.openapis.org/oas/v3.0.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.resources
from collections.abc import Iterable, Mapping
from functools import cache, lru_cache
from typing import Any

import orjson

from podnet.controlplane.api.resources import RESOURCES
from podnet.controlplane.api.types import Object, Resource

Schemas = Mapping[str, Mapping[str, Any]]
Kinds = dict[tuple[str, str, str], str]

_NEW_REF = "#/components/schemas/"
_QUERY = {
    "dryRun": "When present, indicates that modifications should not be persisted.",
    "fieldManager": "The name of the actor that makes these changes.",
    "fieldValidation": "How to treat unknown or duplicate fields: Ignore, Warn or Strict.",
}
_ACTIONS = frozenset({"post", "put", "patch"})
_BODY_TYPES = ("application/json", "application/yaml", "application/vnd.kubernetes.protobuf")
_PATCH_TYPES = (
    "application/json-patch+json",
    "application/merge-patch+json",
    "application/strategic-merge-patch+json",
    "application/apply-patch+yaml",
)
_METHODS = {
    "get": ("get", "get"),
    "update": ("put", "put"),
    "patch": ("patch", "patch"),
    "delete": ("delete", "delete"),
}
_DOCUMENTS_MAX = 64
"""More than there are groups and versions; what else a URL may ask for is not remembered for ever."""
_FORMAT = "1"
"""Raised whenever this file renders differently, so that kubectl's cached copies go stale."""


def openapi_index(hashes: Mapping[str, str] | None = None) -> Object:
    """The document of `/openapi/v3`. `hashes` maps `api/v1`, `apis/apps/v1` … to hashes; by default the built-in ones,
    and a caller with CustomResourceDefinitions passes `document_hashes()` with its own added."""
    hashes = document_hashes() if hashes is None else hashes
    return {
        "paths": {path: {"serverRelativeURL": f"/openapi/v3/{path}?hash={hashes[path]}"} for path in sorted(hashes)}
    }


def document_hashes() -> dict[str, str]:
    """`api/v1`, `apis/apps/v1` … → hash, for every built-in group and version."""
    pairs = dict.fromkeys((resource.group, resource.version) for resource in RESOURCES)
    return {
        (f"apis/{group}/{version}" if group else f"api/{version}"): document_hash(group, version)
        for group, version in pairs
    }


@lru_cache(maxsize=_DOCUMENTS_MAX)
def document_hash(group: str, version: str) -> str:
    """What names a document's content: it changes with the registry's rows and with the schemas' release, so it is known
    without building the document."""
    rows = [repr(resource) for resource in _resources(group, version)]
    release = importlib.metadata.version("kubernetes-validate")
    return hashlib.sha512("\n".join([release, _FORMAT, *rows]).encode()).hexdigest().upper()


@lru_cache(maxsize=_DOCUMENTS_MAX)
def openapi_document(group: str, version: str) -> bytes | None:
    """The document of one built-in group and version as JSON bytes; None when there is no such version."""
    resources = _resources(group, version)
    return orjson.dumps(render_document(resources, schemas())) if resources else None


def _resources(group: str, version: str) -> list[Resource]:
    return [resource for resource in RESOURCES if (resource.group, resource.version) == (group, version)]


def render_document(resources: Iterable[Resource], definitions: Schemas) -> Object:
    """The document for some resources; `definitions` must hold their kinds in OpenAPI's spelling. CustomResources come
    in through here: their CRD's schema is the definition."""
    kinds = index_kinds(definitions)
    paths: dict[str, Any] = {}
    roots: set[str] = set()
    for resource in resources:
        paths.update(_paths(resource, kinds))
        lists = (resource.group, resource.version, resource.kind + "List")
        roots |= {kinds[lists]} if lists in kinds else set()
    roots |= {ref.removeprefix(_NEW_REF) for ref in _refs(paths)}
    return {
        "openapi": "3.0.0",
        "info": {"title": "Kubernetes", "version": "v1.32.4"},
        "paths": dict(sorted(paths.items())),
        "components": {"schemas": _closure(roots, definitions)},
    }


def _paths(resource: Resource, kinds: Kinds) -> dict[str, Any]:
    base = resource.path + ("/namespaces/{namespace}" if resource.namespaced else "")
    collection = f"{base}/{resource.plural}"
    item = f"{collection}/{{name}}"
    schema = kinds.get((resource.group, resource.version, resource.kind), "")
    paths: dict[str, Any] = {}
    operations = _collection_operations(resource, schema)
    if operations:
        paths[collection] = {**operations, "parameters": _path_parameters(collection)}
    if resource.namespaced and "list" in resource.verbs:
        everywhere = f"{resource.path}/{resource.plural}"
        paths[everywhere] = {"get": _operation(resource, "list", "", schema), "parameters": []}
    operations = {
        method: _operation(resource, action, method, schema)
        for verb, (method, action) in _METHODS.items()
        if verb in resource.verbs
    }
    if operations:
        paths[item] = {**operations, "parameters": _path_parameters(item)}
    for name, sub in resource.subresources.items():
        group, version = (sub.group, sub.version) if sub.group else (resource.group, resource.version)
        target = (group, version, sub.kind)
        sub_schema = kinds.get(target, "")
        verbs = {**_METHODS, "create": ("post", "post")}
        operations = {
            method: _operation(resource, "connect" if name in _CONNECT else action, method, sub_schema, target)
            for verb, (method, action) in verbs.items()
            if verb in sub.verbs
        }
        paths[f"{item}/{name}"] = {**operations, "parameters": _path_parameters(f"{item}/{name}")}
    return paths


_CONNECT = frozenset({"attach", "exec", "portforward", "proxy"})


def _collection_operations(resource: Resource, schema: str) -> dict[str, Any]:
    operations: dict[str, Any] = {}
    if "list" in resource.verbs:
        operations["get"] = _operation(resource, "list", "", schema)
    if "create" in resource.verbs:
        operations["post"] = _operation(resource, "post", "post", schema)
    if "deletecollection" in resource.verbs:
        operations["delete"] = _operation(resource, "deletecollection", "", schema)
    return operations


def _operation(
    resource: Resource, action: str, method: str, schema: str, target: tuple[str, str, str] | None = None
) -> dict[str, Any]:
    group, version, kind = target or (resource.group, resource.version, resource.kind)
    content = {"application/json": {"schema": {"$ref": _NEW_REF + schema}}} if schema else {}
    operation: dict[str, Any] = {
        "tags": [f"{(resource.group or 'core').split('.')[0]}_{resource.version}"],
        "responses": {"200": {"description": "OK", **({"content": content} if content else {})}},
        "x-kubernetes-action": action,
        "x-kubernetes-group-version-kind": {"group": group, "version": version, "kind": kind},
    }
    if action in _ACTIONS:
        operation["parameters"] = [_query(name, text) for name, text in _QUERY.items()]
        types = _PATCH_TYPES if method == "patch" else _BODY_TYPES
        body = {"$ref": _NEW_REF + (_PATCH if method == "patch" else schema)} if schema else {}
        operation["requestBody"] = {"required": True, "content": {type_: {"schema": body} for type_ in types}}
    return operation


_PATCH = "io.k8s.apimachinery.pkg.apis.meta.v1.Patch"


def _query(name: str, description: str) -> dict[str, Any]:
    return {"name": name, "in": "query", "description": description, "schema": {"type": "string", "uniqueItems": True}}


def _path_parameters(path: str) -> list[dict[str, Any]]:
    words = [part[1:-1] for part in path.split("/") if part.startswith("{")]
    return [
        {"name": word, "in": "path", "required": True, "schema": {"type": "string", "uniqueItems": True}}
        for word in words
    ]


def index_kinds(definitions: Schemas) -> Kinds:
    """(group, version, kind) → the name of the definition that says it is this kind."""
    index: Kinds = {}
    for name, schema in definitions.items():
        for gvk in schema.get("x-kubernetes-group-version-kind", ()):
            index.setdefault((gvk["group"], gvk["version"], gvk["kind"]), name)
    return index


def _closure(roots: Iterable[str], definitions: Schemas) -> dict[str, Any]:
    """The definitions that are reachable from `roots`, sorted by name."""
    found: dict[str, Any] = {}
    todo = [name for name in roots if name]
    while todo:
        name = todo.pop()
        if name not in found and name in definitions:
            found[name] = definitions[name]
            todo.extend(ref.removeprefix(_NEW_REF) for ref in _refs(definitions[name]))
    return dict(sorted(found.items()))


def _refs(node: Any) -> Iterable[str]:
    if isinstance(node, Mapping):
        ref = node.get("$ref")
        if isinstance(ref, str):
            yield ref
        for value in node.values():
            yield from _refs(value)
    elif isinstance(node, list):
        for value in node:
            yield from _refs(value)


@cache
def schemas() -> dict[str, dict[str, Any]]:
    """The definitions of Kubernetes 1.32 in OpenAPI's spelling, by name such as `io.k8s.api.core.v1.Pod`."""
    folder = importlib.resources.files("kubernetes_validate") / "kubernetes-json-schema" / "v1.32.0-local"
    document = orjson.loads((folder / "_definitions.json").read_bytes())
    return {name: to_openapi(schema) for name, schema in document["$defs"].items()}


def to_openapi(schema: Any) -> Any:
    """One JSON schema in OpenAPI's spelling: references moved, `[T, "null"]` is T, int-or-string has its format, and
    the constant `enum` that the package adds to apiVersion and kind is gone."""
    if isinstance(schema, list):
        return [to_openapi(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    out: dict[str, Any] = {}
    for key, value in schema.items():
        if key == "$ref" and isinstance(value, str):
            out[key] = _NEW_REF + value.rpartition("/")[2]
        elif key == "type" and isinstance(value, list):
            out[key] = next((type_ for type_ in value if type_ != "null"), "object")
        elif key == "properties" and isinstance(value, dict):
            out[key] = {name: _property(name, each) for name, each in value.items()}
        else:
            out[key] = to_openapi(value)
    if {option.get("type") for option in out.get("oneOf", ())} == {"string", "integer"}:
        out["format"] = "int-or-string"
    return out


def _property(name: str, schema: Any) -> Any:
    converted = to_openapi(schema)
    if name in {"apiVersion", "kind"} and isinstance(converted, dict):
        converted.pop("enum", None)
    if isinstance(converted, dict) and set(converted) - {"$ref"} and "$ref" in converted:
        # OpenAPI 3.0 ignores what stands beside a $ref; upstream wraps it, and `explain` prints the description so
        reference = converted.pop("$ref")
        converted["allOf"] = [{"$ref": reference}]
        converted.setdefault("default", {})
    return converted
