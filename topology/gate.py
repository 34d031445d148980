"""A gate for coroutines: many keys at once with one holder each, or one holder alone.

The CNI specification wants it twice: operations on one container one after the other, and GC beside nothing else
(SPEC section 2, GC, and section 3, lifecycle). The runtime and the plugin's daemon each hold it for themselves.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable


class Gate:
    """An empty key waits for nobody but a lone holder."""

    def __init__(self) -> None:
        self._busy: set[str] = set()
        self._running = 0
        self._alone = False
        self._waiting: set[asyncio.Future[None]] = set()

    @contextlib.asynccontextmanager
    async def one(self, key: str) -> AsyncIterator[None]:
        """Hold one key."""
        await self._until(lambda: not self._alone and key not in self._busy)
        self._running += 1
        if key:
            self._busy.add(key)
        try:
            yield
        finally:
            self._running -= 1
            self._busy.discard(key)
            self._wake()

    @contextlib.asynccontextmanager
    async def alone(self) -> AsyncIterator[None]:
        """Hold everything: new holders wait, running ones are waited for."""
        await self._until(lambda: not self._alone)
        self._alone = True
        try:
            await self._until(lambda: not self._running)
            yield
        finally:
            self._alone = False
            self._wake()

    async def _until(self, free: Callable[[], bool]) -> None:
        # Everybody is woken and looks for himself: a waiter that is cancelled takes no turn away from another.
        while not free():
            waiter = asyncio.get_running_loop().create_future()
            self._waiting.add(waiter)
            try:
                await waiter
            finally:
                self._waiting.discard(waiter)

    def _wake(self) -> None:
        for waiter in self._waiting:
            if not waiter.done():
                waiter.set_result(None)
