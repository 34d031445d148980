"""Pod garbage: pods of nodes that are gone or out of service, pods that end before they began, and too many finished ones.

A node that is lost cannot say that its pods have ended; the taint `out-of-service` is an administrator's word for it.

Source: kubernetes pkg/controller/podgc/gc_controller.go.
"""

from __future__ import annotations

from collections.abc import Iterable

from podnet.controlplane.api import meta
from podnet.controlplane.api.errors import StatusError
from podnet.controlplane.api.resources import NODES, PODS
from podnet.controlplane.api.timestamps import format_time
from podnet.controlplane.api.types import Object
from podnet.controlplane.client.reconcile import DONE, Controller, Result
from podnet.controlplane.client.workqueue import WorkQueue
from podnet.controlplane.controllers.context import ControllerContext, handling
from podnet.controlplane.controllers.pods import by_node_name, is_terminal

TERMINATED_THRESHOLD = 12_500
"""Upstream's --terminated-pod-gc-threshold."""
OUT_OF_SERVICE = "node.kubernetes.io/out-of-service"
_TERMINATED = "terminated"


def excess_terminated(pods: Iterable[Object], threshold: int) -> list[Object]:
    """The oldest finished pods beyond the threshold."""
    finished = [pod for pod in pods if is_terminal(pod) and not meta.is_terminating(pod)]
    excess = len(finished) - threshold
    if excess <= 0:
        return []
    return sorted(finished, key=lambda pod: (meta.metadata(pod).get("creationTimestamp", ""), meta.name(pod)))[:excess]


def is_out_of_service(node: Object | None) -> bool:
    """Not ready, and somebody has said that it is off: what was to end there has ended."""
    if node is None or meta.condition_is_true(node, "Ready"):
        return False
    return any(taint.get("key") == OUT_OF_SERVICE for taint in (node.get("spec") or {}).get("taints") or ())


class PodGCController:
    """One key per pod, and one for the finished ones together."""

    def __init__(self, context: ControllerContext, *, threshold: int = TERMINATED_THRESHOLD) -> None:
        self._context = context
        self._client = context.client
        self._threshold = threshold
        self._nodes = context.informers.of(NODES)
        self._pods = context.informers.of(PODS)
        self._pods.add_indexer("node-name", by_node_name)
        self._pods.add_indexer("terminal", lambda pod: ["yes"] if is_terminal(pod) else [])
        self._queue = WorkQueue()
        self._orphaned_since: dict[str, float] = {}

    async def run(self) -> None:
        """Reconcile until cancelled."""
        with handling((self._nodes, self._on_node), (self._pods, self._on_pod)):
            await self._context.informers.wait_synced(self._nodes, self._pods)
            for pod in self._pods.list():
                self._on_pod(meta.key(pod), None, pod)
            await Controller("podgc", self._queue, self.reconcile, workers=4).run()

    def _on_node(self, key: str, old: Object | None, new: Object | None) -> None:
        if new is None or (is_out_of_service(new) and not is_out_of_service(old)):
            for pod in self._pods.by_index("node-name", key):
                self._queue.add(meta.key(pod))

    def _on_pod(self, key: str, _old: Object | None, new: Object | None) -> None:
        if new is None:
            self._orphaned_since.pop(key, None)
            return
        node = new["spec"].get("nodeName")
        if (node and self._nodes.has_synced and node not in self._nodes.cache) or (
            not node and meta.is_terminating(new)
        ):
            self._queue.add(key)
        if node and meta.is_terminating(new) and is_out_of_service(self._nodes.get(node)):
            self._queue.add(key)
        if is_terminal(new) and len(self._pods.by_index("terminal", "yes")) > self._threshold:
            self._queue.add(_TERMINATED)

    async def reconcile(self, key: str) -> Result:
        """One pod, or the finished ones."""
        if key == _TERMINATED:
            for excess in excess_terminated(self._pods.by_index("terminal", "yes"), self._threshold):
                await self._delete(excess)
            return DONE
        pod = self._pods.get(key)
        if pod is None:
            return DONE
        node = pod["spec"].get("nodeName")
        if not node:
            if meta.is_terminating(pod):
                await self._delete(pod)
            return DONE
        if node in self._nodes.cache:
            self._orphaned_since.pop(key, None)
            if meta.is_terminating(pod) and is_out_of_service(self._nodes.get(node)):
                await self._fail(pod)
                await self._delete(pod)
            return DONE
        return await self._collect_orphan(key, pod, node)

    async def _collect_orphan(self, key: str, pod: Object, node: str) -> Result:
        now = self._context.clock()
        # A node that registers again in time keeps its pods.
        due = self._orphaned_since.setdefault(key, now) + self._context.config.node_monitor_grace_period_s
        if due > now:
            return Result(due - now)
        try:
            await self._client.get(NODES, node)
        except StatusError as error:
            if not error.is_not_found:
                raise
        else:
            return Result(1.0)
        condition = {
            "type": "DisruptionTarget",
            "status": "True",
            "reason": "DeletionByPodGC",
            "message": "PodGC: node no longer exists",
            "lastTransitionTime": format_time(self._context.clock()),
        }
        await self._fail(pod, condition)
        await self._delete(pod)
        return DONE

    async def _fail(self, pod: Object, *conditions: Object) -> None:
        """Nobody will report this pod's end: say it here, so that its owner counts it as failed."""
        status: Object = {"conditions": [*conditions]} if conditions else {}
        if not is_terminal(pod):
            status["phase"] = "Failed"
        if not status:
            return
        patch = {"metadata": {"uid": meta.uid(pod)}, "status": status}
        try:
            await self._client.patch(
                PODS, meta.name(pod), meta.namespace(pod), patch, patch_type="strategic", subresource="status"
            )
        except StatusError as error:
            if not (error.is_not_found or error.is_conflict):
                raise

    async def _delete(self, pod: Object) -> None:
        try:
            await self._client.delete(PODS, meta.name(pod), meta.namespace(pod), grace_period_s=0, uid=meta.uid(pod))
        except StatusError as error:
            if not (error.is_not_found or error.is_conflict):
                raise
