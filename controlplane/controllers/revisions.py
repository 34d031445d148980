"""The edge of `history`: reads, writes and prunes the ControllerRevisions of DaemonSets and StatefulSets."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

from podnet.controlplane.api import meta
from podnet.controlplane.api.errors import StatusError
from podnet.controlplane.api.resources import CONTROLLERREVISIONS
from podnet.controlplane.api.types import Object, Resource
from podnet.controlplane.controllers.context import ControllerContext
from podnet.controlplane.controllers.deployment.template import same_template
from podnet.controlplane.controllers.history import (
    Revisions,
    desired_revision,
    plan_truncate,
    read_revisions,
    revision_number,
    template_of,
)
from podnet.controlplane.controllers.ownership import adopt_patch, plan_claim


class RevisionHistory:
    """The history of every owner of one resource. `hash_label` is where its revisions keep their hash."""

    def __init__(self, context: ControllerContext, resource: Resource, hash_label: str) -> None:
        self._client = context.client
        self._resource = resource
        self._hash_label = hash_label
        self.informer = context.informers.of(CONTROLLERREVISIONS)

    async def sync(self, owner: Object) -> Revisions:
        """The owner's history with the revision of its template in it, created or moved to the front."""
        revisions = read_revisions(owner, await self._claim(owner))
        if revisions.current is None:
            return replace(revisions, current=await self._create(owner, revisions.number))
        if revision_number(revisions.current) != revisions.number:
            patch = {"revision": revisions.number}
            name, namespace = meta.name(revisions.current), meta.namespace(owner)
            return replace(revisions, current=await self._client.patch(CONTROLLERREVISIONS, name, namespace, patch))
        return revisions

    async def _claim(self, owner: Object) -> list[Object]:
        claim = plan_claim(owner, self.informer.list(meta.namespace(owner)))
        # Labels of a revision are those of its template: one that the selector does not match any more is history still.
        owned = [*claim.owned, *claim.release]
        for orphan in claim.adopt:
            patch = adopt_patch(owner, orphan)
            name, namespace = meta.name(orphan), meta.namespace(owner)
            adopted = await self._client.patch(CONTROLLERREVISIONS, name, namespace, patch, patch_type="strategic")
            owned.append(adopted)
        return owned

    async def _create(self, owner: Object, number: int) -> Object:
        body = desired_revision(owner, number, self._hash_label)
        try:
            return await self._client.create(CONTROLLERREVISIONS, body)
        except StatusError as error:
            if not error.is_already_exists:
                raise
            existing = await self._client.get(CONTROLLERREVISIONS, meta.name(body), meta.namespace(owner))
            if meta.is_controlled_by(existing, owner) and same_template(
                template_of(existing), owner["spec"]["template"]
            ):
                return existing  # our own creation, which the cache has not seen
            status = owner.get("status") or {}
            status = {**status, "collisionCount": int(status.get("collisionCount") or 0) + 1}
            await self._client.update(self._resource, {**owner, "status": status}, subresource="status")
            raise

    async def truncate(self, owner: Object, revisions: Revisions, in_use: Collection[str]) -> None:
        """Delete what is beyond the limit."""
        for revision in plan_truncate(owner, revisions.old, in_use):
            try:
                await self._client.delete(CONTROLLERREVISIONS, meta.name(revision), meta.namespace(revision))
            except StatusError as error:
                if not error.is_not_found:
                    raise
