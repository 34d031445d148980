"""The node's own volumes: what is made for whom, the door to the directories, and a provisioner that is killed."""

from __future__ import annotations

import asyncio
import contextlib
import os
from pathlib import Path
from typing import Any

import pytest

from podnet.controlplane.api.errors import StatusError
from podnet.controlplane.api.resources import NAMESPACES, PERSISTENTVOLUMECLAIMS, PERSISTENTVOLUMES, STORAGECLASSES
from podnet.controlplane.apiserver.local import LocalClient
from podnet.controlplane.apiserver.registry import Registry
from podnet.controlplane.client.volume_binding import PROVISIONER_FINALIZER
from podnet.controlplane.kubelet.provisioner.agent import LocalPathProvisioner
from podnet.controlplane.kubelet.provisioner.directories import VolumeDirectories
from podnet.controlplane.kubelet.provisioner.plan import (
    desired_volume,
    is_abandoned,
    is_ours,
    refusal,
    removes_data,
    removes_finalizer,
    storage_class,
    wants_volume,
)
from podnet.controlplane.store.memory import MemoryStore

ANNOTATIONS = {
    "volume.kubernetes.io/storage-provisioner": "podnet.dev/local-path",
    "volume.kubernetes.io/selected-node": "n1",
}


def claim(name: str = "data", annotations: Any = ANNOTATIONS, **spec: Any) -> Any:
    body = {
        "accessModes": ["ReadWriteOnce"],
        "resources": {"requests": {"storage": "1Gi"}},
        "storageClassName": "standard",
        **spec,
    }
    metadata = {"name": name, "namespace": "default", "uid": "u1", "annotations": dict(annotations)}
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": metadata,
        "spec": body,
        "status": {"phase": "Pending"},
    }


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, True),
        ({"annotations": {}}, False),
        ({"annotations": {**ANNOTATIONS, "volume.kubernetes.io/selected-node": "n2"}}, False),
        ({"annotations": {**ANNOTATIONS, "volume.kubernetes.io/storage-provisioner": "other"}}, False),
        ({"volumeName": "v"}, False),
    ],
    ids=["ours", "nobody-asked", "another-node", "another-provisioner", "has-one"],
)
def test_for_whom_a_volume_is_made(changes: Any, expected: bool) -> None:
    assert wants_volume(claim(**changes), "n1") is expected


@pytest.mark.parametrize(
    ("spec", "text"),
    [
        ({}, ""),
        ({"volumeMode": "Block"}, "does not support block volume provisioning"),
        ({"accessModes": ["ReadWriteMany"]}, "only ReadWriteOnce"),
        ({"selector": {"matchLabels": {"a": "b"}}}, "claim Selector is not supported"),
        ({"dataSource": {"kind": "PersistentVolumeClaim", "name": "x"}}, "does not support data sources"),
    ],
    ids=["fine", "block", "many-nodes", "selector", "clone"],
)
def test_what_a_directory_cannot_be(spec: Any, text: str) -> None:
    assert text in refusal(claim(**spec))
    assert bool(refusal(claim(**spec))) == bool(text)


def test_a_volume_is_bound_from_its_birth_and_to_one_node(tmp_path: Path) -> None:
    made = desired_volume(claim(), storage_class(), "n1", tmp_path / "pvc-u1")
    assert made["metadata"]["name"] == "pvc-u1"
    assert made["spec"]["claimRef"]["uid"] == "u1"
    terms = made["spec"]["nodeAffinity"]["required"]["nodeSelectorTerms"]
    assert terms == [{"matchExpressions": [{"key": "kubernetes.io/hostname", "operator": "In", "values": ["n1"]}]}]
    assert is_ours(made, tmp_path)
    assert not is_ours(made, tmp_path / "elsewhere")
    assert not is_ours({**made, "metadata": {"name": "x", "annotations": made["metadata"]["annotations"]}}, tmp_path)


@pytest.mark.parametrize(
    ("policy", "phase", "going", "data", "finalizer"),
    [
        ("Delete", "Bound", False, False, False),
        ("Delete", "Released", False, True, False),
        ("Delete", "Bound", True, False, False),
        ("Delete", "Released", True, True, True),
        ("Retain", "Released", False, False, False),
        ("Retain", "Released", True, False, True),
    ],
)
def test_when_data_goes(policy: str, phase: str, going: bool, data: bool, finalizer: bool) -> None:
    volume = desired_volume(claim(), {"reclaimPolicy": policy}, "n1", Path("/x/pvc-u1")) | {"status": {"phase": phase}}
    if going:
        volume["metadata"]["deletionTimestamp"] = "now"
    assert removes_data(volume) is data
    assert removes_finalizer(volume) is finalizer


def test_what_was_begun_for_nobody() -> None:
    assert is_abandoned("pvc-1", {"pvc-2"}, {"3"})
    assert not is_abandoned("pvc-1", {"pvc-1"}, set())
    assert not is_abandoned("pvc-1", set(), {"1"})
    assert not is_abandoned("something-of-mine", set(), set())


