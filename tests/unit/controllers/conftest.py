"""A whole control plane in memory: the real registry and its in-process client, with chosen controllers running."""

from __future__ import annotations

import asyncio
import dataclasses
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from podnet.controlplane.api.errors import StatusError
from podnet.controlplane.api.resources import NAMESPACES, NODES, PODS
from podnet.controlplane.apiserver.local import LocalClient
from podnet.controlplane.apiserver.registry import Registry
from podnet.controlplane.client.endpoint import Endpoint
from podnet.controlplane.controllers.config import ControllerManagerConfig
from podnet.controlplane.controllers.main import CONTROLLERS, new_context, run_controllers
from podnet.controlplane.scheduler.config import SchedulerConfig
from podnet.controlplane.scheduler.main import run_scheduler
from podnet.controlplane.store.memory import MemoryStore

sys.path.insert(0, str(Path(__file__).parent))  # workload_objects, for the tests beside it


class ControlPlane:
    """What a scenario holds in its hands."""

    def __init__(self, client: LocalClient, config: ControllerManagerConfig) -> None:
        self.client = client
        self.config = config
        self._tasks: list[asyncio.Task[None]] = []

    def start(self, *names: str, grace_s: float = 40.0) -> None:
        """Run these controllers (all when none is named)."""
        chosen = {name: CONTROLLERS[name] for name in names or CONTROLLERS}
        config = dataclasses.replace(self.config, node_monitor_grace_period_s=grace_s)
        context = new_context(self.client, config)
        self._tasks.append(asyncio.create_task(run_controllers(context, chosen)))

    def start_scheduler(self) -> None:
        self._tasks.append(asyncio.create_task(run_scheduler(self.client, SchedulerConfig(self.config.endpoint))))

    def start_kubelet(self) -> None:
        """Every pod with a node becomes ready at once, and goes at once when it is deleted."""
        self._tasks.append(asyncio.create_task(self._kubelet()))

    async def _kubelet(self) -> None:
        async for event in self.client.watch(PODS):
            pod = event.object
            if event.type not in {"ADDED", "MODIFIED"} or not pod["spec"].get("nodeName"):
                continue
            name, namespace = pod["metadata"]["name"], pod["metadata"]["namespace"]
            try:
                if pod["metadata"].get("deletionTimestamp"):
                    await self.client.delete(PODS, name, namespace, grace_period_s=0)
                elif pod["status"].get("phase") == "Pending":
                    await self.set_ready(pod)
            except StatusError as error:
                if not error.is_not_found:
                    raise

    async def set_ready(self, pod: dict[str, Any], *, ready: bool = True) -> None:
        status = "True" if ready else "False"
        conditions = [{"type": kind, "status": status} for kind in ("Ready", "ContainersReady")]
        patch = {"status": {"phase": "Running", "conditions": conditions}}
        metadata = pod["metadata"]
        await self.client.patch(
            PODS, metadata["name"], metadata["namespace"], patch, patch_type="strategic", subresource="status"
        )

    async def add_node(self, name: str, **status: Any) -> dict[str, Any]:
        amounts = {"cpu": "4", "memory": "8Gi", "pods": "110"}
        return await self.client.create(
            NODES,
            {
                "apiVersion": "v1",
                "kind": "Node",
                "metadata": {"name": name, "labels": {"kubernetes.io/hostname": name}},
                "status": {
                    "capacity": amounts,
                    "allocatable": amounts,
                    "conditions": [{"type": "Ready", "status": "True"}],
                    **status,
                },
            },
        )

    async def until(self, check: Callable[[], Awaitable[Any]], timeout_s: float = 10.0) -> Any:
        """Ask again and again until `check` is true; its last answer tells what was missing."""
        deadline = asyncio.get_running_loop().time() + timeout_s
        while True:
            answer = await check()
            if answer:
                return answer
            if asyncio.get_running_loop().time() > deadline:
                raise AssertionError(f"never became true: {check}")
            await asyncio.sleep(0.01)

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        for outcome in await asyncio.gather(*self._tasks, return_exceptions=True):
            assert isinstance(outcome, asyncio.CancelledError), outcome


@pytest.fixture
def manager_config(tmp_path: Path) -> ControllerManagerConfig:
    ca = tmp_path / "ca.crt"
    ca.write_text("-----BEGIN CERTIFICATE-----\n")
    return ControllerManagerConfig(
        Endpoint("https://unused", ca),
        ca,
    )


@pytest.fixture
async def plane(manager_config: ControllerManagerConfig) -> AsyncIterator[ControlPlane]:
    store = MemoryStore()
    registry = Registry(store)
    await registry.start()
    plane = ControlPlane(LocalClient(registry), manager_config)
    try:
        for name in ("default", "kube-system", "kube-public", "kube-node-lease"):
            body = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}
            await plane.client.create(NAMESPACES, body)
        yield plane
    finally:
        await plane.stop()
        await registry.stop()
        await store.close()
