"""Claims as volumes of a pod: what is mounted, what the pod waits for, and whose files they become."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from podnet.controlplane.kubelet.volumes.claims import ClaimError, bound_volume, check_volume_modes, claim_source
from podnet.controlplane.kubelet.volumes.ownership import apply_fs_group
from podnet.controlplane.kubelet.volumes.pod_volumes import UnboundError, VolumeError, read_only_volumes

POD = {"metadata": {"namespace": "d", "name": "p", "uid": "up"}, "spec": {"containers": []}}


def claim(phase: str = "Bound", **spec: Any) -> Any:
    metadata = {"namespace": "d", "name": "c", "uid": "u"}
    return {"metadata": metadata, "spec": {"volumeName": "v", **spec}, "status": {"phase": phase}}


def volume(uid: str = "u", **spec: Any) -> Any:
    return {"metadata": {"name": "v"}, "spec": {"claimRef": {"namespace": "d", "name": "c", "uid": uid}, **spec}}


GOING = claim() | {"metadata": {"namespace": "d", "name": "c", "deletionTimestamp": "now"}}


@dataclass(frozen=True)
class Waits:
    id: str
    claim: Any
    message: str
    ephemeral: bool = False


WAITS = [
    Waits(
        "missing",
        None,
        'error processing PVC d/c: failed to fetch PVC from API server: persistentvolumeclaim "c" not found',
    ),
    Waits("unbound", claim("Pending"), "error processing PVC d/c: PVC is not bound"),
    Waits("going", GOING, "error processing PVC d/c: PVC is being deleted"),
    Waits("nameless", claim(volumeName=""), "error processing PVC d/c: PVC has empty pvc.Spec.VolumeName"),
    Waits(
        "not-its-own",
        claim(),
        "error processing PVC d/c: PVC d/c was not created for pod d/p (pod is not owner)",
        ephemeral=True,
    ),
]


@pytest.mark.parametrize("case", WAITS, ids=lambda case: case.id)
def test_what_a_pod_waits_for(case: Waits) -> None:
    with pytest.raises(ClaimError) as caught:
        bound_volume(POD, "c", case.claim, ephemeral=case.ephemeral)
    assert str(caught.value) == case.message
    assert caught.value.stage == ""
    shown = str(UnboundError("data", case.message))
    assert shown.startswith(
        "Unable to attach or mount volumes: unmounted volumes=[data], unattached volumes=[], failed to"
    )


def test_where_the_data_is() -> None:
    assert bound_volume(POD, "c", claim(), ephemeral=False) == "v"
    running = POD | {"status": {"phase": "Running"}}
    assert bound_volume(running, "c", claim() | {"metadata": GOING["metadata"]}, ephemeral=False) == "v"
    assert claim_source(claim(), volume(local={"path": "/l"}), "n", {}).path == "/l"
    host = claim_source(claim(), volume(hostPath={"path": "/h", "type": "Directory"}), "n", {})
    assert (host.path, host.host_path_type) == ("/h", "Directory")


NODE = {"required": {"nodeSelectorTerms": [{"matchExpressions": [{"key": "k", "operator": "In", "values": ["x"]}]}]}}


@pytest.mark.parametrize(
    ("given", "stage", "text"),
    [
        (None, "", 'persistentvolume "v" not found'),
        (volume("other", local={"path": "/l"}), "", "does not point to claim.UID"),
        (volume(local={"path": "/l"}, nodeAffinity=NODE), "NodeAffinity check", "no matching NodeSelectorTerms"),
        (volume(nfs={"server": "s"}), "NewMounter initialization", "no volume plugin matched"),
    ],
    ids=["gone", "another-claims", "another-node", "another-kind"],
)
def test_what_cannot_be_mounted_here(given: Any, stage: str, text: str) -> None:
    with pytest.raises(ClaimError, match=text) as caught:
        claim_source(claim(), given, "n", {"k": "y"})
    assert caught.value.stage == stage


def test_the_stage_is_in_the_event() -> None:
    shown = str(VolumeError("v", "no matching NodeSelectorTerms", "NodeAffinity check"))
    assert shown == 'MountVolume.NodeAffinity check failed for volume "v" : no matching NodeSelectorTerms'


@pytest.mark.parametrize(
    ("container", "mode", "text"),
    [
        ({"volumeMounts": [{"name": "v"}]}, "Filesystem", ""),
        ({"volumeMounts": [{"name": "v"}]}, "Block", "volume v has volumeMode Block, but is specified in volumeMounts"),
        ({"volumeDevices": [{"name": "v"}]}, "Filesystem", "volume v has volumeMode Filesystem, but is specified in"),
        ({"volumeDevices": [{"name": "v"}]}, "Block", "this node has no block devices to give"),
    ],
)
def test_devices_are_refused_clearly(container: Any, mode: str, text: str) -> None:
    pod = {"spec": {"containers": [container]}}
    if not text:
        check_volume_modes(pod, "v", mode)
        return
    with pytest.raises(ClaimError, match=text):
        check_volume_modes(pod, "v", mode)


def test_what_no_container_may_write_to() -> None:
    volumes = [
        {"name": "a", "configMap": {}},
        {"name": "b", "projected": {}},
        {"name": "c", "emptyDir": {}},
        {"name": "d", "persistentVolumeClaim": {"claimName": "x", "readOnly": True}},
        {"name": "e", "persistentVolumeClaim": {"claimName": "x"}},
    ]
    assert read_only_volumes({"spec": {"volumes": volumes}}) == {"a", "b", "d"}


@pytest.mark.skipif(os.geteuid() != 0, reason="another group than one's own can only be given by root: run as root")
def test_fs_group_owns_what_is_there(tmp_path: Path) -> None:
    (tmp_path / "dir").mkdir(mode=0o700)
    (tmp_path / "dir" / "file").touch(mode=0o600)
    (tmp_path / "link").symlink_to("/nowhere")
    apply_fs_group(tmp_path, 2000, "Always")
    for path, mode in ((tmp_path, 0o2770), (tmp_path / "dir", 0o2770), (tmp_path / "dir" / "file", 0o660)):
        assert path.stat().st_gid == 2000
        assert stat.S_IMODE(path.stat().st_mode) == mode
    os.chown(tmp_path / "dir" / "file", 0, 0)
    apply_fs_group(tmp_path, 2000, "OnRootMismatch")
    assert (tmp_path / "dir" / "file").stat().st_gid == 0, "the root was right: nothing below is looked at"
