"""The Deployment controller: claims ReplicaSets, creates the new one, resizes as `plan` says, writes the status."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from podnet.controlplane.api import meta
from podnet.controlplane.api.errors import StatusError
from podnet.controlplane.api.resources import DEPLOYMENTS, PODS, REPLICASETS
from podnet.controlplane.api.selectors import from_label_selector_object
from podnet.controlplane.api.types import Object
from podnet.controlplane.client.reconcile import DONE, Controller, Result
from podnet.controlplane.client.workqueue import WorkQueue
from podnet.controlplane.controllers.context import ControllerContext, handling
from podnet.controlplane.controllers.deployment import status as statuses
from podnet.controlplane.controllers.deployment.plan import (
    Resize,
    is_scaling,
    new_size,
    plan_recreate,
    plan_rolling,
    plan_scaling,
    replicas_of,
    resolve_limits,
)
from podnet.controlplane.controllers.deployment.revision import (
    REVISION,
    annotations_of,
    new_annotations,
    next_revision,
    plan_cleanup,
    replica_annotations,
    revision_of,
)
from podnet.controlplane.controllers.deployment.template import (
    POD_TEMPLATE_HASH,
    find_new,
    same_template,
    template_hash,
)
from podnet.controlplane.controllers.ownership import adopt_patch, plan_claim, release_patch
from podnet.controlplane.controllers.podowner import is_namespace_terminating
from podnet.controlplane.controllers.pods import is_terminal

WORKERS = 5
CREATE_ERROR = "ReplicaSetCreateError"


@dataclass(slots=True)
class _Rollout:
    """One Deployment in one pass: `deployment` is replaced as conditions are noted, the others as they are written."""

    deployment: Object
    new: Object | None
    old: list[Object]

    @property
    def everyone(self) -> list[Object]:
        return [*self.old, *([self.new] if self.new is not None else [])]

    def replace(self, replica_set: Object) -> None:
        """Put a written ReplicaSet in the place of its former self."""
        uid = meta.uid(replica_set)
        if self.new is not None and meta.uid(self.new) == uid:
            self.new = replica_set
        self.old = [replica_set if meta.uid(member) == uid else member for member in self.old]

    def note(self, status: str, reason: str, message: str, now: float) -> None:
        """Set the condition Progressing, to be written with the status."""
        if statuses.has_deadline(self.deployment):
            current = self.deployment.get("status") or {}
            conditions = statuses.with_progressing(current.get("conditions") or [], status, reason, message, now)
            self.deployment = {**self.deployment, "status": {**current, "conditions": conditions}}


class DeploymentController:
    """Rolls every Deployment towards its template."""

    def __init__(self, context: ControllerContext) -> None:
        self._context = context
        self._recorder = context.recorder.named("deployment-controller")
        self._client = context.client
        self._deployments = context.informers.of(DEPLOYMENTS)
        self._replica_sets = context.informers.of(REPLICASETS)
        self._pods = context.informers.of(PODS)
        self._queue = WorkQueue()

    async def run(self) -> None:
        """Reconcile until cancelled."""
        with handling(
            (self._deployments, self._on_deployment),
            (self._replica_sets, self._on_replica_set),
            (self._pods, self._on_pod),
        ):
            await self._context.informers.wait_synced(self._deployments, self._replica_sets, self._pods)
            await Controller("deployment", self._queue, self.reconcile, workers=WORKERS).run()

    def _on_deployment(self, key: str, _old: Object | None, _new: Object | None) -> None:
        self._queue.add(key)

    def _on_replica_set(self, _key: str, old: Object | None, new: Object | None) -> None:
        for replica_set in (old, new):
            reference = meta.controller_of(replica_set) if replica_set is not None else None
            if reference is not None and reference.get("kind") == "Deployment":
                self._queue.add(f"{meta.namespace(replica_set or {})}/{reference['name']}")
        if new is not None and meta.controller_of(new) is None:
            for deployment in self._deployments.list(meta.namespace(new)):
                if from_label_selector_object(deployment["spec"].get("selector")).matches(meta.labels(new)):
                    self._queue.add(meta.key(deployment))

    def _on_pod(self, _key: str, old: Object | None, new: Object | None) -> None:
        """Recreate waits for the last old pod to go."""
        if new is not None or old is None:
            return
        reference = meta.controller_of(old)
        if reference is None or reference.get("kind") != "ReplicaSet":
            return
        owner = self._replica_sets.get(f"{meta.namespace(old)}/{reference['name']}")
        if owner is not None:
            self._on_replica_set("", None, owner)

    async def reconcile(self, key: str) -> Result:
        """One Deployment: claim, one step of its rollout, status."""
        deployment = self._deployments.get(key)
        if deployment is None:
            return DONE
        if deployment["spec"].get("selector") == {}:
            self._recorder.event(
                deployment,
                "Warning",
                "SelectingAll",
                "This deployment is selecting all pods. A non-empty selector is required.",
            )
            return DONE
        now = self._context.clock()
        if not meta.is_terminating(deployment):
            conditions = statuses.paused_conditions(deployment, now)
            if conditions is not None:
                current = deployment.get("status") or {}
                deployment = await self._put_status(deployment, {**current, "conditions": conditions})
        owned = await self._claim(deployment)
        new = find_new(deployment, owned)
        rollout = _Rollout(deployment, new, [member for member in owned if member is not new])
        status = await self._advance(rollout, now)
        if status != deployment.get("status"):
            await self._put_status(rollout.deployment, status)
        return Result(statuses.recheck_after_s(deployment, status, now))

    async def _put_status(self, deployment: Object, status: Object) -> Object:
        return await self._client.update(DEPLOYMENTS, {**deployment, "status": status}, subresource="status")

    async def _advance(self, rollout: _Rollout, now: float) -> Object:
        """The step, and the status after it."""
        deployment = rollout.deployment
        if meta.is_terminating(deployment):
            return statuses.counted_status(deployment, rollout.new, rollout.everyone, now)
        await self._annotate(rollout, now)
        if deployment["spec"].get("paused") or is_scaling(deployment, rollout.everyone):
            await self._scale(rollout)
            if deployment["spec"].get("paused"):
                await self._clean_up(rollout)
            return statuses.counted_status(rollout.deployment, rollout.new, rollout.everyone, now)
        try:
            if (deployment["spec"].get("strategy") or {}).get("type") == "Recreate":
                await self._recreate(rollout, now)
            else:
                await self._roll(rollout, now)
        except _CreateRefusedError as refused:
            rollout.note("False", CREATE_ERROR, refused.message, now)
            status = statuses.rollout_status(rollout.deployment, rollout.new, rollout.everyone, now)
            await self._put_status(rollout.deployment, status)
            raise
        status = statuses.rollout_status(rollout.deployment, rollout.new, rollout.everyone, now)
        if statuses.is_complete(deployment, status):
            await self._clean_up(rollout)
        return status

    async def _claim(self, deployment: Object) -> list[Object]:
        namespace = meta.namespace(deployment)
        claim = plan_claim(deployment, self._replica_sets.list(namespace))
        owned = [*claim.owned]
        if claim.adopt:
            live = await self._client.get(DEPLOYMENTS, meta.name(deployment), namespace)
            if meta.uid(live) == meta.uid(deployment) and not meta.is_terminating(live):
                owned += [await self._patch(orphan, adopt_patch(deployment, orphan)) for orphan in claim.adopt]
        for stranger in claim.release:
            await self._patch(stranger, release_patch(deployment, stranger))
        return owned

    async def _patch(self, replica_set: Object, patch: Object) -> Object:
        name, namespace = meta.name(replica_set), meta.namespace(replica_set)
        return await self._client.patch(REPLICASETS, name, namespace, patch, patch_type="strategic")

    async def _annotate(self, rollout: _Rollout, now: float) -> None:
        """Bring the new ReplicaSet's place in history, and the Deployment's revision, up to date."""
        new, deployment = rollout.new, rollout.deployment
        if new is None:
            return
        annotations = new_annotations(deployment, annotations_of(new), next_revision(rollout.old))
        min_ready_s = deployment["spec"].get("minReadySeconds", 0)
        if annotations != annotations_of(new) or new["spec"].get("minReadySeconds", 0) != min_ready_s:
            spec = {**new["spec"], "minReadySeconds": min_ready_s}
            changed = {**new, "metadata": {**new["metadata"], "annotations": annotations}, "spec": spec}
            rollout.replace(await self._client.update(REPLICASETS, changed))
        if statuses.find((deployment.get("status") or {}).get("conditions") or [], "Progressing") is None:
            rollout.note("True", "FoundNewReplicaSet", f'Found new replica set "{meta.name(new)}"', now)
        await self._set_revision(rollout, annotations.get(REVISION, ""))

    async def _set_revision(self, rollout: _Rollout, revision: str) -> None:
        deployment = rollout.deployment
        if revision and annotations_of(deployment).get(REVISION) != revision:
            patch = {"metadata": {"annotations": {REVISION: revision}}}
            updated = await self._client.patch(DEPLOYMENTS, meta.name(deployment), meta.namespace(deployment), patch)
            # The status that follows is conditional on the version; only that part of our copy moves on.
            rollout.deployment = {**deployment, "metadata": updated["metadata"]}

    async def _scale(self, rollout: _Rollout) -> None:
        deployment = rollout.deployment
        sizes = {
            meta.uid(step.replica_set): step.replicas for step in plan_scaling(deployment, rollout.new, rollout.old)
        }
        for member in rollout.everyone:
            size = sizes.get(meta.uid(member), replicas_of(member))
            if size > 0 or replicas_of(member) > 0:
                await self._resize(rollout, Resize(member, size))

    async def _roll(self, rollout: _Rollout, now: float) -> None:
        if rollout.new is None:
            await self._create(rollout, now)
            return
        for step in plan_rolling(rollout.deployment, rollout.new, rollout.old):
            await self._resize(rollout, step)

    async def _recreate(self, rollout: _Rollout, now: float) -> None:
        steps = plan_recreate(None, rollout.old, rollout.deployment)
        if not steps and not self._old_pods_remain(rollout):
            if rollout.new is None:
                await self._create(rollout, now)
                return
            steps = plan_recreate(rollout.new, rollout.old, rollout.deployment)
        for step in steps:
            await self._resize(rollout, step)

    def _old_pods_remain(self, rollout: _Rollout) -> bool:
        old = {meta.uid(replica_set) for replica_set in rollout.old}
        for pod in self._pods.list(meta.namespace(rollout.deployment)):
            reference = meta.controller_of(pod)
            if reference is not None and reference.get("uid") in old and not is_terminal(pod):
                return True
        return False

    async def _create(self, rollout: _Rollout, now: float) -> None:
        deployment = rollout.deployment
        body = desired_replica_set(deployment, rollout.old)
        try:
            created = await self._client.create(REPLICASETS, body)
        except StatusError as error:
            if is_namespace_terminating(error):
                raise
            if not error.is_already_exists:
                refused = _CreateRefusedError(error, meta.name(body))
                self._recorder.event(deployment, "Warning", CREATE_ERROR, refused.message)
                raise refused from error
            created = await self._resolve_collision(deployment, body, error)
        else:
            if replicas_of(created):
                self._tell_scaled(deployment, meta.name(created), 0, replicas_of(created))
        rollout.new = created
        rollout.note("True", "NewReplicaSetCreated", f'Created new replica set "{meta.name(created)}"', now)
        await self._set_revision(rollout, str(revision_of(created)))

    async def _resolve_collision(self, deployment: Object, body: Object, error: StatusError) -> Object:
        """The name is taken: by our own creation that the cache has not seen, or by a stranger with the same hash."""
        existing = await self._client.get(REPLICASETS, meta.name(body), meta.namespace(body))
        same = same_template(existing["spec"]["template"], deployment["spec"]["template"])
        if meta.is_controlled_by(existing, deployment) and same:
            return existing
        status = deployment.get("status") or {}
        count = int(status.get("collisionCount", 0)) + 1
        await self._put_status(deployment, {**status, "collisionCount": count})
        raise error

    async def _resize(self, rollout: _Rollout, step: Resize) -> None:
        deployment, replica_set = rollout.deployment, step.replica_set
        before = replicas_of(replica_set)
        noted = replica_annotations(deployment, resolve_limits(deployment).surge)
        annotations = {**annotations_of(replica_set), **noted}
        if before == step.replicas and annotations == annotations_of(replica_set):
            return
        changed = {
            **replica_set,
            "metadata": {**replica_set["metadata"], "annotations": annotations},
            "spec": {**replica_set["spec"], "replicas": step.replicas},
        }
        rollout.replace(await self._client.update(REPLICASETS, changed))
        if before != step.replicas:
            self._tell_scaled(deployment, meta.name(replica_set), before, step.replicas)

    def _tell_scaled(self, deployment: Object, name: str, before: int, after: int) -> None:
        direction = "up" if after > before else "down"
        message = f"Scaled {direction} replica set {name} from {before} to {after}"
        self._recorder.event(deployment, "Normal", "ScalingReplicaSet", message)

    async def _clean_up(self, rollout: _Rollout) -> None:
        for replica_set in plan_cleanup(rollout.deployment, rollout.old):
            try:
                await self._client.delete(
                    REPLICASETS, meta.name(replica_set), meta.namespace(replica_set), uid=meta.uid(replica_set)
                )
            except StatusError as error:
                if not error.is_not_found:
                    raise


class _CreateRefusedError(StatusError):
    """The new ReplicaSet was refused: that is part of the Deployment's status."""

    def __init__(self, error: StatusError, name: str) -> None:
        message = f'Failed to create new replica set "{name}": {error.message}'
        super().__init__(error.code, error.reason, message, error.details)


