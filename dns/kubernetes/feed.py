"""From the API server to zones: informers feed changes, changes in a short window make one new zone.

    list+watch ──▶ Informer ──▶ Change ──┐
    list+watch ──▶ Informer ──▶ Change ──┴─▶ apply_changes ──▶ publish(zone)       at most every MIN_INTERVAL_S

The rule: nothing is published before every informer holds its first list, and whatever is published stays when the API
server goes away: a cluster without its API server still resolves names.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine, Mapping
from typing import TYPE_CHECKING, Protocol

from podnet.controlplane.api import meta
from podnet.controlplane.api.resources import ENDPOINTSLICES, NAMESPACES, NODES, PODS, SERVICES
from podnet.controlplane.api.types import Object, Resource
from podnet.dns.kubernetes.identity import endpoint_of
from podnet.dns.kubernetes.options import KubernetesOptions
from podnet.dns.records.edit import apply_changes
from podnet.dns.records.types import Change, Kind
from podnet.dns.records.zone import Zone

if TYPE_CHECKING:
    from podnet.controlplane.client.informer import InformerSet

log = logging.getLogger(__name__)

MIN_INTERVAL_S = 0.01
_RUNNING = "status.phase!=Succeeded,status.phase!=Failed,status.phase!=Unknown"
SERVICE_IMPORTS = Resource(
    "multicluster.x-k8s.io",
    "v1alpha1",
    "serviceimports",
    "serviceimport",
    "ServiceImport",
    namespaced=True,
    verbs=("list", "watch"),
)

Publish = Callable[[Zone, Zone | None], None]
Spawn = Callable[[Coroutine[object, object, None]], object]


class Feed(Protocol):
    """Whoever brings zones."""

    async def start(self, spawn: Spawn, publish: Publish, timeout_s: float) -> None:
        """Begin; return when the first zone was published, or after `timeout_s` all the same."""
        ...

    async def stop(self) -> None:
        """End."""
        ...


class ApiFeed:
    """The feed of one server block."""

    def __init__(self, options: KubernetesOptions, environ: Mapping[str, str]) -> None:
        self._options = options
        self._environ = environ
        self._pending: list[Change] = []
        self._wake = asyncio.Event()
        self._synced = asyncio.Event()
        self._close: Callable[[], Coroutine[object, object, None]] | None = None

    async def start(self, spawn: Spawn, publish: Publish, timeout_s: float) -> None:
        # Imported here: aiohttp is most of a server's memory, and a Corefile without this plugin does without it.
        from podnet.controlplane.client.informer import InformerSet
        from podnet.controlplane.client.rest import RestClient

        client = RestClient(endpoint_of(self._options.api, self._environ))
        self._close = client.close
        informers = InformerSet(client)
        self._subscribe(informers)
        spawn(informers.run())
        spawn(self._run(informers, publish))
        try:
            async with asyncio.timeout(timeout_s):
                await self._synced.wait()
        except TimeoutError:
            log.warning("plugin/kubernetes: starting server with unsynced Kubernetes API")

    async def stop(self) -> None:
        if self._close is not None:
            await self._close()

    def _subscribe(self, informers: InformerSet) -> None:
        options = self._options.records
        labels = str(options.labels)
        self._follow(informers, NAMESPACES, "Namespace")
        self._follow(informers, SERVICES, "Service", labels=labels)
        if options.endpoints:
            self._follow(informers, ENDPOINTSLICES, "EndpointSlice", labels=labels)
        if options.pods == "verified":
            self._follow(informers, PODS, "Pod", fields=_RUNNING)
        if options.nodes:
            self._follow(informers, NODES, "Node")
        if self._options.multicluster:
            self._follow(informers, SERVICE_IMPORTS, "ServiceImport")

    def _follow(
        self, informers: InformerSet, resource: Resource, kind: Kind, *, labels: str = "", fields: str = ""
    ) -> None:
        def on_key(_key: str, old: Object | None, new: Object | None) -> None:
            subject = new or old
            assert subject is not None
            self._pending.append(Change(kind, meta.namespace(subject), meta.name(subject), new))
            self._wake.set()

        informers.of(resource, label_selector=labels, field_selector=fields).add_handler(on_key)

    async def _run(self, informers: InformerSet, publish: Publish) -> None:
        zone = Zone(self._options.records)
        imports = Zone(self._options.records, multicluster=True) if self._options.multicluster else None
        await informers.wait_synced()
        while True:
            changes, self._pending = self._pending, []
            self._wake.clear()
            serial = int(time.time())
            zone = apply_changes(zone, changes, serial)
            imports = apply_changes(imports, changes, serial) if imports is not None else None
            publish(zone, imports)
            self._synced.set()
            await asyncio.sleep(MIN_INTERVAL_S)
            await self._wake.wait()
