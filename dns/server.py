"""The server: sockets on one side, the instance in service on the other, and the swap between two instances.

    Corefile ─▶ Instance ─▶ {address: Exchange} ◀── UdpListener, TcpListener (one pair per address)
                   ▲ reload: build, start, open what is new, swap, close what is gone, end the old one

The rule kept here: sockets stay open over a reload and every query that was read is answered by the instance that was in
service when it was read. An instance that cannot start changes nothing.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import time
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from podnet.dns.config import DEFAULT_COREFILE, DEFAULT_PORT, ConfigError, ServerConfig, load_config, parse_config
from podnet.dns.exchange import Answer, Exchange
from podnet.dns.fastpath import Entry, FastPath
from podnet.dns.handler import Request, Served
from podnet.dns.http import HttpListeners
from podnet.dns.instance import Environment, Instance
from podnet.dns.metrics import Registry
from podnet.dns.tcp import TcpListener
from podnet.dns.udp import UdpListener

log = logging.getLogger(__name__)

DRAIN_TIMEOUT_S = 5.0
"""How long queries under way may take when the server stops."""
RETIRE_POLL_S = 0.02
BACKLOG = 1024
BIND_ATTEMPTS = 16


@dataclass
class _Listener:
    """The two sockets of one address."""

    udp: UdpListener
    tcp: TcpListener
    family: int


class Server:
    """`run` serves until `stop` is called. `addresses` says where, once `started` is set."""

    def __init__(
        self,
        corefile: Path | None = None,
        *,
        text: str | None = None,
        environ: Mapping[str, str] | None = None,
        port: int = DEFAULT_PORT,
    ) -> None:
        self._corefile = corefile
        self._text = text
        self._environ = os.environ if environ is None else environ
        self._port = port
        self.metrics = Registry()
        self.http = HttpListeners()
        self.started = asyncio.Event()
        self.failed = ""
        self._stop = asyncio.Event()
        self._listeners: dict[tuple[str, int], _Listener] = {}
        self._instance: Instance | None = None
        self._tasks: asyncio.TaskGroup | None = None
        self._reloading = asyncio.Lock()
        self._announced: set[str] = set()
        self.metrics.collect(self._flush)

    @property
    def addresses(self) -> list[tuple[str, int]]:
        """Where UDP and TCP are served."""
        return [listener.udp.sock.getsockname()[:2] for listener in self._listeners.values()]

    def stop(self, reason: str = "") -> None:
        """End in good order; a reason makes it a failure."""
        self.failed = self.failed or reason
        self._stop.set()

    async def run(self) -> None:
        """Serve until stopped. ConfigError or OSError when it cannot begin."""
        instance = Instance(self._read(), self._environment())
        async with asyncio.TaskGroup() as tasks:
            self._tasks = tasks
            try:
                await instance.start()
                self._instance = instance
                await self._listen(instance)
                self.started.set()
                await self._stop.wait()
                await self._instance.lameduck()
            finally:
                await self._close()

    async def reload(self) -> bool:
        """Read the Corefile again and swap; False (and a line in the log) when that is not possible."""
        async with self._reloading:
            if self._stop.is_set():
                return False
            try:
                fresh = Instance(self._read(), self._environment())
                await fresh.start()
            except (ConfigError, OSError) as error:
                log.error("Corefile not reloaded: %s", error)
                return False
            try:
                await self._listen(fresh)
            except OSError as error:
                log.error("Corefile not reloaded: %s", error)
                await fresh.end()
                return False
            old, self._instance = self._instance, fresh
            log.info("Reloading complete")
            if old is not None and self._tasks is not None:
                self._tasks.create_task(self._retire(old, self._under_way()))
            return True

    def _read(self) -> list[ServerConfig]:
        if self._text is not None:
            return parse_config(self._text, environ=self._environ, port=self._port)
        if self._corefile is None:
            return parse_config(DEFAULT_COREFILE, environ=self._environ, port=self._port)
        return load_config(self._corefile, self._environ, port=self._port)[0]

    def _environment(self) -> Environment:
        return Environment(self.metrics, self.http, self.reload, self.stop, self._corefile, self._environ)

    async def _listen(self, instance: Instance) -> None:
        """Open what is new, then swap all at once, then close what is gone."""
        opened: dict[tuple[str, int], tuple[socket.socket, socket.socket]] = {}
        try:
            for address in instance.exchanges:
                if address not in self._listeners:
                    pair = open_sockets(*address)
                    if pair is not None:
                        opened[address] = pair
        except OSError:
            for pair in opened.values():
                for sock in pair:
                    sock.close()
            raise
        for address, listener in self._listeners.items():
            exchange = instance.exchanges.get(address)
            if exchange is not None:
                listener.udp.exchange = listener.tcp.exchange = exchange
                listener.udp.fast.clear()
                listener.udp.fast.source = exchange.prepare
        for address, (udp, tcp) in opened.items():
            await self._open(address, udp, tcp, instance.exchanges[address])
        for address in [each for each in self._listeners if each not in instance.exchanges]:
            await self._close_listener(self._listeners.pop(address))

    async def _open(self, address: tuple[str, int], udp: socket.socket, tcp: socket.socket, exchange: Exchange) -> None:
        assert self._tasks is not None
        spawn: Callable[[Coroutine[Any, Any, None]], object] = self._tasks.create_task
        family = 2 if udp.family == socket.AF_INET6 else 1
        fast = FastPath(exchange.prepare)
        fast.observer = lambda entry, hits: self._served_fast(fast, entry, hits, family)
        listener = _Listener(
            UdpListener(udp, exchange, fast, spawn, self._finished),
            TcpListener(tcp, exchange, spawn, self._finished),
            family,
        )
        self._listeners[address] = listener
        await listener.tcp.start()
        listener.udp.start(asyncio.get_running_loop())
        for zone in exchange.zones:
            line = f"{zone}:{udp.getsockname()[1]}"
            if line not in self._announced:
                self._announced.add(line)
                log.info("%s", line, extra={"plain": True})

    def _finished(self, request: Request, answer: Answer) -> None:
        """Tell the instance of an answer of the slow path."""
        if self._instance is None:
            return
        self._instance.served(
            Served(
                zone=answer.zone,
                transport=request.transport,
                family=1 if request.client.version == 4 else 2,
                qtype=request.qtype if request.message.questions else 0,
                rcode=request.message.rcode,
                request_size=request.size,
                response_size=len(answer.data),
                seconds=time.monotonic() - request.received,
                do=request.do,
            )
        )

    def _served_fast(self, fast: FastPath, entry: Entry, hits: int, family: int) -> None:
        if self._instance is None:
            return
        self._instance.served(
            Served(
                zone=entry.zone,
                transport="udp",
                family=family,
                qtype=entry.qtype,
                rcode=entry.rcode,
                request_size=entry.request_size,
                response_size=entry.size,
                seconds=fast.seconds / max(fast.queries, 1),
                times=hits,
            )
        )

    def _flush(self) -> None:
        for listener in self._listeners.values():
            listener.udp.fast.flush()

    def _under_way(self) -> int:
        return sum(listener.udp.pending + listener.tcp.pending for listener in self._listeners.values())

    async def _retire(self, old: Instance, pending: int) -> None:
        """End an instance when what it had under way is answered, at the latest after the drain time."""
        deadline = time.monotonic() + DRAIN_TIMEOUT_S
        while pending and self._under_way() and time.monotonic() < deadline:
            await asyncio.sleep(RETIRE_POLL_S)
        await old.end()

    async def _close(self) -> None:
        self._stop.set()
        self._flush()
        deadline = time.monotonic() + DRAIN_TIMEOUT_S
        for listener in self._listeners.values():
            asyncio.get_running_loop().remove_reader(listener.udp.sock.fileno())
        while self._under_way() and time.monotonic() < deadline:
            await asyncio.sleep(RETIRE_POLL_S)
        for listener in self._listeners.values():
            await self._close_listener(listener)
        self._listeners.clear()
        if self._instance is not None:
            await self._instance.end()
        self.http.close()

    async def _close_listener(self, listener: _Listener) -> None:
        listener.udp.fast.flush()
        listener.udp.close(asyncio.get_running_loop())
        await listener.tcp.close()


def open_sockets(host: str, port: int) -> tuple[socket.socket, socket.socket] | None:
    """UDP and TCP on one address and the same port (also when that is 0); None for IPv6 where there is none."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    for attempt in range(BIND_ATTEMPTS):
        opened: list[socket.socket] = []
        try:
            tcp = _bound(family, socket.SOCK_STREAM, host, port, opened)
            udp = _bound(family, socket.SOCK_DGRAM, host, tcp.getsockname()[1], opened)
            tcp.listen(BACKLOG)
        except OSError as error:
            for sock in opened:
                sock.close()
            if host == "::":
                return None  # a machine without IPv6
            if port == 0 and attempt < BIND_ATTEMPTS - 1:
                continue
            raise OSError(error.errno, f"listen {host}:{port}: {error.strerror}") from error
        return udp, tcp
    raise AssertionError("unreachable: the last attempt raises")


def _bound(family: int, kind: int, host: str, port: int, opened: list[socket.socket]) -> socket.socket:
    sock = socket.socket(family, kind)
    opened.append(sock)
    if kind == socket.SOCK_STREAM:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if family == socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    sock.bind((host, port))
    sock.setblocking(False)
    return sock
