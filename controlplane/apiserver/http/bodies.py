"""Request bodies: JSON, YAML and protobuf to plain dicts; anything broken is a 400 that says where.

Source: apimachinery pkg/runtime/serializer; the limit is etcd's request size, as upstream's.
"""

from __future__ import annotations

import json
import math
from typing import Any, ClassVar

import orjson
import yaml

from podnet.controlplane.api import protobuf
from podnet.controlplane.api.errors import StatusError, bad_request, unsupported_media_type
from podnet.controlplane.api.errors import too_large as entity_too_large
from podnet.controlplane.api.patch.refusal import go_type_word
from podnet.controlplane.apiserver.http.gojson import json_problem
from podnet.controlplane.apiserver.patching import CONTENT_TYPES, PatchType

MAX_BODY = 3 * 1024 * 1024
MAX_DEPTH = 200
"""Nesting that is still an object and not an attack."""

MIN_VALUES = 10_000
"""Values a YAML document may always expand to; longer texts may hold one for each byte."""

_YAML_TYPES = frozenset({"application/yaml", "application/x-yaml", "text/yaml"})
_JSON_TYPES = frozenset({"application/json", "text/plain", ""})
_BODY_TYPES = "application/json, application/yaml, application/vnd.kubernetes.protobuf"
_TYPE_META = 'struct { APIVersion string "json:\\"apiVersion,omitempty\\""; Kind string "json:\\"kind,omitempty\\"" }'
"""What upstream reads first of every body, as Go prints its type."""
_PATCH_TYPES = (
    "application/json-patch+json, application/merge-patch+json, application/strategic-merge-patch+json, "
    "application/apply-patch+yaml"
)


def media_type(header: str) -> str:
    """A Content-Type without its parameters."""
    return header.partition(";")[0].strip().lower()


def too_large() -> StatusError:
    """413."""
    return entity_too_large(f"limit is {MAX_BODY}")


def decode_object(body: bytes, content_type: str, kind: str, *, doubles: list[str] | None = None) -> Any:
    """The object of a POST or PUT, expected to be a `kind`. Names that stand twice in one JSON or YAML object are told in
    `doubles`, if given."""
    media = media_type(content_type)
    if protobuf.is_protobuf(content_type):
        return protobuf.decode(body)
    if media in _YAML_TYPES:
        return _plain(_yaml(body, doubles), max(MIN_VALUES, len(body)))
    if media not in _JSON_TYPES:
        raise unsupported_media_type(
            f"the body of the request was in an unknown format - accepted media types include: {_BODY_TYPES}"
        )
    return _json(body, kind, doubles)


def decode_patch(body: bytes, content_type: str) -> tuple[PatchType, Any]:
    """(kind of patch, document) of a PATCH."""
    patch_type = CONTENT_TYPES.get(media_type(content_type))
    if patch_type is None:
        raise unsupported_media_type(
            f"the body of the request was in an unknown format - accepted media types include: {_PATCH_TYPES}"
        )
    if patch_type == "apply":
        return patch_type, _applied(body)
    try:
        return patch_type, _depth_checked(orjson.loads(body))
    except orjson.JSONDecodeError:
        raise bad_request(f"error decoding patch: {json_problem(body)}") from None


def _applied(body: bytes) -> Any:
    """The body of an apply: YAML, or the JSON that most clients send and that is read much faster."""
    try:
        return _depth_checked(orjson.loads(body))
    except orjson.JSONDecodeError:
        return _plain(_yaml(body), max(MIN_VALUES, len(body)))


def _json(body: bytes, kind: str, doubles: list[str] | None) -> Any:
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError:
        raise _unrecognized(body, kind, json_problem(body)) from None
    if not isinstance(document, dict):
        raise _unrecognized(
            body, kind, f"json: cannot unmarshal {go_type_word(document)} into Go value of type {_TYPE_META}"
        )
    if doubles is not None:
        doubles += [f'duplicate field "{path}"' for path in duplicate_fields(body)]
    return _depth_checked(document)


def _unrecognized(body: bytes, kind: str, problem: str) -> StatusError:
    """400 for a body that is no object: what it should have been, what is wrong with it, and how it begins."""
    start = body[:30]
    shown = (start.decode("utf-8", "replace") if start[:1] == b"{" else start.hex()) or "<empty>"
    if len(body) > len(start):
        shown += " ..."
    return bad_request(
        f"the object provided is unrecognized (must be of type {kind}): couldn't get version/kind; "
        f"json parse error: {problem} ({shown})"
    )


class _Pairs(dict[str, Any]):
    """A JSON object that knows which of its names stood twice."""

    repeated: list[str]

    @classmethod
    def of(cls, items: list[tuple[str, Any]]) -> _Pairs:
        out = cls(items)
        out.repeated = []
        if len(out) != len(items):
            seen: set[str] = set()
            for name, _ in items:
                if name in seen:
                    out.repeated.append(name)
                seen.add(name)
        return out


