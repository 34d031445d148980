"""The ReplicaSet controller: claims pods, creates and deletes them as `plan` says, writes the status.

A ReplicationController is a ReplicaSet with another form of selector: the same code keeps both.
"""

from __future__ import annotations

from podnet.controlplane.api import meta
from podnet.controlplane.api.errors import StatusError
from podnet.controlplane.api.resources import REPLICASETS
from podnet.controlplane.api.types import Object, Resource
from podnet.controlplane.client.reconcile import DONE, Result
from podnet.controlplane.controllers.context import ControllerContext
from podnet.controlplane.controllers.podowner import PodOwner, by_controller_uid
from podnet.controlplane.controllers.pods import is_active, next_available_s
from podnet.controlplane.controllers.replicaset.plan import (
    Failure,
    desired_pod,
    desired_status,
    plan_scale,
)


class ReplicaSetController(PodOwner):
    """Keeps spec.replicas pods of every ReplicaSet (or ReplicationController)."""

    def __init__(self, context: ControllerContext, resource: Resource = REPLICASETS) -> None:
        component = "replicaset-controller" if resource == REPLICASETS else "replication-controller"
        super().__init__(context, resource, component)
        self.owners.add_indexer("controller-uid", by_controller_uid)

    async def reconcile(self, key: str) -> Result:
        """One ReplicaSet: claim, scale, status."""
        replica_set = self.owners.get(key)
        if replica_set is None:
            self.expectations.forget(key)
            return DONE
        now = self.context.clock()
        trusted = self.expectations.satisfied(key, now)
        active = [pod for pod in await self.claim_pods(replica_set) if is_active(pod)]
        failure: Failure | None = None
        if trusted:
            plan = plan_scale(replica_set, active, self._related(replica_set), now)
            bodies = [desired_pod(replica_set) for _ in range(plan.create)]
            failure = _failure("FailedCreate", await self.create_pods(key, replica_set, bodies))
            failure = failure or _failure("FailedDelete", await self.delete_pods(key, replica_set, plan.delete))
        await self.write_status(replica_set, desired_status(replica_set, active, failure, now))
        if failure is not None:
            raise StatusError(503, failure.reason, failure.message)
        min_ready_s = int(replica_set["spec"].get("minReadySeconds", 0))
        return Result(next_available_s(active, min_ready_s, now))

    def _related(self, replica_set: Object) -> list[Object]:
        controller = meta.controller_of(replica_set)
        family = [replica_set]
        if controller is not None:
            family = self.owners.by_index("controller-uid", controller["uid"])
        return [pod for member in family for pod in self.pods.by_index("controller-uid", meta.uid(member))]


def _failure(reason: str, error: StatusError | None) -> Failure | None:
    return None if error is None else Failure(reason, error.message)
