"""The one thread that writes: it takes whatever has queued up and commits it as one transaction (group commit).

So one write costs one commit, and a thousand writers at once share a few. When a commit fails, everything decided on top
of it is void too: the epoch it belonged to is refused until the event loop has started a new one.
"""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import Callable
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import Any

from podnet.controlplane.store import sqlite_file
from podnet.controlplane.store.types import Event, KeyValue, StoreWriteError

BATCH_WRITES_MAX = 1024


@dataclass(slots=True, eq=False)
class Append:
    """One decided write on its way to the disk."""

    event: Event
    epoch: int
    done: asyncio.Future[KeyValue]


@dataclass(slots=True, eq=False)
class Run:
    """Something else that needs the writer's connection, between two transactions."""

    function: Callable[[sqlite3.Connection], None]
    done: asyncio.Future[None]


class Writer:
    """`submit` from the event loop; `committed` and `failed` are called back on it, in order."""

    def __init__(
        self,
        connection: sqlite3.Connection,
        committed: Callable[[list[Append]], None],
        failed: Callable[[list[Append], StoreWriteError], None],
    ) -> None:
        self._connection = connection
        self._committed = committed
        self._failed = failed
        self._jobs: SimpleQueue[Append | Run | None] = SimpleQueue()
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._refused_epoch = -1

    def submit(self, job: Append | Run) -> None:
        """Queue a job; the thread starts with the first, so that a store can be opened before there is a loop."""
        if self._thread is None:
            self._loop = asyncio.get_running_loop()
            self._thread = threading.Thread(target=self._run, name="store-writer", daemon=True)
            self._thread.start()
        self._jobs.put(job)

    async def stop(self) -> None:
        """Finish what is queued and end the thread."""
        if self._thread is not None:
            self._jobs.put(None)
            await asyncio.to_thread(self._thread.join)
            self._thread = None

    def _run(self) -> None:
        while True:
            jobs = self._take()
            appends = [job for job in jobs if isinstance(job, Append)]
            if appends:
                self._append(appends)
            for job in jobs:
                if isinstance(job, Run):
                    self._call(job)
            if jobs[-1] is None:
                return

    def _take(self) -> list[Append | Run | None]:
        """What is queued, up to a batch; a Run or the end closes the batch, which keeps the order."""
        jobs = [self._jobs.get()]
        while isinstance(jobs[-1], Append) and len(jobs) < BATCH_WRITES_MAX:
            try:
                jobs.append(self._jobs.get_nowait())
            except Empty:
                break
        return jobs

    def _append(self, appends: list[Append]) -> None:
        void = [job for job in appends if job.epoch == self._refused_epoch]
        if void:
            self._call_back(self._failed, void, StoreWriteError("an earlier write could not be stored"))
        appends = [job for job in appends if job.epoch != self._refused_epoch]
        if not appends:
            return
        try:
            sqlite_file.append(self._connection, [sqlite_file.row_of(job.event) for job in appends])
        except Exception as error:  # whatever it is, the thread must live and the callers be told
            self._refused_epoch = appends[-1].epoch
            self._call_back(self._failed, appends, StoreWriteError(f"the store cannot write: {error}"))
        else:
            self._call_back(self._committed, appends)

    def _call(self, job: Run) -> None:
        try:
            job.function(self._connection)
        except Exception as error:
            self._call_back(_fail, job.done, StoreWriteError(f"the store cannot write: {error}"))
        else:
            self._call_back(_finish, job.done)

    def _call_back(self, function: Callable[..., Any], *args: Any) -> None:
        loop = self._loop
        if loop is None:
            return
        try:
            loop.call_soon_threadsafe(function, *args)
        except RuntimeError:
            # The loop was closed under us: nobody is left to be told.
            return


def _finish(done: asyncio.Future[None]) -> None:
    if not done.done():
        done.set_result(None)


def _fail(done: asyncio.Future[Any], error: Exception) -> None:
    if not done.done():
        done.set_exception(error)
