"""The proxy subresource: which backend a name means, and requests and answers that pass through whole."""

from __future__ import annotations

import asyncio
import socket
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import orjson
import pytest
from aiohttp import web

sys.path.insert(0, str(Path(__file__).parent))
from http_fixtures import Wire, serve

from podnet.controlplane.api.errors import StatusError
from podnet.controlplane.api.resources import ENDPOINTSLICES, NODES, PODS, SERVICES
from podnet.controlplane.apiserver.http.proxy import (
    Backend,
    moved,
    pod_port,
    ready_endpoints,
    service_port_name,
    split_path,
    split_reference,
)
from podnet.controlplane.apiserver.keys import key_of
from podnet.controlplane.apiserver.local import LocalClient
from podnet.controlplane.apiserver.registry import Registry

NS = "/api/v1/namespaces/default"


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("a", ("", "a", "")),
        ("a:80", ("", "a", "80")),
        ("a:http", ("", "a", "http")),
        ("https:a:443", ("https", "a", "443")),
        ("https:a:", ("https", "a", "")),
        (":a:80", ("", "a", "80")),
        ("ftp:a:21", None),
        (":80", None),
        ("a:b:c:d", None),
    ],
)
def test_references(text: str, parts: Any) -> None:
    assert split_reference(text) == parts


@pytest.mark.parametrize(
    ("raw", "namespaced", "parts"),
    [
        ("/api/v1/namespaces/n/pods/a/proxy", True, ("/api/v1/namespaces/n/pods/a/proxy", None, "")),
        ("/api/v1/namespaces/n/pods/a/proxy/", True, ("/api/v1/namespaces/n/pods/a/proxy", "", "")),
        (
            "/api/v1/namespaces/proxy/pods/proxy/proxy/x%2Fy//z/?a=b&c",
            True,
            ("/api/v1/namespaces/proxy/pods/proxy/proxy", "x%2Fy//z/", "?a=b&c"),
        ),
        ("/api/v1/nodes/n/proxy/metrics?", False, ("/api/v1/nodes/n/proxy", "metrics", "?")),
    ],
)
def test_paths(raw: str, namespaced: bool, parts: Any) -> None:
    assert split_path(raw, namespaced=namespaced) == parts


def test_ports_of_a_pod() -> None:
    ports = [{"name": "http", "containerPort": 8080}, {"name": "x", "containerPort": 9}]
    pod = {"metadata": {"name": "p"}, "spec": {"containers": [{"name": "a"}, {"name": "b", "ports": ports}]}}
    assert [pod_port(pod, said) for said in ("", "81", "x")] == [8080, 81, 9]
    assert pod_port({"metadata": {"name": "p"}, "spec": {"containers": []}}, "") == 0
    with pytest.raises(StatusError, match="no port named"):
        pod_port(pod, "nope")


def test_ports_of_a_service() -> None:
    service = {"metadata": {"name": "s"}, "spec": {"ports": [{"name": "a", "port": 80}, {"name": "b", "port": 81}]}}
    assert [service_port_name(service, said) for said in ("80", "b", "")] == ["a", "b", ""]
    assert service_port_name({"metadata": {"name": "s"}, "spec": {"ports": [{"name": "a", "port": 80}]}}, "") == "a"
    with pytest.raises(StatusError, match='no service port 82 found for service "s"'):
        service_port_name(service, "82")


def test_only_ready_endpoints_are_used() -> None:
    piece = {
        "ports": [{"name": "a", "port": 80}, {"name": "b", "port": 81}],
        "endpoints": [
            {"addresses": ["10.0.0.1"], "conditions": {"ready": True}},
            {"addresses": ["10.0.0.2"], "conditions": {"ready": False}},
            {"addresses": ["10.0.0.3"]},
        ],
    }
    assert ready_endpoints([piece], "b") == [("10.0.0.1", 81), ("10.0.0.3", 81)]
    assert ready_endpoints([piece], "c") == []


@pytest.mark.parametrize(
    ("location", "seen"),
    [
        ("/login?x=1", "/p/proxy/login?x=1"),
        ("http://10.0.0.1:80/login", "/p/proxy/login"),
        ("https://elsewhere/", "https://elsewhere/"),
        ("//elsewhere/", "//elsewhere/"),
        ("next", "next"),
    ],
)
def test_redirects(location: str, seen: str) -> None:
    assert moved(location, Backend("http", "10.0.0.1", 80), "/p/proxy") == seen