def test_the_door_to_the_directories(tmp_path: Path) -> None:
    directories = VolumeDirectories(tmp_path / "volumes")
    assert directories.names() == []
    path = directories.make("pvc-1")
    (path / "file").write_text("x")
    assert directories.make("pvc-1") == path
    assert (path / "file").read_text() == "x"
    assert path.stat().st_mode & 0o777 == 0o777
    directories.remove_empty("pvc-1")
    assert (path / "file").exists(), "what holds data is not begun and forgotten"
    # A removal that was killed half-way: what is left goes with the next look.
    path.rename(directories.root / ".removing-pvc-1")
    assert directories.names() == []
    assert list(directories.root.iterdir()) == []
    outside = tmp_path / "outside"
    outside.mkdir()
    (directories.root / "pvc-2").symlink_to(outside)
    directories.remove("pvc-2")
    assert outside.exists()
    for bad in ("", "..", "a/b", ".removing-x"):
        with pytest.raises(ValueError, match="not the name of a volume"):
            directories.path(bad)


def test_a_full_disk_is_said_before_a_volume_is_promised(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Full:
        f_bavail, f_frsize = 1, 4096

    monkeypatch.setattr(os, "statvfs", lambda _path: Full)
    directories = VolumeDirectories(tmp_path / "volumes")
    with pytest.raises(OSError, match="No space left on device"):
        directories.make("pvc-1")
    assert directories.names() == []


class Said:
    def __init__(self) -> None:
        self.events: list[tuple[str, str]] = []

    def event(self, obj: Any, type_: str, reason: str, message: str) -> None:
        self.events.append((reason, message))


class Plane:
    """A registry with the class and a claim that chose n1, and provisioners that come and go."""

    def __init__(self, client: LocalClient, root: Path) -> None:
        self.client = client
        self.directories = VolumeDirectories(root)
        self.said = Said()
        self.task: asyncio.Task[None] | None = None

    def start(self) -> None:
        provisioner = LocalPathProvisioner(self.client, self.said, "n1", self.directories)
        self.task = asyncio.create_task(provisioner.run())

    async def kill(self) -> None:
        assert self.task is not None
        self.task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self.task

    async def until(self, check: Any) -> Any:
        async with asyncio.timeout(10):
            while not (found := await check()):
                await asyncio.sleep(0.01)
        return found

    async def volumes(self) -> Any:
        return (await self.client.list(PERSISTENTVOLUMES)).items


@pytest.fixture
async def plane(tmp_path: Path) -> Any:
    store = MemoryStore()
    registry = Registry(store)
    await registry.start()
    client = LocalClient(registry)
    await client.create(NAMESPACES, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "default"}})
    await client.create(STORAGECLASSES, storage_class())
    plane = Plane(client, tmp_path / "volumes")
    yield plane
    if plane.task is not None:
        await plane.kill()
    await registry.stop()
    await store.close()


async def test_it_makes_and_takes_back(plane: Plane) -> None:
    made = await plane.client.create(PERSISTENTVOLUMECLAIMS, claim())
    plane.start()
    (volume,) = await plane.until(plane.volumes)
    name = f"pvc-{made['metadata']['uid']}"
    assert volume["metadata"]["name"] == name
    assert PROVISIONER_FINALIZER in volume["metadata"]["finalizers"]
    (plane.directories.root / name / "data").write_text("x")
    assert [reason for reason, _ in plane.said.events] == ["Provisioning", "ProvisioningSucceeded"]
    await plane.kill()
    # Released while nobody was there: the next one takes the data away and leaves the volume to its protection.
    released = {**volume, "status": {"phase": "Released"}}
    await plane.client.update(PERSISTENTVOLUMES, released, subresource="status")
    plane.start()

    async def going() -> Any:
        found = (await plane.volumes())[0]["metadata"]
        return found.get("deletionTimestamp") and PROVISIONER_FINALIZER not in found["finalizers"]

    await plane.until(going)
    assert not (plane.directories.root / name).exists()


async def test_a_full_disk_is_told_and_tried_again_and_leaves_nothing(plane: Plane) -> None:
    plane.directories.root.write_text("in the way")
    await plane.client.create(PERSISTENTVOLUMECLAIMS, claim())
    plane.start()

    async def told() -> Any:
        return [message for reason, message in plane.said.events if reason == "ProvisioningFailed"]

    (first, *_) = await plane.until(told)
    assert first.startswith('failed to provision volume with StorageClass "standard": ')
    assert await plane.volumes() == []
    plane.directories.root.unlink()
    await plane.until(plane.volumes)


async def test_what_was_begun_before_the_crash_is_tidied_up_but_data_never(plane: Plane) -> None:
    plane.directories.make("pvc-begun")
    (plane.directories.make("pvc-kept") / "data").write_text("x")
    made = await plane.client.create(PERSISTENTVOLUMECLAIMS, claim())
    name = f"pvc-{made['metadata']['uid']}"
    plane.directories.make(name)  # killed between the directory and the volume
    plane.start()
    await plane.until(plane.volumes)

    async def tidy() -> Any:
        return plane.directories.names() == sorted(["pvc-kept", name])

    await plane.until(tidy)
    with pytest.raises(StatusError):
        await plane.client.get(PERSISTENTVOLUMES, "pvc-begun")
