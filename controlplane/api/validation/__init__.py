"""Validation: what upstream refuses, with upstream's field paths and messages, as a list of causes (empty: valid).

The schema has been checked before (types, unknown fields) and defaults have been filled; what is checked here is meaning.

Rule: pure. A validator reads one object, or the new and the old one; what needs other objects is admission.
Source: Kubernetes API reference 1.32 and the messages of a 1.32 server.
"""

from __future__ import annotations

from podnet.controlplane.api.errors import Cause
from podnet.controlplane.api.types import Object, Resource
from podnet.controlplane.api.validation.metadata import validate_metadata, validate_metadata_update
from podnet.controlplane.api.validation.rules import RULES, Rules

_METADATA_ONLY = Rules()
_WHOLE_FIRST = frozenset({"Deployment", "ReplicaSet", "DaemonSet", "StatefulSet", "Job", "PersistentVolumeClaim"})
"""Kinds whose update is first judged as an object, then as a change: the order in which upstream tells the causes."""


def validate_create(obj: Object, resource: Resource) -> list[Cause]:
    """Why a new object (with its defaults filled in) is refused."""
    rules = RULES.get((resource.api_version, resource.kind), _METADATA_ONLY)
    metadata = obj.get("metadata") or {}
    causes = [] if rules.no_metadata else validate_metadata(metadata, resource.namespaced, rules.name)
    return causes + (rules.create(obj) if rules.create else [])


def validate_update(new: Object, old: Object, resource: Resource, subresource: str = "") -> list[Cause]:
    """Why `new` may not replace `old`; through `/status` and the other subresources only their own rules count."""
    rules = RULES.get((resource.api_version, resource.kind), _METADATA_ONLY)
    causes = validate_metadata_update(new, old)
    if subresource:
        special = rules.subresources.get(subresource)
        return causes + (special(new, old) if special else [])
    changed = rules.update(new, old) if rules.update is not None else []
    if rules.create is None or rules.update_replaces_create:
        return causes + changed
    whole = rules.create(new)
    return causes + (whole + changed if resource.kind in _WHOLE_FIRST else changed + whole)
