"""ResourceQuota: a namespace may hold so many objects, and ask for so much, and no more.

Usage is counted from the objects that are there, so it can neither drift nor lag; the registry makes creations under a
quota one at a time. Source: apiserver pkg/admission/plugin/resourcequota, pkg/quota/v1/evaluator/core.
"""

from __future__ import annotations

from typing import Any

from podnet.controlplane.api.quantity import Quantity, QuantityError, of
from podnet.controlplane.api.resources import PERSISTENTVOLUMECLAIMS, PODS, RESOURCEQUOTAS, SERVICES
from podnet.controlplane.api.types import Object, Resource
from podnet.controlplane.apiserver.admission.types import Attributes, Lookup
from podnet.controlplane.client.volume_binding import class_of

Usage = dict[str, Quantity]

_BY_NAME = frozenset(
    {"configmaps", "persistentvolumeclaims", "replicationcontrollers", "resourcequotas", "secrets", "services"}
)
_COMPUTE = ("cpu", "memory", "ephemeral-storage")
STORAGE_CLASS_PART = ".storageclass.storage.k8s.io/"
_OF_CLASS = frozenset({"requests.storage", "persistentvolumeclaims"})
_ONE, _NONE = Quantity(1), Quantity(0)


def resource_quota(attributes: Attributes, lookup: Lookup) -> None:
    """Refuse a creation that would exceed a quota (403)."""
    obj, resource = attributes.obj, attributes.resource
    if obj is None or attributes.operation != "CREATE" or attributes.subresource or not resource.namespaced:
        return
    quotas = lookup.objects(RESOURCEQUOTAS, attributes.namespace)
    if not quotas:
        return
    try:
        asked = usage_of(obj, resource)
        for quota in quotas:
            _check(attributes, quota, asked, lookup)
    except QuantityError:
        return  # validation says it better


def _check(attributes: Attributes, quota: Object, asked: Usage, lookup: Lookup) -> None:
    obj, resource = attributes.obj or {}, attributes.resource
    spec, name = quota.get("spec") or {}, quota["metadata"]["name"]
    if not in_scope(obj, resource, spec):
        return
    hard = {key: of(text) for key, text in (spec.get("hard") or {}).items()}
    if resource == PODS:
        missing = _unspecified(obj, hard)
        if missing:
            raise attributes.refuse(f"failed quota: {name}: must specify {'; '.join(missing)}")
    limited = sorted(key for key in hard if not asked.get(key, _NONE).is_zero())
    if not limited:
        return
    used: Usage = dict.fromkeys(limited, _NONE)
    for other in lookup.objects(resource, attributes.namespace):
        if in_scope(other, resource, spec):
            for key, amount in usage_of(other, resource).items():
                if key in used:
                    used[key] = used[key] + amount
    over = [key for key in limited if used[key] + asked[key] > hard[key]]
    if over:
        shown = [",".join(f"{key}={values[key]}" for key in over) for values in (asked, used, hard)]
        raise attributes.refuse(f"exceeded quota: {name}, requested: {shown[0]}, used: {shown[1]}, limited: {shown[2]}")


def usage_of(obj: Object, resource: Resource) -> Usage:
    """What one object counts for, under every name a quota may use."""
    if resource == PODS and is_terminal(obj):
        return {}
    usage: Usage = {f"count/{resource.qualified_name}": _ONE}
    if not resource.group and (resource.plural in _BY_NAME or resource == PODS):
        usage[resource.plural] = _ONE
    spec = obj.get("spec") or {}
    if resource == PODS:
        usage |= _compute(spec)
    elif resource == SERVICES:
        kind = spec.get("type", "ClusterIP")
        if kind == "LoadBalancer":
            usage["services.loadbalancers"] = _ONE
        if kind in {"NodePort", "LoadBalancer"}:
            usage["services.nodeports"] = Quantity(len(spec.get("ports") or ()))
    elif resource == PERSISTENTVOLUMECLAIMS:
        storage = ((spec.get("resources") or {}).get("requests") or {}).get("storage")
        if storage is not None:
            usage["requests.storage"] = of(storage)
        usage |= {
            f"{class_of(obj)}{STORAGE_CLASS_PART}{key}": amount for key, amount in usage.items() if key in _OF_CLASS
        }
    return usage