class Echo:
    """A backend that says what it was asked."""

    def __init__(self) -> None:
        self.port = 0

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        path = request.raw_path
        if path == "/ws":
            return await self._websocket(request)
        if path == "/stream":
            return await self._stream(request)
        if path == "/moved":
            return web.Response(status=302, headers={"Location": "/here"})
        if path == "/gzip":
            return web.Response(body=b"not really", headers={"Content-Encoding": "gzip", "X-Own": "yes"})
        body = await request.read()
        headers = {name.lower(): value for name, value in request.headers.items()}
        return web.json_response(
            {"method": request.method, "path": path, "body": body.decode(), "headers": headers}, status=203
        )

    async def _websocket(self, request: web.BaseRequest) -> web.StreamResponse:
        websocket = web.WebSocketResponse(protocols=("chat",))
        await websocket.prepare(request)
        async for message in websocket:
            await websocket.send_str(message.data.upper())
        return websocket

    async def _stream(self, request: web.BaseRequest) -> web.StreamResponse:
        response = web.StreamResponse()
        response.enable_chunked_encoding()
        await response.prepare(request)
        async for chunk in request.content.iter_any():
            await response.write(b"<" + chunk + b">")
        await response.write_eof()
        return response


@pytest.fixture
async def echo(registry: Registry) -> AsyncIterator[Echo]:
    """Pod p and Service s over a backend on loopback, Service dead without endpoints, pod q without address."""
    echo = Echo()
    runner = web.ServerRunner(web.Server(echo.handle), shutdown_timeout=0.2)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    echo.port = runner.addresses[0][1]
    client = LocalClient(registry)
    for name in ("p", "q"):
        container = {"name": "c", "image": "i", "ports": [{"name": "http", "containerPort": echo.port}]}
        await client.create(
            PODS, {"metadata": {"name": name, "namespace": "default"}, "spec": {"containers": [container]}}
        )
    await client.patch(PODS, "p", "default", {"status": {"podIP": "127.0.0.1"}}, subresource="status")
    for name in ("s", "dead"):
        spec = {"selector": {"a": "b"}, "ports": [{"name": "web", "port": 80, "targetPort": "http"}]}
        await client.create(SERVICES, {"metadata": {"name": name, "namespace": "default"}, "spec": spec})
    labels = {"kubernetes.io/service-name": "s"}
    piece = {
        "kind": "EndpointSlice",
        "apiVersion": "discovery.k8s.io/v1",
        "metadata": {"name": "s-1", "namespace": "default", "labels": labels},
        "addressType": "IPv4",
        "ports": [{"name": "web", "port": echo.port, "protocol": "TCP"}],
        "endpoints": [{"addresses": ["127.0.0.1"], "conditions": {"ready": True}}],
    }
    # Past validation, which allows no loopback addresses: these are the only ones a test without root can listen on.
    await registry.store.create(key_of(ENDPOINTSLICES, "default", "s-1"), orjson.dumps(piece))
    await registry.cache.wait_fresh()
    yield echo
    await runner.cleanup()


@pytest.fixture
async def wire(registry: Registry, echo: Echo) -> AsyncIterator[Wire]:
    async with serve(registry) as wire:
        yield wire


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"])
async def test_every_method_with_path_query_and_body(wire: Wire, echo: Echo, method: str) -> None:
    body = b"hello" if method in {"POST", "PUT", "PATCH"} else None
    answer = await wire(method, f"{NS}/pods/p:{echo.port}/proxy/a%20b/c/?x=1&y", body, "text/plain", X_Own="1")
    assert answer.status == 203
    said = answer.json
    assert (said["method"], said["path"], said["body"]) == (method, "/a%20b/c/?x=1&y", (body or b"").decode())
    assert said["headers"]["x-own"] == "1"
    assert said["headers"]["x-forwarded-for"] == "127.0.0.1"
    assert said["headers"]["x-forwarded-uri"] == f"{NS}/pods/p:{echo.port}/proxy/a%20b/c/?x=1&y"


@pytest.mark.parametrize(
    "name", ["pods/p", "pods/p:http", "pods/http:p:http", "services/s", "services/s:web", "services/s:80"]
)
async def test_names(wire: Wire, name: str) -> None:
    assert (await wire("GET", f"{NS}/{name}/proxy/x")).json["path"] == "/x"


async def test_credentials_stay_here(wire: Wire) -> None:
    answer = await wire(
        "GET", f"{NS}/pods/p/proxy/", Proxy_Authorization="Basic x", Impersonate_Extra_A="b", Cookie="c=d"
    )
    assert not {"proxy-authorization", "impersonate-extra-a"} & answer.json["headers"].keys()
    assert answer.json["headers"]["cookie"] == "c=d"


