"""The node IPAM controller: writes spec.podCIDR and spec.podCIDRs of every node once."""

from __future__ import annotations

from ipaddress import ip_network

from podnet.controlplane.api import meta
from podnet.controlplane.api.resources import NODES
from podnet.controlplane.api.types import Object
from podnet.controlplane.client.reconcile import DONE, Controller, Result
from podnet.controlplane.client.workqueue import WorkQueue
from podnet.controlplane.controllers.context import ControllerContext, handling
from podnet.controlplane.controllers.nodeipam.plan import plan_subnet, pod_cidr_of, used_subnets


class NodeIPAMController:
    """One worker only: two subnets chosen at once could be the same."""

    def __init__(self, context: ControllerContext) -> None:
        self._context = context
        self._recorder = context.recorder.named("cidrAllocator")
        self._nodes = context.informers.of(NODES)
        self._queue = WorkQueue()
        self._reserved: dict[str, str] = {}
        self._cluster = ip_network(context.config.pod_cidr)

    async def run(self) -> None:
        """Reconcile until cancelled."""
        with handling((self._nodes, self._on_node)):
            await self._nodes.wait_synced()
            await Controller("nodeipam", self._queue, self.reconcile).run()

    def _on_node(self, key: str, _old: Object | None, new: Object | None) -> None:
        if new is None:
            self._reserved.pop(key, None)
            # A freed subnet may be what a node without one waits for.
            for node in self._nodes.list():
                if not pod_cidr_of(node):
                    self._queue.add(meta.key(node))
        elif not pod_cidr_of(new):
            self._queue.add(key)
        else:
            self._reserved.pop(key, None)

    async def reconcile(self, key: str) -> Result:
        """One node without a subnet."""
        node = self._nodes.get(key)
        if node is None or pod_cidr_of(node) or meta.is_terminating(node):
            return DONE
        subnet = self._reserved.get(key)
        if subnet is None:
            used = used_subnets(self._nodes.list(), self._reserved)
            chosen = plan_subnet(self._cluster, self._context.config.node_cidr_mask_size, used)
            if chosen is None:
                message = f"Node {key} status is now: CIDRNotAvailable"
                self._recorder.event(node, "Normal", "CIDRNotAvailable", message)
                return Result(requeue_after_s=30.0)
            subnet = self._reserved[key] = str(chosen)
        # Not a merge patch: the version makes sure that nobody gave the node another subnet meanwhile.
        spec = {**(node.get("spec") or {}), "podCIDR": subnet, "podCIDRs": [subnet]}
        await self._context.client.update(NODES, {**node, "spec": spec})
        return DONE
