"""What a pod may keep on the disk: which limit speaks first and in which words, what is measured, and the end of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from podnet.controlplane.kubelet import local_storage
from podnet.controlplane.kubelet.cri import ContainerConfig, ContainerState, ContainerStatus
from podnet.controlplane.kubelet.local_storage import Usage, disk_usage, excess, is_limited, measure
from podnet.controlplane.kubelet.runtime_state import PodRuntimeState

MI = 1 << 20


def pod(size: str = "", priority: int = 0, **limits: str) -> dict[str, Any]:
    """A pod with an emptyDir `v` and a container for each limit; "-" is none."""
    containers = [
        {"name": name, "resources": {"limits": {"ephemeral-storage": text}} if text != "-" else {}}
        for name, text in limits.items()
    ]
    empty_dir = {"sizeLimit": size} if size else {}
    volumes = [{"name": "v", "emptyDir": empty_dir}, {"name": "m", "emptyDir": {"medium": "Memory"}}]
    return {"spec": {"containers": containers, "volumes": volumes, "priority": priority}}


@pytest.mark.parametrize(
    ("found", "usage", "text"),
    [
        (pod("1Mi", c="-"), Usage({"v": MI}), ""),
        (pod("1Mi", c="-"), Usage({"v": MI + 1}), 'Usage of EmptyDir volume "v" exceeds the limit "1Mi". '),
        (pod("1Mi", c="-"), Usage({}, {"c": 9 * MI}), ""),
        (pod("0", c="-"), Usage({"v": 9 * MI}), ""),
        (pod(a="1Mi", b="2Mi"), Usage({"v": MI}, {"a": MI, "b": MI}), ""),
        (
            pod(a="1Mi", b="2Mi"),
            Usage({"v": MI + 1}, {"a": MI, "b": MI}),
            "Pod ephemeral local storage usage exceeds the total limit of containers 3Mi. ",
        ),
        (
            pod(a="1Mi", b="2Mi"),
            Usage({}, {"a": MI + 1}),
            'Container a exceeded its local ephemeral storage limit "1Mi". ',
        ),
        (pod(a="1Mi", b="-"), Usage({}, {"b": MI}), ""),
    ],
    ids=["fits", "volume", "no-limit", "none-is-zero", "all-fit", "whole-pod", "one-container", "unlimited-one"],
)
def test_who_has_to_go_and_why(found: dict[str, Any], usage: Usage, text: str) -> None:
    assert excess(found, usage) == text


def test_only_who_has_a_limit_is_looked_at() -> None:
    assert is_limited(pod("1Mi", c="-"))
    assert is_limited(pod(c="1Mi"))
    assert not is_limited(pod(c="-"))
    assert not is_limited(pod("1Mi", 2_000_001_000, c="-")), "the system cannot do without it"


def test_what_is_measured(tmp_path: Path) -> None:
    volumes, layer, log = tmp_path / "volumes" / "kubernetes.io~empty-dir", tmp_path / "fs", tmp_path / "0.log"
    for directory in (volumes / "v" / "deep", layer):
        directory.mkdir(parents=True)
    (volumes / "v" / "deep" / "file").write_bytes(b"x" * MI)
    (volumes / "v" / "same").hardlink_to(volumes / "v" / "deep" / "file")
    (volumes / "v" / "elsewhere").symlink_to("/usr")
    (layer / "file").write_bytes(b"x" * MI)
    log.write_bytes(b"x" * MI)
    config = ContainerConfig("c", "busybox")
    status = ContainerStatus("1", "s", config, ContainerState.RUNNING, log_path=str(log), writable_layer=str(layer))
    usage = measure(pod(c="-"), PodRuntimeState((), (status,)), tmp_path)
    assert set(usage.volumes) == {"v"}, "what is in memory is not on the disk"
    assert MI <= usage.volumes["v"] < 2 * MI, "one file of two names is one"
    assert 2 * MI <= usage.containers["c"] < 3 * MI
    assert usage.total == usage.volumes["v"] + usage.containers["c"]
    assert disk_usage(tmp_path / "nowhere") == 0


async def test_a_pod_that_fills_its_volume_is_evicted(node: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local_storage, "MONITOR_S", 0.05)
    await node.stop()
    node.start()
    mounts = [{"name": "v", "mountPath": "/v"}]
    container = {"name": "app", "image": "busybox", "command": ["sleep", "infinity"], "volumeMounts": mounts}
    await node.create_pod(containers=[container], volumes=[{"name": "v", "emptyDir": {"sizeLimit": "1Mi"}}])
    await node.until_ready()
    uid = (await node.pod())["metadata"]["uid"]
    place = node.config.paths.pods_dir / uid / "volumes" / "kubernetes.io~empty-dir" / "v"
    (place / "file").write_bytes(b"x" * 2 * MI)

    async def failed() -> bool:
        return bool((await node.pod())["status"]["phase"] == "Failed")

    await node.until(failed)
    status = (await node.pod())["status"]
    why = 'Usage of EmptyDir volume "v" exceeds the limit "1Mi". '
    assert (status["reason"], status["message"]) == ("Evicted", why)
    assert await node.events("Evicted") == [why]
    assert not place.exists(), "what filled the disk is gone"
