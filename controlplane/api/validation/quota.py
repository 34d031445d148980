"""ResourceQuota and LimitRange.

Source: Kubernetes API reference 1.32 and the messages of a 1.32 server.
"""

from __future__ import annotations

from podnet.controlplane.api import names
from podnet.controlplane.api.errors import Cause, duplicate, forbidden_field, invalid_value, required
from podnet.controlplane.api.quantity import Quantity
from podnet.controlplane.api.types import Object
from podnet.controlplane.api.validation.resources import validate_quantity
from podnet.controlplane.api.validation.values import (
    JSONObject,
    immutable,
    objects,
    parse_quantity,
    part,
    strings,
    texts,
)

_COMPUTE = frozenset({"cpu", "memory", "requests.cpu", "requests.memory", "limits.cpu", "limits.memory"})
_WHOLE = frozenset(
    {
        "pods",
        "services",
        "replicationcontrollers",
        "resourcequotas",
        "secrets",
        "configmaps",
        "persistentvolumeclaims",
        "services.nodeports",
        "services.loadbalancers",
    }
)
"""What is counted and not measured."""
_STANDARD = (
    _COMPUTE
    | _WHOLE
    | {"ephemeral-storage", "requests.ephemeral-storage", "limits.ephemeral-storage", "requests.storage"}
)
_PRESENCE = ("BestEffort", "NotBestEffort", "Terminating", "NotTerminating", "CrossNamespacePodAffinity")
_SCOPES = (*_PRESENCE, "PriorityClass")
_OPPOSITES = (("BestEffort", "NotBestEffort"), ("Terminating", "NotTerminating"))
_LIMIT_TYPES = frozenset({"Pod", "Container", "PersistentVolumeClaim"})
_LIMIT_FIELDS = ("max", "min", "default", "defaultRequest", "maxLimitRequestRatio")


def validate_quota(obj: Object) -> list[Cause]:
    """ResourceQuota."""
    spec = part(obj, "spec")
    causes: list[Cause] = []
    hard = part(spec, "hard")
    for name, value in hard.items():
        path = f"spec.hard[{name}]"
        causes += texts(path, name, names.qualified_name(name))
        if "/" not in name and not _is_standard(name):
            causes.append(invalid_value(path, name, "must be a standard resource for quota"))
        amount = parse_quantity(value)
        if (name in _WHOLE or name.startswith("count/")) and amount is not None and amount.value.denominator != 1:
            causes.append(invalid_value(path, str(amount), "must be an integer"))
        causes += validate_quantity(value, path)
    return causes + _validate_scopes(spec, set(hard)) + _validate_scope_selector(spec, set(hard))


def validate_quota_update(new: Object, old: Object) -> list[Cause]:
    """The scopes of a ResourceQuota stay."""
    return immutable({"scopes": _scopes(new)}, {"scopes": _scopes(old)}, "scopes", "spec")


def _scopes(quota: Object) -> list[str]:
    return sorted(strings(part(quota, "spec"), "scopes"))


def _is_standard(name: str) -> bool:
    return name in _STANDARD or name.removeprefix("requests.").startswith("hugepages-")


def _does_not_apply(scope: str, hard: set[str]) -> bool:
    """A scope chooses pods: what counts anything else cannot have one, and best effort has no amounts."""
    allowed = {"pods"} if scope == "BestEffort" else {"pods", *_COMPUTE}
    return any(_is_standard(name) and name not in allowed for name in hard)


def _validate_scopes(spec: JSONObject, hard: set[str]) -> list[Cause]:
    scopes = strings(spec, "scopes")
    problems: list[str] = []
    for scope in scopes:
        problems += ["unsupported scope"] if scope not in _SCOPES else []
        problems += ["unsupported scope applied to resource"] if _does_not_apply(scope, hard) else []
    problems += ["conflicting scopes" for pair in _OPPOSITES if set(pair) <= set(scopes)]
    return [invalid_value("spec.scopes", scopes, problem) for problem in problems]


