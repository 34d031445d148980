"""`agnhost grpc-health-checking`: a gRPC health service, and an HTTP door by which a lab makes it fail.

    gRPC --port (5000)        grpc.health.v1.Health/Check: SERVING, or NOT_SERVING after /make-not-serving; a service
                              other than "" and --service is not found
    HTTP --http-port (8080)   /make-serving, /make-not-serving

Five kinds of HTTP/2 frame do for unary calls. Sources: RFC 9113; the gRPC health checking protocol; agnhost's README.
"""

from __future__ import annotations

import contextlib
import socket
import struct
import threading

from podnet.controlplane.kubelet.images.programs import serve
from podnet.controlplane.kubelet.images.programs.flags import parse_flags
from podnet.controlplane.kubelet.images.programs.http import Request, Response

PREFACE_BYTES = 24
DATA, HEADERS, SETTINGS, PING, GOAWAY = 0, 1, 4, 6, 7
END_STREAM, ACK, END_HEADERS = 0x1, 0x1, 0x4
SERVING, NOT_SERVING = 1, 2
FRAME_MAX = 1 << 16
IDLE_S = 60.0


class Health:
    """What the service says of itself, and the names that it answers to."""

    def __init__(self, service: str = "") -> None:
        self.status = SERVING
        self.services = {b"", service.encode()}


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    """One HTTP/2 frame."""
    return struct.pack(">I", len(payload))[1:] + bytes((kind, flags)) + struct.pack(">I", stream) + payload


def _literal(name: bytes, value: bytes) -> bytes:
    """An HPACK literal that goes into no table."""
    return b"\x00" + bytes((len(name),)) + name + bytes((len(value),)) + value


def health_answer(stream: int, status: int) -> bytes:
    """Headers, the message, trailers."""
    headers = b"\x88" + _literal(b"content-type", b"application/grpc")  # 0x88: `:status: 200` of the static table
    message = bytes((0x08, status))
    body = b"\x00" + struct.pack(">I", len(message)) + message
    return (
        frame(HEADERS, END_HEADERS, stream, headers)
        + frame(DATA, 0, stream, body)
        + frame(HEADERS, END_HEADERS | END_STREAM, stream, _literal(b"grpc-status", b"0"))
    )


def not_found(stream: int) -> bytes:
    """Trailers alone: the call has failed."""
    headers = b"\x88" + _literal(b"content-type", b"application/grpc") + _literal(b"grpc-status", b"5")
    text = _literal(b"grpc-message", b"unknown service")
    return frame(HEADERS, END_HEADERS | END_STREAM, stream, headers + text)


def asked_service(body: bytes) -> bytes:
    """Field 1 of the HealthCheckRequest; a name is short enough for one length octet."""
    message = body[5:]
    return message[2 : 2 + message[1]] if message[:1] == b"\x0a" and len(message) > 1 else b""


def serve_connection(connection: socket.socket, health: Health) -> None:
    """Answer every call of one connection."""
    connection.settimeout(IDLE_S)
    with connection, contextlib.suppress(OSError, EOFError), connection.makefile("rb") as reader:
        if len(reader.read(PREFACE_BYTES)) < PREFACE_BYTES:
            return
        connection.sendall(frame(SETTINGS, 0, 0))
        while len(head := reader.read(9)) == 9:
            length, kind, flags = int.from_bytes(head[:3], "big"), head[3], head[4]
            stream = int.from_bytes(head[5:9], "big") & 0x7FFFFFFF
            payload = reader.read(length) if length <= FRAME_MAX else b""
            if length > FRAME_MAX or kind == GOAWAY:
                return
            if kind == SETTINGS and not flags & ACK:
                connection.sendall(frame(SETTINGS, ACK, 0))
            elif kind == PING and not flags & ACK:
                connection.sendall(frame(PING, ACK, 0, payload))
            elif stream and kind in (DATA, HEADERS) and flags & END_STREAM:
                known = asked_service(payload if kind == DATA else b"") in health.services
                connection.sendall(health_answer(stream, health.status) if known else not_found(stream))


def _listen(port: int, health: Health) -> None:
    with socket.create_server(("", port), reuse_port=False) as listener:
        while True:
            connection, _ = listener.accept()
            threading.Thread(target=serve_connection, args=(connection, health), daemon=True).start()


def main(argv: list[str]) -> int:
    """`grpc-health-checking [--port 5000] [--http-port 8080] [--service NAME]`."""
    flags, _ = parse_flags(argv[1:], {"port": 5000, "http-port": 8080, "service": ""})
    health = Health(str(flags["service"]))
    threading.Thread(target=_listen, args=(int(flags["port"]), health), daemon=True).start()

    def answer(request: Request) -> Response:
        wanted = {"/make-serving": SERVING, "/make-not-serving": NOT_SERVING}.get(request.path)
        if wanted is None:
            return Response(404, b"404 page not found\n")
        health.status = wanted
        return Response(200, b"ok\n")

    return serve.run(answer, int(flags["http-port"]))
