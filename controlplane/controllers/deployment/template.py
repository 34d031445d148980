"""A pod template's identity: the hash that names its ReplicaSet, and the comparison that finds it again.

Pure. The hash is FNV-1a (32 bits) over the template as canonical JSON, written in the alphabet of generated names, so
that it can stand in a name and in a label. It differs from upstream's (which hashes Go's memory dump), but has its
properties: stable over restarts, changed by any change of the template, moved by the collision count.
"""

from __future__ import annotations

import json
from collections.abc import Iterable

from podnet.controlplane.api import meta
from podnet.controlplane.api.timestamps import parse_time
from podnet.controlplane.api.types import Object

POD_TEMPLATE_HASH = "pod-template-hash"
_FNV_OFFSET = 2166136261
_FNV_PRIME = 16777619


def template_hash(template: Object, collision_count: int) -> str:
    """The value of the label `pod-template-hash` for a Deployment's template."""
    text = json.dumps(_bare(template), sort_keys=True, separators=(",", ":"))
    if collision_count:
        text += f"/{collision_count}"
    value = _FNV_OFFSET
    for byte in text.encode():
        value = (value ^ byte) * _FNV_PRIME & 0xFFFFFFFF
    alphabet = meta.GENERATED_NAME_ALPHABET
    return "".join(alphabet[ord(digit) % len(alphabet)] for digit in str(value))


def same_template(one: Object, other: Object) -> bool:
    """Equal but for the hash label, which only the ReplicaSet's copy has."""
    return _bare(one) == _bare(other)


def _bare(template: Object) -> Object:
    metadata = dict(template.get("metadata") or {})
    labels = {key: value for key, value in (metadata.get("labels") or {}).items() if key != POD_TEMPLATE_HASH}
    if labels:
        metadata["labels"] = labels
    else:
        metadata.pop("labels", None)
    if not metadata.get("creationTimestamp"):
        metadata.pop("creationTimestamp", None)
    return {"metadata": metadata, "spec": template.get("spec")}


def by_creation(replica_sets: Iterable[Object]) -> list[Object]:
    """Oldest first, by name within one second."""
    return sorted(replica_sets, key=lambda rs: (_created(rs), meta.name(rs)))


def _created(replica_set: Object) -> float:
    stamp = meta.metadata(replica_set).get("creationTimestamp")
    return parse_time(stamp) if stamp else 0.0


def find_new(deployment: Object, replica_sets: Iterable[Object]) -> Object | None:
    """The oldest ReplicaSet with the Deployment's template."""
    template = deployment["spec"]["template"]
    for replica_set in by_creation(replica_sets):
        if same_template(replica_set["spec"]["template"], template):
            return replica_set
    return None
