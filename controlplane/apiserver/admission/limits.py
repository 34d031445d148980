"""LimitRanger: what a namespace's LimitRanges give to containers that ask for nothing, and what they forbid.

Source: plugin/pkg/admission/limitranger of Kubernetes 1.32.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from podnet.controlplane.api.errors import StatusError
from podnet.controlplane.api.quantity import Quantity, QuantityError, of
from podnet.controlplane.api.resources import LIMITRANGES, PERSISTENTVOLUMECLAIMS, PODS
from podnet.controlplane.api.types import Object
from podnet.controlplane.apiserver.admission.types import Attributes, Lookup

Amounts = dict[str, Quantity]


def limit_ranger(attributes: Attributes, lookup: Lookup) -> None:
    """Fill in defaults and refuse what is beyond a limit (403)."""
    obj, resource = attributes.obj, attributes.resource
    if obj is None or attributes.operation != "CREATE" or attributes.subresource:
        return
    if resource not in {PODS, PERSISTENTVOLUMECLAIMS}:
        return
    limits = [
        limit
        for limit_range in lookup.objects(LIMITRANGES, attributes.namespace)
        for limit in (limit_range.get("spec") or {}).get("limits") or ()
    ]
    if not limits:
        return
    try:
        problems = _of_pod(obj, limits) if resource == PODS else _of_claim(obj, limits)
    except QuantityError:
        return  # validation says it better
    if problems:
        raise _refusal(attributes, problems)


def _refusal(attributes: Attributes, problems: list[str]) -> StatusError:
    return attributes.refuse(problems[0] if len(problems) == 1 else f"[{', '.join(problems)}]")


def _of_pod(pod: Object, limits: list[dict[str, Any]]) -> list[str]:
    problems: list[str] = []
    spec = pod.get("spec") or {}
    containers = [*(spec.get("containers") or ()), *(spec.get("initContainers") or ())]
    for limit in limits:
        if limit.get("type") == "Container":
            for container in containers:
                _apply_defaults(container, limit)
    for limit in limits:
        if limit.get("type") == "Container":
            for container in containers:
                problems += _check(limit, "Container", *_amounts(container))
        elif limit.get("type") == "Pod":
            problems += _check(limit, "Pod", *_pod_amounts(spec))
    return list(dict.fromkeys(problems))


def _apply_defaults(container: dict[str, Any], limit: dict[str, Any]) -> None:
    resources = container.setdefault("resources", {})
    for field, source in (("limits", "default"), ("requests", "defaultRequest")):
        for name, amount in (limit.get(source) or {}).items():
            resources.setdefault(field, {}).setdefault(name, amount)


def _amounts(container: dict[str, Any]) -> tuple[Amounts, Amounts]:
    resources = container.get("resources") or {}
    requests = {name: of(amount) for name, amount in (resources.get("requests") or {}).items()}
    return requests, {name: of(amount) for name, amount in (resources.get("limits") or {}).items()}


def _pod_amounts(spec: dict[str, Any]) -> tuple[Amounts, Amounts]:
    """A pod's own: the sum of its containers, or its largest init container."""
    out: tuple[Amounts, Amounts] = ({}, {})
    for container in spec.get("containers") or ():
        for total, part in zip(out, _amounts(container), strict=True):
            for name, amount in part.items():
                total[name] = total[name] + amount if name in total else amount
    for container in spec.get("initContainers") or ():
        for total, part in zip(out, _amounts(container), strict=True):
            for name, amount in part.items():
                total[name] = max(total[name], amount) if name in total else amount
    return out


def _check(limit: dict[str, Any], kind: str, requests: Amounts, limits: Amounts) -> Iterator[str]:
    for name, text in sorted((limit.get("min") or {}).items()):
        least = of(text)
        if name not in requests:
            yield f"minimum {name} usage per {kind} is {text}.  No request is specified"
        elif requests[name] < least:
            yield f"minimum {name} usage per {kind} is {text}, but request is {requests[name]}"
    for name, text in sorted((limit.get("max") or {}).items()):
        most = of(text)
        if name not in limits:
            yield f"maximum {name} usage per {kind} is {text}.  No limit is specified"
        elif limits[name] > most:
            yield f"maximum {name} usage per {kind} is {text}, but limit is {limits[name]}"
    for name, text in sorted((limit.get("maxLimitRequestRatio") or {}).items()):
        if name in requests and name in limits and not requests[name].is_zero():
            ratio = limits[name].value / requests[name].value
            if ratio > of(text).value:
                yield f"{name} max limit to request ratio per {kind} is {text}, but provided ratio is {float(ratio):f}"


def _of_claim(claim: Object, limits: list[dict[str, Any]]) -> list[str]:
    requests = ((claim.get("spec") or {}).get("resources") or {}).get("requests") or {}
    asked = {name: of(amount) for name, amount in requests.items()}
    kind = "PersistentVolumeClaim"
    problems: list[str] = []
    for limit in limits:
        if limit.get("type") == kind:
            problems += [text.replace("limit is", "request is") for text in _check(limit, kind, asked, asked)]
    return problems
