"""Log, exec and attach against a kubelet that is a small HTTPS server of the test's own."""

from __future__ import annotations

import asyncio
import ssl
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import WSMsgType, web

sys.path.insert(0, str(Path(__file__).parent))
from http_fixtures import Wire, serve

from podnet.controlplane import pki
from podnet.controlplane.api.resources import NODES, PODS
from podnet.controlplane.api.spdy import Connection, Data
from podnet.controlplane.apiserver.http.spdy import expected_streams
from podnet.controlplane.apiserver.http.streams import TUNNEL, KubeletStreams, choose_container, closing_code
from podnet.controlplane.apiserver.local import LocalClient
from podnet.controlplane.apiserver.main import kubelet_tls
from podnet.controlplane.apiserver.registry import Registry

POD = "/api/v1/namespaces/default/pods/p"


class FakeKubelet:
    """Answers as a kubelet does and remembers what it was asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, list[tuple[str, str]]]] = []
        self.clients: list[str] = []
        self.refusal: tuple[int, Any] | None = None
        self.released = asyncio.Event()
        self.received: list[bytes] = []
        self.open = 0

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        url = request.rel_url
        self.asked.append((url.path, list(url.query.items())))
        certificate = request.get_extra_info("peercert")
        self.clients.append(dict(pair for group in certificate["subject"] for pair in group)["commonName"])
        if self.refusal is not None:
            status, body = self.refusal
            return (
                web.json_response(body, status=status)
                if isinstance(body, dict)
                else web.Response(status=status, text=body)
            )
        if url.path.startswith("/containerLogs/"):
            return await self._log(request)
        if url.path.startswith("/portForward/"):
            return await self._forward(request)
        return await self._stream(request)

    async def _log(self, request: web.BaseRequest) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(b"one\n")
        if request.rel_url.query.get("follow"):
            await self.released.wait()
        await response.write(b"two\n")
        return response

    async def _forward(self, request: web.BaseRequest) -> web.StreamResponse:
        socket = web.WebSocketResponse(protocols=(TUNNEL, "v4.channel.k8s.io"))
        await socket.prepare(request)
        await socket.send_bytes(f"{socket.ws_protocol}\n".encode())
        async for message in socket:
            await socket.send_bytes(message.data.upper())
            if message.data.endswith(b"exit\n"):
                break
        await socket.close()
        return socket

    async def _stream(self, request: web.BaseRequest) -> web.StreamResponse:
        socket = web.WebSocketResponse(protocols=("v5.channel.k8s.io", "v4.channel.k8s.io"))
        await socket.prepare(request)
        self.open += 1
        try:
            return await self._converse(socket)
        finally:
            self.open -= 1

    async def _converse(self, socket: web.WebSocketResponse) -> web.StreamResponse:
        await socket.send_bytes(b"\x01")
        async for message in socket:
            self.received.append(message.data)
            if message.data[:1] == b"\x00":
                await socket.send_bytes(b"\x01" + message.data[1:].upper())
            if message.data in {b"\xff\x00", b"\x00exit\n"}:
                await socket.send_bytes(b'\x03{"status":"Success"}')
                break
        await socket.close()
        return socket


@pytest.fixture(scope="module")
def pki_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("pki")
    pki.ensure_pki(path, advertise_address="127.0.0.1", service_ip="10.96.0.1", cluster_domain="cluster.local")
    pki.ensure_kubelet_certs(path, "n1", "127.0.0.1")
    return path


@pytest.fixture
async def kubelet(pki_dir: Path, registry: Registry) -> AsyncIterator[FakeKubelet]:
    """Node n1 with a fake kubelet, and pod p on it."""
    kubelet = FakeKubelet()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pki_dir / "kubelet-n1.crt", pki_dir / "kubelet-n1.key")
    context.load_verify_locations(pki_dir / "ca.crt")
    context.verify_mode = ssl.CERT_REQUIRED
    runner = web.ServerRunner(web.Server(kubelet.handle), shutdown_timeout=0.2)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context).start()
    await add_node(registry, "n1", runner.addresses[0][1])
    await add_pod(registry, "p", ["c"], "n1")
    yield kubelet
    kubelet.released.set()
    await runner.cleanup()


async def add_node(registry: Registry, name: str, port: int) -> None:
    status = {
        "addresses": [{"type": "Hostname", "address": name}, {"type": "InternalIP", "address": "127.0.0.1"}],
        "daemonEndpoints": {"kubeletEndpoint": {"Port": port}},
    }
    await LocalClient(registry).create(NODES, {"metadata": {"name": name}, "status": status})


async def add_pod(
    registry: Registry, name: str, containers: list[str], node: str, phase: str = "Running", **spec: Any
) -> None:
    client = LocalClient(registry)
    spec = {"nodeName": node, "containers": [{"name": c, "image": "i"} for c in containers], **spec}
    await client.create(PODS, {"metadata": {"name": name, "namespace": "default"}, "spec": spec})
    await client.patch(PODS, name, "default", {"status": {"phase": phase}}, subresource="status")


@pytest.fixture
async def wire(registry: Registry, kubelet: FakeKubelet, pki_dir: Path) -> AsyncIterator[Wire]:
    streams = KubeletStreams(registry, kubelet_tls(pki_dir))
    async with serve(registry, streams=streams) as wire:
        yield wire
        await streams.close()


# -- logs


async def test_a_log_is_the_kubelets(wire: Wire, kubelet: FakeKubelet) -> None:
    answer = await wire("GET", f"{POD}/log")
    assert (answer.status, answer.body) == (200, b"one\ntwo\n")
    assert answer.headers["Content-Type"] == "text/plain"
    assert kubelet.asked == [("/containerLogs/default/p/c", [])]
    assert kubelet.clients == ["kube-apiserver-kubelet-client"]


async def test_log_options_go_through(wire: Wire, kubelet: FakeKubelet) -> None:
    query = "container=c&previous=true&timestamps=true&tailLines=0&sinceSeconds=5&limitBytes=9"
    await wire("GET", f"{POD}/log?{query}")
    assert dict(kubelet.asked[0][1]) == {
        "previous": "true",
        "timestamps": "true",
        "tailLines": "0",
        "sinceSeconds": "5",
        "limitBytes": "9",
    }
    await wire("GET", f"{POD}/log?sinceTime=2026-01-01T00:00:00Z")
    assert kubelet.asked[1][1] == [("sinceTime", "2026-01-01T00:00:00Z")]


async def test_following_delivers_as_it_comes(wire: Wire, kubelet: FakeKubelet) -> None:
    async with asyncio.timeout(5), wire.session.get(f"{wire.base}{POD}/log?follow=true") as response:
        assert await response.content.readline() == b"one\n"
        kubelet.released.set()
        assert await response.content.read() == b"two\n"


@pytest.mark.parametrize(
    "query",
    [
        "tailLines=-1",
        "sinceSeconds=0",
        "limitBytes=0",
        "tailLines=x",
        "follow=maybe",
        "sinceTime=soon",
        "sinceTime=2026-01-01T00:00:00Z&sinceSeconds=3",
    ],
)
async def test_log_options_that_make_no_sense(wire: Wire, kubelet: FakeKubelet, query: str) -> None:
    assert (await wire("GET", f"{POD}/log?{query}")).status in {400, 422}
    assert kubelet.asked == []


async def test_which_container(wire: Wire, registry: Registry, kubelet: FakeKubelet) -> None:
    await add_pod(registry, "two", ["a", "b"], "n1", initContainers=[{"name": "i", "image": "x"}])
    answer = await wire("GET", "/api/v1/namespaces/default/pods/two/log")
    assert (answer.status, answer.message) == (
        400,
        "a container name must be specified for pod two, choose one of: [a b] or one of the init containers: [i]",
    )
    answer = await wire("GET", "/api/v1/namespaces/default/pods/two/log?container=z")
    assert (answer.status, answer.message) == (400, "container z is not valid for pod two")
    assert (await wire("GET", "/api/v1/namespaces/default/pods/two/log?container=i")).status == 200


def test_one_container_needs_no_name() -> None:
    spec = {"containers": [{"name": "a"}], "initContainers": [{"name": "i"}]}
    assert choose_container({"metadata": {"name": "p"}, "spec": spec}, "") == "a"


async def test_the_kubelets_refusal_is_passed_on(wire: Wire, kubelet: FakeKubelet) -> None:
    message = 'container "c" in pod "p" is waiting to start: ContainerCreating'
    kubelet.refusal = (
        400,
        {"kind": "Status", "status": "Failure", "reason": "BadRequest", "message": message, "code": 400},
    )
    answer = await wire("GET", f"{POD}/log")
    assert (answer.status, answer.message) == (400, message)
    kubelet.refusal = (404, "no such log\n")
    answer = await wire("GET", f"{POD}/log")
    assert (answer.status, answer.message) == (404, "no such log")
    kubelet.refusal = (403, "who are you")
    assert (await wire("GET", f"{POD}/log")).status == 500


async def test_a_kubelet_that_is_down(wire: Wire, registry: Registry) -> None:
    await add_node(registry, "n2", 1)
    await add_pod(registry, "q", ["c"], "n2")
    answer = await wire("GET", "/api/v1/namespaces/default/pods/q/log")
    assert (answer.status, answer.json["reason"]) == (500, "InternalError")
    assert "the kubelet of node n2 cannot be reached" in answer.message


async def test_a_pod_without_a_node_has_no_log(wire: Wire, registry: Registry) -> None:
    await add_pod(registry, "q", ["c"], "", "Pending")
    answer = await wire("GET", "/api/v1/namespaces/default/pods/q/log")
    assert (answer.status, answer.body) == (200, b"")


async def test_logs_of_nobody(wire: Wire) -> None:
    answer = await wire("GET", "/api/v1/namespaces/default/pods/none/log")
    assert (answer.status, answer.message) == (404, 'pods "none" not found')


# -- exec


async def exec_session(wire: Wire, query: str, protocols: tuple[str, ...], path: str = "exec") -> Any:
    return await wire.session.ws_connect(f"{wire.base}{POD}/{path}?{query}", protocols=protocols)


@pytest.mark.parametrize("protocol", ["v5.channel.k8s.io", "v4.channel.k8s.io"])
async def test_exec_relays_both_ways(wire: Wire, kubelet: FakeKubelet, protocol: str) -> None:
    socket = await exec_session(wire, "command=tr&command=a+b&stdin=true&stdout=true&stderr=true", (protocol,))
    assert socket.protocol == protocol
    assert (await socket.receive()).data == b"\x01"
    await socket.send_bytes(b"\x00hello")
    assert (await socket.receive()).data == b"\x01HELLO"
    await socket.send_bytes(b"\x00exit\n")
    assert (await socket.receive()).data == b"\x01EXIT\n"
    assert (await socket.receive()).data == b'\x03{"status":"Success"}'
    assert (await socket.receive()).type in {WSMsgType.CLOSE, WSMsgType.CLOSED, WSMsgType.CLOSING}
    assert socket.close_code == 1000
    path, query = kubelet.asked[0]
    assert path == "/exec/default/p/c"
    assert query == [("input", "1"), ("output", "1"), ("error", "1"), ("command", "tr"), ("command", "a b")]


async def test_closing_stdin_goes_through(wire: Wire, kubelet: FakeKubelet) -> None:
    socket = await exec_session(wire, "command=cat&stdin=true&stdout=true", ("v5.channel.k8s.io",))
    await socket.send_bytes(b"\xff\x00")
    messages = [message.data async for message in socket]
    assert messages == [b"\x01", b'\x03{"status":"Success"}']
    assert kubelet.received == [b"\xff\x00"]


async def test_a_terminal_has_one_output(wire: Wire, kubelet: FakeKubelet) -> None:
    socket = await exec_session(wire, "command=sh&stdin=1&stdout=1&stderr=1&tty=1", ("v5.channel.k8s.io",))
    await socket.close()
    assert dict(kubelet.asked[0][1]) == {"input": "1", "output": "1", "tty": "1", "command": "sh"}


async def test_attach_has_no_command(wire: Wire, kubelet: FakeKubelet) -> None:
    socket = await exec_session(wire, "stdin=true&stdout=true", ("v5.channel.k8s.io",), "attach")
    await socket.close()
    assert kubelet.asked[0] == ("/attach/default/p/c", [("input", "1"), ("output", "1")])


async def test_large_frames_survive(wire: Wire) -> None:
    socket = await exec_session(wire, "command=cat&stdin=true&stdout=true", ("v5.channel.k8s.io",))
    await socket.receive()
    for _ in range(5):
        await socket.send_bytes(b"\x00" + b"x" * 1_000_000)
        assert len((await socket.receive()).data) == 1_000_001
    await socket.close()


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("stdout=true", "you must specify at least one command for the container"),
        ("command=x&stdout=false&stderr=false", "you must specify at least one of stdin, stdout, stderr"),
        ("command=x&stdout=1&container=z", "container z is not valid for pod p"),
        ("command=x&stdout=1", "Upgrade request required"),
    ],
)
async def test_execs_that_make_no_sense(wire: Wire, query: str, message: str) -> None:
    answer = await wire("GET", f"{POD}/exec?{query}")
    assert (answer.status, answer.message) == (400, message)


async def test_exec_into_what_is_over(wire: Wire, registry: Registry) -> None:
    await add_pod(registry, "done", ["c"], "n1", "Succeeded")
    answer = await wire("GET", "/api/v1/namespaces/default/pods/done/exec?command=x&stdout=1")
    assert answer.status == 400
    assert answer.message == "cannot exec into a container in a completed pod; current phase is Succeeded"


async def test_exec_refused_by_the_kubelet(wire: Wire, kubelet: FakeKubelet) -> None:
    message = 'container not found ("c")'
    kubelet.refusal = (
        404,
        {"kind": "Status", "status": "Failure", "reason": "NotFound", "message": message, "code": 404},
    )
    with pytest.raises(aiohttp.WSServerHandshakeError) as caught:
        await exec_session(wire, "command=x&stdout=1", ("v5.channel.k8s.io",))
    assert caught.value.status == 404
    fallback = await wire("POST", f"{POD}/exec?command=x&stdout=1", Upgrade="SPDY/3.1", Connection="Upgrade")
    assert (fallback.status, fallback.message) == (404, message)


async def test_a_protocol_nobody_speaks(wire: Wire) -> None:
    with pytest.raises(aiohttp.WSServerHandshakeError) as caught:
        await exec_session(wire, "command=x&stdout=1", ("v9.example",))
    assert caught.value.status == 400


async def test_exec_on_a_kubelet_that_is_down(wire: Wire, registry: Registry) -> None:
    await add_node(registry, "n2", 1)
    await add_pod(registry, "q", ["c"], "n2")
    with pytest.raises(aiohttp.WSServerHandshakeError) as caught:
        await wire.session.ws_connect(
            f"{wire.base}/api/v1/namespaces/default/pods/q/exec?command=x&stdout=1", protocols=("v5.channel.k8s.io",)
        )
    assert caught.value.status == 500


@pytest.mark.parametrize(("code", "out"), [(None, 1000), (1000, 1000), (1005, 1000), (1006, 1000), (1011, 1011)])
def test_codes_that_may_be_on_the_wire(code: int | None, out: int) -> None:
    assert closing_code(code) == out


# -- port-forward and SPDY


@pytest.mark.parametrize(
    ("query", "offered", "asked", "protocol"),
    [
        ("", ("SPDY/3.1+portforward.k8s.io", "x"), [], TUNNEL),
        ("?ports=80&ports=81", ("v5.channel.k8s.io", "v4.channel.k8s.io"), [("ports", "80"), ("ports", "81")], "v4.channel.k8s.io"),
        ("?ports=80,81", (), [("ports", "80"), ("ports", "81")], None),
    ],
    ids=["kubectl", "python", "kr8s"],
)  # fmt: skip
async def test_port_forward_over_websocket(
    wire: Wire, kubelet: FakeKubelet, query: str, offered: tuple[str, ...], asked: Any, protocol: str | None
) -> None:
    async with wire.session.ws_connect(f"{wire.base}{POD}/portforward{query}", protocols=offered) as socket:
        assert socket.protocol == protocol
        await socket.receive_bytes()
        await socket.send_bytes(b"hello")
        assert await socket.receive_bytes() == b"HELLO"
    assert kubelet.asked == [("/portForward/default/p", asked)]


@pytest.mark.parametrize(
    ("query", "headers", "status", "message"),
    [
        pytest.param("?ports=80", {}, 400, "Upgrade request required", id="no-upgrade"),
        pytest.param(
            "", {"Upgrade": "SPDY/3.1", "Connection": "Upgrade", "X-Stream-Protocol-Version": "other"}, 403,
            "client supports [other], server accepts [portforward.k8s.io]", id="no-protocol",
        ),
    ],
)  # fmt: skip
async def test_port_forward_refusals(
    wire: Wire, query: str, headers: dict[str, str], status: int, message: str
) -> None:
    answer = await wire("POST", f"{POD}/portforward{query}", **headers)
    assert (answer.status, message in answer.message) == (status, True)


@pytest.mark.parametrize("query", ["", "?ports=", "?ports=x", "?ports=0", "?ports=70000"])
async def test_channels_need_ports(wire: Wire, query: str) -> None:
    with pytest.raises(aiohttp.WSServerHandshakeError) as caught:
        await wire.session.ws_connect(f"{wire.base}{POD}/portforward{query}")
    assert caught.value.status == 400


async def upgraded(wire: Wire, path: str, protocol: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter, str]:
    """A connection that was switched to SPDY, and the head of the answer."""
    host, _, port = wire.base.removeprefix("http://").partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    head = f"POST {path} HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\nContent-Length: 0\r\n"
    writer.write(f"{head}X-Stream-Protocol-Version: {protocol}\r\n\r\n".encode())
    answer = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 5)
    return reader, writer, answer.decode()


async def test_raw_spdy_bytes_reach_the_kubelet_unread(wire: Wire, kubelet: FakeKubelet) -> None:
    reader, writer, head = await upgraded(wire, f"{POD}/portforward", "portforward.k8s.io")
    assert head.startswith("HTTP/1.1 101 ")
    assert "X-Stream-Protocol-Version: portforward.k8s.io" in head
    assert await reader.readline() == f"{TUNNEL}\n".encode()
    writer.write(b"some bytes exit\n")
    assert await asyncio.wait_for(reader.read(), 5) == b"SOME BYTES EXIT\n"  # and the end: the kubelet hung up
    writer.close()


async def test_exec_over_spdy(wire: Wire, kubelet: FakeKubelet) -> None:
    path = f"{POD}/exec?command=x&stdin=1&stdout=1"
    reader, writer, head = await upgraded(wire, path, "v5.channel.k8s.io, v4.channel.k8s.io")
    assert "X-Stream-Protocol-Version: v4.channel.k8s.io" in head
    spdy = Connection(client=True)
    streams = {kind: spdy.open({"streamtype": kind}) for kind in ("error", "stdin", "stdout")}
    spdy.send(streams["stdin"], b"hello")
    spdy.send(streams["stdin"], b"", fin=True)
    writer.write(spdy.outgoing())
    received: dict[int, bytes] = {}
    while data := await asyncio.wait_for(reader.read(65536), 5):
        for event in spdy.receive(data):
            if isinstance(event, Data):
                received[event.stream] = received.get(event.stream, b"") + event.data
    assert received[streams["stdout"]] == b"HELLO"
    assert received[streams["error"]] == b'{"status":"Success"}'
    assert kubelet.received == [b"\x00hello", b"\xff\x00"]
    writer.close()


async def test_an_exec_that_the_kubelet_refuses_is_not_upgraded(wire: Wire, kubelet: FakeKubelet) -> None:
    kubelet.refusal = (404, 'container not found ("c")')
    _, writer, head = await upgraded(wire, f"{POD}/exec?command=x&stdout=1", "v4.channel.k8s.io")
    assert head.startswith("HTTP/1.1 404 ")
    writer.close()


async def test_a_client_that_leaves_ends_the_kubelets_stream(wire: Wire, kubelet: FakeKubelet) -> None:
    _, writer, _ = await upgraded(wire, f"{POD}/exec?command=x&stdout=1&stdin=1", "v4.channel.k8s.io")
    writer.transport.abort()
    async with asyncio.timeout(5):
        while kubelet.open:
            await asyncio.sleep(0.01)


@pytest.mark.parametrize(
    ("parameters", "streams"),
    [
        ([("output", "1"), ("command", "x")], {"error", "stdout"}),
        ([("input", "1"), ("output", "1"), ("tty", "1")], {"error", "stdin", "stdout", "resize"}),
        ([("error", "1")], {"error", "stderr"}),
    ],
)
def test_which_streams_an_exec_expects(parameters: list[tuple[str, str]], streams: set[str]) -> None:
    assert expected_streams(parameters) == streams


# -- nodes


async def test_a_node_proxy_is_its_kubelet(wire: Wire, kubelet: FakeKubelet) -> None:
    answer = await wire("GET", "/api/v1/nodes/n1/proxy/containerLogs/a/b/c?x=1")
    assert answer.body == b"one\ntwo\n"
    assert kubelet.asked == [("/containerLogs/a/b/c", [("x", "1")])]
    assert kubelet.clients == ["kube-apiserver-kubelet-client"]
