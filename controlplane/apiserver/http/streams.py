"""Pod log, exec, attach and port-forward: requests that are answered by the pod's kubelet, relayed frame by frame.

    client ──GET /log───────────> kubelet  GET /containerLogs/{ns}/{pod}/{container}
    client ──WebSocket or SPDY ──> here ──WebSocket /portForward/{ns}/{pod}──> kubelet   (portforward; spdy.py)
    client ──WebSocket /exec────> kubelet  WebSocket /exec/{ns}/{pod}/{container}?command=…&input=1&output=1&error=1

The kubelet is reached at its node's InternalIP:10250 with the apiserver-kubelet-client certificate. A relay holds one
frame at a time in each direction, so a slow reader slows its writer. Source: pkg/registry/core/pod/strategy.go
(LogLocation, ExecLocation), pkg/kubelet/server; KEP-4006 for the WebSocket subprotocols.
"""

from __future__ import annotations

import asyncio
import ssl
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import aiohttp
import orjson
from aiohttp import WSCloseCode, WSMsgType, web
from yarl import URL

from podnet.controlplane.api.errors import (
    StatusError,
    bad_request,
    internal_error,
    invalid,
    invalid_value,
    method_not_allowed,
)
from podnet.controlplane.api.resources import NODES, PODS
from podnet.controlplane.api.timestamps import is_time, parse_error
from podnet.controlplane.api.types import Object
from podnet.controlplane.apiserver.http import queries, spdy
from podnet.controlplane.apiserver.http.paths import Target
from podnet.controlplane.apiserver.registry import Registry

TUNNEL = "SPDY/3.1+portforward.k8s.io"
PROTOCOLS = ("v5.channel.k8s.io", "v4.channel.k8s.io", "channel.k8s.io")
KUBELET_PORT = 10250
CONNECT_TIMEOUT_S = 5.0
MAX_FRAME = 16 * 1024 * 1024
MAX_REFUSAL = 64 * 1024

_LOG_INTEGERS = {"tailLines": 0, "sinceSeconds": 1, "limitBytes": 1}
"""Integer options and the least value each may have."""
_LOG_BOOLEANS = ("follow", "previous", "timestamps")


@dataclass(frozen=True, slots=True)
class Kubelet:
    """Where a pod's kubelet listens."""

    node: str
    address: str
    port: int = KUBELET_PORT

    def url(self, path: str, query: list[tuple[str, str]]) -> URL:
        """A URL on it."""
        host = f"[{self.address}]" if ":" in self.address else self.address
        return URL(f"https://{host}:{self.port}{path}", encoded=True).with_query(query)


