"""The disruption controller: keeps the status of every PodDisruptionBudget, by which evictions are allowed or refused."""

from __future__ import annotations

from collections.abc import Sequence

from podnet.controlplane.api import meta
from podnet.controlplane.api.resources import (
    DEPLOYMENTS,
    PODDISRUPTIONBUDGETS,
    PODS,
    REPLICASETS,
    REPLICATIONCONTROLLERS,
    STATEFULSETS,
)
from podnet.controlplane.api.selectors import from_label_selector_object
from podnet.controlplane.api.types import Object
from podnet.controlplane.client.reconcile import DONE, Controller, Result
from podnet.controlplane.client.workqueue import WorkQueue
from podnet.controlplane.controllers.context import ControllerContext, handling
from podnet.controlplane.controllers.disruption.plan import (
    NoScaleError,
    counts_controllers,
    desired_status,
    failed_status,
    recheck_after_s,
)

_SCALED = {resource.kind: resource for resource in (REPLICASETS, REPLICATIONCONTROLLERS, STATEFULSETS, DEPLOYMENTS)}
_UNSCALED = {"DaemonSet": "daemonsets.apps", "Job": "jobs.batch", "Node": "nodes"}
UNMANAGED = (
    "Pods selected by this PodDisruptionBudget were found to be unmanaged. As a result, the status of the PDB cannot be "
    "calculated correctly, which may result in undefined behavior. To account for these pods please set "
    '".spec.minAvailable" field of the PDB to an integer value.'
)


class DisruptionController:
    """Counts, for every budget, what may be disturbed."""

    def __init__(self, context: ControllerContext) -> None:
        self._context = context
        self._recorder = context.recorder.named("controllermanager")
        self._client = context.client
        self._budgets = context.informers.of(PODDISRUPTIONBUDGETS)
        self._pods = context.informers.of(PODS)
        self._scaled = {kind: context.informers.of(resource) for kind, resource in _SCALED.items()}
        self._queue = WorkQueue()

    async def run(self) -> None:
        """Reconcile until cancelled."""
        scaled = [(informer, self._on_owner) for informer in self._scaled.values()]
        with handling((self._budgets, self._on_budget), (self._pods, self._on_pod), *scaled):
            informers = (self._budgets, self._pods, *self._scaled.values())
            await self._context.informers.wait_synced(*informers)
            await Controller("disruption", self._queue, self.reconcile).run()

    def _on_budget(self, key: str, _old: Object | None, _new: Object | None) -> None:
        self._queue.add(key)

    def _on_pod(self, _key: str, old: Object | None, new: Object | None) -> None:
        for pod in (old, new):
            if pod is None:
                continue
            for budget in self._budgets.list(meta.namespace(pod)):
                if from_label_selector_object(budget["spec"].get("selector")).matches(meta.labels(pod)):
                    self._queue.add(meta.key(budget))

    def _on_owner(self, _key: str, old: Object | None, new: Object | None) -> None:
        """A controller that is scaled wants another number of pods."""
        if old is not None and new is not None and old["spec"].get("replicas") == new["spec"].get("replicas"):
            return
        for budget in self._budgets.list(meta.namespace(new or old or {})):
            self._queue.add(meta.key(budget))

    async def reconcile(self, key: str) -> Result:
        """One budget's status."""
        budget = self._budgets.get(key)
        if budget is None:
            return DONE
        selector = from_label_selector_object(budget["spec"].get("selector"))
        pods = [pod for pod in self._pods.list(meta.namespace(budget)) if selector.matches(meta.labels(pod))]
        if not pods:
            self._recorder.event(budget, "Normal", "NoPods", "No matching pods found")
        now = self._context.clock()
        try:
            status = desired_status(budget, pods, self._scale, now)
        except NoScaleError as error:
            message = f"Failed to calculate the number of expected pods: {error}"
            self._recorder.event(budget, "Warning", "CalculateExpectedPodCountFailed", message)
            status = failed_status(budget, str(error), now)
        else:
            self._tell_unmanaged(budget, pods)
        if status != budget.get("status"):
            # Conditional on what was read: an eviction that was allowed meanwhile must not be forgotten.
            await self._client.update(PODDISRUPTIONBUDGETS, {**budget, "status": status}, subresource="status")
        return Result(recheck_after_s(status, now))

    def _tell_unmanaged(self, budget: Object, pods: Sequence[Object]) -> None:
        if counts_controllers(budget) and any(meta.controller_of(pod) is None for pod in pods):
            self._recorder.event(budget, "Warning", "UnmanagedPods", UNMANAGED)

    def _scale(self, pod: Object) -> tuple[str, int] | None:
        """The pod's controller, or that one's controller where it has one: a Deployment for its ReplicaSets."""
        reference = meta.controller_of(pod)
        if reference is not None and reference.get("kind") in _UNSCALED:
            raise NoScaleError(f"{_UNSCALED[reference['kind']]} does not implement the scale subresource")
        owner = self._owner(pod)
        if owner is None:
            return None
        owner = self._owner(owner) or owner
        return meta.uid(owner), int(owner["spec"].get("replicas", 1))

    def _owner(self, obj: Object) -> Object | None:
        reference = meta.controller_of(obj)
        informer = self._scaled.get(str(reference.get("kind"))) if reference is not None else None
        if reference is None or informer is None:
            return None
        owner = informer.get(f"{meta.namespace(obj)}/{reference['name']}")
        return owner if owner is not None and meta.uid(owner) == reference.get("uid") else None
