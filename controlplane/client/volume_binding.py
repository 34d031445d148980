"""Which PersistentVolume may serve which PersistentVolumeClaim: the rules that binder, scheduler and kubelet share.

Pure. A claim belongs to one storage class (or, with the class "", to none); a volume serves it when class, access modes,
volume mode, selector and node fit and it is large enough; of several the smallest is taken, so that a large volume is kept
for a large claim. A volume whose claimRef names a claim is kept for that claim, and a claimRef with a uid only for that
very object.
Source: k8s.io/component-helpers storage/volume (pv_helpers.go), kubernetes pkg/controller/volume/persistentvolume/index.go.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping
from typing import Any

from podnet.controlplane.api import meta
from podnet.controlplane.api.quantity import Quantity, QuantityError, of
from podnet.controlplane.api.selectors import from_label_selector_object
from podnet.controlplane.api.types import Object
from podnet.controlplane.client.node_selector import matches_term

BETA_CLASS = "volume.beta.kubernetes.io/storage-class"
BIND_COMPLETED = "pv.kubernetes.io/bind-completed"
BOUND_BY_CONTROLLER = "pv.kubernetes.io/bound-by-controller"
PROVISIONED_BY = "pv.kubernetes.io/provisioned-by"
SELECTED_NODE = "volume.kubernetes.io/selected-node"
STORAGE_PROVISIONER = "volume.kubernetes.io/storage-provisioner"
BETA_STORAGE_PROVISIONER = "volume.beta.kubernetes.io/storage-provisioner"
CLAIM_PROTECTION = "kubernetes.io/pvc-protection"
VOLUME_PROTECTION = "kubernetes.io/pv-protection"
PROVISIONER_FINALIZER = "external-provisioner.volume.kubernetes.io/finalizer"
"""On a made volume until its data is gone: also one that is deleted by hand takes its data along, if its policy is so."""
NO_PROVISIONER = "kubernetes.io/no-provisioner"
LOCAL_PATH = "podnet.dev/local-path"
"""The provisioner that every node of this cluster has: a directory in the node's own state."""

_NOTHING = Quantity(0)


def annotations_of(obj: Mapping[str, Any]) -> dict[str, str]:
    """metadata.annotations, or nothing."""
    return obj["metadata"].get("annotations") or {}


def class_of(obj: Mapping[str, Any]) -> str:
    """The storage class of a claim or a volume; "" is none."""
    return str(annotations_of(obj).get(BETA_CLASS) or (obj.get("spec") or {}).get("storageClassName") or "")


def names_a_class(claim: Mapping[str, Any]) -> bool:
    """Whether the claim says anything about its class: the class "" is an answer too."""
    return BETA_CLASS in annotations_of(claim) or claim["spec"].get("storageClassName") is not None


def phase_of(obj: Mapping[str, Any]) -> str:
    """status.phase."""
    return str((obj.get("status") or {}).get("phase") or "")


def claim_reference(volume: Mapping[str, Any]) -> dict[str, Any] | None:
    """spec.claimRef, None when the volume is nobody's."""
    reference: dict[str, Any] | None = volume["spec"].get("claimRef")
    return reference or None


def reference_to(claim: Mapping[str, Any]) -> dict[str, Any]:
    """What a volume's claimRef says when it is bound to the claim, or kept for this very object."""
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "namespace": meta.namespace(claim),
        "name": meta.name(claim),
        "uid": meta.uid(claim),
        "resourceVersion": meta.resource_version(claim),
    }


def referenced_claim(volume: Mapping[str, Any]) -> str:
    """The key of the claim that the volume is kept for, empty when there is none."""
    reference = claim_reference(volume)
    return f"{reference.get('namespace', '')}/{reference.get('name', '')}" if reference is not None else ""


def is_kept_for(volume: Mapping[str, Any], claim: Mapping[str, Any]) -> bool:
    """Whether the volume's claimRef is this claim, by name and, where it says so, by uid."""
    if referenced_claim(volume) != meta.key(claim):
        return False
    uid = (claim_reference(volume) or {}).get("uid")
    return not uid or uid == meta.uid(claim)


def is_fully_bound(claim: Mapping[str, Any]) -> bool:
    """Both sides were written: the claim names its volume, and the binder has said that it is done."""
    return bool(claim["spec"].get("volumeName")) and BIND_COMPLETED in annotations_of(claim)


def waits_for_consumer(storage_class: Mapping[str, Any] | None) -> bool:
    """VolumeBindingMode WaitForFirstConsumer."""
    return (storage_class or {}).get("volumeBindingMode") == "WaitForFirstConsumer"


