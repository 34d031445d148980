"""Informers: a resource's objects in memory, kept up to date by list and watch, and handlers told of each change.

    list ──▶ replace cache ──▶ watch from that revision ──▶ apply events …
      ▲                           │ 410 Gone, a revision from another life of the store: list again
      └───────────────────────────┤ connection lost: watch again from the last revision, with back-off
                                  ▼
                     handlers(key, old, new)    old None: appeared · new None: gone

Objects in the cache are shared: whoever wants to change one copies it first. Handlers are synchronous and trivial (they
add a key to a queue). After a list the cache is compared with the answer, so no change is lost over a disconnection,
though several may arrive as one.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import TypeAlias

from podnet.controlplane.api import meta
from podnet.controlplane.api.errors import StatusError
from podnet.controlplane.api.types import Object, Resource
from podnet.controlplane.client.backoff import RECONNECT, Backoff
from podnet.controlplane.client.reconcile import supervise
from podnet.controlplane.client.types import Client, WatchEvent

log = logging.getLogger(__name__)

Handler = Callable[[str, Object | None, Object | None], None]
Objects: TypeAlias = list[Object]
"""Spelled once here: inside `Informer`, `list` is a method."""
IndexFunction = Callable[[Object], Iterable[str]]

WATCH_TIMEOUT_S = (300, 600)
"""A watch is asked to end by itself after a random time in this range, so that no stream lives for ever."""


class Informer:
    """The cache of one resource (in one namespace, under selectors); see the module's picture."""

    def __init__(
        self,
        client: Client,
        resource: Resource,
        namespace: str = "",
        label_selector: str = "",
        field_selector: str = "",
        *,
        backoff: Backoff = RECONNECT,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self.resource = resource
        self._client = client
        self._namespace = namespace
        self._label_selector = label_selector
        self._field_selector = field_selector
        self._backoff = backoff
        self._jitter = jitter
        self._objects: dict[str, Object] = {}
        self._handlers: list[Handler] = []
        self._index_functions: dict[str, IndexFunction] = {}
        self._indexes: dict[str, dict[str, dict[str, Object]]] = {}
        self._synced = asyncio.Event()
        self._resource_version = ""
        self._disturbed_at = float("-inf")
        self.cache: Mapping[str, Object] = MappingProxyType(self._objects)

    @property
    def has_synced(self) -> bool:
        """True once the first list is in the cache."""
        return self._synced.is_set()

    async def wait_synced(self) -> None:
        """Wait for the first list."""
        await self._synced.wait()

    def undisturbed_s(self) -> float:
        """For how long the server has not failed us: silence in the cache means nothing while the server is away."""
        return asyncio.get_running_loop().time() - self._disturbed_at

    def get(self, key: str) -> Object | None:
        """The object under `namespace/name`, shared: do not change it."""
        return self._objects.get(key)

    def list(self, namespace: str = "") -> Objects:
        """All objects (of one namespace), shared: do not change them."""
        if not namespace:
            return [*self._objects.values()]
        prefix = namespace + "/"
        return [obj for key, obj in self._objects.items() if key.startswith(prefix)]

    def add_indexer(self, name: str, function: IndexFunction) -> None:
        """Keep `by_index(name, value)` for the values that `function` gives an object. Adding one again is harmless."""
        if name in self._index_functions:
            return
        self._index_functions[name] = function
        index = self._indexes.setdefault(name, {})
        for key, obj in self._objects.items():
            for value in function(obj):
                index.setdefault(value, {})[key] = obj

    def by_index(self, name: str, value: str) -> Objects:
        """The objects with `value` under the index `name`."""
        return [*self._indexes[name].get(value, {}).values()]

    def add_handler(self, on_key: Handler) -> Callable[[], None]:
        """Call `on_key(key, old, new)` on every change, and now for what the cache holds. Returns its removal."""
        self._handlers.append(on_key)
        for key, obj in [*self._objects.items()]:
            on_key(key, None, obj)

        def remove() -> None:
            with contextlib.suppress(ValueError):
                self._handlers.remove(on_key)

        return remove

    async def run(self) -> None:
        """List and watch until cancelled."""
        failures = 0
        while True:
            try:
                if not self._resource_version:
                    await self._relist()
                    failures = 0
                if await self._follow():
                    failures = 0
            except StatusError as error:
                self._disturbed_at = asyncio.get_running_loop().time()
                if error.code not in {429, 503}:
                    # 410, or a revision the server does not know: what we have seen is no starting point any more.
                    self._resource_version = ""
                level = logging.DEBUG if error.code in {410, 429, 503, 504} else logging.WARNING
                log.log(level, "watch of %s: %s", self.resource.qualified_name, error.message)
                await asyncio.sleep(self._backoff.delay_s(failures, self._jitter()))
                failures += 1

    async def _relist(self) -> None:
        answer = await self._client.list(
            self.resource, self._namespace, label_selector=self._label_selector, field_selector=self._field_selector
        )
        fresh = {meta.key(obj): obj for obj in answer.items}
        for key in [key for key in self._objects if key not in fresh]:
            self._set(key, None)
        for key, obj in fresh.items():
            self._set(key, obj)
        self._resource_version = answer.resource_version
        self._synced.set()

    async def _follow(self) -> bool:
        """One watch, to its end. True when it brought anything."""
        low, high = WATCH_TIMEOUT_S
        events = self._client.watch(
            self.resource,
            self._namespace,
            resource_version=self._resource_version,
            label_selector=self._label_selector,
            field_selector=self._field_selector,
            timeout_s=int(low + (high - low) * self._jitter()),
        )
        fruitful = False
        try:
            async for event in events:
                fruitful = True
                self._apply(event)
        finally:
            close = getattr(events, "aclose", None)
            if close is not None:
                await close()
        if not fruitful:
            # An empty stream that ends at once would otherwise spin.
            await asyncio.sleep(self._backoff.delay_s(0, self._jitter()))
        return fruitful

    def _apply(self, event: WatchEvent) -> None:
        version = event.object["metadata"].get("resourceVersion", "")
        if event.type == "DELETED":
            self._set(meta.key(event.object), None, last=event.object)
        elif event.type != "BOOKMARK":
            self._set(meta.key(event.object), event.object)
        if version:
            self._resource_version = version

    def _set(self, key: str, new: Object | None, last: Object | None = None) -> None:
        """Put `new` in the cache and tell the handlers; `last` is a deleted object's final state."""
        old = self._objects.get(key)
        if new is None:
            if self._objects.pop(key, None) is None:
                return
        else:
            if old is not None and _same_version(old, new):
                return
            self._objects[key] = new
        self._reindex(key, old, new)
        if old is not None and new is not None and old["metadata"].get("uid") != new["metadata"].get("uid"):
            # Deleted and created again while we were away: handlers that count must see both.
            self._tell(key, old, None)
            old = None
        self._tell(key, last if new is None and last is not None else old, new)

    def _reindex(self, key: str, old: Object | None, new: Object | None) -> None:
        for name, function in self._index_functions.items():
            index = self._indexes[name]
            for value in function(old) if old is not None else ():
                entries = index.get(value)
                if entries is not None:
                    entries.pop(key, None)
                    if not entries:
                        del index[value]
            for value in function(new) if new is not None else ():
                index.setdefault(value, {})[key] = new  # type: ignore[assignment]  # new is an Object here

    def _tell(self, key: str, old: Object | None, new: Object | None) -> None:
        for handler in [*self._handlers]:
            try:
                handler(key, old, new)
            except Exception:
                log.exception("a handler of %s failed for %s", self.resource.qualified_name, key)


def _same_version(old: Object, new: Object) -> bool:
    mine, theirs = old["metadata"], new["metadata"]
    version = theirs.get("resourceVersion")
    return bool(version) and mine.get("resourceVersion") == version and mine.get("uid") == theirs.get("uid")


class InformerSet:
    """One informer per (resource, namespace, selectors), shared by everyone in the process and started when wanted."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._informers: dict[tuple[str, str, str, str], Informer] = {}
        self._unstarted: list[Informer] = []
        self._wanted = asyncio.Event()

    def of(
        self, resource: Resource, namespace: str = "", *, label_selector: str = "", field_selector: str = ""
    ) -> Informer:
        """The shared informer of a resource; `run` starts it."""
        identity = (resource.qualified_name, namespace, label_selector, field_selector)
        informer = self._informers.get(identity)
        if informer is None:
            informer = Informer(self._client, resource, namespace, label_selector, field_selector)
            self._informers[identity] = informer
            self._unstarted.append(informer)
            self._wanted.set()
        return informer

    async def wait_synced(self, *informers: Informer) -> None:
        """Wait until these (or, without arguments, all known) informers hold their first list."""
        for informer in informers or [*self._informers.values()]:
            await informer.wait_synced()

    async def run(self) -> None:
        """Run every informer, those asked for later too, until cancelled."""
        async with asyncio.TaskGroup() as group:
            for informer in self._informers.values():
                if informer not in self._unstarted:
                    self._unstarted.append(informer)
            while True:
                while self._unstarted:
                    informer = self._unstarted.pop()
                    name = f"informer {informer.resource.qualified_name}"
                    group.create_task(supervise(name, informer.run), name=name)
                self._wanted.clear()
                await self._wanted.wait()
