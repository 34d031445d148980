"""`agnhost porter`: one server for each SERVE_… variable of the environment, answering with its value.

SERVE_PORT_80=foo, SERVE_TCP_PORT_80=foo     HTTP, any path
SERVE_UDP_PORT_80=foo                        UDP, any datagram
SERVE_TLS_PORT_443=foo                       HTTPS with CERT_FILE and KEY_FILE
SERVE_SCTP_PORT_80=foo                       SCTP, where the kernel has it
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass

from podnet.controlplane.kubelet.images.programs import http
from podnet.controlplane.kubelet.images.programs.flags import parse_flags
from podnet.controlplane.kubelet.images.programs.http import Request, Response, Server

_PREFIXES = {
    "SERVE_PORT_": "tcp",
    "SERVE_TCP_PORT_": "tcp",
    "SERVE_UDP_PORT_": "udp",
    "SERVE_TLS_PORT_": "tls",
    "SERVE_SCTP_PORT_": "sctp",
}
_SCTP = 132
_ANY = "0.0.0.0"


@dataclass(frozen=True, slots=True)
class Port:
    """One server to run."""

    protocol: str
    number: int
    value: str


def wanted_ports(env: Mapping[str, str]) -> list[Port]:
    """What the environment asks for. ValueError names a variable whose number is none."""
    found: list[Port] = []
    for name, value in sorted(env.items()):
        for prefix, protocol in _PREFIXES.items():
            if not name.startswith(prefix):
                continue
            number = name.removeprefix(prefix)
            if not number.isdigit() or not 0 < int(number) < 65536:
                raise ValueError(f"{name}: no port number")
            found.append(Port(protocol, int(number), value))
    return found


def answer(port: Port, request: Request, *, as_json: bool) -> Response:
    """The value, or with --json-response what was asked along with it."""
    if not as_json:
        return Response(200, port.value.encode())
    body = json.dumps({"Method": request.method, "Body": port.value}, separators=(",", ":"))
    return Response(200, body.encode(), content_type="application/json")


class _Datagrams(asyncio.DatagramProtocol):
    def __init__(self, value: bytes) -> None:
        self._value = value
        self._transport: asyncio.DatagramTransport | None = None

    def connection_made(self, transport: asyncio.DatagramTransport) -> None:  # type: ignore[override]
        self._transport = transport

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        del data
        if self._transport is not None:
            self._transport.sendto(self._value, addr)


class _Value(asyncio.Protocol):
    """Write the value, close (SCTP)."""

    def __init__(self, value: bytes) -> None:
        self._value = value

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        transport.write(self._value)
        transport.close()


def main(argv: list[str]) -> int:
    """`porter [--json-response]`."""
    values, _ = parse_flags(argv[1:], {"json-response": False})
    try:
        ports = wanted_ports(os.environ)
    except ValueError as error:
        _log(str(error))
        return 1
    if not ports:
        _log("no SERVE_PORT_… variable is set; sleeping")
    try:
        asyncio.run(_serve(ports, as_json=bool(values["json-response"])))
    except OSError as error:
        _log(f"listen: {error.strerror or error}")
        return 1
    return 0


async def _serve(ports: list[Port], *, as_json: bool) -> None:
    stop = http.stop_event()
    for port in ports:
        await _serve_one(port, as_json=as_json)
    await stop.wait()


async def _serve_one(port: Port, *, as_json: bool) -> None:
    loop = asyncio.get_running_loop()
    if port.protocol == "udp":
        sock = http.listening_socket(_ANY, port.number, socket.SOCK_DGRAM)
        await loop.create_datagram_endpoint(lambda: _Datagrams(port.value.encode()), sock=sock)
    elif port.protocol == "sctp":
        try:
            sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM, _SCTP)
        except OSError as error:
            _log(f"SCTP port {port.number}: {error.strerror}: this kernel has no SCTP, the port stays closed")
            return
        sock.bind((_ANY, port.number))
        sock.listen(128)
        sock.setblocking(False)
        await loop.create_server(lambda: _Value(port.value.encode()), sock=sock)
    else:
        tls = None
        if port.protocol == "tls":
            certificate = os.environ.get("CERT_FILE", "/localhost.crt")
            tls = http.tls_context(certificate, os.environ.get("KEY_FILE", "/localhost.key"))
        server = Server(lambda request: answer(port, request, as_json=as_json))
        await server.listen(_ANY, port.number, tls=tls)
    _log(f"serving {port.protocol} port {port.number}")


def _log(text: str) -> None:
    print(f"{time.strftime('%Y/%m/%d %H:%M:%S', time.gmtime())} {text}", file=sys.stderr, flush=True)
