"""The client's protocol: what controllers, scheduler, kubelet, overlay, proxy and dns ask of the API server.

`rest.RestClient` speaks HTTP; the API server's own in-process client satisfies the same protocol, so that tests run
controllers against the real registry without a socket.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from podnet.controlplane.api.types import Object, Resource

PatchType = Literal["json", "merge", "strategic"]


@dataclass(frozen=True, slots=True)
class ObjectList:
    """A list answer: items with apiVersion and kind filled in, and the revision to watch from."""

    items: list[Object]
    resource_version: str
    continue_token: str = ""


@dataclass(frozen=True, slots=True)
class WatchEvent:
    """One watch event. ERROR events are not delivered: the watch raises StatusError instead."""

    type: Literal["ADDED", "MODIFIED", "DELETED", "BOOKMARK"]
    object: Object


class Client(Protocol):
    """CRUD and watch over any resource of the registry. Every refusal is a `StatusError`; a server that cannot be
    reached is a `StatusError` with code 503 and reason ServiceUnavailable.
    """

    async def get(self, resource: Resource, name: str, namespace: str = "") -> Object: ...

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
    ) -> ObjectList: ...

    async def create(self, resource: Resource, obj: Object, *, subresource: str = "", name: str = "") -> Object:
        """POST `obj` into its metadata.namespace. With a subresource (`binding`, `eviction`, `token`), `name` is the
        parent's name.
        """
        ...

    async def update(self, resource: Resource, obj: Object, *, subresource: str = "") -> Object:
        """PUT; conditional when metadata.resourceVersion is set."""
        ...

    async def patch(
        self,
        resource: Resource,
        name: str,
        namespace: str,
        patch: Any,
        *,
        patch_type: PatchType = "merge",
        subresource: str = "",
    ) -> Object: ...

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
    ) -> Object: ...

    def watch(
        self,
        resource: Resource,
        namespace: str = "",
        *,
        resource_version: str = "",
        label_selector: str = "",
        field_selector: str = "",
        timeout_s: int = 0,
    ) -> AsyncIterator[WatchEvent]: ...

    async def close(self) -> None: ...
