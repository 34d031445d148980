"""The work queue of every controller: client-go's semantics, a pure core, and a thin asyncio face.

    add(key) ──▶ queue ──get()──▶ processing ──done(key)──▶ gone, or queued again when it was added meanwhile
    add_after(key, s) ──▶ heap ──time──▶ queue            add_rate_limited(key) ──▶ add_after(back-off of the key)

The rules (client-go util/workqueue): *fair* - keys leave in the order they came; *stingy* - a key that waits is not
queued twice; *exclusive* - a key is never handed to two workers at once; a key added while it is processed is processed
again afterwards; after `shut_down` nothing new is taken in and what waits is drained.
The core knows no clock: `now` is an argument.
"""

from __future__ import annotations

import asyncio
import heapq
from collections import deque
from collections.abc import Callable

from podnet.controlplane.client.backoff import KEY_FAILURE, Backoff


class QueueShutDownError(Exception):
    """`get` on a queue that is shut down and drained."""


class QueueCore:
    """The queue as a state machine over `now`; see the module's picture."""

    def __init__(self) -> None:
        self._queue: deque[str] = deque()
        self._dirty: set[str] = set()
        self._processing: set[str] = set()
        self._due: dict[str, float] = {}
        self._heap: list[tuple[float, int, str]] = []
        self._sequence = 0
        self.shutting_down = False

    def __len__(self) -> int:
        return len(self._queue)

    def add(self, key: str) -> None:
        """Ask for `key` to be processed (again)."""
        if self.shutting_down or key in self._dirty:
            return
        self._dirty.add(key)
        if key not in self._processing:
            self._queue.append(key)

    def add_at(self, key: str, due: float) -> None:
        """Add `key` when the time `due` has come; of two times for one key the earlier wins."""
        if self.shutting_down or due >= self._due.get(key, float("inf")):
            return
        self._due[key] = due
        self._sequence += 1
        heapq.heappush(self._heap, (due, self._sequence, key))

    def advance(self, now: float) -> None:
        """Add every delayed key whose time has come."""
        while self._heap and self._heap[0][0] <= now:
            due, _, key = heapq.heappop(self._heap)
            if self._due.get(key) == due:
                del self._due[key]
                self.add(key)

    def next_due(self) -> float | None:
        """When the next delayed key comes, None when there is none."""
        while self._heap and self._due.get(self._heap[0][2]) != self._heap[0][0]:
            heapq.heappop(self._heap)
        return self._heap[0][0] if self._heap else None

    def take(self) -> str | None:
        """Hand out the oldest key, None when none waits."""
        if not self._queue:
            return None
        key = self._queue.popleft()
        self._dirty.discard(key)
        self._processing.add(key)
        return key

    def done(self, key: str) -> None:
        """End the processing of `key`."""
        self._processing.discard(key)
        if key in self._dirty:
            self._queue.append(key)

    def shut_down(self) -> None:
        """Refuse new keys and forget the delayed ones."""
        self.shutting_down = True
        self._due.clear()
        self._heap.clear()

    @property
    def is_idle(self) -> bool:
        """Nothing waits, nothing is processed, nothing is delayed."""
        return not (self._queue or self._processing or self._due)


class WorkQueue:
    """`QueueCore` with waiting workers, timers and per-key back-off. One event loop, not thread-safe."""

    def __init__(self, *, backoff: Backoff = KEY_FAILURE, clock: Callable[[], float] | None = None) -> None:
        self._core = QueueCore()
        self._backoff = backoff
        self._failures: dict[str, int] = {}
        self._waiters: deque[asyncio.Future[None]] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self._timer_due = float("inf")
        self._clock = clock

    def __len__(self) -> int:
        return len(self._core)

    @property
    def is_idle(self) -> bool:
        """Nothing waits, nothing is processed, nothing is delayed."""
        return self._core.is_idle

    def add(self, key: str) -> None:
        """Ask for `key` to be processed (again)."""
        self._core.add(key)
        self._wake()

    def add_after(self, key: str, delay_s: float) -> None:
        """Add `key` in `delay_s` seconds."""
        if delay_s <= 0:
            self.add(key)
            return
        self._core.add_at(key, self._now() + delay_s)
        self._arm()

    def add_rate_limited(self, key: str) -> None:
        """Add `key` after the back-off it has earned by failing."""
        failures = self._failures.get(key, 0)
        self._failures[key] = failures + 1
        self.add_after(key, self._backoff.delay_s(failures))

    def forget(self, key: str) -> None:
        """`key` succeeded: its next failure starts from the base again."""
        self._failures.pop(key, None)

    def failures(self, key: str) -> int:
        """How often `key` failed in a row."""
        return self._failures.get(key, 0)

    async def get(self) -> str:
        """Wait for a key. Raises QueueShutDownError when no more will come."""
        while True:
            key = self._core.take()
            if key is not None:
                return key
            if self._core.shutting_down:
                raise QueueShutDownError
            waiter = asyncio.get_running_loop().create_future()
            self._waiters.append(waiter)
            try:
                await waiter
            except asyncio.CancelledError:
                # A worker that is cancelled at the very moment it was woken passes the wake-up on.
                if waiter.done() and not waiter.cancelled():
                    self._wake()
                raise

    def done(self, key: str) -> None:
        """End the processing of `key`, which `get` began."""
        self._core.done(key)
        self._wake()

    def shut_down(self) -> None:
        """Let workers drain what waits, then make their `get` raise."""
        self._core.shut_down()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        while self._waiters:
            waiter = self._waiters.popleft()
            if not waiter.done():
                waiter.set_result(None)

    def _now(self) -> float:
        return self._clock() if self._clock is not None else asyncio.get_running_loop().time()

    def _wake(self) -> None:
        wanted = len(self._core)
        while self._waiters and wanted > 0:
            waiter = self._waiters.popleft()
            if not waiter.done():
                waiter.set_result(None)
                wanted -= 1

    def _arm(self) -> None:
        due = self._core.next_due()
        if due is None or (self._timer is not None and self._timer_due <= due):
            return
        if self._timer is not None:
            self._timer.cancel()
        loop = asyncio.get_running_loop()
        self._timer_due = due
        self._timer = loop.call_later(max(0.0, due - self._now()), self._fire)

    def _fire(self) -> None:
        self._timer = None
        # A timer may come a hair early; without the bound the key would wait for a second, empty round.
        self._core.advance(max(self._now(), self._timer_due))
        self._arm()
        self._wake()
