"""Probes against real sockets on loopback, with the texts that `kubectl describe` shows."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from podnet.controlplane.kubelet.fake_runtime import FakeRuntime
from podnet.controlplane.kubelet.probes.grpc import END_STREAM, HEADERS, SETTINGS, frame
from podnet.controlplane.kubelet.probes.prober import ProbeTarget, probe_once, resolve_port
from podnet.controlplane.kubelet.probes.state import ProbeSpec

HOST = "127.0.0.1"
CONTAINER = {"name": "app", "ports": [{"name": "web", "containerPort": 8080}]}


async def ask(handler: dict[str, Any], container: dict[str, Any] | None = None, timeout_s: int = 1) -> Any:
    spec = ProbeSpec("liveness", handler, timeout_s=timeout_s)
    return await probe_once(FakeRuntime(), spec, ProbeTarget("id", container or CONTAINER, HOST))


@asynccontextmanager
async def http_server(handler: Callable[[web.Request], Any], tls: ssl.SSLContext | None = None) -> AsyncIterator[int]:
    app = web.Application()
    app.router.add_get("/{tail:.*}", handler)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    try:
        site = web.TCPSite(runner, HOST, 0, ssl_context=tls)
        await site.start()
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()


@asynccontextmanager
async def tcp_server(serve: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Any]) -> AsyncIterator[int]:
    tasks: list[asyncio.Task[Any]] = []

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        tasks.append(asyncio.current_task())  # type: ignore[arg-type]
        try:
            with contextlib.suppress(OSError, EOFError, asyncio.CancelledError):
                await serve(reader, writer)
        finally:
            writer.close()

    server = await asyncio.start_server(accept, HOST, 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await server.wait_closed()


def unused_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


@pytest.mark.parametrize(
    ("code", "success"), [(200, True), (204, True), (302, True), (399, True), (400, False), (404, False), (500, False)]
)
async def test_http_codes(code: int, success: bool) -> None:
    async def serve(_: web.Request) -> web.Response:
        return web.Response(status=code)

    async with http_server(serve) as port:
        answer = await ask({"httpGet": {"port": port}})
    assert answer.success is success
    if not success:
        assert answer.output == f"HTTP probe failed with statuscode: {code}"


async def test_http_path_query_and_headers_arrive() -> None:
    seen = {}

    async def serve(request: web.Request) -> web.Response:
        seen.update(path=request.raw_path, headers=dict(request.headers))
        return web.Response()

    headers = [{"name": "Host", "value": "example.com"}, {"name": "X-Probe", "value": "yes"}]
    async with http_server(serve) as port:
        assert (await ask({"httpGet": {"port": port, "path": "/a%20b?x=1", "httpHeaders": headers}})).success
    assert seen["path"] == "/a%20b?x=1"
    assert seen["headers"]["Host"] == "example.com"
    assert seen["headers"]["X-Probe"] == "yes"
    assert seen["headers"]["User-Agent"] == "kube-probe/1.32"
    assert seen["headers"]["Accept"] == "*/*"


async def test_https_is_not_verified(pki_dir: Path) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pki_dir / "apiserver.crt", pki_dir / "apiserver.key")

    async def serve(_: web.Request) -> web.Response:
        return web.Response(text="ok")

    async with http_server(serve, context) as port:
        assert (await ask({"httpGet": {"port": port, "scheme": "HTTPS"}})).success


async def test_redirects_on_the_same_host_are_followed() -> None:
    async def serve(request: web.Request) -> web.Response:
        if request.path == "/":
            return web.Response(status=302, headers={"Location": "/down"})
        return web.Response(status=503)

    async with http_server(serve) as port:
        answer = await ask({"httpGet": {"port": port}})
    assert answer.output == "HTTP probe failed with statuscode: 503"


async def test_a_redirect_to_elsewhere_is_success() -> None:
    async def serve(_: web.Request) -> web.Response:
        return web.Response(status=302, headers={"Location": "http://elsewhere.invalid/"})

    async with http_server(serve) as port:
        assert (await ask({"httpGet": {"port": port}})).success


async def test_http_refused() -> None:
    port = unused_port()
    answer = await ask({"httpGet": {"port": port, "path": "/health"}})
    assert answer.output == (
        f'Get "http://127.0.0.1:{port}/health": dial tcp 127.0.0.1:{port}: connect: connection refused'
    )


async def test_http_timeout() -> None:
    async def serve(_: web.Request) -> web.Response:
        await asyncio.sleep(30)
        return web.Response()

    async with http_server(serve) as port:
        answer = await ask({"httpGet": {"port": port}})
    assert answer.output == (
        f'Get "http://127.0.0.1:{port}/": context deadline exceeded (Client.Timeout exceeded while awaiting headers)'
    )


async def test_http_hung_up() -> None:
    async def serve(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
        await reader.readline()

    async with tcp_server(serve) as port:
        answer = await ask({"httpGet": {"port": port}})
    assert not answer.success
    assert answer.output.startswith(f'Get "http://127.0.0.1:{port}/": ')


async def test_tcp() -> None:
    async def serve(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
        await reader.read()

    async with tcp_server(serve) as port:
        assert (await ask({"tcpSocket": {"port": port}})).success
    answer = await ask({"tcpSocket": {"port": unused_port(), "host": HOST}})
    assert answer.output.startswith("dial tcp 127.0.0.1:")
    assert answer.output.endswith(": connect: connection refused")


@pytest.mark.parametrize(
    ("message", "success", "output"),
    [
        pytest.param(b"\x08\x01", True, "service healthy", id="serving"),
        pytest.param(b"\x08\x02", False, 'service unhealthy (responded with "NOT_SERVING")', id="not-serving"),
        pytest.param(b"", False, 'service unhealthy (responded with "UNKNOWN")', id="unknown"),
        pytest.param(None, False, 'error: health rpc probe failed for service "db"', id="no-such-service"),
    ],
)
async def test_grpc(message: bytes | None, success: bool, output: str) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"/grpc.health.v1.Health/Check")
        writer.write(frame(SETTINGS, 0, 0))
        if message is not None:
            writer.write(frame(HEADERS, 4, 1, b"\x88"))
            writer.write(frame(0, 0, 1, b"\x00" + len(message).to_bytes(4, "big") + message))
        writer.write(frame(HEADERS, 4 | END_STREAM, 1, b""))
        await writer.drain()
        await reader.read()

    async with tcp_server(serve) as port:
        answer = await ask({"grpc": {"port": port, "service": "db"}})
    assert (answer.success, answer.output) == (success, output)


async def test_grpc_refused() -> None:
    port = unused_port()
    answer = await ask({"grpc": {"port": port}})
    assert answer.output == f'error: failed to connect service "127.0.0.1:{port}"'


@pytest.mark.parametrize(("port", "number"), [(80, 80), ("80", 80), ("web", 8080)], ids=["number", "digits", "name"])
def test_ports(port: int | str, number: int) -> None:
    assert resolve_port(port, CONTAINER) == number


def test_a_port_name_that_is_none() -> None:
    with pytest.raises(ValueError, match="couldn't find port: nope"):
        resolve_port("nope", CONTAINER)
