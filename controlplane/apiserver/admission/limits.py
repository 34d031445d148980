"""LimitRanger: what a namespace's LimitRanges give to containers that ask for nothing, and what they forbid.

Source: plugin/pkg/admission/limitranger of Kubernetes 1.32.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from podnet.controlplane.api.errors import StatusError
from podnet.controlplane.api.quantity import Quantity, QuantityError, of
from podnet.controlplane.api.resources import LIMITRANGES, PERSISTENTVOLUMECLAIMS, PODS
from podnet.controlplane.api.types import Object
from podnet.controlplane.apiserver.admission.quota import pod_amounts
from podnet.controlplane.apiserver.admission.types import Attributes, Lookup

Amounts = dict[str, Quantity]
ANNOTATION = "kubernetes.io/limit-ranger"


def limit_ranger(attributes: Attributes, lookup: Lookup) -> None:
    """Fill in defaults and refuse what is beyond a limit (403)."""
    obj, resource = attributes.obj, attributes.resource
    if obj is None or attributes.operation == "DELETE" or attributes.subresource:
        return
    # What a pod's containers take is said once and for all; a claim may grow.
    if resource != PERSISTENTVOLUMECLAIMS and not (resource == PODS and attributes.operation == "CREATE"):
        return
    ranges = [
        (limit_range.get("spec") or {}).get("limits") or ()
        for limit_range in lookup.objects(LIMITRANGES, attributes.namespace)
    ]
    limits = [limit for some in ranges for limit in some]
    if not limits:
        return
    try:
        if resource == PODS:
            for some in ranges:
                _fill_in(obj, some)
        problems = _of_pod(obj, limits) if resource == PODS else _of_claim(obj, limits)
    except QuantityError:
        return  # validation says it better
    if problems:
        raise _refusal(attributes, problems)


def _refusal(attributes: Attributes, problems: list[str]) -> StatusError:
    return attributes.refuse(problems[0] if len(problems) == 1 else f"[{', '.join(problems)}]")


def _fill_in(pod: Object, limits: Iterable[dict[str, Any]]) -> None:
    """What one LimitRange gives, and the annotation that says so."""
    told: list[str] = []
    spec = pod.get("spec") or {}
    for field, word in (("containers", "container"), ("initContainers", "init container")):
        for container in spec.get(field) or ():
            added: dict[str, list[str]] = {"requests": [], "limits": []}
            for limit in limits:
                if limit.get("type") == "Container":
                    _apply_defaults(container, limit, added)
            for kind, names in added.items():
                if names:
                    told.append(f"{', '.join(sorted(names))} {kind[:-1]} for {word} {container.get('name', '')}")
    if told:
        annotations = pod["metadata"].get("annotations") or {}
        pod["metadata"]["annotations"] = {**annotations, ANNOTATION: f"LimitRanger plugin set: {'; '.join(told)}"}


def _of_pod(pod: Object, limits: list[dict[str, Any]]) -> list[str]:
    problems: list[str] = []
    spec = pod.get("spec") or {}
    for limit in limits:
        if limit.get("type") == "Container":
            for container in (*(spec.get("containers") or ()), *(spec.get("initContainers") or ())):
                problems += _check(limit, "Container", *_amounts(container))
        elif limit.get("type") == "Pod":
            problems += _check(limit, "Pod", *_pod_amounts(spec))
    return list(dict.fromkeys(problems))


def _apply_defaults(container: dict[str, Any], limit: dict[str, Any], added: dict[str, list[str]]) -> None:
    resources = container.setdefault("resources", {})
    for field, source in (("limits", "default"), ("requests", "defaultRequest")):
        for name, amount in (limit.get(source) or {}).items():
            if name not in (resources.get(field) or {}):
                resources.setdefault(field, {})[name] = amount
                added[field].append(name)


def _amounts(container: dict[str, Any]) -> tuple[Amounts, Amounts]:
    resources = container.get("resources") or {}
    requests = {name: of(amount) for name, amount in (resources.get("requests") or {}).items()}
    return requests, {name: of(amount) for name, amount in (resources.get("limits") or {}).items()}


def _pod_amounts(spec: dict[str, Any]) -> tuple[Amounts, Amounts]:
    """A pod's own: its requests and limits as a quota counts them."""
    return pod_amounts(spec, "requests"), pod_amounts(spec, "limits")


def _check(limit: dict[str, Any], kind: str, requests: Amounts, limits: Amounts) -> Iterator[str]:
    for name, text in sorted((limit.get("min") or {}).items()):
        least, head = of(text), f"minimum {name} usage per {kind} is {text}"
        if name not in requests:
            yield f"{head}.  No request is specified"
        elif requests[name] < least:
            yield f"{head}, but request is {requests[name]}"
        elif name in limits and limits[name] < least:
            yield f"{head}, but limit is {limits[name]}"
    for name, text in sorted((limit.get("max") or {}).items()):
        most, head = of(text), f"maximum {name} usage per {kind} is {text}"
        if name not in limits:
            yield f"{head}.  No limit is specified"
        elif limits[name] > most:
            yield f"{head}, but limit is {limits[name]}"
        elif name in requests and requests[name] > most:
            yield f"{head}, but request is {requests[name]}"
    for name, text in sorted((limit.get("maxLimitRequestRatio") or {}).items()):
        yield from _check_ratio(name, text, kind, requests, limits)


def _check_ratio(name: str, text: str, kind: str, requests: Amounts, limits: Amounts) -> Iterator[str]:
    head = f"{name} max limit to request ratio per {kind} is {text}, but"
    for word, amounts in (("request", requests), ("limit", limits)):
        if name not in amounts or amounts[name].is_zero():
            yield f"{head} no {word} is specified or {word} is 0"
            return
    ratio = limits[name].value / requests[name].value
    if ratio > of(text).value:
        yield f"{head} provided ratio is {float(ratio):f}"


def _of_claim(claim: Object, limits: list[dict[str, Any]]) -> list[str]:
    requests = ((claim.get("spec") or {}).get("resources") or {}).get("requests") or {}
    asked = {name: of(amount) for name, amount in requests.items()}
    kind = "PersistentVolumeClaim"
    problems: list[str] = []
    for limit in limits:
        if limit.get("type") == kind:
            of_amounts = {field: limit.get(field) for field in ("min", "max")}
            problems += [
                text.replace("limit is", "request is").replace("No limit", "No request")
                for text in _check(of_amounts, kind, asked, asked)
            ]
    return problems
