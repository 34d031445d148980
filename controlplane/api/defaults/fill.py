"""The three verbs of defaulting: fill what is absent, take a child that may be absent, walk a list that may be absent.

Rule: null counts as absent, as it does after Go decoded it; a value somebody wrote is never changed.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from podnet.controlplane.api import quantity

JSONObject = dict[str, Any]


def fill(target: JSONObject, **values: Any) -> None:
    """Set the fields that are absent or null."""
    for name, value in values.items():
        if target.get(name) is None:
            target[name] = value


def fill_empty(target: JSONObject, **values: Any) -> None:
    """Set the fields that are absent, null, or the empty value of Go's type (0, ""): for fields that are no pointers."""
    for name, value in values.items():
        if not target.get(name):
            target[name] = value


def child(target: JSONObject, name: str) -> JSONObject:
    """The object under `name`, made when it is absent."""
    value = target.get(name)
    if not isinstance(value, dict):
        value = target[name] = {}
    return value


def present(target: JSONObject, name: str) -> JSONObject | None:
    """The object under `name`, None when it is absent."""
    value = target.get(name)
    return value if isinstance(value, dict) else None


def each(target: JSONObject, name: str) -> Iterator[JSONObject]:
    """The objects of the list under `name`."""
    for item in target.get(name) or ():
        if isinstance(item, dict):
            yield item


def canonical_quantities(target: JSONObject, *names: str) -> None:
    """Write the quantities of some resource lists (`limits`, `requests`) in their canonical form: `0.5` becomes `500m`.
    What does not parse stays for validation to name."""
    for name in names:
        resources = present(target, name)
        for key, value in (resources or {}).items():
            if resources is not None and quantity.is_valid(value):
                resources[key] = quantity.canonical(value)


def canonical_quantity(target: JSONObject, name: str) -> None:
    """Write one quantity in its canonical form."""
    value = target.get(name)
    if value is not None and quantity.is_valid(value):
        target[name] = quantity.canonical(value)
