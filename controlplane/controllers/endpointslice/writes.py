"""Slices of one controller: found by their Service, written in an order that never hides an endpoint.

Both controllers of this package use it; they differ in whose slices are theirs (the managed-by label).
"""

from __future__ import annotations

from podnet.controlplane.api import meta
from podnet.controlplane.api.errors import StatusError
from podnet.controlplane.api.resources import ENDPOINTSLICES
from podnet.controlplane.api.types import Object
from podnet.controlplane.client.expectations import Expectations
from podnet.controlplane.controllers.context import ControllerContext
from podnet.controlplane.controllers.endpointslice.layout import SliceChanges
from podnet.controlplane.controllers.endpointslice.plan import MANAGED_BY, SERVICE_NAME


class SliceWriter:
    """The slices that bear `manager` in their managed-by label; keys are `namespace/name` of the Service."""

    def __init__(self, context: ControllerContext, manager: str) -> None:
        self._context = context
        self._manager = manager
        self._index = f"service of {manager}"
        self._expectations = Expectations()
        self.informer = context.informers.of(ENDPOINTSLICES)
        self.informer.add_indexer(self._index, self.services_of)

    def services_of(self, found: Object) -> list[str]:
        """The Service of a slice that is ours; nothing of anybody else's."""
        labels = meta.labels(found)
        if labels.get(MANAGED_BY) != self._manager or not labels.get(SERVICE_NAME):
            return []
        return [f"{meta.namespace(found)}/{labels[SERVICE_NAME]}"]

    def observe(self, old: Object | None, new: Object | None) -> list[str]:
        """A slice came, changed or went: the keys to look at again. One that lost our label counts, too."""
        keys = {key for found in (old, new) if found is not None for key in self.services_of(found)}
        if old is None:
            for key in keys:
                self._expectations.creation_observed(key)
        return sorted(keys)

    def is_settled(self, key: str) -> bool:
        """False while a slice that we made is on its way to the cache; its arrival brings the key back."""
        return self._expectations.satisfied(key, self._context.clock())

    def forget(self, key: str) -> None:
        """The Service is gone."""
        self._expectations.forget(key)

    def of(self, key: str, family: str = "") -> list[Object]:
        """The slices of one Service, by name; of one address family, or all."""
        found = self.informer.by_index(self._index, key)
        return sorted((s for s in found if not family or s["addressType"] == family), key=meta.name)

    async def write(self, key: str, changes: SliceChanges) -> None:
        """Additions before removals: a consumer that sees only half of it knows an endpoint twice, and never none."""
        client = self._context.client
        for body in changes.create:
            self._expectations.expect_creations(key, 1, self._context.clock())
            try:
                await client.create(ENDPOINTSLICES, body)
            except StatusError:
                self._expectations.creation_observed(key)
                raise
        for body in changes.update:
            await client.update(ENDPOINTSLICES, body)
        for body in changes.delete:
            try:
                await client.delete(ENDPOINTSLICES, meta.name(body), meta.namespace(body), uid=meta.uid(body))
            except StatusError as error:
                if not error.is_not_found:
                    raise
