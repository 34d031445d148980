"""A store that counts: how often each operation was asked for and how long it took, under the names of upstream's
etcd client, whatever driver is below (their dashboards and alerts then work).

The rule: a lost race or a key that exists is an answer, not an error. Source: apiserver storage/etcd3/metrics of 1.32.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from time import perf_counter

from podnet.controlplane.metrics import API_LATENCY_BOUNDS_S, Registry
from podnet.controlplane.store.types import (
    Event,
    KeyExistsError,
    KeyValue,
    RangeResult,
    RevisionMismatchError,
    Store,
    StoreError,
)

_ANSWERS = (KeyExistsError, RevisionMismatchError)


class MeasuredStore:
    """A `Store` in front of another."""

    def __init__(self, store: Store, metrics: Registry) -> None:
        self._store = store
        labels = ("operation", "type")
        self._requests = metrics.counter(
            "etcd_requests_total", "Etcd request counts for each operation and object type.", labels
        )
        self._errors = metrics.counter(
            "etcd_request_errors_total", "Etcd failed request counts for each operation and object type.", labels
        )
        self._duration = metrics.histogram(
            "etcd_request_duration_seconds",
            "Etcd request latency in seconds for each operation and object type.",
            labels,
            API_LATENCY_BOUNDS_S,
        )

    async def revision(self) -> int:
        """The newest revision; not counted, it is no request of upstream's."""
        return await self._store.revision()

    async def get(self, key: str, revision: int = 0) -> KeyValue | None:
        """One key, counted as `get`."""
        with _Timed(self, "get", key):
            return await self._store.get(key, revision)

    async def range(self, prefix: str, *, start: str = "", limit: int = 0, revision: int = 0) -> RangeResult:
        """Keys below a prefix, counted as `list`."""
        with _Timed(self, "list", prefix):
            return await self._store.range(prefix, start=start, limit=limit, revision=revision)

    async def create(self, key: str, value: bytes) -> KeyValue:
        """Write a new key, counted as `create`."""
        with _Timed(self, "create", key):
            return await self._store.create(key, value)

    async def update(self, key: str, value: bytes, mod_revision: int) -> KeyValue:
        """Replace a key, counted as `update`."""
        with _Timed(self, "update", key):
            return await self._store.update(key, value, mod_revision)

    async def delete(self, key: str, mod_revision: int = 0) -> KeyValue:
        """Delete a key, counted as `delete`."""
        with _Timed(self, "delete", key):
            return await self._store.delete(key, mod_revision)

    def watch(self, prefix: str, revision: int) -> AsyncIterator[list[Event]]:
        """Follow changes; a stream has no duration worth counting."""
        return self._store.watch(prefix, revision)

    async def compact(self, revision: int) -> None:
        """Forget history, counted as `compact`."""
        with _Timed(self, "compact", ""):
            await self._store.compact(revision)

    async def close(self) -> None:
        """Close what is below."""
        await self._store.close()

    def count(self, operation: str, key: str, seconds: float, error: BaseException | None) -> None:
        """One operation is over."""
        kind = type_of(key)
        self._requests.add(operation, kind)
        if isinstance(error, StoreError) and not isinstance(error, _ANSWERS):
            self._errors.add(operation, kind)
        self._duration.observe(seconds, operation, kind)


class _Timed:
    """Counts what happens in its block."""

    __slots__ = ("_began", "_key", "_operation", "_store")

    def __init__(self, store: MeasuredStore, operation: str, key: str) -> None:
        self._store = store
        self._operation = operation
        self._key = key
        self._began = 0.0

    def __enter__(self) -> None:
        self._began = perf_counter()

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        self._store.count(self._operation, self._key, perf_counter() - self._began, error)


def type_of(key: str) -> str:
    """`/registry/apps/deployments/default/web` -> `deployments.apps`: the resource a key belongs to, "" for none."""
    parts = key.split("/", 4)
    if len(parts) < 4 or not parts[3]:
        return ""
    return parts[3] if parts[2] == "core" else f"{parts[3]}.{parts[2]}"
