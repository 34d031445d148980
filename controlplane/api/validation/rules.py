"""Which validators a kind has."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from podnet.controlplane.api import names
from podnet.controlplane.api.errors import Cause
from podnet.controlplane.api.types import Object
from podnet.controlplane.api.validation.metadata import NameRule

Create = Callable[[Object], list[Cause]]
Update = Callable[[Object, Object], list[Cause]]


@dataclass(frozen=True, slots=True)
class Rules:
    """The validators of one kind.

    `create` checks an object by itself and also what an update leads to, unless `update_replaces_create`: then `update`
    checks all. `subresources` holds the checks of `/status` and the like."""

    name: NameRule = names.dns1123_subdomain
    create: Create | None = None
    update: Update | None = None
    update_replaces_create: bool = False
    no_metadata: bool = False
    subresources: Mapping[str, Update] = field(default_factory=dict)


RULES: dict[tuple[str, str], Rules] = {}
