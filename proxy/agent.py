"""The proxy's agent on one node: follow Services, EndpointSlices and the node, and keep the rules theirs.

A pass compiles the Services that changed and hands the whole model to the mode's backend, which applies the difference.
Several changes within `min_interval_s` become one pass. Every `check_interval_s` the backend looks, cheaply, whether
somebody touched the rules. Killed anywhere and started again, the agent replaces the rules in one transaction:
connections are the kernel's and do not notice.

    informers -> dirty -> compile_model -> backend.sync (thread) -> UDP conntrack clean-up -> health checks
"""

from __future__ import annotations

import asyncio
import bisect
import contextlib
import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network
from typing import Any

from podnet.controlplane.api.resources import ENDPOINTSLICES, NODES, SERVICES
from podnet.controlplane.client.backoff import Backoff
from podnet.controlplane.client.informer import Informer
from podnet.controlplane.client.reconcile import supervise
from podnet.controlplane.client.types import Client
from podnet.proxy.backend import Backend
from podnet.proxy.conntrack import apply_cleanup, udp_serving
from podnet.proxy.healthcheck import HealthServer
from podnet.proxy.metrics import ProxyMetrics
from podnet.proxy.model import (
    LABEL_SERVICE_NAME,
    LABEL_ZONE,
    Model,
    NodeFacts,
    compile_model,
    merge_models,
)
from podnet.proxy.modes import MODES, new_backend, other_modes
from podnet.topology.kernel import Kernel, KernelError, Netns, SetSysctl
from podnet.topology.paths import NodePaths

LOG = logging.getLogger(__name__)

TCP_BE_LIBERAL = "net.netfilter.nf_conntrack_tcp_be_liberal"
_OWNER = "owner"
_RETRY = Backoff(base_s=0.05, max_s=5.0, jitter=0.5)


@dataclass(frozen=True, slots=True)
class ProxyConfig:
    """`pod_cidr` is the cluster's. `service_cidr` "": not known, and then nothing is said about unused addresses in it.
    `healthz_port`, `metrics_port` 0: none. `resync_interval_s`: a full pass over the model without any change."""

    node_name: str
    node_ip: str
    paths: NodePaths
    mode: str = "nftables"
    pod_cidr: str = "10.244.0.0/16"
    service_cidr: str = "10.96.0.0/16"
    masquerade_all: bool = False
    healthz_port: int = 10256
    metrics_port: int = 10249
    min_interval_s: float = 0.01
    check_interval_s: float = 1.0
    resync_interval_s: float = 30.0
    netns: Netns = ""

    def __post_init__(self) -> None:
        if self.mode not in MODES:
            raise ValueError(f"proxy mode {self.mode!r} is not one of {', '.join(MODES)}")


async def run_proxy_agent(config: ProxyConfig, client: Client, kernel: Kernel) -> None:
    """Run until cancelled. The rules stay when it ends: the data path goes on without its agent."""
    informers = (
        Informer(client, SERVICES),
        Informer(client, ENDPOINTSLICES),
        Informer(client, NODES, field_selector=f"metadata.name={config.node_name}"),
    )
    agent = _Agent(config, kernel, *informers)
    async with asyncio.TaskGroup() as group:
        for informer in informers:
            name = f"proxy informer {informer.resource.qualified_name}"
            group.create_task(supervise(name, informer.run), name=name)
        group.create_task(agent.run(), name="proxy agent")


