"""A small HTTP/1.1 server for the catalogue's programs: keep-alive, pipelining, HEAD, chunked bodies, files, TLS.

    Request ──▶ handler(request) ──▶ Response (or an awaitable of one)

One event loop, one protocol object a connection, no thread. Limits: 64 KiB of header, 32 MiB of body. It speaks for
itself only; what a server says about itself (Server, error pages, log lines) is its program's business.
Source: RFC 9110, RFC 9112.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import ssl
import time
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import TypeAlias
from urllib.parse import parse_qs, unquote

MAX_HEADER_BYTES = 64 * 1024
MAX_BODY_BYTES = 32 * 1024 * 1024
IDLE_TIMEOUT_S = 75.0
FILE_CHUNK_BYTES = 256 * 1024
_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


@dataclass(slots=True)
class Request:
    """One request. `headers` keep their order and spelling; `peer` and `local` are (address, port)."""

    method: str
    target: str
    version: str
    headers: list[tuple[str, str]]
    peer: tuple[str, int]
    local: tuple[str, int]
    body: bytes = b""
    tls: bool = False

    @property
    def path(self) -> str:
        """The decoded path."""
        return unquote(self.raw_path)

    @property
    def raw_path(self) -> str:
        """The path as it came."""
        target = self.target
        if target.startswith(("http://", "https://")):
            target = "/" + target.partition("//")[2].partition("/")[2]
        return target.partition("?")[0].partition("#")[0]

    @property
    def query(self) -> dict[str, list[str]]:
        """The query's values by name."""
        return parse_qs(self.target.partition("?")[2], keep_blank_values=True)

    def form(self) -> dict[str, list[str]]:
        """The query's values and a form body's, the body's first, as Go's FormValue looks them up."""
        values: dict[str, list[str]] = {}
        if self.header("content-type").startswith("application/x-www-form-urlencoded"):
            values = parse_qs(self.body.decode(errors="replace"), keep_blank_values=True)
        for name, found in self.query.items():
            values.setdefault(name, []).extend(found)
        return values

    def header(self, name: str, default: str = "") -> str:
        """The first header of this name, in any spelling."""
        low = name.lower()
        return next((value for key, value in self.headers if key.lower() == low), default)


@dataclass(slots=True)
class Response:
    """One answer. `file` (path, offset, length) is sent instead of `body`; `after` runs once it is written."""

    status: int = 200
    body: bytes = b""
    headers: list[tuple[str, str]] = field(default_factory=list)
    content_type: str = "text/plain; charset=utf-8"
    file: tuple[str, int, int] | None = None
    close: bool = False
    after: Callable[[], None] | None = None

    @property
    def length(self) -> int:
        """Bytes of the body."""
        return self.file[2] if self.file else len(self.body)


Handler: TypeAlias = Callable[[Request], Response | Awaitable[Response]]
Log: TypeAlias = Callable[[Request, Response], None]


