"""The memory driver: the whole store in this process, gone with it. For tests, and for clusters that need not last."""

from __future__ import annotations

from collections.abc import AsyncIterator

from podnet.controlplane.store import decide
from podnet.controlplane.store.state import State
from podnet.controlplane.store.types import Event, KeyValue, RangeResult


class MemoryStore:
    """A `Store` whose state and history live in memory; history grows until `compact`."""

    def __init__(self) -> None:
        self._state = State()

    async def revision(self) -> int:
        """The newest revision."""
        return self._state.check(0)

    async def get(self, key: str, revision: int = 0) -> KeyValue | None:
        """See Store.get."""
        return self._state.get(key, self._state.check(revision))

    async def range(self, prefix: str, *, start: str = "", limit: int = 0, revision: int = 0) -> RangeResult:
        """See Store.range."""
        return self._state.range(prefix, start, limit, self._state.check(revision))

    async def create(self, key: str, value: bytes) -> KeyValue:
        """See Store.create."""
        now = self._state.check(0)
        return self._commit(decide.create(self._state.keyspace.get(key), key, value, now + 1))

    async def update(self, key: str, value: bytes, mod_revision: int) -> KeyValue:
        """See Store.update."""
        now = self._state.check(0)
        return self._commit(decide.update(self._state.keyspace.get(key), key, value, mod_revision, now + 1))

    async def delete(self, key: str, mod_revision: int = 0) -> KeyValue:
        """See Store.delete."""
        now = self._state.check(0)
        return self._commit(decide.delete(self._state.keyspace.get(key), key, mod_revision, now + 1))

    def watch(self, prefix: str, revision: int) -> AsyncIterator[list[Event]]:
        """See Store.watch."""
        return self._state.watch(prefix, revision)

    async def compact(self, revision: int) -> None:
        """See Store.compact."""
        self._state.check(0)
        self._state.compact(revision)

    async def close(self) -> None:
        """See Store.close."""
        self._state.close()

    def _commit(self, event: Event) -> KeyValue:
        self._state.commit((event,))
        return event.kv
