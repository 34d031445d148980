"""A kubelet over the fake runtime and the real registry, in memory, with its real HTTPS server on loopback."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from podnet.controlplane.api.resources import CONFIGMAPS, EVENTS, NAMESPACES, NODES, PODS, SERVICEACCOUNTS
from podnet.controlplane.apiserver.local import LocalClient
from podnet.controlplane.apiserver.registry import Registry
from podnet.controlplane.apiserver.tokens import TokenIssuer
from podnet.controlplane.client.endpoint import Endpoint
from podnet.controlplane.kubelet.config import KubeletConfig
from podnet.controlplane.kubelet.fake_runtime import FakeRuntime
from podnet.controlplane.kubelet.kubelet import run_kubelet
from podnet.controlplane.pki import ensure_kubelet_certs, ensure_pki
from podnet.controlplane.store.memory import MemoryStore
from podnet.topology.paths import ClusterPaths

NODE = "worker1"
Object = dict[str, Any]


class NodeUnderTest:
    """What a scenario holds in its hands."""

    def __init__(self, client: LocalClient, config: KubeletConfig, pki: Path) -> None:
        self.client = client
        self.config = config
        self.pki = pki
        self.runtime = FakeRuntime()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = asyncio.create_task(run_kubelet(self.config, self.client, _Surviving(self.runtime)))

    async def stop(self) -> None:
        if self._task is None:
            return
        task, self._task = self._task, None
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task

    async def create_pod(self, name: str = "web", **spec: Any) -> Object:
        containers = spec.pop("containers", [{"name": "app", "image": "busybox", "command": ["sleep", "infinity"]}])
        body = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": name, "namespace": "default"},
            "spec": {"nodeName": NODE, "containers": containers, **spec},
        }
        return await self.client.create(PODS, body)

    async def pod(self, name: str = "web") -> Object:
        return await self.client.get(PODS, name, "default")

    async def until_pod(self, check: Callable[[Object], Any], name: str = "web", timeout_s: float = 15.0) -> Object:
        """Wait for a pod for which `check` is true; fails with the pod's status."""
        seen: Object = {}

        async def look() -> Any:
            seen["pod"] = await self.pod(name)
            return seen["pod"] if check(seen["pod"]) else None

        try:
            return await self.until(look, timeout_s)
        except AssertionError:
            raise AssertionError(f"pod {name} never got there: {seen['pod'].get('status')}") from None

    async def until_phase(self, phase: str, name: str = "web", timeout_s: float = 15.0) -> Object:
        return await self.until_pod(lambda pod: pod["status"].get("phase") == phase, name, timeout_s)

    async def until_ready(self, name: str = "web", timeout_s: float = 15.0) -> Object:
        return await self.until_pod(lambda pod: condition(pod, "Ready") == "True", name, timeout_s)

    async def until_gone(self, name: str = "web", timeout_s: float = 15.0) -> None:
        async def look() -> bool:
            return not [p for p in (await self.client.list(PODS)).items if p["metadata"]["name"] == name]

        await self.until(look, timeout_s)

    async def events(self, reason: str = "") -> list[str]:
        found = (await self.client.list(EVENTS)).items
        return [event["message"] for event in found if not reason or event["reason"] == reason]

    async def until_event(self, reason: str, text: str = "") -> str:
        async def look() -> str:
            return next((message for message in await self.events(reason) if text in message), "")

        message: str = await self.until(look)
        return message

    async def until(self, check: Callable[[], Awaitable[Any]], timeout_s: float = 15.0) -> Any:
        deadline = asyncio.get_running_loop().time() + timeout_s
        while True:
            answer = await check()
            if answer:
                return answer
            if asyncio.get_running_loop().time() > deadline:
                raise AssertionError("never became true")
            await asyncio.sleep(0.01)

    def client_tls(self, name: str = "apiserver-kubelet-client") -> ssl.SSLContext:
        context = ssl.create_default_context(cafile=str(self.pki / "ca.crt"))
        if name:
            context.load_cert_chain(self.pki / f"{name}.crt", self.pki / f"{name}.key")
        return context

    def url(self, path: str) -> str:
        return f"https://{self.config.node_ip}:{self.config.port}{path}"


class _Surviving(FakeRuntime):
    """The same fake for the next kubelet: close() leaves its containers running, as real sandboxes are."""

    def __init__(self, inner: FakeRuntime) -> None:
        self.__dict__ = inner.__dict__

    async def close(self) -> None:
        pass


def condition(pod: Object, kind: str) -> str:
    return next((c["status"] for c in pod["status"].get("conditions") or () if c["type"] == kind), "")


def container(pod: Object, name: str = "app", key: str = "containerStatuses") -> Object:
    found: Object = next((c for c in pod["status"].get(key) or () if c["name"] == name), {"state": {}, "lastState": {}})
    return found


@pytest.fixture(scope="session")
def pki_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("pki")
    ensure_pki(directory, advertise_address="127.0.0.1", service_ip="10.96.0.1", cluster_domain="cluster.local")
    ensure_kubelet_certs(directory, NODE, "127.0.0.1")
    return directory


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def node_config(tmp_path: Path, pki_dir: Path) -> KubeletConfig:
    paths = ClusterPaths(tmp_path / "state", tmp_path / "run").node(NODE)
    return KubeletConfig(
        node_name=NODE,
        node_ip="127.0.0.1",
        endpoint=Endpoint("https://unused", pki_dir / "ca.crt"),
        paths=paths,
        client_ca_file=pki_dir / "ca.crt",
        server_cert_file=pki_dir / f"kubelet-{NODE}.crt",
        server_key_file=pki_dir / f"kubelet-{NODE}.key",
        port=free_port(),
        labels={"node-role.kubernetes.io/worker": ""},
    )


@pytest.fixture
async def node(node_config: KubeletConfig, pki_dir: Path) -> AsyncIterator[NodeUnderTest]:
    store = MemoryStore()
    registry = Registry(store)
    await registry.start()
    client = LocalClient(registry, tokens=TokenIssuer(pki_dir / "sa.key", "https://kubernetes.default.svc", time.time))
    for name in ("default", "kube-system", "kube-node-lease"):
        await client.create(NAMESPACES, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
    account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default", "namespace": "default"}}
    await client.create(SERVICEACCOUNTS, account)
    authority = {"name": "kube-root-ca.crt", "namespace": "default"}
    await client.create(
        CONFIGMAPS, {"apiVersion": "v1", "kind": "ConfigMap", "metadata": authority, "data": {"ca.crt": "PEM"}}
    )
    under_test = NodeUnderTest(client, node_config, pki_dir)
    under_test.start()
    try:
        await under_test.until(lambda: _ready(client))
        yield under_test
    finally:
        await under_test.stop()
        await under_test.runtime.close()
        await registry.stop()
        await store.close()


async def _ready(client: LocalClient) -> bool:
    return any(condition(found, "Ready") == "True" for found in (await client.list(NODES)).items)