class KubeletStreams:
    """Relays streams between clients and kubelets."""

    def __init__(self, registry: Registry, client_tls: ssl.SSLContext | None) -> None:
        self._registry = registry
        self._tls = client_tls
        self._session: aiohttp.ClientSession | None = None

    async def close(self) -> None:
        """End all connections to kubelets."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def serve(self, request: web.BaseRequest, target: Target, query: queries.Query) -> web.StreamResponse:
        """Answer GET or POST of a streaming subresource."""
        name = target.subresource
        if target.resource != PODS:
            raise method_not_allowed()
        allowed = {"GET"} if name == "log" else {"GET", "POST"}
        if request.method not in allowed:
            raise method_not_allowed()
        if name == "log":
            return await self._log(request, target, query)
        if name == "portforward":
            return await self._port_forward(request, target, query)
        return await self._interactive(request, target, query)

    # -- logs

    async def _log(self, request: web.BaseRequest, target: Target, query: queries.Query) -> web.StreamResponse:
        parameters = log_parameters(query)
        pod = (await self._registry.get(PODS, target.namespace, target.name)).obj
        container = choose_container(pod, queries.first(query, "container"))
        kubelet = self._kubelet_of(pod)
        if kubelet is None:
            return web.Response(body=b"", content_type="text/plain")  # no node, no log: upstream answers nothing, too
        path = f"/containerLogs/{target.namespace}/{quote(target.name)}/{quote(container)}"
        url = kubelet.url(path, parameters)
        try:
            async with self._client().get(url) as upstream:
                if upstream.status != 200:
                    raise await _kubelet_error(upstream, kubelet)
                return await self._copy(request, upstream)
        except (aiohttp.ClientConnectionError, TimeoutError) as error:
            raise _unreachable(kubelet, url, error) from None

    async def _copy(self, request: web.BaseRequest, upstream: aiohttp.ClientResponse) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/plain", "Cache-Control": "no-cache, private"})
        await response.prepare(request)  # without a length: chunked, or to HTTP/1.0 until the connection ends
        try:
            async for chunk in upstream.content.iter_any():
                await response.write(chunk)
        except aiohttp.ClientPayloadError:
            pass  # the kubelet went away in the middle: what came is the answer
        await response.write_eof()
        return response

    # -- exec and attach

    async def _interactive(self, request: web.BaseRequest, target: Target, query: queries.Query) -> web.StreamResponse:
        parameters = stream_parameters(query, target.subresource)
        pod = (await self._registry.get(PODS, target.namespace, target.name)).obj
        container = choose_container(pod, queries.first(query, "container"))
        phase = (pod.get("status") or {}).get("phase")
        if phase in {"Succeeded", "Failed"}:
            raise bad_request(f"cannot exec into a container in a completed pod; current phase is {phase}")
        kubelet = self._kubelet_of(pod)
        if kubelet is None:
            raise bad_request(f"pod {target.name} does not have a host assigned")
        path = f"/{target.subresource}/{target.namespace}/{quote(target.name)}/{quote(container)}"
        url = kubelet.url(path, parameters)
        protocol = choose_protocol(request)
        if not protocol:
            spoken = spdy.choose_stream_protocol(request, spdy.REMOTE_COMMAND)
            upstream = await self._dial(url, kubelet, PROTOCOLS[0])
            try:
                return await spdy.translate(request, upstream, spoken, spdy.expected_streams(parameters))
            finally:
                await upstream.close()
        upstream = await self._dial(url, kubelet, protocol)
        return await self._relayed(request, upstream, protocol)

    async def _port_forward(self, request: web.BaseRequest, target: Target, query: queries.Query) -> web.StreamResponse:
        pod = (await self._registry.get(PODS, target.namespace, target.name)).obj
        kubelet = self._kubelet_of(pod)
        if kubelet is None:
            raise bad_request(f"pod {target.name} does not have a host assigned")
        upgrade = request.headers.get("Upgrade", "").lower()
        path = f"/portForward/{target.namespace}/{quote(target.name)}"
        if upgrade.startswith("spdy"):
            spoken = spdy.choose_stream_protocol(request, spdy.PORT_FORWARD)
            upstream = await self._dial(kubelet.url(path, []), kubelet, TUNNEL)
            try:
                return await spdy.tunnel(request, upstream, spoken)
            finally:
                await upstream.close()
        if upgrade != "websocket":
            raise bad_request("Upgrade request required")
        offered = offered_protocols(request)
        if TUNNEL in offered:
            upstream = await self._dial(kubelet.url(path, []), kubelet, TUNNEL)
            return await self._relayed(request, upstream, TUNNEL)
        ports = port_parameters(query)
        protocol = next((word for word in ("v4.channel.k8s.io", "v5.channel.k8s.io") if word in offered), "")
        upstream = await self._dial(kubelet.url(path, ports), kubelet, protocol or "v4.channel.k8s.io")
        return await self._relayed(request, upstream, protocol)

    async def _relayed(
        self, request: web.BaseRequest, upstream: aiohttp.ClientWebSocketResponse, protocol: str
    ) -> web.StreamResponse:
        """Accept the client's WebSocket and join it with the kubelet's."""
        protocols = (protocol,) if protocol else ()
        downstream = web.WebSocketResponse(protocols=protocols, max_msg_size=MAX_FRAME, autoping=True, timeout=2.0)
        try:
            await downstream.prepare(request)
            await _relay(downstream, upstream)
        finally:
            await upstream.close()
        return downstream

    async def _dial(self, url: URL, kubelet: Kubelet, protocol: str) -> aiohttp.ClientWebSocketResponse:
        """Open the kubelet's end; its refusal becomes ours."""
        try:
            return await self._client().ws_connect(url, protocols=(protocol,), max_msg_size=MAX_FRAME, autoping=True)
        except aiohttp.WSServerHandshakeError as error:
            await self._explain_refusal(url, kubelet)
            raise internal_error(
                f"error upgrading the connection to the kubelet: {error.message} (status {error.status})"
            ) from None
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise _unreachable(kubelet, url, error) from None

    async def _explain_refusal(self, url: URL, kubelet: Kubelet) -> None:
        """Raise what the kubelet has against this stream, if anything: asked without the upgrade, it says so in a body,
        which a failed handshake does not hand over."""
        try:
            async with self._client().get(url) as upstream:
                error = await _kubelet_error(upstream, kubelet)
        except (aiohttp.ClientError, TimeoutError, OSError) as failure:
            raise _unreachable(kubelet, url, failure) from None
        if error.code != 400 or "websocket" not in error.message.lower():
            raise error

    def _client(self) -> aiohttp.ClientSession:
        if self._session is None:
            if self._tls is None:
                raise internal_error("this server has no certificate to show to kubelets")
            timeout = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_TIMEOUT_S)
            connector = aiohttp.TCPConnector(ssl=self._tls, limit=0)
            self._session = aiohttp.ClientSession(connector=connector, timeout=timeout, auto_decompress=False)
        return self._session

    @property
    def tls(self) -> ssl.SSLContext | None:
        """How this server proves itself to kubelets."""
        return self._tls

    def _kubelet_of(self, pod: Object) -> Kubelet | None:
        node_name = pod["spec"].get("nodeName")
        return self.kubelet_on(node_name) if node_name else None

    def kubelet_on(self, node_name: str) -> Kubelet:
        """The kubelet of a node; 500 while the node does not say where it is."""
        node = self._registry.find(NODES, "", node_name)
        if node is None:
            raise internal_error(f'nodes "{node_name}" not found')
        status = node.get("status") or {}
        port = ((status.get("daemonEndpoints") or {}).get("kubeletEndpoint") or {}).get("Port") or KUBELET_PORT
        for wanted in ("InternalIP", "ExternalIP", "Hostname"):
            for address in status.get("addresses") or ():
                if address.get("type") == wanted and address.get("address"):
                    return Kubelet(node_name, address["address"], int(port))
        raise internal_error(f"no preferred addresses found for node {node_name}; known addresses: []")


