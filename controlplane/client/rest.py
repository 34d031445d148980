"""The client over HTTPS: `RestClient` satisfies `client.types.Client`.

It does one request per call and never retries: the queue above is where retries live. Every refusal is a StatusError;
a server that cannot be reached, or that vanished in the middle of an answer, is StatusError 503 ServiceUnavailable.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections import deque
from collections.abc import AsyncIterator, Mapping
from typing import Any, Literal, Self

import aiohttp
import orjson
from aiohttp.client_reqrep import ClientResponse

from podnet.controlplane.api.errors import StatusError, service_unavailable
from podnet.controlplane.api.types import Object, Resource
from podnet.controlplane.client.endpoint import Endpoint
from podnet.controlplane.client.types import ObjectList, PatchType, WatchEvent
from podnet.controlplane.client.urls import query, resource_path

MAX_IN_FLIGHT = 64
"""Requests at once, watches aside: a burst queues here and not in the server's accept backlog."""
REQUEST_TIMEOUT_S = 30.0
MAX_WATCH_LINE = 64 * 1024 * 1024
"""A watch line is one object; etcd would refuse one of 1.5 MB, other stores may hold more."""
DEAD_PEER_MS = 20_000
"""After this long without an acknowledgement a connection is dead: a cut link has no FIN, and a watch sends nothing."""

_PATCH_TYPES: Mapping[PatchType, str] = {
    "json": "application/json-patch+json",
    "merge": "application/merge-patch+json",
    "strategic": "application/strategic-merge-patch+json",
}


def _dial(address: Any) -> socket.socket:
    family, kind, protocol, _, _ = address
    sock = socket.socket(family, kind, protocol)
    sock.setblocking(False)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 5)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 5)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, DEAD_PEER_MS)
    return sock


