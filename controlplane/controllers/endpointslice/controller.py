"""The endpoint controllers: every Service with a selector has EndpointSlices and an Endpoints object that are true."""

from __future__ import annotations

from podnet.controlplane.api import meta
from podnet.controlplane.api.errors import StatusError
from podnet.controlplane.api.resources import ENDPOINTS, ENDPOINTSLICES, NODES, PODS, SERVICES
from podnet.controlplane.api.types import Object
from podnet.controlplane.client.expectations import Expectations
from podnet.controlplane.client.reconcile import DONE, Controller, Result
from podnet.controlplane.client.workqueue import WorkQueue
from podnet.controlplane.controllers.context import ControllerContext, handling
from podnet.controlplane.controllers.endpointslice.plan import (
    CONTROLLER_NAME,
    MANAGED_BY,
    SERVICE_NAME,
    ZONE,
    Backend,
    address_types,
    desired_backend,
    desired_endpoints,
    plan_slices,
    pod_addresses,
    selects,
)
from podnet.controlplane.controllers.pods import is_ready, phase_of


class EndpointSliceController:
    """One key per Service; both objects in one pass over the same pods."""

    def __init__(self, context: ControllerContext) -> None:
        self._context = context
        self._client = context.client
        self._services = context.informers.of(SERVICES)
        self._pods = context.informers.of(PODS)
        self._nodes = context.informers.of(NODES)
        self._slices = context.informers.of(ENDPOINTSLICES)
        self._slices.add_indexer("service", _service_of)
        self._endpoints = context.informers.of(ENDPOINTS)
        self._queue = WorkQueue()
        self._expectations = Expectations()

    async def run(self) -> None:
        """Reconcile until cancelled."""
        with handling(
            (self._services, self._on_service),
            (self._pods, self._on_pod),
            (self._slices, self._on_slice),
            (self._endpoints, self._on_endpoints),
        ):
            informers = (self._services, self._pods, self._nodes, self._slices, self._endpoints)
            await self._context.informers.wait_synced(*informers)
            await Controller("endpointslice", self._queue, self.reconcile, workers=5).run()

    def _on_service(self, key: str, _old: Object | None, _new: Object | None) -> None:
        self._queue.add(key)

    def _on_slice(self, _key: str, old: Object | None, new: Object | None) -> None:
        for key in _service_of(new or old or {}):
            if old is None:
                self._expectations.creation_observed(key)
            self._queue.add(key)

    def _on_endpoints(self, key: str, _old: Object | None, _new: Object | None) -> None:
        if key in self._services.cache:
            self._queue.add(key)

    def _on_pod(self, _key: str, old: Object | None, new: Object | None) -> None:
        if old is not None and new is not None and _endpoint_part(old) == _endpoint_part(new):
            return
        for service in self._services.list(meta.namespace(new or old or {})):
            if any(pod is not None and _is_behind(service, pod) for pod in (old, new)):
                self._queue.add(meta.key(service))

    def _zone_of(self, node: str) -> str:
        found = self._nodes.get(node)
        return meta.labels(found).get(ZONE, "") if found is not None else ""

    async def reconcile(self, key: str) -> Result:
        """One Service."""
        service = self._services.get(key)
        if service is None:
            self._expectations.forget(key)
            await self._delete_endpoints(key)
            return DONE
        if not selects(service) or not self._expectations.satisfied(key, self._context.clock()):
            # A slice that we made is still on its way to the cache; its arrival brings us back here.
            return DONE
        pods = [pod for pod in self._pods.list(meta.namespace(service)) if _is_behind(service, pod)]
        pods.sort(key=meta.name)
        for number, family in enumerate(address_types(service)):
            found = [desired_backend(service, pod, family, self._zone_of) for pod in pods]
            backends = [backend for backend in found if backend is not None]
            await self._write_slices(service, family, backends)
            if number == 0:
                await self._write_endpoints(service, backends)
        return DONE

    async def _write_slices(self, service: Object, family: str, backends: list[Backend]) -> None:
        existing = [
            found for found in self._slices.by_index("service", meta.key(service)) if found["addressType"] == family
        ]
        changes = plan_slices(service, family, backends, sorted(existing, key=meta.name))
        # Additions before removals: a consumer that sees only half of it knows an endpoint twice, and never none.
        key = meta.key(service)
        for body in changes.create:
            self._expectations.expect_creations(key, 1, self._context.clock())
            try:
                await self._client.create(ENDPOINTSLICES, body)
            except StatusError:
                self._expectations.creation_observed(key)
                raise
        for body in changes.update:
            await self._client.update(ENDPOINTSLICES, body)
        for body in changes.delete:
            try:
                await self._client.delete(ENDPOINTSLICES, meta.name(body), meta.namespace(body), uid=meta.uid(body))
            except StatusError as error:
                if not error.is_not_found:
                    raise

    async def _write_endpoints(self, service: Object, backends: list[Backend]) -> None:
        desired = desired_endpoints(service, backends)
        current = self._endpoints.get(meta.key(service))
        if current is None:
            await self._client.create(ENDPOINTS, desired)
        elif current.get("subsets") != desired.get("subsets") or meta.labels(current) != meta.labels(desired):
            metadata = {**current["metadata"], "labels": meta.labels(desired)}
            await self._client.update(ENDPOINTS, {**desired, "metadata": metadata})

    async def _delete_endpoints(self, key: str) -> None:
        """Slices go by their ownerReference; Endpoints have none, as upstream."""
        if key not in self._endpoints.cache:
            return
        namespace, name = meta.split_key(key)
        try:
            await self._client.delete(ENDPOINTS, name, namespace)
        except StatusError as error:
            if not error.is_not_found:
                raise


def _service_of(found: Object) -> list[str]:
    """Index function: the Service of a slice that is ours."""
    labels = meta.labels(found)
    if labels.get(MANAGED_BY) != CONTROLLER_NAME or not labels.get(SERVICE_NAME):
        return []
    return [f"{meta.namespace(found)}/{labels[SERVICE_NAME]}"]


def _is_behind(service: Object, pod: Object) -> bool:
    selector = service["spec"].get("selector")
    return bool(selector) and selector.items() <= meta.labels(pod).items()


def _endpoint_part(pod: Object) -> tuple[object, ...]:
    """What of a pod an endpoint shows."""
    return (
        meta.labels(pod),
        pod_addresses(pod),
        is_ready(pod),
        meta.is_terminating(pod),
        phase_of(pod),
        pod["spec"].get("nodeName"),
    )
