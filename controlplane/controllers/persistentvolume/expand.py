"""Expansion: a bound claim that asks for more than it has gets it, where its volume can grow.

A volume of the cluster's own provisioner is a directory: it has no file system of its own that would have to be resized
when it is mounted, so that the volume's capacity and then the claim's follow at once. Of any other volume somebody else
must take care, and the claim is told so.
Source: kubernetes pkg/controller/volume/expand, external-resizer; reasons and messages are theirs.
"""

from __future__ import annotations

from podnet.controlplane.api import meta
from podnet.controlplane.api.resources import PERSISTENTVOLUMECLAIMS, PERSISTENTVOLUMES
from podnet.controlplane.api.types import Object
from podnet.controlplane.client.reconcile import DONE, Controller, Result
from podnet.controlplane.client.volume_binding import (
    LOCAL_PATH,
    PROVISIONED_BY,
    annotations_of,
    capacity,
    is_fully_bound,
    phase_of,
    requested,
)
from podnet.controlplane.client.workqueue import WorkQueue
from podnet.controlplane.controllers.context import ControllerContext, handling
from podnet.controlplane.controllers.persistentvolume.plan import NOTHING, Notice, Step

IGNORED = (
    "Ignoring the PVC: didn't find a plugin capable of expanding the volume; waiting for an external controller to process "
    "this PVC"
)


def plan_expansion(claim: Object, volume: Object | None) -> Step:
    """First the volume grows, then the claim says so."""
    if volume is None or not is_fully_bound(claim) or phase_of(claim) != "Bound" or meta.is_terminating(claim):
        return NOTHING
    wanted = requested(claim)
    had = requested({"spec": {"resources": {"requests": (claim.get("status") or {}).get("capacity") or {}}}})
    if not wanted > had:
        return NOTHING
    if annotations_of(volume).get(PROVISIONED_BY) != LOCAL_PATH:
        return Step(notice=Notice("Normal", "ExternalExpanding", IGNORED))
    size = claim["spec"]["resources"]["requests"]["storage"]
    if capacity(volume) < wanted:
        grown = meta.deep_copy(volume)
        grown["spec"]["capacity"] = {**(volume["spec"].get("capacity") or {}), "storage": size}
        message = f"External resizer is resizing volume {meta.name(volume)}"
        return Step(grown, PERSISTENTVOLUMES, notice=Notice("Normal", "Resizing", message))
    changed = meta.deep_copy(claim)
    changed["status"]["capacity"] = {**(changed["status"].get("capacity") or {}), "storage": size}
    return Step(
        changed, PERSISTENTVOLUMECLAIMS, "status", Notice("Normal", "VolumeResizeSuccessful", "Resize volume succeeded")
    )


class ExpansionController:
    """One key per claim."""

    def __init__(self, context: ControllerContext) -> None:
        self._context = context
        self._recorder = context.recorder.named("volume_expand")
        self._claims = context.informers.of(PERSISTENTVOLUMECLAIMS)
        self._volumes = context.informers.of(PERSISTENTVOLUMES)
        self._queue = WorkQueue()

    async def run(self) -> None:
        """Reconcile until cancelled."""
        with handling((self._claims, self._on_claim), (self._volumes, self._on_volume)):
            await self._context.informers.wait_synced(self._claims, self._volumes)
            await Controller("persistentvolume-expander", self._queue, self.reconcile).run()

    def _on_claim(self, key: str, _old: Object | None, new: Object | None) -> None:
        if new is not None:
            self._queue.add(key)

    def _on_volume(self, _key: str, old: Object | None, new: Object | None) -> None:
        if old is not None and new is not None and capacity(old) != capacity(new) and new["spec"].get("claimRef"):
            reference = new["spec"]["claimRef"]
            self._queue.add(f"{reference.get('namespace', '')}/{reference.get('name', '')}")

    async def reconcile(self, key: str) -> Result:
        """One claim: the next write, whose echo brings the claim back."""
        claim = self._claims.get(key)
        if claim is None:
            return DONE
        step = plan_expansion(claim, self._volumes.get(claim["spec"].get("volumeName", "")))
        if step.write is not None and step.resource is not None:
            await self._context.client.update(step.resource, step.write, subresource=step.subresource)
        if step.notice is not None:
            self._recorder.event(claim, step.notice.type, step.notice.reason, step.notice.message)
        return DONE