class BadRequestError(Exception):
    """What came is not HTTP; `status` says how to answer."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


def http_date(seconds: float) -> str:
    """IMF-fixdate, always in English."""
    t = time.gmtime(seconds)
    day, month = _DAYS[t.tm_wday], _MONTHS[t.tm_mon - 1]
    return f"{day}, {t.tm_mday:02d} {month} {t.tm_year} {t.tm_hour:02d}:{t.tm_min:02d}:{t.tm_sec:02d} GMT"


def parse_head(head: bytes) -> tuple[str, str, str, list[tuple[str, str]]]:
    """Method, target, version and headers. BadRequestError when it is none."""
    lines = head.decode("latin-1").split("\r\n") if b"\r\n" in head else head.decode("latin-1").split("\n")
    words = lines[0].split(" ")
    if len(words) != 3 or not words[0].isalpha() or not words[2].startswith("HTTP/1."):
        raise BadRequestError(400, "malformed request line")
    if not words[1].startswith(("/", "http://", "https://", "*")) and words[0] != "CONNECT":
        raise BadRequestError(400, "malformed target")
    headers: list[tuple[str, str]] = []
    for line in lines[1:]:
        if not line:
            continue
        name, colon, value = line.partition(":")
        if not colon or not name or name != name.strip():
            raise BadRequestError(400, "malformed header")
        headers.append((name, value.strip()))
    if words[2] == "HTTP/1.1" and not any(name.lower() == "host" for name, _ in headers):
        raise BadRequestError(400, "missing required Host header")
    return words[0], words[1], words[2], headers


class BodyReader:
    """Finds the end of a request's body. Feed it what has come; `result` is (body, bytes used) once it is whole."""

    def __init__(self, request: Request) -> None:
        self.chunked = "chunked" in request.header("transfer-encoding").lower()
        length = request.header("content-length", "0")
        if not length.isdigit():
            raise BadRequestError(400, "malformed Content-Length")
        self.length = int(length)
        if self.length > MAX_BODY_BYTES:
            raise BadRequestError(413, "request body too large")

    def result(self, data: bytes | bytearray) -> tuple[bytes, int] | None:
        """None: more is needed."""
        if not self.chunked:
            return (bytes(data[: self.length]), self.length) if len(data) >= self.length else None
        body = bytearray()
        at = 0
        while True:
            end = data.find(b"\r\n", at)
            if end < 0:
                return None
            try:
                size = int(bytes(data[at:end]).partition(b";")[0], 16)
            except ValueError:
                raise BadRequestError(400, "malformed chunk") from None
            if len(body) + size > MAX_BODY_BYTES:
                raise BadRequestError(413, "request body too large")
            at = end + 2
            if size == 0:
                tail = data.find(b"\r\n", at)
                while tail > at:  # trailers
                    at = tail + 2
                    tail = data.find(b"\r\n", at)
                return None if tail < 0 else (bytes(body), at + 2)
            if len(data) < at + size + 2:
                return None
            body += data[at : at + size]
            at += size + 2


def reason(status: int) -> str:
    """The phrase of a status code."""
    with contextlib.suppress(ValueError):
        return HTTPStatus(status).phrase
    return "status code " + str(status)


def plain_refusal(error: BadRequestError) -> Response:
    """As Go's net/http."""
    return Response(error.status, f"{error.status} {reason(error.status)}: {error}".encode())


