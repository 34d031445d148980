"""`agnhost netexec`: an HTTP, UDP (and SCTP) server that tells who it is, who asks, and dials others when asked.

    GET /hostname /clientip /echo /header /redirect /healthz /readyz /shell /dial /upload /exit /shutdown
    UDP hostname | echo X | clientip

SIGTERM: `/readyz` answers 503 for --delay-shutdown seconds while everything else goes on, then it ends.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeAlias

from podnet.controlplane.kubelet.images.programs import http
from podnet.controlplane.kubelet.images.programs.agnhost import dial
from podnet.controlplane.kubelet.images.programs.flags import parse_flags
from podnet.controlplane.kubelet.images.programs.http import Request, Response, Server

MAX_DATAGRAM_BYTES = 2048
UPLOADS = "/uploads"
_SCTP = 132
Answer: TypeAlias = Response | Awaitable[Response]
_DEFAULTS = {
    "http-port": 8080,
    "udp-port": 8081,
    "sctp-port": -1,
    "udp-listen-addresses": "",
    "tls-cert-file": "",
    "tls-private-key-file": "",
    "http-override": "",
    "delay-shutdown": 0,
}


@dataclass(slots=True)
class State:
    """What the handlers share. `answering` is set once a UDP or SCTP server is up."""

    override: str = ""
    answering: bool = False
    stopping: bool = False


def go_time(now_s: float) -> str:
    """time.Now() as Go prints it, without its monotonic part."""
    fraction = f"{now_s % 1:.9f}"[2:].rstrip("0")
    return time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(now_s)) + (f".{fraction}" if fraction else "") + " +0000 UTC"


class Handlers:
    """One method a path."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._paths: dict[str, Callable[[Request], Answer]] = {
            "/": self.root,
            "/clientip": self.client_ip,
            "/header": self.header,
            "/dial": self.dial,
            "/echo": self.echo,
            "/exit": self.exit,
            "/healthz": self.healthz,
            "/hostname": self.hostname,
            "/hostName": self.hostname,
            "/readyz": self.readyz,
            "/redirect": self.redirect,
            "/shell": self.shell,
            "/shutdown": self.shutdown,
            "/upload": self.upload,
        }

    def answer(self, request: Request) -> Answer:
        """Go's mux: an exact path, else `/`."""
        _log(f"{request.method} {request.target}")
        if self._state.override:
            other = request.target.partition("?")
            request.target = self._state.override + other[1] + other[2]
        return self._paths.get(request.path, self.root)(request)

    def root(self, _: Request) -> Response:
        return Response(200, f"NOW: {go_time(time.time())}".encode())

    def hostname(self, _: Request) -> Response:
        return Response(200, http.hostname().encode())

    def client_ip(self, request: Request) -> Response:
        return Response(200, http.peer_name(request.peer).encode())

    def header(self, request: Request) -> Response:
        key = (request.form().get("key") or [""])[0]
        if key:
            return Response(200, request.header(key).encode("latin-1"))
        grouped: dict[str, list[str]] = {}
        for name, value in request.headers:
            if name.lower() != "host":
                grouped.setdefault(_canonical(name), []).append(value)
        return Response(200, json.dumps(dict(sorted(grouped.items())), separators=(",", ":")).encode())

    def echo(self, request: Request) -> Response:
        form = request.form()
        status, problem = _status((form.get("code") or [""])[0], 200)
        if problem is not None:
            return problem
        return Response(status, (form.get("msg") or [""])[0].encode())

    def redirect(self, request: Request) -> Response:
        form = request.form()
        location = (form.get("location") or [""])[0]
        status, problem = _status((form.get("code") or [""])[0], 302)
        if problem is not None:
            return problem
        text = f'<a href="{_escape(location)}">{http.reason(status)}</a>.\n\n' if request.method == "GET" else ""
        return Response(status, text.encode(), [("Location", location)], "text/html; charset=utf-8")

    def healthz(self, _: Request) -> Response:
        return Response(200) if self._state.answering else Response(412)

    def readyz(self, _: Request) -> Response:
        if self._state.stopping:
            return Response(503, b"shutting down")
        return Response(200, b"ok") if self._state.answering else Response(412)

    async def shell(self, request: Request) -> Response:
        form = request.form()
        command = (form.get("shellCommand") or form.get("cmd") or [""])[0]
        output, error = await asyncio.to_thread(run_shell, command)
        answer = {"output": output} if output else {}
        if error:
            answer["error"] = error
        return Response(200, json.dumps(answer, separators=(",", ":")).encode())

    async def dial(self, request: Request) -> Response:
        wanted = dial.parse(request.form())
        if isinstance(wanted, str):
            return Response(400, wanted.encode())
        answer = await asyncio.to_thread(dial.run, wanted)
        return Response(200, json.dumps(answer, separators=(",", ":")).encode())

    def upload(self, request: Request) -> Response:
        content = form_file(request, "file")
        if content is None:
            answer = {"error": "Unable to upload file."}
            return Response(500, json.dumps(answer, separators=(",", ":")).encode())
        try:
            os.makedirs(UPLOADS, exist_ok=True)
            path = f"{UPLOADS}/upload{time.time_ns()}"
            with open(path, "xb") as file:
                file.write(content)
        except OSError:
            answer = {"error": "Unable to open file for write"}
            return Response(500, json.dumps(answer, separators=(",", ":")).encode())
        os.chmod(path, 0o700)  # tests upload programs and run them
        return Response(201, json.dumps({"output": path}, separators=(",", ":")).encode())

    async def exit(self, request: Request) -> Response:
        form = request.form()
        code = (form.get("code") or [""])[0]
        status = int(code) if code.lstrip("-").isdigit() else 0
        await asyncio.sleep(_seconds((form.get("wait") or [""])[0]))
        limit_s = _seconds((form.get("timeout") or [""])[0])
        loop = asyncio.get_running_loop()
        return Response(200, close=True, after=lambda: _later(loop, limit_s, lambda: os._exit(status & 0xFF)))

    def shutdown(self, _: Request) -> Response:
        return Response(200, close=True, after=lambda: os._exit(0))


