"""PATCH: from the current object and a patch document to the object the client means.

Source: apiserver pkg/endpoints/handlers/patch.go; the three algorithms are in controlplane/api/patch;
apply is a fourth way that is not a function of the object alone (registry.apply).
"""

from __future__ import annotations

import json
from typing import Any, Literal

from podnet.controlplane.api import schema
from podnet.controlplane.api.errors import StatusError, bad_request, invalid, invalid_value
from podnet.controlplane.api.patch import apply_json_patch, apply_merge_patch, apply_strategic_merge_patch
from podnet.controlplane.api.patch.list_order import go_map
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
    shown = go_map(patch) if patch_type == "strategic" else json.dumps(result, separators=(",", ":"))
    _, mark, why = error.message.partition("strict decoding error: ")
    return invalid("", "", [invalid_value("patch", shown, mark + why if mark else error.message)])
