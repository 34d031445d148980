"""Taint eviction: pods leave a node that has NoExecute taints they do not (or no longer) tolerate.

Source: kubernetes pkg/controller/tainteviction.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from podnet.controlplane.api import meta
from podnet.controlplane.api.errors import StatusError
from podnet.controlplane.api.resources import NODES, PODS
from podnet.controlplane.api.timestamps import format_time, parse_time
from podnet.controlplane.api.types import Object
from podnet.controlplane.client.reconcile import DONE, Controller, Result
from podnet.controlplane.client.taints import toleration_seconds
from podnet.controlplane.client.workqueue import WorkQueue
from podnet.controlplane.controllers.context import ControllerContext, handling
from podnet.controlplane.controllers.pods import by_node_name


def no_execute_taints(node: Object) -> list[Mapping[str, Any]]:
    """The taints that drive pods away."""
    return [taint for taint in (node.get("spec") or {}).get("taints") or () if taint.get("effect") == "NoExecute"]


def eviction_due(
    taints: Sequence[Mapping[str, Any]], tolerations: Sequence[Mapping[str, Any]], since: float
) -> float | None:
    """When the pod has to go, None when it may stay; `since` is used for a taint that does not say when it was added."""
    due: float | None = None
    for taint in taints:
        seconds = toleration_seconds([taint], tolerations)
        if seconds is None:
            continue
        if seconds == 0:
            return since
        added = parse_time(taint["timeAdded"]) if taint.get("timeAdded") else since
        due = added + seconds if due is None else min(due, added + seconds)
    return due


class TaintEvictionController:
    """One key per pod."""

    def __init__(self, context: ControllerContext) -> None:
        self._context = context
        self._recorder = context.recorder.named("taint-eviction-controller")
        self._client = context.client
        self._nodes = context.informers.of(NODES)
        self._pods = context.informers.of(PODS)
        self._pods.add_indexer("node-name", by_node_name)
        self._queue = WorkQueue()
        self._since: dict[str, float] = {}

    async def run(self) -> None:
        """Reconcile until cancelled."""
        with handling((self._nodes, self._on_node), (self._pods, self._on_pod)):
            await self._context.informers.wait_synced(self._nodes, self._pods)
            await Controller("taint-eviction", self._queue, self.reconcile, workers=4).run()

    def _on_node(self, key: str, old: Object | None, new: Object | None) -> None:
        before = no_execute_taints(old) if old is not None else []
        if (no_execute_taints(new) if new is not None else []) != before:
            for pod in self._pods.by_index("node-name", key):
                self._queue.add(meta.key(pod))

    def _on_pod(self, key: str, _old: Object | None, new: Object | None) -> None:
        if new is None:
            self._since.pop(key, None)
            return
        node = self._nodes.get(new["spec"].get("nodeName", ""))
        if node is not None and no_execute_taints(node):
            self._queue.add(key)

    async def reconcile(self, key: str) -> Result:
        """One pod: stays, stays for a while, or goes."""
        pod = self._pods.get(key)
        if pod is None or meta.is_terminating(pod):
            self._since.pop(key, None)
            return DONE
        node = self._nodes.get(pod["spec"].get("nodeName", ""))
        taints = no_execute_taints(node) if node is not None else []
        if not taints:
            if self._since.pop(key, None) is not None:
                message = f"Cancelling deletion of Pod {key}"
                self._recorder.event(pod, "Normal", "TaintManagerEviction", message)
            return DONE
        now = self._context.clock()
        since = self._since.setdefault(key, now)
        due = eviction_due(taints, pod["spec"].get("tolerations") or (), since)
        if due is None:
            self._since.pop(key, None)
            return DONE
        if due > now:
            return Result(due - now)
        await self._evict(key, pod)
        return DONE

    async def _evict(self, key: str, pod: Object) -> None:
        message = f"Marking for deletion Pod {key}"
        self._recorder.event(pod, "Normal", "TaintManagerEviction", message)
        condition = {
            "type": "DisruptionTarget",
            "status": "True",
            "reason": "DeletionByTaintManager",
            "message": "Taint manager: deleting due to NoExecute taint",
            "lastTransitionTime": format_time(self._context.clock()),
        }
        name, namespace = meta.name(pod), meta.namespace(pod)
        patch = {"metadata": {"uid": meta.uid(pod)}, "status": {"conditions": [condition]}}
        try:
            await self._client.patch(PODS, name, namespace, patch, patch_type="strategic", subresource="status")
            await self._client.delete(PODS, name, namespace, uid=meta.uid(pod))
        except StatusError as error:
            if not (error.is_not_found or error.is_conflict):
                raise
        self._since.pop(key, None)
