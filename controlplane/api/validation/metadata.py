"""The rules of `metadata`, the same for every kind.

Source: apimachinery pkg/api/validation/objectmeta.go, restated; Kubernetes API conventions, "Metadata".
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from podnet.controlplane.api import names
from podnet.controlplane.api.errors import Cause, forbidden_field, invalid_value, required, too_long
from podnet.controlplane.api.types import Object
from podnet.controlplane.api.validation.values import objects, strings

NameRule = Callable[[str], list[str]]

ANNOTATIONS_BYTES_MAX = 256 * 1024
_STANDARD_FINALIZERS = frozenset({"kubernetes", "orphan", "foregroundDeletion"})
_IMMUTABLE = ("name", "namespace", "uid", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds")


def validate_metadata(metadata: dict[str, Any], namespaced: bool, name_rule: NameRule) -> list[Cause]:
    """The metadata of a new object."""
    causes: list[Cause] = []
    generate_name, name = metadata.get("generateName"), metadata.get("name")
    if generate_name:
        shown = masked_prefix(generate_name)
        causes += [invalid_value("metadata.generateName", generate_name, text) for text in name_rule(shown)]
    if not name:
        if not generate_name:
            causes.append(required("metadata.name", "name or generateName is required"))
    else:
        causes += [invalid_value("metadata.name", name, text) for text in name_rule(name)]
    namespace = metadata.get("namespace")
    if namespaced:
        if not namespace:
            causes.append(required("metadata.namespace"))
        else:
            causes += [invalid_value("metadata.namespace", namespace, text) for text in names.dns1123_label(namespace)]
    elif namespace:
        causes.append(forbidden_field("metadata.namespace", "not allowed on this type"))
    return causes + validate_common(metadata)


def masked_prefix(generate_name: str) -> str:
    """A generateName as it is checked: its trailing dash will be followed by random letters."""
    return generate_name[:-2] + "a" if len(generate_name) > 1 and generate_name.endswith("-") else generate_name


def validate_common(metadata: dict[str, Any]) -> list[Cause]:
    """What creates and updates check alike."""
    causes: list[Cause] = []
    generation = metadata.get("generation")
    if isinstance(generation, int) and generation < 0:
        causes.append(invalid_value("metadata.generation", generation, "must be greater than or equal to 0"))
    causes += validate_labels(metadata.get("labels"), "metadata.labels")
    causes += validate_annotations(metadata.get("annotations"), "metadata.annotations")
    causes += _validate_owners(metadata)
    finalizers = strings(metadata, "finalizers")
    for finalizer in finalizers:
        causes += [invalid_value("metadata.finalizers", finalizer, text) for text in names.qualified_name(finalizer)]
    for index, finalizer in enumerate(finalizers):  # the other rule is not the generic one, and counts them
        causes += _validate_prefix(finalizer, f"metadata.finalizers[{index}]")
    return causes


def validate_labels(labels: dict[str, Any] | None, path: str) -> list[Cause]:
    """Label keys are qualified names, values short and plain."""
    causes: list[Cause] = []
    for key, value in (labels or {}).items():
        causes += [invalid_value(path, key, text) for text in names.qualified_name(key)]
        causes += [invalid_value(path, value, text) for text in names.label_value(value or "")]
    return causes


def validate_annotations(annotations: dict[str, Any] | None, path: str) -> list[Cause]:
    """Annotation keys are qualified names in any case; all together are at most 256 KiB."""
    causes: list[Cause] = []
    total = 0
    for key, value in (annotations or {}).items():
        causes += [invalid_value(path, key, text) for text in names.qualified_name(key.lower())]
        total += len(key.encode()) + len((value or "").encode())
    if total > ANNOTATIONS_BYTES_MAX:
        causes.append(too_long(path, ANNOTATIONS_BYTES_MAX))
    return causes


def _validate_owners(metadata: dict[str, Any]) -> list[Cause]:
    causes: list[Cause] = []
    controller = ""
    for index, owner in objects(metadata, "ownerReferences"):
        path = f"metadata.ownerReferences[{index}]"
        version = (owner.get("apiVersion") or "").rpartition("/")[2]
        if not version:
            causes.append(
                invalid_value(f"{path}.apiVersion", owner.get("apiVersion") or "", "version must not be empty")
            )
        causes += [
            invalid_value(f"{path}.{field}", "", "must not be empty")
            for field in ("kind", "name", "uid")
            if not owner.get(field)
        ]
        if owner.get("apiVersion") == "v1" and owner.get("kind") == "Event":
            causes.append(invalid_value(path, "v1, Kind=Event", "is disallowed from being an owner"))
        if owner.get("controller"):
            if controller:
                text = (
                    'Only one reference can have Controller set to true. Found "true" in references for '
                    f"{controller} and {owner.get('name') or ''}"
                )
                causes.append(invalid_value("metadata.ownerReferences", metadata["ownerReferences"], text))
            controller = owner.get("name") or ""
    return causes


def _validate_prefix(finalizer: str, path: str) -> list[Cause]:
    """A finalizer says whose it is, but for the few standard ones."""
    if "/" in finalizer or finalizer in _STANDARD_FINALIZERS:
        return []
    return [invalid_value(path, finalizer, "name is neither a standard finalizer name nor is it fully qualified")]


def validate_metadata_update(new: Object, old: Object) -> list[Cause]:
    """Identity does not change; deletion cannot be held up by new finalizers; generations do not go back."""
    after, before = new.get("metadata") or {}, old.get("metadata") or {}
    causes = [
        invalid_value(f"metadata.{field}", after[field], "field is immutable")
        for field in _IMMUTABLE
        if after.get(field) is not None and after[field] != before.get(field)
    ]
    if (after.get("generation") or 0) < (before.get("generation") or 0):
        causes.append(invalid_value("metadata.generation", after.get("generation") or 0, "must not be decremented"))
    if before.get("deletionTimestamp"):
        added = sorted(set(strings(after, "finalizers")) - set(strings(before, "finalizers")))
        if added:
            shown = ", ".join(f'"{name}"' for name in added)
            text = (
                "no new finalizers can be added if the object is being deleted, found new finalizers "
                f"[]string{{{shown}}}"
            )
            causes.append(forbidden_field("metadata.finalizers", text))
    return causes + validate_common(after)
