"""Strategic merge patch: a merge patch that knows which lists are sets and which are maps by a key.

    $patch: replace | delete         beside fields: this map instead of the old one, or nothing of it; in a list item:
                                     the whole list, or the item with that key, goes
    $deleteFromPrimitiveList/x       these values leave the list x
    $setElementOrder/x               the order x shall have; what only the server knows keeps its place among them
    $retainKeys                      of this map only these keys stay

The rule: the schema decides (x-kubernetes-patch-strategy, x-kubernetes-patch-merge-key); a list without a merge
strategy, or of a field the schema does not know, is replaced.
Source: "Strategic Merge Patch" and "Update API Objects in Place Using kubectl patch" in the Kubernetes documentation,
KEP-229 (preserve order); behaviour checked against apimachinery pkg/util/strategicpatch.
"""

from __future__ import annotations

from typing import Any

from podnet.controlplane.api.errors import bad_request, unsupported_media_type
from podnet.controlplane.api.meta import deep_copy
from podnet.controlplane.api.patch import list_order
from podnet.controlplane.api.patch.refusal import cannot_merge, does_not_apply, go_type_word, too_deep
from podnet.controlplane.api.schema_node import Node
from podnet.controlplane.api.types import Object

_PATCH = "$patch"
_RETAIN_KEYS = "$retainKeys"
_DELETE_LIST = "$deleteFromPrimitiveList/"
_SET_ORDER = "$setElementOrder/"


def apply_strategic_merge_patch(doc: Object, patch: Any, schema: Node | None) -> Object:
    """`doc` with `patch` merged by the rules of `schema` (`schema.node(api_version, kind)`).

    Raises StatusError 400 for a patch that makes no sense, 422 for one that does not fit, 415 when there is no schema.
    """
    if schema is None:
        # Custom resources have no merge rules; upstream refuses the content type.
        raise unsupported_media_type(
            "the body of the request was in an unknown format - accepted media types include: "
            "application/json-patch+json, application/merge-patch+json, application/apply-patch+yaml"
        )
    if not isinstance(patch, dict):
        word = go_type_word(patch)
        raise bad_request(
            f"error decoding patch: json: cannot unmarshal {word} into Go value of type map[string]interface {{}}"
        )
    try:
        merged: Object = _merge_map(deep_copy(doc), deep_copy(patch), schema)
    except RecursionError:
        raise too_deep() from None
    return merged


def _merge_map(original: dict[str, Any], patch: dict[str, Any], schema: Node | None) -> dict[str, Any]:
    """Both arguments are ours to change."""
    if _PATCH in patch:
        directive = patch.pop(_PATCH)
        if directive == "replace":
            replacement: dict[str, Any] = _without_directives(patch)
            return replacement
        if directive == "delete":
            return {}
        if directive != "merge":
            raise cannot_merge(f"unknown patch type: {directive}")
    _retain_keys(original, patch)
    _merge_ordered_lists(original, patch, schema)
    for key, value in patch.items():
        if key.startswith(_DELETE_LIST):
            _delete_from_primitive_list(original, key.removeprefix(_DELETE_LIST), value)
        elif value is None:
            original.pop(key, None)
        elif key in original:
            original[key] = _merge_value(original[key], value, _field(schema, key))
        else:
            original[key] = _without_directives(value)
    return original


def _merge_value(original: Any, value: Any, field: Node | None) -> Any:
    if isinstance(original, dict) and isinstance(value, dict):
        if field is not None and "replace" in field.strategies:
            return _without_directives(value)
        return _merge_map(original, value, field)
    if isinstance(original, list) and isinstance(value, list) and field is not None and field.merges:
        return _merge_list(original, value, field)
    return _without_directives(value)


def _field(schema: Node | None, key: str) -> Node | None:
    if schema is None:
        return None
    if schema.kind == "map":
        return schema.item
    return schema.fields.get(key)


def _retain_keys(original: dict[str, Any], patch: dict[str, Any]) -> None:
    if _RETAIN_KEYS not in patch:
        return
    retained = patch.pop(_RETAIN_KEYS)
    if not isinstance(retained, list):
        raise bad_request("invalid patch format of retainKeys")
    for key, value in patch.items():
        if value is not None and not key.startswith("$") and key not in retained:
            raise bad_request("invalid patch format of retainKeys")
    for key in [key for key in original if key not in retained]:
        del original[key]


