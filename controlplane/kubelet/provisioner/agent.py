"""The loop of the node's volumes: claims that chose this node get theirs, released volumes go, begun ones are tidied up.

    claims, volumes ──▶ queue ──▶ plan (pure) ──▶ directories (the one door) and one write to the API server

What fails is told on the claim or the volume and tried again, later each time.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Literal, Protocol

from podnet.controlplane.api import meta
from podnet.controlplane.api.errors import StatusError, service_unavailable
from podnet.controlplane.api.resources import PERSISTENTVOLUMECLAIMS, PERSISTENTVOLUMES, STORAGECLASSES
from podnet.controlplane.api.types import Object
from podnet.controlplane.client.backoff import Backoff
from podnet.controlplane.client.informer import Informer
from podnet.controlplane.client.reconcile import DONE, Controller, Result, supervise
from podnet.controlplane.client.types import Client
from podnet.controlplane.client.volume_binding import PROVISIONER_FINALIZER, class_of
from podnet.controlplane.client.workqueue import WorkQueue
from podnet.controlplane.kubelet.provisioner.directories import VolumeDirectories, explain
from podnet.controlplane.kubelet.provisioner.plan import (
    desired_volume,
    is_abandoned,
    is_ours,
    refusal,
    removes_data,
    removes_finalizer,
    volume_name,
    wants_volume,
)

log = logging.getLogger(__name__)

RETRY = Backoff(base_s=0.5, max_s=60.0)
_CLAIM, _VOLUME, _DIRECTORY = "claim ", "volume ", "directory "


class Recorder(Protocol):
    """The part of client.events.EventRecorder that this loop uses."""

    def event(self, obj: Object, type_: Literal["Normal", "Warning"], reason: str, message: str) -> None: ...


class LocalPathProvisioner:
    """The provisioner of one node."""

    def __init__(self, client: Client, recorder: Recorder, node: str, directories: VolumeDirectories) -> None:
        self._client = client
        self._recorder = recorder
        self._node = node
        self._directories = directories
        self._claims = Informer(client, PERSISTENTVOLUMECLAIMS)
        self._volumes = Informer(client, PERSISTENTVOLUMES)
        self._queue = WorkQueue(backoff=RETRY)

    async def run(self) -> None:
        """Until cancelled."""
        self._queue = WorkQueue(backoff=RETRY)
        removals = [self._claims.add_handler(self._on_claim), self._volumes.add_handler(self._on_volume)]
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(supervise("claims", self._claims.run))
                group.create_task(supervise("volumes", self._volumes.run))
                await self._claims.wait_synced()
                await self._volumes.wait_synced()
                for name in await self._listed():
                    self._queue.add(_DIRECTORY + name)
                await Controller("local-path", self._queue, self.reconcile).run()
        finally:
            for remove in removals:
                remove()

    async def _listed(self) -> list[str]:
        try:
            return await asyncio.to_thread(self._directories.names)
        except OSError as error:
            log.warning("the volumes of this node cannot be listed: %s", error)
            return []

    def _on_claim(self, key: str, old: Object | None, new: Object | None) -> None:
        if new is not None and wants_volume(new, self._node):
            self._queue.add(_CLAIM + key)
        elif old is not None and wants_volume(old, self._node):
            # It went, or goes elsewhere: what was begun for it is not wanted any more.
            self._queue.add(_DIRECTORY + volume_name(meta.uid(old)))

    def _on_volume(self, key: str, _old: Object | None, new: Object | None) -> None:
        if new is not None and is_ours(new, self._directories.root):
            self._queue.add(_VOLUME + key)

    async def reconcile(self, key: str) -> Result:
        """One claim, volume or directory."""
        kind, name = key.split(" ", 1)
        if kind == "claim":
            return await self._provision(name)
        if kind == "volume":
            return await self._reclaim(name)
        return await self._tidy(name)

    async def _provision(self, key: str) -> Result:
        claim = self._claims.get(key)
        if claim is None or not wants_volume(claim, self._node):
            return DONE
        name = volume_name(meta.uid(claim))
        if self._volumes.get(name) is not None:
            return DONE
        why = refusal(claim)
        if why:
            self._failed(claim, why)
            return DONE  # what it asks for cannot change, only go
        said = f'External provisioner is provisioning volume for claim "{key}"'
        self._recorder.event(claim, "Normal", "Provisioning", said)
        try:
            of_class = await self._client.get(STORAGECLASSES, class_of(claim))
            path = await asyncio.to_thread(self._directories.make, name)
            await self._client.create(PERSISTENTVOLUMES, desired_volume(claim, of_class, self._node, path))
        except OSError as error:
            self._failed(claim, explain(error))
            raise service_unavailable(explain(error)) from error  # again after the back-off: there may be room by then
        except StatusError as error:
            if error.is_already_exists:
                return DONE
            self._failed(claim, error.message)
            raise
        self._recorder.event(claim, "Normal", "ProvisioningSucceeded", f"Successfully provisioned volume {name}")
        return DONE

    def _failed(self, claim: Object, why: str) -> None:
        message = f'failed to provision volume with StorageClass "{class_of(claim)}": {why}'
        self._recorder.event(claim, "Warning", "ProvisioningFailed", message)

    async def _reclaim(self, name: str) -> Result:
        volume = self._volumes.get(name)
        if volume is None or not is_ours(volume, self._directories.root):
            return DONE
        going = removes_data(volume)
        if going:
            try:
                await asyncio.to_thread(self._directories.remove, name)
            except OSError as error:
                self._recorder.event(volume, "Warning", "VolumeFailedDelete", explain(error))
                raise service_unavailable(explain(error)) from error
        if (going or removes_finalizer(volume)) and meta.has_finalizer(volume, PROVISIONER_FINALIZER):
            finalizers = [finalizer for finalizer in meta.finalizers(volume) if finalizer != PROVISIONER_FINALIZER]
            patch = {"metadata": {"finalizers": finalizers, "resourceVersion": meta.resource_version(volume)}}
            await self._client.patch(PERSISTENTVOLUMES, name, "", patch)
        if going and not meta.is_terminating(volume):
            await self._delete(volume)
        return DONE

    async def _delete(self, volume: Object) -> None:
        try:
            await self._client.delete(PERSISTENTVOLUMES, meta.name(volume), uid=meta.uid(volume))
        except StatusError as error:
            if not (error.is_not_found or error.is_conflict):
                raise

    async def _tidy(self, name: str) -> Result:
        uids = {meta.uid(claim) for claim in self._claims.list() if wants_volume(claim, self._node)}
        if not is_abandoned(name, self._volumes.cache, uids):
            return DONE
        try:
            await self._client.get(PERSISTENTVOLUMES, name)
        except StatusError as error:
            if not error.is_not_found:
                raise
            await asyncio.to_thread(self._directories.remove_empty, name)
        return DONE
