"""The control plane as real processes over TLS: killing one loses nothing, and SIGTERM ends each cleanly."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import multiprocessing
import os
import signal
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from podnet.controlplane import pki
from podnet.controlplane.api.errors import StatusError
from podnet.controlplane.api.resources import DEPLOYMENTS, NODES, PODS
from podnet.controlplane.apiserver.config import APIServerConfig
from podnet.controlplane.apiserver.main import serve_apiserver
from podnet.controlplane.client.endpoint import Endpoint
from podnet.controlplane.client.rest import RestClient
from podnet.controlplane.controllers.config import ControllerManagerConfig
from podnet.controlplane.controllers.main import serve_controller_manager
from podnet.controlplane.scheduler.config import SchedulerConfig
from podnet.controlplane.scheduler.main import serve_scheduler

FORK = multiprocessing.get_context("fork")


class Processes:
    """The three, each by name; `kill` and `start` as often as you like."""

    def __init__(self, directory: Path) -> None:
        self.pki_dir = directory / "pki"
        pki.ensure_pki(
            self.pki_dir, advertise_address="192.168.100.10", service_ip="10.96.0.1", cluster_domain="cluster.local"
        )
        with socket.socket() as sock:
            sock.bind(("127.0.0.1", 0))
            self.port = int(sock.getsockname()[1])
        api = APIServerConfig(
            self.pki_dir,
            directory / "store",
            bind=(("127.0.0.1", self.port),),
            advertise_address="192.168.100.10",
        )
        manager = ControllerManagerConfig(self.endpoint("kube-controller-manager"), self.pki_dir / "ca.crt")
        self._jobs: dict[str, tuple[Callable[[Any], None], Any]] = {
            "kube-apiserver": (serve_apiserver, api),
            "kube-controller-manager": (serve_controller_manager, manager),
            "kube-scheduler": (serve_scheduler, SchedulerConfig(self.endpoint("kube-scheduler"))),
        }
        self._running: dict[str, Any] = {}

    def endpoint(self, user: str) -> Endpoint:
        files = self.pki_dir / f"{user}.crt", self.pki_dir / f"{user}.key"
        return Endpoint(f"https://127.0.0.1:{self.port}", self.pki_dir / "ca.crt", *files)

    def start(self, *names: str) -> None:
        for name in names or self._jobs:
            target, config = self._jobs[name]
            self._running[name] = FORK.Process(target=_quiet, args=(target, config), daemon=True)
            self._running[name].start()

    def kill(self, name: str) -> None:
        os.kill(self._running[name].pid, signal.SIGKILL)
        self._running.pop(name).join(5)

    def terminate(self) -> dict[str, int | None]:
        """Ends all with SIGTERM, the API server last (its name sorts first), and returns their exit codes."""
        codes = {}
        for name, process in sorted(self._running.items(), reverse=True):
            process.terminate()
            process.join(5)
            codes[name] = process.exitcode
            if process.is_alive():
                process.kill()
                process.join(5)
        self._running.clear()
        return codes


def _quiet(target: Callable[[Any], None], config: Any) -> None:
    logging.disable(logging.CRITICAL)
    target(config)


@pytest.fixture
def processes(tmp_path: Path) -> Iterator[Processes]:
    running = Processes(tmp_path)
    running.start()
    try:
        yield running
    finally:
        running.terminate()


async def eventually(check: Callable[[], Any], timeout_s: float = 20.0) -> Any:
    """The first true answer; a server that is away counts as no answer."""
    async with asyncio.timeout(timeout_s):
        while True:
            with contextlib.suppress(StatusError):
                answer = await check()
                if answer:
                    return answer
            await asyncio.sleep(0.02)


def web(replicas: int) -> dict[str, Any]:
    template = {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "c", "image": "nginx"}]}}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "web", "namespace": "default"},
        "spec": {"replicas": replicas, "selector": {"matchLabels": {"app": "web"}}, "template": template},
    }


async def prepare(client: RestClient) -> None:
    amounts = {"cpu": "40", "memory": "80Gi", "pods": "110"}
    for name in ("node-1", "node-2"):
        body = {
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": {"name": name, "labels": {"kubernetes.io/hostname": name}},
            "status": {
                "allocatable": amounts,
                "capacity": amounts,
                "conditions": [{"type": "Ready", "status": "True"}],
            },
        }
        await eventually(lambda body=body: client.create(NODES, body))
    await client.create(DEPLOYMENTS, web(6))


async def bound(client: RestClient, count: int) -> Any:
    pods = (await client.list(PODS, "default")).items
    return len(pods) == count and all(pod["spec"].get("nodeName") for pod in pods)


@pytest.mark.parametrize("victim", ["kube-apiserver", "kube-controller-manager", "kube-scheduler"])
async def test_killing_one_loses_nothing(processes: Processes, victim: str) -> None:
    async with RestClient(processes.endpoint("admin")) as client:
        await prepare(client)
        await eventually(lambda: bound(client, 6))
        processes.kill(victim)
        if victim != "kube-apiserver":
            await client.patch(DEPLOYMENTS, "web", "default", {"spec": {"replicas": 9}})
        processes.start(victim)
        await eventually(lambda: client.patch(DEPLOYMENTS, "web", "default", {"spec": {"replicas": 9}}))
        await eventually(lambda: bound(client, 9))
        (deployment,) = (await client.list(DEPLOYMENTS, "default")).items
        assert deployment["metadata"]["annotations"]["deployment.kubernetes.io/revision"] == "1"


async def test_sigterm_ends_all_cleanly_even_without_a_server(processes: Processes) -> None:
    async with RestClient(processes.endpoint("admin")) as client:
        await prepare(client)
        await eventually(lambda: bound(client, 6))
    processes.kill("kube-apiserver")
    assert processes.terminate() == {"kube-controller-manager": 0, "kube-scheduler": 0}
