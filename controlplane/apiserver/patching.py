"""PATCH: from the current object and a patch document to the object the client means.

Source: apiserver pkg/endpoints/handlers/patch.go; the three algorithms are in controlplane/api/patch;
apply is a fourth way that is not a function of the object alone (registry.apply).
"""

from __future__ import annotations

import json
import re
from typing import Any, Literal

from podnet.controlplane.api import schema
from podnet.controlplane.api.errors import StatusError, bad_request, invalid, invalid_value
from podnet.controlplane.api.patch import apply_json_patch, apply_merge_patch, apply_strategic_merge_patch
from podnet.controlplane.api.patch.list_order import go_map
from podnet.controlplane.api.schema_errors import NAMED_STRINGS
from podnet.controlplane.api.types import Object, Resource

PatchType = Literal["json", "merge", "strategic", "apply"]

CONTENT_TYPES: dict[str, PatchType] = {
    "application/json-patch+json": "json",
    "application/merge-patch+json": "merge",
    "application/strategic-merge-patch+json": "strategic",
    "application/apply-patch+yaml": "apply",
}


def patched(old: Object, patch: Any, patch_type: PatchType, resource: Resource, *, kind: str = "") -> Object:
    """`old` with the patch applied. `kind` is said where the object is not the resource's own (Scale)."""
    new: Any
    if patch_type == "json":
        new = apply_json_patch(old, patch)
    elif patch_type == "merge":
        new = apply_merge_patch(old, patch)
    else:
        new = apply_strategic_merge_patch(old, patch, schema.node(old["apiVersion"], kind or resource.kind))
    if not isinstance(new, dict):
        raise bad_request("the patch does not leave a JSON object")
    return new


def spoils(patch: Any, patch_type: PatchType, result: Object, error: StatusError) -> StatusError:
    """422: the patch applies, and leaves what is no object of its kind. `kubectl edit` then opens the editor again."""
    strategic = patch_type == "strategic"
    shown = go_map(patch) if strategic else json.dumps(result, separators=(",", ":"))
    why = _HANDLED_AS.sub("", error.message, count=1)
    return invalid("", "", [invalid_value("patch", shown, _converted(why) if strategic else why)])


_HANDLED_AS = re.compile(r'^\S+ in version "[^"]*" cannot be handled as a \S+: ')
_MISMATCH = re.compile(r"json: cannot unmarshal (\w+)( \S+)? into Go struct field \S+ of type (.+)")
_GO_KINDS = {"object": "map", "array": "slice", "number": "int64", "string": "string", "bool": "bool"}


def _converted(why: str) -> str:
    """A wrong type in the words of the converter that strategic patches go through: no JSON is read there."""
    match = _MISMATCH.fullmatch(why)
    if match is None:
        return why
    word, number, wanted = match.groups()
    kind = "float64" if number and "." in number else _GO_KINDS[word]
    if wanted.startswith("map[") or wanted == "v1.ResourceList":
        return f"cannot restore map from {kind}"
    if wanted.startswith("[]"):
        return f"cannot restore slice from {kind}"
    if wanted in {"bool", "int32", "int64", "float64"}:
        return f"cannot convert {kind} to {wanted}" if kind == "float64" else f"unrecognized type: {wanted}"
    if wanted == "string" or wanted in NAMED_STRINGS:
        return f"cannot convert {kind} to {wanted}" if word == "number" else "unrecognized type: string"
    return f"cannot restore struct from: {kind}"
