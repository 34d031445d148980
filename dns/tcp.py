"""DNS over TCP (RFC 7766): length-prefixed messages, many on one connection, answered as they are ready.

The rule kept here: a client can hold up only itself. Connections, queries under way, idle time and unread answers all
have limits, and whoever goes over one is disconnected. An answer may be 64 KB and cost tens of milliseconds, so one is begun
in each turn of the loop and connections take turns: 128 of them at once would be seconds in which nobody else is heard.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import socket
import time
from collections.abc import Callable, Coroutine
from dataclasses import replace
from typing import Any

from podnet.dns.exchange import Answer, Exchange
from podnet.dns.handler import Request
from podnet.dns.message import Message
from podnet.dns.wire import HEADER

MAX_CONNECTIONS = 1024
MAX_PIPELINED = 128
"""Queries of one connection under way; reading goes on when one of them is answered."""
IDLE_TIMEOUT_S = 10.0
"""RFC 7766 section 6.2.3 asks for seconds; CoreDNS waits 10."""
WRITE_TIMEOUT_S = 10.0
_NO_MESSAGE = Message()


class TcpListener:
    """One listening socket and its connections. `exchange` is swapped on reload."""

    def __init__(
        self,
        sock: socket.socket,
        exchange: Exchange,
        spawn: Callable[[Coroutine[Any, Any, None]], object],
        finished: Callable[[Request, Answer], None],
        *,
        idle_timeout_s: float = IDLE_TIMEOUT_S,
    ) -> None:
        self.sock = sock
        self.exchange = exchange
        self.idle_timeout_s = idle_timeout_s
        self.pending = 0
        self._spawn = spawn
        self._finished = finished
        self._server: asyncio.Server | None = None
        self._open: set[asyncio.StreamWriter] = set()
        self._turn = asyncio.Lock()

    async def start(self) -> None:
        """Answer from now on."""
        self._server = await asyncio.start_server(self._connection, sock=self.sock, backlog=MAX_CONNECTIONS)

    async def close(self) -> None:
        """Take no more connections and end those that are open."""
        if self._server is not None:
            self._server.close()
        for writer in list(self._open):
            writer.close()

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if len(self._open) >= MAX_CONNECTIONS:
            writer.close()
            return
        self._open.add(writer)
        slots, own_turn = asyncio.Semaphore(MAX_PIPELINED), asyncio.Lock()
        try:
            while True:
                async with asyncio.timeout(self.idle_timeout_s):
                    size = int.from_bytes(await reader.readexactly(2), "big")
                    data = await reader.readexactly(size)
                if size < HEADER.size:
                    break
                async with asyncio.timeout(WRITE_TIMEOUT_S):
                    await slots.acquire()
                self.pending += 1
                self._spawn(self._one(data, writer, slots, own_turn))
            await self._drain(slots)
        except asyncio.IncompleteReadError:
            # The client has said all; what it asked is still answered (RFC 7766 section 6.2.4: half-closed).
            await self._drain(slots)
        except (OSError, TimeoutError):
            pass
        finally:
            self._open.discard(writer)
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    async def _drain(self, slots: asyncio.Semaphore) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(WRITE_TIMEOUT_S):
                for _ in range(MAX_PIPELINED):
                    await slots.acquire()

    async def _one(
        self, data: bytes, writer: asyncio.StreamWriter, slots: asyncio.Semaphore, own_turn: asyncio.Lock
    ) -> None:
        try:
            async with own_turn, self._turn:  # both are fair, so each connection has one query in the common queue
                await asyncio.sleep(0)
            if writer.is_closing():
                return  # nobody waits for it
            peer, local = writer.get_extra_info("peername"), writer.get_extra_info("sockname")
            if peer is None or local is None:
                return  # gone meanwhile
            way = Request(
                message=_NO_MESSAGE,
                client=ipaddress.ip_address(peer[0].partition("%")[0]),
                client_port=peer[1],
                transport="tcp",
                local=ipaddress.ip_address(local[0].partition("%")[0]),
                local_port=local[1],
                received=time.monotonic(),
            )
            answer = await self.exchange.answer(data, way)
            if answer is None or writer.is_closing():
                writer.close()
                return
            with contextlib.suppress(OSError, TimeoutError):
                writer.write(len(answer.data).to_bytes(2, "big") + answer.data)
                async with asyncio.timeout(WRITE_TIMEOUT_S):
                    await writer.drain()
            if answer.message is not None:
                self._finished(replace(way, message=answer.message, size=len(data)), answer)
        finally:
            self.pending -= 1
            slots.release()
