"""The kubelet: registers its node, runs the pods bound to it, reports, and serves logs and exec.

This file is wiring only: every loop below has a module of its own. Sandboxes outlive the kubelet: cancelled or killed,
it leaves pods running, and the next one adopts them.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Coroutine
from typing import Any

from podnet.controlplane.api.resources import PODS, SERVICES
from podnet.controlplane.client.events import EventRecorder
from podnet.controlplane.client.informer import Informer
from podnet.controlplane.client.reconcile import supervise
from podnet.controlplane.client.types import Client
from podnet.controlplane.client.volume_binding import LOCAL_PATH
from podnet.controlplane.kubelet.config import KubeletConfig
from podnet.controlplane.kubelet.config_cache import ConfigCache
from podnet.controlplane.kubelet.container_config import NodeNames
from podnet.controlplane.kubelet.cri import RuntimeService
from podnet.controlplane.kubelet.local_storage import LocalStorageKeeper
from podnet.controlplane.kubelet.machine import Machine, observe_machine
from podnet.controlplane.kubelet.node_agent import NodeAgent
from podnet.controlplane.kubelet.pod_dispatch import PodDispatch
from podnet.controlplane.kubelet.provisioner.agent import LocalPathProvisioner
from podnet.controlplane.kubelet.provisioner.directories import VolumeDirectories
from podnet.controlplane.kubelet.resolv import parse_resolv_conf
from podnet.controlplane.kubelet.runtime_cache import RuntimeCache
from podnet.controlplane.kubelet.server.server import KubeletServer
from podnet.controlplane.kubelet.static_pods import StaticPods
from podnet.controlplane.kubelet.status_writer import StatusWriter
from podnet.controlplane.kubelet.worker_context import WorkerContext

log = logging.getLogger(__name__)


class Kubelet:
    """The parts of one kubelet, wired; `run` brings them to life."""

    def __init__(self, config: KubeletConfig, client: Client, runtime: RuntimeService, machine: Machine) -> None:
        self.config = config
        self.runtime = runtime
        self._group: asyncio.TaskGroup | None = None
        self._recorder = EventRecorder(client, "kubelet", config.node_name)
        self._pods = Informer(client, PODS, field_selector=f"spec.nodeName={config.node_name}")
        self._services = Informer(client, SERVICES)
        self.cache = RuntimeCache(runtime, self._wake)
        self.context = WorkerContext(
            config=config,
            client=client,
            runtime=runtime,
            recorder=self._recorder,
            cache=self.cache,
            statuses=StatusWriter(client, self._spawn),
            configs=ConfigCache(client, self._spawn, self._configs_changed),
            names=NodeNames(config.node_name, config.cluster_domain, config.paths.pod_logs_dir),
            spawn=self._spawn,
            services=lambda: self._services.list() if self._services.has_synced else None,
            node_resolv=parse_resolv_conf(machine.resolv_conf),
            node_hosts=machine.hosts,
        )
        self.agent = NodeAgent(self.context, machine, self._network_changed)
        self.dispatch = PodDispatch(self.context, lambda: self.agent.node, self.agent.read)
        self.static_pods = StaticPods(self.context, self.dispatch, lambda: self.agent.node)
        self.provisioner = LocalPathProvisioner(
            client,
            self._recorder.named(LOCAL_PATH),
            config.node_name,
            VolumeDirectories(config.paths.volumes_dir),
        )
        self.local_storage = LocalStorageKeeper(self.context, self.dispatch)
        self.server = KubeletServer(config, runtime, self.dispatch)

    async def run(self) -> None:
        """Until cancelled."""
        config = self.config
        for directory in (config.paths.pods_dir, config.paths.pod_logs_dir):
            directory.mkdir(parents=True, exist_ok=True)
        try:
            async with asyncio.TaskGroup() as group:
                self._group = group
                for name, loop in (
                    ("events", self._recorder.run),
                    ("services", self._services.run),
                    ("server", self.server.run),
                ):
                    group.create_task(supervise(name, loop), name=name)
                # First what the runtime has, then what files and API want: a pod that runs already is adopted.
                await self.cache.refresh()
                group.create_task(supervise("runtime changes", self.cache.run), name="runtime changes")
                self.static_pods.start()
                await self.agent.register()
                group.create_task(supervise("node status", self.agent.run_status), name="node status")
                group.create_task(supervise("node lease", self.agent.run_lease), name="node lease")
                group.create_task(supervise("volumes", self.provisioner.run), name="volumes")
                await self._start_pods(group)
        finally:
            self._group = None

    async def _start_pods(self, group: asyncio.TaskGroup) -> None:
        self._pods.add_handler(self.static_pods.on_pod)
        group.create_task(supervise("pods", self._pods.run), name="pods")
        group.create_task(self._wake_on_services(), name="services read")
        await self._pods.wait_synced()
        self.dispatch.collect_orphans()
        group.create_task(supervise("static pods", self.static_pods.run), name="static pods")
        group.create_task(supervise("local storage", self.local_storage.run), name="local storage")

    async def _wake_on_services(self) -> None:
        await self._services.wait_synced()
        self.dispatch.wake_all()

    def _wake(self, uid: str) -> None:
        self.dispatch.wake(uid)

    def _configs_changed(self, uid: str) -> None:
        self.dispatch.configs_changed(uid)

    def _network_changed(self, problem: str) -> None:
        if not problem:
            self.dispatch.wake_all()

    def _spawn(self, work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        if self._group is None:
            work.close()
            raise RuntimeError("the kubelet is not running")
        return self._group.create_task(_guard(work, name), name=name)


async def _guard(work: Coroutine[Any, Any, None], name: str) -> None:
    """One pod's failure is not the node's: what a task could not handle is logged and ends that task alone."""
    try:
        await work
    except Exception:
        log.exception("%s failed", name)


async def run_kubelet(config: KubeletConfig, client: Client, runtime: RuntimeService) -> None:
    """Be the kubelet of `config.node_name` until cancelled; its pods go on running after that."""
    machine = observe_machine(config.paths.state, config.resolv_conf)
    try:
        await Kubelet(config, client, runtime, machine).run()
    finally:
        with contextlib.suppress(Exception):
            await runtime.close()
