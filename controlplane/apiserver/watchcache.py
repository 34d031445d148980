"""The watch cache: the current objects and a window of recent changes, fed by one watch of the store.

Rule: the cache only follows. A write goes to the store, comes back as an event, and is dispatched here in revision
order to every watcher; so what a watcher sees is exactly the store's history. Reads wait until the cache has caught up
with the revision they need (upstream: apiserver storage/cacher, KEP-2340 consistent reads from cache).

    store.watch ──> WatchCache.run ──> ResourceCache.apply ──> Entry (current) , ChangeEvent (window) ──> Watcher.offer

An Entry is one object at one revision and never changes; its bytes are made once and shared by every reader.
"""

from __future__ import annotations

import asyncio
import logging
from bisect import bisect_left, insort
from collections import deque
from collections.abc import Callable
from typing import Any

import orjson

from podnet.controlplane.api.errors import StatusError, expired, too_large_resource_version
from podnet.controlplane.api.resources import RESOURCES, storage_resource
from podnet.controlplane.api.types import Object, Resource
from podnet.controlplane.apiserver.keys import PREFIX, prefix_of
from podnet.controlplane.store.types import CompactedError, Event, KeyValue, Store, StoreError

log = logging.getLogger("apiserver.cache")

WINDOW = 2048
"""Changes kept for watches that start in the past, per resource (upstream's window adapts between 100 and 102,400)."""

REPLAY = 1000
"""Revisions of history read back at start, so that watches survive a restart of the server without a new list."""

PENDING_MAX = 16384
"""Changes a watcher may fall behind before its stream is ended; its client resumes from the last revision it saw."""

CATCH_UP_TIMEOUT_S = 3.0
"""How long a read waits for a revision that has not happened yet (upstream: blockTimeout 3 s)."""


class Entry:
    """One object at one revision, immutable, with its encodings. `obj` must not be changed: `thaw()` gives a copy."""

    __slots__ = ("_json", "key", "obj", "revision", "views")

    def __init__(self, key: str, obj: Object, revision: int) -> None:
        self.key = key
        self.obj = obj
        self.revision = revision
        self._json: bytes | None = None
        self.views: dict[Any, Any] | None = None

    @classmethod
    def of(cls, kv: KeyValue) -> Entry:
        """The entry of a stored value: the object with its resourceVersion filled in."""
        obj: Object = orjson.loads(kv.value)
        obj["metadata"]["resourceVersion"] = str(kv.mod_revision)
        return cls(kv.key, obj, kv.mod_revision)

    @property
    def json(self) -> bytes:
        """The object's JSON in its stored version, made once."""
        encoded = self._json
        if encoded is None:
            encoded = self._json = orjson.dumps(self.obj)
        return encoded

    def thaw(self) -> Object:
        """A copy that may be changed (decoding is five times faster than copy.deepcopy)."""
        copy: Object = orjson.loads(self.json)
        return copy

    def at_revision(self, revision: int) -> Entry:
        """The same state under another resourceVersion: what a DELETED event carries."""
        metadata = {**self.obj["metadata"], "resourceVersion": str(revision)}
        return Entry(self.key, {**self.obj, "metadata": metadata}, revision)


class ChangeEvent:
    """One change as watchers see it. `entry` is the new state (for a deletion the last one at the new revision),
    `previous` the state before. `encoded` shares the bytes of each (type, representation) among all watchers."""

    __slots__ = ("_left", "deleted", "encoded", "entry", "previous", "revision")

    def __init__(self, *, deleted: bool, entry: Entry, previous: Entry | None) -> None:
        self.deleted = deleted
        self.entry = entry
        self.previous = previous
        self.revision = entry.revision
        self.encoded: dict[Any, bytes] = {}
        self._left: Entry | None = None

    def left(self) -> Entry:
        """The state an object had when it left a selection, at the revision of leaving."""
        if self._left is None:
            self._left = (self.previous or self.entry).at_revision(self.revision)
        return self._left


Predicate = Callable[[Entry], bool]
Item = tuple[str, Entry, ChangeEvent | None]
"""What a watcher delivers: type, state, and the change whose encodings may be shared (None for initial states)."""


