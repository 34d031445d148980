"""Merging an applied object into the live one: maps by key, lists as their list-type says, everything else replaced.

Items which the applied list names come in its order; the others keep their place among them as on the server.
Source: KEP-555, "Merge strategy"; x-kubernetes-list-type, -list-map-keys and -map-type of the schemas.
"""

from __future__ import annotations

from typing import Any

from podnet.controlplane.api.apply.fieldset import child_of, element_of, is_atomic, item_of
from podnet.controlplane.api.patch import list_order
from podnet.controlplane.api.schema_node import Node


def merged(live: Any, applied: Any, node: Node | None) -> Any:
    """`live` with `applied` on top. Shares parts with both."""
    if isinstance(live, dict) and isinstance(applied, dict) and not is_atomic(node, applied):
        out = dict(live)
        for name, value in applied.items():
            out[name] = merged(live[name], value, child_of(node, name)) if name in live else value
        return out
    if isinstance(live, list) and isinstance(applied, list) and not is_atomic(node, applied):
        return _merged_list(live, applied, node)
    return applied


def _merged_list(live: list[Any], applied: list[Any], node: Node | None) -> list[Any]:
    before = {element_of(node, item): item for item in live}
    after = dict(before)
    for item in applied:
        element = element_of(node, item)
        after[element] = merged(before[element], item, item_of(node)) if element in before else item
    order = list_order.arrange(list(after), [element_of(node, item) for item in applied], list(before), None)
    return [after[element] for element in order]
