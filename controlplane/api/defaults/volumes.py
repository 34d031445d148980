"""Defaults of volumes: the sources a pod may mount.

Source: Kubernetes API reference, "Volume" (1.32).
"""

from __future__ import annotations

from podnet.controlplane.api.defaults.fill import JSONObject, canonical_quantity, child, each, fill, fill_empty, present

_FILE_MODE = 0o644
_TOKEN_SECONDS = 3600


def default_volume(volume: JSONObject) -> None:
    """One volume of a pod; a volume that names no source is an emptyDir."""
    if not any(value is not None for name, value in volume.items() if name != "name"):
        volume["emptyDir"] = {}
    for name in ("secret", "configMap", "downwardAPI", "projected"):
        source = present(volume, name)
        if source is not None:
            fill(source, defaultMode=_FILE_MODE)
            _default_field_refs(source)
    for source in each(present(volume, "projected") or {}, "sources"):
        token = present(source, "serviceAccountToken")
        if token is not None:
            fill(token, expirationSeconds=_TOKEN_SECONDS)
        _default_field_refs(present(source, "downwardAPI") or {})
    empty_dir = present(volume, "emptyDir")
    if empty_dir is not None:
        canonical_quantity(empty_dir, "sizeLimit")
    image = present(volume, "image")
    if image is not None and image.get("reference"):
        fill_empty(image, pullPolicy=pull_policy(image["reference"]))
    ephemeral = present(volume, "ephemeral")
    template = present(ephemeral or {}, "volumeClaimTemplate")
    if template is not None:
        fill(child(template, "spec"), volumeMode="Filesystem")
    default_disk(volume)


def default_disk(source: JSONObject) -> None:
    """The sources that pods and PersistentVolumes share."""
    host_path = present(source, "hostPath")
    if host_path is not None:
        fill(host_path, type="")
    iscsi = present(source, "iscsi")
    if iscsi is not None:
        fill_empty(iscsi, iscsiInterface="default")
    rbd = present(source, "rbd")
    if rbd is not None:
        fill_empty(rbd, pool="rbd", user="admin", keyring="/etc/ceph/keyring")
    azure = present(source, "azureDisk")
    if azure is not None:
        fill(azure, cachingMode="ReadWrite", kind="Shared", fsType="ext4", readOnly=False)
    scale_io = present(source, "scaleIO")
    if scale_io is not None:
        fill_empty(scale_io, storageMode="ThinProvisioned", fsType="xfs")


def _default_field_refs(source: JSONObject) -> None:
    for item in each(source, "items"):
        field_ref = present(item, "fieldRef")
        if field_ref is not None:
            fill_empty(field_ref, apiVersion="v1")
        resource_ref = present(item, "resourceFieldRef")
        if resource_ref is not None:
            fill(resource_ref, divisor="0")


def pull_policy(image: str) -> str:
    """`Always` for the tag latest or none at all, else `IfNotPresent`; a digest pins the image."""
    name, at, _ = image.partition("@")
    tag = name.rpartition("/")[2].partition(":")[2]
    if at and not tag:
        return "IfNotPresent"
    return "Always" if tag in {"", "latest"} else "IfNotPresent"
