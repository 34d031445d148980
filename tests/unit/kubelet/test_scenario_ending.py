"""How pods end: grace, hooks, deadlines, forced deletion, and what a restarted kubelet finds."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from podnet.controlplane.api.resources import NODES, PODS
from podnet.controlplane.kubelet.cri import SandboxState

STUBBORN = [{"name": "app", "image": "busybox", "command": ["sh", "-c", "trap '' TERM; sleep infinity"]}]


def state_of(pod: dict[str, Any], name: str = "app", key: str = "containerStatuses") -> dict[str, Any]:
    return next((c for c in pod["status"].get(key) or () if c["name"] == name), {"state": {}, "lastState": {}})


async def test_a_stubborn_container_is_killed_after_its_grace_period(node: Any) -> None:
    await node.create_pod(containers=STUBBORN)
    await node.until_ready()
    await node.client.delete(PODS, "web", "default", grace_period_s=1)
    begun = time.monotonic()
    pod = await node.pod()
    assert pod["metadata"]["deletionTimestamp"]
    await node.until_gone()
    assert 0.8 < time.monotonic() - begun < 20


async def test_a_shorter_grace_period_hastens_an_end_under_way(node: Any) -> None:
    await node.create_pod(containers=STUBBORN)
    await node.until_ready()
    await node.client.delete(PODS, "web", "default", grace_period_s=60)
    await node.until_event("Killing", "Stopping container app")
    await node.client.delete(PODS, "web", "default", grace_period_s=1)
    await node.until_gone(timeout_s=20)
    assert await node.events("Killing") == ["Stopping container app"]


async def test_a_forced_deletion_cleans_the_node_too(node: Any) -> None:
    await node.create_pod(containers=STUBBORN)
    await node.until_ready()
    await node.client.delete(PODS, "web", "default", grace_period_s=0)

    async def clean() -> bool:
        paths = node.config.paths
        left = [*paths.pods_dir.iterdir(), *paths.pod_logs_dir.iterdir()]
        return not await node.runtime.list_pod_sandboxes() and not left

    await node.until(clean)


async def test_pre_stop_runs_before_the_signal(node: Any, tmp_path: Any) -> None:
    marker = tmp_path / "hook"
    lifecycle = {"preStop": {"exec": {"command": ["sh", "-c", f"echo ran > {marker}"]}}}
    await node.create_pod(containers=[{**STUBBORN[0], "command": ["sleep", "infinity"], "lifecycle": lifecycle}])
    await node.until_ready()
    await node.client.delete(PODS, "web", "default")
    await node.until_gone()
    assert marker.read_text() == "ran\n"


async def test_a_failing_pre_stop_is_told_and_stops_nothing(node: Any) -> None:
    lifecycle = {"preStop": {"exec": {"command": ["false"]}}}
    await node.create_pod(containers=[{**STUBBORN[0], "command": ["sleep", "infinity"], "lifecycle": lifecycle}])
    await node.until_ready()
    await node.client.delete(PODS, "web", "default")
    await node.until_gone()
    await node.until_event("FailedPreStopHook", "PreStopHook failed")


async def test_a_failing_post_start_kills_and_restarts(node: Any) -> None:
    lifecycle = {"postStart": {"exec": {"command": ["false"]}}}
    await node.create_pod(containers=[{"name": "app", "image": "busybox", "lifecycle": lifecycle}])
    await node.until_event("FailedPostStartHook", "PostStartHook failed")
    pod = await node.until_pod(lambda pod: "waiting" in state_of(pod)["state"] and state_of(pod)["lastState"])
    assert state_of(pod)["state"]["waiting"]["reason"] in {"PostStartHookError", "CrashLoopBackOff"}


async def test_post_start_holds_the_pod_back(node: Any) -> None:
    lifecycle = {"postStart": {"sleep": {"seconds": 1}}}
    await node.create_pod(containers=[{"name": "app", "image": "busybox", "lifecycle": lifecycle}])
    begun = time.monotonic()
    await node.until_ready()
    assert time.monotonic() - begun > 0.9


async def test_active_deadline_seconds(node: Any) -> None:
    await node.create_pod(activeDeadlineSeconds=1)
    await node.until_ready()
    pod = await node.until_phase("Failed")
    assert pod["status"]["reason"] == "DeadlineExceeded"
    assert pod["status"]["message"] == "Pod was active on the node longer than the specified deadline"
    assert "terminated" in state_of(pod)["state"]
    await node.until_event("DeadlineExceeded")


async def test_a_pod_deleted_before_it_could_start(node: Any) -> None:
    node.runtime.problem = "no network"

    async def not_ready() -> bool:
        found = await node.client.get(NODES, "worker1")
        return any(c["type"] == "Ready" and c["status"] == "False" for c in found["status"]["conditions"])

    await node.until(not_ready)
    await node.create_pod()
    await node.until_event("NetworkNotReady")
    await node.client.delete(PODS, "web", "default")
    await node.until_gone()
    assert await node.runtime.list_pod_sandboxes() == []


async def test_a_finished_pod_stays_until_it_is_deleted(node: Any) -> None:
    command = ["sh", "-c", "echo bye; exit 0"]
    await node.create_pod(containers=[{"name": "app", "image": "busybox", "command": command}], restartPolicy="Never")
    pod = await node.until_phase("Succeeded")
    logs = node.config.paths.pod_logs_dir / f"default_web_{pod['metadata']['uid']}" / "app" / "0.log"
    assert b"bye" in logs.read_bytes()
    await node.client.delete(PODS, "web", "default")
    await node.until_gone()

    async def clean() -> bool:
        return not logs.exists() and not await node.runtime.list_pod_sandboxes()

    await node.until(clean)


async def test_finalizers_hold_the_object_but_not_the_containers(node: Any) -> None:
    await node.create_pod()
    await node.until_ready()
    patch = {"metadata": {"finalizers": ["example.com/hold"]}}
    await node.client.patch(PODS, "web", "default", patch)
    await node.client.delete(PODS, "web", "default")
    pod = await node.until_pod(lambda pod: pod["status"]["phase"] in {"Failed", "Succeeded"})
    assert pod["metadata"]["deletionTimestamp"]
    await node.client.patch(PODS, "web", "default", {"metadata": {"finalizers": None}})
    await node.until_gone()


async def test_a_restarted_kubelet_adopts_what_runs(node: Any) -> None:
    probe = {"exec": {"command": ["true"]}, "initialDelaySeconds": 0, "periodSeconds": 1}
    await node.create_pod(containers=[{"name": "app", "image": "busybox", "readinessProbe": probe}])
    before = await node.until_ready()
    await node.stop()
    [sandbox] = await node.runtime.list_pod_sandboxes()
    assert sandbox.state is SandboxState.READY
    node.runtime.calls.clear()
    node.start()
    await asyncio.sleep(0.5)
    after = await node.pod()
    assert after["status"] == before["status"]
    assert node.runtime.calls == []


async def test_a_restarted_kubelet_ends_pods_deleted_meanwhile(node: Any) -> None:
    await node.create_pod("kept")
    await node.create_pod("gone")
    await node.create_pod("going")
    for name in ("kept", "gone", "going"):
        await node.until_ready(name)
    await node.stop()
    await node.client.delete(PODS, "gone", "default", grace_period_s=0)
    await node.client.delete(PODS, "going", "default")
    node.start()
    await node.until_gone("going")

    async def only_kept() -> bool:
        names = [sandbox.config.pod_name for sandbox in await node.runtime.list_pod_sandboxes()]
        return names == ["kept"] and len(list(node.config.paths.pods_dir.iterdir())) == 1

    await node.until(only_kept)
    assert state_of(await node.pod("kept"))["restartCount"] == 0


async def test_what_died_while_the_kubelet_was_away_is_restarted(node: Any) -> None:
    await node.create_pod()
    await node.until_ready()
    await node.stop()
    node.runtime.exit_container("app", 9)
    node.start()
    pod = await node.until_pod(lambda pod: state_of(pod)["restartCount"] == 1 and state_of(pod)["ready"])
    assert state_of(pod)["lastState"]["terminated"]["exitCode"] == 9


async def test_a_terminal_phase_is_never_left(node: Any) -> None:
    command = ["sh", "-c", "exit 1"]
    await node.create_pod(containers=[{"name": "app", "image": "busybox", "command": command}], restartPolicy="Never")
    before = await node.until_phase("Failed")
    await node.stop()
    for sandbox in await node.runtime.list_pod_sandboxes():
        await node.runtime.remove_pod_sandbox(sandbox.id)
    node.start()
    await asyncio.sleep(0.4)
    after = await node.pod()
    assert after["status"]["phase"] == "Failed"
    assert after["status"]["containerStatuses"] == before["status"]["containerStatuses"]


async def test_main_containers_end_before_sidecars(node: Any) -> None:
    await node.create_pod(
        initContainers=[{"name": "sidecar", "image": "busybox", "restartPolicy": "Always"}],
        containers=[{"name": "app", "image": "busybox"}, {"name": "other", "image": "busybox"}],
    )
    await node.until_ready()
    node.runtime.calls.clear()
    await node.client.delete(PODS, "web", "default")
    await node.until_gone()
    stopped = [name for call, name in node.runtime.calls if call == "stop_container"]
    assert set(stopped[:2]) == {"app", "other"}
    assert stopped[2:] == ["sidecar"]


async def test_a_sidecars_hook_does_not_wait_for_its_turn(node: Any, tmp_path: Any) -> None:
    """It tells the sidecar what is coming while the main containers still need it."""
    marker = tmp_path / "hook"
    hook = {"preStop": {"exec": {"command": ["sh", "-c", f"echo told > {marker}"]}}}
    waits = ["sh", "-c", f"trap 'until test -e {marker}; do sleep 0.05; done; exit 0' TERM; sleep infinity & wait"]
    await node.create_pod(
        initContainers=[{"name": "sidecar", "image": "busybox", "restartPolicy": "Always", "lifecycle": hook}],
        containers=[{"name": "app", "image": "busybox", "command": waits}],
    )
    await node.until_ready()
    begun = time.monotonic()
    await node.client.delete(PODS, "web", "default", grace_period_s=60)
    await node.until_gone(timeout_s=40)
    assert time.monotonic() - begun < 30
    assert marker.read_text() == "told\n"
