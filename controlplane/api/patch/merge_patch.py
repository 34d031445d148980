"""JSON merge patch: maps merge, null deletes, everything else (lists too) replaces.

Source: RFC 7386, section 2 is the function below.
"""

from __future__ import annotations

from typing import Any

from podnet.controlplane.api.errors import bad_request
from podnet.controlplane.api.meta import deep_copy
from podnet.controlplane.api.patch.refusal import go_type_word, too_deep
from podnet.controlplane.api.types import Object


def apply_merge_patch(doc: Object, patch: Any) -> Object:
    """`doc` with `patch` merged into it. Raises StatusError 400 when the patch is no object."""
    if not isinstance(patch, dict):
        word = go_type_word(patch)
        raise bad_request(
            f"error decoding patch: json: cannot unmarshal {word} into Go value of type map[string]interface {{}}"
        )
    try:
        merged: Object = _merge(deep_copy(doc), deep_copy(patch))
    except RecursionError:
        raise too_deep() from None
    return merged


def _merge(target: Any, patch: Any) -> Any:
    if not isinstance(patch, dict):
        return patch
    if not isinstance(target, dict):
        target = {}
    for name, value in patch.items():
        if value is None:
            target.pop(name, None)
        else:
            target[name] = _merge(target.get(name), value)
    return target
