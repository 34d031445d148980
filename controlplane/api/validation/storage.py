"""Volumes, claims, storage classes and CSI objects.

Source: Kubernetes API reference, "Config and Storage Resources" (1.32).
"""

from __future__ import annotations

from typing import Any

from podnet.controlplane.api import names
from podnet.controlplane.api.errors import Cause, forbidden_field, invalid_value, not_supported, required
from podnet.controlplane.api.types import Object
from podnet.controlplane.api.validation.resources import validate_quantity
from podnet.controlplane.api.validation.selector import validate_label_selector, validate_node_selector
from podnet.controlplane.api.validation.values import (
    IMMUTABLE,
    immutable,
    must_have,
    objects,
    one_of,
    parse_quantity,
    part,
    strings,
    texts,
)

_MODES = ("ReadOnlyMany", "ReadWriteMany", "ReadWriteOnce", "ReadWriteOncePod")
_VOLUME_MODES = ("Block", "Filesystem")
_PLAIN_VOLUME_FIELDS = frozenset(
    {
        "accessModes",
        "capacity",
        "claimRef",
        "mountOptions",
        "nodeAffinity",
        "persistentVolumeReclaimPolicy",
        "storageClassName",
        "volumeAttributesClassName",
        "volumeMode",
    }
)


def _validate_class_name(spec: dict[str, object], path: str) -> list[Cause]:
    name = spec.get("storageClassName")
    return (
        texts(f"{path}.storageClassName", name, names.dns1123_subdomain(name)) if isinstance(name, str) and name else []
    )


def _validate_modes(spec: dict[str, object], path: str) -> list[Cause]:
    modes = strings(spec, "accessModes")
    if not modes:
        text = "at least 1 access mode is required"
        return [required(f"{path}.accessModes", text)]
    causes = [not_supported(f"{path}.accessModes", mode, list(_MODES)) for mode in modes if mode not in _MODES]
    if "ReadWriteOncePod" in modes and len(modes) > 1:
        text = "may not use ReadWriteOncePod with other access modes"
        causes.append(forbidden_field(f"{path}.accessModes", text))
    return causes


def validate_volume(obj: Object) -> list[Cause]:
    """PersistentVolume."""
    spec = part(obj, "spec")
    causes = _validate_modes(spec, "spec")
    capacity = part(spec, "capacity")
    if not capacity:
        causes.append(required("spec.capacity"))
    elif set(capacity) != {"storage"}:
        causes.append(not_supported("spec.capacity", min(capacity), ["storage"]))
    for name, value in capacity.items():
        problems = validate_quantity(value, f"spec.capacity[{name}]")
        amount = parse_quantity(value)
        if not problems and amount is not None and amount.is_zero():
            problems = [invalid_value(f"spec.capacity[{name}]", str(amount), "must be greater than zero")]
        causes += problems
    reclaim = ("Delete", "Recycle", "Retain")
    causes += one_of(spec, "persistentVolumeReclaimPolicy", "spec", reclaim)
    given = [name for name, value in spec.items() if name not in _PLAIN_VOLUME_FIELDS and value is not None]
    if not given:
        causes.append(required("spec", "must specify a volume type"))
    causes += [forbidden_field(f"spec.{name}", "may not specify more than 1 volume type") for name in given[1:]]
    causes += _validate_class_name(spec, "spec") + _validate_place(spec)
    affinity = part(spec, "nodeAffinity").get("required")
    if isinstance(affinity, dict):
        causes += validate_node_selector(affinity, "spec.nodeAffinity.required")
    elif "local" in given:
        causes.append(required("spec.nodeAffinity", "Local volume requires node affinity"))
    return causes + one_of(spec, "volumeMode", "spec", _VOLUME_MODES)


def _validate_place(spec: dict[str, Any]) -> list[Cause]:
    """Where a hostPath or a local volume is."""
    causes: list[Cause] = []
    for source in ("hostPath", "local"):
        if spec.get(source) is None:
            continue
        path = part(spec, source).get("path") or ""
        causes += must_have(part(spec, source), f"spec.{source}", "path")
        if ".." in path.split("/"):
            causes.append(invalid_value(f"spec.{source}.path", path, "must not contain '..'"))
    if part(spec, "hostPath").get("path") == "/" and spec.get("persistentVolumeReclaimPolicy") == "Recycle":
        text = "may not be 'recycle' for a hostPath mount of '/'"
        causes.append(forbidden_field("spec.persistentVolumeReclaimPolicy", text))
    return causes


def validate_volume_update(new: Object, old: Object) -> list[Cause]:
    """The source and the mode of a PersistentVolume stay."""
    after, before = part(new, "spec"), part(old, "spec")
    sources = {*after, *before} - _PLAIN_VOLUME_FIELDS
    causes: list[Cause] = []
    if any(after.get(name) != before.get(name) for name in sources):
        text = "spec.persistentvolumesource is immutable after creation"
        causes.append(forbidden_field("spec.persistentvolumesource", text))
    causes += immutable(after, before, "volumeMode", "spec")
    if before.get("nodeAffinity") is not None:
        causes += immutable(after, before, "nodeAffinity", "spec")
    return causes


def validate_claim(obj: Object) -> list[Cause]:
    """PersistentVolumeClaim."""
    return validate_claim_spec(part(obj, "spec"), "spec")