class Connection(asyncio.Protocol):
    """One connection: requests are answered one after the other, in order."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._data = bytearray()
        self._transport: asyncio.Transport | None = None
        self._request: Request | None = None
        self._reader: BodyReader | None = None
        self._task: asyncio.Task[None] | None = None
        self._drained = asyncio.Event()
        self._drained.set()
        self._ended = False
        self._last_s = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        sock = transport.get_extra_info("socket")
        if sock is not None and sock.family in (socket.AF_INET, socket.AF_INET6):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._server.connections.add(self)
        self._last_s = time.monotonic()

    def connection_lost(self, exc: Exception | None) -> None:
        del exc  # a reset by the peer ends a connection as its close does
        self._server.connections.discard(self)
        self._drained.set()
        if self._task is not None:
            self._task.cancel()

    def pause_writing(self) -> None:
        self._drained.clear()

    def resume_writing(self) -> None:
        self._drained.set()

    def eof_received(self) -> bool:
        self._ended = True
        return self._task is not None or bool(self._data)  # keep our half open until the answers are out

    def data_received(self, data: bytes) -> None:
        self._data += data
        self._last_s = time.monotonic()
        if self._task is None:
            self._next()

    @property
    def idle(self) -> bool:
        """Between two requests."""
        return self._task is None and self._request is None

    @property
    def idle_s(self) -> float:
        """Seconds since something came or went."""
        return time.monotonic() - self._last_s if self._task is None else 0.0

    def close(self) -> None:
        """Close after what is being written."""
        if self._transport is not None:
            self._transport.close()

    def _next(self) -> None:
        """Take the next whole request off the buffer and answer it."""
        assert self._transport is not None
        try:
            request = self._take()
        except BadRequestError as error:
            self._refuse(error)
            return
        if request is None:
            if len(self._data) > MAX_HEADER_BYTES and self._request is None:
                self._refuse(BadRequestError(431, "header too large"))
            elif self._ended:
                self.close()
            return
        try:
            answer = self._server.handler(request)
        except Exception:
            answer = self._server.failure()
        if isinstance(answer, Response) and answer.file is None:
            self._write(request, answer)
            if self._data and not self._transport.is_closing():
                asyncio.get_running_loop().call_soon(self._continue)
            return
        self._task = asyncio.ensure_future(self._finish(request, answer))

    def _continue(self) -> None:
        if self._task is None and self._transport is not None and not self._transport.is_closing():
            self._next()

    def _take(self) -> Request | None:
        assert self._transport is not None
        if self._request is None:
            while self._data.startswith(b"\r\n"):
                del self._data[:2]
            end = self._data.find(b"\r\n\r\n")
            if end < 0:
                return None
            method, target, version, headers = parse_head(bytes(self._data[:end]))
            del self._data[: end + 4]
            peer = self._transport.get_extra_info("peername") or ("", 0)
            local = self._transport.get_extra_info("sockname") or ("", 0)
            tls = self._transport.get_extra_info("sslcontext") is not None
            self._request = Request(method, target, version, headers, peer[:2], local[:2], tls=tls)
            self._reader = BodyReader(self._request)
            if self._request.header("expect").lower() == "100-continue":
                self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        assert self._reader is not None
        whole = self._reader.result(self._data)
        if whole is None:
            return None
        request, self._request = self._request, None
        request.body, used = whole
        del self._data[:used]
        return request

    async def _finish(self, request: Request, answer: Response | Awaitable[Response]) -> None:
        try:
            try:
                response = answer if isinstance(answer, Response) else await answer
            except Exception:
                response = self._server.failure()
            await self._write_file(request, response)
        finally:
            self._task = None
        self._last_s = time.monotonic()
        if self._data:
            self._continue()
        elif self._ended:
            self.close()

    def _head(self, request: Request, response: Response) -> tuple[bytes, bool]:
        """The response's head, and whether the connection stays."""
        wish = request.header("connection").lower()
        keep = "keep-alive" in wish if request.version == "HTTP/1.0" else "close" not in wish
        keep = keep and not response.close and not self._server.closing
        given = {name.lower() for name, _ in response.headers}
        lines = [f"HTTP/1.1 {response.status} {reason(response.status)}"]
        lines += [f"{name}: {value}" for name, value in self._server.headers]
        if "date" not in given:
            lines.append(f"Date: {http_date(time.time())}")
        bodiless = response.status < 200 or response.status in (204, 304)
        if response.content_type and "content-type" not in given and not bodiless and response.length:
            lines.append(f"Content-Type: {response.content_type}")
        if "content-length" not in given and not bodiless:
            lines.append(f"Content-Length: {response.length}")
        if not keep:
            lines.append("Connection: close")
        elif self._server.says_keep_alive or request.version == "HTTP/1.0":
            lines.append("Connection: keep-alive")
        lines += [f"{name}: {value}" for name, value in response.headers]
        return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1", errors="replace"), keep

    def _write(self, request: Request, response: Response) -> None:
        assert self._transport is not None
        head, keep = self._head(request, response)
        bodiless = request.method == "HEAD" or response.status < 200 or response.status in (204, 304)
        self._transport.write(head if bodiless else head + response.body)
        self._done(request, response, keep=keep)

    async def _write_file(self, request: Request, response: Response) -> None:
        assert self._transport is not None
        if response.file is None or request.method == "HEAD":
            if not self._transport.is_closing():
                self._write(request, response)
            return
        path, offset, length = response.file
        head, keep = self._head(request, response)
        self._transport.write(head)
        with open(path, "rb") as file:  # noqa: ASYNC230 - a page cache read; a thread would cost more
            file.seek(offset)
            while length > 0 and not self._transport.is_closing():
                data = file.read(min(FILE_CHUNK_BYTES, length))
                if not data:  # it shrank: the promise of Content-Length cannot be kept
                    keep = False
                    break
                length -= len(data)
                self._transport.write(data)
                await self._drained.wait()
        self._done(request, response, keep=keep)

    def _done(self, request: Request, response: Response, *, keep: bool) -> None:
        assert self._transport is not None
        if self._server.log is not None:
            self._server.log(request, response)
        if not keep or (self._ended and not self._data):
            self._transport.close()
        if response.after is not None:
            asyncio.get_running_loop().call_soon(response.after)

    def _refuse(self, error: BadRequestError) -> None:
        assert self._transport is not None
        request = Request("-", "-", "HTTP/1.1", [], self._transport.get_extra_info("peername") or ("", 0), ("", 0))
        response = self._server.refusal(error)
        response.close = True
        self._write(request, response)
        self._data.clear()


