"""What all controllers that own pods do alike: hear of them, claim them, create and delete them.

    owner or pod changes ──▶ the owner's key ──▶ queue ──▶ reconcile(key), which each controller writes

The rule: a controller waits for its own writes to come back (`Expectations`) before it counts its cache again.
Source: kubernetes pkg/controller/controller_utils.go, controller_ref_manager.go.
"""

from __future__ import annotations

import abc
import asyncio
import contextlib
from collections.abc import Sequence

from podnet.controlplane.api import meta
from podnet.controlplane.api.errors import StatusError
from podnet.controlplane.api.resources import PODS
from podnet.controlplane.api.types import Object, Resource
from podnet.controlplane.client.expectations import Expectations
from podnet.controlplane.client.informer import Handler, Informer
from podnet.controlplane.client.reconcile import Controller, Result
from podnet.controlplane.client.workqueue import WorkQueue
from podnet.controlplane.controllers.context import ControllerContext, handling
from podnet.controlplane.controllers.ownership import adopt_patch, plan_claim, release_patch, selector_of
from podnet.controlplane.controllers.pods import is_active
from podnet.controlplane.controllers.replicaset.plan import slow_start_batches

WORKERS = 5


class PodOwner(abc.ABC):
    """The controller of one resource whose objects own pods. `component` is who speaks in its events."""

    def __init__(self, context: ControllerContext, resource: Resource, component: str) -> None:
        self.context = context
        self.resource = resource
        self.client = context.client
        self.recorder = context.recorder.named(component)
        self.owners = context.informers.of(resource)
        self.pods = context.informers.of(PODS)
        self.pods.add_indexer("controller-uid", by_controller_uid)
        self.queue = WorkQueue()
        self.expectations = Expectations()

    @abc.abstractmethod
    async def reconcile(self, key: str) -> Result:
        """Bring one owner a step further."""

    def more_handlers(self) -> Sequence[tuple[Informer, Handler]]:
        """What else it listens to, besides its owners and the pods."""
        return ()

    async def run(self) -> None:
        """Reconcile until cancelled."""
        pairs = [(self.owners, self._on_owner), (self.pods, self._on_pod), *self.more_handlers()]
        with handling(*pairs):
            await self.context.informers.wait_synced(*(informer for informer, _ in pairs))
            await Controller(self.resource.singular, self.queue, self.reconcile, workers=WORKERS).run()

    def _on_owner(self, key: str, old: Object | None, new: Object | None) -> None:
        if new is None or (old is not None and meta.uid(old) != meta.uid(new)):
            self.expectations.forget(key)
        self.queue.add(key)

    def _on_pod(self, key: str, old: Object | None, new: Object | None) -> None:
        for pod in (old, new):
            owner = self._owner_key(pod) if pod is not None else None
            if owner is None:
                continue
            if old is None and new is not None and not meta.is_terminating(new):
                self.expectations.creation_observed(owner)
            if new is None or meta.is_terminating(new):
                self.expectations.deletion_observed(owner, identity(pod or {}))
            self.queue.add(owner)
        if new is not None and meta.controller_of(new) is None:
            self._wake_matching(new)
        del key

    def _owner_key(self, pod: Object) -> str | None:
        reference = meta.controller_of(pod)
        if reference is None or reference.get("kind") != self.resource.kind:
            return None
        key = f"{meta.namespace(pod)}/{reference['name']}"
        owner = self.owners.get(key)
        return key if owner is not None and meta.uid(owner) == reference.get("uid") else None

    def _wake_matching(self, orphan: Object) -> None:
        for owner in self.owners.list(orphan["metadata"]["namespace"]):
            if selector_of(owner).matches(meta.labels(orphan)):
                self.queue.add(meta.key(owner))

    async def claim_pods(self, owner: Object) -> list[Object]:
        """The owner's pods: matching orphans are adopted, and those that match no more are let go."""
        # Its own pods and the namespace's orphans: nobody else's can be of interest.
        orphans = self.pods.by_index("controller-uid", f"{meta.namespace(owner)}/")
        claim = plan_claim(owner, [*self.pods.by_index("controller-uid", meta.uid(owner)), *orphans])
        owned = [*claim.owned]
        adopt = [pod for pod in claim.adopt if is_active(pod)]
        if adopt and await self.is_current(owner):
            owned += [await self.patch_pod(pod, adopt_patch(owner, pod)) for pod in adopt]
        for pod in claim.release:
            with contextlib.suppress(StatusError):  # gone, or refused: the next event tells
                await self.patch_pod(pod, release_patch(owner, pod))
        return owned

    async def is_current(self, owner: Object) -> bool:
        """Adoption asks the server and not the cache: a deleted owner must not adopt."""
        live = await self.client.get(self.resource, meta.name(owner), meta.namespace(owner))
        return meta.uid(live) == meta.uid(owner) and not meta.is_terminating(live)

    async def patch_pod(self, pod: Object, patch: Object) -> Object:
        """A strategic merge patch of a pod."""
        return await self.client.patch(PODS, meta.name(pod), meta.namespace(pod), patch, patch_type="strategic")

    async def create_pods(self, key: str, owner: Object, bodies: Sequence[Object]) -> StatusError | None:
        """Create these pods, in batches that double: the first refusal ends it and is returned."""
        if not bodies:
            return None
        self.expectations.expect_creations(key, len(bodies), self.context.clock())
        begun = 0
        for batch in slow_start_batches(len(bodies)):
            some = bodies[begun : begun + batch]
            begun += batch
            errors = await asyncio.gather(*(self._create_pod(key, owner, body) for body in some))
            refused = next((error for error in errors if error is not None), None)
            if refused is not None:
                self.expectations.creation_observed(key, len(bodies) - begun)
                # A namespace that is going takes no pods; nobody needs to be told over and over.
                return None if is_namespace_terminating(refused) else refused
        return None

    async def _create_pod(self, key: str, owner: Object, body: Object) -> StatusError | None:
        try:
            pod = await self.client.create(PODS, body)
        except StatusError as error:
            self.expectations.creation_observed(key)
            # A stable name that is taken: by our own creation before this cache saw it, or by a stranger. Try again.
            if not error.is_already_exists and not is_namespace_terminating(error):
                self.recorder.event(owner, "Warning", "FailedCreate", f"Error creating: {error.message}")
            return error
        self.recorder.event(owner, "Normal", "SuccessfulCreate", self.created_message(owner, meta.name(pod)))
        return None

    def created_message(self, owner: Object, name: str) -> str:
        """What the event says of a new pod."""
        del owner
        return f"Created pod: {name}"

    def deleted_message(self, owner: Object, name: str) -> str:
        """What the event says of a deleted pod."""
        del owner
        return f"Deleted pod: {name}"

    async def delete_pods(self, key: str, owner: Object, pods: Sequence[Object]) -> StatusError | None:
        """Delete these pods, all at once; the first refusal is returned."""
        if not pods:
            return None
        self.expectations.expect_deletions(key, [identity(pod) for pod in pods], self.context.clock())
        errors = await asyncio.gather(*(self._delete_pod(key, owner, pod) for pod in pods))
        return next((error for error in errors if error is not None), None)

    async def _delete_pod(self, key: str, owner: Object, pod: Object) -> StatusError | None:
        try:
            await self.client.delete(PODS, meta.name(pod), meta.namespace(pod), uid=meta.uid(pod))
        except StatusError as error:
            self.expectations.deletion_observed(key, identity(pod))
            if error.is_not_found or error.is_conflict:
                return None
            self.recorder.event(owner, "Warning", "FailedDelete", f"Error deleting: {error.message}")
            return error
        self.recorder.event(owner, "Normal", "SuccessfulDelete", self.deleted_message(owner, meta.name(pod)))
        return None

    async def write_status(self, owner: Object, status: Object) -> Object:
        """Write the status if it says something new; answers with the object as it is then."""
        if status == owner.get("status"):
            return owner
        return await self.client.update(self.resource, {**owner, "status": status}, subresource="status")


def by_controller_uid(obj: Object) -> list[str]:
    """Index function: the controller's uid; orphans stand under their namespace."""
    reference = meta.controller_of(obj)
    return [f"{meta.namespace(obj)}/"] if reference is None else [str(reference.get("uid"))]


def identity(pod: Object) -> str:
    """A pod's key and uid: what a deletion is expected by."""
    return f"{meta.key(pod)}/{meta.uid(pod)}"


def is_namespace_terminating(error: StatusError) -> bool:
    """Refused because the namespace is going."""
    causes = (error.details or {}).get("causes") or ()
    return error.code == 403 and any(cause.get("reason") == "NamespaceTerminating" for cause in causes)
