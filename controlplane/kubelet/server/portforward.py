"""Port-forward: connections of a client's, each joined with one to 127.0.0.1:port inside the pod.

    tunnel    SPDY/3.1 bytes in WebSocket messages; a connection is two streams with headers
              streamtype (error | data), port and requestid; text on the error stream says why it failed
    channels  ports=80&ports=81 in the URL; port number i has channels 2i (data) and 2i+1 (error), and the first frame
              of each is the port as 16 bits little-endian

One connection that fails leaves the others alone. Reading stops while the other side is slow. When the client leaves,
everything is closed. Source: pkg/kubelet/cri/streaming/portforward; KEP-4006 for the tunnel.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import struct
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from aiohttp import WSMsgType, web

from podnet.controlplane.api.spdy import Connection, Data, GoAway, SPDYError, StreamOpened, StreamReset
from podnet.topology.linux import syscalls

TUNNEL = "SPDY/3.1+portforward.k8s.io"
CHANNELS = ("v4.channel.k8s.io", "v5.channel.k8s.io")
DIAL_TIMEOUT_S = 10.0
READ_MAX = 32 * 1024
FRAMES_AHEAD = 64
"""Frames that wait for one slow connection before its whole client is slowed down."""

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]
Dial = Callable[[int], Awaitable[Streams]]


async def dial_in(netns: str, port: int) -> Streams:
    """Connect to the loopback port inside a network namespace ("" = this one). Raises OSError."""
    try:
        return await _dial(netns, socket.AF_INET, "127.0.0.1", port)
    except OSError as first:
        try:
            return await _dial(netns, socket.AF_INET6, "::1", port)
        except OSError:
            raise first from None


async def _dial(netns: str, family: int, address: str, port: int) -> Streams:
    with syscalls.in_netns(netns):  # no await in here: the namespace is the thread's
        connection = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    try:
        async with asyncio.timeout(DIAL_TIMEOUT_S):
            await asyncio.get_running_loop().sock_connect(connection, (address, port))
        return await asyncio.open_connection(sock=connection)
    except BaseException:
        connection.close()
        raise


@dataclass(slots=True)
class _Joined:
    """One forwarded connection: where its answers go, and what waits to be written to the pod (b"" = its end)."""

    port: int
    send: Callable[[bytes, bool], Awaitable[None]]
    fail: Callable[[str], Awaitable[None]]
    waiting: asyncio.Queue[bytes] = field(default_factory=lambda: asyncio.Queue(FRAMES_AHEAD))
    ended: bool = False

    async def next(self) -> bytes:
        """What the client sends; b"" when it has said all."""
        data = b"" if self.ended else await self.waiting.get()
        self.ended = not data
        return data


async def _join(joined: _Joined, dial: Dial, pod: str) -> None:
    """Dial, then copy both ways until the pod's side is done."""
    try:
        reader, writer = await dial(joined.port)
    except (OSError, TimeoutError) as error:
        timed_out = isinstance(error, TimeoutError) and not error.errno
        detail = "i/o timeout" if timed_out else os.strerror(error.errno or 0).lower()
        await joined.fail(
            f"error forwarding port {joined.port} to pod {pod}: failed to connect to localhost:{joined.port} inside the "
            f"pod's network namespace: dial tcp4 127.0.0.1:{joined.port}: connect: {detail}"
        )
        return
    upward = asyncio.create_task(_write(joined, writer))
    try:
        while data := await reader.read(READ_MAX):
            await joined.send(data, False)
    except OSError:
        pass  # the pod cut the connection: for the client it has ended
    finally:
        upward.cancel()
        writer.close()
        with contextlib.suppress(asyncio.CancelledError, OSError):
            await upward
    await joined.send(b"", True)