class Watcher:
    """One open watch: translates changes into ADDED, MODIFIED and DELETED of its own selection and keeps them in order
    until they are taken."""

    __slots__ = ("_waiter", "_wakeup", "after", "cache", "closed", "matches", "overflowed", "pending", "prefix")

    def __init__(self, cache: ResourceCache, prefix: str, matches: Predicate | None, after: int) -> None:
        self.cache = cache
        self.prefix = prefix
        self.matches = matches
        self.after = after
        self.pending: deque[Item] = deque()
        self.closed = False
        self.overflowed = False
        self._waiter: asyncio.Future[None] | None = None
        self._wakeup: asyncio.TimerHandle | None = None

    def offer(self, event: ChangeEvent) -> None:
        """Take a change that happened, if it concerns this watch."""
        if event.revision <= self.after or not event.entry.key.startswith(self.prefix):
            return
        item = self._translate(event)
        if item is None:
            return
        if len(self.pending) >= PENDING_MAX:
            self.overflowed = True
            self.close()
            return
        self.pending.append(item)
        self.wake()

    def _translate(self, event: ChangeEvent) -> Item | None:
        matches = self.matches
        if matches is None:
            if event.deleted:
                return "DELETED", event.entry, event
            return ("MODIFIED" if event.previous else "ADDED"), event.entry, event
        before = event.previous is not None and matches(event.previous)
        now = not event.deleted and matches(event.entry)
        if now:
            return ("MODIFIED" if before else "ADDED"), event.entry, event
        if before:
            return "DELETED", event.left(), event
        return None

    def take(self) -> list[Item]:
        """Everything that is pending, in order; never waits."""
        items = list(self.pending)
        self.pending.clear()
        return items

    async def wait_pending(self, timeout_s: float) -> bool:
        """Wait until something is pending or the watch is closed; False when `timeout_s` passed first."""
        if self.pending or self.closed:
            return True
        if timeout_s <= 0:
            return False
        loop = asyncio.get_running_loop()
        self._waiter = loop.create_future()
        handle = loop.call_later(timeout_s, self.wake)
        try:
            await self._waiter
        finally:
            handle.cancel()
            self._waiter = None
        return bool(self.pending) or self.closed

    def wake(self) -> None:
        """Let `wait_pending` return."""
        waiter = self._waiter
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    def close(self) -> None:
        """End the watch: nothing more is offered."""
        self.closed = True
        self.cache.watchers.discard(self)
        self.wake()


class ResourceCache:
    """The objects of one stored resource in key order, and the window of their recent changes."""

    def __init__(self, resource: Resource) -> None:
        self.resource = resource
        self.prefix = prefix_of(resource)
        self.entries: dict[str, Entry] = {}
        self.keys: list[str] = []
        self.events: deque[ChangeEvent] = deque()
        self.oldest = 0
        self.changed = 0
        self.received = 0
        self.watchers: set[Watcher] = set()

    def load(self, kv: KeyValue) -> None:
        """An object of the initial read."""
        self.entries[kv.key] = Entry.of(kv)
        self.keys.append(kv.key)

    def get(self, key: str) -> Entry | None:
        """The current state of one key."""
        return self.entries.get(key)

    def range(self, prefix: str) -> list[Entry]:
        """All entries below a prefix, in key order."""
        entries, keys = self.entries, self.keys
        if prefix == self.prefix:
            return [entries[key] for key in keys]
        low = bisect_left(keys, prefix)
        high = bisect_left(keys, prefix[:-1] + chr(ord(prefix[-1]) + 1))
        return [entries[key] for key in keys[low:high]]

    def apply(self, event: Event) -> None:
        """Follow one change of the store and tell the watchers."""
        kv = event.kv
        previous = self.entries.get(kv.key)
        if event.deleted:
            if previous is None:
                return
            entry = previous.at_revision(kv.mod_revision)
            del self.entries[kv.key]
            del self.keys[bisect_left(self.keys, kv.key)]
        else:
            entry = Entry.of(kv)
            self.entries[kv.key] = entry
            if previous is None:
                insort(self.keys, kv.key)
        change = ChangeEvent(deleted=event.deleted, entry=entry, previous=previous)
        self.changed = change.revision
        self.received += 1
        self.events.append(change)
        if len(self.events) > WINDOW:
            self.oldest = self.events.popleft().revision
        for watcher in tuple(self.watchers):
            watcher.offer(change)

    def since(self, revision: int) -> list[ChangeEvent]:
        """The changes after `revision`. Raises 410 when the window does not reach back that far."""
        if revision < self.oldest:
            raise expired(f"too old resource version: {revision} ({self.oldest})")
        changes: list[ChangeEvent] = []
        for change in reversed(self.events):
            if change.revision <= revision:
                break
            changes.append(change)
        changes.reverse()
        return changes


