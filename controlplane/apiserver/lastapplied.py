"""Where client-side and server-side apply meet: the annotation kubectl.kubernetes.io/last-applied-configuration.

Two courtesies to kubectl, and to no other manager: what its own last client-side apply set and nobody changed since is
no conflict for it, and a server-side apply keeps the annotation true, so that going back works. Pure.
Source: apimachinery pkg/util/managedfields/internal/{lastapplied,lastappliedmanager,lastappliedupdater}.go of 1.32.
"""

from __future__ import annotations

from typing import Any

import orjson

from podnet.controlplane.api import schema
from podnet.controlplane.api.apply.fieldset import render, values_by_path
from podnet.controlplane.api.errors import StatusError
from podnet.controlplane.api.types import Object

ANNOTATION = "kubectl.kubernetes.io/last-applied-configuration"
MANAGER = "kubectl"
MAX_BYTES = 256 * 1024
"""All annotations of an object together (validation's limit): a configuration beyond it is not kept."""


def of(obj: Object) -> Any:
    """The configuration in the annotation; None where there is none that can be read."""
    try:
        found = orjson.loads((obj["metadata"].get("annotations") or {}).get(ANNOTATION) or "null")
    except orjson.JSONDecodeError:
        return None
    return found if isinstance(found, dict) else None


def excuses(conflict: StatusError, live: Object) -> bool:
    """Whether all conflicts are over fields that kubectl's own last client-side apply set and that stand unchanged."""
    last = of(live)
    if last is None or not conflict.is_conflict:
        return False
    node = schema.node(live["apiVersion"], live["kind"])
    now = dict(values_by_path(node, live))
    try:
        unchanged = {render(path) for path, value in values_by_path(node, last) if path in now and now[path] == value}
    except StatusError:  # an associative list without its keys: such a configuration was never stored by us
        return False
    causes = (conflict.details or {}).get("causes") or []
    return bool(causes) and all(cause.get("field") in unchanged for cause in causes)


def update(result: Object, applied: Object) -> None:
    """Write what was applied into the annotation, in place, where there is one."""
    annotations = result["metadata"].get("annotations") or {}
    if ANNOTATION not in annotations:
        return
    metadata = {name: value for name, value in applied["metadata"].items() if name != "managedFields"}
    own = {name: value for name, value in (metadata.get("annotations") or {}).items() if name != ANNOTATION}
    metadata["annotations"] = own  # there even when empty: kubectl compares texts, and writes it so
    text = orjson.dumps({**applied, "metadata": metadata}, option=orjson.OPT_SORT_KEYS | orjson.OPT_APPEND_NEWLINE)
    if len(text) <= MAX_BYTES:
        annotations[ANNOTATION] = text.decode()
