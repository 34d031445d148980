"""Where the data of a pod's claim is on this node: from the claim to its volume to a path.

Pure. A claim is only used when it is bound, and a volume only when its claimRef is that very claim; until then the pod
waits, and FailedMount says for what. Source: kubernetes pkg/kubelet/volumemanager/populator, pkg/volume/{local,hostpath};
messages are upstream's.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from podnet.controlplane.api import meta
from podnet.controlplane.api.types import Object
from podnet.controlplane.client.volume_binding import claim_reference, matches_node, phase_of, pod_claims


class ClaimError(Exception):
    """The claim cannot be mounted yet, or not here. `stage`: how far mounting its volume came, empty when it has none
    that could be mounted."""

    def __init__(self, why: str, stage: str = "", volume: str = "") -> None:
        super().__init__(why)
        self.stage = stage
        self.volume = volume


@dataclass(frozen=True, slots=True)
class ClaimSource:
    """A volume's place on the node: a directory that must be there, or a hostPath with its type."""

    volume: str
    path: str
    host_path_type: str | None = None


def claim_names(pod: Object) -> dict[str, str]:
    """Volume to claim, of every volume that is a claim's."""
    return {volume: claim for volume, claim, _ in pod_claims(pod)}


def bound_volume(pod: Object, name: str, claim: Object | None, *, ephemeral: bool) -> str:
    """The name of the claim's volume; ClaimError while there is none."""
    key = f"{meta.namespace(pod)}/{name}"
    if claim is None:
        why = f'failed to fetch PVC from API server: persistentvolumeclaim "{name}" not found'
        raise ClaimError(f"error processing PVC {key}: {why}")
    if meta.is_terminating(claim) and phase_of(pod) != "Running":  # a pod that has its data keeps it to its end
        raise ClaimError(f"error processing PVC {key}: PVC is being deleted")
    if ephemeral and not meta.is_controlled_by(claim, pod):
        why = f"PVC {key} was not created for pod {meta.key(pod)} (pod is not owner)"
        raise ClaimError(f"error processing PVC {key}: {why}")
    if phase_of(claim) != "Bound":
        raise ClaimError(f"error processing PVC {key}: PVC is not bound")
    if not claim["spec"].get("volumeName"):
        raise ClaimError(f"error processing PVC {key}: PVC has empty pvc.Spec.VolumeName")
    return str(claim["spec"]["volumeName"])


def claim_source(claim: Object, volume: Object | None, node: str, labels: Mapping[str, str]) -> ClaimSource:
    """The path of the claim's volume on this node."""
    key, name = meta.key(claim), claim["spec"]["volumeName"]
    if volume is None:
        why = f'failed to fetch PV {name} from API server: persistentvolume "{name}" not found'
        raise ClaimError(f"error processing PVC {key}: {why}")
    reference = claim_reference(volume)
    if reference is None or reference.get("uid") != meta.uid(claim):
        why = f'found PV object "{name}" with a pv.Spec.ClaimRef that does not point to claim.UID "{meta.uid(claim)}"'
        raise ClaimError(f"error processing PVC {key}: {why}")
    if not matches_node(volume, node, labels):
        raise ClaimError("no matching NodeSelectorTerms", "NodeAffinity check", name)
    return _source(name, volume["spec"])


def _source(name: str, spec: Mapping[str, Any]) -> ClaimSource:
    if "local" in spec:
        return ClaimSource(name, spec["local"]["path"])
    if "hostPath" in spec:
        return ClaimSource(name, spec["hostPath"]["path"], spec["hostPath"].get("type") or "")
    raise ClaimError(
        "no volume plugin matched: only local and hostPath volumes are served", "NewMounter initialization", name
    )


def check_volume_modes(pod: Object, volume: str, mode: str) -> None:
    """A file system is mounted and a device is a device; ClaimError when a container sees it the other way.

    Block volumes need a block device, and a volume of this cluster is a directory.
    """
    containers = [*(pod["spec"].get("initContainers") or ()), *(pod["spec"].get("containers") or ())]
    mounted = any(mount["name"] == volume for c in containers for mount in c.get("volumeMounts") or ())
    device = any(entry["name"] == volume for c in containers for entry in c.get("volumeDevices") or ())
    if mode == "Block" and mounted:
        raise ClaimError(f"volume {volume} has volumeMode Block, but is specified in volumeMounts")
    if mode != "Block" and device:
        raise ClaimError(f"volume {volume} has volumeMode Filesystem, but is specified in volumeDevices")
    if mode == "Block":
        raise ClaimError(f"volume {volume} has volumeMode Block: this node has no block devices to give")
