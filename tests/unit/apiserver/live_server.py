"""A kube-apiserver process on a loopback port, with a kubeconfig, and a manifest to give it."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from podnet.controlplane import pki

ROOT = Path(__file__).resolve().parents[3]
_PROGRAM = """
import sys
from pathlib import Path
from podnet.controlplane.apiserver.config import APIServerConfig
from podnet.controlplane.apiserver.main import serve_apiserver
directory, driver, descriptor = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
serve_apiserver(APIServerConfig(pki_dir=directory / "pki", store_dir=directory / "store", store_driver=driver,
                                inherited_fds=(descriptor,), advertise_address="192.168.100.1"))
"""

DEPLOYMENT = """
apiVersion: apps/v1
kind: Deployment
metadata: {name: %(name)s, labels: {app: %(name)s}}
spec:
  replicas: %(replicas)s
  selector: {matchLabels: {app: %(name)s}}
  template:
    metadata: {labels: {app: %(name)s}}
    spec:
      containers:
      - {name: c, image: "nginx:1", ports: [{containerPort: 80}], env: [{name: A, value: b}]}
---
apiVersion: v1
kind: Service
metadata: {name: %(name)s}
spec: {selector: {app: %(name)s}, ports: [{port: 80, name: http}]}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: %(name)s}
data: {a: b}
"""


@dataclass(frozen=True)
class LiveServer:
    """Where it listens and who it is."""

    directory: Path
    port: int
    process: subprocess.Popen[bytes]

    @property
    def kubeconfig(self) -> Path:
        return self.directory / "kubeconfig"

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self.port}"

    def kubectl(self, *arguments: str, stdin: str = "", check: bool = True, **environment: str) -> str:
        """Run kubectl; stdout and stderr together."""
        done = subprocess.run(
            ["kubectl", *arguments],
            input=stdin,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=60,
            check=False,
            env={**os.environ, "KUBECONFIG": str(self.kubeconfig), "HOME": str(self.directory), **environment},
            cwd=self.directory,
        )
        if check and done.returncode != 0:
            raise AssertionError(f"kubectl {' '.join(arguments)} exited {done.returncode}:\n{done.stdout}")
        return done.stdout


def prepare(directory: Path, port: int) -> None:
    """Certificates and kubeconfig."""
    pki.ensure_pki(
        directory / "pki", advertise_address="192.168.100.1", service_ip="10.96.0.1", cluster_domain="cluster.local"
    )
    pki.write_kubeconfig(
        directory / "kubeconfig", cluster_name="test", server=f"https://127.0.0.1:{port}", pki_dir=directory / "pki"
    )


@contextmanager
def listening() -> Iterator[socket.socket]:
    """A listening socket as the supervisor opens it before it enters the room."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(128)
        yield listener


def start(directory: Path, listener: socket.socket, driver: str) -> LiveServer:
    """Start the process and wait until it answers."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONSAFEPATH": "1"}
    descriptor = listener.fileno()
    with (directory / "log").open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-c", _PROGRAM, str(directory), driver, str(descriptor)],
            pass_fds=(descriptor,),
            env=environment,
            cwd=ROOT,
            stderr=log,
        )
    server = LiveServer(directory, listener.getsockname()[1], process)
    deadline = time.monotonic() + 20
    while not _answers(server):
        if process.poll() is not None or time.monotonic() > deadline:
            raise AssertionError(f"the server did not start:\n{(directory / 'log').read_text()}")
        time.sleep(0.02)
    return server


def _answers(server: LiveServer) -> bool:
    import ssl
    import urllib.error
    import urllib.request

    context = ssl.create_default_context(cafile=str(server.directory / "pki" / "ca.crt"))
    try:
        with urllib.request.urlopen(f"{server.url}/readyz", timeout=2, context=context) as answer:
            return answer.status == 200
    except (urllib.error.URLError, OSError):
        return False


def stop(server: LiveServer, number: int = signal.SIGTERM) -> int:
    """End the process and return its exit code."""
    server.process.send_signal(number)
    return server.process.wait(10)


@contextmanager
def live_server(directory: Path, driver: str = "memory") -> Iterator[LiveServer]:
    """A server for as long as the block."""
    with listening() as listener:
        prepare(directory, listener.getsockname()[1])
        server = start(directory, listener, driver)
        try:
            yield server
        finally:
            if server.process.poll() is None:
                stop(server)


def manifest(name: str = "web", replicas: object = 2) -> str:
    """A Deployment, its Service and a ConfigMap, all of one name."""
    return DEPLOYMENT % {"name": name, "replicas": replicas}
