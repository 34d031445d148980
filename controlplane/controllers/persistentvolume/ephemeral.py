"""Generic ephemeral volumes: the claim of each is made here, owned by its pod, and goes with it.

Source: kubernetes pkg/controller/volume/ephemeral, KEP-1698.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from podnet.controlplane.api import meta
from podnet.controlplane.api.errors import StatusError
from podnet.controlplane.api.resources import PERSISTENTVOLUMECLAIMS, PODS
from podnet.controlplane.api.types import Object
from podnet.controlplane.client.reconcile import DONE, Controller, Result
from podnet.controlplane.client.workqueue import WorkQueue
from podnet.controlplane.controllers.context import ControllerContext, handling


def desired_claim(pod: Object, volume: Mapping[str, Any]) -> Object:
    """The claim of one ephemeral volume, `POD-VOLUME`."""
    template = meta.deep_copy(volume["ephemeral"].get("volumeClaimTemplate") or {})
    given = template.get("metadata") or {}
    metadata: dict[str, Any] = {
        "name": f"{meta.name(pod)}-{volume['name']}",
        "namespace": meta.namespace(pod),
        "ownerReferences": [
            meta.owner_reference({"apiVersion": "v1", "kind": "Pod", **pod}, controller=True, block=True)
        ],
    }
    metadata |= {field: given[field] for field in ("labels", "annotations") if given.get(field)}
    spec = template.get("spec") or {}
    return {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": metadata, "spec": spec}


def not_owner_message(pod: Object, claim: Object) -> str:
    """A claim of that name is there, and is not this pod's."""
    return f"PVC {meta.key(claim)} was not created for pod {meta.key(pod)} (pod is not owner)"


class EphemeralVolumeController:
    """One key per pod that has ephemeral volumes."""

    def __init__(self, context: ControllerContext) -> None:
        self._context = context
        self._recorder = context.recorder.named("ephemeral_volume")
        self._pods = context.informers.of(PODS)
        self._claims = context.informers.of(PERSISTENTVOLUMECLAIMS)
        self._queue = WorkQueue()

    async def run(self) -> None:
        """Reconcile until cancelled."""
        with handling((self._pods, self._on_pod), (self._claims, self._on_claim)):
            await self._context.informers.wait_synced(self._pods, self._claims)
            await Controller("ephemeral-volume", self._queue, self.reconcile).run()

    def _on_pod(self, key: str, _old: Object | None, new: Object | None) -> None:
        if new is not None and _ephemeral_volumes(new):
            self._queue.add(key)

    def _on_claim(self, _key: str, old: Object | None, new: Object | None) -> None:
        """A claim that went is made again while its pod is there."""
        owner = meta.controller_of(old) if old is not None and new is None else None
        if owner is not None and owner.get("kind") == "Pod" and old is not None:
            self._queue.add(f"{meta.namespace(old)}/{owner['name']}")

    async def reconcile(self, key: str) -> Result:
        """One pod."""
        pod = self._pods.get(key)
        if pod is None or meta.is_terminating(pod):
            return DONE
        for volume in _ephemeral_volumes(pod):
            await self._ensure(pod, volume)
        return DONE

    async def _ensure(self, pod: Object, volume: Mapping[str, Any]) -> None:
        wanted = desired_claim(pod, volume)
        existing = self._claims.get(meta.key(wanted))
        if existing is not None:
            if not meta.is_controlled_by(existing, pod):
                # Somebody else's data: the pod waits until that claim is gone, and each look says so.
                message = f"ephemeral volume {volume['name']}: {not_owner_message(pod, existing)}"
                self._recorder.event(pod, "Warning", "FailedBinding", message)
            return
        try:
            await self._context.client.create(PERSISTENTVOLUMECLAIMS, wanted)
        except StatusError as error:
            if error.is_already_exists:
                return
            message = f"ephemeral volume {volume['name']}: create PVC {meta.name(wanted)}: {error.message}"
            self._recorder.event(pod, "Warning", "FailedBinding", message)
            raise


def _ephemeral_volumes(pod: Object) -> list[Mapping[str, Any]]:
    return [volume for volume in pod["spec"].get("volumes") or () if volume.get("ephemeral")]
