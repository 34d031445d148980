"""The ConfigMaps, Secrets, claims and volumes that pods of this node refer to, each watched by name while somebody needs it.

A pod `acquire`s its references before it reads them and `release`s them at its end; a change of an object wakes the
pods that hold it, so that mounted files follow at once.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from podnet.controlplane.api.types import Object, Resource
from podnet.controlplane.client.informer import Informer
from podnet.controlplane.client.types import Client
from podnet.controlplane.kubelet.status_writer import Spawn


@dataclass(frozen=True, slots=True)
class Reference:
    """One object by name."""

    resource: Resource
    namespace: str
    name: str

    @property
    def key(self) -> str:
        """`namespace/name`, or `name` for a cluster-scoped object."""
        return f"{self.namespace}/{self.name}" if self.namespace else self.name


@dataclass(slots=True)
class _Watched:
    informer: Informer
    task: asyncio.Task[None]
    holders: set[str] = field(default_factory=set)


class ConfigCache:
    """See the module. `wake(uid)` is called for each holder when an object changes."""

    def __init__(self, client: Client, spawn: Spawn, wake: Callable[[str], None]) -> None:
        self._client = client
        self._spawn = spawn
        self._wake = wake
        self._watched: dict[Reference, _Watched] = {}

    async def acquire(self, uid: str, references: Iterable[Reference]) -> None:
        """Hold exactly these references for a pod, and wait until each has been read once."""
        wanted = set(references)
        for reference in [r for r, watched in self._watched.items() if uid in watched.holders and r not in wanted]:
            self._drop(reference, uid)
        for reference in wanted:
            if reference not in self._watched:
                self._watched[reference] = self._watch(reference)
            self._watched[reference].holders.add(uid)
        for reference in wanted:
            await self._watched[reference].informer.wait_synced()

    def get(self, reference: Reference) -> Object | None:
        """The object, or None when it does not exist (or is not held)."""
        watched = self._watched.get(reference)
        return watched.informer.get(reference.key) if watched is not None else None

    def release(self, uid: str) -> None:
        """The pod needs nothing any more."""
        for reference in [r for r, watched in self._watched.items() if uid in watched.holders]:
            self._drop(reference, uid)

    def _watch(self, reference: Reference) -> _Watched:
        informer = Informer(
            self._client,
            reference.resource,
            reference.namespace,
            field_selector=f"metadata.name={reference.name}",
        )
        task = self._spawn(_run(informer), f"watch {reference.resource.plural} {reference.namespace}/{reference.name}")
        watched = _Watched(informer, task)

        def changed(_key: str, _old: Object | None, _new: Object | None) -> None:
            for uid in list(watched.holders):
                self._wake(uid)

        informer.add_handler(changed)
        return watched

    def _drop(self, reference: Reference, uid: str) -> None:
        watched = self._watched[reference]
        watched.holders.discard(uid)
        if not watched.holders:
            watched.task.cancel()
            del self._watched[reference]


async def _run(informer: Informer) -> None:
    # Ended by cancel() when the last holder lets go: the group that owns the task must not see that as an error.
    with contextlib.suppress(asyncio.CancelledError):
        await informer.run()