def choose_container(pod: Object, name: str) -> str:
    """The container a stream is for; 400 with upstream's words when it is unclear or not there."""
    metadata, spec = pod["metadata"], pod["spec"]
    ordinary: list[str] = [c["name"] for c in spec.get("containers") or ()]
    initial = [c["name"] for c in spec.get("initContainers") or ()]
    ephemeral = [c["name"] for c in spec.get("ephemeralContainers") or ()]
    if name:
        if name not in {*ordinary, *initial, *ephemeral}:
            raise bad_request(f"container {name} is not valid for pod {metadata['name']}")
        return name
    if len(ordinary) == 1:
        return ordinary[0]
    message = f"a container name must be specified for pod {metadata['name']}, choose one of: [{' '.join(ordinary)}]"
    if initial:
        message += f" or one of the init containers: [{' '.join(initial)}]"
    if ephemeral:
        message += f" or one of the ephemeral containers: [{' '.join(ephemeral)}]"
    raise bad_request(message)


def log_parameters(query: queries.Query) -> list[tuple[str, str]]:
    """PodLogOptions, checked, as the kubelet takes them."""
    parameters = [(name, "true") for name in _LOG_BOOLEANS if queries.boolean(query, name)]
    for name, least in _LOG_INTEGERS.items():
        if queries.first(query, name):
            value = queries.integer(query, name)
            if value < least:
                words = "must be greater than or equal to 0" if least == 0 else "must be greater than 0"
                raise _invalid_log_option(name, value, words)
            parameters.append((name, str(value)))
    since_time = queries.first(query, "sinceTime")
    if since_time:
        if queries.first(query, "sinceSeconds"):
            detail = "at most one of `sinceTime` or `sinceSeconds` may be specified"
            raise _invalid_log_option("sinceSeconds", queries.integer(query, "sinceSeconds"), detail)
        if not is_time(since_time):
            raise bad_request(f"sinceTime: {parse_error(since_time)}")
        parameters.append(("sinceTime", since_time))
    return parameters


def _invalid_log_option(field: str, value: int, detail: str) -> StatusError:
    return invalid("PodLogOptions", "", [invalid_value(field, value, detail)])


def stream_parameters(query: queries.Query, subresource: str) -> list[tuple[str, str]]:
    """PodExecOptions or PodAttachOptions under the kubelet's names."""
    names = {"stdin": "input", "stdout": "output", "stderr": "error", "tty": "tty"}
    said = {name: queries.boolean(query, name) for name in names}
    if not any(query.get(name) for name in names):
        said["stdout"] = said["stderr"] = True
    if not (said["stdin"] or said["stdout"] or said["stderr"]):
        raise bad_request("you must specify at least one of stdin, stdout, stderr")
    if said["tty"]:
        said["stderr"] = False  # a terminal has one output
    parameters = [(kubelet_name, "1") for name, kubelet_name in names.items() if said[name]]
    if subresource == "exec":
        commands = query.get("command") or []
        if not commands:
            raise bad_request("you must specify at least one command for the container")
        parameters += [("command", word) for word in commands]
    return parameters


