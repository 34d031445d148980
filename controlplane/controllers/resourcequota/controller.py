"""The ResourceQuota controller: keeps `status.used` of every quota; refusing is admission's work."""

from __future__ import annotations

import contextlib

from podnet.controlplane.api import meta
from podnet.controlplane.api.resources import RESOURCEQUOTAS
from podnet.controlplane.api.types import Object, Resource
from podnet.controlplane.client.informer import Informer
from podnet.controlplane.client.reconcile import DONE, Controller, Result
from podnet.controlplane.client.workqueue import WorkQueue
from podnet.controlplane.controllers.context import ControllerContext, handling
from podnet.controlplane.controllers.resourcequota.plan import desired_status, measured_resources, same_status

RESYNC_S = 10.0
"""Counted anew after this long in any case, as upstream's resource-quota-sync-period (5 min there; a lab has less time)."""


class ResourceQuotaController:
    """Counts for every quota. A resource is watched from the first quota on that counts it."""

    def __init__(self, context: ControllerContext) -> None:
        self._context = context
        self._client = context.client
        self._quotas = context.informers.of(RESOURCEQUOTAS)
        self._queue = WorkQueue()
        self._watched: dict[Resource, Informer] = {}
        self._handlers = contextlib.ExitStack()

    async def run(self) -> None:
        """Reconcile until cancelled."""
        with self._handlers, handling((self._quotas, self._on_quota)):
            await self._context.informers.wait_synced(self._quotas)
            await Controller("resourcequota", self._queue, self.reconcile).run()

    def _on_quota(self, key: str, _old: Object | None, _new: Object | None) -> None:
        self._queue.add(key)

    def _on_object(self, _key: str, old: Object | None, new: Object | None) -> None:
        for quota in self._quotas.list(meta.namespace(new or old or {})):
            self._queue.add(meta.key(quota))

    async def reconcile(self, key: str) -> Result:
        """One quota's status."""
        quota = self._quotas.get(key)
        if quota is None:
            return DONE
        namespace = meta.namespace(quota)
        objects = {resource: (await self._watch(resource)).list(namespace) for resource in measured_resources(quota)}
        status = desired_status(quota, objects, self._context.clock())
        if not same_status(quota.get("status"), status):
            await self._client.update(RESOURCEQUOTAS, {**quota, "status": status}, subresource="status")
        return Result(requeue_after_s=RESYNC_S)

    async def _watch(self, resource: Resource) -> Informer:
        informer = self._watched.get(resource)
        if informer is None:
            informer = self._watched[resource] = self._context.informers.of(resource)
            self._handlers.callback(informer.add_handler(self._on_object))
        await informer.wait_synced()
        return informer
