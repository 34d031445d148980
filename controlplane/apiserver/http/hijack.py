"""Takes a connection out of HTTP's hands: what comes after a 101 is bytes, whatever they mean.

    async with hijacked(request) as (reader, writer): ...
    return HijackedResponse()          # there is nothing left to say in HTTP

The rule: aiohttp's own protocol object is told that the connection is gone only when the block is over, because that
cancels the handler; so bytes which a client sent before it left are still read.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web

BUFFER = 256 * 1024
COPY_MAX = 64 * 1024


class HijackedResponse(web.StreamResponse):
    """What a handler returns when the request was answered with bytes of another protocol: nothing is written."""

    async def prepare(self, request: web.BaseRequest) -> None:  # noqa: ARG002 - overridden
        """Tell aiohttp that there is no connection to write to any more, which is no error to it."""
        raise ConnectionResetError("the connection was taken over")


class _Hijacked(asyncio.StreamReaderProtocol):
    def __init__(self, reader: asyncio.StreamReader, former: Any) -> None:
        super().__init__(reader)
        self._former = former
        self._lost = False
        self._released = False

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._lost = True
        if self._released:
            self._former.connection_lost(exc)

    def release(self) -> None:
        """The handler is done with it."""
        self._released = True
        if self._lost:
            self._former.connection_lost(None)


@asynccontextmanager
async def hijacked(request: web.BaseRequest) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """The two ends of the request's connection, which is closed afterwards."""
    transport = request.transport
    if transport is None:
        raise ConnectionResetError("the client has gone")
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader(limit=BUFFER, loop=loop)
    protocol = _Hijacked(reader, transport.get_protocol())
    transport.set_protocol(protocol)
    protocol.connection_made(transport)
    writer = asyncio.StreamWriter(transport, protocol, reader, loop)
    try:
        yield reader, writer
    finally:
        writer.close()
        loop.call_soon(protocol.release)


async def splice(
    one: tuple[asyncio.StreamReader, asyncio.StreamWriter], other: tuple[asyncio.StreamReader, asyncio.StreamWriter]
) -> None:
    """Copy both ways until either side is done for good."""
    copies = [asyncio.create_task(_copy(one[0], other[1])), asyncio.create_task(_copy(other[0], one[1]))]
    try:
        await asyncio.wait(copies, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for copy in copies:
            copy.cancel()
        await asyncio.gather(*copies, return_exceptions=True)


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(COPY_MAX):
        writer.write(data)
        await writer.drain()