def validate_claim_spec(spec: dict[str, Any], path: str) -> list[Cause]:
    """What a claim asks for, also as the template of an ephemeral volume."""
    causes = _validate_modes(spec, path)
    causes += validate_label_selector(spec.get("selector"), f"{path}.selector")
    storage = part(part(spec, "resources"), "requests").get("storage")
    where = f"{path}.resources[storage]"
    if storage is None:
        causes.append(required(where))
    else:
        amount = parse_quantity(storage)
        if amount is None or amount.value <= 0:
            causes.append(invalid_value(where, str(storage), "must be greater than zero"))
    return causes + _validate_class_name(spec, path) + one_of(spec, "volumeMode", path, _VOLUME_MODES)


def validate_claim_update(new: Object, old: Object) -> list[Cause]:
    """A claim stays what it is; a bound one may grow."""
    after, before = part(new, "spec"), part(old, "spec")
    causes: list[Cause] = []
    free = {"resources", "volumeAttributesClassName"}
    if not before.get("volumeName"):
        free |= {"volumeName"}
    if before.get("storageClassName") is None:
        free |= {"storageClassName"}  # a default class that came later is assigned once
    same = all(after.get(name) == before.get(name) for name in {*after, *before} - free)
    may_grow = part(old, "status").get("phase") == "Bound"
    if not same or _fixed_resources(after, may_grow=may_grow) != _fixed_resources(before, may_grow=may_grow):
        text = (
            "spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims"
        )
        causes.append(forbidden_field("spec", text))
    wanted = parse_quantity(part(part(after, "resources"), "requests").get("storage"))
    had = parse_quantity(part(part(before, "resources"), "requests").get("storage"))
    has = parse_quantity(part(part(old, "status"), "capacity").get("storage")) or had
    if wanted is not None and had is not None and has is not None and wanted < had and wanted < has:
        text = "field can not be less than status.capacity"
        causes.append(forbidden_field("spec.resources.requests.storage", text))
    return causes


def _fixed_resources(spec: dict[str, Any], *, may_grow: bool) -> dict[str, Any]:
    """The resources of a claim, without the one amount that may change."""
    resources = part(spec, "resources")
    if not may_grow:
        return resources
    requests = {name: amount for name, amount in part(resources, "requests").items() if name != "storage"}
    return {**resources, "requests": requests}


def validate_storage_class(obj: Object) -> list[Cause]:
    """StorageClass."""
    causes = must_have(obj, "", "provisioner")
    provisioner = obj.get("provisioner") or ""
    if provisioner:
        causes += texts("provisioner", provisioner, names.qualified_name(provisioner.lower()))
    causes += _validate_topologies(obj)
    for field, allowed in (
        ("reclaimPolicy", ("Delete", "Retain")),
        ("volumeBindingMode", ("Immediate", "WaitForFirstConsumer")),
    ):
        value = obj.get(field)
        if not value:
            causes.append(required(field))
        elif value not in allowed:
            causes.append(not_supported(field, value, list(allowed)))
    return causes


def _validate_topologies(obj: Object) -> list[Cause]:
    causes: list[Cause] = []
    for index, term in objects(obj, "allowedTopologies"):
        for number, row in objects(term, "matchLabelExpressions"):
            where = f"allowedTopologies[{index}].matchLabelExpressions[{number}]"
            causes += texts(f"{where}.key", row.get("key") or "", names.qualified_name(row.get("key") or ""))
            causes += must_have(row, where, "values")
    return causes


def validate_storage_class_update(new: Object, old: Object) -> list[Cause]:
    """Nothing that decides how volumes are made changes."""
    causes = [
        forbidden_field(field, f"updates to {field} are forbidden.")
        for field in ("parameters", "provisioner", "reclaimPolicy")
        if (new.get(field) or None) != (old.get(field) or None)
    ]
    if new.get("volumeBindingMode") != old.get("volumeBindingMode"):
        causes.append(invalid_value("volumeBindingMode", new.get("volumeBindingMode"), IMMUTABLE))
    return causes


def validate_csi_driver(obj: Object) -> list[Cause]:
    """CSIDriver."""
    spec = part(obj, "spec")
    causes = [required(f"spec.{name}") for name in ("attachRequired", "podInfoOnMount") if spec.get(name) is None]
    causes += [
        not_supported("spec.volumeLifecycleModes", mode, ["Ephemeral", "Persistent"])
        for mode in strings(spec, "volumeLifecycleModes")
        if mode not in {"Persistent", "Ephemeral"}
    ]
    policies = ("ReadWriteOnceWithFSType", "File", "None")
    return causes + one_of(spec, "fsGroupPolicy", "spec", policies)


def validate_csi_node(obj: Object) -> list[Cause]:
    """CSINode."""
    causes: list[Cause] = []
    for index, driver in objects(part(obj, "spec"), "drivers"):
        causes += must_have(driver, f"spec.drivers[{index}]", "name", "nodeID")
    return causes


def validate_csi_capacity(obj: Object) -> list[Cause]:
    """CSIStorageCapacity."""
    causes = must_have(obj, "", "storageClassName")
    for field in ("capacity", "maximumVolumeSize"):
        if obj.get(field) is not None:
            causes += validate_quantity(obj[field], field)
    return causes


def validate_attachment(obj: Object) -> list[Cause]:
    """VolumeAttachment."""
    spec = part(obj, "spec")
    causes = must_have(spec, "spec", "attacher", "nodeName")
    source = part(spec, "source")
    if not source.get("persistentVolumeName") and source.get("inlineVolumeSpec") is None:
        text = "must specify exactly one of inlineVolumeSpec and persistentVolumeName"
        causes.append(required("spec.source", text))
    return causes


def validate_attachment_update(new: Object, old: Object) -> list[Cause]:
    """The spec of a VolumeAttachment stays."""
    if new.get("spec") == old.get("spec"):
        return []
    return [invalid_value("spec", new.get("spec"), IMMUTABLE)]