@dataclass(slots=True)
class Server:
    """What all connections of a listener share. `headers` are sent with every response."""

    handler: Handler
    headers: tuple[tuple[str, str], ...] = ()
    log: Log | None = None
    says_keep_alive: bool = False
    refusal: Callable[[BadRequestError], Response] = plain_refusal
    connections: set[Connection] = field(default_factory=set)
    closing: bool = False
    expirer: asyncio.Task[None] | None = None

    def failure(self) -> Response:
        """The answer when a handler raised; the traceback goes to stderr."""
        import traceback  # only when it is needed

        traceback.print_exc()
        return Response(500, b"Internal Server Error\n", close=True)

    async def listen(
        self, host: str | None, port: int, *, tls: ssl.SSLContext | None = None
    ) -> asyncio.base_events.Server:
        """Listen on one address, or with None on every address of both families (a dual-stack socket)."""
        loop = asyncio.get_running_loop()
        sock = listening_socket(host, port)
        if self.expirer is None:
            self.expirer = asyncio.ensure_future(self._expire())
        return await loop.create_server(lambda: Connection(self), sock=sock, ssl=tls)

    async def _expire(self) -> None:
        """Close connections that have been idle for too long, so that none is held for ever."""
        while True:
            await asyncio.sleep(IDLE_TIMEOUT_S / 3)
            for connection in tuple(self.connections):
                if connection.idle_s > IDLE_TIMEOUT_S:
                    connection.close()

    async def drain(self, limit_s: float) -> None:
        """Let the requests that run finish, close the connections that idle."""
        self.closing = True
        deadline = time.monotonic() + limit_s
        while self.connections and time.monotonic() < deadline:
            for connection in tuple(self.connections):
                if connection.idle:
                    connection.close()
            await asyncio.sleep(0.01)


def listening_socket(host: str | None, port: int, kind: socket.SocketKind = socket.SOCK_STREAM) -> socket.socket:
    """A bound socket: dual-stack where there is IPv6 and no address was asked for."""
    if host is None and socket.has_ipv6:
        with contextlib.suppress(OSError):
            return _bind(socket.AF_INET6, "::", port, kind)
    family = socket.AF_INET6 if host and ":" in host else socket.AF_INET
    return _bind(family, host or "0.0.0.0", port, kind)


def _bind(family: int, host: str, port: int, kind: socket.SocketKind) -> socket.socket:
    sock = socket.socket(family, kind)
    try:
        if kind == socket.SOCK_STREAM:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0 if host == "::" else 1)
        sock.bind((host, port))
        if kind == socket.SOCK_STREAM:
            sock.listen(1024)
        sock.setblocking(False)
    except OSError:
        sock.close()
        raise
    return sock


def peer_name(peer: tuple[str, int]) -> str:
    """`address:port` as Go prints it; an IPv4 peer of a dual-stack socket as IPv4."""
    host, port = peer[0], peer[1]
    host = host.removeprefix("::ffff:") if "." in host else host
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def stop_event(numbers: Iterable[int] = (signal.SIGTERM, signal.SIGINT)) -> asyncio.Event:
    """An event that is set by the first of these signals."""
    event = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in numbers:
        loop.add_signal_handler(number, event.set)
    return event


def tls_context(certificate: str, key: str) -> ssl.SSLContext:
    """A server's TLS context from two files."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    return context


def hostname() -> str:
    """The pod's name, asked of the kernel each time."""
    return os.uname().nodename
