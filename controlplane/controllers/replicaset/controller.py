"""The ReplicaSet controller: claims pods, creates and deletes them as `plan` says, writes the status."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence

from podnet.controlplane.api import meta
from podnet.controlplane.api.errors import StatusError
from podnet.controlplane.api.resources import PODS, REPLICASETS
from podnet.controlplane.api.selectors import from_label_selector_object
from podnet.controlplane.api.types import Object
from podnet.controlplane.client.expectations import Expectations
from podnet.controlplane.client.reconcile import DONE, Controller, Result
from podnet.controlplane.client.workqueue import WorkQueue
from podnet.controlplane.controllers.context import ControllerContext, handling
from podnet.controlplane.controllers.ownership import adopt_patch, plan_claim, release_patch
from podnet.controlplane.controllers.pods import is_active
from podnet.controlplane.controllers.replicaset.plan import (
    Failure,
    desired_pod,
    desired_status,
    next_available_s,
    plan_scale,
    slow_start_batches,
)

WORKERS = 5


class ReplicaSetController:
    """Keeps spec.replicas pods of every ReplicaSet."""

    def __init__(self, context: ControllerContext) -> None:
        self._context = context
        self._recorder = context.recorder.named("replicaset-controller")
        self._client = context.client
        self._replica_sets = context.informers.of(REPLICASETS)
        self._pods = context.informers.of(PODS)
        self._pods.add_indexer("controller-uid", _controller_uid)
        self._replica_sets.add_indexer("controller-uid", _controller_uid)
        self._queue = WorkQueue()
        self._expectations = Expectations()

    async def run(self) -> None:
        """Reconcile until cancelled."""
        with handling((self._replica_sets, self._on_replica_set), (self._pods, self._on_pod)):
            await self._context.informers.wait_synced(self._replica_sets, self._pods)
            await Controller("replicaset", self._queue, self.reconcile, workers=WORKERS).run()

    def _on_replica_set(self, key: str, old: Object | None, new: Object | None) -> None:
        if new is None or (old is not None and meta.uid(old) != meta.uid(new)):
            self._expectations.forget(key)
        self._queue.add(key)

    def _on_pod(self, key: str, old: Object | None, new: Object | None) -> None:
        for pod in (old, new):
            owner = self._owner_key(pod) if pod is not None else None
            if owner is None:
                continue
            if old is None and new is not None and not meta.is_terminating(new):
                self._expectations.creation_observed(owner)
            if new is None or meta.is_terminating(new):
                self._expectations.deletion_observed(owner, _identity(pod or {}))
            self._queue.add(owner)
        if new is not None and meta.controller_of(new) is None:
            self._wake_matching(new)
        del key

    def _owner_key(self, pod: Object) -> str | None:
        reference = meta.controller_of(pod)
        if reference is None or reference.get("kind") != "ReplicaSet":
            return None
        key = f"{meta.namespace(pod)}/{reference['name']}"
        owner = self._replica_sets.get(key)
        return key if owner is not None and meta.uid(owner) == reference.get("uid") else None

    def _wake_matching(self, orphan: Object) -> None:
        labels = orphan["metadata"].get("labels") or {}
        for replica_set in self._replica_sets.list(orphan["metadata"]["namespace"]):
            if from_label_selector_object(replica_set["spec"].get("selector")).matches(labels):
                self._queue.add(meta.key(replica_set))

    async def reconcile(self, key: str) -> Result:
        """One ReplicaSet: claim, scale, status."""
        replica_set = self._replica_sets.get(key)
        if replica_set is None:
            self._expectations.forget(key)
            return DONE
        now = self._context.clock()
        trusted = self._expectations.satisfied(key, now)
        pods = await self._claim(replica_set)
        active = [pod for pod in pods if is_active(pod)]
        failure: Failure | None = None
        if trusted:
            plan = plan_scale(replica_set, active, self._related(replica_set), now)
            if plan.create:
                failure = await self._create(key, replica_set, plan.create)
            elif plan.delete:
                failure = await self._delete(key, replica_set, plan.delete)
        await self._write_status(replica_set, active, failure, now)
        if failure is not None:
            raise StatusError(503, failure.reason, failure.message)
        return Result(next_available_s(replica_set, active, now))

    async def _claim(self, replica_set: Object) -> list[Object]:
        namespace = replica_set["metadata"]["namespace"]
        # Its own pods and the namespace's orphans: nobody else's can be of interest.
        orphans = self._pods.by_index("controller-uid", f"{namespace}/")
        claim = plan_claim(replica_set, [*self._pods.by_index("controller-uid", meta.uid(replica_set)), *orphans])
        owned = [*claim.owned]
        adopt = [pod for pod in claim.adopt if is_active(pod)]
        if adopt and await self._is_current(replica_set):
            owned += [await self._patch(pod, adopt_patch(replica_set, pod)) for pod in adopt]
        for pod in claim.release:
            with contextlib.suppress(StatusError):  # gone, or refused: the next event tells
                await self._patch(pod, release_patch(replica_set, pod))
        return owned

    async def _patch(self, pod: Object, patch: Object) -> Object:
        return await self._client.patch(PODS, meta.name(pod), meta.namespace(pod), patch, patch_type="strategic")

    async def _is_current(self, replica_set: Object) -> bool:
        """Adoption asks the server and not the cache: a deleted owner must not adopt."""
        metadata = replica_set["metadata"]
        live = await self._client.get(REPLICASETS, metadata["name"], metadata["namespace"])
        return meta.uid(live) == metadata["uid"] and not meta.is_terminating(live)

    def _related(self, replica_set: Object) -> list[Object]:
        controller = meta.controller_of(replica_set)
        family = [replica_set]
        if controller is not None:
            family = self._replica_sets.by_index("controller-uid", controller["uid"])
        return [pod for member in family for pod in self._pods.by_index("controller-uid", meta.uid(member))]

    async def _create(self, key: str, replica_set: Object, count: int) -> Failure | None:
        self._expectations.expect_creations(key, count, self._context.clock())
        remaining = count
        for batch in slow_start_batches(count):
            errors = await asyncio.gather(*(self._create_one(key, replica_set) for _ in range(batch)))
            remaining -= batch
            refused = next((error for error in errors if error is not None), None)
            if refused is not None:
                self._expectations.creation_observed(key, remaining)
                # A namespace that is going takes no pods; nobody needs to be told over and over.
                return None if _is_terminating(refused) else Failure("FailedCreate", refused.message)
        return None

    async def _create_one(self, key: str, replica_set: Object) -> StatusError | None:
        try:
            pod = await self._client.create(PODS, desired_pod(replica_set))
        except StatusError as error:
            self._expectations.creation_observed(key)
            if not _is_terminating(error):
                self._recorder.event(replica_set, "Warning", "FailedCreate", f"Error creating: {error.message}")
            return error
        name = pod["metadata"]["name"]
        self._recorder.event(replica_set, "Normal", "SuccessfulCreate", f"Created pod: {name}")
        return None

    async def _delete(self, key: str, replica_set: Object, pods: Sequence[Object]) -> Failure | None:
        self._expectations.expect_deletions(key, [_identity(pod) for pod in pods], self._context.clock())
        errors = await asyncio.gather(*(self._delete_one(key, replica_set, pod) for pod in pods))
        refused = next((error for error in errors if error is not None), None)
        return None if refused is None else Failure("FailedDelete", refused.message)

    async def _delete_one(self, key: str, replica_set: Object, pod: Object) -> StatusError | None:
        metadata = pod["metadata"]
        try:
            await self._client.delete(PODS, metadata["name"], metadata["namespace"], uid=metadata["uid"])
        except StatusError as error:
            self._expectations.deletion_observed(key, _identity(pod))
            if error.is_not_found or error.is_conflict:
                return None
            message = f"Error deleting: {error.message}"
            self._recorder.event(replica_set, "Warning", "FailedDelete", message)
            return error
        self._recorder.event(replica_set, "Normal", "SuccessfulDelete", f"Deleted pod: {metadata['name']}")
        return None

    async def _write_status(
        self, replica_set: Object, active: Sequence[Object], failure: Failure | None, now: float
    ) -> None:
        status = desired_status(replica_set, active, failure, now)
        if status != replica_set.get("status"):
            await self._client.update(REPLICASETS, {**replica_set, "status": status}, subresource="status")


def _controller_uid(obj: Object) -> list[str]:
    """Index function: the controller's uid; orphans stand under their namespace."""
    reference = meta.controller_of(obj)
    return [f"{meta.namespace(obj)}/"] if reference is None else [str(reference.get("uid"))]


def _identity(pod: Object) -> str:
    return f"{meta.key(pod)}/{meta.uid(pod)}"


def _is_terminating(error: StatusError) -> bool:
    causes = (error.details or {}).get("causes") or ()
    return error.code == 403 and any(cause.get("reason") == "NamespaceTerminating" for cause in causes)
