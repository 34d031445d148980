"""WATCH: one open stream of changes, from wherever the client says it has got to.

resourceVersion unset or "0": the current state comes first as ADDED events. N: the changes after N, or 410 when the
window does not reach back. sendInitialEvents: the current state, then a bookmark that says it is complete (KEP-3157).
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncGenerator

from podnet.controlplane.api.types import Object, Resource
from podnet.controlplane.apiserver.listing import select
from podnet.controlplane.apiserver.options import WatchOptions, check_watch_options, parse_resource_version
from podnet.controlplane.apiserver.watchcache import Entry, Item, WatchCache

MIN_TIMEOUT_S = 1800
"""A watch without timeoutSeconds lives 30 to 60 minutes, chosen at random so that clients do not all return at once."""

BOOKMARK_INTERVAL_S = 60.0
INITIAL_EVENTS_END = "k8s.io/initial-events-end"


class Watch:
    """One watch; iterate `batches()` once. Every batch is what had happened since the last, in order."""

    def __init__(self, cache: WatchCache, resource: Resource, namespace: str, options: WatchOptions) -> None:
        check_watch_options(options)
        self._cache = cache
        self._resource = resource
        self._options = options
        self._after = parse_resource_version(options.resource_version)
        selection = select(resource, namespace, options.label_selector, options.field_selector)
        self._predicate = selection.predicate
        self._prefix = selection.prefix

    async def batches(self) -> AsyncGenerator[list[Item], None]:
        """Events until the time is up, the server stops, or the client falls too far behind.

        Raises StatusError 410 at the first step when resourceVersion is too old.
        """
        options, cache = self._options, self._cache
        loop = asyncio.get_running_loop()
        deadline = loop.time() + (options.timeout_s or random.uniform(MIN_TIMEOUT_S, 2 * MIN_TIMEOUT_S))
        initial = self._wants_initial_events()
        if options.resource_version in {"", "0"} or initial:
            await (cache.wait_revision(self._after) if self._after else cache.wait_fresh())
        after = None if initial else (self._after or cache.revision)
        watcher, first, revision = cache.open_watch(self._resource, self._prefix, self._predicate, after=after)
        try:
            if options.send_initial_events and options.allow_bookmarks:
                first.append(self._bookmark(revision, {INITIAL_EVENTS_END: "true"}))
            yield first
            next_bookmark = loop.time() + BOOKMARK_INTERVAL_S
            while not watcher.closed:
                now = loop.time()
                if now >= deadline:
                    break
                until = min(deadline, next_bookmark) if options.allow_bookmarks else deadline
                if await watcher.wait_pending(until - now):
                    yield watcher.take()
                elif options.allow_bookmarks and loop.time() >= next_bookmark:
                    next_bookmark = loop.time() + BOOKMARK_INTERVAL_S
                    yield [self._bookmark(cache.revision, {})]
            if options.allow_bookmarks and not watcher.overflowed:
                yield [*watcher.take(), self._bookmark(cache.revision, {})]
        finally:
            watcher.close()

    def _wants_initial_events(self) -> bool:
        if self._options.send_initial_events is not None:
            return self._options.send_initial_events
        return not self._after

    def _bookmark(self, revision: int, annotations: dict[str, str]) -> Item:
        metadata: Object = {"resourceVersion": str(revision), "creationTimestamp": None}
        if annotations:
            metadata["annotations"] = annotations
        obj = {"kind": self._resource.kind, "apiVersion": self._resource.api_version, "metadata": metadata}
        return "BOOKMARK", Entry("", obj, revision), None
