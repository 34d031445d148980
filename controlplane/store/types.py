"""The store's protocol: etcd's model and nothing more.

A global revision counts writes; every key knows the revision that created it and the one that last changed it; a
write may be conditional on the latter (compare-and-swap). Reads see one revision. A watch replays from a revision on
and then follows. History older than the compaction revision is gone, and asking for it is `CompactedError`.
Source: etcd v3 API (etcd.io/docs/v3.5/learning/api), and how Kubernetes' storage layer uses it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class KeyValue:
    """One key at one revision."""

    key: str
    value: bytes
    create_revision: int
    mod_revision: int


@dataclass(frozen=True, slots=True)
class Event:
    """One change. `kv` is the new state, or for a delete the last value with `mod_revision` = the deletion's
    revision; `prev` is the state before the change, None for a creation."""

    deleted: bool
    kv: KeyValue
    prev: KeyValue | None

    @property
    def revision(self) -> int:
        """The revision of this change."""
        return self.kv.mod_revision


@dataclass(frozen=True, slots=True)
class RangeResult:
    """Keys in order, all as of `revision`; `remaining` counts the keys after the last one returned."""

    kvs: tuple[KeyValue, ...]
    revision: int
    remaining: int


class StoreError(Exception):
    """Base of what a store refuses."""


class KeyExistsError(StoreError):
    """Create of a key that is there."""

    def __init__(self, current: KeyValue) -> None:
        super().__init__(f"key exists: {current.key}")
        self.current = current


class RevisionMismatchError(StoreError):
    """A compare-and-swap that lost: `current` is what stands there now, None when the key is gone."""

    def __init__(self, key: str, current: KeyValue | None) -> None:
        super().__init__(f"revision mismatch: {key}")
        self.current = current


class CompactedError(StoreError):
    """The revision asked for is older than the compaction revision."""

    def __init__(self, requested: int, compacted: int) -> None:
        super().__init__(f"required revision {requested} has been compacted (compacted at {compacted})")
        self.requested = requested
        self.compacted = compacted


class FutureRevisionError(StoreError):
    """The revision asked for has not happened yet."""

    def __init__(self, requested: int, current: int) -> None:
        super().__init__(f"required revision {requested} is a future revision (current {current})")
        self.requested = requested
        self.current = current


class StoreClosedError(StoreError):
    """The store was closed before or while it was asked."""

    def __init__(self) -> None:
        super().__init__("the store is closed")


class StoreWriteError(StoreError):
    """The write could not be made durable (disk full, I/O error); nothing of it is visible."""


class StoreUnavailableError(StoreError):
    """The store cannot answer now (etcd without a leader, no member in reach). Of a write: it may yet have happened."""


class StoreOpenError(StoreError):
    """The store's files cannot be used: corrupt, locked by another process, or of another version. Says which."""


class Store(Protocol):
    """What the API server needs of a store. A successful return means durable (in the limits of the driver)."""

    async def revision(self) -> int:
        """The newest revision."""
        ...

    async def get(self, key: str, revision: int = 0) -> KeyValue | None:
        """One key at a revision (0: now). Raises CompactedError, FutureRevisionError."""
        ...

    async def range(self, prefix: str, *, start: str = "", limit: int = 0, revision: int = 0) -> RangeResult:
        """Keys that begin with `prefix` and are >= `start`, in byte order, at most `limit` (0: all), as of `revision`
        (0: now). Raises CompactedError, FutureRevisionError."""
        ...

    async def create(self, key: str, value: bytes) -> KeyValue:
        """Write a key that must not exist. Raises KeyExistsError."""
        ...

    async def update(self, key: str, value: bytes, mod_revision: int) -> KeyValue:
        """Replace a key that must still be at `mod_revision`. Raises RevisionMismatchError."""
        ...

    async def delete(self, key: str, mod_revision: int = 0) -> KeyValue:
        """Delete a key (at `mod_revision` when given) and return its last value with `mod_revision` = the deletion's
        revision. Raises RevisionMismatchError (current None when it was not there)."""
        ...

    def watch(self, prefix: str, revision: int) -> AsyncIterator[list[Event]]:
        """Batches of events with revision >= `revision`, in order, without gaps, until the iterator is closed.
        Raises CompactedError from the first `__anext__` (or later, for a consumer that fell behind compaction)."""
        ...

    async def compact(self, revision: int) -> None:
        """Forget history older than `revision` (the state at `revision` stays readable)."""
        ...

    async def close(self) -> None:
        """Flush and release; ends all watches."""
        ...
