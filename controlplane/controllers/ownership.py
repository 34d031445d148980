"""Who owns what: a controller claims the objects its selector matches and lets go of those it matches no more.

Pure; the patches it builds are conditional on the uid, so that a namesake is never touched.
Source: kubernetes pkg/controller/controller_ref_manager.go.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from podnet.controlplane.api import meta
from podnet.controlplane.api.selectors import LabelSelector, from_label_selector_object
from podnet.controlplane.api.types import Object


@dataclass(frozen=True, slots=True)
class Claim:
    """`owned` are ours already; `adopt` are orphans that match; `release` are ours but match no more."""

    owned: tuple[Object, ...]
    adopt: tuple[Object, ...]
    release: tuple[Object, ...]


def selector_of(owner: Object) -> LabelSelector:
    """spec.selector; a ReplicationController's is a plain map of labels."""
    selector = owner["spec"].get("selector")
    if owner.get("kind") == "ReplicationController":
        selector = {"matchLabels": selector or {}}
    return from_label_selector_object(selector)


def plan_claim(owner: Object, candidates: Iterable[Object]) -> Claim:
    """Sort the candidates (all of the owner's namespace) out."""
    selector = selector_of(owner)
    owned: list[Object] = []
    adopt: list[Object] = []
    release: list[Object] = []
    for candidate in candidates:
        matches = selector.matches(meta.labels(candidate))
        reference = meta.controller_of(candidate)
        if reference is not None:
            if reference.get("uid") != meta.uid(owner):
                continue
            if matches:
                owned.append(candidate)
            elif not meta.is_terminating(owner):
                release.append(candidate)
        elif matches and not meta.is_terminating(owner) and not meta.is_terminating(candidate):
            adopt.append(candidate)
    return Claim(tuple(owned), tuple(adopt), tuple(release))


def adopt_patch(owner: Object, candidate: Object) -> dict[str, Any]:
    """A strategic merge patch that makes `owner` the controller of `candidate`."""
    return {"metadata": {"ownerReferences": [meta.controller_reference(owner)], "uid": meta.uid(candidate)}}


def release_patch(owner: Object, candidate: Object) -> dict[str, Any]:
    """A strategic merge patch that takes `owner` off `candidate`."""
    reference = {"$patch": "delete", "uid": meta.uid(owner)}
    return {"metadata": {"ownerReferences": [reference], "uid": meta.uid(candidate)}}
