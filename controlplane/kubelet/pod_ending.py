"""How a pod ends on its node.

Each step may be repeated: kill what runs, take the network down, publish the last status, remove the volumes; then a
deleted pod is deleted from the API with grace 0, a vanished one is forgotten, and a finished one stays as a record (its
dead containers keep their logs) until somebody deletes it.
"""

from __future__ import annotations

import asyncio
import contextlib
import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING

from podnet.controlplane.api.errors import StatusError
from podnet.controlplane.api.resources import PODS
from podnet.controlplane.kubelet import pod_spec
from podnet.controlplane.kubelet.container_config import pod_log_dir
from podnet.controlplane.kubelet.cri import SandboxState
from podnet.controlplane.kubelet.timestamps import SECOND_NS
from podnet.controlplane.kubelet.worker_context import WorkerContext

if TYPE_CHECKING:
    from podnet.controlplane.kubelet.pod_worker import PodWorker

GONE_GRACE_S = 1
"""A pod that is already gone from the API (forced deletion) still gets a SIGTERM and one second."""
DELETE_RETRY_NS = SECOND_NS


@dataclass(frozen=True, slots=True)
class Ending:
    """Why and how fast. `reason`, `message` and `failed` become the pod's status; `completed`: its containers came to
    their own end; `vanished`: the API has forgotten it."""

    grace_s: float
    reason: str = ""
    message: str = ""
    failed: bool = False
    completed: bool = False
    vanished: bool = False


class PodEnder:
    """Applies an `Ending` to a worker's pod."""

    def __init__(self, context: WorkerContext, worker: PodWorker) -> None:
        self._context = context
        self._worker = worker
        self._cleaned = False

    async def step(self, ending: Ending) -> int:
        """Go as far as possible; when to come back (0: when woken)."""
        worker, context = self._worker, self._context
        if self._is_alive():
            worker.probes.stop(keep=frozenset({"readiness"}))
            await self._kill(ending)
            await context.cache.refresh()
            if self._is_alive():
                return context.clock() + DELETE_RETRY_NS
        worker.probes.stop()
        if worker.ending is not None and worker.ending.vanished:
            await self._forget()
            return 0
        worker.publish(worker.state, ended=True)
        if not self._cleaned:
            worker.volumes.tear_down()
            context.configs.release(worker.uid)
            self._cleaned = True
        if not pod_spec.is_deleting(worker.pod):
            return 0
        return await self._delete()

    def _is_alive(self) -> bool:
        state = self._worker.state
        return bool(state.running) or any(s.state is SandboxState.READY for s in state.sandboxes)

    async def _kill(self, ending: Ending) -> None:
        """Kill everything, again with less time when the grace period is shortened meanwhile."""
        worker = self._worker
        grace_s = ending.grace_s
        task = asyncio.create_task(worker.killer.kill_pod(worker.pod, worker.state, grace_s))
        try:
            while not task.done():
                woken = asyncio.create_task(worker.wait_woken())
                try:
                    await asyncio.wait({task, woken}, return_when=asyncio.FIRST_COMPLETED)
                finally:
                    woken.cancel()
                    await asyncio.gather(woken, return_exceptions=True)
                now = worker.ending or ending
                if not task.done() and now.grace_s < grace_s:
                    grace_s = now.grace_s
                    await _cancel(task)
                    task = asyncio.create_task(worker.killer.kill_pod(worker.pod, worker.state, grace_s))
                elif not task.done() and not now.vanished:
                    worker.publish(worker.state)
            await task
        finally:
            await _cancel(task)

    async def _delete(self) -> int:
        worker, context = self._worker, self._context
        await self._wait_written()
        await self._remove_sandboxes()
        try:
            await context.client.delete(
                PODS, pod_spec.name_of(worker.pod), pod_spec.namespace_of(worker.pod), grace_period_s=0, uid=worker.uid
            )
        except StatusError as error:
            if not (error.is_not_found or error.is_conflict):
                return context.clock() + DELETE_RETRY_NS
            await self._forget()  # gone already, or another pod has the name now
            return 0
        # Finalizers may hold it; the watch tells when it is really gone.
        return 0

    async def _wait_written(self) -> None:
        """Until the last status stands in the API, or the pod vanishes meanwhile."""
        worker = self._worker
        written = asyncio.create_task(self._context.statuses.wait_written(worker.uid))
        try:
            while not written.done() and not (worker.ending is not None and worker.ending.vanished):
                woken = asyncio.create_task(worker.wait_woken())
                await asyncio.wait({written, woken}, return_when=asyncio.FIRST_COMPLETED)
                woken.cancel()
                await asyncio.gather(woken, return_exceptions=True)
        finally:
            await _cancel(written)

    async def _remove_sandboxes(self) -> None:
        worker, context = self._worker, self._context
        for sandbox in worker.state.sandboxes:
            await context.runtime.stop_pod_sandbox(sandbox.id)
            await context.runtime.remove_pod_sandbox(sandbox.id)
        await context.cache.refresh()

    async def _forget(self) -> None:
        worker, context = self._worker, self._context
        await self._remove_sandboxes()
        worker.volumes.tear_down()
        context.configs.release(worker.uid)
        context.statuses.forget(worker.uid)
        metadata = worker.pod["metadata"]
        logs = pod_log_dir(context.config.paths.pod_logs_dir, metadata["namespace"], metadata["name"], metadata["uid"])
        shutil.rmtree(logs, ignore_errors=True)
        worker.finished = True


async def _cancel(task: asyncio.Task[None]) -> None:
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError, Exception):
        await task
