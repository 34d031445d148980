"""Ends containers: preStop, then SIGTERM, then SIGKILL when the grace period is over.

The hook's time counts against the grace period, but the signal always gets two seconds after it. All hooks of a pod run at
once; the signals come in waves: sidecars get theirs after the main containers have ended (`termination_order`), with what
is left of the time, and two seconds at least.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

from podnet.controlplane.api.types import Object
from podnet.controlplane.kubelet import pod_spec
from podnet.controlplane.kubelet.container_starter import field_path
from podnet.controlplane.kubelet.cri import ContainerStatus, RuntimeServiceError
from podnet.controlplane.kubelet.hooks import HookError, run_hook
from podnet.controlplane.kubelet.pod_actions import termination_order
from podnet.controlplane.kubelet.runtime_state import PodRuntimeState
from podnet.controlplane.kubelet.worker_context import WorkerContext

MINIMUM_GRACE_S = 2.0


class PodKiller:
    """The steps; `announced` remembers which containers' Killing event has been told, because a shortened grace period
    starts the killing again."""

    def __init__(self, context: WorkerContext) -> None:
        self._context = context
        self._announced: set[str] = set()
        self._hooked: set[str] = set()

    async def kill_container(
        self,
        pod: Object,
        status: ContainerStatus,
        grace_s: float,
        message: str = "",
        ahead: Sequence[asyncio.Task[None]] = (),
    ) -> None:
        """Stop one container; returns when it has exited. The signal waits for those `ahead`, as long as there is time."""
        name = status.config.name
        if status.id not in self._announced:
            self._announced.add(status.id)
            self._context.recorder.event(
                pod, "Normal", "Killing", message or f"Stopping container {name}", field_path=field_path(pod, name)
            )
        spec = pod_spec.container_named(pod, name) or {"name": name}
        handler = (spec.get("lifecycle") or {}).get("preStop")
        left_s = grace_s
        if handler and grace_s > 0 and status.id not in self._hooked:
            left_s = max(grace_s - await self._pre_stop(pod, spec, status, handler, grace_s), MINIMUM_GRACE_S)
        if ahead and left_s > 0:
            clock = asyncio.get_running_loop().time
            begun = clock()
            await asyncio.wait(ahead, timeout=left_s)
            left_s = max(left_s - (clock() - begun), MINIMUM_GRACE_S)
        try:
            await self._context.runtime.stop_container(status.id, left_s)
        except RuntimeServiceError as error:
            if error.reason != "NotFound":
                raise

    async def kill_pod(self, pod: Object, state: PodRuntimeState, grace_s: float) -> None:
        """Stop everything that runs, in order, then the sandboxes."""
        ahead: list[asyncio.Task[None]] = []
        async with asyncio.TaskGroup() as group:
            for wave in termination_order(pod, state):
                before = tuple(ahead)
                ahead += [group.create_task(self.kill_container(pod, status, grace_s, ahead=before)) for status in wave]
        for sandbox in state.sandboxes:
            await self._context.runtime.stop_pod_sandbox(sandbox.id)

    async def _pre_stop(
        self, pod: Object, spec: dict[str, Any], status: ContainerStatus, handler: dict[str, Any], grace_s: float
    ) -> float:
        """How long the hook took."""
        clock: Callable[[], float] = asyncio.get_running_loop().time
        begun = clock()
        ips = self._context.cache.get(pod_spec.uid(pod)).ips
        ip = ips[0] if ips else self._context.config.node_ip
        try:
            await run_hook(self._context.runtime, handler, spec, status.id, ip, grace_s)
        except (HookError, TimeoutError) as error:
            why = str(error) or f"it did not end within {grace_s:g}s"
            self._context.recorder.event(
                pod,
                "Warning",
                "FailedPreStopHook",
                f"PreStopHook failed: {why}",
                field_path=field_path(pod, status.config.name),
            )
        self._hooked.add(status.id)
        return clock() - begun
