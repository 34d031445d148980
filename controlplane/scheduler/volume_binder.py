"""The scheduler's hand in storage: what it promises, what it writes, and how it waits until claims are bound.

    decided ──▶ assume ──▶ claimRef of chosen volumes, selected-node of the rest ──▶ all claims bound ──▶ bind the pod

A promise counts from the decision on, so that the next pod is not given the same volume; the watch confirms it, a refused
write takes it back.
Source: kubernetes pkg/scheduler/framework/plugins/volumebinding/binder.go.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Sequence

from podnet.controlplane.api import meta
from podnet.controlplane.api.resources import PERSISTENTVOLUMECLAIMS, PERSISTENTVOLUMES, STORAGECLASSES
from podnet.controlplane.api.types import Object
from podnet.controlplane.client.informer import InformerSet
from podnet.controlplane.client.types import Client
from podnet.controlplane.client.volume_binding import (
    BOUND_BY_CONTROLLER,
    SELECTED_NODE,
    annotations_of,
    claim_reference,
    is_fully_bound,
    phase_of,
    reference_to,
)
from podnet.controlplane.scheduler.volumes import VolumeBinding, VolumeSnapshot

BIND_TIMEOUT_S = 600.0
"""How long a pod keeps its place while its claims are being bound (upstream's bindTimeoutSeconds)."""


class VolumeBinder:
    """`on_change` is called when a claim, a volume or a class has changed."""

    def __init__(self, client: Client, informers: InformerSet, on_change: Callable[[], None]) -> None:
        self._client = client
        self._on_change = on_change
        self.claims = informers.of(PERSISTENTVOLUMECLAIMS)
        self.volumes = informers.of(PERSISTENTVOLUMES)
        self.classes = informers.of(STORAGECLASSES)
        self._taken: dict[str, str] = {}
        self._selected: dict[str, str] = {}
        self._changed = asyncio.Event()

    def listen(self) -> Callable[[], None]:
        """Follow the informers, with no promises made yet; returns the end of it."""
        self._taken.clear()
        self._selected.clear()
        with contextlib.ExitStack() as stack:
            stack.callback(self.claims.add_handler(self._on_claim))
            stack.callback(self.volumes.add_handler(self._on_volume))
            stack.callback(self.classes.add_handler(self._on_class))
            return stack.pop_all().close

    def snapshot(self) -> VolumeSnapshot:
        """What decisions are made on. It stays true until the next await."""
        return VolumeSnapshot(self.claims.cache, self.volumes.cache, self.classes.cache, self._taken, self._selected)

    def wake(self) -> None:
        """Let those who wait look again."""
        self._changed.set()
        self._changed = asyncio.Event()

    def _on_claim(self, key: str, _old: Object | None, new: Object | None) -> None:
        if new is None or SELECTED_NODE in annotations_of(new) or is_fully_bound(new):
            self._selected.pop(key, None)
        self._tell()

    def _on_volume(self, key: str, _old: Object | None, new: Object | None) -> None:
        if new is None or claim_reference(new) is not None:
            self._taken.pop(key, None)
        self._tell()

    def _on_class(self, _key: str, _old: Object | None, _new: Object | None) -> None:
        self._tell()

    def _tell(self) -> None:
        self.wake()
        self._on_change()

    def assume(self, binding: VolumeBinding, node: str) -> None:
        """Promise what the decision rests on."""
        self._taken |= {meta.name(volume): meta.key(claim) for claim, volume in binding.static}
        self._selected |= {
            meta.key(claim): node for claim in binding.provision if SELECTED_NODE not in annotations_of(claim)
        }

    def forget(self, binding: VolumeBinding) -> None:
        """Take the promises back."""
        for claim, volume in binding.static:
            if self._taken.get(meta.name(volume)) == meta.key(claim):
                del self._taken[meta.name(volume)]
        for claim in binding.provision:
            self._selected.pop(meta.key(claim), None)

    async def write(self, binding: VolumeBinding, node: str) -> None:
        """Tell binder and provisioner; StatusError when the picture was old."""
        for claim, volume in binding.static:
            if claim_reference(volume) is None:
                await self._client.update(PERSISTENTVOLUMES, _kept_for(volume, claim))
        for claim in binding.provision:
            if annotations_of(claim).get(SELECTED_NODE) != node:
                patch = {
                    "metadata": {
                        "annotations": {SELECTED_NODE: node},
                        "resourceVersion": meta.resource_version(claim),
                    }
                }
                await self._client.patch(PERSISTENTVOLUMECLAIMS, meta.name(claim), meta.namespace(claim), patch)

    async def wait_bound(
        self, keys: Sequence[str], binding: VolumeBinding, node: str, is_wanted: Callable[[], bool]
    ) -> str:
        """Wait until all claims are bound; why they never will be, empty when they are."""
        made = {meta.key(claim) for claim in binding.provision}
        try:
            async with asyncio.timeout(BIND_TIMEOUT_S):
                while True:
                    why = self._hopeless(keys, made, node, is_wanted)
                    claims = [claim for key in keys if (claim := self.claims.get(key)) is not None]
                    if why or all(is_fully_bound(claim) and phase_of(claim) == "Bound" for claim in claims):
                        return why
                    await self._changed.wait()
        except TimeoutError:
            return "binding volumes: context deadline exceeded"

    def _hopeless(self, keys: Sequence[str], made: set[str], node: str, is_wanted: Callable[[], bool]) -> str:
        if not is_wanted():
            return "the pod is gone"
        for key in keys:
            claim = self.claims.get(key)
            if claim is None or meta.is_terminating(claim):
                return f'persistentvolumeclaim "{key.partition("/")[2]}" not found'
            selected = annotations_of(claim).get(SELECTED_NODE) or self._selected.get(key)
            if key in made and not is_fully_bound(claim) and selected != node:
                return f'provisioning failed for PVC "{key}"'
        return ""


def _kept_for(volume: Object, claim: Object) -> Object:
    kept: Object = meta.deep_copy(volume)
    kept["metadata"]["annotations"] = {**annotations_of(volume), BOUND_BY_CONTROLLER: "yes"}
    kept["spec"]["claimRef"] = reference_to(claim)
    return kept