def duplicate_fields(body: bytes) -> list[str]:
    """The paths (`spec.containers[0].name`) of names that stand twice in one object of a JSON text."""
    try:
        document = json.loads(body, object_pairs_hook=_Pairs.of)
    except (ValueError, RecursionError):
        return []
    found: list[str] = []
    below: list[tuple[str, Any]] = [("", document)]
    while below:
        path, value = below.pop()
        if isinstance(value, _Pairs):
            found += [f"{path}.{name}".removeprefix(".") for name in value.repeated]
            below += [(f"{path}.{name}".removeprefix("."), item) for name, item in value.items()]
        elif isinstance(value, list):
            below += [(f"{path}[{index}]", item) for index, item in enumerate(value)]
    return sorted(found)


class _Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """YAML as JSON sees it: a timestamp is text. `budget` is how many values merges (`<<`) may bring: merged aliases of
    merged aliases grow with every level, before there is a document to measure."""

    yaml_implicit_resolvers: ClassVar = {
        first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }
    doubles: list[str] | None = None
    budget: int = MIN_VALUES

    def flatten_mapping(self, node: Any) -> None:
        """Merge what `<<` names, the innermost first, so that each is counted as large as it has become."""
        for key, value in node.value:
            if key.tag == "tag:yaml.org,2002:merge":
                for merged in value.value if isinstance(value, yaml.SequenceNode) else (value,):
                    if isinstance(merged, yaml.MappingNode):
                        self.flatten_mapping(merged)
                        self.budget -= len(merged.value)
                if self.budget < 0:
                    raise yaml.YAMLError("the document expands to too many values")
        super().flatten_mapping(node)

    def construct_mapping(self, node: Any, deep: bool = False) -> Any:
        """Note the keys that are set already, as upstream's reader words it."""
        if self.doubles is not None:
            seen: set[str] = set()
            for key, _ in node.value:
                if isinstance(key, yaml.ScalarNode):
                    if key.value in seen:
                        self.doubles.append(f'line {key.start_mark.line + 1}: key "{key.value}" already set in map')
                    seen.add(key.value)
        return super().construct_mapping(node, deep)


def _yaml(body: bytes, doubles: list[str] | None = None) -> Any:
    try:
        loader = _Loader(body.decode())
    except UnicodeDecodeError:
        raise bad_request("error converting YAML to JSON: yaml: invalid UTF-8") from None
    except (yaml.YAMLError, ValueError) as error:
        raise _not_yaml(error) from None
    loader.doubles = doubles
    loader.budget = max(MIN_VALUES, len(body))
    try:
        return loader.get_single_data()
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise _not_yaml(error) from None
    finally:
        loader.dispose()


def _not_yaml(error: Exception) -> StatusError:
    return bad_request(f"error converting YAML to JSON: yaml: {' '.join(str(error).split())}")


def _plain(document: Any, budget: int) -> Any:
    """The document in JSON's own types, keys as text, not deeper than MAX_DEPTH and not larger than `budget` values:
    YAML aliases can make a small text mean a very large document."""
    left = [budget]

    def convert(value: Any, depth: int) -> Any:
        left[0] -= 1
        if left[0] < 0:
            raise bad_request("error converting YAML to JSON: the document expands to too many values")
        if depth > MAX_DEPTH:
            raise bad_request(f"the document is nested more than {MAX_DEPTH} levels deep")
        if isinstance(value, dict):
            return {_key(name): convert(item, depth + 1) for name, item in value.items()}
        if isinstance(value, list):
            return [convert(item, depth + 1) for item in value]
        if isinstance(value, int) and not -(2**63) <= value < 2**64:
            return float(value)  # as JSON numbers of that size are read
        if isinstance(value, str) and not value.isascii():
            return value.encode("utf-8", "replace").decode()  # an escape of half a character is none
        if value is None or isinstance(value, (str, bool, int)) or (isinstance(value, float) and math.isfinite(value)):
            return value
        raise bad_request(f"error converting YAML to JSON: a value of type {type(value).__name__} has no JSON form")

    return convert(document, 0)


def _key(name: Any) -> str:
    if isinstance(name, str):
        return name if name.isascii() else name.encode("utf-8", "replace").decode()
    if isinstance(name, bool):
        return "true" if name else "false"
    if isinstance(name, (int, float)):
        return str(name)
    raise bad_request(f"error converting YAML to JSON: a key of type {type(name).__name__} has no JSON form")


def _depth_checked(document: Any) -> Any:
    level, depth = [document], 0
    while level:
        depth += 1
        if depth > MAX_DEPTH:
            raise bad_request(f"the document is nested more than {MAX_DEPTH} levels deep")
        level = (
            [
                child
                for node in level
                for child in (node.values() if isinstance(node, dict) else node)
                if isinstance(child, (dict, list))
            ]
            if isinstance(document, (dict, list))
            else []
        )
    return document
