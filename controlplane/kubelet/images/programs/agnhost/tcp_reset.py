"""`agnhost tcp-reset`: take a connection, read one byte, close: what was sent beyond it makes the kernel send RST."""

from __future__ import annotations

import sys

from podnet.controlplane.kubelet.images.programs import http
from podnet.controlplane.kubelet.images.programs.flags import parse_flags


def main(argv: list[str]) -> int:
    """`tcp-reset [--port 8080]`."""
    values, _ = parse_flags(argv[1:], {"port": 8080})
    try:
        server = http.listening_socket(None, int(values["port"]))
    except OSError as error:
        print(f"listen: {error.strerror}", file=sys.stderr)
        return 1
    server.setblocking(True)
    print(f"Server started on port {values['port']}", flush=True)
    while True:
        connection, _ = server.accept()
        with connection:
            connection.recv(1)
