"""The node lifecycle controller: a node whose lease is not renewed becomes Unknown, tainted, and its pods not ready."""

from __future__ import annotations

import asyncio

from podnet.controlplane.api import meta
from podnet.controlplane.api.errors import StatusError
from podnet.controlplane.api.resources import LEASES, NODES, PODS
from podnet.controlplane.api.timestamps import format_time
from podnet.controlplane.api.types import Object
from podnet.controlplane.client.reconcile import DONE, Controller, Result
from podnet.controlplane.client.workqueue import WorkQueue
from podnet.controlplane.controllers.context import ControllerContext, handling
from podnet.controlplane.controllers.nodelifecycle.plan import (
    Eviction,
    Heartbeat,
    desired_taints,
    observe_heartbeat,
    plan_eviction,
    unknown_conditions,
    zone_of,
)
from podnet.controlplane.controllers.pods import by_node_name, is_ready

LEASE_NAMESPACE = "kube-node-lease"


class NodeLifecycleController:
    """One key per node; a timer per node instead of a poll: the grace period is kept to the millisecond."""

    def __init__(self, context: ControllerContext) -> None:
        self._context = context
        self._recorder = context.recorder.named("node-controller")
        self._client = context.client
        self._nodes = context.informers.of(NODES)
        self._leases = context.informers.of(LEASES, LEASE_NAMESPACE)
        self._pods = context.informers.of(PODS)
        self._pods.add_indexer("node-name", by_node_name)
        self._queue = WorkQueue()
        self._heartbeats: dict[str, Heartbeat] = {}
        self._eviction: dict[str, Eviction] = {}

    async def run(self) -> None:
        """Reconcile until cancelled."""
        with handling((self._nodes, self._on_node), (self._leases, self._on_lease), (self._pods, self._on_pod)):
            await self._context.informers.wait_synced(self._nodes, self._leases, self._pods)
            await Controller("nodelifecycle", self._queue, self.reconcile, workers=4).run()

    def _on_node(self, key: str, old: Object | None, new: Object | None) -> None:
        self._queue.add(key)
        if old is None and new is not None and key not in self._heartbeats:
            self._tell(new, "Normal", "RegisteredNode", f"Node {key} event: Registered Node {key} in Controller")
        elif new is None and old is not None:
            self._tell(old, "Normal", "RemovingNode", f"Node {key} event: Removing Node {key} from Controller")

    def _on_lease(self, key: str, _old: Object | None, _new: Object | None) -> None:
        self._queue.add(meta.split_key(key)[1])

    def _on_pod(self, _key: str, _old: Object | None, new: Object | None) -> None:
        """A pod that arrives late on a lost node is no more ready than the others."""
        if new is not None and new["spec"].get("nodeName") in self._heartbeats and is_ready(new):
            node = self._nodes.get(new["spec"]["nodeName"])
            if node is not None and _ready_status(node) == "Unknown":
                self._queue.add(meta.key(node))

    def _tell(self, node: Object, kind: str, reason: str, message: str) -> None:
        self._recorder.event(node, "Normal" if kind == "Normal" else "Warning", reason, message)

    async def reconcile(self, key: str) -> Result:
        """One node: heartbeat, conditions, taints, its pods."""
        node = self._nodes.get(key)
        if node is None:
            self._heartbeats.pop(key, None)
            return DONE
        now = asyncio.get_running_loop().time()
        lease = self._leases.get(f"{LEASE_NAMESPACE}/{key}")
        heartbeat = self._heartbeats[key] = observe_heartbeat(self._heartbeats.get(key), node, lease, now)
        grace_s = self._context.config.node_monitor_grace_period_s
        # While the server was away nobody could send a heartbeat: the grace starts anew.
        silent_s = min(now - heartbeat.seen, self._leases.undisturbed_s(), self._nodes.undisturbed_s())
        if silent_s >= grace_s:
            node = await self._mark_unknown(node)
        await self._taint(node)
        if _ready_status(node) == "Unknown":
            await self._mark_pods_not_ready(key)
        return Result(max(grace_s - silent_s, 0.01) if silent_s < grace_s else None)

    async def _mark_unknown(self, node: Object) -> Object:
        conditions = unknown_conditions(node, self._context.clock())
        status = node.get("status") or {}
        if conditions == (status.get("conditions") or []):
            return node
        was_ready = _ready_status(node) == "True"
        updated = {**node, "status": {**status, "conditions": conditions}}
        updated = await self._client.update(NODES, updated, subresource="status")
        if was_ready:
            name = meta.name(node)
            self._tell(node, "Normal", "NodeNotReady", f"Node {name} status is now: NodeNotReady")
        return updated

    async def _taint(self, node: Object) -> None:
        spec = node.get("spec") or {}
        self._plan_eviction()
        taints = desired_taints(node, self._context.clock(), self._eviction.get(zone_of(node), "on"))
        if taints == (spec.get("taints") or []):
            return
        changed = {**spec, "taints": taints}
        if not taints:
            del changed["taints"]
        await self._client.update(NODES, {**node, "spec": changed})

    def _plan_eviction(self) -> None:
        """Whether a zone's nodes lose their pods depends on all of them: on a change all are looked at again."""
        plan = plan_eviction(self._nodes.list())
        if plan != self._eviction:
            self._eviction = plan
            for key in self._nodes.cache:
                self._queue.add(key)

    async def _mark_pods_not_ready(self, node_name: str) -> None:
        stamp = format_time(self._context.clock())
        condition = {"type": "Ready", "status": "False", "lastTransitionTime": stamp}
        for pod in self._pods.by_index("node-name", node_name):
            if not is_ready(pod):
                continue
            patch = {"metadata": {"uid": meta.uid(pod)}, "status": {"conditions": [condition]}}
            try:
                await self._client.patch(
                    PODS, meta.name(pod), meta.namespace(pod), patch, patch_type="strategic", subresource="status"
                )
            except StatusError as error:
                if not (error.is_not_found or error.is_conflict):
                    raise
            else:
                self._recorder.event(pod, "Warning", "NodeNotReady", "Node is not ready")


def _ready_status(node: Object) -> str:
    return str((meta.get_condition(node, "Ready") or {}).get("status", ""))
