"""The real kubectl against a tiny server on loopback that serves this room's documents and records what it is sent."""

from __future__ import annotations

import asyncio
import os
import shutil
from dataclasses import dataclass, field
from pathlib import Path

import orjson
import pytest
from aiohttp import web

from podnet.controlplane.api import discovery, openapi, protobuf
from podnet.controlplane.api.types import Object


@dataclass
class Request:
    """One recorded request that carried a body."""

    method: str
    path: str
    content_type: str
    body: bytes

    def obj(self) -> Object:
        return protobuf.decode(self.body) if protobuf.is_protobuf(self.content_type) else orjson.loads(self.body)


@dataclass
class Kubectl:
    """Runs kubectl against the recording server."""

    url: str
    home: Path
    requests: list[Request] = field(default_factory=list)
    objects: dict[str, Object] = field(default_factory=dict)

    async def run(self, *args: str, stdin: str = "") -> tuple[int, str]:
        """The exit code and everything it printed."""
        env = {"HOME": str(self.home), "KUBECONFIG": str(self.home / "config"), "PATH": os.environ["PATH"]}
        process = await asyncio.create_subprocess_exec(
            "kubectl",
            "--server",
            self.url,
            *args,
            env=env,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        out, _ = await asyncio.wait_for(process.communicate(stdin.encode()), 60)
        assert process.returncode is not None
        return process.returncode, out.decode()


def _documents(request: web.Request) -> Object | bytes | None:
    path = request.path.rstrip("/")
    if path == "/version":
        return {"major": "1", "minor": "32", "gitVersion": "v1.32.4"}
    aggregated = "v=v2;as=APIGroupDiscoveryList" in request.headers.get("Accept", "")  # before 1.30: v2beta1 only
    if path in {"/api", "/apis"}:
        if aggregated:
            return discovery.api_group_discovery(path == "/api")
        return discovery.api_versions([request.host]) if path == "/api" else discovery.api_group_list()
    if path == "/openapi/v3":
        return openapi.openapi_index()
    if path == "/openapi/v2":
        return b"\x0a\x032.0"  # before 1.29 kubectl insists on one; a document without definitions will do
    parts = path.strip("/").split("/")
    if parts[:2] == ["openapi", "v3"]:
        return openapi.openapi_document(parts[3] if parts[2] == "apis" else "", parts[-1])
    if parts[0] == "api" and len(parts) == 2:
        return discovery.api_resource_list("", parts[1])
    if parts[0] == "apis" and len(parts) == 3:
        return discovery.api_resource_list(parts[1], parts[2])
    return None


@pytest.fixture
async def kubectl(tmp_path):
    """A `Kubectl`; skips where there is none."""
    if shutil.which("kubectl") is None:
        pytest.skip("kubectl is not on PATH: install it to run the tests that drive the real client")

    async def answer(request: web.Request) -> web.Response:
        body = await request.read()
        if request.method != "GET":
            record = Request(request.method, request.path, request.headers.get("Content-Type", ""), body)
            client.requests.append(record)
            # The server answers with what it understood: kubectl prints the object's name out of it.
            stored = client.objects.get(request.path)
            return web.json_response(stored or record.obj(), status=201 if request.method == "POST" else 200)
        document = _documents(request)
        if document is None and request.path in client.objects:
            document = client.objects[request.path]
        if document is None:
            status = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "NotFound", "code": 404}
            return web.json_response(status, status=404)
        content_type = "application/json"
        if isinstance(document, dict) and document.get("kind") == "APIGroupDiscoveryList":
            content_type = discovery.AGGREGATED_CONTENT_TYPE
        if request.path == "/openapi/v2":
            content_type = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf"
        data = document if isinstance(document, bytes) else orjson.dumps(document)
        return web.Response(body=data, headers={"Content-Type": content_type})

    app = web.Application()
    app.router.add_route("*", "/{tail:.*}", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = site._server.sockets[0].getsockname()[1]
    (tmp_path / "config").write_text("apiVersion: v1\nkind: Config\n")  # 1.27 warns when there is none
    client = Kubectl(f"http://127.0.0.1:{port}", tmp_path)
    try:
        yield client
    finally:
        await runner.cleanup()
