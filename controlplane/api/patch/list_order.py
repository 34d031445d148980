"""The order of a merged list: what the patch names comes in the patch's order, the rest keeps its place as well as it can.

    server [a b c d], the patch orders [d b]  ->  [a c d b]      c stood before d on the server, so it still does

Source: the "preserve order in strategic merge patch" design (kubernetes/design-proposals-archive, cli).
"""

from __future__ import annotations

from typing import Any

from podnet.controlplane.api.patch.refusal import cannot_merge


def check_order(patch: list[Any], order: list[Any], merge_key: str | None, directive: str) -> None:
    """The patch's own items must appear in `order`, in that order. Raises StatusError 422."""
    if not patch or not order:
        return
    wanted = [entry for entry in patch if not (isinstance(entry, dict) and entry.get("$patch") is not None)]
    position = 0
    for entry in order:
        if position < len(wanted) and _same(wanted[position], entry, merge_key):
            position += 1
    if position < len(wanted):
        raise cannot_merge(
            f"The order in patch list:\n{_go_list(patch)}\n doesn't match {directive.partition('/')[0]} list:\n{_go_list(order)}\n"
        )


def arrange(merged: list[Any], order: list[Any], server: list[Any], merge_key: str | None) -> list[Any]:
    """`merged` in two sorted runs, interleaved: items that `order` names in its order; the others as on the server.

    An item only the server knows goes before the next named item exactly when it stood before it on the server.
    """
    named = [entry for entry in merged if _position(order, entry, merge_key) >= 0]
    others = [entry for entry in merged if _position(order, entry, merge_key) < 0]
    named.sort(key=lambda entry: _position(order, entry, merge_key))
    others.sort(key=lambda entry: _known_position(server, entry, merge_key))
    out: list[Any] = []
    left = 0
    for entry in named:
        place = _position(server, entry, merge_key)
        while left < len(others) and 0 <= _position(server, others[left], merge_key) < place:
            out.append(others[left])
            left += 1
        out.append(entry)
    return out + others[left:]


def _same(left: Any, right: Any, merge_key: str | None) -> bool:
    if merge_key is None:
        return bool(left == right)
    if not isinstance(left, dict) or not isinstance(right, dict):
        return False
    return merge_key in left and merge_key in right and bool(left[merge_key] == right[merge_key])


def _position(entries: list[Any], wanted: Any, merge_key: str | None) -> int:
    for index, entry in enumerate(entries):
        if _same(entry, wanted, merge_key):
            return index
    return -1


def _known_position(entries: list[Any], wanted: Any, merge_key: str | None) -> int:
    position = _position(entries, wanted, merge_key)
    return position if position >= 0 else len(entries)


def go_map(entry: dict[str, Any]) -> str:
    """A map as Go's %v prints it, which is how upstream's messages show an item."""
    return "map[" + " ".join(f"{key}:{go_value(entry[key])}" for key in sorted(entry)) + "]"


def _go_list(entries: list[Any]) -> str:
    return "[" + " ".join(go_value(entry) for entry in entries) + "]"


def go_value(value: Any) -> str:
    """A value as Go's %v prints it."""
    if isinstance(value, dict):
        return go_map(value)
    if isinstance(value, list):
        return _go_list(value)
    if isinstance(value, bool):
        return "true" if value else "false"
    return "<nil>" if value is None else str(value)