class WatchCache:
    """The caches of all resources and the one task that feeds them. `revision` is how far it has followed."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._caches: dict[tuple[str, str], ResourceCache] = {}
        for resource in RESOURCES:
            stored = storage_resource(resource)
            self._caches.setdefault((stored.group or "core", stored.plural), ResourceCache(stored))
        self._by_resource = {
            r: self._caches[storage_resource(r).group or "core", storage_resource(r).plural] for r in RESOURCES
        }
        self.revision = 0
        self.written = 0
        self._waiters: list[tuple[int, asyncio.Future[None]]] = []
        self._task: asyncio.Task[None] | None = None
        self._stopped = False
        self.failed: asyncio.Future[None] | None = None

    def of(self, resource: Resource) -> ResourceCache:
        """The cache of a resource; views share the cache of what is stored."""
        return self._by_resource[resource]

    async def start(self) -> None:
        """Read everything, then follow. Returns when the cache is as new as the store was at the call."""
        current = await self._store.revision()
        begin = min(max(current - REPLAY, 1), current)  # revision 0 would mean "now"
        try:
            result = await self._store.range(PREFIX, revision=begin)
        except StoreError:
            begin = current
            result = await self._store.range(PREFIX, revision=begin)
        for kv in result.kvs:
            cache = self._cache_of(kv.key)
            if cache is not None:
                cache.load(kv)
        for cache in self._caches.values():
            cache.oldest = begin
        self.revision = begin
        self.failed = asyncio.get_running_loop().create_future()
        self._task = asyncio.create_task(self._run(begin + 1), name="watch-cache")
        await self.wait_revision(current)

    async def stop(self) -> None:
        """End every watch, those to come too, and stop following."""
        self._stopped = True
        for cache in self._caches.values():
            for watcher in tuple(cache.watchers):
                watcher.close()
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None

    async def _run(self, revision: int) -> None:
        try:
            async for events in self._store.watch(PREFIX, revision):
                for event in events:
                    cache = self._cache_of(event.kv.key)
                    if cache is not None:
                        cache.apply(event)
                if events:
                    self._advance(events[-1].revision)
        except (CompactedError, StoreError) as error:
            log.exception("store watch ended", extra={"revision": self.revision})
            if self.failed is not None and not self.failed.done():
                self.failed.set_exception(error)

    def _cache_of(self, key: str) -> ResourceCache | None:
        parts = key.split("/", 4)
        return self._caches.get((parts[2], parts[3])) if len(parts) == 5 else None

    def _advance(self, revision: int) -> None:
        self.revision = revision
        if not self._waiters:
            return
        waiting = []
        for wanted, future in self._waiters:
            if future.done():
                continue
            if wanted <= revision:
                future.set_result(None)
            else:
                waiting.append((wanted, future))
        self._waiters = waiting

    def note_write(self, revision: int) -> None:
        """A write of this server was acknowledged at `revision`: consistent reads must not be older."""
        self.written = max(self.written, revision)

    async def wait_fresh(self) -> None:
        """Wait until everything this server has written is in the cache (it is the store's only writer)."""
        if self.revision < self.written:
            await self.wait_revision(self.written)

    async def wait_revision(self, revision: int) -> None:
        """Wait until the cache has followed up to `revision`; 504 when it does not happen in time."""
        if revision <= self.revision:
            return
        future = asyncio.get_running_loop().create_future()
        self._waiters.append((revision, future))
        try:
            async with asyncio.timeout(CATCH_UP_TIMEOUT_S):
                await future
        except TimeoutError:
            raise too_large_resource_version(revision, self.revision) from None

    def open_watch(
        self, resource: Resource, prefix: str, matches: Predicate | None, *, after: int | None
    ) -> tuple[Watcher, list[Item], int]:
        """Start a watch without a gap: (watcher, what comes first, the revision that is up to).

        `after` None begins with the current state as ADDED; else with the changes after that revision (410 if they
        have left the window).
        """
        cache = self.of(resource)
        if after is None:
            start = self.revision
            first: list[Item] = [
                ("ADDED", entry, None) for entry in cache.range(prefix) if matches is None or matches(entry)
            ]
            watcher = Watcher(cache, prefix, matches, start)
        else:
            changes = cache.since(after)
            watcher = Watcher(cache, prefix, matches, after)
            for change in changes:
                watcher.offer(change)
            first = watcher.take()
            start = max(after, self.revision)
        cache.watchers.add(watcher)
        if self._stopped:  # a client outside of our stop asks again at once, and would be waited for
            watcher.close()
        return watcher, first, start


__all__ = ["ChangeEvent", "Entry", "Item", "Predicate", "ResourceCache", "StatusError", "WatchCache", "Watcher"]
