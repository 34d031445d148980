"""Defaults of storage: volumes, claims, classes, drivers.

Source: Kubernetes API reference, "Config and Storage Resources" (1.32).
"""

from __future__ import annotations

from podnet.controlplane.api.defaults.fill import JSONObject, canonical_quantities, child, fill, fill_empty
from podnet.controlplane.api.defaults.volumes import default_disk


def default_volume_object(obj: JSONObject) -> None:
    """PersistentVolume."""
    spec = child(obj, "spec")
    fill_empty(spec, persistentVolumeReclaimPolicy="Retain")
    fill(spec, volumeMode="Filesystem")
    canonical_quantities(spec, "capacity")
    default_disk(spec)
    fill_empty(child(obj, "status"), phase="Pending")


def default_claim(obj: JSONObject) -> None:
    """PersistentVolumeClaim, also as a template in a StatefulSet."""
    spec = child(obj, "spec")
    fill(spec, volumeMode="Filesystem")
    canonical_quantities(child(spec, "resources"), "limits", "requests")
    fill_empty(child(obj, "status"), phase="Pending")


def default_storage_class(obj: JSONObject) -> None:
    """StorageClass."""
    fill(obj, reclaimPolicy="Delete", volumeBindingMode="Immediate")


def default_csi_driver(obj: JSONObject) -> None:
    """CSIDriver."""
    spec = child(obj, "spec")
    fill(spec, attachRequired=True, podInfoOnMount=False, storageCapacity=False, requiresRepublish=False)
    fill(spec, fsGroupPolicy="ReadWriteOnceWithFSType", seLinuxMount=False)
    fill_empty(spec, volumeLifecycleModes=["Persistent"])


def default_csi_storage_capacity(obj: JSONObject) -> None:
    """CSIStorageCapacity: only the form of its quantities."""
    wrapped = {
        "quantities": {name: obj[name] for name in ("capacity", "maximumVolumeSize") if obj.get(name) is not None}
    }
    canonical_quantities(wrapped, "quantities")
    obj.update(wrapped["quantities"])
