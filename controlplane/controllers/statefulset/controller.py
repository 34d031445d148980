"""The StatefulSet controller: history, claims, pods one step at a time as `plan` says, status."""

from __future__ import annotations

from collections.abc import Sequence

from podnet.controlplane.api import meta
from podnet.controlplane.api.errors import StatusError
from podnet.controlplane.api.resources import PERSISTENTVOLUMECLAIMS, STATEFULSETS
from podnet.controlplane.api.types import Object
from podnet.controlplane.client.informer import Handler, Informer
from podnet.controlplane.client.reconcile import DONE, Result
from podnet.controlplane.controllers.context import ControllerContext
from podnet.controlplane.controllers.history import Revisions, with_template
from podnet.controlplane.controllers.podowner import PodOwner
from podnet.controlplane.controllers.pods import next_available_s, phase_of
from podnet.controlplane.controllers.revisions import RevisionHistory
from podnet.controlplane.controllers.statefulset.plan import (
    Step,
    View,
    condemned_pods,
    desired_status,
    plan_step,
)
from podnet.controlplane.controllers.statefulset.pod import (
    desired_claim_owners,
    desired_claims,
    desired_pod,
    identity_labels,
    is_stale_claim,
    ordinal_of,
    revision_of,
)


class StatefulSetController(PodOwner):
    """Keeps the ordinals of every StatefulSet."""

    def __init__(self, context: ControllerContext) -> None:
        super().__init__(context, STATEFULSETS, "statefulset-controller")
        self._claims = context.informers.of(PERSISTENTVOLUMECLAIMS)
        self._history = RevisionHistory(context, STATEFULSETS, "controller.kubernetes.io/hash")

    def more_handlers(self) -> Sequence[tuple[Informer, Handler]]:
        """Claims and revisions are read, and nothing is done at once when they change."""
        return [(self._claims, _ignore), (self._history.informer, _ignore)]

    def created_message(self, owner: Object, name: str) -> str:
        """Upstream's wording."""
        return f"create Pod {name} in StatefulSet {meta.name(owner)} successful"

    def deleted_message(self, owner: Object, name: str) -> str:
        """Upstream's wording."""
        return f"delete Pod {name} in StatefulSet {meta.name(owner)} successful"

    async def reconcile(self, key: str) -> Result:
        """One StatefulSet: claim, one step, status."""
        stateful_set = self.owners.get(key)
        if stateful_set is None:
            self.expectations.forget(key)
            return DONE
        now = self.context.clock()
        trusted = self.expectations.satisfied(key, now)
        pods = [pod for pod in await self.claim_pods(stateful_set) if ordinal_of(stateful_set, pod) is not None]
        if meta.is_terminating(stateful_set):
            return DONE
        revisions = await self._history.sync(stateful_set)
        update = revisions.current or {}
        status = stateful_set.get("status") or {}
        known = {meta.name(revision): revision for revision in (*revisions.old, update)}
        current = known.get(status.get("currentRevision", ""), update)
        view = View(stateful_set, pods, meta.name(current), meta.name(update), now)
        refused = await self._advance(key, view, known) if trusted else None
        in_use = {meta.name(current), meta.name(update), *(revision_of(pod) for pod in pods)}
        await self._finish(view, revisions, in_use)
        if refused is not None:
            raise refused
        return Result(next_available_s(pods, view.min_ready_s, now))

    async def _finish(self, view: View, revisions: Revisions, in_use: set[str]) -> None:
        await self.write_status(view.stateful_set, desired_status(view))
        await self._history.truncate(view.stateful_set, revisions, in_use)

    async def _advance(self, key: str, view: View, known: dict[str, Object]) -> StatusError | None:
        stateful_set = view.stateful_set
        await self._keep_identities(view)
        await self._keep_claims(view)
        for ordinal, pod in view.by_ordinal().items():
            # A claim that went while its pod waits would keep it waiting for ever.
            if ordinal in view.ordinals and phase_of(pod) == "Pending" and not meta.is_terminating(pod):
                await self._create_claims(stateful_set, ordinal, has_pod=True)
        step = plan_step(view)
        for pod in step.recreate:
            self._tell_recreated(stateful_set, pod)
        return await self._take(key, view, step, known)

    def _tell_recreated(self, stateful_set: Object, pod: Object) -> None:
        failed = phase_of(pod) == "Failed"
        who = f"StatefulSet {meta.namespace(pod)}/{meta.name(stateful_set)}"
        message = f"{who} is recreating {'failed' if failed else 'terminated'} Pod {meta.name(pod)}"
        if failed:
            self.recorder.event(stateful_set, "Warning", "RecreatingFailedPod", message)
        else:
            self.recorder.event(stateful_set, "Normal", "RecreatingTerminatedPod", message)

    async def _take(self, key: str, view: View, step: Step, known: dict[str, Object]) -> StatusError | None:
        stateful_set = view.stateful_set
        bodies = []
        for ordinal, revision in step.create:
            refused = await self._create_claims(stateful_set, ordinal)
            if refused is not None:
                return refused
            bodies.append(desired_pod(with_template(stateful_set, known[revision]), ordinal, revision))
        refused = await self.create_pods(key, stateful_set, bodies)
        return await self.delete_pods(key, stateful_set, step.delete) or refused

    async def _create_claims(self, stateful_set: Object, ordinal: int, *, has_pod: bool = False) -> StatusError | None:
        """Make sure the claims of an ordinal are there; one that is going has to be gone before a new pod is made."""
        for claim in desired_claims(stateful_set, ordinal):
            name = meta.name(claim)
            existing = self._claims.get(meta.key(claim))
            if existing is not None:
                if meta.is_terminating(existing) and not has_pod:
                    return StatusError(503, "ServiceUnavailable", f"pvc {name} is being deleted")
                if is_stale_claim(stateful_set, existing, ordinal) and not has_pod:
                    return StatusError(503, "ServiceUnavailable", f"pvc {name} goes with the pod that was scaled away")
                continue
            said = f"Claim {name} Pod {meta.name(stateful_set)}-{ordinal} in StatefulSet {meta.name(stateful_set)}"
            try:
                await self.client.create(PERSISTENTVOLUMECLAIMS, claim)
            except StatusError as error:
                if error.is_already_exists:
                    continue
                message = f"create {said} failed error: {error.message}"
                self.recorder.event(stateful_set, "Warning", "FailedCreate", message)
                return error
            self.recorder.event(stateful_set, "Normal", "SuccessfulCreate", f"create {said} success")
        return None

    async def _keep_identities(self, view: View) -> None:
        """The labels that name one pod belong to it, whoever took them off; an adopted pod gets them here."""
        for ordinal, pod in view.by_ordinal().items():
            wanted = identity_labels(view.stateful_set, ordinal)
            if not wanted.items() <= meta.labels(pod).items() and not meta.is_terminating(pod):
                await self.patch_pod(pod, {"metadata": {"labels": wanted, "uid": meta.uid(pod)}})

    async def _keep_claims(self, view: View) -> None:
        """The owners of existing claims follow the retention policy, before the pod they belong to goes."""
        condemned = {meta.uid(pod) for pod in condemned_pods(view)}
        for ordinal, pod in view.by_ordinal().items():
            for wanted in desired_claims(view.stateful_set, ordinal):
                claim = self._claims.get(meta.key(wanted))
                if claim is None or meta.is_terminating(claim):
                    continue
                owners = desired_claim_owners(view.stateful_set, claim, pod, condemned=meta.uid(pod) in condemned)
                if owners != meta.owner_references(claim):
                    version = meta.resource_version(claim)
                    patch = {"metadata": {"ownerReferences": owners, "resourceVersion": version}}
                    await self.client.patch(
                        PERSISTENTVOLUMECLAIMS, meta.name(claim), meta.namespace(claim), patch, patch_type="merge"
                    )


def _ignore(_key: str, _old: Object | None, _new: Object | None) -> None:
    """A cache that is only read."""