def _validate_scope_selector(spec: JSONObject, hard: set[str]) -> list[Cause]:
    path = "spec.scopeSelector.matchExpressions"
    causes: list[Cause] = []
    for _, row in objects(part(spec, "scopeSelector"), "matchExpressions"):
        scope, operator, values = row.get("scopeName") or "", row.get("operator") or "", strings(row, "values")
        if scope not in _SCOPES:
            causes.append(invalid_value(f"{path}.scopeName", scope, "unsupported scope"))
        elif _does_not_apply(scope, hard):
            causes.append(invalid_value(path, spec["scopeSelector"], "unsupported scope applied to resource"))
        if scope in _PRESENCE and operator != "Exists":
            text = (
                "must be 'Exist' when scope is any of ResourceQuotaScopeTerminating, ResourceQuotaScopeNotTerminating, "
                "ResourceQuotaScopeBestEffort, ResourceQuotaScopeNotBestEffort or ResourceQuotaScopeCrossNamespacePodAffinity"
            )
            causes.append(invalid_value(f"{path}.operator", operator, text))
        if operator in {"In", "NotIn"}:
            text = "must be at least one value when `operator` is 'In' or 'NotIn' for scope selector"
            causes += [] if values else [required(f"{path}.values", text)]
        elif operator in {"Exists", "DoesNotExist"}:
            text = "must be no value when `operator` is 'Exist' or 'DoesNotExist' for scope selector"
            causes += [invalid_value(f"{path}.values", values, text)] if values else []
        else:
            causes.append(invalid_value(f"{path}.operator", operator, "not a valid selector operator"))
    return causes


def validate_limit_range(obj: Object) -> list[Cause]:
    """LimitRange: min ≤ defaultRequest ≤ default ≤ max."""
    causes: list[Cause] = []
    seen: set[str] = set()
    for index, item in objects(part(obj, "spec"), "limits"):
        path = f"spec.limits[{index}]"
        kind = item.get("type") or ""
        causes += texts(f"{path}.type", kind, names.qualified_name(kind))
        if "/" not in kind and kind not in _LIMIT_TYPES:
            causes.append(invalid_value(f"{path}.type", kind, "must be a standard limit type or fully qualified"))
        if kind in seen:
            causes.append(duplicate(f"{path}.type", kind))
        seen.add(kind)
        if kind == "Pod":
            for field in ("default", "defaultRequest"):
                if item.get(field):
                    text = "may not be specified when `type` is 'Pod'"
                    causes.append(forbidden_field(f"{path}.{field}", text))
        if kind == "PersistentVolumeClaim" and not any("storage" in part(item, field) for field in ("min", "max")):
            text = "either minimum or maximum storage value is required, but neither was provided"
            causes.append(required(f"{path}.limits", text))
        for name in sorted({name for field in _LIMIT_FIELDS for name in part(item, field)}):
            causes += _validate_bounds(item, name, path)
    return causes


def _validate_bounds(item: JSONObject, name: str, path: str) -> list[Cause]:
    """Of one resource: the amounts, and the order between them."""
    amounts = {field: parse_quantity(part(item, field).get(name)) for field in _LIMIT_FIELDS}
    causes: list[Cause] = []
    for field in _LIMIT_FIELDS:
        if name in part(item, field):
            causes += validate_quantity(part(item, field)[name], f"{path}.{field}[{name}]")
    for low, high, where, words in (
        ("min", "max", "min", "min value {} is greater than max value {}"),
        ("min", "defaultRequest", "defaultRequest", "min value {} is greater than default request value {}"),
        ("defaultRequest", "max", "defaultRequest", "default request value {} is greater than max value {}"),
        (
            "defaultRequest",
            "default",
            "defaultRequest",
            "default request value {} is greater than default limit value {}",
        ),
        ("min", "default", "default", "min value {} is greater than default value {}"),
        ("default", "max", "default", "default value {} is greater than max value {}"),
    ):
        small, large = amounts[low], amounts[high]
        if small is not None and large is not None and small > large:
            shown = {"defaultRequest": amounts["defaultRequest"], "default": small if low == "min" else large}
            text = words.format(small, large)
            causes.append(invalid_value(f"{path}.{where}[{name}]", str(shown.get(where) or small), text))
    return causes + _validate_ratio(amounts, f"{path}.maxLimitRequestRatio[{name}]")


def _validate_ratio(amounts: dict[str, Quantity | None], path: str) -> list[Cause]:
    ratio, least, most = amounts["maxLimitRequestRatio"], amounts["min"], amounts["max"]
    if ratio is None:
        return []
    causes = []
    if ratio.value < 1:
        causes.append(invalid_value(path, str(ratio), f"ratio {ratio} is less than 1"))
    if least is not None and most is not None and not least.is_zero() and ratio.value > most.value / least.value:
        text = f"ratio {ratio} is greater than max/min = {float(most.value / least.value):f}"
        causes.append(invalid_value(path, str(ratio), text))
    return causes
