"""What a Job may say about failure and success: podFailurePolicy and successPolicy.

Source: Kubernetes API reference, "Job" (1.32) and the messages of a 1.32 server.
"""

from __future__ import annotations

from itertools import pairwise

from podnet.controlplane.api import names, numbers
from podnet.controlplane.api.errors import Cause, duplicate, go_quoted, invalid_value, not_supported, required, too_long
from podnet.controlplane.api.validation.values import JSONObject, non_negative, objects, part, texts

_ACTIONS = ("Count", "FailIndex", "FailJob", "Ignore")
_OPERATORS = ("In", "NotIn")
_STATUSES = ("False", "True", "Unknown")
_RULES_MAX = 20
_VALUES_MAX = 255
_INDEXES_BYTES_MAX = 64 * 1024


def too_many(path: str, count: int, most: int) -> Cause:
    """`path: Too many: N: must have at most M items`."""
    return Cause("FieldValueTooMany", f"Too many: {count}: must have at most {most} items", path)


def validate_failure_policy(spec: JSONObject, path: str) -> list[Cause]:
    """Rules by exit codes or by conditions of the pod."""
    rules = list(objects(part(spec, "podFailurePolicy"), "rules"))
    causes = [too_many(f"{path}.rules", len(rules), _RULES_MAX)] if len(rules) > _RULES_MAX else []
    inside = part(part(spec, "template"), "spec")
    known = {row.get("name") for field in ("containers", "initContainers") for _, row in objects(inside, field)}
    for index, rule in rules:
        where = f"{path}.rules[{index}]"
        causes += _choice(rule, "action", where, _ACTIONS)
        if rule.get("action") == "FailIndex" and spec.get("backoffLimitPerIndex") is None:
            text = "requires the backoffLimitPerIndex to be set"
            causes.append(invalid_value(f"{where}.action", "FailIndex", text))
        exits, conditions = rule.get("onExitCodes"), list(objects(rule, "onPodConditions"))
        if isinstance(exits, dict):
            causes += _validate_exits(exits, f"{where}.onExitCodes", known)
        causes += _validate_conditions(conditions, f"{where}.onPodConditions")
        if (exits is not None) == bool(conditions):
            both = "specifying both OnExitCodes and OnPodConditions is not supported"
            text = both if conditions else "specifying one of OnExitCodes and OnPodConditions is required"
            causes.append(Cause("FieldValueInvalid", f"Invalid value: {text}", where))
    return causes


def _choice(target: JSONObject, name: str, path: str, allowed: tuple[str, ...]) -> list[Cause]:
    value = target.get(name) or ""
    if not value:
        shown = " ".join(go_quoted(word) for word in allowed)
        return [required(f"{path}.{name}", f"valid values: [{shown}]")]
    return [] if value in allowed else [not_supported(f"{path}.{name}", value, list(allowed))]


def _validate_exits(exits: JSONObject, path: str, known: set[object]) -> list[Cause]:
    causes = _choice(exits, "operator", path, _OPERATORS)
    container = exits.get("containerName")
    if container is not None and container not in known:
        text = "must be one of the container or initContainer names in the pod template"
        causes.append(invalid_value(f"{path}.containerName", container, text))
    values = [value for value in exits.get("values") or () if isinstance(value, int)]
    if not values:
        causes.append(invalid_value(f"{path}.values", values, "at least one value is required"))
    elif len(values) > _VALUES_MAX:
        causes.append(too_many(f"{path}.values", len(values), _VALUES_MAX))
    seen: set[int] = set()
    for index, value in enumerate(values[:_VALUES_MAX]):
        if value == 0 and exits.get("operator") == "In":
            causes.append(invalid_value(f"{path}.values[{index}]", value, "must not be 0 for the In operator"))
        if value in seen:
            causes.append(duplicate(f"{path}.values[{index}]", value))
        seen.add(value)
    if any(before > after for before, after in pairwise(values)):
        causes.append(invalid_value(f"{path}.values", values, "must be ordered"))
    return causes


def _validate_conditions(conditions: list[tuple[int, JSONObject]], path: str) -> list[Cause]:
    causes = [too_many(path, len(conditions), _RULES_MAX)] if len(conditions) > _RULES_MAX else []
    for index, pattern in conditions:
        kind = pattern.get("type") or ""
        causes += texts(f"{path}[{index}].type", kind, names.qualified_name(kind))
        causes += _choice(pattern, "status", f"{path}[{index}]", _STATUSES)
    return causes


def validate_success_policy(spec: JSONObject, path: str) -> list[Cause]:
    """Of which indexes how many are enough."""
    policy = part(spec, "successPolicy")
    if spec.get("completionMode") != "Indexed":
        return [invalid_value(path, policy, "requires indexed completion mode")]
    rules = list(objects(policy, "rules"))
    causes = [] if rules else [required(f"{path}.rules", "at least one rules must be specified")]
    if len(rules) > _RULES_MAX:
        causes.append(too_many(f"{path}.rules", len(rules), _RULES_MAX))
    completions = int(spec.get("completions") or 0)
    for index, rule in rules:
        causes += _validate_success_rule(rule, f"{path}.rules[{index}]", completions)
    return causes


def _validate_success_rule(rule: JSONObject, path: str, completions: int) -> list[Cause]:
    count, indexes = rule.get("succeededCount"), rule.get("succeededIndexes")
    if count is None and indexes is None:
        return [required(path, "at least one of succeededCount or succeededIndexes must be specified")]
    causes: list[Cause] = []
    total = 0
    if indexes is not None:
        if len(indexes) > _INDEXES_BYTES_MAX:
            causes.append(too_long(f"{path}.succeededIndexes", _INDEXES_BYTES_MAX))
        total, problem = count_indexes(indexes, completions)
        if problem:
            text = f"error parsing succeededIndexes: {problem}"
            causes.append(invalid_value(f"{path}.succeededIndexes", indexes, text))
    if count is not None:
        where = f"{path}.succeededCount"
        causes += non_negative(rule, "succeededCount", path)
        if count > completions:
            text = f"must be less than or equal to {completions} (the number of specified completions)"
            causes.append(invalid_value(where, count, text))
        if indexes is not None and count > total:
            text = (
                f"must be less than or equal to {total} (the number of indexes in the specified succeededIndexes field)"
            )
            causes.append(invalid_value(where, count, text))
    return causes


def count_indexes(text: str, completions: int) -> tuple[int, str]:
    """(how many indexes `1,3-5` names, what is wrong with it)."""
    total, last = 0, -1
    for interval in text.split(",") if text else ():
        limits = interval.split("-")
        if len(limits) > 2:
            rule = "violates the requirement that an index interval can have at most two parts separated by '-'"
            return 0, f"the fragment {go_quoted(interval)} {rule}"
        ends: list[int] = []
        for limit in limits:
            number = numbers.natural(limit)
            if number is None:
                return 0, f"cannot convert string to integer for index: {go_quoted(limit)}"
            if number >= completions:
                return 0, f"too large index: {go_quoted(limit)}"
            ends.append(number)
        first, end = ends[0], ends[-1]
        if len(limits) == 2 and first >= end:
            return 0, f"non-increasing order, previous: {first}, current: {end}"
        if last >= first:
            return 0, f"non-increasing order, previous: {last}, current: {first}"
        total, last = total + end - first + 1, end
    return total, ""
