"""Label selectors, node selectors, affinity, tolerations and spreading: where pods may go.

Source: apimachinery meta/v1/validation, Kubernetes API reference "PodSpec: Scheduling" (1.32).
"""

from __future__ import annotations

from typing import Any

from podnet.controlplane.api import names
from podnet.controlplane.api.errors import Cause, duplicate, forbidden_field, invalid_value, not_supported, required
from podnet.controlplane.api.validation.metadata import validate_labels
from podnet.controlplane.api.validation.values import JSONObject, objects, one_of, part, strings, texts

_VALUES_NEEDED = "must be specified when `operator` is 'In' or 'NotIn'"
_VALUES_UNWANTED = "may not be specified when `operator` is 'Exists' or 'DoesNotExist'"
_EFFECTS = ("NoSchedule", "PreferNoSchedule", "NoExecute")


def validate_label_selector(selector: JSONObject | None, path: str) -> list[Cause]:
    """A LabelSelector; None is fine where it is optional."""
    if selector is None:
        return []
    causes = validate_labels(selector.get("matchLabels"), f"{path}.matchLabels")
    for index, row in objects(selector, "matchExpressions"):
        where = f"{path}.matchExpressions[{index}]"
        causes += _validate_requirement(row, where)
        causes += texts(f"{where}.key", row.get("key") or "", names.qualified_name(row.get("key") or ""))
        for place, value in enumerate(strings(row, "values")):
            causes += texts(f"{where}.values[{place}]", value, names.label_value(value))
    return causes


def _validate_requirement(row: JSONObject, path: str) -> list[Cause]:
    operator, values = row.get("operator") or "", row.get("values") or []
    if operator in {"In", "NotIn"}:
        return [] if values else [required(f"{path}.values", _VALUES_NEEDED)]
    if operator in {"Exists", "DoesNotExist"}:
        return [forbidden_field(f"{path}.values", _VALUES_UNWANTED)] if values else []
    return [invalid_value(f"{path}.operator", operator, "not a valid selector operator")]


def is_empty_selector(selector: JSONObject | None) -> bool:
    """Whether a selector has no term."""
    return not (selector or {}).get("matchLabels") and not (selector or {}).get("matchExpressions")


def validate_node_selector(selector: JSONObject, path: str) -> list[Cause]:
    """A NodeSelector: at least one term."""
    if not selector.get("nodeSelectorTerms"):
        return [required(f"{path}.nodeSelectorTerms", "must have at least one node selector term")]
    causes: list[Cause] = []
    for index, term in objects(selector, "nodeSelectorTerms"):
        causes += validate_node_selector_term(term, f"{path}.nodeSelectorTerms[{index}]")
    return causes


def validate_node_selector_term(term: JSONObject, path: str) -> list[Cause]:
    """One term: expressions over labels, and over the field metadata.name."""
    causes: list[Cause] = []
    for index, row in objects(term, "matchExpressions"):
        where = f"{path}.matchExpressions[{index}]"
        if row.get("operator") in {"Gt", "Lt"}:
            if len(row.get("values") or ()) != 1:
                text = "must be specified single value when `operator` is 'Lt' or 'Gt'"
                causes.append(required(f"{where}.values", text))
        else:
            causes += _validate_requirement(row, where)
        causes += texts(f"{where}.key", row.get("key") or "", names.qualified_name(row.get("key") or ""))
    for index, row in objects(term, "matchFields"):
        where = f"{path}.matchFields[{index}]"
        if row.get("operator") not in {"In", "NotIn"}:
            causes.append(
                invalid_value(f"{where}.operator", row.get("operator") or "", "not a valid selector operator")
            )
        elif len(row.get("values") or ()) != 1:
            causes.append(
                required(
                    f"{where}.values",
                    "must be only one value when `operator` is 'In' or 'NotIn' for node field selector",
                )
            )
        if row.get("key") != "metadata.name":
            causes.append(invalid_value(f"{where}.key", row.get("key") or "", "not a valid field selector key"))
    return causes


def validate_affinity(affinity: JSONObject, path: str) -> list[Cause]:
    """Node affinity, pod affinity and pod anti-affinity."""
    causes: list[Cause] = []
    node = part(affinity, "nodeAffinity")
    where = f"{path}.nodeAffinity"
    must = node.get("requiredDuringSchedulingIgnoredDuringExecution")
    if isinstance(must, dict):
        causes += validate_node_selector(must, f"{where}.requiredDuringSchedulingIgnoredDuringExecution")
    for index, row in objects(node, "preferredDuringSchedulingIgnoredDuringExecution"):
        place = f"{where}.preferredDuringSchedulingIgnoredDuringExecution[{index}]"
        causes += _validate_weight(row, place)
        causes += validate_node_selector_term(part(row, "preference"), f"{place}.preference")
    for name in ("podAffinity", "podAntiAffinity"):
        causes += _validate_pod_affinity(part(affinity, name), f"{path}.{name}")
    return causes


