"""The graph of owners: who depends on whom, and what that means for an object.

Pure. Edges are kept by uid, also towards owners that were never seen, so that an owner's end always finds its
dependents. The verdicts follow kubernetes pkg/controller/garbagecollector (graph_builder.go, garbagecollector.go):

    an owner is   solid     it is there and stays            → the dependent stays
                  waiting   it is there, deleted Foreground  → it waits for its dependents: they go first
                  absent    it is not there (any more)       → if no other owner is solid, the dependent goes
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from podnet.controlplane.api import meta
from podnet.controlplane.api.types import Object, Resource

FOREGROUND = "foregroundDeletion"
ORPHAN = "orphan"


@dataclass(frozen=True, slots=True)
class Owner:
    """One ownerReference."""

    api_version: str
    kind: str
    name: str
    uid: str
    blocks: bool


@dataclass(frozen=True, slots=True)
class Item:
    """One object, as far as garbage collection cares."""

    uid: str
    resource: Resource
    namespace: str
    name: str
    owners: tuple[Owner, ...]
    deleting: bool
    finalizers: frozenset[str]

    @property
    def deletes_dependents(self) -> bool:
        """It was deleted Foreground, and waits."""
        return self.deleting and FOREGROUND in self.finalizers

    @property
    def orphans_dependents(self) -> bool:
        """It was deleted with Orphan, and waits for its dependents to be set free."""
        return self.deleting and ORPHAN in self.finalizers


def owners_of(obj: Object) -> tuple[Owner, ...]:
    """The ownerReferences."""
    return tuple(
        Owner(
            str(reference.get("apiVersion", "")),
            str(reference.get("kind", "")),
            str(reference.get("name", "")),
            str(reference.get("uid", "")),
            bool(reference.get("blockOwnerDeletion")),
        )
        for reference in meta.owner_references(obj)
    )


def parse_item(resource: Resource, obj: Object) -> Item:
    """The object as a node of the graph."""
    return Item(
        meta.uid(obj),
        resource,
        meta.namespace(obj),
        meta.name(obj),
        owners_of(obj),
        meta.is_terminating(obj),
        frozenset(meta.finalizers(obj)),
    )


class Graph:
    """Items by uid, and the uids of their dependents."""

    def __init__(self) -> None:
        self._items: dict[str, Item] = {}
        self._dependents: dict[str, dict[str, Owner]] = {}

    def __len__(self) -> int:
        return len(self._items)

    def get(self, uid: str) -> Item | None:
        """The item, if it was seen."""
        return self._items.get(uid)

    def dependents(self, uid: str) -> list[Item]:
        """The items that name `uid` as an owner."""
        return [self._items[dependent] for dependent in self._dependents.get(uid, {})]

    def blocking(self, uid: str) -> list[Item]:
        """The dependents that `uid`'s foreground deletion waits for."""
        return [self._items[key] for key, owner in self._dependents.get(uid, {}).items() if owner.blocks]

    def set(self, item: Item) -> list[str]:
        """Take an item (or its change) in. Returns the uids to look at."""
        old = self._items.get(item.uid)
        self._unlink(old)
        self._items[item.uid] = item
        for owner in item.owners:
            self._dependents.setdefault(owner.uid, {})[item.uid] = owner
        wake: list[str] = []
        if item.owners and (old is None or old.owners != item.owners):
            wake.append(item.uid)
        if (item.deletes_dependents or item.orphans_dependents) and (
            old is None or (old.deleting, old.finalizers) != (item.deleting, item.finalizers)
        ):
            wake.append(item.uid)
        # A dependent that blocks no more, or now waits for its own, may be what an owner waits for.
        wake += self._waiting_owners(item)
        if old is not None and old.owners != item.owners:
            wake += self._waiting_owners(old)
        return wake

    def remove(self, uid: str) -> list[str]:
        """An item is gone. Returns the uids to look at: its dependents, and the owners that waited for it."""
        item = self._items.pop(uid, None)
        self._unlink(item)
        wake = [*self._dependents.get(uid, {})]
        if item is not None:
            wake += self._waiting_owners(item)
        return wake

    def _waiting_owners(self, item: Item) -> list[str]:
        found = [self._items.get(owner.uid) for owner in item.owners]
        return [owner.uid for owner in found if owner is not None and owner.deletes_dependents]

    def _unlink(self, item: Item | None) -> None:
        for owner in item.owners if item is not None else ():
            dependents = self._dependents.get(owner.uid)
            if dependents is not None and item is not None:
                dependents.pop(item.uid, None)
                if not dependents:
                    del self._dependents[owner.uid]


@dataclass(frozen=True, slots=True)
class Owners:
    """An item's owners, sorted out."""

    solid: tuple[Owner, ...]
    waiting: tuple[Owner, ...]
    absent: tuple[Owner, ...]


def reaches(owner: Item, dependent: Item) -> bool:
    """Whether an ownerReference may cross: into the same namespace, or up to what has none."""
    return not owner.namespace or owner.namespace == dependent.namespace


def classify(owners: Iterable[Owner], found: Mapping[str, Item | None]) -> Owners:
    """`found` says for each owner's uid what is there (None: nothing)."""
    solid: list[Owner] = []
    waiting: list[Owner] = []
    absent: list[Owner] = []
    for owner in owners:
        item = found.get(owner.uid)
        if item is None:
            absent.append(owner)
        elif item.deletes_dependents:
            waiting.append(owner)
        else:
            solid.append(owner)
    return Owners(tuple(solid), tuple(waiting), tuple(absent))


def drop_owners_patch(uid: str, owners: Sequence[Owner]) -> dict[str, Any]:
    """A strategic merge patch that takes these owners off the object with `uid`."""
    references = [{"$patch": "delete", "uid": owner_uid} for owner_uid in dict.fromkeys(o.uid for o in owners)]
    return {"metadata": {"ownerReferences": references, "uid": uid}}
