"""The proxy subresource of pods, services and nodes: any HTTP request, handed on to what the name stands for.

    /api/v1/namespaces/{ns}/pods/[https:]name[:port]/proxy/{rest}       the pod's address, over the overlay
    /api/v1/namespaces/{ns}/services/[https:]name[:port]/proxy/{rest}   a ready endpoint of that service port
    /api/v1/nodes/name[:port]/proxy/{rest}                              the kubelet, with the API server's certificate

Bodies stream both ways and connections that are upgraded (WebSockets) become plain bytes. The API server lives in the
control-plane node's network namespace, so it dials as a process on that node does: no Service rules are needed.
Source: pkg/registry/core/{pod,service,node} ResourceLocation; apimachinery pkg/util/proxy of Kubernetes 1.32.
"""

from __future__ import annotations

import asyncio
import os
import random
import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass

import aiohttp
from aiohttp import web
from yarl import URL

from podnet.controlplane.api.errors import StatusError, bad_request, not_found, service_unavailable
from podnet.controlplane.api.resources import ENDPOINTSLICES, NODES, PODS, SERVICES
from podnet.controlplane.api.types import Object
from podnet.controlplane.apiserver.http.authentication import readable
from podnet.controlplane.apiserver.http.hijack import HijackedResponse, hijacked, splice
from podnet.controlplane.apiserver.http.paths import Target
from podnet.controlplane.apiserver.http.streams import KubeletStreams
from podnet.controlplane.apiserver.registry import Registry

CONNECT_TIMEOUT_S = 10.0
MAX_HEAD = 64 * 1024

_HOP_BY_HOP = frozenset(
    {"connection", "keep-alive", "proxy-authenticate", "proxy-authorization", "te", "trailer", "transfer-encoding",
     "upgrade", "proxy-connection"}
)  # fmt: skip
_PRIVATE = frozenset({"authorization", "expect"})
"""What is meant for this server only; Impersonate-* as well."""


@dataclass(frozen=True, slots=True)
class Backend:
    """Where a proxied request goes."""

    scheme: str
    host: str
    port: int
    tls: ssl.SSLContext | None = None

    @property
    def origin(self) -> str:
        """scheme://host:port, as a URL has it."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}"


def split_reference(text: str) -> tuple[str, str, str] | None:
    """`name`, `name:port` or `scheme:name:port` -> (scheme, name, port); None for anything else."""
    parts = text.split(":")
    if len(parts) > 3:
        return None
    scheme, name, port = {1: ("", parts[0], ""), 2: ("", *parts), 3: tuple(parts)}[len(parts)]
    return (scheme, name, port) if name and scheme in {"", "http", "https"} else None


def is_number(said: str) -> bool:
    """Whether a port is said by number."""
    return said.isascii() and said.isdigit()


def port_number(said: str) -> int:
    """A number that is a port; 400 for another."""
    if len(said) > 5 or not 0 < int(said) < 65536:
        raise bad_request(f"invalid port {said[:20]}: must be between 1 and 65535, inclusive")
    return int(said)


def pod_port(pod: Object, said: str) -> int:
    """The port of a pod: a number, a container port's name, or the first port any container declares (else 80)."""
    ports = [port for container in pod["spec"].get("containers") or () for port in container.get("ports") or ()]
    if not said:
        return int(ports[0]["containerPort"]) if ports else 0
    if is_number(said):
        return port_number(said)
    found = next((port for port in ports if port.get("name") == said), None)
    if found is None:
        raise bad_request(f'pod {pod["metadata"]["name"]} has no port named "{said}"')
    return int(found["containerPort"])


def service_port_name(service: Object, said: str) -> str:
    """The name of the service port that a reference means: by number, by name, or the only one there is."""
    ports, name = service["spec"].get("ports") or [], service["metadata"]["name"]
    if is_number(said):
        found = next((port for port in ports if str(port["port"]) == said), None)
        if found is None:
            raise service_unavailable(f'no service port {said} found for service "{name}"')
        return str(found.get("name") or "")
    if not said and len(ports) == 1:
        return str(ports[0].get("name") or "")
    return said