def desired_replica_set(deployment: Object, old: Sequence[Object]) -> Object:
    """The new ReplicaSet, of the size it may have at once."""
    spec = deployment["spec"]
    collision_count = int((deployment.get("status") or {}).get("collisionCount", 0))
    suffix = template_hash(spec["template"], collision_count)
    template = meta.deep_copy(spec["template"])
    labels = {**(template.setdefault("metadata", {}).get("labels") or {}), POD_TEMPLATE_HASH: suffix}
    template["metadata"]["labels"] = labels
    selector = meta.deep_copy(spec["selector"])
    selector["matchLabels"] = {**(selector.get("matchLabels") or {}), POD_TEMPLATE_HASH: suffix}
    annotations = new_annotations(deployment, {}, next_revision(old))
    annotations.update(replica_annotations(deployment, resolve_limits(deployment).surge))
    body: Object = {
        "apiVersion": "apps/v1",
        "kind": "ReplicaSet",
        "metadata": {
            "name": f"{meta.name(deployment)}-{suffix}",
            "namespace": meta.namespace(deployment),
            "labels": labels,
            "annotations": annotations,
            "ownerReferences": [meta.controller_reference(deployment)],
        },
        "spec": {"replicas": new_size(deployment, None, old), "selector": selector, "template": template},
    }
    if spec.get("minReadySeconds"):
        body["spec"]["minReadySeconds"] = spec["minReadySeconds"]
    return body
