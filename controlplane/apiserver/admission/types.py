"""What an admission plugin is given."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Protocol

from podnet.controlplane.api.errors import StatusError, forbidden
from podnet.controlplane.api.types import Object, Resource
from podnet.controlplane.apiserver.options import APISERVER, UserInfo


class Lookup(Protocol):
    """Reads of the cluster as of now, without waiting. Objects must not be changed."""

    default_toleration_s: int
    """How long pods tolerate a node that is not ready or unreachable, unless they say otherwise (300 upstream)."""

    @property
    def clock(self) -> Callable[[], float]:
        """Seconds since the epoch."""
        ...

    def find(self, resource: Resource, namespace: str, name: str) -> Object | None:
        """One object."""
        ...

    def objects(self, resource: Resource, namespace: str = "") -> list[Object]:
        """All objects of a resource, or of one namespace of it."""
        ...


@dataclass(slots=True)
class Attributes:
    """One write: `obj` is the new state (None for DELETE), `old` the one that stands there (None for CREATE)."""

    operation: Literal["CREATE", "UPDATE", "DELETE"]
    resource: Resource
    namespace: str
    name: str
    obj: Object | None
    old: Object | None = None
    subresource: str = ""
    user: UserInfo = APISERVER
    lookup: Lookup | None = None

    def refuse(self, why: str) -> StatusError:
        """The 403 for this write: `pods "x" is forbidden: why`."""
        return forbidden(self.resource.plural, self.name, why, self.resource.group)


Plugin = Callable[[Attributes, Lookup], None]
