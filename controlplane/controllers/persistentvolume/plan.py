"""What the binder does next for one claim or one volume.

This file decides; it never talks to the API server. A binding is two pointers: the volume's claimRef (with the claim's
uid) and the claim's volumeName. The volume's is written first, by a conditional write, and is the one that counts: a
volume has one claimRef, so that no two claims ever share a volume. Then come the volume's phase, the claim's volumeName
and the claim's status, one write at a time:

    claim Pending ──▶ volume.claimRef ──▶ volume Bound ──▶ claim.volumeName ──▶ claim Bound
    claim gone    ──▶ volume Released ──▶ reclaimed (Delete: by who made it), or kept (Retain)

Each call gives the one write that comes next, so that the binder may be killed between any two of them.
Source: kubernetes pkg/controller/volume/persistentvolume/pv_controller.go; reasons and messages are upstream's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from podnet.controlplane.api import meta
from podnet.controlplane.api.resources import PERSISTENTVOLUMECLAIMS, PERSISTENTVOLUMES
from podnet.controlplane.api.types import Object, Resource
from podnet.controlplane.client.volume_binding import (
    BIND_COMPLETED,
    BOUND_BY_CONTROLLER,
    LOCAL_PATH,
    PROVISIONED_BY,
    PROVISIONER_FINALIZER,
    SELECTED_NODE,
    annotations_of,
    claim_reference,
    class_of,
    default_class,
    find_volume,
    is_kept_for,
    matches_node,
    mismatch,
    names_a_class,
    phase_of,
    pod_claims,
    reference_to,
    referenced_claim,
    waits_for_consumer,
)
from podnet.controlplane.controllers.persistentvolume.provision import plan_provisioning

_IN_TREE = "kubernetes.io/"
LOST_REFERENCE = "Bound claim has lost reference to PersistentVolume. Data on the volume is lost!"
LOST_VOLUME = "Bound claim has lost its PersistentVolume. Data on the volume is lost!"
MISBOUND = "Two claims are bound to the same volume, this one is bound incorrectly"
NO_CLASS = "no persistent volumes available for this claim and no storage class is set"


@dataclass(frozen=True, slots=True)
class View:
    """The cluster at one moment; claims and pods by `namespace/name`, the rest by name."""

    claims: Mapping[str, Object] = field(default_factory=dict)
    volumes: Mapping[str, Object] = field(default_factory=dict)
    classes: Mapping[str, Object] = field(default_factory=dict)
    nodes: Mapping[str, Object] = field(default_factory=dict)
    pods: Sequence[Object] = ()


@dataclass(frozen=True, slots=True)
class Notice:
    """What the user is told about the object."""

    type: Literal["Normal", "Warning"]
    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class Step:
    """The next write (a whole object, conditional on the version it was made from), and what is said. `gone`: the
    decision rests on this object not being there, which an old cache must not decide alone. `delete`: the volume goes.
    """

    write: Object | None = None
    resource: Resource | None = None
    subresource: str = ""
    notice: Notice | None = None
    gone: tuple[Resource, str] | None = None
    delete: bool = False


NOTHING = Step()


def plan_claim(claim: Object, view: View) -> Step:
    """The next step for a claim."""
    if BIND_COMPLETED in annotations_of(claim):
        return _plan_bound(claim, view)
    if meta.is_terminating(claim):
        return NOTHING
    name = claim["spec"].get("volumeName")
    return _plan_named(claim, name, view) if name else _plan_unbound(claim, view)


def _plan_bound(claim: Object, view: View) -> Step:
    name = claim["spec"].get("volumeName")
    if not name:
        return _lost(claim, Notice("Warning", "ClaimLost", LOST_REFERENCE))
    volume = view.volumes.get(name)
    if volume is None:
        return _lost(claim, Notice("Warning", "ClaimLost", LOST_VOLUME), (PERSISTENTVOLUMES, name))
    if claim_reference(volume) is None or is_kept_for(volume, claim):
        return _bind(volume, claim)
    return _lost(claim, Notice("Warning", "ClaimMisbound", MISBOUND))


def _plan_named(claim: Object, name: str, view: View) -> Step:
    """A claim whose author has chosen its volume."""
    volume = view.volumes.get(name)
    if volume is None:
        return _pending(claim)
    if claim_reference(volume) is None:
        why = mismatch(volume, claim)
        if why:
            message = f'Cannot bind to requested volume "{name}": {why}'
            return _pending(claim, Notice("Warning", "VolumeMismatch", message))
        return _bind(volume, claim)
    if is_kept_for(volume, claim):
        return _bind(volume, claim)
    message = f'volume "{name}" already bound to a different claim.'
    return _pending(claim, Notice("Warning", "FailedBinding", message))


def _plan_unbound(claim: Object, view: View) -> Step:
    if not names_a_class(claim):
        chosen = default_class(view.classes.values())
        if chosen is not None:
            # A default class that came after the claim is the claim's too.
            return _write_claim(claim, {"storageClassName": meta.name(chosen)}, {})
    storage_class = view.classes.get(class_of(claim))
    selected = annotations_of(claim).get(SELECTED_NODE, "")
    waits = waits_for_consumer(storage_class) and not selected
    node = view.nodes.get(selected)
    place = (selected, meta.labels(node)) if node is not None else None
    volume = find_volume(claim, view.volumes.values(), node=place, only_kept=waits)
    if volume is not None:
        return _bind(volume, claim)
    if waits:
        return _pending(claim, _waiting_notice(claim, view.pods))
    if not class_of(claim):
        return _pending(claim, Notice("Normal", "FailedBinding", NO_CLASS))
    wanted = plan_provisioning(claim, storage_class, view.nodes, view.volumes.values())
    notice = Notice(wanted.type, wanted.reason, wanted.message)
    if wanted.annotations:
        return _write_claim(claim, {}, wanted.annotations, notice)
    return _pending(claim, notice)


def _waiting_notice(claim: Object, pods: Sequence[Object]) -> Notice:
    waiting = [
        meta.name(pod)
        for pod in pods
        if meta.namespace(pod) == meta.namespace(claim)
        and not pod["spec"].get("nodeName")
        and any(name == meta.name(claim) for _, name, _ in pod_claims(pod))
    ]
    if not waiting:
        return Notice("Normal", "WaitForFirstConsumer", "waiting for first consumer to be created before binding")
    names = ",".join(sorted(waiting))
    return Notice("Normal", "WaitForPodScheduled", f"waiting for pod {names} to be scheduled")


def _bind(volume: Object, claim: Object) -> Step:
    """The first of the four writes that is still missing."""
    reference = claim_reference(volume)
    if reference is None or reference.get("uid") != meta.uid(claim):
        return Step(_bound_volume(volume, claim), PERSISTENTVOLUMES)
    if phase_of(volume) != "Bound":
        return set_volume_phase(volume, "Bound")
    name, annotations = meta.name(volume), annotations_of(claim)
    if claim["spec"].get("volumeName") != name or BIND_COMPLETED not in annotations:
        added = {BIND_COMPLETED: "yes"}
        if not claim["spec"].get("volumeName"):
            added[BOUND_BY_CONTROLLER] = "yes"
        return _write_claim(claim, {"volumeName": name}, added)
    if phase_of(claim) != "Bound":
        spec = volume["spec"]
        status = {
            "phase": "Bound",
            "accessModes": spec.get("accessModes") or [],
            "capacity": spec.get("capacity") or {},
        }
        return _claim_status(claim, status)
    return NOTHING


def _bound_volume(volume: Object, claim: Object) -> Object:
    bound: Object = meta.deep_copy(volume)
    if claim_reference(volume) is None:
        # Not its author's wish: when the claim goes elsewhere, the volume is free again.
        bound["metadata"]["annotations"] = {**annotations_of(volume), BOUND_BY_CONTROLLER: "yes"}
    bound["spec"]["claimRef"] = {**(claim_reference(volume) or {}), **reference_to(claim)}
    return bound


def _write_claim(
    claim: Object, spec: Mapping[str, Any], annotations: Mapping[str, str | None], notice: Notice | None = None
) -> Step:
    changed = meta.deep_copy(claim)
    changed["spec"] |= spec
    merged = {**annotations_of(claim), **annotations}
    changed["metadata"]["annotations"] = {key: value for key, value in merged.items() if value is not None}
    return Step(changed, PERSISTENTVOLUMECLAIMS, notice=notice)


def _claim_status(claim: Object, status: Mapping[str, Any], notice: Notice | None = None) -> Step:
    changed = meta.deep_copy(claim)
    changed["status"] = {**(claim.get("status") or {}), **status}
    return Step(changed, PERSISTENTVOLUMECLAIMS, "status", notice)


def _pending(claim: Object, notice: Notice | None = None) -> Step:
    if phase_of(claim) == "Pending":
        return Step(notice=notice)
    return _claim_status(claim, {"phase": "Pending"}, notice)


def _lost(claim: Object, notice: Notice, gone: tuple[Resource, str] | None = None) -> Step:
    if phase_of(claim) == "Lost":
        return NOTHING
    changed = meta.deep_copy(claim)
    kept = {key: value for key, value in (claim.get("status") or {}).items() if key not in {"accessModes", "capacity"}}
    changed["status"] = {**kept, "phase": "Lost"}
    return Step(changed, PERSISTENTVOLUMECLAIMS, "status", notice, gone)


def plan_volume(volume: Object, view: View) -> Step:
    """The next step for a volume."""
    reference, name = claim_reference(volume), meta.name(volume)
    if reference is None or not reference.get("uid"):
        # Free, or kept for a claim that has still to come.
        return NOTHING if phase_of(volume) == "Available" else set_volume_phase(volume, "Available")
    key = referenced_claim(volume)
    claim = view.claims.get(key)
    if claim is None or meta.uid(claim) != reference["uid"]:
        return _release(volume, (PERSISTENTVOLUMECLAIMS, key), view)
    wanted = claim["spec"].get("volumeName")
    if not wanted:
        return NOTHING  # the claim's own turn: it will take this volume, or another
    if wanted == name:
        return NOTHING if phase_of(volume) == "Bound" else set_volume_phase(volume, "Bound")
    if PROVISIONED_BY in annotations_of(volume) and _policy(volume) == "Delete":
        return _release(volume, None, view)  # it was made for a claim that has found another
    return Step(_freed(volume), PERSISTENTVOLUMES)


def _freed(volume: Object) -> Object:
    """Without the claim; with a claimRef by name still, where its author had written one."""
    freed: Object = meta.deep_copy(volume)
    annotations = annotations_of(volume)
    if BOUND_BY_CONTROLLER in annotations:
        del freed["spec"]["claimRef"]
        freed["metadata"]["annotations"] = {k: v for k, v in annotations.items() if k != BOUND_BY_CONTROLLER}
    else:
        freed["spec"]["claimRef"] = {
            key: value for key, value in volume["spec"]["claimRef"].items() if key not in {"uid", "resourceVersion"}
        }
    return freed


def _policy(volume: Object) -> str:
    return str(volume["spec"].get("persistentVolumeReclaimPolicy") or "Retain")


def _release(volume: Object, gone: tuple[Resource, str] | None, view: View) -> Step:
    phase = phase_of(volume)
    if phase not in {"Released", "Failed"}:
        return set_volume_phase(volume, "Released", gone=gone)
    if phase == "Failed":
        return NOTHING
    policy, maker = _policy(volume), annotations_of(volume).get(PROVISIONED_BY, "")
    if policy == "Recycle":
        notice = Notice("Warning", "VolumeFailedRecycle", "No recycler plugin found for the volume!")
        return set_volume_phase(volume, "Failed", notice=notice)
    if policy == "Delete" and (not maker or maker.startswith(_IN_TREE)):
        message = f'error getting deleter volume plugin for volume "{meta.name(volume)}": no volume plugin matched'
        return set_volume_phase(volume, "Failed", notice=Notice("Warning", "VolumeFailedDelete", message))
    if policy == "Delete" and maker == LOCAL_PATH and not _has_node(volume, view):
        return _forget(volume)
    return NOTHING  # kept, or deleted by its maker


def _has_node(volume: Object, view: View) -> bool:
    return not view.nodes or any(matches_node(volume, name, meta.labels(node)) for name, node in view.nodes.items())


def _forget(volume: Object) -> Step:
    """Its maker was a node that is no more, and its data went with the node's disk."""
    if meta.has_finalizer(volume, PROVISIONER_FINALIZER):
        return Step(meta.without_finalizer(volume, PROVISIONER_FINALIZER), PERSISTENTVOLUMES)
    return NOTHING if meta.is_terminating(volume) else Step(delete=True)


def set_volume_phase(
    volume: Object, phase: str, *, notice: Notice | None = None, gone: tuple[Resource, str] | None = None
) -> Step:
    """Write the phase; of a failure the message too."""
    changed = meta.deep_copy(volume)
    changed["status"] = {"phase": phase}
    if notice is not None:
        changed["status"]["message"] = notice.message
    return Step(changed, PERSISTENTVOLUMES, "status", notice, gone)
