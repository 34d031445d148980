"""The gRPC health check, spoken by hand: one unary call needs five HTTP/2 frames.

    client: preface, SETTINGS, HEADERS (POST /grpc.health.v1.Health/Check), DATA (HealthCheckRequest)
    server: SETTINGS, HEADERS, DATA (HealthCheckResponse{status}), HEADERS (trailers)

Only the answer's DATA matters: field 1 of the message is 1 when the service serves. Without DATA the call has failed
(unknown service, not implemented). Sources: RFC 9113; the gRPC health checking protocol.
"""

from __future__ import annotations

import asyncio
import struct

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY = 0, 1, 3, 4, 6, 7
END_STREAM, ACK, END_HEADERS = 0x1, 0x1, 0x4
FRAME_MAX = 1 << 20
SERVING = 1


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    """One HTTP/2 frame."""
    return struct.pack(">I", len(payload))[1:] + bytes((kind, flags)) + struct.pack(">I", stream) + payload


def _text(value: bytes) -> bytes:
    # One length octet is enough for what is sent here; 127 would begin a longer integer.
    value = value[:126]
    return bytes((len(value),)) + value


def header(name: bytes, value: bytes) -> bytes:
    """An HPACK literal without indexing, without Huffman coding."""
    return b"\x00" + _text(name) + _text(value)


def health_request(service: str, authority: str) -> bytes:
    """Everything the client sends."""
    headers = b"".join(
        header(name, value)
        for name, value in (
            (b":method", b"POST"),
            (b":scheme", b"http"),
            (b":path", b"/grpc.health.v1.Health/Check"),
            (b":authority", authority.encode()),
            (b"content-type", b"application/grpc"),
            (b"te", b"trailers"),
            (b"user-agent", b"kube-probe/1.32"),
        )
    )
    name = service.encode()
    message = b"\x0a" + _text(name) if name else b""
    body = b"\x00" + struct.pack(">I", len(message)) + message
    return PREFACE + frame(SETTINGS, 0, 0) + frame(HEADERS, END_HEADERS, 1, headers) + frame(DATA, END_STREAM, 1, body)


def parse_health_response(body: bytes) -> int | None:
    """The serving status of the length-prefixed HealthCheckResponse, None when it is not one."""
    if len(body) < 5 or body[0] != 0:
        return None
    message = body[5 : 5 + struct.unpack(">I", body[1:5])[0]]
    if not message:
        return 0  # protobuf leaves out the default: UNKNOWN
    return message[1] if len(message) >= 2 and message[0] == 0x08 else None


async def check_health(host: str, port: int, service: str) -> int | None:
    """The status of a service (1 = SERVING), None when the server answers the call with an error."""
    reader, writer = await asyncio.open_connection(host, port)
    try:
        writer.write(health_request(service, f"{host}:{port}"))
        await writer.drain()
        return parse_health_response(await _read_data(reader, writer))
    finally:
        writer.close()


async def _read_data(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
    body = b""
    while True:
        head = await reader.readexactly(9)
        length, kind, flags = int.from_bytes(head[:3], "big"), head[3], head[4]
        stream = int.from_bytes(head[5:9], "big") & 0x7FFFFFFF
        if length > FRAME_MAX:
            raise ConnectionError("frame too large")
        payload = await reader.readexactly(length)
        if kind == DATA and stream == 1:
            body += payload
        elif kind == SETTINGS and not flags & ACK:
            writer.write(frame(SETTINGS, ACK, 0))
        elif kind == PING and not flags & ACK:
            writer.write(frame(PING, ACK, 0, payload))
        elif kind in {RST_STREAM, GOAWAY}:
            return body
        if stream == 1 and kind in {DATA, HEADERS} and flags & END_STREAM:
            return body
