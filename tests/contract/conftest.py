"""One real etcd for the contract suite, emptied after each test that used it."""

from __future__ import annotations

import asyncio
import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from podnet.controlplane.store.etcd_gateway import EtcdEndpoints, EtcdGateway
from podnet.controlplane.store.etcd_messages import encode


def free_ports(count: int) -> list[int]:
    """Ports of 127.0.0.1 that nobody listens on."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [sock.getsockname()[1] for sock in sockets]
    for sock in sockets:
        sock.close()
    return ports


@pytest.fixture(scope="session")
def etcd_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EtcdEndpoints]:
    """A member of its own; skips, saying how to get it, where etcd is not installed."""
    program = shutil.which("etcd")
    if program is None:
        pytest.skip("etcd is not installed: apt install etcd-server")
    directory: Path = tmp_path_factory.mktemp("etcd")
    client, peer = (f"http://127.0.0.1:{port}" for port in free_ports(2))
    argv = [program, "--name=one", f"--data-dir={directory / 'data'}", "--log-level=error", "--unsafe-no-fsync"]
    argv += [f"--listen-client-urls={client}", f"--advertise-client-urls={client}"]
    argv += [f"--listen-peer-urls={peer}", f"--initial-advertise-peer-urls={peer}", f"--initial-cluster=one={peer}"]
    with (directory / "log").open("wb") as log:
        process = subprocess.Popen([word for word in argv if known(program, word)], stdout=log, stderr=log)
    yield EtcdEndpoints((client,))
    process.terminate()
    process.wait(10)


def known(program: str, word: str) -> bool:
    """Whether this etcd has the flag; --unsafe-no-fsync came with 3.5."""
    if not word.startswith("--unsafe"):
        return True
    return word in subprocess.run([program, "--help"], capture_output=True, text=True, check=True).stdout


@pytest.fixture
def etcd(etcd_server: EtcdEndpoints) -> Iterator[EtcdEndpoints]:
    """The member, empty again afterwards."""
    yield etcd_server

    async def empty() -> None:
        gateway = EtcdGateway(etcd_server)
        await gateway.call("/v3/kv/deleterange", {"key": encode("\0"), "range_end": encode("\0")})
        await gateway.close()

    asyncio.run(empty())
