"""Raw `Upgrade: SPDY/3.1` requests, for clients that do not speak WebSocket (client-go below 1.30, kubectl below 1.31).

    port-forward   client ══SPDY bytes══> here ──the same bytes in WebSocket messages──> kubelet
    exec, attach   client ══SPDY streams══> here ──channels of the WebSocket protocol──> kubelet

The kubelet knows WebSockets only: port-forward's frames pass through unread, exec's streams become channels.
Source: apimachinery pkg/util/httpstream/spdy; apiserver pkg/util/proxy/streamtranslator (the other way round);
kubelet pkg/cri/streaming/remotecommand for which streams are expected.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Coroutine

import aiohttp
import orjson
from aiohttp import WSMsgType, web

from podnet.controlplane.api.errors import StatusError
from podnet.controlplane.api.spdy import Connection, Data, SPDYError, StreamOpened, StreamReset
from podnet.controlplane.apiserver.http.hijack import COPY_MAX, HijackedResponse, hijacked

PORT_FORWARD = ("portforward.k8s.io",)
REMOTE_COMMAND = ("v4.channel.k8s.io", "v5.channel.k8s.io")
STREAMS_TIMEOUT_S = 30.0
"""How long a client may take to open the streams it announced (upstream: DefaultStreamCreationTimeout)."""
LAST_WORDS_S = 2.0
"""How long a client may take to hang up after everything was said."""

_CHANNELS = {"stdin": 0, "stdout": 1, "stderr": 2, "error": 3, "resize": 4}
_LOST = {"metadata": {}, "status": "Failure", "reason": "InternalError", "message": "lost connection to the kubelet"}


def choose_stream_protocol(request: web.BaseRequest, served: tuple[str, ...]) -> str:
    """The first protocol of ours that the client offers, "" when it says none; 403 when there is none in common."""
    offered = [word.strip() for word in ",".join(request.headers.getall("X-Stream-Protocol-Version", ())).split(",")]
    offered = [word for word in offered if word]
    for protocol in served:
        if protocol in offered:
            return protocol
    if not offered:
        return ""
    message = (
        f"unable to upgrade: unable to negotiate protocol: client supports [{' '.join(offered)}], "
        f"server accepts [{' '.join(served)}]"
    )
    raise StatusError(403, "Forbidden", message)


def _switching(protocol: str) -> bytes:
    version = f"X-Stream-Protocol-Version: {protocol}\r\n" if protocol else ""
    return f"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\n{version}\r\n".encode()


async def tunnel(
    request: web.BaseRequest, upstream: aiohttp.ClientWebSocketResponse, protocol: str
) -> web.StreamResponse:
    """Carry SPDY bytes to the kubelet and back until either side ends."""
    async with hijacked(request) as (reader, writer):
        writer.write(_switching(protocol))

        async def upward() -> None:
            while data := await reader.read(COPY_MAX):
                await upstream.send_bytes(data)

        async def downward() -> None:
            async for message in upstream:
                if message.type is WSMsgType.BINARY:
                    writer.write(message.data)
                    await writer.drain()

        await _until_either(upward(), downward())
    return HijackedResponse()


async def translate(
    request: web.BaseRequest, upstream: aiohttp.ClientWebSocketResponse, protocol: str, expected: frozenset[str]
) -> web.StreamResponse:
    """Speak SPDY with the client and channels with the kubelet, once the expected streams are open."""
    async with hijacked(request) as (reader, writer):
        writer.write(_switching(protocol))
        await _Translator(reader, writer, upstream, expected).run()
    return HijackedResponse()


def expected_streams(parameters: list[tuple[str, str]]) -> frozenset[str]:
    """The streams that a client opens for these kubelet parameters of exec and attach."""
    names = {"input": "stdin", "output": "stdout", "error": "stderr", "tty": "resize"}
    return frozenset({"error"} | {names[name] for name, _ in parameters if name in names})


class _Translator:
    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        upstream: aiohttp.ClientWebSocketResponse,
        expected: frozenset[str],
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._upstream = upstream
        self._expected = expected
        self._connection = Connection()
        self._streams: dict[str, int] = {}
        self._ready = asyncio.Event()

    async def run(self) -> None:
        client = asyncio.create_task(self._from_client())
        kubelet = asyncio.create_task(self._from_kubelet())
        try:
            done, _ = await asyncio.wait({client, kubelet}, return_when=asyncio.FIRST_COMPLETED)
            if kubelet in done:
                await asyncio.wait({client}, timeout=LAST_WORDS_S)
        finally:
            for task in (client, kubelet):
                task.cancel()
            await asyncio.gather(client, kubelet, return_exceptions=True)

    async def _from_client(self) -> None:
        try:
            while data := await self._reader.read(COPY_MAX):
                for event in self._connection.receive(data):
                    await self._handle(event)
                await self._flush()
        except SPDYError:
            self._connection.go_away()
            await self._flush()

    async def _handle(self, event: object) -> None:
        match event:
            case StreamOpened(stream, headers, fin):
                kind = headers.get("streamtype", "")
                if kind not in _CHANNELS or kind in self._streams:
                    self._connection.reset(stream)
                    return
                self._connection.reply(stream)
                self._streams[kind] = stream
                if fin:
                    await self._ended(stream)
                if self._expected <= self._streams.keys():
                    self._ready.set()
            case Data(stream, data, fin):
                for kind in ("stdin", "resize"):
                    if data and stream == self._streams.get(kind):
                        await self._upstream.send_bytes(bytes((_CHANNELS[kind],)) + data)
                if fin:
                    await self._ended(stream)
            case StreamReset(stream):
                await self._ended(stream)

    async def _ended(self, stream: int) -> None:
        if stream == self._streams.get("stdin"):
            await self._upstream.send_bytes(b"\xff\x00")

    async def _from_kubelet(self) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(STREAMS_TIMEOUT_S):
                await self._ready.wait()
        names = {number: name for name, number in _CHANNELS.items()}
        said = False
        async for message in self._upstream:
            if message.type is not WSMsgType.BINARY or not message.data:
                continue
            name, data = names.get(message.data[0], ""), message.data[1:]
            said = said or name == "error"
            if data and name in self._streams:
                self._connection.send(self._streams[name], data, fin=name == "error")
                await self._flush()
        if not said and "error" in self._streams:
            self._connection.send(self._streams["error"], orjson.dumps(_LOST))
        for stream in self._streams.values():
            self._connection.send(stream, b"", fin=True)
        await self._flush()

    async def _flush(self) -> None:
        data = self._connection.outgoing()
        if data:
            self._writer.write(data)
            await self._writer.drain()


async def _until_either(*copies: Coroutine[None, None, None]) -> None:
    tasks = [asyncio.create_task(copy) for copy in copies]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
