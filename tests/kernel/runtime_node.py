"""A node with the runtime that makes namespaces, for the cases beside this file (runtime, lives, images)."""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from podnet.controlplane.kubelet.cni_config import CNIRuntimeError
from podnet.controlplane.kubelet.cri import (
    ContainerConfig,
    ContainerState,
    ContainerStatus,
    SandboxConfig,
)
from podnet.controlplane.kubelet.runtime.runtime import PodRuntime
from podnet.controlplane.kubelet.runtime.zygote import start_zygote
from podnet.topology.paths import NodePaths

AS_ROOT = os.environ.get("PODNET_TEST_ROOM") == "root"


class Network:
    """Stands in for CNI."""

    def __init__(self) -> None:
        self.refusal = ""
        self.deleted: list[tuple[str, str]] = []

    async def add(self, container_id: str, netns: str, *_: Any, **__: Any) -> dict[str, Any]:
        assert Path(netns).exists()
        if self.refusal:
            raise CNIRuntimeError(self.refusal)
        return {"ips": [{"address": f"10.244.1.{int(container_id[:2], 16)}/24"}]}

    async def delete(self, container_id: str, netns: str = "", *_: Any, **__: Any) -> None:
        self.deleted.append((container_id, netns))

    async def status(self) -> None:
        if self.refusal:
            raise CNIRuntimeError(self.refusal)


class Node:
    """A runtime, and short cuts to it."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.paths = NodePaths(directory / "nodes" / "n1", directory / "run")
        self.network = Network()
        self.zygote = start_zygote()
        self.runtime = PodRuntime(self.paths, self.zygote, self.network)

    def reopen(self) -> None:
        """As after a restart of the agent, without its end."""
        self.runtime = PodRuntime(self.paths, self.zygote, self.network)

    async def sandbox(self, name: str = "web", **more: Any) -> str:
        logs = str(self.paths.pod_logs_dir / f"default_{name}_uid")
        return await self.runtime.run_pod_sandbox(SandboxConfig(name, "default", "uid", log_directory=logs, **more))

    async def container(self, sandbox_id: str, *command: str, image: str = "busybox", **more: Any) -> str:
        name = more.pop("name", "app")
        config = ContainerConfig(name, image, command=command, log_path=f"{name}/0.log", **more)
        return await self.runtime.create_container(sandbox_id, config)

    async def started(self, *command: str, **more: Any) -> str:
        sandbox_id = more.pop("sandbox_id", "") or await self.sandbox()
        container_id = await self.container(sandbox_id, *command, **more)
        await self.runtime.start_container(container_id)
        return container_id

    async def ended(self, container_id: str, timeout_s: float = 15.0) -> ContainerStatus:
        async with asyncio.timeout(timeout_s):
            while True:
                status = await self.runtime.container_status(container_id)
                if status.state is ContainerState.EXITED:
                    return status
                await self.runtime.wait_change(5)

    async def ran(self, *command: str, **more: Any) -> tuple[ContainerStatus, str]:
        """Run to the end; the status and the output of both streams."""
        status = await self.ended(await self.started(*command, **more))
        lines = Path(status.log_path).read_text().splitlines() if Path(status.log_path).exists() else []
        return status, "".join(line.split(" ", 3)[3] + "\n" for line in lines)

    async def shell(self, container_id: str, script: str) -> str:
        result = await self.runtime.exec_sync(container_id, ("sh", "-c", script), 20)
        return (result.stdout + result.stderr).decode()


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[Node]:
    before = processes()
    made = Node(tmp_path)
    yield made
    for status in await made.runtime.list_pod_sandboxes():
        await made.runtime.remove_pod_sandbox(status.id)
    await made.runtime.close()
    made.zygote.close()
    assert await settled(lambda: processes() - before == set()), processes() - before
    assert str(tmp_path) not in Path("/proc/self/mountinfo").read_text()
    assert list(made.paths.sandboxes_dir.glob("*")) == []
    assert list((made.paths.run / "shim").glob("*")) == []
    assert list(made.paths.netns_dir.glob("*")) == []
    assert list((made.paths.run / "shm").glob("*")) == []


def processes() -> set[str]:
    found = set()
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                state = (entry / "stat").read_text().rpartition(")")[2].split()[0]
                if state == "Z" and (entry / "stat").read_text().rpartition(")")[2].split()[1] == "1":
                    continue  # the room's PID 1 here is a shell, which reaps when it gets to it
                found.add(f"{entry.name} {(entry / 'comm').read_text().strip()} {state}")
    return {line for line in found if not line.endswith(("pytest R", "pytest S"))} - {f"{os.getpid()}"}


async def settled(condition: Any, timeout_s: float = 10.0) -> bool:
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            return False
        await asyncio.sleep(0.02)
    return True


def sleepers(seconds: str) -> list[str]:
    found = []
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if entry.name.isdigit() and (entry / "cmdline").read_bytes().split(b"\0")[:2] == [
                b"sleep",
                seconds.encode(),
            ]:
                found.append(entry.name)
    return found
