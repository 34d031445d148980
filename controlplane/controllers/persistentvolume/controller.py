"""The binder: brings claims and volumes together, one write at a time as `plan` says."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from podnet.controlplane.api import meta
from podnet.controlplane.api.errors import StatusError
from podnet.controlplane.api.resources import NODES, PERSISTENTVOLUMECLAIMS, PERSISTENTVOLUMES, PODS, STORAGECLASSES
from podnet.controlplane.api.types import Object, Resource
from podnet.controlplane.client.informer import Informer
from podnet.controlplane.client.reconcile import DONE, Controller, Result
from podnet.controlplane.client.volume_binding import (
    BIND_COMPLETED,
    annotations_of,
    is_fully_bound,
    phase_of,
    pod_claims,
    referenced_claim,
)
from podnet.controlplane.client.workqueue import WorkQueue
from podnet.controlplane.controllers.context import ControllerContext, handling
from podnet.controlplane.controllers.persistentvolume.plan import Step, View, plan_claim, plan_volume

_CLAIM, _VOLUME = "claim ", "volume "
STEPS_MAX = 8
"""Writes in one round; a binding has four, and whatever is left is queued again."""


class WrittenCache:
    """An informer's cache with our own last writes laid over it, until the watch has brought them."""

    def __init__(self, informer: Informer) -> None:
        self.informer = informer
        self._written: dict[str, Object] = {}

    def write(self, obj: Object) -> None:
        """What the server answered."""
        self._written[meta.key(obj)] = obj

    def settle(self, key: str, new: Object | None) -> None:
        """The watch has brought `new`: what we wrote before it is history."""
        written = self._written.get(key)
        if written is not None and (new is None or _version(new) >= _version(written)):
            del self._written[key]

    def forget(self, key: str) -> None:
        """A write was refused: what we believed was wrong."""
        self._written.pop(key, None)

    def objects(self) -> Mapping[str, Object]:
        """All objects, by key."""
        return {**self.informer.cache, **self._written} if self._written else self.informer.cache


def _version(obj: Object) -> int:
    return int(meta.resource_version(obj) or 0)


