"""The client without a socket: `controlplane.client.types.Client` straight over a Registry.

Controllers are tested against the real registry with it; every refusal is the same StatusError as over HTTP.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, Literal, cast

from podnet.controlplane.api.meta import deep_copy
from podnet.controlplane.api.types import Object, Resource
from podnet.controlplane.apiserver import scheme, verbs
from podnet.controlplane.apiserver.options import DeleteOptions, ListOptions, UserInfo, WatchOptions, WriteOptions
from podnet.controlplane.apiserver.registry import Registry
from podnet.controlplane.apiserver.tokens import TokenIssuer
from podnet.controlplane.client.types import ObjectList, PatchType, WatchEvent

LOCAL_USER = UserInfo("system:local", ("system:masters", "system:authenticated"))


class LocalClient:
    """A `Client` in process."""

    def __init__(self, registry: Registry, *, user: UserInfo = LOCAL_USER, tokens: TokenIssuer | None = None) -> None:
        self._registry = registry
        self._user = user
        self._tokens = tokens

    def _options(self) -> WriteOptions:
        return WriteOptions(user=self._user, field_validation="Strict")

    async def get(self, resource: Resource, name: str, namespace: str = "") -> Object:
        return (await self._registry.get(resource, namespace, name)).thaw()

    async def list(
        self,
        resource: Resource,
        namespace: str = "",
        *,
        label_selector: str = "",
        field_selector: str = "",
        resource_version: str = "",
        limit: int = 0,
        continue_token: str = "",
    ) -> ObjectList:
        options = ListOptions(
            label_selector, field_selector, resource_version, limit=limit, continue_token=continue_token
        )
        page = await self._registry.list(resource, namespace, options)
        return ObjectList([entry.thaw() for entry in page.entries], str(page.revision), page.continue_token)

    async def create(self, resource: Resource, obj: Object, *, subresource: str = "", name: str = "") -> Object:
        namespace = (obj.get("metadata") or {}).get("namespace") or ""
        request = verbs.Request(resource, namespace, name, subresource, self._user)
        copy: Object = deep_copy(obj)
        return _private(await verbs.create(self._registry, self._tokens, request, copy, self._options()))

    async def update(self, resource: Resource, obj: Object, *, subresource: str = "") -> Object:
        metadata = obj.get("metadata") or {}
        request = verbs.Request(
            resource, metadata.get("namespace") or "", metadata.get("name") or "", subresource, self._user
        )
        answer = await verbs.update(self._registry, request, deep_copy(obj), self._options())
        return _private(answer)

    async def patch(
        self,
        resource: Resource,
        name: str,
        namespace: str,
        patch: Any,
        *,
        patch_type: PatchType = "merge",
        subresource: str = "",
    ) -> Object:
        request = verbs.Request(resource, namespace, name, subresource, self._user)
        answer = await verbs.patch(self._registry, request, deep_copy(patch), patch_type, self._options())
        return _private(answer)

    async def delete(
        self,
        resource: Resource,
        name: str,
        namespace: str = "",
        *,
        grace_period_s: int | None = None,
        propagation: Literal["", "Background", "Foreground", "Orphan"] = "",
        uid: str = "",
        resource_version: str = "",
    ) -> Object:
        options = DeleteOptions(self._user, False, grace_period_s, propagation, uid, resource_version)
        gone: Object = deep_copy(await self._registry.delete(resource, namespace, name, options))
        return gone

    async def watch(
        self,
        resource: Resource,
        namespace: str = "",
        *,
        resource_version: str = "",
        label_selector: str = "",
        field_selector: str = "",
        timeout_s: int = 0,
    ) -> AsyncIterator[WatchEvent]:
        options = WatchOptions(
            label_selector, field_selector, resource_version, timeout_s=timeout_s, allow_bookmarks=True
        )
        async for batch in self._registry.watch(resource, namespace, options).batches():
            for kind, entry, _ in batch:
                obj = entry.thaw() if kind == "BOOKMARK" else scheme.view(entry, resource).thaw()
                yield WatchEvent(cast("Literal['ADDED', 'MODIFIED', 'DELETED', 'BOOKMARK']", kind), obj)

    async def close(self) -> None:
        """Nothing to release: the registry is its owner's."""


def _private(answer: verbs.Answer) -> Object:
    """A copy the caller may change: answers share their objects with the cache."""
    copy: Object = deep_copy(answer.obj)
    return copy
