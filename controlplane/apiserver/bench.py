"""The two API server rows of `podnet bench`: GET of one pod, and 500 watches at 20 events a second.

Each server runs in a process of its own on core 0 over plain HTTP, the load in this one on core 1; the reference is a
bare aiohttp server that answers the same bytes, or fans out the same events, in the same run.
"""

from __future__ import annotations

import asyncio
import contextlib
import multiprocessing
import os
import signal
import socket
import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from typing import Any, cast

import orjson
import uvloop
from aiohttp import web

from podnet.controlplane.api.resources import CONFIGMAPS, PODS
from podnet.controlplane.api.types import Object
from podnet.controlplane.apiserver.bootstrap import ensure_bootstrap
from podnet.controlplane.apiserver.http.authentication import Authenticator
from podnet.controlplane.apiserver.http.server import APIServer
from podnet.controlplane.apiserver.options import UserInfo, WriteOptions
from podnet.controlplane.apiserver.registry import Registry
from podnet.controlplane.store import open_store

ADMIN = UserInfo("bench", ("system:masters",))
CONNECTIONS = 32
WATCHES = 500
EVENTS_PER_S = 20
START_TIMEOUT_S = 20.0
POD: Object = {
    "metadata": {"name": "a", "namespace": "default", "labels": {"app": "web"}},
    "spec": {"containers": [{"name": "web", "image": "nginx", "ports": [{"containerPort": 80}]}]},
}


@dataclass(frozen=True, slots=True)
class GetResult:
    """Requests a second, ours and the bare server's, and the size of the answer."""

    requests_per_s: float
    reference_per_s: float
    body_bytes: int


@dataclass(frozen=True, slots=True)
class WatchResult:
    """Milliseconds from an event's making to its arrival, over all watches; `lost` events never came."""

    p50_ms: float
    p99_ms: float
    reference_p50_ms: float
    reference_p99_ms: float
    lost: int


def bench_get(duration_s: float = 3.0, connections: int = CONNECTIONS) -> GetResult:
    """GET of one pod from the API server, then of the same bytes from a bare aiohttp server."""
    path = "/api/v1/namespaces/default/pods/a"
    with _server(_serve_registry) as port:
        ours, size = _run(_load(port, path, duration_s, connections))
    with _server(_serve_bare, size) as port:
        reference, _ = _run(_load(port, path, duration_s, connections))
    return GetResult(ours, reference, size)


def bench_watch(duration_s: float = 5.0, watches: int = WATCHES, events_per_s: int = EVENTS_PER_S) -> WatchResult:
    """Latency of ConfigMap events to many watches of all ConfigMaps; then of a bare fan-out."""
    path = "/api/v1/configmaps?watch=true&resourceVersion=0"
    with _server(_serve_registry, events_per_s) as port:
        p50, p99, lost = _run(_watch_load(port, path, duration_s, watches))
    with _server(_serve_bare_watch, events_per_s) as port:
        reference50, reference99, _ = _run(_watch_load(port, path, duration_s, watches))
    return WatchResult(p50, p99, reference50, reference99, lost)


def _run(coroutine: Any) -> Any:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(coroutine)


# -- servers, each in a process


