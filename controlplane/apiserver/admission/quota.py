"""ResourceQuota: a namespace may hold so many objects, and ask for so much, and no more.

Usage is counted from the objects that are there, so it can neither drift nor lag; the registry makes creations under a
quota one at a time. Source: apiserver pkg/admission/plugin/resourcequota, pkg/quota/v1/evaluator/core.
"""

from __future__ import annotations

from typing import Any

from podnet.controlplane.api.quantity import Quantity, QuantityError, of
from podnet.controlplane.api.resources import PERSISTENTVOLUMECLAIMS, PODS, RESOURCEQUOTAS, SERVICES
from podnet.controlplane.api.timestamps import parse_time
from podnet.controlplane.api.types import Object, Resource
from podnet.controlplane.apiserver.admission.types import Attributes, Lookup
from podnet.controlplane.apiserver.strategy import qos_class
from podnet.controlplane.client.volume_binding import class_of

Usage = dict[str, Quantity]

_BY_NAME = frozenset(
    {"configmaps", "persistentvolumeclaims", "replicationcontrollers", "resourcequotas", "secrets", "services"}
)
_MUST_BE_SAID = ("cpu", "memory")
_COMPUTE = (*_MUST_BE_SAID, "ephemeral-storage")
STORAGE_CLASS_PART = ".storageclass.storage.k8s.io/"
_OF_CLASS = frozenset({"requests.storage", "persistentvolumeclaims"})
_ONE, _NONE = Quantity(1), Quantity(0)
GROWS = frozenset({PERSISTENTVOLUMECLAIMS, SERVICES})
"""What may ask for more when it is changed: claims grow, Services get other types."""


def resource_quota(attributes: Attributes, lookup: Lookup) -> None:
    """Refuse a creation, or the growth of what `GROWS`, that would exceed a quota (403)."""
    obj, resource = attributes.obj, attributes.resource
    if obj is None or attributes.operation == "DELETE" or attributes.subresource or not resource.namespaced:
        return
    if attributes.operation == "UPDATE" and resource not in GROWS:
        return
    quotas = lookup.objects(RESOURCEQUOTAS, attributes.namespace)
    if not quotas:
        return
    try:
        now = lookup.clock()
        asked = usage_of(obj, resource, now)
        if attributes.old is not None:
            asked = _growth(asked, usage_of(attributes.old, resource, now))
        for quota in quotas:
            _check(attributes, quota, asked, lookup)
    except QuantityError:
        return  # validation says it better


def _growth(asked: Usage, before: Usage) -> Usage:
    return {key: amount - before.get(key, _NONE) for key, amount in asked.items() if amount > before.get(key, _NONE)}


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
    now = lookup.clock()
    for other in lookup.objects(resource, attributes.namespace):
        if in_scope(other, resource, spec):
            for key, amount in usage_of(other, resource, now).items():
                if key in used:
                    used[key] = used[key] + amount
    over = [key for key in limited if used[key] + asked[key] > hard[key]]
    if over:
        shown = [",".join(f"{key}={values[key]}" for key in over) for values in (asked, used, hard)]
        raise attributes.refuse(f"exceeded quota: {name}, requested: {shown[0]}, used: {shown[1]}, limited: {shown[2]}")