class _Agent:
    """The loop around one pass."""

    def __init__(
        self, config: ProxyConfig, kernel: Kernel, services: Informer, slices: Informer, nodes: Informer
    ) -> None:
        self._config = config
        self._services, self._slices, self._nodes = services, slices, nodes
        self._backend: Backend = new_backend(config.mode, kernel, config.netns)
        self._others = other_modes(config.mode, kernel, config.netns)
        self._kernel = kernel
        self._is_tuned = False
        self._metrics = ProxyMetrics(config.mode)
        pages = {("127.0.0.1", config.metrics_port): self._metrics.page}
        self._health = HealthServer(config.healthz_port, pages, self._metrics.answered)
        self._dirty = asyncio.Event()
        self._failures = 0
        self._flows_to_check = False
        self._facts: NodeFacts | None = None
        # By namespace and name, which are kept in order beside: sorting thousands for every change costs more than it.
        self._compiled: dict[tuple[str, str], Model] = {}
        self._order: list[tuple[str, str]] = []
        self._stale: set[str] = set()
        slices.add_indexer(_OWNER, lambda piece: [_owner(piece)])
        services.add_handler(self._service_changed)
        slices.add_handler(self._slice_changed)
        nodes.add_handler(self._node_changed)

    def _service_changed(self, key: str, _old: Mapping[str, Any] | None, _new: Mapping[str, Any] | None) -> None:
        self._metrics.service_changes.add()
        self._mark(key)

    def _slice_changed(self, _key: str, old: Mapping[str, Any] | None, new: Mapping[str, Any] | None) -> None:
        self._metrics.endpoint_changes.add()
        for piece in (old, new):
            if piece is not None:
                self._mark(_owner(piece))

    def _mark(self, service: str) -> None:
        self._stale.add(service)
        self._health.mark_pending()
        self._dirty.set()

    def _node_changed(self, _key: str, old: Mapping[str, Any] | None, new: Mapping[str, Any] | None) -> None:
        self._health.follow_node(new or {})
        if old is None or new is None or _zone(old) != _zone(new):
            self._dirty.set()

    async def run(self) -> None:
        """Pass after pass, at most one per `min_interval_s`."""
        for informer in (self._services, self._slices, self._nodes):
            await informer.wait_synced()
        try:
            while True:
                self._dirty.clear()
                await self._wait(await self._pass_or_retry())
        finally:
            await self._health.close()

    async def _wait(self, wait_s: float) -> None:
        """Until something changed, somebody touched the rules, or the time is over."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + wait_s
        while (left_s := deadline - loop.time()) > 0:
            try:
                async with asyncio.timeout(min(left_s, self._config.check_interval_s)):
                    await self._dirty.wait()
            except TimeoutError:
                if not self._failures and not await asyncio.to_thread(self._backend.is_intact):
                    LOG.warning("proxy of %s: rules were changed by others; writing them again", self._config.node_name)
                    self._backend.invalidate()
                    return
                continue
            # Endpoints come in bursts; what else changes in this moment is taken along.
            await asyncio.sleep(self._config.min_interval_s)
            return

    async def _pass_or_retry(self) -> float:
        """One pass; how long to wait for a change before the next."""
        try:
            await self.reconcile()
        except (KernelError, OSError) as error:
            self._metrics.failures.add()
            delay_s = _RETRY.delay_s(self._failures)
            self._failures += 1
            self._backend.invalidate()
            LOG.warning("proxy of %s: %s", self._config.node_name, error)
            return delay_s
        self._failures = 0
        return self._config.resync_interval_s

    async def reconcile(self) -> None:
        """Make everything right, once."""
        model = self._model()
        begun_s = time.monotonic()
        await asyncio.to_thread(self._backend.sync, model)
        self._metrics.synced(model, time.monotonic() - begun_s, time.time())
        if not self._is_tuned:  # only now: the rules brought connection tracking into the namespace
            await asyncio.to_thread(self._tune_conntrack)
        while self._others:  # only now: until here the other mode's rules carried the traffic
            await asyncio.to_thread(self._others[-1].cleanup)
            self._others.pop()
            if not self._others:
                note_mode(self._config.paths, self._config.mode)
        await self._clean_conntrack(model)
        await self._health.set_checks(model.health_checks)
        if not self._dirty.is_set():
            self._health.mark_updated()

    def _tune_conntrack(self) -> None:
        """A packet that connection tracking calls INVALID is not translated back, and whoever gets it answers RST: a living
        connection dies. In iptables mode KUBE-FORWARD drops it. The nftables mode looks at first packets only, so there a
        TCP packet outside the window counts as the connection's (kube-proxy's `conntrack.tcpBeLiberal`)."""
        liberal = "1" if self._config.mode == "nftables" else "0"
        try:
            self._kernel.apply(self._config.netns, (SetSysctl(TCP_BE_LIBERAL, liberal),))
        except KernelError as error:
            LOG.warning("proxy of %s: %s", self._config.node_name, error)
        self._is_tuned = True

    async def _clean_conntrack(self, model: Model) -> None:
        """Only when a UDP service port serves with other endpoints than before: looking costs a dump."""
        if not self._flows_to_check:
            return
        deleted = await asyncio.to_thread(apply_cleanup, model, self._config.netns)
        self._flows_to_check = False
        if deleted:
            LOG.info("proxy of %s: %d stale UDP connections deleted", self._config.node_name, deleted)

    def _model(self) -> Model:
        config = self._config
        node = self._nodes.get(config.node_name) or {}
        facts = NodeFacts(
            name=config.node_name,
            ips=(IPv4Address(config.node_ip),),
            pod_cidr=IPv4Network(config.pod_cidr),
            service_cidr=IPv4Network(config.service_cidr) if config.service_cidr else None,
            zone=_zone(node),
            masquerade_all=config.masquerade_all,
        )
        if facts != self._facts:
            self._facts = facts
            self._stale |= self._services.cache.keys()
        for key in self._stale:
            self._compile(facts, key)
        self._stale.clear()
        return merge_models(facts, [self._compiled[place] for place in self._order])

    def _compile(self, facts: NodeFacts, key: str) -> None:
        """One Service anew, or forget it."""
        namespace, _, name = key.partition("/")
        place = namespace, name
        service, before, now = self._services.get(key), self._compiled.get(place), None
        if service is not None:
            now = self._compiled[place] = compile_model(facts, [service], self._slices.by_index(_OWNER, key))
            if before is None:
                bisect.insort(self._order, place)
        elif before is not None:
            del self._compiled[place], self._order[bisect.bisect_left(self._order, place)]
        if (udp_serving(before) if before else []) != (udp_serving(now) if now else []):
            self._flows_to_check = True


def note_mode(paths: NodePaths, mode: str) -> None:
    """Write down whose rules are in place, and that nobody else's are, for whoever switches modes and waits for it."""
    temporary = paths.proxy_mode_file.with_suffix(".new")
    with contextlib.suppress(OSError):  # on a full disk the rules matter more
        paths.proxy_mode_file.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_text(mode, encoding="utf-8")
        temporary.replace(paths.proxy_mode_file)


def remove_rules(paths: NodePaths, kernel: Kernel, netns: Netns = "") -> None:
    """What a node does whose proxy was switched off: take away what its own proxy left, and only that.

    A node that never had one may have somebody else's kube-proxy, whose table has the same name.
    """
    if not paths.proxy_mode_file.exists():
        return
    for mode in MODES:
        new_backend(mode, kernel, netns).cleanup()
    paths.proxy_mode_file.unlink(missing_ok=True)


def _owner(piece: Mapping[str, Any]) -> str:
    """The key of the Service to which a slice belongs."""
    metadata = piece["metadata"]
    return f"{metadata.get('namespace', '')}/{(metadata.get('labels') or {}).get(LABEL_SERVICE_NAME, '')}"


def _zone(node: Mapping[str, Any]) -> str:
    labels = (node.get("metadata") or {}).get("labels") or {}
    return str(labels.get(LABEL_ZONE, ""))
