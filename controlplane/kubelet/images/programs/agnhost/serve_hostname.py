"""`agnhost serve-hostname`: the pod's name over HTTP, or over raw TCP and UDP; 60 more seconds after SIGTERM."""

from __future__ import annotations

import asyncio
import signal
import socket
import sys
import time

from podnet.controlplane.kubelet.images.programs import http
from podnet.controlplane.kubelet.images.programs.flags import parse_flags
from podnet.controlplane.kubelet.images.programs.http import Response, Server

GRACE_S = 60.0
_DEFAULTS = {"http": True, "tcp": False, "udp": False, "close": False, "port": 9376}


class _Datagrams(asyncio.DatagramProtocol):
    """Any datagram is answered with the name."""

    def __init__(self) -> None:
        self._transport: asyncio.DatagramTransport | None = None

    def connection_made(self, transport: asyncio.DatagramTransport) -> None:  # type: ignore[override]
        self._transport = transport

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        del data
        if self._transport is not None:
            self._transport.sendto(http.hostname().encode(), addr)


class _Name(asyncio.Protocol):
    """Write the name, close."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        transport.write(http.hostname().encode() + b"\n")
        transport.close()


def main(argv: list[str]) -> int:
    """`serve-hostname [--http=false --tcp --udp] [--close] [--port 9376]`."""
    values, _ = parse_flags(argv[1:], _DEFAULTS)
    if values["http"] and (values["tcp"] or values["udp"]):
        print("Can't server TCP/UDP mode and HTTP mode at the same time", file=sys.stderr)
        return 1
    if not (values["http"] or values["tcp"] or values["udp"]):
        print("Must serve one of TCP, UDP, HTTP", file=sys.stderr)
        return 1
    try:
        asyncio.run(_serve(values))
    except OSError as error:
        print(f"listen: {error.strerror or error}", file=sys.stderr)
        return 1
    return 0


async def _serve(values: dict[str, object]) -> None:
    stop = http.stop_event((signal.SIGTERM,))
    loop = asyncio.get_running_loop()
    port = int(str(values["port"]))
    if values["http"]:
        close = bool(values["close"])
        server = Server(lambda _: Response(200, http.hostname().encode() + b"\n", close=close))
        await server.listen(None, port)
    if values["tcp"]:
        await loop.create_server(_Name, sock=http.listening_socket(None, port))
    if values["udp"]:
        await loop.create_datagram_endpoint(_Datagrams, sock=http.listening_socket(None, port, socket.SOCK_DGRAM))
    await stop.wait()
    when = time.strftime("%Y/%m/%d %H:%M:%S", time.gmtime())
    print(f"{when} Received SIGTERM, serving on for {GRACE_S:g} s", file=sys.stderr, flush=True)
    await asyncio.sleep(GRACE_S)
