"""The one loop every object controller runs in: take a key, reconcile it, forget it or back off.

`Controller` is the loop; `supervise` keeps a long-running coroutine alive, so that one crashing loop is logged and
started again without touching its neighbours.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import signal
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from podnet.controlplane.api.errors import StatusError
from podnet.controlplane.client.backoff import LOOP_RESTART, Backoff
from podnet.controlplane.client.workqueue import QueueShutDownError, WorkQueue

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Result:
    """What a successful reconcile asks for: to be called again in `requeue_after_s` seconds, or not at all."""

    requeue_after_s: float | None = None


DONE = Result()

Reconcile = Callable[[str], Awaitable[Result | None]]


class Controller:
    """`workers` tasks that pass keys of `queue` to `reconcile`.

    Raising means: not done, try again after this key's back-off. A conflict or an unreachable server is the normal
    course of level-triggered work and is not worth a log line; anything else is logged once per failure with its key.
    """

    def __init__(self, name: str, queue: WorkQueue, reconcile: Reconcile, *, workers: int = 1) -> None:
        self.name = name
        self.queue = queue
        self._reconcile = reconcile
        self._workers = workers

    async def run(self) -> None:
        """Work until the queue is shut down, or until cancelled."""
        async with asyncio.TaskGroup() as group:
            for number in range(self._workers):
                group.create_task(self._work(), name=f"{self.name}-{number}")

    async def _work(self) -> None:
        while True:
            try:
                key = await self.queue.get()
            except QueueShutDownError:
                return
            try:
                await self.process(key)
            finally:
                self.queue.done(key)

    async def process(self, key: str) -> None:
        """Reconcile one key and settle when it comes again."""
        try:
            result = await self._reconcile(key)
        except StatusError as error:
            level = logging.DEBUG if error.is_conflict or error.code in {404, 429, 503} else logging.WARNING
            log.log(level, "%s: %s failed: %s", self.name, key, error.message)
            self.queue.add_rate_limited(key)
        except Exception:
            log.exception("%s: %s failed", self.name, key)
            self.queue.add_rate_limited(key)
        else:
            self.queue.forget(key)
            if result is not None and result.requeue_after_s is not None:
                self.queue.add_after(key, max(result.requeue_after_s, 0.001))


async def supervise(
    name: str,
    loop: Callable[[], Awaitable[None]],
    *,
    backoff: Backoff = LOOP_RESTART,
    jitter: Callable[[], float] = random.random,
) -> None:
    """Run `loop()` again whenever it crashes or returns, with back-off; ends only by cancellation."""
    failures = 0
    clock = asyncio.get_running_loop().time
    while True:
        started = clock()
        # A task of its own: a TaskGroup that fails inside `loop` cancels the task it runs in, and in Python 3.11 may
        # leave that mark behind; here it cannot be taken for our own cancellation.
        task = asyncio.ensure_future(_run(loop))
        try:
            await asyncio.wait({task})
        except asyncio.CancelledError:
            task.cancel()
            await asyncio.wait({task})
            raise
        error = None if task.cancelled() else task.exception()
        log.error("%s ended; starting it again", name, exc_info=error)
        # A loop that ran for a while earned a fresh start.
        failures = 0 if clock() - started > backoff.max_s else failures + 1
        await asyncio.sleep(backoff.delay_s(failures, jitter()))


async def _run(loop: Callable[[], Awaitable[None]]) -> None:
    await loop()


async def run_until_signal(work: Callable[[], Awaitable[None]]) -> None:
    """Run `work()` until SIGTERM or SIGINT comes, then cancel it and wait for its end."""
    loop = asyncio.get_running_loop()
    task = asyncio.ensure_future(work())
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, task.cancel)
    with contextlib.suppress(asyncio.CancelledError):
        await task
