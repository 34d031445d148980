"""Query parameters to options, checked.

Source: meta/v1 ListOptions, CreateOptions, DeleteOptions and their conversion from url.Values.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast
from urllib.parse import parse_qs

from podnet.controlplane.api.errors import bad_request, invalid, not_supported
from podnet.controlplane.apiserver.options import (
    DeleteOptions,
    FieldValidation,
    ListOptions,
    Propagation,
    UserInfo,
    WatchOptions,
    WriteOptions,
)
from podnet.controlplane.apiserver.verbs import parse_dry_run

Query = Mapping[str, list[str]]

_TRUE = frozenset({"1", "t", "T", "true", "TRUE", "True", ""})
_FALSE = frozenset({"0", "f", "F", "false", "FALSE", "False"})
_VALIDATIONS: dict[str, FieldValidation] = {"": "Warn", "Ignore": "Ignore", "Warn": "Warn", "Strict": "Strict"}


def parse_query(text: str) -> Query:
    """All values of every parameter; malformed escapes are kept as they are, as Go's parser mostly does."""
    try:
        return parse_qs(text, keep_blank_values=True, max_num_fields=1000) if text else {}
    except ValueError as error:
        raise bad_request(f"invalid query string: {error}") from None


def first(query: Query, name: str, default: str = "") -> str:
    """The first value of a parameter."""
    values = query.get(name)
    return values[0] if values else default


def boolean(query: Query, name: str, *, default: bool = False) -> bool:
    """A boolean parameter: present without a value means true."""
    values = query.get(name)
    if not values:
        return default
    if values[0] in _TRUE:
        return True
    if values[0] in _FALSE:
        return False
    raise bad_request(f'strconv.ParseBool: parsing "{values[0]}": invalid syntax')


def integer(query: Query, name: str, default: int = 0) -> int:
    """An integer parameter of 64 bits."""
    text = first(query, name)
    if not text:
        return default
    digits = text.removeprefix("-")
    if not (digits.isascii() and digits.isdigit() and len(digits) <= 18):
        raise bad_request(f'strconv.ParseInt: parsing "{text}": invalid syntax')
    return int(text)


def list_options(query: Query) -> ListOptions:
    """Of a LIST."""
    return ListOptions(
        first(query, "labelSelector"),
        first(query, "fieldSelector"),
        first(query, "resourceVersion"),
        first(query, "resourceVersionMatch"),
        integer(query, "limit"),
        first(query, "continue"),
    )


def watch_options(query: Query) -> WatchOptions:
    """Of a WATCH."""
    return WatchOptions(
        first(query, "labelSelector"),
        first(query, "fieldSelector"),
        first(query, "resourceVersion"),
        first(query, "resourceVersionMatch"),
        max(integer(query, "timeoutSeconds"), 0),
        boolean(query, "allowWatchBookmarks"),
        boolean(query, "sendInitialEvents") if query.get("sendInitialEvents") else None,
    )


def write_options(query: Query, user: UserInfo, user_agent: str = "") -> WriteOptions:
    """Of create, update and patch."""
    said = first(query, "fieldValidation")
    if said not in _VALIDATIONS:
        causes = [not_supported("fieldValidation", said, ["Ignore", "Warn", "Strict"])]
        raise invalid("CreateOptions", "", causes, "meta.k8s.io")
    return WriteOptions(
        user,
        parse_dry_run(query.get("dryRun")),
        _VALIDATIONS[said],
        first(query, "fieldManager"),
        user_agent=user_agent,
        force=boolean(query, "force") if query.get("force") else None,
    )


def delete_options(query: Query, user: UserInfo) -> DeleteOptions:
    """Of delete, as far as the query says it."""
    options = DeleteOptions(user, parse_dry_run(query.get("dryRun")))
    if query.get("gracePeriodSeconds"):
        options.grace_period_s = integer(query, "gracePeriodSeconds")
    policy = first(query, "propagationPolicy")
    if policy:
        options.propagation = cast("Propagation", policy)  # deletion.py refuses other words
    elif query.get("orphanDependents"):
        options.propagation = "Orphan" if boolean(query, "orphanDependents") else "Background"
    return options