@contextlib.contextmanager
def _server(serve: Callable[..., Any], *arguments: Any) -> Iterator[int]:
    """Run `serve(ready, *arguments)` in a process on core 0 and yield its port."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_serve_in_process, args=(serve, theirs, arguments), daemon=True)
    process.start()
    cores = sorted(os.sched_getaffinity(0))
    try:
        os.sched_setaffinity(0, {cores[-1]})
        wait([ours, process.sentinel], START_TIMEOUT_S)
        if not ours.poll(0):
            raise TimeoutError("the benchmark's server did not start")
        yield int(ours.recv())
    finally:
        os.sched_setaffinity(0, set(cores))
        process.terminate()
        process.join(5)


def _serve_in_process(serve: Callable[..., Any], ready: Connection, arguments: tuple[Any, ...]) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the one who started this, and ends it
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    _run(serve(ready, *arguments))


def _listener() -> socket.socket:
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen(1024)
    listener.setblocking(False)
    return listener


async def _serve(server: Any, ready: Connection) -> None:
    runner = web.ServerRunner(server)
    await runner.setup()
    listener = _listener()
    await web.SockSite(runner, listener, backlog=1024).start()
    ready.send(listener.getsockname()[1])


async def _serve_registry(ready: Connection, events_per_s: int = 0) -> None:
    """The API server on a memory store with one pod; with `events_per_s`, a ConfigMap that changes that often."""
    registry = Registry(open_store("memory", ""))
    await registry.start()
    await ensure_bootstrap(registry, advertise_address="127.0.0.1", port=6443)
    await registry.create(PODS, "default", orjson.loads(orjson.dumps(POD)), WriteOptions())
    await _serve(APIServer(registry, Authenticator(None, ADMIN)).server(), ready)
    if not events_per_s:
        await asyncio.Event().wait()
    await registry.create(CONFIGMAPS, "default", {"metadata": {"name": "tick"}, "data": {"sent": "0"}}, WriteOptions())

    async for sent in _ticks(events_per_s):

        def tick(current: Object, sent: float = sent) -> Object:
            return {**current, "data": {"sent": repr(sent)}}

        await registry.write(CONFIGMAPS, "default", "tick", tick, WriteOptions())


async def _ticks(events_per_s: int) -> AsyncIterator[float]:
    loop = asyncio.get_running_loop()
    due = loop.time() + 1.0
    while True:
        await asyncio.sleep(max(due - loop.time(), 0))
        due += 1 / events_per_s
        yield time.time()


async def _serve_bare(ready: Connection, size: int) -> None:
    """Aiohttp alone: one handler that answers a JSON body of `size` bytes."""
    document = {"data": "x" * max(size - 11, 0)}

    async def handle(_: web.BaseRequest) -> web.Response:
        return web.Response(body=orjson.dumps(document), content_type="application/json")

    await _serve(web.Server(handle, access_log=None), ready)
    await asyncio.Event().wait()


async def _serve_bare_watch(ready: Connection, events_per_s: int) -> None:
    """Aiohttp alone: every stream gets a line `events_per_s` times a second."""
    streams: set[asyncio.Queue[bytes]] = set()

    async def handle(request: web.BaseRequest) -> web.StreamResponse:
        response = web.StreamResponse()
        response.enable_chunked_encoding()
        await response.prepare(request)
        queue: asyncio.Queue[bytes] = asyncio.Queue()
        streams.add(queue)
        try:
            while True:
                await response.write(await queue.get())
        finally:
            streams.discard(queue)

    await _serve(web.Server(handle, access_log=None, handler_cancellation=True), ready)
    async for sent in _ticks(events_per_s):
        line = b'{"type":"MODIFIED","object":{"metadata":{"name":"%b"},"data":{"sent":"%b"}}}\n' % (
            b"x" * 250,
            repr(sent).encode(),
        )
        for queue in streams:
            queue.put_nowait(line)


# -- load


class _Getter(asyncio.Protocol):
    """One keep-alive connection that asks again as soon as it was answered."""

    def __init__(self, request: bytes) -> None:
        self._request = request
        self._buffer = b""
        self.answers = 0
        self.size = 0
        self.failed = ""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.WriteTransport", transport)
        self._transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        buffer = self._buffer + data if self._buffer else data
        head = buffer.find(b"\r\n\r\n")
        if head >= 0:
            start = buffer.lower().find(b"content-length: ") + 16
            length = int(buffer[start : buffer.find(b"\r", start)])
            if len(buffer) >= head + 4 + length:
                if not buffer.startswith(b"HTTP/1.1 200"):
                    self.failed = buffer[:80].decode(errors="replace")
                self.answers += 1
                self.size = length
                buffer = b""
                self._transport.write(self._request)
        self._buffer = buffer


async def _load(port: int, path: str, duration_s: float, connections: int) -> tuple[float, int]:
    request = f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nAccept: application/json\r\n\r\n".encode()
    loop = asyncio.get_running_loop()
    pairs = [await loop.create_connection(lambda: _Getter(request), "127.0.0.1", port) for _ in range(connections)]
    await asyncio.sleep(0.3)  # the first requests warm caches
    before, began = sum(getter.answers for _, getter in pairs), loop.time()
    await asyncio.sleep(duration_s)
    count, took = sum(getter.answers for _, getter in pairs) - before, loop.time() - began
    for transport, getter in pairs:
        transport.close()
        if getter.failed:
            raise RuntimeError(f"the server answered {getter.failed}")
    return count / took, pairs[0][1].size


class _Watcher(asyncio.Protocol):
    """One watch stream; notes how old each event is when it comes."""

    def __init__(self, request: bytes) -> None:
        self._request = request
        self._tail = b""
        self.ages: list[float] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.WriteTransport", transport)
        self._transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        now = time.time()
        data = self._tail + data
        *_, last = data.rpartition(b"}\n")
        marker = b'"sent":"'
        at = data.find(marker)
        while at >= 0:
            end = data.find(b'"', at + len(marker))
            if end < 0:
                break
            sent = float(data[at + len(marker) : end])
            if sent:
                self.ages.append(now - sent)
            at = data.find(marker, end)
        self._tail = last


async def _watch_load(port: int, path: str, duration_s: float, watches: int) -> tuple[float, float, int]:
    request = f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nAccept: application/json\r\n\r\n".encode()
    loop = asyncio.get_running_loop()
    pairs = [await loop.create_connection(lambda: _Watcher(request), "127.0.0.1", port) for _ in range(watches)]
    await asyncio.sleep(2.0)  # until all streams have had their initial events
    for _, watcher in pairs:
        watcher.ages.clear()
    await asyncio.sleep(duration_s)
    ages = sorted(age for _, watcher in pairs for age in watcher.ages)
    for transport, _ in pairs:
        transport.close()
    if not ages:
        raise RuntimeError("no event arrived")
    expected = max((len(watcher.ages) for _, watcher in pairs), default=0) * watches
    lost = max(expected - len(ages) - watches, 0)
    return ages[len(ages) // 2] * 1000, ages[int(len(ages) * 0.99)] * 1000, lost