def ready_endpoints(slices: list[Object], port_name: str) -> list[tuple[str, int]]:
    """(address, port) of every endpoint of one service port that takes traffic."""
    found = []
    for piece in slices:
        for port in piece.get("ports") or ():
            if (port.get("name") or "") != port_name or not port.get("port"):
                continue
            for endpoint in piece.get("endpoints") or ():
                if (endpoint.get("conditions") or {}).get("ready") is not False:
                    found += [(address, int(port["port"])) for address in endpoint["addresses"][:1]]
    return found


class ResourceProxy:
    """Answers every method on `/proxy`."""

    def __init__(self, registry: Registry, streams: KubeletStreams | None) -> None:
        self._registry = registry
        self._streams = streams
        self._session: aiohttp.ClientSession | None = None

    async def close(self) -> None:
        """End all connections to backends."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def serve(self, request: web.BaseRequest, target: Target) -> web.StreamResponse:
        """Hand the request on and its answer back."""
        backend = await self._locate(target)
        before, rest, query = split_path(request.raw_path, namespaced=target.resource.namespaced)
        if rest is None:
            if request.method in {"GET", "HEAD"}:  # relative links of a page work only below a slash
                return web.Response(status=301, headers={"Location": f"{before}/{query}"})
            rest = ""
        url = URL(f"{backend.origin}/{rest}{query}", encoded=True)
        if request.headers.get("Upgrade") and "upgrade" in request.headers.get("Connection", "").lower():
            return await self._upgrade(request, backend, url)
        try:
            async with self._client().request(
                request.method,
                url,
                headers=forwarded_headers(request),
                data=_body(request),
                allow_redirects=False,
                ssl=backend.tls if backend.tls is not None else False,
            ) as upstream:
                return await _answer(request, upstream, backend, before)
        except (aiohttp.ClientError, TimeoutError, ValueError) as error:  # ValueError: what it says is no HTTP at all
            if request.writer.output_size > 0:
                raise ConnectionAbortedError(str(error)) from error
            raise _unreachable(backend, error) from None

    async def _locate(self, target: Target) -> Backend:
        kind = target.resource.plural.removesuffix("s")
        reference = split_reference(target.name)
        if reference is None:
            raise bad_request(f'invalid {kind} request "{target.name}"')
        scheme, name, port = reference
        if target.resource == PODS:
            return await self._pod(target.namespace, name, scheme or "http", port)
        if target.resource == SERVICES:
            return await self._service(target, name, scheme or "http", port)
        return await self._node(name, scheme, port)

    async def _pod(self, namespace: str, name: str, scheme: str, port: str) -> Backend:
        pod = (await self._registry.get(PODS, namespace, name)).obj
        number = pod_port(pod, port) or (443 if scheme == "https" else 80)
        address = (pod.get("status") or {}).get("podIP")
        if not address:
            raise bad_request("address not allowed")
        return Backend(scheme, address, number)

    async def _service(self, target: Target, name: str, scheme: str, port: str) -> Backend:
        service = (await self._registry.get(SERVICES, target.namespace, name)).obj
        port_name = service_port_name(service, port)
        slices = [
            piece
            for piece in self._registry.objects(ENDPOINTSLICES, target.namespace)
            if (piece["metadata"].get("labels") or {}).get("kubernetes.io/service-name") == name
            and piece.get("addressType") != "FQDN"
        ]
        found = ready_endpoints(slices, port_name)
        if not found:
            raise service_unavailable(f'no endpoints available for service "{target.name}"')
        address, number = random.choice(found)
        return Backend(scheme, address, number)

    async def _node(self, name: str, scheme: str, port: str) -> Backend:
        if self._registry.find(NODES, "", name) is None:
            raise not_found("nodes", name)
        if self._streams is None:
            raise service_unavailable("this server has no way to reach kubelets")
        kubelet = self._streams.kubelet_on(name)
        if port in {"", str(kubelet.port)}:
            return Backend("https", kubelet.address, kubelet.port, self._streams.tls)
        if not is_number(port):
            raise bad_request(f'invalid node request "{name}:{port}"')
        return Backend(scheme or "http", kubelet.address, port_number(port))

    def _client(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0, force_close=True),
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_TIMEOUT_S),
                auto_decompress=False,
                cookie_jar=aiohttp.DummyCookieJar(),
                skip_auto_headers=("User-Agent", "Accept", "Accept-Encoding", "Content-Type"),
            )
        return self._session

    async def _upgrade(self, request: web.BaseRequest, backend: Backend, url: URL) -> web.StreamResponse:
        """Pass the request's head on and let the two sides talk."""
        tls = backend.tls or (_unverified() if backend.scheme == "https" else None)
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                reader, writer = await asyncio.open_connection(backend.host, backend.port, ssl=tls)
        except (OSError, TimeoutError) as error:
            raise _unreachable(backend, error) from None
        headers = forwarded_headers(request)
        headers += [("Connection", "Upgrade"), ("Upgrade", request.headers["Upgrade"])]
        head = [f"{request.method} {url.raw_path_qs} HTTP/1.1", *(f"{name}: {value}" for name, value in headers)]
        try:
            writer.write("\r\n".join([*head, "", ""]).encode("latin-1", "surrogateescape"))
            async with hijacked(request) as client:
                await splice(client, (reader, writer))
        finally:
            writer.close()
        return HijackedResponse()


