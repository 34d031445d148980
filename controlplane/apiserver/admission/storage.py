"""DefaultStorageClass, StorageObjectInUseProtection and PersistentVolumeClaimResize.

Source: plugin/pkg/admission/storage of Kubernetes 1.32.
"""

from __future__ import annotations

from podnet.controlplane.api import meta
from podnet.controlplane.api.resources import PERSISTENTVOLUMECLAIMS, PERSISTENTVOLUMES, STORAGECLASSES
from podnet.controlplane.api.types import Object
from podnet.controlplane.apiserver.admission.types import Attributes, Lookup
from podnet.controlplane.client.volume_binding import (
    BETA_CLASS,
    CLAIM_PROTECTION,
    VOLUME_PROTECTION,
    class_of,
    default_class,
    phase_of,
    requested,
)

_PROTECTION = {PERSISTENTVOLUMECLAIMS: CLAIM_PROTECTION, PERSISTENTVOLUMES: VOLUME_PROTECTION}


def default_storage_class(attributes: Attributes, lookup: Lookup) -> None:
    """A claim that says nothing about its class gets the default one, where there is one."""
    claim = attributes.obj
    if claim is None or attributes.resource != PERSISTENTVOLUMECLAIMS or attributes.operation != "CREATE":
        return
    spec = claim.get("spec")
    if not isinstance(spec, dict) or spec.get("storageClassName") is not None:
        return
    if BETA_CLASS in (claim["metadata"].get("annotations") or {}):
        return
    chosen = default_class(lookup.objects(STORAGECLASSES))
    if chosen is not None:
        spec["storageClassName"] = meta.name(chosen)


def storage_protection(attributes: Attributes, lookup: Lookup) -> None:  # noqa: ARG001 - a plugin's signature
    """A new claim or volume does not go while it is in use: the protection controllers take this finalizer off."""
    finalizer = _PROTECTION.get(attributes.resource)
    if finalizer is None or attributes.operation != "CREATE" or attributes.obj is None or attributes.subresource:
        return
    finalizers = attributes.obj["metadata"].get("finalizers") or []
    if finalizer not in finalizers:
        attributes.obj["metadata"]["finalizers"] = [*finalizers, finalizer]


def claim_resize(attributes: Attributes, lookup: Lookup) -> None:
    """Only a bound claim of a class that allows expansion may grow (403)."""
    new, old = attributes.obj, attributes.old
    if new is None or old is None or attributes.resource != PERSISTENTVOLUMECLAIMS or attributes.subresource:
        return
    if not isinstance(new.get("spec"), dict) or not requested(new) > requested(old):
        return
    if phase_of(old) != "Bound":
        raise attributes.refuse("Only bound persistent volume claims can be expanded")
    if not _allows_expansion(old, lookup):
        raise attributes.refuse(
            "only dynamically provisioned pvc can be resized and the storageclass that provisions the pvc must support "
            "resize"
        )


def _allows_expansion(claim: Object, lookup: Lookup) -> bool:
    name = class_of(claim)
    storage_class = lookup.find(STORAGECLASSES, "", name) if name else None
    return bool(storage_class is not None and storage_class.get("allowVolumeExpansion"))
