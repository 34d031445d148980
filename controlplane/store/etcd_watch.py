"""A watch on etcd that survives its member: it goes on at the next one with the event after the last one told.

A task reads from the member ahead of the consumer, up to a bound; a cancelled step of the consumer loses nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable
from contextlib import aclosing

from podnet.controlplane.store.etcd_gateway import EtcdGateway, EtcdRefusedError, Message, encode
from podnet.controlplane.store.etcd_messages import event_of, prefix_end
from podnet.controlplane.store.types import CompactedError, Event, StoreError, StoreUnavailableError

BATCH_EVENTS_MAX = 1000
AHEAD_EVENTS_MAX = 4000
RETRY_S = 0.1


class EtcdWatch:
    """An async iterator of batches of events; `aclose()` ends it, closing the store does too."""

    def __init__(self, gateway: EtcdGateway, prefix: str, revision: int, forget: Callable[[EtcdWatch], None]) -> None:
        self._gateway = gateway
        self._prefix = prefix
        self._next = revision
        self._forget = forget
        self._events: deque[Event] = deque()
        self._changed = asyncio.Event()
        self._failure: StoreError | None = None
        self._ended = False
        self._task: asyncio.Task[None] | None = None

    def __aiter__(self) -> EtcdWatch:
        return self

    async def __anext__(self) -> list[Event]:
        if self._task is None and not self._ended:
            self._task = asyncio.create_task(self._follow(), name=f"etcd-watch {self._prefix}")
        while not self._events:
            if self._ended:
                raise StopAsyncIteration
            if self._failure is not None:
                raise self._failure
            self._changed.clear()
            await self._changed.wait()
        batch = [self._events.popleft() for _ in range(min(len(self._events), BATCH_EVENTS_MAX))]
        self._changed.set()  # there is room again
        return batch

    async def aclose(self) -> None:
        """End it, also for who waits in it."""
        self._ended = True
        self._events.clear()
        self._changed.set()
        self._forget(self)
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    async def _follow(self) -> None:
        """Until the watch ends: whatever happens to members, go on; only a compacted revision is the consumer's."""
        while True:
            try:
                await self._follow_member()
            except StoreUnavailableError:
                self._gateway.pass_over()
            except StoreError as error:
                self._failure = error
                self._changed.set()
                return
            await asyncio.sleep(RETRY_S)

    async def _follow_member(self) -> None:
        request = {
            "key": encode(self._prefix or "\0"),
            "range_end": encode(prefix_end(self._prefix)),
            "start_revision": str(self._next),
            "prev_kv": True,
            "progress_notify": True,
        }
        try:
            async with aclosing(self._gateway.stream("/v3/watch", {"create_request": request})) as messages:
                async for message in messages:
                    await self._take(message)
        except EtcdRefusedError as error:
            raise StoreUnavailableError(str(error)) from error

    async def _take(self, message: Message) -> None:
        if message.get("canceled"):
            compacted = int(message.get("compact_revision", 0))
            if compacted:
                raise CompactedError(self._next, compacted)
            raise StoreUnavailableError(str(message.get("cancel_reason", "the member ended the watch")))
        if self._next == 0 and message.get("created"):
            self._next = int(message["header"]["revision"]) + 1
        events = [event_of(item) for item in message.get("events", ())]
        if events:
            self._next = events[-1].revision + 1
            self._events += events
            self._changed.set()
        elif not message.get("created"):  # a progress notice: everything before has been told
            self._next = max(self._next, int(message["header"]["revision"]) + 1)
        while len(self._events) > AHEAD_EVENTS_MAX:  # the consumer is slow: let etcd keep the rest
            self._changed.clear()
            await self._changed.wait()
