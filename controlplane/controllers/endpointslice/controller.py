"""The endpoint controllers: every Service with a selector has EndpointSlices and an Endpoints object that are true."""

from __future__ import annotations

from podnet.controlplane.api import meta
from podnet.controlplane.api.errors import StatusError
from podnet.controlplane.api.resources import ENDPOINTS, NODES, PODS, SERVICES
from podnet.controlplane.api.types import Object
from podnet.controlplane.client.reconcile import DONE, Controller, Result
from podnet.controlplane.client.workqueue import WorkQueue
from podnet.controlplane.controllers.context import ControllerContext, handling
from podnet.controlplane.controllers.endpointslice.endpoints import changed_endpoints, desired_endpoints
from podnet.controlplane.controllers.endpointslice.hints import (
    DISABLED,
    ENABLED,
    add_hints,
    hints_of,
    node_part,
    shares_of,
    wants_hints,
)
from podnet.controlplane.controllers.endpointslice.layout import SliceChanges, owned_by_service, plan_slices
from podnet.controlplane.controllers.endpointslice.mirror import LEADER
from podnet.controlplane.controllers.endpointslice.plan import (
    CONTROLLER_NAME,
    ZONE,
    Backend,
    address_types,
    desired_backend,
    is_behind,
    pod_addresses,
    selects,
)
from podnet.controlplane.controllers.endpointslice.writes import SliceWriter
from podnet.controlplane.controllers.pods import is_ready, phase_of


class EndpointSliceController:
    """One key per Service; both objects in one pass over the same pods."""

    def __init__(self, context: ControllerContext) -> None:
        self._context = context
        self._client = context.client
        self._services = context.informers.of(SERVICES)
        self._pods = context.informers.of(PODS)
        self._nodes = context.informers.of(NODES)
        self._slices = SliceWriter(context, CONTROLLER_NAME)
        self._endpoints = context.informers.of(ENDPOINTS)
        self._queue = WorkQueue()
        self._recorder = context.recorder.named("endpoint-slice-controller")
        # Why a Service that asks for hints has none, "" where it has them, by key and family. Events tell of changes.
        self._hint_reasons: dict[tuple[str, str], str] = {}

    async def run(self) -> None:
        """Reconcile until cancelled."""
        with handling(
            (self._services, self._on_service),
            (self._pods, self._on_pod),
            (self._nodes, self._on_node),
            (self._slices.informer, self._on_slice),
            (self._endpoints, self._on_endpoints),
        ):
            informers = (self._services, self._pods, self._nodes, self._slices.informer, self._endpoints)
            await self._context.informers.wait_synced(*informers)
            self._queue_orphans()
            await Controller("endpointslice", self._queue, self.reconcile, workers=5).run()

    def _queue_orphans(self) -> None:
        """Endpoints whose Service went while nobody looked; those that elect a leader never had one."""
        for endpoints in self._endpoints.list():
            if LEADER not in (endpoints["metadata"].get("annotations") or {}):
                self._queue.add(meta.key(endpoints))

    def _on_service(self, key: str, _old: Object | None, _new: Object | None) -> None:
        self._queue.add(key)

    def _on_slice(self, _key: str, old: Object | None, new: Object | None) -> None:
        for key in self._slices.observe(old, new):
            self._queue.add(key)

    def _on_endpoints(self, key: str, _old: Object | None, _new: Object | None) -> None:
        if key in self._services.cache:
            self._queue.add(key)

    def _on_pod(self, _key: str, old: Object | None, new: Object | None) -> None:
        if old is not None and new is not None and _endpoint_part(old) == _endpoint_part(new):
            return
        for service in self._services.list(meta.namespace(new or old or {})):
            if any(pod is not None and is_behind(service, pod) for pod in (old, new)):
                self._queue.add(meta.key(service))

    def _on_node(self, _key: str, old: Object | None, new: Object | None) -> None:
        """A node that came to a zone, or left it, took its pods along; its CPU counts where hints go by CPU."""
        has_moved = meta.labels(old or {}).get(ZONE) != meta.labels(new or {}).get(ZONE)
        if has_moved or old is None or new is None or node_part(old) != node_part(new):
            for service in self._services.list():
                if has_moved or wants_hints(service):
                    self._queue.add(meta.key(service))

    def _zone_of(self, node: str) -> str:
        found = self._nodes.get(node)
        return meta.labels(found).get(ZONE, "") if found is not None else ""

    async def reconcile(self, key: str) -> Result:
        """One Service."""
        service = self._services.get(key)
        if service is None:
            self._slices.forget(key)
            self._hint_reasons = {place: why for place, why in self._hint_reasons.items() if place[0] != key}
            await self._delete_endpoints(key)
            return DONE
        if not selects(service) or not self._slices.is_settled(key):
            return DONE
        pods = [pod for pod in self._pods.list(meta.namespace(service)) if is_behind(service, pod)]
        pods.sort(key=meta.name)
        families = address_types(service)
        owner = owned_by_service(service)
        for number, family in enumerate(families):
            found = [desired_backend(service, pod, family, self._zone_of) for pod in pods]
            backends = self._hinted(service, family, [backend for backend in found if backend is not None])
            await self._slices.write(key, plan_slices(owner, family, backends, self._slices.of(key, family)))
            if number == 0:
                await self._write_endpoints(service, backends)
        others = tuple(found for found in self._slices.of(key) if found["addressType"] not in families)
        await self._slices.write(key, SliceChanges(delete=others))
        return DONE

    def _hinted(self, service: Object, family: str, backends: list[Backend]) -> list[Backend]:
        """The endpoints with hints by CPU if the Service asks for those; what changes in that is told by an event."""
        key = meta.key(service)
        before = self._hint_reasons.pop((key, family), None)
        if not wants_hints(service):
            if before == "":
                self._say_hints(service, family, DISABLED)
            return backends
        hinted = add_hints(backends, shares_of(self._nodes.list()), hints_of(self._slices.of(key, family)))
        self._hint_reasons[key, family] = hinted.reason
        if hinted.reason != before:
            self._say_hints(service, family, hinted.reason)
        return [*hinted.backends]

    def _say_hints(self, service: Object, family: str, reason: str) -> None:
        if reason:
            self._recorder.event(service, "Warning", "TopologyAwareHintsDisabled", f"{reason}, addressType: {family}")
        else:
            self._recorder.event(service, "Normal", "TopologyAwareHintsEnabled", f"{ENABLED}, addressType: {family}")

    async def _write_endpoints(self, service: Object, backends: list[Backend]) -> None:
        desired = desired_endpoints(service, backends)
        current = self._endpoints.get(meta.key(service))
        if current is None:
            await self._client.create(ENDPOINTS, desired)
            return
        changed = changed_endpoints(current, desired)
        if changed is not None:
            await self._client.update(ENDPOINTS, changed)

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