async def test_a_path_without_slash_is_sent_to_one_with(wire: Wire) -> None:
    async with wire.session.get(f"{wire.base}{NS}/pods/p/proxy?a=b", allow_redirects=False) as answer:
        assert (answer.status, answer.headers["Location"]) == (301, f"{NS}/pods/p/proxy/?a=b")
    assert (await wire("POST", f"{NS}/pods/p/proxy", b"")).json["path"] == "/"


async def test_answers_pass_unread(wire: Wire) -> None:
    answer = await wire("GET", f"{NS}/pods/p/proxy/gzip")
    assert (answer.body, answer.headers["Content-Encoding"], answer.headers["X-Own"]) == (b"not really", "gzip", "yes")
    head = await wire("HEAD", f"{NS}/pods/p/proxy/gzip")
    assert (head.status, head.body) == (200, b"")
    async with wire.session.get(f"{wire.base}{NS}/pods/p/proxy/moved", allow_redirects=False) as redirect:
        assert (redirect.status, redirect.headers["Location"]) == (302, f"{NS}/pods/p/proxy/here")


async def test_bodies_stream_both_ways_at_once(wire: Wire) -> None:
    answered = asyncio.Event()

    async def body() -> AsyncIterator[bytes]:
        yield b"one"
        await answered.wait()  # the second part is sent only after the first has come back
        yield b"two"

    async with wire.session.post(f"{wire.base}{NS}/pods/p/proxy/stream", data=body()) as answer:
        assert await answer.content.readexactly(5) == b"<one>"
        answered.set()
        assert await answer.content.read() == b"<two>"


async def test_websockets_pass(wire: Wire) -> None:
    async with wire.session.ws_connect(f"{wire.base}{NS}/services/s:80/proxy/ws", protocols=("chat",)) as websocket:
        assert websocket.protocol == "chat"
        for text in ("a", "b" * 100_000):
            await websocket.send_str(text)
            assert (await websocket.receive()).data == text.upper()


async def test_websocket_to_nobody(wire: Wire, closed_port: int) -> None:
    with pytest.raises(aiohttp.WSServerHandshakeError) as caught:
        await wire.session.ws_connect(f"{wire.base}{NS}/pods/p:{closed_port}/proxy/ws")
    assert caught.value.status == 503


@pytest.fixture
def closed_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


async def test_nobody_listens(wire: Wire, closed_port: int) -> None:
    answer = await wire("GET", f"{NS}/pods/p:{closed_port}/proxy/")
    assert (answer.status, answer.json["reason"]) == (503, "ServiceUnavailable")
    assert answer.message == (
        f"error trying to reach service: dial tcp 127.0.0.1:{closed_port}: connect: connection refused"
    )


@pytest.mark.parametrize(
    ("path", "status", "message"),
    [
        (f"{NS}/pods/none/proxy/", 404, 'pods "none" not found'),
        (f"{NS}/services/none/proxy/", 404, 'services "none" not found'),
        ("/api/v1/nodes/none/proxy/", 404, 'nodes "none" not found'),
        (f"{NS}/pods/q/proxy/", 400, "address not allowed"),
        (f"{NS}/pods/a:b:c:d/proxy/", 400, 'invalid pod request "a:b:c:d"'),
        (f"{NS}/services/ftp:s:80/proxy/", 400, 'invalid service request "ftp:s:80"'),
        (f"{NS}/services/dead:80/proxy/", 503, 'no endpoints available for service "dead:80"'),
        (f"{NS}/services/s:81/proxy/", 503, 'no service port 81 found for service "s"'),
        (f"{NS}/services/s:other/proxy/", 503, 'no endpoints available for service "s:other"'),
    ],
)
async def test_refusals(wire: Wire, path: str, status: int, message: str) -> None:
    answer = await wire("GET", path)
    assert (answer.status, answer.message) == (status, message)


async def test_a_node_is_its_kubelet_or_any_port_of_it(wire: Wire, echo: Echo, registry: Registry) -> None:
    status = {"addresses": [{"type": "InternalIP", "address": "127.0.0.1"}]}
    await LocalClient(registry).create(NODES, {"metadata": {"name": "n"}, "status": status})
    answer = await wire("GET", f"/api/v1/nodes/n:{echo.port}/proxy/x")
    assert answer.message == "this server has no way to reach kubelets"
