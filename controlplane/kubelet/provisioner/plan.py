"""What a volume of the local-path provisioner is, whom it is made for, and when it may go.

Pure. A claim whose annotations name this provisioner and this node gets the directory `<volumes>/pvc-<uid of the claim>`
and a PersistentVolume of the same name that only this node can reach. Both names follow from the claim, so that making
them again after a crash makes nothing twice.
Source: external-provisioner with --node-deployment (KEP-1709), the names and messages of its library.
"""

from __future__ import annotations

from collections.abc import Container
from pathlib import Path
from typing import Any

from podnet.controlplane.api import meta
from podnet.controlplane.api.types import Object
from podnet.controlplane.client.volume_binding import (
    BETA_STORAGE_PROVISIONER,
    LOCAL_PATH,
    PROVISIONED_BY,
    PROVISIONER_FINALIZER,
    SELECTED_NODE,
    STORAGE_PROVISIONER,
    annotations_of,
    claim_reference,
    class_of,
    phase_of,
    reference_to,
)

DEFAULT_CLASS = "standard"
HOSTNAME = "kubernetes.io/hostname"
_ONE_NODE_MODES = frozenset({"ReadWriteOnce", "ReadWriteOncePod"})


def storage_class() -> Object:
    """The class that a cluster is born with, as those of kind and k3s are."""
    return {
        "apiVersion": "storage.k8s.io/v1",
        "kind": "StorageClass",
        "metadata": {
            "name": DEFAULT_CLASS,
            "annotations": {"storageclass.kubernetes.io/is-default-class": "true"},
        },
        "provisioner": LOCAL_PATH,
        "reclaimPolicy": "Delete",
        "volumeBindingMode": "WaitForFirstConsumer",
        "allowVolumeExpansion": True,
    }


def volume_name(claim_uid: str) -> str:
    """`pvc-<uid>`, as every provisioner names its volumes."""
    return f"pvc-{claim_uid}"


def wants_volume(claim: Object, node: str) -> bool:
    """Whether this node is to make a volume for the claim."""
    annotations = annotations_of(claim)
    provisioner = annotations.get(STORAGE_PROVISIONER) or annotations.get(BETA_STORAGE_PROVISIONER)
    return (
        provisioner == LOCAL_PATH
        and annotations.get(SELECTED_NODE) == node
        and not claim["spec"].get("volumeName")
        and not meta.is_terminating(claim)
    )


def refusal(claim: Object) -> str:
    """Why a directory on one node cannot be what the claim asks for; empty when it can."""
    spec = claim["spec"]
    if spec.get("volumeMode") == "Block":
        return f"{LOCAL_PATH} does not support block volume provisioning"
    if spec.get("selector"):
        return "claim Selector is not supported"
    if spec.get("dataSource") or spec.get("dataSourceRef"):
        return f"{LOCAL_PATH} does not support data sources"
    if not set(spec.get("accessModes") or ()) <= _ONE_NODE_MODES:
        return "only ReadWriteOnce and ReadWriteOncePod access modes are supported: the volume is on one node"
    return ""


def desired_volume(claim: Object, of_class: Object, node: str, path: Path) -> Object:
    """The PersistentVolume of a claim, bound to it from its birth."""
    spec = claim["spec"]
    hostname = {"key": HOSTNAME, "operator": "In", "values": [node]}
    volume: dict[str, Any] = {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {
            "name": volume_name(meta.uid(claim)),
            "annotations": {PROVISIONED_BY: LOCAL_PATH},
            "finalizers": [PROVISIONER_FINALIZER],
        },
        "spec": {
            "capacity": {"storage": spec["resources"]["requests"]["storage"]},
            "accessModes": list(spec.get("accessModes") or ()),
            "volumeMode": "Filesystem",
            "persistentVolumeReclaimPolicy": of_class.get("reclaimPolicy") or "Delete",
            "storageClassName": class_of(claim),
            "claimRef": reference_to(claim),
            "local": {"path": str(path)},
            "nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": [hostname]}]}},
        },
    }
    if of_class.get("mountOptions"):
        volume["spec"]["mountOptions"] = list(of_class["mountOptions"])
    return volume


def is_ours(volume: Object, volumes_dir: Path) -> bool:
    """Whether the volume is a directory that this node has made: by its maker, and by the one place it can have."""
    path = (volume["spec"].get("local") or {}).get("path", "")
    ours = annotations_of(volume).get(PROVISIONED_BY) == LOCAL_PATH
    return ours and path == str(volumes_dir / meta.name(volume)) and meta.name(volume).startswith("pvc-")


def removes_data(volume: Object) -> bool:
    """Whether the directory goes now: released under the policy Delete, or deleted by hand while nobody has it."""
    if volume["spec"].get("persistentVolumeReclaimPolicy") != "Delete":
        return False
    if phase_of(volume) == "Released":
        return True
    return meta.is_terminating(volume) and (phase_of(volume) != "Bound" or claim_reference(volume) is None)


def removes_finalizer(volume: Object) -> bool:
    """Whether the volume may go without its directory: deleted by hand under the policy Retain."""
    return (
        meta.is_terminating(volume)
        and phase_of(volume) != "Bound"
        and meta.has_finalizer(volume, PROVISIONER_FINALIZER)
    )


def is_abandoned(directory: str, volumes: Container[str], claim_uids: Container[str]) -> bool:
    """Whether a directory was begun for a claim that went before it had its volume."""
    return (
        directory.startswith("pvc-") and directory not in volumes and directory.removeprefix("pvc-") not in claim_uids
    )
