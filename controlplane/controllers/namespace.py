"""The namespace controller: a namespace that is deleted takes everything in it along.

Level-triggered: each pass lists what is left, asks for its deletion, and writes the conditions; when nothing is left the
finalizer `kubernetes` goes, and with it the namespace. Source: kubernetes pkg/controller/namespace/deletion.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from podnet.controlplane.api import meta
from podnet.controlplane.api.errors import StatusError
from podnet.controlplane.api.resources import NAMESPACES, PODS, RESOURCES, storage_resource
from podnet.controlplane.api.timestamps import format_time
from podnet.controlplane.api.types import Object, Resource
from podnet.controlplane.client.reconcile import DONE, Controller, Result
from podnet.controlplane.client.workqueue import WorkQueue
from podnet.controlplane.controllers.context import ControllerContext, handling

FINALIZER = "kubernetes"
RECHECK_S = 0.25
"""How soon to look again at a namespace with contents that take their time (graceful pods, foreign finalizers)."""
RECHECK_MAX_S = 5.0

_CONDITIONS = (
    "NamespaceDeletionDiscoveryFailure",
    "NamespaceDeletionGroupVersionParsingFailure",
    "NamespaceDeletionContentFailure",
    "NamespaceContentRemaining",
    "NamespaceFinalizersRemaining",
)
_CONTENT_DELETED = "All content successfully deleted, may be waiting on finalization"


def namespaced_contents(resources: Iterable[Resource] = RESOURCES) -> tuple[Resource, ...]:
    """Every stored, namespaced, deletable resource, pods first: their end takes longest."""
    found = [
        resource
        for resource in resources
        if resource.namespaced and {"list", "delete"} <= set(resource.verbs) and storage_resource(resource) == resource
    ]
    return tuple(sorted(found, key=lambda resource: resource != PODS))


@dataclass(slots=True)
class Remainder:
    """What is still in the namespace after a pass."""

    counts: dict[str, int] = field(default_factory=dict)
    finalizers: Counter[str] = field(default_factory=Counter)
    errors: list[str] = field(default_factory=list)

    @property
    def is_empty(self) -> bool:
        """The namespace may go."""
        return not self.counts and not self.errors


def desired_conditions(current: Sequence[dict[str, Any]], remainder: Remainder, now: float) -> list[dict[str, Any]]:
    """The five conditions of a terminating namespace, in upstream's words."""
    contents = ", ".join(f"{name} has {count} resource instances" for name, count in sorted(remainder.counts.items()))
    holders = ", ".join(f"{name} in {count} resource instances" for name, count in sorted(remainder.finalizers.items()))
    errors = ", ".join(remainder.errors)
    failed = f"Failed to delete all resource types, {len(remainder.errors)} remaining: {errors}"
    held = f"Some content in the namespace has finalizers remaining: {holders}"
    rows = [
        (_CONDITIONS[0], False, "ResourcesDiscovered", "All resources successfully discovered"),
        (_CONDITIONS[1], False, "ParsedGroupVersions", "All legacy kube types successfully parsed"),
        (_CONDITIONS[2], True, "ContentDeletionFailed", failed)
        if errors
        else (_CONDITIONS[2], False, "ContentDeleted", _CONTENT_DELETED),
        (_CONDITIONS[3], True, "SomeResourcesRemain", f"Some resources are remaining: {contents}")
        if contents
        else (_CONDITIONS[3], False, "ContentRemoved", "All content successfully removed"),
        (_CONDITIONS[4], True, "SomeFinalizersRemain", held)
        if holders
        else (_CONDITIONS[4], False, "ContentHasNoFinalizers", "All content-preserving finalizers finished"),
    ]
    conditions = [*current]
    for kind, holds, reason, message in rows:
        condition = {"type": kind, "status": "True" if holds else "False", "reason": reason, "message": message}
        conditions = meta.with_condition(conditions, condition, format_time(now))
    return conditions


class NamespaceController:
    """One key per namespace."""

    def __init__(self, context: ControllerContext) -> None:
        self._context = context
        self._client = context.client
        self._namespaces = context.informers.of(NAMESPACES)
        self._pods = context.informers.of(PODS)
        self._contents = namespaced_contents()
        self._queue = WorkQueue()
        self._passes: Counter[str] = Counter()

    async def run(self) -> None:
        """Reconcile until cancelled."""
        with handling((self._namespaces, self._on_namespace), (self._pods, self._on_pod)):
            await self._namespaces.wait_synced()
            await Controller("namespace", self._queue, self.reconcile, workers=4).run()

    def _on_namespace(self, key: str, _old: Object | None, new: Object | None) -> None:
        if new is not None and meta.is_terminating(new):
            self._queue.add(key)

    def _on_pod(self, key: str, _old: Object | None, new: Object | None) -> None:
        """The last pod's end is what most deletions wait for."""
        if new is None:
            name = meta.split_key(key)[0]
            namespace = self._namespaces.get(name)
            if namespace is not None and meta.is_terminating(namespace) and not self._pods.list(name):
                self._queue.add(name)

    async def reconcile(self, key: str) -> Result:
        """One terminating namespace: delete, count, and let go when it is empty."""
        namespace = self._namespaces.get(key)
        if namespace is None or not meta.is_terminating(namespace):
            self._passes.pop(key, None)
            return DONE
        if FINALIZER not in (namespace.get("spec") or {}).get("finalizers", ()):
            return DONE
        remainder = await self._empty(key)
        status = namespace.get("status") or {}
        conditions = desired_conditions(status.get("conditions") or [], remainder, self._context.clock())
        if conditions != status.get("conditions"):
            changed = {**namespace, "status": {**status, "conditions": conditions}}
            namespace = await self._client.update(NAMESPACES, changed, subresource="status")
        if remainder.is_empty:
            self._passes.pop(key, None)
            await self._finalize(namespace)
            return DONE
        self._passes[key] += 1
        return Result(min(RECHECK_S * self._passes[key], RECHECK_MAX_S))

    async def _empty(self, namespace: str) -> Remainder:
        remainder = Remainder()
        for resource in self._contents:
            try:
                await self._empty_of(resource, namespace, remainder)
            except StatusError as error:
                if error.code == 503:
                    raise
                remainder.errors.append(f"{resource.qualified_name}: {error.message}")
        return remainder

    async def _empty_of(self, resource: Resource, namespace: str, remainder: Remainder) -> None:
        items = (await self._client.list(resource, namespace)).items
        for item in items:
            if not meta.is_terminating(item):
                try:
                    await self._client.delete(
                        resource, meta.name(item), namespace, uid=meta.uid(item), propagation="Background"
                    )
                except StatusError as error:
                    if not (error.is_not_found or error.is_conflict):
                        raise
        if not items:
            return
        left = (await self._client.list(resource, namespace)).items
        if left:
            name = f"{resource.plural}.{resource.group}"
            remainder.counts[name] = len(left)
            remainder.finalizers.update(finalizer for item in left for finalizer in meta.finalizers(item))

    async def _finalize(self, namespace: Object) -> None:
        spec = namespace.get("spec") or {}
        finalizers = [entry for entry in spec.get("finalizers", ()) if entry != FINALIZER]
        try:
            await self._client.update(
                NAMESPACES, {**namespace, "spec": {**spec, "finalizers": finalizers}}, subresource="finalize"
            )
        except StatusError as error:
            if not error.is_not_found:
                raise