def _later(loop: asyncio.AbstractEventLoop, delay_s: float, action: Callable[[], None]) -> None:
    loop.call_later(delay_s, action)


def _status(text: str, default: int) -> tuple[int, Response | None]:
    if not text:
        return default, None
    try:
        status = int(text)
    except ValueError:
        return 0, Response(400, f"argument 'code' must be an integer or empty, got {json.dumps(text)}\n".encode())
    if not 100 <= status <= 999:
        return 0, Response(400, f"argument 'code' must be a HTTP status, got {status}\n".encode())
    return status, None


def _seconds(text: str) -> float:
    from podnet.controlplane.kubelet.images.programs.flags import parse_duration_s

    try:
        return min(3600.0, max(0.0, parse_duration_s(text)))
    except ValueError:
        return 0.0


def _canonical(name: str) -> str:
    return "-".join(part.capitalize() for part in name.split("-"))


def _escape(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").replace('"', "&#34;")


def _log(text: str) -> None:
    print(f"{time.strftime('%Y/%m/%d %H:%M:%S', time.gmtime())} {text}", file=sys.stderr, flush=True)


def run_shell(command: str) -> tuple[str, str]:
    """Output of /bin/sh -c (both streams), and Go's words for a failure."""
    done = subprocess.run(["/bin/sh", "-c", command], stdout=-1, stderr=subprocess.STDOUT, check=False)
    output = done.stdout.decode(errors="replace")
    if done.returncode > 0:
        return output, f"exit status {done.returncode}"
    return output, f"signal: {signal.strsignal(-done.returncode)}".lower() if done.returncode < 0 else ""


def form_file(request: Request, name: str) -> bytes | None:
    """The content of a multipart form's file."""
    kind = request.header("content-type")
    if not kind.lower().startswith("multipart/form-data"):
        return None
    from email.parser import BytesParser  # 10 ms, and uploads are rare

    message = BytesParser().parsebytes(b"Content-Type: " + kind.encode("latin-1") + b"\r\n\r\n" + request.body)
    for part in message.walk():
        if part.get_param("name", header="content-disposition") == name and part.get_filename() is not None:
            payload = part.get_payload(decode=True)
            return payload if isinstance(payload, bytes) else None
    return None


def datagram_answer(data: bytes, peer: tuple[str, int]) -> bytes | None:
    """The UDP (and SCTP) commands; None: no answer."""
    text = data.decode(errors="replace").strip()
    low = text.lower()
    if low == "hostname":
        return http.hostname().encode()
    if low == "clientip":
        return http.peer_name(peer).encode()
    if low.startswith("echo "):
        return low[5:].strip().encode()
    if low:
        _log(f"Unknown udp command received: {low}")
    return None


class Datagrams(asyncio.DatagramProtocol):
    """A UDP server."""

    def __init__(self) -> None:
        self._transport: asyncio.DatagramTransport | None = None

    def connection_made(self, transport: asyncio.DatagramTransport) -> None:  # type: ignore[override]
        self._transport = transport

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        answer = datagram_answer(data[:MAX_DATAGRAM_BYTES], addr)
        if answer is not None and self._transport is not None:
            self._transport.sendto(answer, addr)


def main(argv: list[str]) -> int:
    """`netexec` with its flags."""
    values, _ = parse_flags(argv[1:], _DEFAULTS)
    try:
        return asyncio.run(_serve(values))
    except OSError as error:
        _log(f"listen: {error.strerror or error}")
        return 1


async def _serve(values: dict[str, object]) -> int:
    state = State(override=str(values["http-override"]))
    stop = http.stop_event((signal.SIGTERM,))
    handlers = Handlers(state)
    server = Server(handlers.answer)
    tls = None
    if values["tls-cert-file"]:
        tls = http.tls_context(str(values["tls-cert-file"]), str(values["tls-private-key-file"]))
    udp_port, sctp_port, http_port = (
        int(str(values["udp-port"])),
        int(str(values["sctp-port"])),
        int(str(values["http-port"])),
    )
    if udp_port != -1:
        await serve_datagrams(str(values["udp-listen-addresses"]), udp_port)
        state.answering = True
    if sctp_port != -1:
        await serve_sctp(sctp_port)
        state.answering = True
    _log(f"Started HTTP server on port {http_port}")
    await server.listen(None, http_port, tls=tls)
    await stop.wait()
    state.stopping = True
    await asyncio.sleep(float(str(values["delay-shutdown"])))
    return 0


async def serve_datagrams(addresses: str, port: int) -> None:
    """Listen on these addresses (comma separated), or on all."""
    loop = asyncio.get_running_loop()
    given: list[str | None] = [part for part in addresses.split(",") if part]
    for address in given or [None]:
        sock = http.listening_socket(address, port, socket.SOCK_DGRAM)
        await loop.create_datagram_endpoint(Datagrams, sock=sock)
        _log(f"Started UDP server on port {address or ''} {port}")


async def serve_sctp(port: int) -> None:
    """One-to-one SCTP, where the kernel has it."""
    sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM, _SCTP)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.bind(("0.0.0.0", port))
    sock.listen(128)
    sock.setblocking(False)

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        answer = datagram_answer(await reader.read(MAX_DATAGRAM_BYTES), writer.get_extra_info("peername"))
        if answer is not None:
            writer.write(answer)
        writer.close()

    await asyncio.start_server(talk, sock=sock)
