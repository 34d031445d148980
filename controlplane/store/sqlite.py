"""The SQLite driver: state in memory for reading, every write in a log on disk before anyone hears of it.

    create/update/delete -> decided on the event loop against state + what is on its way -> queued
    writer thread        -> one transaction for all that queued up
    event loop again     -> visible in the state, watches woken, callers answered

Durability: an acknowledged write survives the end of this process by any signal. With `synchronous="FULL"` it survives a
power cut too; the default NORMAL may then lose the last moments (never the order, never the file), which fits a cluster
that does not outlive the machine's boot.
Source: sqlite.org/wal.html; etcd's batched back end commits for the same reason.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from podnet.controlplane.store import decide, sqlite_file
from podnet.controlplane.store.sqlite_writer import Append, Run, Writer
from podnet.controlplane.store.state import State, cut
from podnet.controlplane.store.types import (
    CompactedError,
    Event,
    KeyValue,
    RangeResult,
    StoreClosedError,
    StoreError,
    StoreWriteError,
)

WINDOW_EVENTS = 2048
"""Newest events kept in memory (up to twice as many for a moment): what watches and paged lists usually need."""
PENDING_WRITES_MAX = 4096

T = TypeVar("T")


class SQLiteStore:
    """A `Store` in one directory. Open it in the process that uses it, after any fork."""

    def __init__(
        self, directory: Path, *, synchronous: sqlite_file.Synchronous = "NORMAL", window_events: int = WINDOW_EVENTS
    ) -> None:
        self._directory = directory
        self._lock_fd = sqlite_file.lock(directory)
        try:
            self._connection = sqlite_file.connect(directory, synchronous)
            kvs, revision, compacted = self._load()
        except BaseException:
            os.close(self._lock_fd)
            raise
        self._state = State(
            kvs, revision=revision, compacted=compacted, window_max=window_events, read_log=self._read_log
        )
        self._writer = Writer(self._connection, self._committed, self._failed)
        self._pending: dict[str, Append] = {}  # the newest undecided write of each key
        self._next_revision = revision + 1
        self._epoch = 0
        self._last: asyncio.Future[KeyValue] | None = None
        self._readers: ThreadPoolExecutor | None = None
        self._reader: sqlite3.Connection | None = None
        self._closing = False

    def _load(self) -> tuple[list[KeyValue], int, int]:
        try:
            return sqlite_file.load(self._connection)
        except sqlite3.DatabaseError as error:
            self._connection.close()
            raise sqlite_file.unusable(self._directory / sqlite_file.FILE_NAME, error) from error

    # --- reads

    async def revision(self) -> int:
        """The newest revision."""
        return self._state.check(0)

    async def get(self, key: str, revision: int = 0) -> KeyValue | None:
        """See Store.get."""
        revision = self._state.check(revision)
        if self._state.holds(revision):
            return self._state.get(key, revision)
        return await self._read_back(revision, lambda reader: sqlite_file.read_key(reader, key, revision))

    async def range(self, prefix: str, *, start: str = "", limit: int = 0, revision: int = 0) -> RangeResult:
        """See Store.range."""
        revision = self._state.check(revision)
        if self._state.holds(revision):
            return self._state.range(prefix, start, limit, revision)
        kvs = await self._read_back(revision, lambda reader: sqlite_file.read_state(reader, prefix, start, revision))
        return cut(kvs, limit, revision)

    def watch(self, prefix: str, revision: int) -> AsyncIterator[list[Event]]:
        """See Store.watch."""
        return self._state.watch(prefix, revision)

    async def _read_back(self, revision: int, read: Callable[[sqlite3.Connection], T]) -> T:
        found = await self._on_reader(read)
        if revision < self._state.compacted:  # compaction may have eaten into what was just read
            raise CompactedError(revision, self._state.compacted)
        return found

    async def _read_log(self, prefix: str, first: int, last: int, limit: int) -> tuple[list[Event], int]:
        return await self._on_reader(lambda reader: sqlite_file.read_events(reader, prefix, first, last, limit))

    async def _on_reader(self, read: Callable[[sqlite3.Connection], T]) -> T:
        if self._closing:
            raise StoreClosedError
        if self._readers is None:
            self._readers = ThreadPoolExecutor(max_workers=1, thread_name_prefix="store-reader")
        return await asyncio.get_running_loop().run_in_executor(self._readers, self._with_reader, read)

    def _with_reader(self, read: Callable[[sqlite3.Connection], T]) -> T:
        if self._reader is None:
            self._reader = sqlite_file.connect_reader(self._directory)
        return read(self._reader)

    # --- writes

    async def create(self, key: str, value: bytes) -> KeyValue:
        """See Store.create."""
        return await self._write(key, lambda current, revision: decide.create(current, key, value, revision))

    async def update(self, key: str, value: bytes, mod_revision: int) -> KeyValue:
        """See Store.update."""
        return await self._write(
            key, lambda current, revision: decide.update(current, key, value, mod_revision, revision)
        )

    async def delete(self, key: str, mod_revision: int = 0) -> KeyValue:
        """See Store.delete."""
        return await self._write(key, lambda current, revision: decide.delete(current, key, mod_revision, revision))

    async def _write(self, key: str, decide_event: Callable[[KeyValue | None, int], Event]) -> KeyValue:
        while True:
            if self._closing:
                raise StoreClosedError
            if self._next_revision - self._state.revision > PENDING_WRITES_MAX and self._last is not None:
                await asyncio.wait([self._last])
                continue
            pending = self._pending.get(key)
            try:
                event = decide_event(self._current(key, pending), self._next_revision)
            except StoreError:
                if pending is None:
                    raise
                # Refused because of a write that is not durable yet: it must not be told of before it is.
                await asyncio.wait([pending.done])
                continue
            return await self._submit(event)

    def _current(self, key: str, pending: Append | None) -> KeyValue | None:
        if pending is None:
            return self._state.keyspace.get(key)
        return None if pending.event.deleted else pending.event.kv

    async def _submit(self, event: Event) -> KeyValue:
        done: asyncio.Future[KeyValue] = asyncio.get_running_loop().create_future()
        job = Append(event, self._epoch, done)
        self._pending[event.kv.key] = job
        self._next_revision += 1
        self._last = done
        self._writer.submit(job)
        # Shielded: a caller that gives up must not look to others like a write that failed.
        return await asyncio.shield(done)

    def _committed(self, jobs: list[Append]) -> None:
        self._state.commit([job.event for job in jobs])
        self._settle(jobs)
        for job in jobs:
            job.done.set_result(job.event.kv)

    def _failed(self, jobs: list[Append], error: StoreWriteError) -> None:
        if jobs[-1].epoch == self._epoch:
            # Everything still on its way was decided on top of these, and the writer will refuse it: start afresh.
            self._epoch += 1
            self._pending.clear()
            self._next_revision = self._state.revision + 1
        for job in jobs:
            job.done.set_exception(error)
            job.done.exception()  # seen: a caller that was cancelled leaves nobody to fetch it

    def _settle(self, jobs: list[Append]) -> None:
        for job in jobs:
            if self._pending.get(job.event.kv.key) is job:
                del self._pending[job.event.kv.key]

    # --- housekeeping

    async def compact(self, revision: int) -> None:
        """See Store.compact."""
        self._state.check(0)
        if self._closing:
            raise StoreClosedError
        self._state.compact(revision)
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._writer.submit(Run(lambda connection: sqlite_file.compact(connection, revision), done))
        await done

    async def close(self) -> None:
        """See Store.close."""
        if self._closing:
            return
        self._closing = True
        await self._writer.stop()
        # The last answers were queued to the loop before the thread ended; let them arrive first.
        while self._last is not None and not self._last.done():
            await asyncio.wait([self._last])
        self._state.close()
        if self._readers is not None:
            await asyncio.to_thread(self._readers.shutdown)
        if self._reader is not None:
            self._reader.close()
        self._connection.close()
        os.close(self._lock_fd)
