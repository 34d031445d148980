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
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any, TypeAlias

from podnet.dns.exchange import Answer, Exchange
from podnet.dns.fastpath import FastPath
from podnet.dns.handler import Address, Request
from podnet.dns.message import Message

BATCH = 64
"""Datagrams answered before other work of the loop gets its turn."""
MAX_PENDING = 4096
"""Queries in the slow path at once; more are dropped, which a resolver takes for loss and asks again."""
RECEIVE_BUFFER = 4 * 1024 * 1024
MAX_QUERY = 4096
"""A longer datagram is cut and so no message any more; no query is that long."""
ANCILLARY_SIZE = 64
_IP_PKTINFO = 8
"""Not in Python's socket module before 3.14."""
_NO_MESSAGE = Message()

Source: TypeAlias = Sequence[tuple[int, int, bytes]]
"""The ancillary data that makes an answer come from a certain address."""


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
        self._anywhere = self._local[0] in {"0.0.0.0", "::"}
        if self._anywhere and sock.family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)
        elif self._anywhere:
            sock.setsockopt(socket.IPPROTO_IP, _IP_PKTINFO, 1)
        sock.setblocking(False)
        with contextlib.suppress(OSError):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Answer from now on."""
        loop.add_reader(self.sock.fileno(), self._readable_anywhere if self._anywhere else self._readable)

    def close(self, loop: asyncio.AbstractEventLoop) -> None:
        """Answer no more."""
        loop.remove_reader(self.sock.fileno())
        self.sock.close()

    def _readable(self) -> None:
        """A socket with an address of its own: what is sent comes from there."""
        receive, send, answer = self.sock.recvfrom, self.sock.sendto, self.fast.answer
        began = time.monotonic()
        count = 0
        try:
            for count in range(BATCH):  # noqa: B007 - how far it came is needed below
                data, peer = receive(MAX_QUERY)
                out = answer(data, began)
                if out is None:
                    self._start_slow(data, peer, ())
                else:
                    try:
                        send(out, peer)
                    except OSError:
                        continue  # the client's network is its own affair
        except OSError:
            pass  # nothing more there, or an ICMP error of an earlier answer; the socket is fine
        finally:
            self.fast.seconds += time.monotonic() - began
            self.fast.queries += count

    def _readable_anywhere(self) -> None:
        """A socket for all addresses: an answer must come from the one that was asked, or no resolver takes it."""
        receive, send, answer = self.sock.recvmsg, self.sock.sendmsg, self.fast.answer
        began = time.monotonic()
        count = 0
        try:
            for count in range(BATCH):  # noqa: B007 - how far it came is needed below
                data, ancillary, _, peer = receive(MAX_QUERY, ANCILLARY_SIZE)
                out = answer(data, began)
                source = _source(ancillary[0][2]) if ancillary else ()
                if out is None:
                    self._start_slow(data, peer, source)
                else:
                    try:
                        send((out,), source, 0, peer)
                    except OSError:
                        continue
        except OSError:
            pass
        finally:
            self.fast.seconds += time.monotonic() - began
            self.fast.queries += count

    def _start_slow(self, data: bytes, peer: tuple[Any, ...], source: Source) -> None:
        if self.pending < MAX_PENDING:
            self.pending += 1
            self._spawn(self._slow(data, peer, source))
        else:
            self.dropped += 1

    async def _slow(self, data: bytes, peer: tuple[Any, ...], source: Source) -> None:
        try:
            way = Request(
                message=_NO_MESSAGE,
                client=_address(peer[0]),
                client_port=peer[1],
                local=_asked_address(source) or _address(self._local[0]),
                local_port=self._local[1],
                received=time.monotonic(),
            )
            exchange = self.exchange
            answer = await exchange.answer(data, way)
            if answer is None:
                return
            with contextlib.suppress(OSError):
                self.sock.sendmsg((answer.data,), source, 0, peer)
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


@lru_cache(maxsize=256)
def _source(info: bytes) -> Source:
    """From the packet information of a query to that of its answer: the same local address, any interface (the way
    back need not be the way here), but for link-local ones."""
    if len(info) == 12:  # in_pktinfo: interface, local address, address in the header
        return ((socket.IPPROTO_IP, _IP_PKTINFO, bytes(4) + info[4:8] + bytes(4)),)
    interface = info[16:20] if info[:2] == b"\xfe\x80" else bytes(4)
    return ((socket.IPPROTO_IPV6, socket.IPV6_PKTINFO, info[:16] + interface),)


def _asked_address(source: Source) -> Address | None:
    if not source:
        return None
    info = source[0][2]
    return ipaddress.IPv4Address(info[4:8]) if len(info) == 12 else ipaddress.IPv6Address(info[:16])
