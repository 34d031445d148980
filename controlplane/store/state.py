"""The committed state and the recent past of a store: sorted keys, a window of the newest events, watches on it.

A watch is a cursor into one shared log, not a queue: a slow consumer costs an integer. It reads from the window here, or,
when it has fallen behind that, from the driver's own log, and comes back to the window by itself.

    log    ... 41 42 43 | 44 45 46 47 48 |          window: in memory, revision -> index by subtraction
                 ^A              ^B       ^C        A reads the driver's log, B the window, C waits

The rule: everything here runs on the event loop's thread and never waits, except a watch for its next events.
Source: etcd's mvcc watchable store, whose synced and unsynced watchers this simplifies.
"""

from __future__ import annotations

import asyncio
from bisect import bisect_left, insort
from collections.abc import Awaitable, Callable, Sequence
from itertools import islice
from weakref import WeakSet

from podnet.controlplane.store.types import (
    CompactedError,
    Event,
    FutureRevisionError,
    KeyValue,
    RangeResult,
    StoreClosedError,
)

FIRST_REVISION = 1
"""The revision of an empty store, as etcd's: a resourceVersion of 0 means something else to clients."""
BATCH_EVENTS_MAX = 512

ReadLog = Callable[[str, int, int, int], Awaitable[tuple[list[Event], int]]]
"""(prefix, first revision, last revision, limit) -> (events, revision to go on from)."""


def prefix_end(prefix: str) -> str | None:
    """The smallest key after all keys that begin with `prefix`; None when there is none."""
    for index in range(len(prefix) - 1, -1, -1):
        code = ord(prefix[index])
        if code < 0x10FFFF:
            following = 0xE000 if code == 0xD7FF else code + 1  # surrogates are no characters
            return prefix[:index] + chr(following)
    return None


class Keyspace:
    """Keys in byte order (which for UTF-8 is code point order) with their newest values."""

    def __init__(self, kvs: Sequence[KeyValue] = ()) -> None:
        self._values = {kv.key: kv for kv in kvs}
        self._keys = sorted(self._values)

    def get(self, key: str) -> KeyValue | None:
        """The key now."""
        return self._values.get(key)

    def put(self, kv: KeyValue) -> None:
        """Set one key."""
        if kv.key not in self._values:
            insort(self._keys, kv.key)
        self._values[kv.key] = kv

    def remove(self, key: str) -> None:
        """Drop one key that is there."""
        del self._values[key]
        del self._keys[bisect_left(self._keys, key)]

    def range(self, prefix: str, start: str, limit: int) -> tuple[tuple[KeyValue, ...], int]:
        """(the first `limit` keys with `prefix` from `start` on, how many more there are)."""
        low, high = self._bounds(prefix, start)
        last = min(high, low + limit) if limit > 0 else high
        return tuple(self._values[key] for key in self._keys[low:last]), high - last

    def _bounds(self, prefix: str, start: str) -> tuple[int, int]:
        low = bisect_left(self._keys, max(prefix, start))
        end = prefix_end(prefix)
        high = len(self._keys) if end is None else bisect_left(self._keys, end)
        return low, max(low, high)


