"""The runtime's state by pod, kept fresh: PLEG without polling.

`run` waits for the runtime to say that something ended and lists again; a worker that has changed something asks for a
`refresh`. Listings are shared: a caller never gets one that began before it asked.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

from podnet.controlplane.kubelet.cri import RuntimeService
from podnet.controlplane.kubelet.runtime_state import PodRuntimeState, group_by_pod

RELIST_S = 10.0


class RuntimeCache:
    """`on_change(uid)` is called for each pod whose state differs after a listing."""

    def __init__(self, runtime: RuntimeService, on_change: Callable[[str], None]) -> None:
        self._runtime = runtime
        self._on_change = on_change
        self._pods: Mapping[str, PodRuntimeState] = {}
        self._lock = asyncio.Lock()
        self._begun = self._done = 0

    def get(self, uid: str) -> PodRuntimeState:
        """What was last seen of a pod."""
        return self._pods.get(uid, PodRuntimeState())

    @property
    def uids(self) -> set[str]:
        """The pods which the runtime knows."""
        return set(self._pods)

    async def refresh(self) -> None:
        """List once, or share a listing that begins after this call."""
        wanted = self._begun + 1
        async with self._lock:
            if self._done >= wanted:
                return
            self._begun += 1
            number = self._begun
            sandboxes = await self._runtime.list_pod_sandboxes()
            fresh = group_by_pod(sandboxes, await self._runtime.list_containers())
            before, self._pods = self._pods, fresh
            self._done = number
        for uid in set(before) | set(fresh):
            if before.get(uid) != fresh.get(uid):
                self._on_change(uid)

    async def run(self) -> None:
        """Follow the runtime until cancelled."""
        while True:
            await self._runtime.wait_change(RELIST_S)
            await self.refresh()
