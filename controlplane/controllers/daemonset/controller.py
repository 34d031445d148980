"""The DaemonSet controller: claims pods, keeps the history, creates and deletes as `plan` says, writes the status."""

from __future__ import annotations

from collections.abc import Sequence

from podnet.controlplane.api import meta
from podnet.controlplane.api.errors import StatusError
from podnet.controlplane.api.resources import DAEMONSETS, NODES
from podnet.controlplane.api.types import Object
from podnet.controlplane.client.backoff import Backoff
from podnet.controlplane.client.informer import Handler, Informer
from podnet.controlplane.client.reconcile import DONE, Result
from podnet.controlplane.controllers.context import ControllerContext
from podnet.controlplane.controllers.daemonset.placement import desired_pod, node_wanted, pods_by_node
from podnet.controlplane.controllers.daemonset.plan import (
    Step,
    View,
    desired_status,
    is_rolling,
    plan_presence,
    plan_rolling,
)
from podnet.controlplane.controllers.history import REVISION_HASH
from podnet.controlplane.controllers.podowner import PodOwner
from podnet.controlplane.controllers.pods import next_available_s
from podnet.controlplane.controllers.replicaset.plan import BURST_REPLICAS
from podnet.controlplane.controllers.revisions import RevisionHistory

FAILED_POD = Backoff(base_s=1.0, max_s=900.0)
"""A daemon that fails at once is not started in a tight loop; upstream's figures."""


class DaemonSetController(PodOwner):
    """Keeps one pod of every DaemonSet on every node it wants."""

    def __init__(self, context: ControllerContext) -> None:
        super().__init__(context, DAEMONSETS, "daemonset-controller")
        self._nodes = context.informers.of(NODES)
        self._history = RevisionHistory(context, DAEMONSETS, REVISION_HASH)
        self._failures: dict[tuple[str, str], tuple[int, float]] = {}

    def more_handlers(self) -> Sequence[tuple[Informer, Handler]]:
        """Nodes come and go, and change their labels and taints."""
        return [(self._nodes, self._on_node), (self._history.informer, lambda _key, _old, _new: None)]

    def _on_node(self, _key: str, old: Object | None, new: Object | None) -> None:
        for daemon_set in self.owners.list():
            before = node_wanted(daemon_set, old) if old is not None else None
            after = node_wanted(daemon_set, new) if new is not None else None
            if before != after:
                self.queue.add(meta.key(daemon_set))

    async def reconcile(self, key: str) -> Result:
        """One DaemonSet: history, pods, status."""
        daemon_set = self.owners.get(key)
        if daemon_set is None:
            self.expectations.forget(key)
            self._failures = {entry: count for entry, count in self._failures.items() if entry[0] != key}
            return DONE
        if daemon_set["spec"].get("selector") == {}:
            message = "This daemon set is selecting all pods. A non-empty selector is required."
            self.recorder.event(daemon_set, "Warning", "SelectingAll", message)
            return DONE
        if meta.is_terminating(daemon_set):
            return DONE
        now = self.context.clock()
        trusted = self.expectations.satisfied(key, now)
        revisions = await self._history.sync(daemon_set)
        current = revisions.current or {}
        pods = pods_by_node(await self.claim_pods(daemon_set))
        wanted = {meta.name(node): node_wanted(daemon_set, node) for node in self._nodes.list()}
        view = View(daemon_set, wanted, pods, meta.labels(current).get(REVISION_HASH, ""), now)
        refused, retry_s = await self._advance(key, view) if trusted else (None, None)
        in_use = {f"{meta.name(daemon_set)}-{meta.labels(p).get(REVISION_HASH)}" for g in pods.values() for p in g}
        await self._history.truncate(daemon_set, revisions, in_use)
        await self.write_status(daemon_set, desired_status(view))
        if refused is not None:
            raise refused
        everyone = [pod for group in pods.values() for pod in group]
        available_s = next_available_s(everyone, view.min_ready_s, now)
        moments = [moment for moment in (retry_s, available_s) if moment is not None]
        return Result(min(moments) if moments else None)

    async def _advance(self, key: str, view: View) -> tuple[StatusError | None, float | None]:
        """Take one step: pods where they belong first, the rollout when nothing is left to do there."""
        waiting: list[float] = []

        def may_retry(node: str) -> bool:
            wait_s = self._retry_in_s(key, node, view.now)
            waiting.append(wait_s)
            return wait_s <= 0

        step = plan_presence(view, may_retry)
        for pod in step.dead:
            self._tell_dead(key, view, pod)
        if not step.create and not step.delete and is_rolling(view.daemon_set):
            step = plan_rolling(view)
        refused = await self._take(key, view, step)
        pending = [wait_s for wait_s in waiting if wait_s > 0]
        return refused, min(pending) if pending else None

    async def _take(self, key: str, view: View, step: Step) -> StatusError | None:
        daemon_set = view.daemon_set
        bodies = [desired_pod(daemon_set, node, view.revision_hash) for node in step.create[:BURST_REPLICAS]]
        refused = await self.create_pods(key, daemon_set, bodies)
        return await self.delete_pods(key, daemon_set, step.delete[:BURST_REPLICAS]) or refused

    def _retry_in_s(self, key: str, node: str, now: float) -> float:
        count, since = self._failures.get((key, node), (0, 0.0))
        return since + FAILED_POD.delay_s(count - 1) - now if count else 0.0

    def _tell_dead(self, key: str, view: View, pod: Object) -> None:
        node, name = pod["spec"].get("nodeName", ""), meta.name(pod)
        if (pod.get("status") or {}).get("phase") == "Failed":
            count, since = self._failures.get((key, node), (0, 0.0))
            fresh = view.now - since > 2 * FAILED_POD.max_s
            self._failures[key, node] = (1 if fresh else count + 1, view.now)
            message = f"Found failed daemon pod {meta.namespace(pod)}/{name} on node {node}, will try to kill it"
            self.recorder.event(view.daemon_set, "Warning", "FailedDaemonPod", message)
        else:
            message = f"Found succeeded daemon pod {meta.namespace(pod)}/{name} on node {node}, will try to delete it"
            self.recorder.event(view.daemon_set, "Normal", "SucceededDaemonPod", message)
