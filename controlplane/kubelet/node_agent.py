"""The loops that keep this node's Node and Lease objects alive.

The lease is the heartbeat: renewed four times in its duration. The status is written when it changes, at once, and
every few minutes in any case; the runtime is asked often while it is not ready, so that a booting node is Ready as soon
as its network is.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from podnet.controlplane.api.errors import StatusError
from podnet.controlplane.api.resources import LEASES, NODES
from podnet.controlplane.api.types import Object
from podnet.controlplane.client.backoff import Backoff
from podnet.controlplane.kubelet.cri import RuntimeServiceError
from podnet.controlplane.kubelet.machine import Machine
from podnet.controlplane.kubelet.node_status import (
    NodeInput,
    adopted_metadata,
    is_ready,
    new_node,
    node_status,
    same_report,
)
from podnet.controlplane.kubelet.timestamps import rfc3339, rfc3339_micro
from podnet.controlplane.kubelet.worker_context import WorkerContext

log = logging.getLogger(__name__)

LEASE_NAMESPACE = "kube-node-lease"
REPORT_S = 300.0
NOT_READY_POLL_S = 0.2
READY_POLL_S = 5.0
RETRY = Backoff(base_s=0.05, max_s=2.0)


class NodeAgent:
    """`node` is the object as last read or written; `on_network(problem)` is told when the runtime's network comes or
    goes."""

    def __init__(self, context: WorkerContext, machine: Machine, on_network: Callable[[str], None]) -> None:
        self.node: Object | None = None
        self._context = context
        self._machine = machine
        self._on_network = on_network
        self._problem: str | None = None
        self._reported_at = float("-inf")  # the first report is always a new heartbeat

    async def register(self) -> None:
        """Create the node, or adopt it; until it is done."""
        failures = 0
        while True:
            try:
                given = await self._observe()
                self.node = await self._register_once(given)
            except StatusError as error:
                log.log(logging.DEBUG if error.code == 503 else logging.WARNING, "register: %s", error.message)
                await asyncio.sleep(RETRY.delay_s(failures))
                failures += 1
                continue
            self._context.allocatable = self.node.get("status", {}).get("allocatable") or {}
            self._context.node_labels = self.node["metadata"].get("labels") or {}
            self._context.recorder.event(self._reference(), "Normal", "Starting", "Starting kubelet.")
            return

    async def read(self) -> Object:
        """The node as the API has it now."""
        context = self._context
        self.node = await context.client.get(NODES, context.config.node_name)
        context.node_labels = self.node["metadata"].get("labels") or {}
        return self.node

    async def run_status(self) -> None:
        """Report until cancelled."""
        loop = asyncio.get_running_loop()
        failures = 0
        while True:
            try:
                given = await self._observe()
                await self._report(given, force=loop.time() - self._reported_at > REPORT_S)
                failures = 0
            except StatusError as error:
                log.log(logging.DEBUG if error.code in {409, 503} else logging.WARNING, "status: %s", error.message)
                await asyncio.sleep(RETRY.delay_s(failures))
                failures += 1
                continue
            frequency = self._context.config.node_status_update_frequency_s
            await asyncio.sleep(min(frequency, NOT_READY_POLL_S if self._problem else READY_POLL_S))

    async def run_lease(self) -> None:
        """Renew until cancelled."""
        context = self._context
        interval_s = context.config.lease_duration_s / 4
        lease: Object | None = None
        failures = 0
        while True:
            try:
                lease = await self._renew(lease)
                failures = 0
            except StatusError as error:
                log.log(logging.DEBUG if error.code in {404, 409, 503} else logging.WARNING, "lease: %s", error.message)
                lease = None
                await asyncio.sleep(min(RETRY.delay_s(failures), interval_s))
                failures += 1
                continue
            await asyncio.sleep(interval_s)

    async def _observe(self) -> NodeInput:
        context = self._context
        try:
            problem = await context.runtime.status()
        except (RuntimeServiceError, OSError) as error:
            problem = str(error)
        if problem != self._problem:
            self._problem = problem
            context.network_problem = problem
            self._on_network(problem)
        return NodeInput(
            config=context.config,
            machine=self._machine,
            runtime=await context.runtime.version(),
            images=await context.runtime.list_images(),
            runtime_problem=problem,
            now=rfc3339(context.clock()),
        )

    async def _register_once(self, given: NodeInput) -> Object:
        client = self._context.client
        try:
            return await client.create(NODES, new_node(given))
        except StatusError as error:
            if not error.is_already_exists:
                raise
        standing = await client.get(NODES, given.config.node_name)
        adopted = adopted_metadata(given, standing)
        return await client.update(NODES, adopted) if adopted is not None else standing

    async def _report(self, given: NodeInput, *, force: bool) -> None:
        context = self._context
        client, name = context.client, given.config.node_name
        try:
            node = await client.get(NODES, name)
        except StatusError as error:
            if not error.is_not_found:
                raise
            node = await self._register_once(given)  # somebody deleted it: a kubelet registers again
        standing = node.get("status") or {}
        status = node_status(given, standing)
        self.node = node
        context.node_labels = node["metadata"].get("labels") or {}
        if same_report(status, standing) and not force:
            return
        was_ready = is_ready(standing)
        self.node = await client.update(NODES, {**node, "status": status}, subresource="status")
        context.allocatable = status["allocatable"]
        self._reported_at = asyncio.get_running_loop().time()
        if is_ready(status) != was_ready:
            reason = "NodeReady" if is_ready(status) else "NodeNotReady"
            context.recorder.event(self._reference(), "Normal", reason, f"Node {name} status is now: {reason}")

    async def _renew(self, lease: Object | None) -> Object:
        context = self._context
        client, name = context.client, context.config.node_name
        spec = {
            "holderIdentity": name,
            "leaseDurationSeconds": context.config.lease_duration_s,
            "renewTime": rfc3339_micro(context.clock()),
        }
        if lease is None:
            try:
                lease = await client.get(LEASES, name, LEASE_NAMESPACE)
            except StatusError as error:
                if not error.is_not_found:
                    raise
                return await client.create(LEASES, self._new_lease(name, spec))
        return await client.update(LEASES, {**lease, "spec": {**(lease.get("spec") or {}), **spec}})

    def _new_lease(self, name: str, spec: dict[str, object]) -> Object:
        metadata: dict[str, object] = {"name": name, "namespace": LEASE_NAMESPACE}
        if self.node is not None:
            metadata["ownerReferences"] = [
                {"apiVersion": "v1", "kind": "Node", "name": name, "uid": self.node["metadata"]["uid"]}
            ]
        return {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": metadata, "spec": spec}

    def _reference(self) -> Object:
        # Events about a node carry its name as uid: `kubectl describe node` asks for both.
        name = self._context.config.node_name
        return {"apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "uid": name}}