def usage_of(obj: Object, resource: Resource, now: float) -> Usage:
    """What one object counts for, under every name a quota may use."""
    usage: Usage = {f"count/{resource.qualified_name}": _ONE}
    if resource == PODS and (is_terminal(obj) or is_overdue(obj, now)):
        return usage  # it is still an object
    if not resource.group and (resource.plural in _BY_NAME or resource == PODS):
        usage[resource.plural] = _ONE
    spec = obj.get("spec") or {}
    if resource == PODS:
        usage |= _compute(spec)
    elif resource == SERVICES:
        kind = spec.get("type", "ClusterIP")
        if kind == "LoadBalancer":
            usage["services.loadbalancers"] = _ONE
        ports = spec.get("ports") or ()
        if kind == "LoadBalancer" and spec.get("allocateLoadBalancerNodePorts") is False:
            ports = [port for port in ports if port.get("nodePort")]
        if kind in {"NodePort", "LoadBalancer"} and ports:
            usage["services.nodeports"] = Quantity(len(ports))
    elif resource == PERSISTENTVOLUMECLAIMS:
        storage = ((spec.get("resources") or {}).get("requests") or {}).get("storage")
        if storage is not None:
            usage["requests.storage"] = of(storage)
        usage |= {
            f"{class_of(obj)}{STORAGE_CLASS_PART}{key}": amount for key, amount in usage.items() if key in _OF_CLASS
        }
    return usage


def is_terminal(pod: Object) -> bool:
    """A finished pod uses nothing but its place in the store."""
    return (pod.get("status") or {}).get("phase") in {"Succeeded", "Failed"}


def is_overdue(pod: Object, now: float) -> bool:
    """It should have gone and has not: its node is lost. What takes its place must not have to wait for it."""
    stamp, grace_s = (pod["metadata"].get(field) for field in ("deletionTimestamp", "deletionGracePeriodSeconds"))
    return bool(stamp) and grace_s is not None and parse_time(stamp) + int(grace_s) < now


def _compute(spec: dict[str, Any]) -> Usage:
    """Under `requests.x` and `limits.x`; standard requests also as plain `x`. Of extended resources requests alone count."""
    usage: Usage = {}
    for field in ("requests", "limits"):
        for name, amount in pod_amounts(spec, field).items():
            standard = name in _COMPUTE
            if standard or (field == "requests" and (name.startswith("hugepages-") or "/" in name)):
                usage[f"{field}.{name}"] = amount
            if field == "requests" and (standard or name.startswith("hugepages-")):
                usage[name] = amount
    return usage


def pod_amounts(spec: dict[str, Any], field: str) -> Usage:
    """The sum over containers and sidecars, or the largest step on the way there if that is more."""
    total, sidecars, largest = dict[str, Quantity](), dict[str, Quantity](), dict[str, Quantity]()
    for container in spec.get("initContainers") or ():
        step = _amounts(container, field)
        if container.get("restartPolicy") == "Always":
            sidecars = _sum(sidecars, step)
            step = sidecars
        else:
            step = _sum(step, sidecars)
        largest = {name: max(step.get(name, _NONE), largest.get(name, _NONE)) for name in {**largest, **step}}
    for container in spec.get("containers") or ():
        total = _sum(total, _amounts(container, field))
    total = _sum(total, sidecars)
    peak = {name: max(total.get(name, _NONE), largest.get(name, _NONE)) for name in {**largest, **total}}
    overhead = {name: of(amount) for name, amount in (spec.get("overhead") or {}).items()}
    return _sum(peak, {name: amount for name, amount in overhead.items() if field == "requests" or name in peak})


def _amounts(container: dict[str, Any], field: str) -> Usage:
    return {name: of(amount) for name, amount in ((container.get("resources") or {}).get(field) or {}).items()}


def _sum(one: Usage, other: Usage) -> Usage:
    return {name: one.get(name, _NONE) + other.get(name, _NONE) for name in {**one, **other}}


def _unspecified(pod: Object, hard: Usage) -> list[str]:
    """`limits.cpu for: c`: where a quota counts CPU or memory, every container must say how much it takes."""
    missing = []
    for key in sorted(hard):
        field, _, name = key.rpartition(".")
        if key in _MUST_BE_SAID:
            field, name = "requests", key
        if field not in {"requests", "limits"} or name not in _MUST_BE_SAID:
            continue
        silent = [
            container["name"]
            for group in ("containers", "initContainers")
            for container in (pod.get("spec") or {}).get(group) or ()
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
    best_effort = qos_class(spec) == "BestEffort"
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
        return name not in values  # as of labels: what is not there is not among them either
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