class _Identity:
    """The TLS context and the bearer token, read again when their files change."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint
        self._certificate_stamp: tuple[int, ...] = ()
        self._token_stamp: tuple[int, ...] = ()
        self._token = ""
        self.context = (
            ssl.create_default_context(cafile=str(endpoint.ca_file)) if endpoint.server.startswith("https") else None
        )

    def refresh(self) -> dict[str, str]:
        """The headers that say who asks; a new certificate serves the next connection."""
        endpoint = self._endpoint
        if self.context is not None and endpoint.cert_file is not None:
            files = [endpoint.cert_file, endpoint.key_file or endpoint.cert_file]
            stamp = tuple(path.stat().st_mtime_ns for path in files)
            if stamp != self._certificate_stamp:
                self.context.load_cert_chain(endpoint.cert_file, endpoint.key_file)
                self._certificate_stamp = stamp
        if endpoint.token_file is None:
            return {}
        status = endpoint.token_file.stat()
        token_stamp = (status.st_mtime_ns, status.st_ino)
        if token_stamp != self._token_stamp:
            self._token = endpoint.token_file.read_text().strip()
            self._token_stamp = token_stamp
        return {"Authorization": f"Bearer {self._token}"}


class RestClient:
    """A `Client` for one endpoint. Create and use it inside a running event loop; `close` it in the end."""

    def __init__(self, endpoint: Endpoint, *, request_timeout_s: float = REQUEST_TIMEOUT_S) -> None:
        self._endpoint = endpoint
        self._server = endpoint.server.rstrip("/")
        self._timeout_s = request_timeout_s
        self._in_flight = asyncio.Semaphore(MAX_IN_FLIGHT)
        self._identity: _Identity | None = None
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """End every connection, watches included."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def get(self, resource: Resource, name: str, namespace: str = "") -> Object:
        return await self._call_object("GET", resource_path(resource, namespace, name))

    async def list(
        self,
        resource: Resource,
        namespace: str = "",
        *,
        label_selector: str = "",
        field_selector: str = "",
        resource_version: str = "",
        limit: int = 0,
        continue_token: str = "",
    ) -> ObjectList:
        parameters = query(
            labelSelector=label_selector,
            fieldSelector=field_selector,
            resourceVersion=resource_version,
            limit=limit,
            **{"continue": continue_token},
        )
        body = await self._call("GET", resource_path(resource, namespace), parameters)
        items = body.get("items") or []
        for item in items:
            item.setdefault("apiVersion", resource.api_version)
            item.setdefault("kind", resource.kind)
        metadata = body.get("metadata") or {}
        return ObjectList(items, metadata.get("resourceVersion", ""), metadata.get("continue", ""))

    async def create(self, resource: Resource, obj: Object, *, subresource: str = "", name: str = "") -> Object:
        namespace = obj.get("metadata", {}).get("namespace", "")
        return await self._call_object("POST", resource_path(resource, namespace, name, subresource), body=obj)

    async def update(self, resource: Resource, obj: Object, *, subresource: str = "") -> Object:
        metadata = obj["metadata"]
        path = resource_path(resource, metadata.get("namespace", ""), metadata["name"], subresource)
        return await self._call_object("PUT", path, body=obj)

    async def patch(
        self,
        resource: Resource,
        name: str,
        namespace: str,
        patch: Any,
        *,
        patch_type: PatchType = "merge",
        subresource: str = "",
    ) -> Object:
        path = resource_path(resource, namespace, name, subresource)
        return await self._call_object("PATCH", path, body=patch, content_type=_PATCH_TYPES[patch_type])

    async def delete(
        self,
        resource: Resource,
        name: str,
        namespace: str = "",
        *,
        grace_period_s: int | None = None,
        propagation: Literal["", "Background", "Foreground", "Orphan"] = "",
        uid: str = "",
        resource_version: str = "",
    ) -> Object:
        options: Object = {"apiVersion": "v1", "kind": "DeleteOptions"}
        if grace_period_s is not None:
            options["gracePeriodSeconds"] = grace_period_s
        if propagation:
            options["propagationPolicy"] = propagation
        preconditions = {"uid": uid, "resourceVersion": resource_version}
        preconditions = {key: value for key, value in preconditions.items() if value}
        if preconditions:
            options["preconditions"] = preconditions
        return await self._call_object("DELETE", resource_path(resource, namespace, name), body=options)

    async def watch(
        self,
        resource: Resource,
        namespace: str = "",
        *,
        resource_version: str = "",
        label_selector: str = "",
        field_selector: str = "",
        timeout_s: int = 0,
    ) -> AsyncIterator[WatchEvent]:
        """Events until the server ends the stream. Close the iterator to stop early."""
        parameters = query(
            watch="true",
            allowWatchBookmarks="true",
            resourceVersion=resource_version,
            labelSelector=label_selector,
            fieldSelector=field_selector,
            timeoutSeconds=timeout_s,
        )
        async for line in self.stream_lines(resource_path(resource, namespace), parameters):
            event = orjson.loads(line)
            if event["type"] == "ERROR":
                raise StatusError.from_status(event["object"])
            yield WatchEvent(event["type"], event["object"])

    async def call(self, method: str, path: str, parameters: Mapping[str, str] | None = None, body: Any = None) -> Any:
        """Any request with a JSON answer: discovery, /version, a raw path."""
        return await self._call(method, path, parameters, body=body)

    async def stream(self, path: str, parameters: Mapping[str, str] | None = None) -> AsyncIterator[bytes]:
        """GET a body piece by piece as it comes: logs."""
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=self._timeout_s)
        try:
            async with self._request("GET", path, parameters, None, "", timeout) as response:
                if response.status >= 400:
                    raise await _refusal(response)
                async for chunk in response.content.iter_any():
                    yield chunk
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise self._unreachable(error) from error

    async def stream_lines(self, path: str, parameters: Mapping[str, str] | None = None) -> AsyncIterator[bytes]:
        """GET a body line by line, lines of any length up to MAX_WATCH_LINE."""
        pending: deque[bytes] = deque()
        size = 0
        async for chunk in self.stream(path, parameters):
            *complete, rest = chunk.split(b"\n")
            for line in complete:
                whole = b"".join([*pending, line]) if pending else line
                pending.clear()
                size = 0
                if whole:
                    yield whole
            if rest:
                pending.append(rest)
                size += len(rest)
            if size > MAX_WATCH_LINE:
                raise service_unavailable(f"a line of {path} is longer than {MAX_WATCH_LINE} bytes")

    async def _call_object(
        self, method: str, path: str, *, body: Any = None, content_type: str = "application/json"
    ) -> Object:
        answer: Object = await self._call(method, path, body=body, content_type=content_type)
        return answer

    async def _call(
        self,
        method: str,
        path: str,
        parameters: Mapping[str, str] | None = None,
        *,
        body: Any = None,
        content_type: str = "application/json",
    ) -> Any:
        data = None if body is None else orjson.dumps(body)
        timeout = aiohttp.ClientTimeout(total=self._timeout_s)
        try:
            async with (
                self._in_flight,
                self._request(method, path, parameters, data, content_type, timeout) as response,
            ):
                if response.status >= 400:
                    raise await _refusal(response)
                content = await response.read()
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise self._unreachable(error) from error
        try:
            return orjson.loads(content)
        except orjson.JSONDecodeError as error:
            raise service_unavailable(f"{method} {path}: the answer is not JSON") from error

    def _request(
        self,
        method: str,
        path: str,
        parameters: Mapping[str, str] | None,
        data: bytes | None,
        content_type: str,
        timeout: aiohttp.ClientTimeout,
    ) -> aiohttp.client._RequestContextManager:
        session, headers = self._open()
        if data is not None:
            headers["Content-Type"] = content_type
        return session.request(
            method, self._server + path, params=parameters, data=data, headers=headers, timeout=timeout
        )

    def _open(self) -> tuple[aiohttp.ClientSession, dict[str, str]]:
        if self._identity is None:
            self._identity = _Identity(self._endpoint)
        headers = self._identity.refresh()
        if self._session is None:
            # limit=0: watches hold their connections for good; `_in_flight` bounds the rest.
            connector = aiohttp.TCPConnector(
                ssl=self._identity.context or False,
                limit=0,
                socket_factory=_dial,
                keepalive_timeout=30,
                ttl_dns_cache=None,
            )
            self._session = aiohttp.ClientSession(
                connector=connector,
                headers={"Accept": "application/json", "User-Agent": self._endpoint.user_agent},
                auto_decompress=True,
                read_bufsize=2**18,
                skip_auto_headers=("Accept-Encoding",),
                trust_env=False,
            )
        return self._session, headers

    def _unreachable(self, error: Exception) -> StatusError:
        return service_unavailable(f"{self._server}: {error or type(error).__name__}")


async def _refusal(response: ClientResponse) -> StatusError:
    content = await response.read()
    try:
        body = orjson.loads(content)
    except orjson.JSONDecodeError:
        body = None
    if isinstance(body, dict) and body.get("kind") == "Status":
        return StatusError.from_status(body, response.status)
    text = content.decode(errors="replace").strip() or str(response.reason)
    return StatusError(response.status, _reason(response.status), text)


def _reason(code: int) -> str:
    known = {401: "Unauthorized", 403: "Forbidden", 404: "NotFound", 429: "TooManyRequests", 503: "ServiceUnavailable"}
    return known.get(code, "InternalError" if code >= 500 else "BadRequest")
