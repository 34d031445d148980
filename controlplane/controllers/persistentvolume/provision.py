"""Whom a claim without a volume is given to: the provisioner of its class, and, for volumes in a node's own state, which
node makes it.

Pure. The binder only writes the provisioner's name on the claim; whoever bears the name makes the volume. With
WaitForFirstConsumer the scheduler has chosen the node; with Immediate the node with the fewest volumes is taken of those
that take ordinary pods, because nobody knows yet who will use it.
Source: kubernetes pkg/controller/volume/persistentvolume/pv_controller.go (provisionClaim), external-provisioner.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from podnet.controlplane.api import meta
from podnet.controlplane.api.types import Object
from podnet.controlplane.client.volume_binding import (
    BETA_STORAGE_PROVISIONER,
    LOCAL_PATH,
    PROVISIONED_BY,
    SELECTED_NODE,
    STORAGE_PROVISIONER,
    annotations_of,
    class_of,
    matches_allowed_topologies,
    matches_node,
)

NO_NODE = "no node of this cluster can make a volume for this claim"


@dataclass(frozen=True, slots=True)
class Provisioning:
    """The annotations that the claim lacks (None takes one off), and what its user is told."""

    reason: str
    message: str
    type: Literal["Normal", "Warning"] = "Normal"
    annotations: Mapping[str, str | None] = field(default_factory=dict)


def plan_provisioning(
    claim: Object, storage_class: Object | None, nodes: Mapping[str, Object], volumes: Iterable[Object]
) -> Provisioning:
    """What happens to a claim of a class for which no volume stands ready."""
    if storage_class is None:
        message = f'storageclass.storage.k8s.io "{class_of(claim)}" not found'
        return Provisioning("ProvisioningFailed", message, "Warning")
    provisioner = str(storage_class.get("provisioner") or "")
    if provisioner.startswith("kubernetes.io/"):
        return Provisioning("ProvisioningFailed", f"no volume plugin matched name: {provisioner}", "Warning")
    message = (
        f"Waiting for a volume to be created either by the external provisioner '{provisioner}' or manually by the system "
        "administrator. If volume creation is delayed, please verify that the provisioner is running and correctly "
        "registered."
    )
    annotations: dict[str, str | None] = {STORAGE_PROVISIONER: provisioner, BETA_STORAGE_PROVISIONER: provisioner}
    if provisioner == LOCAL_PATH:
        selected = annotations_of(claim).get(SELECTED_NODE)
        if selected and selected not in nodes:
            # The chosen node is no more: the scheduler, or the lines below, choose again.
            gone = f'failed to provision volume with StorageClass "{class_of(claim)}": node "{selected}" not found'
            return Provisioning("ProvisioningFailed", gone, "Warning", {SELECTED_NODE: None})
        if not selected:
            chosen = choose_node(storage_class, nodes.values(), volumes)
            if not chosen:
                return Provisioning("ProvisioningFailed", NO_NODE, "Warning")
            annotations[SELECTED_NODE] = chosen
    missing = {key: value for key, value in annotations.items() if annotations_of(claim).get(key) != value}
    return Provisioning("ExternalProvisioning", message, "Normal", missing)


def choose_node(storage_class: Object, nodes: Iterable[Object], volumes: Iterable[Object]) -> str:
    """The node with the fewest volumes of its own, empty when none will do."""
    local = [volume for volume in volumes if annotations_of(volume).get(PROVISIONED_BY) == LOCAL_PATH]
    able = [
        (sum(matches_node(volume, meta.name(node), meta.labels(node)) for volume in local), meta.name(node))
        for node in nodes
        if _takes_pods(node) and matches_allowed_topologies(storage_class, meta.labels(node))
    ]
    return min(able, default=(0, ""))[1]


def _takes_pods(node: Object) -> bool:
    spec = node.get("spec") or {}
    if spec.get("unschedulable") or meta.is_terminating(node) or not meta.condition_is_true(node, "Ready"):
        return False
    return not any(taint.get("effect") in {"NoSchedule", "NoExecute"} for taint in spec.get("taints") or ())
