"""The kubelet's HTTPS endpoint on port 10250: health, metrics, pods, logs, exec, attach and port-forward.

Only the API server is served: the connection needs a client certificate of the cluster's CA whose name or group is the
API server's. Paths and parameters are the kubelet's own, which the API server's pod subresources call.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import ssl
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aiohttp import web

from podnet.controlplane.api.errors import StatusError, bad_request, forbidden, not_found
from podnet.controlplane.kubelet import pod_spec
from podnet.controlplane.kubelet.config import KubeletConfig
from podnet.controlplane.kubelet.cri import ContainerState, ContainerStatus, RuntimeService, RuntimeServiceError
from podnet.controlplane.kubelet.logs.reader import parse_options, read_log
from podnet.controlplane.kubelet.server import portforward
from podnet.controlplane.kubelet.server.channels import exit_status, success_status
from podnet.controlplane.kubelet.server.metrics import KubeletMetrics
from podnet.controlplane.kubelet.server.streams import MESSAGE_MAX, Session, open_socket, refuse
from podnet.controlplane.metrics import CONTENT_TYPE

if TYPE_CHECKING:
    from podnet.controlplane.kubelet.pod_dispatch import PodDispatch
    from podnet.controlplane.kubelet.pod_worker import PodWorker

log = logging.getLogger(__name__)

CLIENT_NAMES = frozenset({"kube-apiserver-kubelet-client", "apiserver-kubelet-client"})
CLIENT_GROUPS = frozenset({"system:masters", "kubeadm:cluster-admins"})
RUN_TIMEOUT_S = 300.0
SHUTDOWN_S = 1.0


def server_context(config: KubeletConfig) -> ssl.SSLContext:
    """TLS with a client certificate demanded."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(config.server_cert_file, config.server_key_file)
    context.load_verify_locations(config.client_ca_file)
    context.verify_mode = ssl.CERT_REQUIRED
    return context


def is_apiserver(certificate: dict[str, Any] | None) -> bool:
    """Whether a peer's (verified) certificate is one that may use this endpoint."""
    subject = [pair for group in (certificate or {}).get("subject", ()) for pair in group]
    names = {value for key, value in subject if key == "commonName"}
    groups = {value for key, value in subject if key == "organizationName"}
    return bool(names & CLIENT_NAMES or groups & CLIENT_GROUPS)


