"""A UDP socket in the event loop: receive, look in the fast path, send; what it does not know becomes a task.

The rule kept here: the loop's reader callback takes what is there, in batches, and gives the loop a turn after each.
asyncio's datagram protocol costs as much again as the whole answer (34,000 against 63,000 queries a second).
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import socket
import time
from collections.abc import Callable, Coroutine
from dataclasses import replace
from functools import lru_cache
from typing import Any

from podnet.dns.exchange import Answer, Exchange
from podnet.dns.fastpath import FastPath
from podnet.dns.handler import Address, Request
from podnet.dns.message import Message

BATCH = 64
"""Datagrams answered before other work of the loop gets its turn."""
MAX_PENDING = 4096
"""Queries in the slow path at once; more are dropped, which a resolver takes for loss and asks again."""
RECEIVE_BUFFER = 4 * 1024 * 1024
MAX_DATAGRAM = 65535
_NO_MESSAGE = Message()


class UdpListener:
    """One socket. `exchange` is swapped on reload; `spawn` starts tasks of the slow path."""

    def __init__(
        self,
        sock: socket.socket,
        exchange: Exchange,
        fast: FastPath,
        spawn: Callable[[Coroutine[Any, Any, None]], object],
        finished: Callable[[Request, Answer], None],
    ) -> None:
        self.sock = sock
        self.exchange = exchange
        self.fast = fast
        self.pending = 0
        self.dropped = 0
        self._spawn = spawn
        self._finished = finished
        self._local = sock.getsockname()
        sock.setblocking(False)
        with contextlib.suppress(OSError):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Answer from now on."""
        loop.add_reader(self.sock.fileno(), self._readable)

    def close(self, loop: asyncio.AbstractEventLoop) -> None:
        """Answer no more."""
        loop.remove_reader(self.sock.fileno())
        self.sock.close()

    def _readable(self) -> None:
        receive, send, answer = self.sock.recvfrom, self.sock.sendto, self.fast.answer
        began = now = time.monotonic()
        count = 0
        try:
            for count in range(BATCH):  # noqa: B007 - how far it came is needed below
                data, peer = receive(MAX_DATAGRAM)
                out = answer(data, now)
                if out is not None:
                    try:
                        send(out, peer)
                    except OSError:
                        continue  # the client's network is its own affair
                elif self.pending < MAX_PENDING:
                    self.pending += 1
                    self._spawn(self._slow(data, peer))
                else:
                    self.dropped += 1
        except BlockingIOError:
            pass
        except OSError:
            pass  # an ICMP error of an earlier answer; the socket is fine
        finally:
            self.fast.seconds += time.monotonic() - began
            self.fast.queries += count

    async def _slow(self, data: bytes, peer: tuple[Any, ...]) -> None:
        try:
            way = Request(
                message=_NO_MESSAGE,
                client=_address(peer[0]),
                client_port=peer[1],
                local=_address(self._local[0]),
                local_port=self._local[1],
                received=time.monotonic(),
            )
            exchange = self.exchange
            answer = await exchange.answer(data, way)
            if answer is None:
                return
            with contextlib.suppress(OSError):
                self.sock.sendto(answer.data, peer)
            if answer.message is not None and answer.response is not None:
                reuse = answer.response.reuse
                if reuse is not None and exchange is self.exchange:
                    self.fast.learn(data, answer.data, answer.message, reuse, answer.zone, way.received)
                self._finished(replace(way, message=answer.message, size=len(data)), answer)
        finally:
            self.pending -= 1


@lru_cache(maxsize=4096)
def _address(text: str) -> Address:
    return ipaddress.ip_address(text.partition("%")[0])