def _delete_from_primitive_list(original: dict[str, Any], key: str, values: Any) -> None:
    if not isinstance(values, list):
        raise bad_request("invalid patch format of primitive list")
    current = original.get(key)
    if isinstance(current, list):
        original[key] = [entry for entry in current if entry not in values]


def _merge_ordered_lists(original: dict[str, Any], patch: dict[str, Any], schema: Node | None) -> None:
    """Handle each `$setElementOrder/x` together with the patch's own `x`, and take both out of the patch."""
    for directive in [key for key in patch if key.startswith(_SET_ORDER)]:
        order = patch.pop(directive)
        key = directive.removeprefix(_SET_ORDER)
        field = _field(schema, key)
        current, change = original.get(key), patch.get(key)
        if not isinstance(order, list) or not isinstance(change, (list, type(None))):
            raise bad_request("invalid patch format of setElementOrder list")
        if key in patch and change is None:
            continue  # an explicit null deletes the list, below
        merge_key = field.merge_key if field is not None else None
        list_order.check_order(change or [], order, merge_key, directive)
        if not isinstance(current, list):
            if change is None:
                continue
            merged, current = _without_directives(change), []
        elif change is None:
            merged = list(current)
        else:
            merged = _merge_value(current, change, field)
        original[key] = list_order.arrange(merged, order, current, merge_key)
        patch.pop(key, None)


def _merge_list(original: list[Any], patch: list[Any], field: Node) -> list[Any]:
    if not original and not patch:
        return original
    if not any(isinstance(entry, dict) for entry in (*original, *patch)):
        return _merge_primitives(original, patch)
    merge_key = field.merge_key
    if merge_key is None:
        raise cannot_merge(f"cannot merge lists without merge key for {field.go_type}")
    for entry in (*original, *patch):
        if not isinstance(entry, dict):
            raise cannot_merge(f"cannot merge a list of objects with {go_type_word(entry)}")
    server_order = list(original)
    kept, changes = _special_elements(original, patch, merge_key)
    for change in changes:
        value = _merge_key_value(change, merge_key)
        found = next((index for index, entry in enumerate(kept) if entry.get(merge_key) == value), None)
        if found is None:
            kept.append(_without_directives(change))
        else:
            kept[found] = _merge_map(kept[found], change, field.item)
    return list_order.arrange(kept, changes, server_order, merge_key)


def _merge_primitives(original: list[Any], patch: list[Any]) -> list[Any]:
    for entry in (*original, *patch):
        if isinstance(entry, list):
            raise does_not_apply("lists of lists are not supported")
    merged: list[Any] = []
    for entry in (*original, *patch):
        if entry not in merged:
            merged.append(entry)
    return list_order.arrange(merged, patch, original, None)


def _special_elements(
    original: list[dict[str, Any]], patch: list[dict[str, Any]], merge_key: str
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """(what stays of the original, the plain patch items) after `$patch` items have had their effect."""
    changes: list[dict[str, Any]] = []
    replace = False
    kept = list(original)
    for change in patch:
        directive = change.get(_PATCH)
        if directive is None:
            changes.append(change)
        elif directive == "delete":
            value = _merge_key_value(change, merge_key)
            kept = [entry for entry in kept if entry.get(merge_key) != value]
        elif directive == "replace":
            replace = True
        elif directive == "merge":
            raise cannot_merge("merging lists cannot yet be specified in the patch")
        else:
            raise cannot_merge(f"unknown patch type: {directive}")
    return ([], changes) if replace else (kept, changes)


def _merge_key_value(entry: dict[str, Any], merge_key: str) -> Any:
    if merge_key not in entry:
        raise cannot_merge(f"map: {list_order.go_map(entry)} does not contain declared merge key: {merge_key}")
    return entry[merge_key]


def _without_directives(value: Any) -> Any:
    """What a patch adds where nothing was: the same without directives, nulls of maps, and items to be deleted."""
    if isinstance(value, list):
        return [
            _without_directives(entry)
            for entry in value
            if not (isinstance(entry, dict) and entry.get(_PATCH) is not None)
        ]
    if not isinstance(value, dict):
        return value
    if value.get(_PATCH) == "delete":
        return {}
    return {
        key: _without_directives(child)
        for key, child in value.items()
        if child is not None and key not in {_PATCH, _RETAIN_KEYS} and not key.startswith((_DELETE_LIST, _SET_ORDER))
    }
