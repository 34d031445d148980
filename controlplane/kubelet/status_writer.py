"""Writes pod statuses: only what changed, one write at a time per pod, again and again while the server is away.

`put` replaces what is to be written (the newest wins, nothing queues up); a task per pod with something to write lives
as long as there is. Others write pods too: a write carries the resourceVersion it is based on, and a conflict is
answered by reading and merging again.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any

from podnet.controlplane.api.errors import StatusError
from podnet.controlplane.api.resources import PODS
from podnet.controlplane.api.types import Object
from podnet.controlplane.client.backoff import Backoff
from podnet.controlplane.client.types import Client
from podnet.controlplane.kubelet.pod_status import merge_status
from podnet.controlplane.kubelet.static_manifest import is_static

log = logging.getLogger(__name__)

RETRY = Backoff(base_s=0.05, max_s=2.0)

Spawn = Callable[[Coroutine[Any, Any, None], str], asyncio.Task[None]]


@dataclass(slots=True)
class _Slot:
    base: Object
    wanted: dict[str, Any] | None = None
    task: asyncio.Task[None] | None = None
    clean: asyncio.Event = field(default_factory=asyncio.Event)


class StatusWriter:
    """See the module. `spawn` starts a task in the kubelet's group."""

    def __init__(self, client: Client, spawn: Spawn) -> None:
        self._client = client
        self._spawn = spawn
        self._slots: dict[str, _Slot] = {}
        self.mirror_of: Callable[[Object], Object | None] = lambda _pod: None
        """Where the status of a static pod is written; None while nothing in the API stands for it."""

    def observe(self, pod: Object) -> None:
        """The newest known version of a pod, from the watch."""
        slot = self._slots.get(pod["metadata"]["uid"])
        if slot is not None and _version(pod) > _version(slot.base):
            slot.base = pod

    def put(self, pod: Object, status: dict[str, Any]) -> None:
        """Have `status` written over the pod's."""
        uid = pod["metadata"]["uid"]
        slot = self._slots.get(uid)
        if slot is None:
            slot = self._slots[uid] = _Slot(pod)
        self.observe(pod)
        slot.wanted = status
        if _is_written(slot):
            slot.clean.set()
            return
        slot.clean.clear()
        if slot.task is None:
            slot.task = self._spawn(self._write(uid, slot), f"status {uid}")

    def current(self, pod: Object) -> Object:
        """The pod with the newest status known here: a write's answer may be ahead of the watch."""
        slot = self._slots.get(pod["metadata"]["uid"])
        if slot is None or _version(slot.base) <= _version(pod):
            return pod
        return {**pod, "status": slot.base.get("status") or {}}

    def rewrite(self, uid: str) -> None:
        """What stands for a static pod in the API is new: it has no status yet."""
        slot = self._slots.get(uid)
        if slot is not None and slot.wanted is not None:
            slot.base = {**slot.base, "status": {}}
            self.put(slot.base, slot.wanted)

    async def wait_written(self, uid: str) -> None:
        """Wait until the last `put` of this pod is in the API (or the pod is gone)."""
        slot = self._slots.get(uid)
        if slot is not None:
            await slot.clean.wait()

    def forget(self, uid: str) -> None:
        """The pod is gone: nothing of it is written any more."""
        slot = self._slots.pop(uid, None)
        if slot is not None:
            slot.clean.set()
            if slot.task is not None:
                slot.task.cancel()

    async def _write(self, uid: str, slot: _Slot) -> None:
        failures = 0
        try:
            while self._slots.get(uid) is slot and not _is_written(slot):
                try:
                    failures = 0 if await self._write_once(uid, slot) else failures + 1
                except StatusError as error:
                    failures += 1
                    level = logging.DEBUG if error.code in {409, 429, 503} else logging.WARNING
                    log.log(level, "status of pod %s not written: %s", uid, error.message)
                    if error.code in {400, 403, 422}:
                        slot.clean.set()  # it will never be taken as it is: nobody shall wait for that
                if failures:
                    await asyncio.sleep(RETRY.delay_s(failures - 1))
        finally:
            slot.task = None
            slot.clean.set()

    async def _write_once(self, uid: str, slot: _Slot) -> bool:
        """One try; False when it has to be tried again."""
        base = slot.base
        if is_static(base):
            return await self._write_mirror(slot)
        body = {**base, "status": merge_status(base.get("status") or {}, slot.wanted or {})}
        metadata = base["metadata"]
        try:
            slot.base = await self._client.update(PODS, body, subresource="status")
        except StatusError as error:
            if error.is_not_found:
                self.forget(uid)
                return True
            if not error.is_conflict:
                raise
            return await self._read_again(uid, slot, metadata["namespace"], metadata["name"])
        return True

    async def _write_mirror(self, slot: _Slot) -> bool:
        """One try for a static pod: over its mirror, whose version is not ours to know."""
        mirror = self.mirror_of(slot.base)
        if mirror is None:
            return False
        status = merge_status(mirror.get("status") or {}, slot.wanted or {})
        try:
            written = await self._client.patch(
                PODS,
                mirror["metadata"]["name"],
                mirror["metadata"]["namespace"],
                {"metadata": {"uid": mirror["metadata"]["uid"]}, "status": status},
                subresource="status",
            )
        except StatusError as error:
            if error.is_not_found or error.is_conflict:
                return False  # deleted, or another one by now
            raise
        metadata = {**slot.base["metadata"], "resourceVersion": written["metadata"]["resourceVersion"]}
        slot.base = {**slot.base, "metadata": metadata, "status": written.get("status") or {}}
        return True

    async def _read_again(self, uid: str, slot: _Slot, namespace: str, name: str) -> bool:
        try:
            fresh = await self._client.get(PODS, name, namespace)
        except StatusError as error:
            if not error.is_not_found:
                raise
            self.forget(uid)
            return True
        if fresh["metadata"]["uid"] != uid:
            self.forget(uid)
            return True
        moved = _version(fresh) > _version(slot.base)
        slot.base = fresh
        return moved


def _version(pod: Object) -> int:
    # Opaque to clients in general; this kubelet and this API server are of one make.
    return int(pod["metadata"].get("resourceVersion") or 0)


def _is_written(slot: _Slot) -> bool:
    if slot.wanted is None:
        return True
    standing = slot.base.get("status") or {}
    return bool(_normal(merge_status(standing, slot.wanted)) == _normal(standing))


def _normal(value: Any) -> Any:
    """Without what a server may leave out: nulls, empty maps and lists."""
    if isinstance(value, dict):
        return {key: _normal(entry) for key, entry in value.items() if entry not in (None, {}, [])}
    if isinstance(value, list):
        return [_normal(entry) for entry in value]
    return value
