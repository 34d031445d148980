"""An API server on a loopback port without TLS, for tests of the wire."""

from __future__ import annotations

import io
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import orjson
from aiohttp import web

from podnet.controlplane.apiserver.http.authentication import Authenticator
from podnet.controlplane.apiserver.http.server import APIServer
from podnet.controlplane.apiserver.http.streams import KubeletStreams
from podnet.controlplane.apiserver.options import UserInfo
from podnet.controlplane.apiserver.registry import Registry
from podnet.controlplane.apiserver.tokens import TokenIssuer

ADMIN = UserInfo("admin", ("system:masters", "system:authenticated"))
NS = "/api/v1/namespaces/default"
TABLE = (  # what kubectl asks for
    "application/json;as=Table;v=v1;g=meta.k8s.io,application/json;as=Table;v=v1beta1;g=meta.k8s.io,application/json"
)


def config_map(name: str = "a", **data: str) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data}


def pod(name: str = "p", **spec: Any) -> dict[str, Any]:
    return {"metadata": {"name": name}, "spec": {"containers": [{"name": "c", "image": "i"}], **spec}}


class Answer:
    """A whole answer, read."""

    def __init__(self, response: aiohttp.ClientResponse, body: bytes) -> None:
        self.status = response.status
        self.headers = response.headers
        self.body = body

    @property
    def json(self) -> Any:
        return orjson.loads(self.body)

    @property
    def message(self) -> str:
        return str(self.json["message"])

    @property
    def warnings(self) -> list[str]:
        return list(self.headers.getall("Warning", ()))


class Wire:
    """Requests to one server."""

    def __init__(self, session: aiohttp.ClientSession, base: str) -> None:
        self.session = session
        self.base = base

    async def __call__(
        self, method: str, path: str, body: Any = None, content_type: str = "application/json", **headers: str
    ) -> Answer:
        data: Any = body if isinstance(body, (bytes, type(None))) else orjson.dumps(body)
        sent = {"Content-Type": content_type} if data is not None else {}
        if data is not None and len(data) > 1 << 20:
            data = io.BytesIO(data)
        sent.update({name.replace("_", "-"): value for name, value in headers.items()})
        async with self.session.request(method, self.base + path, data=data, headers=sent) as response:
            return Answer(response, await response.read())


@asynccontextmanager
async def serve(
    registry: Registry,
    *,
    tokens: TokenIssuer | None = None,
    streams: KubeletStreams | None = None,
    anonymous: bool = False,
) -> AsyncIterator[Wire]:
    api = APIServer(registry, Authenticator(None, None if anonymous else ADMIN), tokens=tokens, streams=streams)
    api.ready = True
    runner = web.ServerRunner(api.server(), shutdown_timeout=0.2)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    try:
        async with aiohttp.ClientSession(auto_decompress=False) as session:
            yield Wire(session, f"http://127.0.0.1:{port}")
    finally:
        await registry.stop()
        await runner.cleanup()