class KubeletServer:
    """See the module. `run` serves until cancelled; `app` is the application without TLS, for tests."""

    def __init__(self, config: KubeletConfig, runtime: RuntimeService, dispatch: PodDispatch) -> None:
        self._config = config
        self._runtime = runtime
        self._dispatch = dispatch
        self._metrics = KubeletMetrics(config.node_name, runtime)

    def app(self, *, check_certificate: bool = True) -> web.Application:
        """The routes."""
        app = web.Application(middlewares=[_authorize] if check_certificate else [])
        app.middlewares.append(_errors)
        app.router.add_get("/healthz", self._healthz)
        app.router.add_get("/metrics", self._expose)
        app.router.add_get("/pods", self._pods)
        app.router.add_get("/containerLogs/{namespace}/{pod}/{container}", self._logs)
        for path, handler in (("exec", self._exec), ("attach", self._attach)):
            app.router.add_get(f"/{path}/{{namespace}}/{{pod}}/{{container}}", handler)
            app.router.add_get(f"/{path}/{{namespace}}/{{pod}}/{{uid}}/{{container}}", handler)
        app.router.add_get("/portForward/{namespace}/{pod}", self._port_forward)
        app.router.add_post("/run/{namespace}/{pod}/{container}", self._run)
        return app

    async def run(self) -> None:
        """Listen on the node's address until cancelled."""
        runner = web.AppRunner(self.app(), access_log=None, shutdown_timeout=SHUTDOWN_S)
        await runner.setup()
        try:
            site = web.TCPSite(
                runner,
                self._config.node_ip,
                self._config.port,
                ssl_context=server_context(self._config),
                reuse_address=True,
            )
            await site.start()
            log.info("serving on https://%s:%d", self._config.node_ip, self._config.port)
            await asyncio.get_running_loop().create_future()
        finally:
            await runner.cleanup()

    # Handlers.

    async def _healthz(self, _: web.Request) -> web.Response:
        return web.Response(text="ok")

    async def _expose(self, _: web.Request) -> web.Response:
        text = await self._metrics.expose(len(self._dispatch.pods))
        return web.Response(body=text.encode(), headers={"Content-Type": CONTENT_TYPE})

    async def _pods(self, _: web.Request) -> web.Response:
        return web.json_response({"kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": self._dispatch.pods})

    async def _logs(self, request: web.Request) -> web.StreamResponse:
        worker = self._worker(request)
        name = request.match_info["container"]
        try:
            options = parse_options(dict(request.query), time.time_ns())
        except ValueError as error:
            raise bad_request(str(error)) from error
        previous = request.query.get("previous", "").lower() in {"true", "1"}
        status = self._log_source(worker, name, previous=previous)
        response = web.StreamResponse(headers={"Content-Type": "text/plain", "Cache-Control": "no-cache"})
        await response.prepare(request)
        if status.log_path:
            path = Path(status.log_path)
            with contextlib.suppress(ConnectionResetError):
                async for chunk in read_log(path, options, lambda: self._is_running(worker, status.id)):
                    await response.write(chunk)
                await response.write_eof()
        return response

    async def _exec(self, request: web.Request) -> web.StreamResponse:
        worker, query = self._worker(request), request.query
        command = tuple(query.getall("command", ()))
        if not command:
            raise bad_request("you must specify at least one command for the container")
        status = self._running(worker, request.match_info["container"])
        tty = _wants(request, "tty")
        socket = await open_socket(request)
        try:
            process = await self._runtime.exec(
                status.id,
                command,
                stdin=_wants(request, "input", "stdin"),
                stdout=_wants(request, "output", "stdout"),
                stderr=_wants(request, "error", "stderr") and not tty,
                tty=tty,
            )
        except RuntimeServiceError as error:
            await refuse(socket, f"error executing command in container: {error.message}")
            return socket

        async def outcome() -> dict[str, object]:
            return exit_status(await self._runtime.wait_exec(process))

        await Session(socket, process, outcome, tty=tty, kill=True).run()
        return socket

    async def _attach(self, request: web.Request) -> web.StreamResponse:
        worker = self._worker(request)
        status = self._running(worker, request.match_info["container"])
        socket = await open_socket(request)
        try:
            process = await self._runtime.attach(status.id)
        except RuntimeServiceError as error:
            await refuse(socket, f"error attaching to container: {error.message}")
            return socket

        async def outcome() -> dict[str, object]:
            while self._is_running(worker, status.id):
                await worker.wait_state_changed()
            return success_status()

        await Session(socket, process, outcome, tty=status.config.tty, kill=False).run()
        return socket

    async def _port_forward(self, request: web.Request) -> web.StreamResponse:
        worker, name = self._pod_worker(request), request.match_info["pod"]
        sandbox = worker.state.ready_sandbox
        if sandbox is None:
            raise not_found_text(f'pod "{name}" has no running sandbox')
        try:
            ports = portforward.parse_ports(request.query.getall("ports", []))
        except ValueError as error:
            raise bad_request(f"ports: {error}") from None
        offered = request.headers.get("Sec-WebSocket-Protocol", "")
        tunnel = portforward.TUNNEL in [word.strip() for word in offered.split(",")]
        if not tunnel and not ports:
            raise bad_request("you must specify at least one port")
        socket = web.WebSocketResponse(
            protocols=(portforward.TUNNEL, *portforward.CHANNELS), max_msg_size=MESSAGE_MAX, autoclose=True
        )
        await socket.prepare(request)
        dial = functools.partial(portforward.dial_in, sandbox.netns)
        if tunnel:
            await portforward.Tunnel(socket, dial, name).run()
        else:
            await portforward.Channels(socket, dial, name, ports).run()
        return socket

    async def _run(self, request: web.Request) -> web.Response:
        worker = self._worker(request)
        status = self._running(worker, request.match_info["container"])
        form = await request.post()
        command = tuple(str(request.query.get("cmd") or form.get("cmd") or "").split())
        if not command:
            raise bad_request("cmd is required")
        try:
            result = await self._runtime.exec_sync(status.id, command, RUN_TIMEOUT_S)
        except (RuntimeServiceError, TimeoutError) as error:
            raise StatusError(500, "InternalError", str(error)) from error
        return web.Response(body=result.stdout + result.stderr, content_type="text/plain")

    # Finding things.

    def _worker(self, request: web.Request) -> PodWorker:
        worker = self._pod_worker(request)
        container = request.match_info["container"]
        if pod_spec.container_named(worker.pod, container) is None:
            raise bad_request(f"container {container} is not valid for pod {request.match_info['pod']}")
        return worker

    def _pod_worker(self, request: web.Request) -> PodWorker:
        name = request.match_info["pod"]
        worker = self._dispatch.find(request.match_info["namespace"], name)
        if worker is None:
            raise not_found("pods", name)
        return worker

    def _running(self, worker: PodWorker, name: str) -> ContainerStatus:
        status = worker.state.newest(name)
        if status is None or status.state is not ContainerState.RUNNING:
            raise not_found_text(f'container not found ("{name}")')
        return status

    def _is_running(self, worker: PodWorker, container_id: str) -> bool:
        return any(c.id == container_id for c in worker.state.running)

    def _log_source(self, worker: PodWorker, name: str, *, previous: bool) -> ContainerStatus:
        history = worker.state.history(name)
        pod_name = pod_spec.name_of(worker.pod)
        if previous:
            dead = [c for c in history[1:] if c.state is ContainerState.EXITED]
            if not dead:
                raise bad_request(f'previous terminated container "{name}" in pod "{pod_name}" not found')
            return dead[0]
        begun = [c for c in history if c.state is not ContainerState.CREATED]
        if not begun:
            if worker.ending is not None and worker.ending.failed and not history:
                raise bad_request(f'container "{name}" in pod "{pod_name}" is not available')
            reason = worker.waiting_reason(name)
            if reason in {"ErrImagePull", "ImagePullBackOff", "ErrImageNeverPull"}:
                raise bad_request(
                    f'container "{name}" in pod "{pod_name}" is waiting to start: trying and failing to pull image'
                )
            raise bad_request(f'container "{name}" in pod "{pod_name}" is waiting to start: {reason}')
        return begun[0]


def not_found_text(message: str) -> StatusError:
    """404 with the kubelet's own words."""
    return StatusError(404, "NotFound", message)


def _wants(request: web.Request, *names: str) -> bool:
    return any(request.query.get(name, "").lower() in {"1", "true"} for name in names)


@web.middleware
async def _authorize(request: web.Request, handler: Any) -> web.StreamResponse:
    certificate = request.get_extra_info("peercert")
    if not is_apiserver(certificate):
        error = forbidden("nodes", "", "the client certificate is not the API server's")
        return web.json_response(error.to_status(), status=error.code)
    response: web.StreamResponse = await handler(request)
    return response


@web.middleware
async def _errors(request: web.Request, handler: Any) -> web.StreamResponse:
    try:
        response: web.StreamResponse = await handler(request)
    except StatusError as error:
        return web.json_response(error.to_status(), status=error.code)
    return response
