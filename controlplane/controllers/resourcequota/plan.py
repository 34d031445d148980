"""What a ResourceQuota's status says: the limits as they are, and what is used of each.

Pure; objects are measured by the same function that admission asks, so that the two never disagree.
Source: kubernetes pkg/controller/resourcequota, pkg/quota/v1/evaluator/core.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from podnet.controlplane.api.quantity import Quantity, QuantityError, of
from podnet.controlplane.api.resources import PERSISTENTVOLUMECLAIMS, PODS, RESOURCES, SERVICES
from podnet.controlplane.api.types import Object, Resource
from podnet.controlplane.apiserver.admission.quota import STORAGE_CLASS_PART, in_scope, usage_of

_BY_QUALIFIED_NAME = {resource.qualified_name: resource for resource in reversed(RESOURCES) if resource.namespaced}
_COMPUTE = frozenset({"cpu", "memory", "ephemeral-storage"})


def measured_resource(key: str) -> Resource | None:
    """The resource whose objects a name in `hard` is about, None for a name that nothing here knows."""
    if key.startswith("count/"):
        return _BY_QUALIFIED_NAME.get(key.removeprefix("count/"))
    if key == "requests.storage" or STORAGE_CLASS_PART in key:
        return PERSISTENTVOLUMECLAIMS
    if key.startswith("services."):
        return SERVICES
    if key in _COMPUTE or key.startswith(("requests.", "limits.", "hugepages-")):
        return PODS
    return _BY_QUALIFIED_NAME.get(key)


def measured_resources(quota: Object) -> list[Resource]:
    """All resources that the quota counts, each once, by name."""
    found = {resource for key in _hard(quota) if (resource := measured_resource(key)) is not None}
    return sorted(found, key=lambda resource: resource.qualified_name)


def _hard(quota: Object) -> Mapping[str, str]:
    return (quota.get("spec") or {}).get("hard") or {}


def desired_status(quota: Object, objects: Mapping[Resource, Sequence[Object]], now: float) -> Object:
    """The status for the objects of the quota's namespace."""
    hard = _hard(quota)
    used = {key: Quantity(0) for key in hard if measured_resource(key) is not None}
    for resource, some in objects.items():
        for usage in _usages(quota, resource, some, now):
            for key, amount in usage.items():
                if key in used:
                    used[key] = used[key] + amount
    return {"hard": dict(hard), "used": {key: str(amount) for key, amount in used.items()}}


def _usages(
    quota: Object, resource: Resource, objects: Iterable[Object], now: float
) -> Iterable[Mapping[str, Quantity]]:
    for obj in objects:
        if in_scope(obj, resource, quota.get("spec") or {}):
            try:
                yield usage_of(obj, resource, now)
            except QuantityError:
                continue  # stored before it was checked: it cannot be measured


def same_status(one: Object | None, other: Object) -> bool:
    """Equal as quantities: 1000m and 1 are one."""
    if not one or set(one) != set(other):
        return False
    for part in ("hard", "used"):
        mine, theirs = one.get(part) or {}, other.get(part) or {}
        if set(mine) != set(theirs) or any(of(mine[key]) != of(theirs[key]) for key in mine):
            return False
    return True
