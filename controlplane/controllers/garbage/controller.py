"""The garbage collector: deletes what has lost its last owner, and carries out Foreground and Orphan deletions.

It watches every resource that can be deleted. A verdict that would delete is always checked against the server first:
informers of different resources run at different speeds, and a dependent is often seen before its owner.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterable, Iterator
from typing import Literal

from podnet.controlplane.api import meta
from podnet.controlplane.api.errors import StatusError
from podnet.controlplane.api.resources import EVENTS, RESOURCES, by_kind, storage_resource
from podnet.controlplane.api.types import Object, Resource
from podnet.controlplane.client.informer import Handler
from podnet.controlplane.client.reconcile import DONE, Controller, Result
from podnet.controlplane.client.workqueue import WorkQueue
from podnet.controlplane.controllers.context import ControllerContext
from podnet.controlplane.controllers.garbage.graph import (
    FOREGROUND,
    ORPHAN,
    Graph,
    Item,
    Owner,
    classify,
    drop_owners_patch,
    owners_of,
    parse_item,
    reaches,
)

log = logging.getLogger(__name__)

WORKERS = 10
RECHECK_S = 5.0
"""For an owner that the server knows and no informer has shown yet."""
UNKNOWN_KIND_S = 30.0
"""For an owner of a kind nobody serves: it may be served later."""


def collectable(resources: Iterable[Resource] = RESOURCES) -> tuple[Resource, ...]:
    """Every stored resource that can be watched and deleted. Events are left to their own end, as upstream."""
    return tuple(
        resource
        for resource in resources
        if {"list", "watch", "delete"} <= set(resource.verbs)
        and storage_resource(resource) == resource
        and resource != EVENTS
    )


class GarbageCollector:
    """One key per uid."""

    def __init__(self, context: ControllerContext, resources: Iterable[Resource] | None = None) -> None:
        self._context = context
        self._recorder = context.recorder.named("garbage-collector-controller")
        self._client = context.client
        self._resources = tuple(resources) if resources is not None else collectable()
        self._graph = Graph()
        self._queue = WorkQueue()

    async def run(self) -> None:
        """Reconcile until cancelled."""
        with contextlib.ExitStack() as stack:
            for resource in self._resources:
                informer = self._context.informers.of(resource)
                stack.callback(informer.add_handler(self._handler(resource)))
                # One after the other: 45 TLS handshakes at once would delay everybody else's first list.
                await informer.wait_synced()
            await Controller("garbage-collector", self._queue, self.reconcile, workers=WORKERS).run()

    def _handler(self, resource: Resource) -> Handler:
        def on_key(_key: str, old: Object | None, new: Object | None) -> None:
            if new is not None:
                wake = self._graph.set(parse_item(resource, new))
            else:
                wake = self._graph.remove(meta.uid(old or {}))
            for uid in wake:
                self._queue.add(uid)

        return on_key

    async def reconcile(self, key: str) -> Result:
        """One object: is it still wanted by an owner, and does it owe its dependents anything?"""
        item = self._graph.get(key)
        if item is None:
            return DONE
        if item.orphans_dependents:
            await self._orphan_dependents(item)
            return DONE
        if item.deletes_dependents:
            await self._delete_dependents(item)
            return DONE
        if item.deleting or not item.owners or self._all_solid(item):
            return DONE
        return await self._judge(item)

    def _all_solid(self, item: Item) -> bool:
        for owner in item.owners:
            found = self._graph.get(owner.uid)
            if found is None or found.deletes_dependents or not _fits(found, owner, item):
                return False
        return True

    async def _judge(self, item: Item) -> Result:
        try:
            live = await self._client.get(item.resource, item.name, item.namespace)
        except StatusError as error:
            if error.is_not_found:
                return DONE
            raise
        if meta.uid(live) != item.uid or meta.is_terminating(live):
            return DONE
        owners = owners_of(live)
        found: dict[str, Item | None] = {}
        unseen = False
        for owner in owners:
            answer = await self._find(owner, item)
            if isinstance(answer, Result):
                return answer
            found[owner.uid] = answer
            unseen = unseen or (answer is not None and self._graph.get(owner.uid) is None)
        verdict = classify(owners, found)
        if not owners:
            return DONE
        if verdict.solid:
            gone = [*verdict.absent, *verdict.waiting]
            if gone:
                await self._drop_owners(item, gone)
        else:
            has_dependents = bool(verdict.waiting) and bool(self._graph.dependents(item.uid))
            await self._delete(item, live, foreground=has_dependents)
        return Result(RECHECK_S) if unseen else DONE

    async def _find(self, owner: Owner, item: Item) -> Item | Result | None:
        """The owner as it is, None when it is absent, a Result when that cannot be said."""
        known = self._graph.get(owner.uid)
        if known is not None and _fits(known, owner, item):
            return known
        resource = by_kind(owner.api_version, owner.kind)
        if resource is None or (resource.namespaced and not item.namespace):
            # An unknown kind, or a cluster-scoped object that names a namespaced owner: not to be decided.
            return Result(UNKNOWN_KIND_S) if resource is None else DONE
        if known is not None and not reaches(known, item):
            self._warn_crossing(item, owner)
        try:
            live = await self._client.get(resource, owner.name, item.namespace if resource.namespaced else "")
        except StatusError as error:
            if error.is_not_found:
                return None
            raise
        return parse_item(resource, live) if meta.uid(live) == owner.uid else None

    def _warn_crossing(self, item: Item, owner: Owner) -> None:
        reference = {
            "apiVersion": item.resource.api_version,
            "kind": item.resource.kind,
            "namespace": item.namespace,
            "name": item.name,
            "uid": item.uid,
        }
        message = (
            f"ownerRef [{owner.api_version}/{owner.kind}, namespace: {item.namespace}, name: {owner.name}, "
            f'uid: {owner.uid}] does not exist in namespace "{item.namespace}"'
        )
        self._recorder.event_for(reference, "Warning", "OwnerRefInvalidNamespace", message)

    async def _delete(self, item: Item, live: Object, *, foreground: bool) -> None:
        propagation: Literal["Background", "Foreground", "Orphan"] = "Background"
        if foreground or meta.has_finalizer(live, FOREGROUND):
            propagation = "Foreground"
        elif meta.has_finalizer(live, ORPHAN):
            propagation = "Orphan"
        log.info("deleting %s %s/%s: no owner is left", item.resource.kind, item.namespace, item.name)
        with _gone_is_fine():
            await self._client.delete(item.resource, item.name, item.namespace, propagation=propagation, uid=item.uid)

    async def _delete_dependents(self, item: Item) -> None:
        if not self._graph.blocking(item.uid):
            await self._drop_finalizer(item, FOREGROUND)
            return
        for dependent in self._graph.dependents(item.uid):
            if dependent.deletes_dependents:
                # It may wait for us as we for it; letting go of the block on our side breaks such a ring.
                await self._unblock(dependent, item)
            elif not dependent.deleting:
                self._queue.add(dependent.uid)

    async def _unblock(self, dependent: Item, owner: Item) -> None:
        """Only a ring of owners needs this: `owner` must itself be among the dependents of `dependent`."""
        if any(other.uid == owner.uid for other in self._graph.dependents(dependent.uid)):
            reference = {"uid": owner.uid, "blockOwnerDeletion": False}
            await self._patch(dependent, {"metadata": {"ownerReferences": [reference], "uid": dependent.uid}})

    async def _orphan_dependents(self, item: Item) -> None:
        for dependent in self._graph.dependents(item.uid):
            await self._drop_owners(dependent, [owner for owner in dependent.owners if owner.uid == item.uid])
        await self._drop_finalizer(item, ORPHAN)

    async def _drop_owners(self, item: Item, owners: list[Owner]) -> None:
        await self._patch(item, drop_owners_patch(item.uid, owners))

    async def _patch(self, item: Item, patch: Object) -> None:
        with _gone_is_fine():
            await self._client.patch(item.resource, item.name, item.namespace, patch, patch_type="strategic")

    async def _drop_finalizer(self, item: Item, finalizer: str) -> None:
        with _gone_is_fine():
            live = await self._client.get(item.resource, item.name, item.namespace)
            if meta.uid(live) == item.uid and meta.has_finalizer(live, finalizer):
                rest = [entry for entry in meta.finalizers(live) if entry != finalizer]
                # Conditional on the version: whoever adds a finalizer meanwhile must not lose it.
                patch = {"metadata": {"finalizers": rest, "resourceVersion": meta.resource_version(live)}}
                await self._client.patch(item.resource, item.name, item.namespace, patch)


def _fits(found: Item, owner: Owner, dependent: Item) -> bool:
    """The object with that uid is really the one the reference names."""
    return found.resource.kind == owner.kind and found.name == owner.name and reaches(found, dependent)


@contextlib.contextmanager
def _gone_is_fine() -> Iterator[None]:
    try:
        yield
    except StatusError as error:
        if not error.is_not_found:
            raise