async def _write(joined: _Joined, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await joined.next():
            writer.write(data)
            await writer.drain()
        writer.write_eof()
    except OSError:
        await _discard(joined)


async def _discard(joined: _Joined) -> None:
    """Take what still comes, so that a connection that is over never blocks the others."""
    while await joined.next():
        pass


class Tunnel:
    """The SPDY form over one WebSocket."""

    def __init__(self, websocket: web.WebSocketResponse, dial: Dial, pod: str) -> None:
        self._websocket = websocket
        self._dial = dial
        self._pod = pod
        self._connection = Connection()
        self._sending = asyncio.Lock()
        self._halves: dict[str, dict[str, int]] = {}
        self._joined: dict[int, _Joined] = {}

    async def run(self) -> None:
        """Until the client leaves."""
        async with asyncio.TaskGroup() as group:
            tasks: set[asyncio.Task[None]] = set()
            try:
                async for message in self._websocket:
                    if message.type is WSMsgType.BINARY:
                        for event in self._connection.receive(message.data):
                            await self._handle(event, group, tasks)
                        await self._flush()
            except (SPDYError, ConnectionError):
                self._connection.go_away()
                with contextlib.suppress(ConnectionError):
                    await self._flush()
            finally:
                for task in tasks:
                    task.cancel()
        await self._websocket.close()

    async def _handle(self, event: object, group: asyncio.TaskGroup, tasks: set[asyncio.Task[None]]) -> None:
        match event:
            case StreamOpened():
                joined = self._opened(event)
                if joined is not None:
                    task = group.create_task(self._serve(joined))
                    tasks.add(task)
                    task.add_done_callback(tasks.discard)
            case Data(stream, data, fin) if stream in self._joined:
                waiting = self._joined[stream].waiting
                if data:
                    await waiting.put(data)
                if fin:
                    await self._end(stream)
            case StreamReset(stream) if stream in self._joined:
                await self._end(stream)
            case GoAway() | _:
                pass

    async def _end(self, stream: int) -> None:
        await self._joined.pop(stream).waiting.put(b"")

    def _opened(self, event: StreamOpened) -> _Joined | None:
        """Accept a stream; the connection it completes, if it does."""
        headers, stream, connection = event.headers, event.stream, self._connection
        kind, port = headers.get("streamtype", ""), headers.get("port", "")
        if kind not in {"error", "data"} or not (port.isascii() and port.isdigit() and 0 < int(port) < 65536):
            connection.reset(stream)
            return None
        connection.reply(stream)
        # Clients older than 1.5 sent no requestid: the error stream comes first and its data stream is the next one.
        request = headers.get("requestid") or str(stream if kind == "error" else stream - 2)
        halves = self._halves.setdefault(request, {})
        halves[kind] = stream
        if len(halves) < 2:
            return None
        del self._halves[request]
        joined = _Joined(
            int(port), self._sender(halves["data"], halves["error"]), self._failer(halves["error"], halves["data"])
        )
        self._joined[halves["data"]] = joined
        return joined

    async def _serve(self, joined: _Joined) -> None:
        with contextlib.suppress(ConnectionError):
            await _join(joined, self._dial, self._pod)
        await _discard(joined)

    def _sender(self, data: int, error: int) -> Callable[[bytes, bool], Awaitable[None]]:
        async def send(payload: bytes, fin: bool) -> None:
            self._connection.send(data, payload, fin=fin)
            if fin:
                self._connection.send(error, b"", fin=True)
            await self._flush()

        return send

    def _failer(self, error: int, data: int) -> Callable[[str], Awaitable[None]]:
        async def fail(text: str) -> None:
            self._connection.send(error, text.encode(), fin=True)
            self._connection.send(data, b"", fin=True)
            await self._flush()

        return fail

    async def _flush(self) -> None:
        async with self._sending:
            data = self._connection.outgoing()
            if data:
                await self._websocket.send_bytes(data)


class Channels:
    """The channel form over one WebSocket."""

    def __init__(self, websocket: web.WebSocketResponse, dial: Dial, pod: str, ports: list[int]) -> None:
        self._websocket = websocket
        self._dial = dial
        self._pod = pod
        self._joined = [_Joined(port, self._sender(2 * at), self._failer(2 * at + 1)) for at, port in enumerate(ports)]
        self._left = len(ports)
        self._done = asyncio.Event()

    async def run(self) -> None:
        """Until every connection is done or the client leaves."""
        with contextlib.suppress(ConnectionError):
            for at, joined in enumerate(self._joined):
                for channel in (2 * at, 2 * at + 1):
                    await self._websocket.send_bytes(struct.pack("<BH", channel, joined.port))
            joins = [asyncio.create_task(self._serve(joined)) for joined in self._joined]
            reading, done = asyncio.create_task(self._read()), asyncio.create_task(self._done.wait())
            try:
                await asyncio.wait({reading, done}, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for task in (reading, done, *joins):
                    task.cancel()
                await asyncio.gather(reading, done, *joins, return_exceptions=True)
        await self._websocket.close()

    async def _read(self) -> None:
        async for message in self._websocket:
            if message.type is not WSMsgType.BINARY or not message.data:
                continue
            channel, data = message.data[0], message.data[1:]
            if channel % 2 == 0 and channel // 2 < len(self._joined) and data:
                await self._joined[channel // 2].waiting.put(data)

    async def _serve(self, joined: _Joined) -> None:
        with contextlib.suppress(ConnectionError):
            await _join(joined, self._dial, self._pod)
        self._left -= 1
        if self._left == 0:
            self._done.set()
        await _discard(joined)

    def _sender(self, channel: int) -> Callable[[bytes, bool], Awaitable[None]]:
        async def send(payload: bytes, fin: bool) -> None:  # noqa: ARG001 - a channel has no half-close
            if payload:
                await self._websocket.send_bytes(bytes((channel,)) + payload)

        return send

    def _failer(self, channel: int) -> Callable[[str], Awaitable[None]]:
        async def fail(text: str) -> None:
            await self._websocket.send_bytes(bytes((channel,)) + text.encode())

        return fail


def parse_ports(values: list[str]) -> list[int]:
    """`ports=80&ports=81` or `ports=80,81`. ValueError for what is no port."""
    ports = [int(word) for value in values for word in value.split(",") if word]
    for port in ports:
        if not 0 < port < 65536:
            raise ValueError(f"{port} is not a port")
    return ports
