"""Where objects live in the store: `/registry/<group or core>/<plural>/[<namespace>/]<name>`.

Resources that are two views of the same objects (events in two groups, autoscalers in two versions) share the keys of
the one that is stored.
"""

from __future__ import annotations

from podnet.controlplane.api.resources import RESOURCES, storage_resource
from podnet.controlplane.api.types import Resource

PREFIX = "/registry/"


def _prefix(resource: Resource) -> str:
    stored = storage_resource(resource)
    return f"{PREFIX}{stored.group or 'core'}/{stored.plural}/"


_PREFIXES = {(r.group, r.version, r.plural): _prefix(r) for r in RESOURCES}


def prefix_of(resource: Resource, namespace: str = "") -> str:
    """The prefix of all keys of a resource, or of one namespace of it."""
    base = _PREFIXES[resource.group, resource.version, resource.plural]
    return f"{base}{namespace}/" if namespace else base


def key_of(resource: Resource, namespace: str, name: str) -> str:
    """The key of one object; the namespace of a cluster-scoped resource is ignored."""
    return prefix_of(resource, namespace if resource.namespaced else "") + name
