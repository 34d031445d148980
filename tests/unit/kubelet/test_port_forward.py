"""Port-forward in the kubelet: both forms over a real WebSocket, against servers on loopback."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import aiohttp
import pytest
from aiohttp import WSMsgType, web

from podnet.controlplane.api.spdy import Connection, Data, StreamReset
from podnet.controlplane.kubelet.server.portforward import TUNNEL, Channels, Tunnel, dial_in, parse_ports

dial = functools.partial(dial_in, "")


class Listener:
    """An echo server that says goodbye when its client has said all, and counts its connections."""

    def __init__(self) -> None:
        self.port = 0
        self.open = 0
        self.served = 0

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.open += 1
        self.served += 1
        try:
            while data := await reader.read(65536):
                if data == b"cut":
                    return
                writer.write(data)
                await writer.drain()
            writer.write(b"bye")
        finally:
            self.open -= 1
            writer.close()

    async def until(self, check: Callable[[], bool]) -> None:
        async with asyncio.timeout(5):
            while not check():
                await asyncio.sleep(0.01)


@pytest.fixture
async def listener() -> AsyncIterator[Listener]:
    listener = Listener()
    server = await asyncio.start_server(listener.handle, "127.0.0.1", 0)
    listener.port = server.sockets[0].getsockname()[1]
    yield listener
    server.close()
    await server.wait_closed()


@pytest.fixture
def closed_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


Connect = Callable[..., Awaitable[aiohttp.ClientWebSocketResponse]]


@pytest.fixture
async def connect() -> AsyncIterator[Connect]:
    """Open a WebSocket to a server that forwards to loopback."""

    async def handle(request: web.BaseRequest) -> web.StreamResponse:
        websocket = web.WebSocketResponse(protocols=(TUNNEL,))
        await websocket.prepare(request)
        ports = parse_ports(request.rel_url.query.getall("ports", []))
        await (Channels(websocket, dial, "p", ports) if ports else Tunnel(websocket, dial, "p")).run()
        return websocket

    runner = web.ServerRunner(web.Server(handle), shutdown_timeout=0.2)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    async with aiohttp.ClientSession() as session:

        async def open_websocket(query: str = "", *protocols: str) -> aiohttp.ClientWebSocketResponse:
            return await session.ws_connect(f"http://127.0.0.1:{runner.addresses[0][1]}/{query}", protocols=protocols)

        yield open_websocket
    await runner.cleanup()


class Client:
    """kubectl's side of the tunnel."""

    def __init__(self, websocket: aiohttp.ClientWebSocketResponse) -> None:
        self.websocket = websocket
        self.spdy = Connection(client=True)
        self.received: dict[int, bytes] = {}
        self.ended: set[int] = set()
        self._requests = 0

    async def forward(self, port: int) -> tuple[int, int]:
        """(error stream, data stream) of a new connection."""
        headers = {"streamtype": "error", "port": str(port), "requestid": str(self._requests)}
        self._requests += 1
        error = self.spdy.open(headers, fin=True)
        data = self.spdy.open({**headers, "streamtype": "data"})
        await self.flush()
        return error, data

    async def send(self, stream: int, data: bytes, *, fin: bool = False) -> None:
        self.spdy.send(stream, data, fin=fin)
        await self.flush()

    async def flush(self) -> None:
        await self.websocket.send_bytes(self.spdy.outgoing())

    async def until(self, check: Callable[[], bool]) -> None:
        async with asyncio.timeout(10):
            while not check():
                message = await self.websocket.receive()
                assert message.type is WSMsgType.BINARY, message
                for event in self.spdy.receive(message.data):
                    self._take(event)

    def _take(self, event: Any) -> None:
        match event:
            case Data(stream, data, fin):
                self.received[stream] = self.received.get(stream, b"") + data
                self.ended |= {stream} if fin else set()
            case StreamReset(stream):
                self.ended.add(stream)


@pytest.fixture
async def client(connect: Connect) -> AsyncIterator[Client]:
    websocket = await connect("", TUNNEL)
    assert websocket.protocol == TUNNEL
    yield Client(websocket)
    await websocket.close()


async def test_a_connection_through_the_tunnel(client: Client, listener: Listener) -> None:
    error, data = await client.forward(listener.port)
    await client.send(data, b"hello")
    await client.until(lambda: client.received.get(data) == b"hello")
    await client.send(data, b"", fin=True)  # a half-close: the pod still answers
    await client.until(lambda: {error, data} <= client.ended)
    assert client.received[data] == b"hellobye"
    assert client.received.get(error, b"") == b""
    await listener.until(lambda: listener.open == 0)


async def test_a_refused_connection_is_explained_and_the_others_live(
    client: Client, listener: Listener, closed_port: int
) -> None:
    _, good = await client.forward(listener.port)
    error, bad = await client.forward(closed_port)
    await client.until(lambda: {error, bad} <= client.ended)
    text = client.received[error].decode()
    assert text.startswith(f"error forwarding port {closed_port} to pod p: ")
    assert text.endswith("connect: connection refused")
    await client.send(bad, b"into the void", fin=True)
    await client.send(good, b"still here")
    await client.until(lambda: client.received.get(good) == b"still here")


async def test_many_connections_at_once(client: Client, listener: Listener) -> None:
    streams = [(await client.forward(listener.port))[1] for _ in range(50)]
    for number, stream in enumerate(streams):
        await client.send(stream, str(number).encode(), fin=True)
    await client.until(lambda: set(streams) <= client.ended)
    assert [client.received[stream] for stream in streams] == [f"{n}bye".encode() for n in range(50)]