def split_path(raw_path: str, *, namespaced: bool) -> tuple[str, str | None, str]:
    """(path up to `/proxy`, what follows its slash or None for no slash, `?query`), all as the client wrote them."""
    path, mark, query = raw_path.partition("?")
    parts = path.split("/")
    cut = 8 if namespaced else 6
    return "/".join(parts[:cut]), "/".join(parts[cut:]) if len(parts) > cut else None, mark + query


def forwarded_headers(request: web.BaseRequest) -> list[tuple[str, str]]:
    """The headers that travel on, with who asked and for what."""
    named = {word.strip().lower() for word in request.headers.get("Connection", "").split(",")}
    headers = [
        (name, readable(value))
        for name, value in request.headers.items()
        if name.lower() not in _HOP_BY_HOP | _PRIVATE | named and not name.lower().startswith("impersonate-")
    ]
    before = request.headers.get("X-Forwarded-For")
    headers = [(name, value) for name, value in headers if name.lower() != "x-forwarded-for"]
    client = request.remote or ""
    headers.append(("X-Forwarded-For", f"{before}, {client}" if before else client))
    for name, value in (("Uri", request.raw_path), ("Host", request.host), ("Proto", request.scheme)):
        headers.append((f"X-Forwarded-{name}", value))
    return headers


def _body(request: web.BaseRequest) -> AsyncIterator[bytes] | None:
    return request.content.iter_any() if request.body_exists else None


async def _answer(
    request: web.BaseRequest, upstream: aiohttp.ClientResponse, backend: Backend, before: str
) -> web.StreamResponse:
    response = web.StreamResponse(status=upstream.status, reason=upstream.reason)
    for name, value in upstream.headers.items():
        if name.lower() == "location":
            response.headers.add(name, moved(value, backend, before))
        elif name.lower() not in _HOP_BY_HOP:
            response.headers.add(name, value)
    await response.prepare(request)
    async for chunk in upstream.content.iter_any():
        await response.write(chunk)
    await response.write_eof()
    return response


def moved(location: str, backend: Backend, before: str) -> str:
    """A redirect of the backend's to itself, as a path below the proxy's; others stay as they are."""
    if location.startswith("/") and not location.startswith("//"):
        return before + location
    if location.startswith((f"{backend.origin}/", f"{backend.scheme}://{backend.host}/")):
        return f"{before}/{location.split('/', 3)[3]}"
    return location


def _unverified() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def _unreachable(backend: Backend, error: BaseException) -> StatusError:
    number = getattr(getattr(error, "os_error", error), "errno", None)
    if number:
        detail = f"connect: {os.strerror(abs(number)).lower()}"
    else:
        detail = "i/o timeout" if isinstance(error, TimeoutError) else str(error) or type(error).__name__
    return service_unavailable(f"error trying to reach service: dial tcp {backend.host}:{backend.port}: {detail}")
