"""Small checks that every kind needs: how to walk an object that may be incomplete, and how to refuse a value.

Rule: the schema has checked the types already, but a validator never fails on an object that it was not: what is missing
counts as Go's zero value.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any

from podnet.controlplane.api import quantity
from podnet.controlplane.api.errors import Cause, invalid_value, not_supported, required

JSONObject = dict[str, Any]

NON_NEGATIVE = "must be greater than or equal to 0"
IMMUTABLE = "field is immutable"


def part(target: JSONObject | None, name: str) -> JSONObject:
    """The object under `name`, empty when it is absent."""
    value = (target or {}).get(name)
    return value if isinstance(value, dict) else {}


def objects(target: JSONObject | None, name: str) -> Iterator[tuple[int, JSONObject]]:
    """(index, object) of the list under `name`."""
    value = (target or {}).get(name)
    if isinstance(value, list):
        for index, item in enumerate(value):
            if isinstance(item, dict):
                yield index, item


def strings(target: JSONObject | None, name: str) -> list[str]:
    """The strings of the list under `name`."""
    value = (target or {}).get(name)
    return [item for item in value if isinstance(item, str)] if isinstance(value, list) else []


def non_negative(target: JSONObject, name: str, path: str) -> list[Cause]:
    """`path.name` is absent or at least 0."""
    value = target.get(name)
    if isinstance(value, (int, float)) and value < 0:
        return [invalid_value(f"{path}.{name}", value, NON_NEGATIVE)]
    return []


def one_of(target: JSONObject, name: str, path: str, allowed: Collection[str], *, must: bool = False) -> list[Cause]:
    """`path.name` is absent (unless it must be there) or one of the allowed values."""
    value = target.get(name)
    if value is None or value == "":
        return [required(f"{path}.{name}")] if must else []
    return [] if value in allowed else [not_supported(f"{path}.{name}", value, list(allowed))]


def must_have(target: JSONObject, path: str, *names: str) -> list[Cause]:
    """The fields that are absent or empty."""
    return [required(f"{path}.{name}" if path else name) for name in names if not target.get(name)]


def texts(path: str, value: object, messages: list[str]) -> list[Cause]:
    """The messages of a validator of names as refusals of `value`."""
    return [invalid_value(path, value, message) for message in messages]


def parse_quantity(value: object) -> quantity.Quantity | None:
    """A quantity, None when it is none."""
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        return None
    try:
        return quantity.of(value)
    except quantity.QuantityError:
        return None


def immutable(new: JSONObject, old: JSONObject, name: str, path: str) -> list[Cause]:
    """`path.name` may not change."""
    return [] if new.get(name) == old.get(name) else [invalid_value(f"{path}.{name}", new.get(name), IMMUTABLE)]
