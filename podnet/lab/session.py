"""A lab's session: a cluster of its own for the length of a `with`, and short ways to use it.

Programs run in pods, nodes and hosts through the supervisor, with their output collected; manifests go through the
real kubectl where there is one, else through podnet's small client, and the session says which.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import os
import re
import select
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import orjson

from podnet import launch, objects, wire
from podnet.client_session import admin_client
from podnet.collect import ProgramResult, collect
from podnet.controlplane.api.types import Object
from podnet.directories import ClusterDirectories, cluster_directories
from podnet.kubectl import KubectlMissingError, find_kubectl
from podnet.lab.packets import Sighting, decode_capture
from podnet.launch import ClusterError
from podnet.topology.paths import ClusterPaths
from podnet.topology.spec import ClusterSpec


@dataclass(frozen=True, slots=True)
class PingResult:
    """What ping said: packets sent and received, TTL of the replies, average round trip in milliseconds."""

    sent: int
    received: int
    ttl: int
    average_ms: float


@dataclass(slots=True)
class CaptureResult:
    """Filled in when the capture has ended."""

    path: Path
    sightings: list[Sighting] = field(default_factory=list)


def require_scapy() -> None:
    """Raise ClusterError where captures cannot be decoded: before anything is booted or captured for nothing."""
    if importlib.util.find_spec("scapy") is None:
        raise ClusterError("scapy is not installed, which decodes captures", "make setup, or pip install scapy")


class LabSession:
    """`with LabSession(spec) as lab:` boots, and takes everything down at the end (unless `keep`)."""

    def __init__(
        self,
        spec: ClusterSpec,
        *,
        keep: bool = False,
        attach: bool = False,
        on_progress: Callable[[dict[str, Any]], None] | None = None,
    ) -> None:
        """`attach`: use the cluster of this name that runs already, and leave it running."""
        self.spec = spec
        self.attach = attach
        self.keep = keep
        self.directories: ClusterDirectories = cluster_directories(spec.name)
        self.paths = ClusterPaths(self.directories.state)
        self._on_progress = on_progress or (lambda _event: None)
        self.seconds_to_boot = 0.0
        try:
            self.kubectl_path: str | None = find_kubectl()
        except KubectlMissingError:
            self.kubectl_path = None

    def __enter__(self) -> Self:
        if self.attach:
            launch.ask(self.directories, {"verb": "status"})
            return self
        self.seconds_to_boot = launch.up(self.spec, self._on_progress).seconds
        return self

    def __exit__(self, *_exc: object) -> None:
        if not self.keep and not self.attach:
            launch.down(self.spec.name, purge=True)

    # --- objects ------------------------------------------------------------------------------------------------

    def kubectl(self, *words: str, stdin: str = "") -> str:
        """Run the real kubectl; its output. Raises ClusterError with what it said when it fails."""
        if self.kubectl_path is None:
            raise ClusterError("this step needs kubectl", KubectlMissingError("").fix)
        env = {**os.environ, "KUBECONFIG": str(self.paths.kubeconfig)}
        result = subprocess.run(
            [self.kubectl_path, *words], input=stdin, capture_output=True, text=True, env=env, timeout=120, check=False
        )
        if result.returncode:
            raise ClusterError(f"kubectl {' '.join(words)}: {result.stderr.strip()}")
        return result.stdout

    def apply(self, path: Path) -> str:
        """Apply a manifest or a directory of them."""
        if self.kubectl_path is not None:
            return self.kubectl("apply", "-f", str(path))
        manifests = objects.read_manifests(path, "default")

        async def run() -> str:
            async with admin_client(self.directories) as client:
                return "".join([f"{m.name} {await objects.apply(client, m)}\n" for m in manifests])

        return asyncio.run(run())

    def get(self, kind: str, name: str, namespace: str = "default") -> Object:
        """One object."""
        resource = objects.find_resource(kind)

        async def run() -> Object:
            async with admin_client(self.directories) as client:
                return await client.get(resource, name, namespace if resource.namespaced else "")

        return asyncio.run(run())

    def list(self, kind: str, namespace: str = "default", selector: str = "") -> list[Object]:
        """Objects of a kind."""
        resource = objects.find_resource(kind)

        async def run() -> list[Object]:
            async with admin_client(self.directories) as client:
                where = namespace if resource.namespaced else ""
                return (await client.list(resource, where, label_selector=selector)).items

        return asyncio.run(run())

    def wait_ready(self, kind: str, name: str, namespace: str = "default", timeout_s: float = 60.0) -> None:
        """Wait for a Pod to be Ready or a Deployment to be rolled out."""
        resource = objects.find_resource(kind)

        async def run() -> None:
            async with admin_client(self.directories) as client:
                await objects.wait_for(client, resource, name, namespace, timeout_s)

        asyncio.run(run())

    def pod_ip(self, name: str, namespace: str = "default") -> str:
        """The address of a pod."""
        return str(self.get("pod", name, namespace)["status"]["podIP"])

    # --- programs -----------------------------------------------------------------------------------------------

    def run_in(self, target: str, *argv: str, timeout_s: float = 60.0) -> ProgramResult:
        """Run a program in a pod, node or host and collect what it prints."""
        return collect(self.directories, target, *argv, timeout_s=timeout_s)

    def ping(self, source: str, address: str, count: int = 3) -> PingResult:
        """Ping an address from a target."""
        result = self.run_in(source, "ping", "-n", "-c", str(count), "-i", "0.05", "-W", "2", address)
        return parse_ping(result.stdout)

    def curl(self, source: str, url: str) -> ProgramResult:
        """Fetch a URL from a target."""
        return self.run_in(source, "curl", "-sS", "--max-time", "5", url)

    @contextlib.contextmanager
    def capture(self, *points: str, capture_filter: str = "", path: Path | None = None) -> Iterator[CaptureResult]:
        """Capture while the block runs; the result is decoded at its end."""
        require_scapy()
        with contextlib.ExitStack() as stack:
            if path is None:
                directory = stack.enter_context(tempfile.TemporaryDirectory(prefix="podnet-"))
                path = Path(directory) / "capture.pcapng"
            result = CaptureResult(path)
            with path.open("wb") as out, launch.connect(self.directories) as sock:
                err_read, err_write = os.pipe()
                stack.callback(os.close, err_read)
                request = {"verb": "capture", "points": list(points), "filter": capture_filter}
                wire.send(sock, request, (0, out.fileno(), err_write))
                os.close(err_write)
                _wait_capturing(err_read, sock)
                yield result
                wire.send(sock, {"signal": signal.SIGTERM})
                sock.settimeout(20)
                for answer in wire.messages(sock):
                    if answer.get("error"):
                        raise ClusterError(str(answer["error"]))
            result.sightings = decode_capture(path)

    def wait_until(self, condition: Callable[[], bool], what: str, timeout_s: float = 20.0) -> None:
        """Poll a condition. Raises ClusterError naming `what` at the timeout."""
        deadline = time.monotonic() + timeout_s
        while not condition():
            if time.monotonic() > deadline:
                raise ClusterError(f"{what}: not after {timeout_s:.0f} s")
            time.sleep(0.05)


def _wait_capturing(err_read: int, sock: socket.socket) -> None:
    """Until the capture says that its sockets are open; from then on nothing is missed."""
    said = b""
    while b"capturing at" not in said:
        ready, _, _ = select.select([err_read, sock.fileno()], [], [], 10.0)
        chunk = os.read(err_read, 4096) if err_read in ready else b""
        said += chunk
        if not chunk:
            refusal = next((a.get("error", "") for a in wire.messages(sock) if a.get("done")), "")
            raise ClusterError(f"the capture did not start: {refusal or said.decode(errors='replace').strip()}")


def parse_ping(text: str) -> PingResult:
    r"""Read iputils' ping.

    >>> parse_ping("64 bytes from 10.0.0.1: icmp_seq=1 ttl=62 time=0.05 ms\n"
    ...            "3 packets transmitted, 3 received, 0% packet loss, time 100ms\n"
    ...            "rtt min/avg/max/mdev = 0.040/0.050/0.060/0.010 ms\n")
    PingResult(sent=3, received=3, ttl=62, average_ms=0.05)
    """
    counts = re.search(r"(\d+) packets transmitted, (\d+) (?:packets )?received", text)
    ttl = re.search(r"ttl=(\d+)", text)
    average = re.search(r"= [\d.]+/([\d.]+)/", text)
    return PingResult(
        int(counts[1]) if counts else 0,
        int(counts[2]) if counts else 0,
        int(ttl[1]) if ttl else 0,
        float(average[1]) if average else 0.0,
    )


def to_json(value: Any) -> str:
    """For labs that print machine-readable results."""
    return orjson.dumps(value, option=orjson.OPT_INDENT_2, default=str).decode()