async def test_a_large_transfer_is_whole(client: Client, listener: Listener) -> None:
    _, data = await client.forward(listener.port)
    payload = bytes(range(256)) * 8192

    async def upload() -> None:
        for at in range(0, len(payload), 65536):
            await client.send(data, payload[at : at + 65536])
        await client.send(data, b"", fin=True)

    async with asyncio.TaskGroup() as group:
        group.create_task(upload())
        group.create_task(client.until(lambda: data in client.ended))
    assert client.received[data] == payload + b"bye"


async def test_when_the_pod_cuts_the_connection_the_stream_ends(client: Client, listener: Listener) -> None:
    error, data = await client.forward(listener.port)
    await client.send(data, b"cut")
    await client.until(lambda: {error, data} <= client.ended)


async def test_when_the_client_leaves_the_pods_connections_close(client: Client, listener: Listener) -> None:
    for _ in range(3):
        _, data = await client.forward(listener.port)
        await client.send(data, b"x")
    await listener.until(lambda: listener.open == 3)
    await client.websocket.close()
    await listener.until(lambda: listener.open == 0)


async def test_a_reset_stream_closes_its_connection_only(client: Client, listener: Listener) -> None:
    _, one = await client.forward(listener.port)
    _, two = await client.forward(listener.port)
    await listener.until(lambda: listener.open == 2)
    client.spdy.reset(one)
    await client.flush()
    await listener.until(lambda: listener.open == 1)
    await client.send(two, b"x")
    await client.until(lambda: client.received.get(two) == b"x")


@pytest.mark.parametrize("headers", [{"streamtype": "data", "port": "0"}, {"streamtype": "x", "port": "1"}, {}])
async def test_a_stream_that_makes_no_sense_is_reset(client: Client, headers: dict[str, str]) -> None:
    stream = client.spdy.open(headers)
    await client.flush()
    await client.until(lambda: stream in client.ended)


async def test_streams_without_requestid_are_paired_by_number(client: Client, listener: Listener) -> None:
    error = client.spdy.open({"streamtype": "error", "port": str(listener.port)}, fin=True)
    data = client.spdy.open({"streamtype": "data", "port": str(listener.port)})
    await client.send(data, b"hi", fin=True)
    await client.until(lambda: {error, data} <= client.ended)
    assert client.received[data] == b"hibye"


async def test_bytes_that_are_not_spdy_end_the_tunnel(client: Client) -> None:
    await client.websocket.send_bytes(b"GET / HTTP/1.1\r\n\r\n" * 2)
    async with asyncio.timeout(5):
        while (await client.websocket.receive()).type is WSMsgType.BINARY:
            pass


# -- channels


async def test_channels_say_their_port_and_carry_data(connect: Connect, listener: Listener, closed_port: int) -> None:
    websocket = await connect(f"?ports={listener.port}&ports={closed_port}")
    heads = [await websocket.receive_bytes() for _ in range(4)]
    assert heads == [
        struct.pack("<BH", channel, port) for channel, port in enumerate([*[listener.port] * 2, *[closed_port] * 2])
    ]
    refusal = await websocket.receive_bytes()
    assert refusal[0] == 3
    assert refusal.endswith(b"connection refused")
    await websocket.send_bytes(b"\x02nobody there")
    await websocket.send_bytes(b"\x00hello")
    assert await websocket.receive_bytes() == b"\x00hello"
    await websocket.send_bytes(b"\x00cut")
    message = await websocket.receive()
    assert message.type in {WSMsgType.CLOSE, WSMsgType.CLOSED, WSMsgType.CLOSING}


async def test_channels_close_when_the_client_leaves(connect: Connect, listener: Listener) -> None:
    websocket = await connect(f"?ports={listener.port}")
    await listener.until(lambda: listener.open == 1)
    await websocket.close()
    await listener.until(lambda: listener.open == 0)


@pytest.mark.parametrize(
    ("values", "ports"),
    [
        (["80"], [80]),
        (["80", "81"], [80, 81]),
        (["80,81"], [80, 81]),
        ([], []),
        (["0"], None),
        (["x"], None),
        (["65536"], None),
    ],
)
def test_ports(values: list[str], ports: list[int] | None) -> None:
    if ports is None:
        with pytest.raises(ValueError, match=r"not a port|invalid literal"):
            parse_ports(values)
    else:
        assert parse_ports(values) == ports


async def test_a_namespace_that_is_gone_is_an_os_error() -> None:
    with pytest.raises(FileNotFoundError):
        await dial_in("/run/netns/never-was", 80)


async def test_the_kubelet_answers_for_its_own_pods(node: Any) -> None:
    await node.create_pod()
    await node.until_ready()
    connector = aiohttp.TCPConnector(ssl=node.client_tls())
    async with aiohttp.ClientSession(connector=connector) as session:
        for path, status in (
            ("/portForward/default/none?ports=80", 404),
            ("/portForward/default/web", 400),
            ("/portForward/default/web?ports=99999", 400),
        ):
            async with session.get(node.url(path)) as answer:
                assert answer.status == status
        # The fake runtime has no network namespaces: reaching that far is what can be seen here.
        websocket = await session.ws_connect(node.url("/portForward/default/web?ports=80"))
        messages = [await websocket.receive() for _ in range(3)]
        assert messages[2].data[:1] == b"\x01"
        assert b"no such file or directory" in messages[2].data
        with contextlib.suppress(ConnectionError):
            await websocket.close()