def port_parameters(query: queries.Query) -> list[tuple[str, str]]:
    """PodPortForwardOptions of the channel form, checked, as the kubelet takes them."""
    words = [word for value in query.get("ports") or () for word in value.split(",") if word]
    if not words:
        raise bad_request("you must specify at least 1 port")
    for word in words:
        if not (word.isascii() and word.isdigit() and len(word) < 6 and 0 < int(word) < 65536):
            raise bad_request(f'unable to parse "{word}" as a port: it must be a number from 1 to 65535')
    return [("ports", word) for word in words]


def offered_protocols(request: web.BaseRequest) -> list[str]:
    """The subprotocols a WebSocket client offers."""
    words = ",".join(request.headers.getall("Sec-WebSocket-Protocol", ())).split(",")
    return [word.strip() for word in words if word.strip()]


def choose_protocol(request: web.BaseRequest) -> str:
    """The newest subprotocol both sides speak, "" for SPDY; 400 for anything else."""
    upgrade = request.headers.get("Upgrade", "").lower()
    if upgrade.startswith("spdy"):
        return ""
    if upgrade != "websocket":
        raise bad_request("Upgrade request required")
    offered = offered_protocols(request)
    for protocol in PROTOCOLS:
        if protocol in offered:
            return protocol
    if not offered:
        return PROTOCOLS[-1]
    raise bad_request(f"unable to upgrade: no subprotocol in common, this server speaks {', '.join(PROTOCOLS)}")


async def _relay(downstream: web.WebSocketResponse, upstream: aiohttp.ClientWebSocketResponse) -> None:
    """Copy frames both ways until the kubelet closes (its end is the command's) or the client does."""

    async def to_kubelet() -> None:
        async for message in downstream:
            await _forward(message, upstream)

    reader = asyncio.create_task(to_kubelet(), name="relay-stdin")
    try:
        pull = asyncio.create_task(_pull(downstream, upstream), name="relay-output")
        done, _ = await asyncio.wait({reader, pull}, return_when=asyncio.FIRST_COMPLETED)
        if pull not in done:
            await upstream.close()
            pull.cancel()
        await asyncio.gather(pull, return_exceptions=True)
    finally:
        reader.cancel()
        await asyncio.gather(reader, return_exceptions=True)
    if not downstream.closed:
        await downstream.close(code=closing_code(upstream.close_code))


def closing_code(code: int | None) -> int:
    """The code to close the client's side with. 1005, 1006 and 1015 are never on the wire (RFC 6455 section 7.4.1): the
    kubelet hung up before it had our answer to its close, after everything had come."""
    return WSCloseCode.OK if code in (None, 1005, 1006, 1015) else int(code)


async def _pull(downstream: web.WebSocketResponse, upstream: aiohttp.ClientWebSocketResponse) -> None:
    async for message in upstream:
        await _forward(message, downstream)


async def _forward(message: aiohttp.WSMessage, to: Any) -> None:
    if message.type is WSMsgType.BINARY:
        await to.send_bytes(message.data)
    elif message.type is WSMsgType.TEXT:
        await to.send_str(message.data)


async def _kubelet_error(upstream: aiohttp.ClientResponse, kubelet: Kubelet) -> StatusError:
    """The kubelet's refusal as it says it, a Status or a text."""
    body = await upstream.content.read(MAX_REFUSAL)
    text = body.decode(errors="replace").strip()
    if upstream.status in {401, 403}:
        return internal_error(f"the kubelet of node {kubelet.node} refused the API server: {text}")
    try:
        status = orjson.loads(body)
    except orjson.JSONDecodeError:
        status = None
    if isinstance(status, dict) and status.get("kind") == "Status":
        return StatusError.from_status(status, upstream.status)
    reasons = {400: "BadRequest", 404: "NotFound"}
    code = upstream.status if upstream.status >= 400 else 500
    return StatusError(code, reasons.get(code, "InternalError"), text or f"the kubelet answered {upstream.status}")


def _unreachable(kubelet: Kubelet, url: URL, error: BaseException) -> StatusError:
    detail = str(error) or type(error).__name__
    return StatusError(
        500,
        "InternalError",
        f'Internal error occurred: Get "{url}": the kubelet of node {kubelet.node} cannot be reached: {detail}',
        {"causes": [{"message": detail}]},
    )