class State:
    """What a driver commits to and reads from. `window_max` 0 keeps every event since the last compaction."""

    def __init__(
        self,
        kvs: Sequence[KeyValue] = (),
        *,
        revision: int = FIRST_REVISION,
        compacted: int = 0,
        window_max: int = 0,
        read_log: ReadLog | None = None,
    ) -> None:
        self.revision = revision
        self.compacted = compacted
        self.keyspace = Keyspace(kvs)
        self._window: list[Event] = []
        self._window_start = revision + 1
        self._window_max = window_max
        self._read_log = read_log
        self._watches: WeakSet[Watch] = WeakSet()
        self._closed = False

    # --- writes

    def commit(self, events: Sequence[Event]) -> None:
        """Make events visible; their revisions follow on from `revision` without a gap."""
        for event in events:
            if event.deleted:
                self.keyspace.remove(event.kv.key)
            else:
                self.keyspace.put(event.kv)
        first = self.revision + 1
        self._window.extend(events)
        self.revision += len(events)
        self._trim()
        for watch in list(self._watches):
            watch.notice(events, first)

    def _trim(self) -> None:
        # Cut in halves, not one by one: deleting at a list's front moves all the rest.
        if self._window_max and len(self._window) > 2 * self._window_max:
            self._drop_window(len(self._window) - self._window_max)

    def _drop_window(self, count: int) -> None:
        del self._window[:count]
        self._window_start += count

    def compact(self, revision: int) -> None:
        """Forget what is older than `revision`. Raises CompactedError, FutureRevisionError."""
        if revision > self.revision:
            raise FutureRevisionError(revision, self.revision)
        if revision <= self.compacted:
            raise CompactedError(revision, self.compacted)
        self.compacted = revision
        if revision > self._window_start:
            self._drop_window(min(revision - self._window_start, len(self._window)))

    def close(self) -> None:
        """End all watches."""
        self._closed = True
        for watch in list(self._watches):
            watch.close()

    # --- reads

    def check(self, revision: int) -> int:
        """The revision to read at (0: now). Raises CompactedError, FutureRevisionError."""
        if self._closed:
            raise StoreClosedError
        if revision <= 0:
            return self.revision
        if revision > self.revision:
            raise FutureRevisionError(revision, self.revision)
        if revision < self.compacted:
            raise CompactedError(revision, self.compacted)
        return revision

    def holds(self, revision: int) -> bool:
        """Whether the state at `revision` can be told from memory alone."""
        return revision + 1 >= self._window_start

    def get(self, key: str, revision: int) -> KeyValue | None:
        """One key at a revision which `holds`."""
        for event in islice(self._window, revision + 1 - self._window_start, None):
            if event.kv.key == key:
                return event.prev
        return self.keyspace.get(key)

    def range(self, prefix: str, start: str, limit: int, revision: int) -> RangeResult:
        """Keys at a revision which `holds`."""
        if revision == self.revision:
            kvs, remaining = self.keyspace.range(prefix, start, limit)
            return RangeResult(kvs, revision, remaining)
        then = {kv.key: kv for kv in self.keyspace.range(prefix, start, 0)[0]}
        for event in reversed(self._window[revision + 1 - self._window_start :]):
            key = event.kv.key
            if key.startswith(prefix) and key >= start:
                if event.prev is None:
                    then.pop(key, None)
                else:
                    then[key] = event.prev
        return cut([then[key] for key in sorted(then)], limit, revision)

    # --- watches

    def watch(self, prefix: str, revision: int) -> Watch:
        """Events of keys with `prefix` from `revision` on (0 or less: from now on)."""
        watch = Watch(self, prefix, revision if revision > 0 else self.revision + 1)
        self._watches.add(watch)
        if self._closed:
            watch.close()
        return watch

    def forget(self, watch: Watch) -> None:
        """A watch has ended."""
        self._watches.discard(watch)

    async def read(self, prefix: str, revision: int) -> tuple[list[Event], int]:
        """Up to a batch of events from `revision` on, and the revision to go on from. Raises CompactedError."""
        if revision < self.compacted:
            raise CompactedError(revision, self.compacted)
        if revision >= self._window_start or self._read_log is None:  # without a log, nothing was before the window
            return self._read_window(prefix, max(revision, self._window_start))
        found = await self._read_log(prefix, revision, self._window_start - 1, BATCH_EVENTS_MAX)
        if revision < self.compacted:  # compaction may have eaten into what was just read
            raise CompactedError(revision, self.compacted)
        return found

    def _read_window(self, prefix: str, revision: int) -> tuple[list[Event], int]:
        batch: list[Event] = []
        for event in islice(self._window, revision - self._window_start, None):
            if event.kv.key.startswith(prefix):
                batch.append(event)
                if len(batch) == BATCH_EVENTS_MAX:
                    return batch, event.revision + 1
        return batch, self.revision + 1


class Watch:
    """One consumer's cursor. An async iterator of batches; `aclose()` ends it, closing the store does too."""

    def __init__(self, state: State, prefix: str, revision: int) -> None:
        self._state = state
        self._prefix = prefix
        self._next = revision
        self._closed = False
        self._waiter: asyncio.Future[None] | None = None

    def __aiter__(self) -> Watch:
        return self

    async def __anext__(self) -> list[Event]:
        while not self._closed:
            if self._next > self._state.revision:
                await self._wait()
                continue
            batch, self._next = await self._state.read(self._prefix, self._next)
            if batch:
                return batch
        raise StopAsyncIteration

    async def _wait(self) -> None:
        self._waiter = asyncio.get_running_loop().create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    def notice(self, events: Sequence[Event], first: int) -> None:
        """Events were committed: wake up if one concerns this watch, else step over them when that loses nothing."""
        if any(event.kv.key.startswith(self._prefix) for event in events):
            self.wake()
        elif self._next == first:
            self._next = first + len(events)

    def wake(self) -> None:
        """Look again."""
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def close(self) -> None:
        """End the iteration, also of who waits in it."""
        self._closed = True
        self._state.forget(self)
        self.wake()

    async def aclose(self) -> None:
        """What closing an async generator is called."""
        self.close()


def cut(kvs: Sequence[KeyValue], limit: int, revision: int) -> RangeResult:
    """The first `limit` (0: all) of the sorted `kvs` as a result."""
    kept = kvs[:limit] if limit > 0 else kvs
    return RangeResult(tuple(kept), revision, len(kvs) - len(kept))
