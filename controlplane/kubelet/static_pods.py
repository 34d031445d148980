"""Static pods: whatever lies in the node's `manifests` directory runs, API server or not; the API gets a mirror to look at.

    manifests/*.yaml ──► pod with a UID of its own ──► PodDispatch (as a pod from the watch)
                                │ status                     mirror deleted or changed by somebody: made anew,
                                └──────► mirror pod in the API        the containers do not notice

Only the file decides: removing it ends the pod, `kubectl delete` only removes the mirror for a moment.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from podnet.controlplane.api.errors import StatusError
from podnet.controlplane.api.resources import PODS
from podnet.controlplane.api.types import Object
from podnet.controlplane.kubelet.pod_dispatch import PodDispatch
from podnet.controlplane.kubelet.static_manifest import (
    MIRROR,
    ManifestError,
    is_mirror,
    mirror_pod,
    mirrors,
    static_pod,
)
from podnet.controlplane.kubelet.timestamps import rfc3339
from podnet.controlplane.kubelet.worker_context import WorkerContext

log = logging.getLogger(__name__)

SCAN_S = 0.5


@dataclass(frozen=True, slots=True)
class _File:
    """One manifest: what it was read from, and the pod (None: it is no pod)."""

    text: str
    pod: Object | None


class StaticPods:
    """See the module. `node` gives the Node object, once it is registered."""

    def __init__(self, context: WorkerContext, dispatch: PodDispatch, node: Callable[[], Object | None]) -> None:
        self._context = context
        self._dispatch = dispatch
        self._node = node
        self._directory: Path = context.config.paths.manifests_dir
        self._files: dict[str, _File] = {}
        self._running: dict[str, Object] = {}
        self._mirrors: dict[str, Object] = {}
        context.statuses.mirror_of = self._mirror_of

    def on_pod(self, key: str, old: Object | None, new: Object | None) -> None:
        """The informer's handler: mirrors stop here, every other pod goes on to the dispatch."""
        known = new or old
        if known is None or not is_mirror(known):
            self._dispatch.on_pod(key, old, new)
            return
        if new is None:
            self._mirrors.pop(key, None)
            return
        before = self._mirrors.get(key)
        self._mirrors[key] = new
        if before is None or before["metadata"]["uid"] != new["metadata"]["uid"]:
            self._context.statuses.rewrite(str(new["metadata"]["annotations"][MIRROR]))

    def start(self) -> None:
        """Begin what the files say; needs no API server."""
        self._directory.mkdir(parents=True, exist_ok=True)
        self._scan()

    async def run(self) -> None:
        """Follow the files and keep the mirrors, until cancelled. Begin it when the mirrors are known."""
        while True:
            self._scan()
            await self._keep_mirrors()
            await asyncio.sleep(SCAN_S)

    # --- files ---

    def _scan(self) -> None:
        texts = self._read()
        self._files = {
            name: self._files[name]
            if name in self._files and self._files[name].text == text
            else _File(text, self._parse(name, text))
            for name, text in texts.items()
        }
        wanted: dict[str, Object] = {}
        for file in self._files.values():
            if file.pod is not None:
                wanted.setdefault(f"{file.pod['metadata']['namespace']}/{file.pod['metadata']['name']}", file.pod)
        for key, pod in list(self._running.items()):
            if wanted.get(key, {"metadata": {"uid": ""}})["metadata"]["uid"] != pod["metadata"]["uid"]:
                del self._running[key]
                self._dispatch.end_static(pod)
        for key, pod in wanted.items():
            # One of the same name must have ended: they would fight over its ports and its address.
            if key not in self._running and not self._dispatch.has(
                pod["metadata"]["namespace"], pod["metadata"]["name"]
            ):
                self._running[key] = pod
                self._dispatch.on_pod(key, None, pod)

    def _read(self) -> dict[str, str]:
        texts = {}
        try:
            names = sorted(entry.name for entry in self._directory.iterdir())
        except OSError:
            return {}
        for name in names:
            if name.startswith(".") or not name.endswith((".yaml", ".yml", ".json")):
                continue
            try:
                texts[name] = (self._directory / name).read_text(encoding="utf-8")
            except (OSError, UnicodeDecodeError) as error:
                log.warning("static pod %s: %s", name, error)
        return texts

    def _parse(self, name: str, text: str) -> Object | None:
        context = self._context
        try:
            return static_pod(text, name, context.config.node_name, rfc3339(context.clock()))
        except ManifestError as error:
            log.warning("static pod %s: %s", name, error)
            own = context.config.node_name
            node = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": own, "uid": own}}
            context.recorder.event(node, "Warning", "InvalidStaticPod", f"{name}: {error}")
            return None

    # --- mirrors ---

    def _mirror_of(self, pod: Object) -> Object | None:
        """Where the status of a static pod is written; None while there is no mirror."""
        mirror = self._mirrors.get(f"{pod['metadata']['namespace']}/{pod['metadata']['name']}")
        return mirror if mirror is not None and mirrors(mirror, pod) else None

    async def _keep_mirrors(self) -> None:
        for key, mirror in list(self._mirrors.items()):
            pod = self._running.get(key)
            if pod is None or not mirrors(mirror, pod):
                await self._delete(key, mirror)
        for key, pod in self._running.items():
            if key not in self._mirrors:
                await self._create(key, pod)

    async def _create(self, key: str, pod: Object) -> None:
        try:
            created = await self._context.client.create(PODS, mirror_pod(pod, self._node()))
        except StatusError as error:
            level = logging.DEBUG if error.code in {409, 503} else logging.WARNING
            log.log(level, "mirror of %s not created: %s", key, error.message)
            return
        self.on_pod(key, None, created)

    async def _delete(self, key: str, mirror: Object) -> None:
        metadata = mirror["metadata"]
        try:
            await self._context.client.delete(
                PODS, metadata["name"], metadata["namespace"], grace_period_s=0, uid=metadata["uid"]
            )
        except StatusError as error:
            if not (error.is_not_found or error.is_conflict):
                log.debug("mirror of %s not deleted: %s", key, error.message)
                return
        self._mirrors.pop(key, None)
