"""`agnhost grpc-health-checking`, asked by the kubelet's own gRPC probe."""

from __future__ import annotations

import asyncio
import socket
import threading

import pytest

from podnet.controlplane.kubelet.images.programs.agnhost import grpc_health
from podnet.controlplane.kubelet.probes.grpc import check_health


@pytest.mark.parametrize(
    ("asked", "status"),
    [
        ("", grpc_health.SERVING),
        ("", grpc_health.NOT_SERVING),
        ("shop", grpc_health.SERVING),
        pytest.param("other", None, id="a service that nobody registered"),
    ],
)
def test_the_probe_reads_what_the_service_says(asked, status):
    health = grpc_health.Health("shop")
    health.status = status or grpc_health.SERVING
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve():
            connection, _ = listener.accept()
            grpc_health.serve_connection(connection, health)

        thread = threading.Thread(target=serve)
        thread.start()
        found = asyncio.run(check_health("127.0.0.1", listener.getsockname()[1], asked))
        thread.join(10)
    assert found == status


def test_nonsense_ends_the_connection():
    ours, theirs = socket.socketpair()
    with ours:
        ours.sendall(b"GET / HTTP/1.1\r\n\r\n")
        ours.shutdown(socket.SHUT_WR)
        grpc_health.serve_connection(theirs, grpc_health.Health())
        assert ours.recv(64) == b""