class PersistentVolumeController:
    """One queue for claims and volumes, one worker: a decision sees all decisions before it."""

    def __init__(self, context: ControllerContext) -> None:
        self._context = context
        self._client = context.client
        self._recorder = context.recorder.named("persistentvolume-controller")
        informers = context.informers
        self._claims = WrittenCache(informers.of(PERSISTENTVOLUMECLAIMS))
        self._volumes = WrittenCache(informers.of(PERSISTENTVOLUMES))
        self._classes = informers.of(STORAGECLASSES)
        self._nodes = informers.of(NODES)
        self._pods = informers.of(PODS)
        self._queue = WorkQueue()

    async def run(self) -> None:
        """Reconcile until cancelled."""
        claims, volumes = self._claims.informer, self._volumes.informer
        with handling(
            (claims, self._on_claim),
            (volumes, self._on_volume),
            (self._classes, self._on_class),
            (self._nodes, self._on_node),
            (self._pods, self._on_pod),
        ):
            await self._context.informers.wait_synced(claims, volumes, self._classes, self._nodes, self._pods)
            await Controller("persistentvolume", self._queue, self.reconcile).run()

    def _on_claim(self, key: str, old: Object | None, new: Object | None) -> None:
        self._claims.settle(key, new)
        self._queue.add(_CLAIM + key)
        for claim in (old, new):
            if claim is not None and claim["spec"].get("volumeName"):
                self._queue.add(_VOLUME + claim["spec"]["volumeName"])
        if old is None or new is None:
            # A volume may be kept for the claim, or for another of its name, without the claim's knowing.
            for volume in self._volumes.informer.list():
                if referenced_claim(volume) == key:
                    self._queue.add(_VOLUME + meta.key(volume))

    def _on_volume(self, key: str, old: Object | None, new: Object | None) -> None:
        self._volumes.settle(key, new)
        self._queue.add(_VOLUME + key)
        for claim in {referenced_claim(volume) for volume in (old, new) if volume is not None}:
            if claim:
                self._queue.add(_CLAIM + claim)
        if new is None:
            self._queue_claims(lambda claim: claim["spec"].get("volumeName") == key)
        elif old is None or _fitting_part(old) != _fitting_part(new):
            self._queue_claims(lambda claim: not is_fully_bound(claim))

    def _on_class(self, _key: str, _old: Object | None, _new: Object | None) -> None:
        self._queue_claims(lambda claim: not is_fully_bound(claim))

    def _on_node(self, _key: str, old: Object | None, new: Object | None) -> None:
        if old is None or new is None or _placing_part(old) != _placing_part(new):
            self._queue_claims(lambda claim: not is_fully_bound(claim))
        if new is None:
            for volume in self._volumes.informer.list():
                if phase_of(volume) == "Released":
                    self._queue.add(_VOLUME + meta.key(volume))

    def _on_pod(self, _key: str, old: Object | None, new: Object | None) -> None:
        """A pod that waits for its node explains what its claims wait for."""
        if new is None or old is not None:
            return
        for _, name, _ in pod_claims(new):
            claim = self._claims.informer.get(f"{meta.namespace(new)}/{name}")
            if claim is not None and BIND_COMPLETED not in annotations_of(claim):
                self._queue.add(_CLAIM + meta.key(claim))

    def _queue_claims(self, concerns: Callable[[Object], bool]) -> None:
        for claim in self._claims.informer.list():
            if concerns(claim):
                self._queue.add(_CLAIM + meta.key(claim))

    async def reconcile(self, key: str) -> Result:
        """One claim or one volume, as far as it goes."""
        kind, name = key.split(" ", 1)
        for _ in range(STEPS_MAX):
            view = View(
                self._claims.objects(),
                self._volumes.objects(),
                self._classes.cache,
                self._nodes.cache,
                self._pods.list(),
            )
            obj = (view.claims if kind == "claim" else view.volumes).get(name)
            if obj is None:
                return DONE
            step = plan_claim(obj, view) if kind == "claim" else plan_volume(obj, view)
            if not await self._apply(obj, step):
                return DONE
        self._queue.add(key)
        return DONE

    async def _apply(self, obj: Object, step: Step) -> bool:
        """True when something was written, so that there may be a next step."""
        if step.gone is not None and await self._is_there(*step.gone):
            return False  # the watch will bring it, and this key with it
        if step.notice is not None:
            self._recorder.event(obj, step.notice.type, step.notice.reason, step.notice.message)
        if step.delete:
            await self._delete(obj)
        if step.write is None or step.resource is None:
            return False
        cache = self._claims if step.resource == PERSISTENTVOLUMECLAIMS else self._volumes
        try:
            written = await self._client.update(step.resource, step.write, subresource=step.subresource)
        except StatusError:
            cache.forget(meta.key(step.write))
            raise
        cache.write(written)
        cache.settle(meta.key(written), cache.informer.get(meta.key(written)))
        return True

    async def _delete(self, volume: Object) -> None:
        try:
            await self._client.delete(PERSISTENTVOLUMES, meta.name(volume), uid=meta.uid(volume))
        except StatusError as error:
            if not error.is_not_found:
                raise

    async def _is_there(self, resource: Resource, key: str) -> bool:
        """Whether an object that our cache does not have exists all the same."""
        namespace, name = meta.split_key(key)
        try:
            found = await self._client.get(resource, name, namespace)
        except StatusError as error:
            if error.is_not_found:
                return False
            raise
        known = self._claims if resource == PERSISTENTVOLUMECLAIMS else self._volumes
        held = known.informer.get(key)
        return held is None or meta.uid(held) != meta.uid(found)


def _fitting_part(volume: Object) -> tuple[object, ...]:
    """What decides whether a volume serves a claim."""
    return volume["spec"], (volume.get("status") or {}).get("phase"), meta.labels(volume)


def _placing_part(node: Object) -> tuple[object, ...]:
    """What decides whether a node makes volumes."""
    spec = node.get("spec") or {}
    return meta.labels(node), spec.get("taints"), spec.get("unschedulable"), meta.condition_is_true(node, "Ready")
