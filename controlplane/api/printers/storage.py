"""The tables of volumes, claims, storage classes and CSI objects.

Source: k8s.io/kubernetes pkg/printers/internalversion (the rules of 1.32, restated).
"""

from __future__ import annotations

from typing import Any

from podnet.controlplane.api.printers.cells import (
    NONE,
    UNSET,
    Printer,
    age,
    items,
    name,
    part,
    printer,
    terminating,
)
from podnet.controlplane.api.types import Object

_MODES = {"ReadWriteOnce": "RWO", "ReadOnlyMany": "ROX", "ReadWriteMany": "RWX", "ReadWriteOncePod": "RWOP"}
_CLASS_ANNOTATION = "volume.beta.kubernetes.io/storage-class"
_DEFAULT_CLASS = ("storageclass.kubernetes.io/is-default-class", "storageclass.beta.kubernetes.io/is-default-class")


def _access_modes(modes: list[str]) -> str:
    return ",".join(short for mode, short in _MODES.items() if mode in modes)


def _class_name(obj: Object) -> str:
    annotations = part(obj, "metadata", "annotations")
    return annotations.get(_CLASS_ANNOTATION) or part(obj, "spec").get("storageClassName") or ""


def _phase(obj: Object) -> str:
    return "Terminating" if terminating(obj) else part(obj, "status").get("phase") or ""


def _volume(obj: Object, now: float) -> list[Any]:
    spec, claim = part(obj, "spec"), part(obj, "spec", "claimRef")
    return [
        name(obj),
        part(spec, "capacity").get("storage") or "0",
        _access_modes(items(spec, "accessModes")),
        spec.get("persistentVolumeReclaimPolicy") or "",
        _phase(obj),
        f"{claim.get('namespace') or ''}/{claim.get('name') or ''}" if claim else "",
        _class_name(obj),
        spec.get("volumeAttributesClassName") or UNSET,
        part(obj, "status").get("reason") or "",
        age(obj, now),
        spec.get("volumeMode") or UNSET,
    ]


def _claim(obj: Object, now: float) -> list[Any]:
    spec, status = part(obj, "spec"), part(obj, "status")
    volume, capacity, modes = spec.get("volumeName") or "", "", ""
    if volume:
        capacity = part(status, "capacity").get("storage") or "0"
        modes = _access_modes(items(status, "accessModes"))
    return [
        name(obj),
        _phase(obj),
        volume,
        capacity,
        modes,
        _class_name(obj),
        spec.get("volumeAttributesClassName") or UNSET,
        age(obj, now),
        spec.get("volumeMode") or UNSET,
    ]


def _storage_class(obj: Object, now: float) -> list[Any]:
    annotations = part(obj, "metadata", "annotations")
    default = " (default)" if any(annotations.get(key) == "true" for key in _DEFAULT_CLASS) else ""
    return [
        name(obj) + default,
        obj.get("provisioner") or "",
        obj.get("reclaimPolicy") or "Delete",
        obj.get("volumeBindingMode") or "Immediate",
        bool(obj.get("allowVolumeExpansion")),
        age(obj, now),
    ]


def _csi_driver(obj: Object, now: float) -> list[Any]:
    spec = part(obj, "spec")
    audiences = ",".join(row.get("audience") or "" for row in items(obj, "spec", "tokenRequests"))
    return [
        name(obj),
        spec.get("attachRequired") is not False,
        bool(spec.get("podInfoOnMount")),
        bool(spec.get("storageCapacity")),
        audiences or UNSET,
        bool(spec.get("requiresRepublish")),
        ",".join(items(obj, "spec", "volumeLifecycleModes")) or NONE,
        age(obj, now),
    ]


def _csi_storage_capacity(obj: Object, _: float) -> list[Any]:
    return [name(obj), obj.get("storageClassName") or "", obj.get("capacity") or UNSET]


def _volume_attachment(obj: Object, now: float) -> list[Any]:
    spec = part(obj, "spec")
    return [
        name(obj),
        spec.get("attacher") or "",
        part(spec, "source").get("persistentVolumeName") or "",
        spec.get("nodeName") or "",
        bool(part(obj, "status").get("attached")),
        age(obj, now),
    ]


PRINTERS: dict[str, Printer] = {
    "persistentvolumes": printer(
        "Name, Capacity, Access Modes, Reclaim Policy, Status, Claim, StorageClass, VolumeAttributesClass, Reason, Age, "
        "+VolumeMode",
        _volume,
    ),
    "persistentvolumeclaims": printer(
        "Name, Status, Volume, Capacity, Access Modes, StorageClass, VolumeAttributesClass, Age, +VolumeMode", _claim
    ),
    "storageclasses.storage.k8s.io": printer(
        "Name, Provisioner, ReclaimPolicy, VolumeBindingMode, AllowVolumeExpansion, Age", _storage_class
    ),
    "csidrivers.storage.k8s.io": printer(
        "Name, AttachRequired:boolean, PodInfoOnMount:boolean, StorageCapacity:boolean, TokenRequests, "
        "RequiresRepublish:boolean, Modes, Age",
        _csi_driver,
    ),
    "csistoragecapacities.storage.k8s.io": printer("Name, StorageClassName, Capacity", _csi_storage_capacity),
    "volumeattachments.storage.k8s.io": printer(
        "Name, Attacher:string/name, PV, Node, Attached:boolean, Age", _volume_attachment
    ),
}
