"""What a pod may keep on its node's disk, and the end of one that keeps more: it is evicted.

Three limits, asked in this order: `sizeLimit` of each emptyDir, the sum of the containers' `limits.ephemeral-storage`
against all that the pod has written, and each container's own against its writable layer and log. Nothing hinders a
program from writing; the disk is looked at every ten seconds, so that a pod may be above its limit for so long.
Source: kubernetes pkg/kubelet/eviction/eviction_manager.go (localStorageEviction).
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from podnet.controlplane.api.quantity import Quantity, QuantityError, of
from podnet.controlplane.api.types import Object
from podnet.controlplane.kubelet import pod_spec
from podnet.controlplane.kubelet.pod_dispatch import PodDispatch
from podnet.controlplane.kubelet.pod_ending import Ending
from podnet.controlplane.kubelet.runtime_state import PodRuntimeState
from podnet.controlplane.kubelet.worker_context import WorkerContext

MONITOR_S = 10.0
EVICTION_GRACE_S = 1.0
EVICTED = "Evicted"
RESOURCE = "ephemeral-storage"
SYSTEM_CRITICAL_PRIORITY = 2_000_000_000
_BLOCK_BYTES = 512


@dataclass(frozen=True, slots=True)
class Usage:
    """Bytes on disk: of each emptyDir that is there and not in memory, and of each container (its log is its own)."""

    volumes: Mapping[str, int] = field(default_factory=dict)
    containers: Mapping[str, int] = field(default_factory=dict)

    @property
    def total(self) -> int:
        """All of it."""
        return sum(self.volumes.values()) + sum(self.containers.values())


def is_limited(pod: Object) -> bool:
    """Whether there is anything to look at; a pod that the system cannot do without is left alone, as upstream does."""
    if int(pod["spec"].get("priority") or 0) >= SYSTEM_CRITICAL_PRIORITY:
        return False
    return any(True for _ in _volume_limits(pod)) or bool(_container_limits(pod))


def _volume_limits(pod: Object) -> Iterator[tuple[str, Quantity]]:
    for volume in pod["spec"].get("volumes") or ():
        limit = _amount((volume.get("emptyDir") or {}).get("sizeLimit"))
        if limit is not None and not limit.is_zero():
            yield volume["name"], limit


def _container_limits(pod: Object) -> dict[str, Quantity]:
    limits = {
        container["name"]: _amount(((container.get("resources") or {}).get("limits") or {}).get(RESOURCE))
        for container in pod_spec.containers(pod)
    }
    return {name: limit for name, limit in limits.items() if limit is not None}


def _amount(text: Any) -> Quantity | None:
    try:
        return None if text is None else of(text)
    except QuantityError:
        return None  # stored before it was checked


def excess(pod: Object, usage: Usage) -> str:
    """Why the pod has to go, in upstream's words (which end in a blank); empty when it may stay."""
    for name, limit in _volume_limits(pod):
        if usage.volumes.get(name, 0) > limit.value:
            return f'Usage of EmptyDir volume "{name}" exceeds the limit "{limit}". '
    limits = _container_limits(pod)
    whole = sum(limits.values(), Quantity(0, "BinarySI"))
    if limits and usage.total > whole.value:
        return f"Pod ephemeral local storage usage exceeds the total limit of containers {whole}. "
    for name, limit in limits.items():
        if usage.containers.get(name, 0) > limit.value:
            return f'Container {name} exceeded its local ephemeral storage limit "{limit}". '
    return ""


def measure(pod: Object, state: PodRuntimeState, pod_dir: Path) -> Usage:
    """Look at the disk. Slow where there are many files: not for the event loop."""
    volumes = {
        volume["name"]: disk_usage(pod_dir / "volumes" / "kubernetes.io~empty-dir" / volume["name"])
        for volume in pod["spec"].get("volumes") or ()
        if "emptyDir" in volume and volume["emptyDir"].get("medium") != "Memory"
    }
    containers: dict[str, int] = {}
    for container in state.containers:
        name = container.config.name
        places = [Path(text) for text in (container.writable_layer, container.log_path) if text]
        containers[name] = containers.get(name, 0) + sum(map(disk_usage, places)) + root_usage(container.pid)
    return Usage(volumes, containers)


def disk_usage(path: Path) -> int:
    """The blocks of everything below, each file once; what vanishes meanwhile counts for nothing."""
    seen: dict[tuple[int, int], int] = {}
    places = [str(path)]
    while places:
        place = places.pop()
        try:
            status = os.lstat(place)
            seen[status.st_dev, status.st_ino] = status.st_blocks * _BLOCK_BYTES
            if os.path.isdir(place) and not os.path.islink(place):
                places += [entry.path for entry in os.scandir(place)]
        except OSError:
            continue
    return sum(seen.values())


def root_usage(pid: int) -> int:
    """What a container that runs has written beside its overlays: to the tmpfs on which the runtime puts a root together
    (`/tmp`, `/root`, …), which on another machine would be its writable layer, too."""
    try:
        mounts = Path(f"/proc/{pid}/mounts").read_text(encoding="utf-8") if pid else ""
        if not any(line.split()[1:3] == ["/", "tmpfs"] for line in mounts.splitlines()):
            return 0
        root = os.statvfs(f"/proc/{pid}/root/")
    except OSError:
        return 0  # it ended meanwhile
    return (root.f_blocks - root.f_bfree) * root.f_frsize


class LocalStorageKeeper:
    """The loop over this node's pods."""

    def __init__(self, context: WorkerContext, dispatch: PodDispatch) -> None:
        self._context = context
        self._dispatch = dispatch

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await asyncio.sleep(MONITOR_S)
            await self.look()

    async def look(self) -> None:
        """Once at every pod that has a limit."""
        for worker in self._dispatch.living:
            if not is_limited(worker.pod):
                continue
            directory = self._context.config.paths.pods_dir / worker.uid
            usage = await asyncio.to_thread(measure, worker.pod, worker.state, directory)
            why = excess(worker.pod, usage)
            if why and worker.ending is None:
                self._context.recorder.event(worker.pod, "Warning", EVICTED, why)
                worker.end(Ending(EVICTION_GRACE_S, EVICTED, why, failed=True))
