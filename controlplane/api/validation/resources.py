"""Requests and limits.

Source: Kubernetes API reference "ResourceRequirements" (1.32).
"""

from __future__ import annotations

from podnet.controlplane.api import names
from podnet.controlplane.api.errors import Cause, forbidden_field, invalid_value
from podnet.controlplane.api.quantity import FORMAT_ERROR
from podnet.controlplane.api.validation.values import NON_NEGATIVE, JSONObject, parse_quantity, part, texts

_STANDARD = frozenset({"cpu", "memory", "ephemeral-storage"})


def validate_requirements(resources: JSONObject, path: str) -> list[Cause]:
    """Quantities are not negative, and nothing requests more than its limit."""
    causes: list[Cause] = []
    limits, requests = part(resources, "limits"), part(resources, "requests")
    for field, amounts in (("limits", limits), ("requests", requests)):
        for name, value in amounts.items():
            causes += validate_resource_name(name, f"{path}.{field}")
            causes += validate_quantity(value, f"{path}.{field}[{name}]")
    for name, value in requests.items():
        request, limit = parse_quantity(value), parse_quantity(limits.get(name))
        if request is None:
            continue
        if limit is None:
            if "/" in name or name.startswith("hugepages-"):
                text = "Limit must be set for non overcommitable resources"
                causes.append(forbidden_field(f"{path}.limits", text))
        elif ("/" in name or name.startswith("hugepages-")) and request != limit:
            text = f"must be equal to {name} limit of {limit}"
            causes.append(invalid_value(f"{path}.requests", str(request), text))
        elif request > limit:
            text = f"must be less than or equal to {name} limit of {limit}"
            causes.append(invalid_value(f"{path}.requests", str(request), text))
    return causes


def validate_resource_name(name: str, path: str) -> list[Cause]:
    """A resource a container may ask for: a standard one, or a qualified name."""
    messages = names.qualified_name(name)
    if messages:
        return texts(path, name, messages)
    if "/" not in name and name not in _STANDARD and not name.startswith("hugepages-"):
        return [invalid_value(path, name, "must be a standard resource for containers")]
    return []


def validate_quantity(value: object, path: str) -> list[Cause]:
    """A quantity that parses and is not negative."""
    amount = parse_quantity(value)
    if amount is None:
        return [invalid_value(path, value, FORMAT_ERROR)]
    return [invalid_value(path, str(amount), NON_NEGATIVE)] if amount.value < 0 else []
