"""Protection: a claim goes when no pod uses it any more, a volume when it is bound to no claim any more.

Admission has put a finalizer on both when they were made; these controllers take it off, and put it on what was made
before. A pod that has no node yet does not hold a claim: the kubelet would not start it with a claim that is going.
Source: kubernetes pkg/controller/volume/{pvcprotection,pvprotection}.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable

from podnet.controlplane.api import meta
from podnet.controlplane.api.resources import PERSISTENTVOLUMECLAIMS, PERSISTENTVOLUMES, PODS
from podnet.controlplane.api.types import Object, Resource
from podnet.controlplane.client.reconcile import DONE, Controller, Result
from podnet.controlplane.client.volume_binding import CLAIM_PROTECTION, VOLUME_PROTECTION, phase_of, pod_claims
from podnet.controlplane.client.workqueue import WorkQueue
from podnet.controlplane.controllers.context import ControllerContext, handling

_BY_CLAIM = "by claim"


def uses_claim(pod: Object, claim: Object) -> bool:
    """Whether a pod with a node names the claim among its volumes; a finished pod still does."""
    if not pod["spec"].get("nodeName") or meta.namespace(pod) != meta.namespace(claim):
        return False
    return any(
        name == meta.name(claim) and (not ephemeral or meta.is_controlled_by(claim, pod))
        for _, name, ephemeral in pod_claims(pod)
    )


def desired_finalizers(obj: Object, finalizer: str, *, in_use: bool) -> list[str]:
    """The finalizers of a claim or a volume: with the protection until it is going and nobody uses it."""
    held = meta.finalizers(obj)
    if meta.is_terminating(obj):
        return held if in_use else [name for name in held if name != finalizer]
    return held if finalizer in held else [*held, finalizer]


class ClaimProtectionController:
    """One key per claim."""

    def __init__(self, context: ControllerContext) -> None:
        self._context = context
        self._claims = context.informers.of(PERSISTENTVOLUMECLAIMS)
        self._pods = context.informers.of(PODS)
        self._pods.add_indexer(_BY_CLAIM, _claims_of)
        self._queue = WorkQueue()

    async def run(self) -> None:
        """Reconcile until cancelled."""
        with handling((self._claims, self._on_claim), (self._pods, self._on_pod)):
            await self._context.informers.wait_synced(self._claims, self._pods)
            await Controller("pvc-protection", self._queue, self.reconcile).run()

    def _on_claim(self, key: str, _old: Object | None, new: Object | None) -> None:
        if new is not None:
            self._queue.add(key)

    def _on_pod(self, _key: str, old: Object | None, new: Object | None) -> None:
        if old is not None and (new is None or meta.uid(new) != meta.uid(old)):
            for key in _claims_of(old):
                self._queue.add(key)

    async def reconcile(self, key: str) -> Result:
        """One claim."""
        claim = self._claims.get(key)
        if claim is not None:
            await _keep(self._context, PERSISTENTVOLUMECLAIMS, claim, CLAIM_PROTECTION, self._is_used)
        return DONE

    async def _is_used(self, claim: Object) -> bool:
        if any(uses_claim(pod, claim) for pod in self._pods.by_index(_BY_CLAIM, meta.key(claim))):
            return True
        # The cache may be behind by a pod that was bound a moment ago; the server is asked before the claim goes.
        pods = await self._context.client.list(PODS, meta.namespace(claim))
        return any(uses_claim(pod, claim) for pod in pods.items)


class VolumeProtectionController:
    """One key per volume."""

    def __init__(self, context: ControllerContext) -> None:
        self._context = context
        self._volumes = context.informers.of(PERSISTENTVOLUMES)
        self._queue = WorkQueue()

    async def run(self) -> None:
        """Reconcile until cancelled."""
        with handling((self._volumes, self._on_volume)):
            await self._context.informers.wait_synced(self._volumes)
            await Controller("pv-protection", self._queue, self.reconcile).run()

    def _on_volume(self, key: str, _old: Object | None, new: Object | None) -> None:
        if new is not None:
            self._queue.add(key)

    async def reconcile(self, key: str) -> Result:
        """One volume."""
        volume = self._volumes.get(key)
        if volume is not None:
            await _keep(self._context, PERSISTENTVOLUMES, volume, VOLUME_PROTECTION, _is_bound)
        return DONE


async def _is_bound(volume: Object) -> bool:
    return phase_of(volume) == "Bound"


async def _keep(
    context: ControllerContext,
    resource: Resource,
    obj: Object,
    finalizer: str,
    is_used: Callable[[Object], Awaitable[bool]],
) -> None:
    in_use = True
    if meta.is_terminating(obj) and meta.has_finalizer(obj, finalizer):
        in_use = await is_used(obj)
    finalizers = desired_finalizers(obj, finalizer, in_use=in_use)
    if finalizers != meta.finalizers(obj):
        patch = {"metadata": {"finalizers": finalizers, "resourceVersion": meta.resource_version(obj)}}
        await context.client.patch(resource, meta.name(obj), meta.namespace(obj), patch)


def _claims_of(pod: Object) -> Iterable[str]:
    return [f"{meta.namespace(pod)}/{name}" for _, name, _ in pod_claims(pod)]
