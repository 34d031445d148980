"""JSON patch: a list of add, remove, replace, move, copy and test operations, all or none.

Two habits of upstream's library are kept: a negative list index counts from the end, and `test` against null passes
where nothing is.
Source: RFC 6902, RFC 6901 (pointers); the limit of 10,000 operations is the API server's.
"""

from __future__ import annotations

import re
from typing import Any

from podnet.controlplane.api.errors import bad_request, too_large
from podnet.controlplane.api.meta import deep_copy
from podnet.controlplane.api.patch.refusal import does_not_apply, go_type_word
from podnet.controlplane.api.types import Object

MAX_OPERATIONS = 10_000
MAX_COPIED_BYTES = 3 * 1024 * 1024  # a few hundred `copy`s of a growing value would otherwise double it each time

_INDEX = re.compile(r"-?(0|[1-9][0-9]*)", re.ASCII)
_OPERATIONS = frozenset({"add", "remove", "replace", "move", "copy", "test"})


class _MissingError(Exception):
    """The pointer leads nowhere."""


def apply_json_patch(doc: Object, operations: Any) -> Object:
    """`doc` after all operations. Raises StatusError 400 (malformed), 413 (too many), 422 (does not apply)."""
    if not isinstance(operations, list):
        word = go_type_word(operations)
        raise bad_request(
            f"error decoding patch: json: cannot unmarshal {word} into Go value of type []handlers.jsonPatchOp"
        )
    if len(operations) > MAX_OPERATIONS:
        raise too_large(f"The allowed maximum operations in a JSON patch is {MAX_OPERATIONS}, got {len(operations)}")
    root: list[Any] = [deep_copy(doc)]  # in a box, so that the pointer "" has a parent too
    copied = 0
    for operation in operations:
        name, path = _checked(operation)
        try:
            copied += _apply(root, name, path, operation)
        except _MissingError as error:
            raise does_not_apply(f"{name} operation does not apply: {error}") from None
        if copied > MAX_COPIED_BYTES:
            raise does_not_apply(f"copy operations may add at most {MAX_COPIED_BYTES} bytes")
    if not isinstance(root[0], dict):
        raise does_not_apply("the result is not an object")
    patched: Object = root[0]
    return patched


def _checked(operation: Any) -> tuple[str, str]:
    if not isinstance(operation, dict):
        word = go_type_word(operation)
        raise bad_request(
            f"error decoding patch: json: cannot unmarshal {word} into Go value of type handlers.jsonPatchOp"
        )
    for field in ("op", "path", "from"):
        if not isinstance(operation.get(field, ""), str):
            word = go_type_word(operation[field])
            raise bad_request(
                f"error decoding patch: json: cannot unmarshal {word} into Go struct field jsonPatchOp.{field} of type string"
            )
    name, path = operation.get("op", "unknown"), operation.get("path")
    if name not in _OPERATIONS:
        raise does_not_apply(f"Unexpected kind: {name}")
    if path is None:
        raise does_not_apply(f"{name} operation has no path")
    if name in {"move", "copy"} and "from" not in operation:
        raise does_not_apply(f"{name} operation has no from")
    if name in {"add", "replace"} and "value" not in operation:
        raise does_not_apply(f"{name} operation has no value")
    return name, path


def _apply(root: list[Any], name: str, path: str, operation: dict[str, Any]) -> int:
    """Do one operation; returns the size of what `copy` added."""
    if name == "test":
        _test(root, path, operation.get("value"))
    elif name == "remove":
        _remove(root, path)
    elif name == "replace":
        container, token = _locate(root, path)
        if isinstance(container, list):
            container[_index(token, len(container) - 1, path)] = deep_copy(operation["value"])
        elif token not in container:
            raise _MissingError(f"doc is missing key: {path}: missing value")
        else:
            container[token] = deep_copy(operation["value"])
    elif name == "add":
        _add(root, path, deep_copy(operation["value"]))
    elif name == "move":
        source = operation["from"]
        if path.startswith(source + "/"):
            raise _MissingError(f"unable to move {source} into itself")
        if path != source:
            _add(root, path, _remove(root, source))
    else:
        value = deep_copy(_get(root, operation["from"]))
        _add(root, path, value)
        return len(repr(value))
    return 0


def _tokens(path: str) -> list[str]:
    if path == "":
        return []
    if not path.startswith("/"):
        raise _MissingError(f'doc is missing path: "{path}": missing value')
    return [token.replace("~1", "/").replace("~0", "~") for token in path[1:].split("/")]


def _locate(root: list[Any], path: str) -> tuple[Any, str]:
    """The container that holds, or shall hold, what `path` names, and the last token."""
    tokens = _tokens(path)
    if not tokens:
        return root, "0"
    container = root[0]
    for token in tokens[:-1]:
        container = _step(container, token, path)
    if not isinstance(container, (dict, list)):
        raise _MissingError(f'doc is missing path: "{path}": missing value')
    return container, tokens[-1]


def _step(container: Any, token: str, path: str) -> Any:
    if isinstance(container, dict) and token in container:
        return container[token]
    if isinstance(container, list):
        return container[_index(token, len(container) - 1, path)]
    raise _MissingError(f'doc is missing path: "{path}": missing value')


def _index(token: str, last: int, path: str) -> int:
    if _INDEX.fullmatch(token) is None:
        raise _MissingError(f'doc is missing path: "{path}": invalid list index "{token}"')
    index = int(token)
    if index < 0:
        index += last + 1
    if not 0 <= index <= last:
        raise _MissingError(f"Unable to access invalid index: {token}: invalid index referenced")
    return index


def _get(root: list[Any], path: str) -> Any:
    value = root[0]
    for token in _tokens(path):
        value = _step(value, token, path)
    return value


def _add(root: list[Any], path: str, value: Any) -> None:
    container, token = _locate(root, path)
    if container is root:
        root[0] = value
    elif isinstance(container, dict):
        container[token] = value
    elif token == "-":
        container.append(value)
    else:
        container.insert(_index(token, len(container), path), value)


def _remove(root: list[Any], path: str) -> Any:
    container, token = _locate(root, path)
    if container is root:
        raise _MissingError("the whole document cannot be removed")
    if isinstance(container, list):
        return container.pop(_index(token, len(container) - 1, path))
    if token not in container:
        raise _MissingError(f"Unable to remove nonexistent key: {token}: missing value")
    return container.pop(token)


def _test(root: list[Any], path: str, expected: Any) -> None:
    try:
        actual = _get(root, path)
    except _MissingError:
        actual = None
    if not _equal(actual, expected):
        raise does_not_apply(f"testing value {path} failed: test failed")


def _equal(left: Any, right: Any) -> bool:
    """JSON equality: unlike Python's, `true` is not 1 (1 and 1.0 are the same number)."""
    if isinstance(left, bool) or isinstance(right, bool):
        return left is right
    if isinstance(left, dict) and isinstance(right, dict):
        return left.keys() == right.keys() and all(_equal(value, right[name]) for name, value in left.items())
    if isinstance(left, list) and isinstance(right, list):
        return len(left) == len(right) and all(map(_equal, left, right))
    return bool(left == right)