def requested(claim: Mapping[str, Any]) -> Quantity:
    """How much the claim asks for."""
    return _amount(((claim["spec"].get("resources") or {}).get("requests") or {}).get("storage"))


def capacity(volume: Mapping[str, Any]) -> Quantity:
    """How much the volume has."""
    return _amount((volume["spec"].get("capacity") or {}).get("storage"))


def _amount(text: object) -> Quantity:
    try:
        return of(str(text)) if text is not None else _NOTHING
    except QuantityError:
        return _NOTHING


def mismatch(volume: Mapping[str, Any], claim: Mapping[str, Any]) -> str:
    """Why a volume that the claim names cannot serve it, in upstream's words; empty when it can."""
    if capacity(volume) < requested(claim):
        return "requested PV is too small"
    if class_of(volume) != class_of(claim):
        return "storageClassName does not match"
    if _volume_mode(volume) != _volume_mode(claim):
        return "incompatible volumeMode"
    if not _modes(claim) <= _modes(volume):
        return "incompatible accessMode"
    return ""


def _volume_mode(obj: Mapping[str, Any]) -> str:
    return str(obj["spec"].get("volumeMode") or "Filesystem")


def _modes(obj: Mapping[str, Any]) -> set[str]:
    return set(obj["spec"].get("accessModes") or ())


def matches_node(volume: Mapping[str, Any], name: str, labels: Mapping[str, str]) -> bool:
    """Whether the volume can be reached from a node: one of the terms of its node affinity matches, or it has none."""
    required = (volume["spec"].get("nodeAffinity") or {}).get("required")
    if required is None:
        return True
    return any(matches_term(term, name, labels) for term in required.get("nodeSelectorTerms") or ())


def matches_allowed_topologies(storage_class: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    """Whether the class makes volumes on a node with these labels."""
    terms = storage_class.get("allowedTopologies") or ()
    return not terms or any(
        all(labels.get(row["key"]) in row["values"] for row in term.get("matchLabelExpressions") or ())
        for term in terms
        if term.get("matchLabelExpressions")
    )


def find_volume(
    claim: Object,
    volumes: Iterable[Object],
    *,
    node: tuple[str, Mapping[str, str]] | None = None,
    only_kept: bool = False,
    taken: Container[str] = (),
) -> Object | None:
    """The best volume for the claim: the one kept for it, else the smallest free one that fits.

    `node` (name, labels): it must be reachable from there. `only_kept`: the claim waits for its first consumer, so that
    only a volume that was kept for it will do. `taken`: names of volumes that are promised to others.
    """
    best: Object | None = None
    selector = from_label_selector_object(claim["spec"].get("selector") or {})
    for volume in volumes:
        if meta.name(volume) in taken or meta.is_terminating(volume):
            continue
        reachable = node is None or matches_node(volume, *node)
        if claim_reference(volume) is not None:
            if is_kept_for(volume, claim) and not _too_small_or_other_mode(volume, claim):
                return volume if reachable else None
            continue
        if only_kept or not reachable or phase_of(volume) != "Available":
            continue
        if mismatch(volume, claim) or not selector.matches(meta.labels(volume)):
            continue
        if best is None or (capacity(volume), meta.name(volume)) < (capacity(best), meta.name(best)):
            best = volume
    return best


def _too_small_or_other_mode(volume: Object, claim: Object) -> bool:
    return capacity(volume) < requested(claim) or _volume_mode(volume) != _volume_mode(claim)


def default_class(classes: Iterable[Object]) -> Object | None:
    """The class of claims that name none: of those marked as default the newest, then the first by name."""
    marks = ("storageclass.kubernetes.io/is-default-class", "storageclass.beta.kubernetes.io/is-default-class")
    found = [one for one in classes if any(annotations_of(one).get(mark) == "true" for mark in marks)]
    found.sort(key=meta.name)
    return max(found, key=lambda one: str(one["metadata"].get("creationTimestamp") or ""), default=None)


def pod_claims(pod: Mapping[str, Any]) -> list[tuple[str, str, bool]]:
    """(volume, name of the claim, whether it is the pod's own ephemeral one) of every claim that the pod uses."""
    found: list[tuple[str, str, bool]] = []
    for volume in (pod.get("spec") or {}).get("volumes") or ():
        if volume.get("persistentVolumeClaim"):
            found.append((volume["name"], volume["persistentVolumeClaim"].get("claimName", ""), False))
        elif volume.get("ephemeral"):
            found.append((volume["name"], f"{meta.name(pod)}-{volume['name']}", True))
    return found
