"""The mirroring controller: hand-made Endpoints of a Service without a selector have EndpointSlices that say the same."""

from __future__ import annotations

from podnet.controlplane.api.resources import ENDPOINTS, SERVICES
from podnet.controlplane.api.types import Object
from podnet.controlplane.client.reconcile import DONE, Controller, Result
from podnet.controlplane.client.workqueue import WorkQueue
from podnet.controlplane.controllers.context import ControllerContext, handling
from podnet.controlplane.controllers.endpointslice.layout import SliceChanges, plan_slices
from podnet.controlplane.controllers.endpointslice.mirror import (
    MIRRORING_NAME,
    is_mirrored,
    mirrored_backends,
    owned_by_endpoints,
)
from podnet.controlplane.controllers.endpointslice.writes import SliceWriter


class EndpointSliceMirroringController:
    """One key per Endpoints object."""

    def __init__(self, context: ControllerContext) -> None:
        self._context = context
        self._services = context.informers.of(SERVICES)
        self._endpoints = context.informers.of(ENDPOINTS)
        self._slices = SliceWriter(context, MIRRORING_NAME)
        self._queue = WorkQueue()

    async def run(self) -> None:
        """Reconcile until cancelled."""
        with handling(
            (self._services, self._on_change),
            (self._endpoints, self._on_change),
            (self._slices.informer, self._on_slice),
        ):
            await self._context.informers.wait_synced(self._services, self._endpoints, self._slices.informer)
            await Controller("endpointslicemirroring", self._queue, self.reconcile, workers=2).run()

    def _on_change(self, key: str, _old: Object | None, _new: Object | None) -> None:
        self._queue.add(key)

    def _on_slice(self, _key: str, old: Object | None, new: Object | None) -> None:
        for key in self._slices.observe(old, new):
            self._queue.add(key)

    async def reconcile(self, key: str) -> Result:
        """One Endpoints object."""
        if not self._slices.is_settled(key):
            return DONE
        endpoints = self._endpoints.get(key)
        if endpoints is None or not is_mirrored(endpoints, self._services.get(key)):
            self._slices.forget(key)
            await self._slices.write(key, SliceChanges(delete=tuple(self._slices.of(key))))
            return DONE
        by_family = mirrored_backends(endpoints)
        owner = owned_by_endpoints(endpoints)
        for family, backends in by_family.items():
            await self._slices.write(key, plan_slices(owner, family, backends, self._slices.of(key, family)))
        # No address, no slice: of a selector's Service one empty slice says "looked at"; here the Endpoints say it.
        others = tuple(found for found in self._slices.of(key) if found["addressType"] not in by_family)
        await self._slices.write(key, SliceChanges(delete=others))
        return DONE
