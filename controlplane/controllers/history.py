"""ControllerRevisions: the history of a template, by which `kubectl rollout history` and `undo` find their way.

Pure. A revision's data is a strategic merge patch that puts its template back. The revision that is current has the
highest number; going back to an old template moves that one's number up instead of writing it anew.
Source: kubernetes pkg/controller/history, daemon/update.go, statefulset/stateful_set_utils.go.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from podnet.controlplane.api import meta
from podnet.controlplane.api.types import Object
from podnet.controlplane.controllers.deployment.revision import annotations_of
from podnet.controlplane.controllers.deployment.template import same_template, template_hash

REVISION_HASH = "controller-revision-hash"
"""The label by which a pod says which revision it is of."""


@dataclass(frozen=True, slots=True)
class Revisions:
    """An owner's history against its template: `current` is the revision of the template, if there is one; `number` is
    the number it is to carry; `old` are the others, oldest first.
    """

    current: Object | None
    number: int
    old: tuple[Object, ...]


def revision_number(revision: Object) -> int:
    """`revision`, 0 when it is absent."""
    return int(revision.get("revision") or 0)


def template_of(revision: Object) -> Object:
    """The template a revision stands for."""
    template = ((revision.get("data") or {}).get("spec") or {}).get("template") or {}
    return {key: value for key, value in template.items() if key != "$patch"}


def read_revisions(owner: Object, revisions: Iterable[Object]) -> Revisions:
    """Find the template's revision among those of the owner."""
    order = sorted(revisions, key=lambda r: (revision_number(r), meta.metadata(r).get("creationTimestamp", "")))
    template = owner["spec"]["template"]
    current = next((r for r in reversed(order) if same_template(template_of(r), template)), None)
    old = tuple(r for r in order if r is not current)
    highest = revision_number(old[-1]) if old else 0
    if current is not None and revision_number(current) > highest:
        return Revisions(current, revision_number(current), old)
    return Revisions(current, highest + 1, old)


def desired_revision(owner: Object, number: int, hash_label: str) -> Object:
    """The revision to create for the owner's template; its label `hash_label` holds the hash."""
    template = meta.deep_copy(owner["spec"]["template"])
    digest = template_hash(template, int((owner.get("status") or {}).get("collisionCount") or 0))
    # kubectl compares its own encoding of the template with these bytes: Go writes keys in order and this null.
    template["metadata"] = {"creationTimestamp": None, **(template.get("metadata") or {})}
    metadata: Object = {
        "name": f"{meta.name(owner)}-{digest}",
        "namespace": meta.namespace(owner),
        "labels": {**(template["metadata"].get("labels") or {}), hash_label: digest},
        "ownerReferences": [meta.controller_reference(owner)],
    }
    if annotations_of(owner):
        metadata["annotations"] = dict(annotations_of(owner))
    return {
        "apiVersion": "apps/v1",
        "kind": "ControllerRevision",
        "metadata": metadata,
        "data": _sorted({"spec": {"template": {**template, "$patch": "replace"}}}),
        "revision": number,
    }


def _sorted(value: object) -> object:
    if isinstance(value, dict):
        return {key: _sorted(value[key]) for key in sorted(value)}
    return [_sorted(item) for item in value] if isinstance(value, list) else value


def with_template(owner: Object, revision: Object) -> Object:
    """The owner as it was at a revision."""
    return {**owner, "spec": {**owner["spec"], "template": template_of(revision)}}


def plan_truncate(owner: Object, old: Sequence[Object], in_use: Collection[str]) -> list[Object]:
    """The old revisions beyond revisionHistoryLimit, oldest first; those whose names are in use stay and do not count."""
    limit = int(owner["spec"].get("revisionHistoryLimit", 10))
    idle = [revision for revision in old if meta.name(revision) not in in_use]
    return idle[: max(0, len(idle) - limit)]
