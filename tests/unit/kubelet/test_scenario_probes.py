"""Probes against a container: their effect on readiness and restarts, and their events."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from podnet.controlplane.kubelet.cri import RuntimeServiceError


def probed(**probes: Any) -> list[dict[str, Any]]:
    return [{"name": "app", "image": "busybox", "command": ["sleep", "infinity"], **probes}]


def exists(path: Path, **more: Any) -> dict[str, Any]:
    return {"exec": {"command": ["test", "-e", str(path)]}, "periodSeconds": 1, **more}


def state_of(pod: dict[str, Any]) -> dict[str, Any]:
    return next(iter(pod["status"].get("containerStatuses") or ()), {"state": {}, "ready": False})


async def test_readiness_follows_its_probe(node: Any, tmp_path: Path) -> None:
    flag = tmp_path / "ready"
    await node.create_pod(containers=probed(readinessProbe=exists(flag, failureThreshold=1)))
    pod = await node.until_pod(lambda pod: "running" in state_of(pod)["state"])
    assert state_of(pod)["ready"] is False
    assert state_of(pod)["started"] is True
    flag.touch()
    await node.until_ready()
    flag.unlink()
    pod = await node.until_pod(lambda pod: not state_of(pod)["ready"])
    assert state_of(pod)["restartCount"] == 0
    await node.until_event("Unhealthy", "Readiness probe failed: ")


async def test_a_failed_liveness_probe_restarts(node: Any, tmp_path: Path) -> None:
    flag = tmp_path / "alive"
    flag.touch()
    await node.create_pod(containers=probed(livenessProbe=exists(flag, failureThreshold=1)))
    await node.until_ready()
    flag.unlink()
    pod = await node.until_pod(lambda pod: state_of(pod).get("restartCount") == 1)
    assert state_of(pod)["lastState"]["terminated"]["exitCode"] in {137, 143}
    await node.until_event("Killing", "Container app failed liveness probe, will be restarted")


async def test_the_startup_probe_gates_the_others(node: Any, tmp_path: Path) -> None:
    flag = tmp_path / "started"
    await node.create_pod(
        containers=probed(
            startupProbe=exists(flag, failureThreshold=30),
            livenessProbe=exists(flag, failureThreshold=1),
        )
    )
    pod = await node.until_pod(lambda pod: "running" in state_of(pod)["state"])
    assert (state_of(pod)["started"], state_of(pod)["ready"]) == (False, False)
    await node.until_event("Unhealthy", "Startup probe failed: ")
    flag.touch()
    pod = await node.until_ready()
    assert state_of(pod)["started"] is True
    assert state_of(pod)["restartCount"] == 0


async def test_a_failed_startup_probe_restarts(node: Any, tmp_path: Path) -> None:
    await node.create_pod(containers=probed(startupProbe=exists(tmp_path / "never", failureThreshold=1)))
    await node.until_pod(lambda pod: state_of(pod).get("restartCount") == 1)
    await node.until_event("Killing", "Container app failed startup probe, will be restarted")


async def test_an_unknown_port_name_is_an_error_not_a_failure(node: Any) -> None:
    await node.create_pod(containers=probed(livenessProbe={"tcpSocket": {"port": "nope"}, "failureThreshold": 1}))
    await node.until_event("Unhealthy", "Liveness probe errored: couldn't find port: nope")
    assert state_of(await node.pod())["restartCount"] == 0


async def test_a_host_network_pod_is_probed_at_its_node(node: Any) -> None:
    server = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    try:
        probe = {"tcpSocket": {"port": port}, "periodSeconds": 1}
        await node.create_pod(containers=probed(readinessProbe=probe), hostNetwork=True)
        await node.until_ready()
    finally:
        server.close()
        await server.wait_closed()


async def test_a_probe_command_that_is_not_there_changes_nothing(node: Any) -> None:
    async def unable(*_: Any) -> Any:
        raise RuntimeServiceError("ExecError", 'exec: "nope": executable file not found in $PATH')

    node.runtime.__dict__["exec_sync"] = unable
    probe = {"exec": {"command": ["nope"]}, "periodSeconds": 1, "failureThreshold": 1}
    await node.create_pod(containers=probed(livenessProbe=probe))
    await node.until_event("Unhealthy", 'Liveness probe errored: exec: "nope"')
    assert state_of(await node.pod())["restartCount"] == 0