def is_terminal(pod: Object) -> bool:
    """A finished pod uses nothing."""
    return (pod.get("status") or {}).get("phase") in {"Succeeded", "Failed"}


def _compute(spec: dict[str, Any]) -> Usage:
    usage: Usage = {}
    for field in ("requests", "limits"):
        for name in _COMPUTE:
            amount = _largest(spec, field, name)
            if amount is not None:
                usage[f"{field}.{name}"] = amount
                if field == "requests":
                    usage[name] = amount
    return usage


def _largest(spec: dict[str, Any], field: str, name: str) -> Quantity | None:
    """The sum over containers, or the largest init container if that is more."""

    def amounts(containers: Any) -> list[Quantity]:
        found = [((c.get("resources") or {}).get(field) or {}).get(name) for c in containers or ()]
        return [of(amount) for amount in found if amount is not None]

    ordinary, initial = amounts(spec.get("containers")), amounts(spec.get("initContainers"))
    if not ordinary and not initial:
        return None
    return max([sum(ordinary, _NONE), *initial])


def _unspecified(pod: Object, hard: Usage) -> list[str]:
    """`limits.cpu for: c`: where a quota counts something, every container must say how much it takes."""
    missing = []
    for key in sorted(hard):
        field, _, name = key.rpartition(".")
        if key in _COMPUTE:
            field, name = "requests", key
        if field not in {"requests", "limits"} or name not in _COMPUTE:
            continue
        silent = [
            container["name"]
            for container in (pod.get("spec") or {}).get("containers") or ()
            if name not in ((container.get("resources") or {}).get(field) or {})
        ]
        if silent:
            missing.append(f"{key} for: {','.join(sorted(silent))}")
    return missing


def in_scope(obj: Object, resource: Resource, spec: dict[str, Any]) -> bool:
    """Whether a quota's scopes and scopeSelector (all of them) take the object in."""
    scopes = spec.get("scopes") or ()
    terms = (spec.get("scopeSelector") or {}).get("matchExpressions") or ()
    if not scopes and not terms:
        return True
    if resource != PODS:
        return False
    return all(_holds(scope, obj) for scope in scopes) and all(_matches(term, obj) for term in terms)


def _holds(scope: str, pod: Object) -> bool:
    spec = pod.get("spec") or {}
    best_effort = not _compute(spec)
    terminating = spec.get("activeDeadlineSeconds") is not None
    holds = {
        "BestEffort": best_effort,
        "NotBestEffort": not best_effort,
        "Terminating": terminating,
        "NotTerminating": not terminating,
        "PriorityClass": bool(spec.get("priorityClassName")),
        "CrossNamespacePodAffinity": _reaches_out(spec),
    }
    return holds.get(scope, False)


def _matches(term: dict[str, Any], pod: Object) -> bool:
    """One expression: only PriorityClass has values to compare, the others just hold."""
    scope, operator = term.get("scopeName", ""), term.get("operator")
    if scope != "PriorityClass":
        return _holds(scope, pod)
    name, values = (pod.get("spec") or {}).get("priorityClassName") or "", term.get("values") or ()
    if operator == "In":
        return name in values
    if operator == "NotIn":
        return bool(name) and name not in values
    return bool(name) == (operator == "Exists")


def _reaches_out(spec: dict[str, Any]) -> bool:
    affinity = spec.get("affinity") or {}
    for field in ("podAffinity", "podAntiAffinity"):
        for terms in (affinity.get(field) or {}).values():
            for entry in terms or ():
                term = entry.get("podAffinityTerm") or entry
                if term.get("namespaces") or term.get("namespaceSelector") is not None:
                    return True
    return False