def _validate_weight(row: JSONObject, path: str) -> list[Cause]:
    weight = row.get("weight") or 0
    return [] if 1 <= weight <= 100 else [invalid_value(f"{path}.weight", weight, "must be in the range 1-100")]


def _validate_pod_affinity(affinity: JSONObject, path: str) -> list[Cause]:
    causes: list[Cause] = []
    for index, term in objects(affinity, "requiredDuringSchedulingIgnoredDuringExecution"):
        causes += _validate_pod_term(term, f"{path}.requiredDuringSchedulingIgnoredDuringExecution[{index}]")
    for index, row in objects(affinity, "preferredDuringSchedulingIgnoredDuringExecution"):
        where = f"{path}.preferredDuringSchedulingIgnoredDuringExecution[{index}]"
        causes += _validate_weight(row, where)
        causes += _validate_pod_term(part(row, "podAffinityTerm"), f"{where}.podAffinityTerm")
    return causes


def _validate_pod_term(term: JSONObject, path: str) -> list[Cause]:
    causes = validate_label_selector(term.get("labelSelector"), f"{path}.labelSelector")
    causes += validate_label_selector(term.get("namespaceSelector"), f"{path}.namespaceSelector")
    for index, namespace in enumerate(strings(term, "namespaces")):
        causes += texts(f"{path}.namespaces[{index}]", namespace, names.dns1123_label(namespace))
    key = term.get("topologyKey") or ""
    if not key:
        return [*causes, required(f"{path}.topologyKey", "can not be empty")]
    return causes + texts(f"{path}.topologyKey", key, names.qualified_name(key))


def validate_tolerations(spec: JSONObject, path: str) -> list[Cause]:
    """The tolerations of a pod."""
    causes: list[Cause] = []
    for index, row in objects(spec, "tolerations"):
        where = f"{path}.tolerations[{index}]"
        key, operator = row.get("key") or "", row.get("operator") or ""
        value, effect = row.get("value") or "", row.get("effect") or ""
        if key:
            causes += texts(f"{where}.key", key, names.qualified_name(key))
        elif operator != "Exists":
            text = 'operator must be Exists when `key` is empty, which means "match all values and all keys"'
            causes.append(invalid_value(f"{where}.operator", operator, text))
        if row.get("tolerationSeconds") is not None and effect != "NoExecute":
            text = "effect must be 'NoExecute' when `tolerationSeconds` is set"
            causes.append(invalid_value(f"{where}.effect", effect, text))
        if operator in {"", "Equal"}:
            causes += [
                invalid_value(f"{where}.operator", value, "; ".join(messages))
                for messages in [names.label_value(value)]
                if messages
            ]
        elif operator == "Exists":
            if value:
                causes.append(
                    invalid_value(f"{where}.operator", row, "value must be empty when `operator` is 'Exists'")
                )
        else:
            causes.append(not_supported(f"{where}.operator", operator, ["Equal", "Exists"]))
        if effect and effect not in _EFFECTS:
            causes.append(not_supported(f"{where}.effect", effect, list(_EFFECTS)))
    return causes


def validate_topology_spread(spec: JSONObject, path: str) -> list[Cause]:
    """The topology spread constraints of a pod."""
    causes: list[Cause] = []
    seen: set[tuple[Any, Any]] = set()
    for index, row in objects(spec, "topologySpreadConstraints"):
        where = f"{path}.topologySpreadConstraints[{index}]"
        skew, key, action = row.get("maxSkew") or 0, row.get("topologyKey") or "", row.get("whenUnsatisfiable") or ""
        if skew <= 0:
            causes.append(invalid_value(f"{where}.maxSkew", skew, "must be greater than zero"))
        if not key:
            causes.append(required(f"{where}.topologyKey", "can not be empty"))
        if action not in {"DoNotSchedule", "ScheduleAnyway"}:
            causes.append(not_supported(f"{where}.whenUnsatisfiable", action, ["DoNotSchedule", "ScheduleAnyway"]))
        if (key, action) in seen:
            causes.append(duplicate(f"{where}.{{topologyKey, whenUnsatisfiable}}", f"{{{key}, {action}}}"))
        seen.add((key, action))
        minimum = row.get("minDomains")
        if minimum is not None:
            if minimum <= 0:
                causes.append(invalid_value(f"{where}.minDomains", minimum, "must be greater than zero"))
            if action != "DoNotSchedule":
                text = f"can only use minDomains if whenUnsatisfiable=DoNotSchedule, not {action}"
                causes.append(invalid_value(f"{where}.minDomains", minimum, text))
        for name in ("nodeAffinityPolicy", "nodeTaintsPolicy"):
            causes += one_of(row, name, where, ("Honor", "Ignore"))
        causes += validate_label_selector(row.get("labelSelector"), f"{where}.labelSelector")
    return causes
