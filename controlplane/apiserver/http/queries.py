"""Query parameters to options, checked.

Source: meta/v1 ListOptions, CreateOptions, DeleteOptions and their conversion from url.Values.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import cast
from urllib.parse import parse_qs

from podnet.controlplane.api.errors import bad_request, go_quoted, invalid, not_supported
from podnet.controlplane.apiserver.options import (
    DeleteOptions,
    FieldValidation,
    ListOptions,
    Propagation,
    UserInfo,
    WatchOptions,
    WriteOptions,
)
from podnet.controlplane.apiserver.verbs import dry_run_causes, parse_dry_run, propagation_and_orphan

Query = Mapping[str, list[str]]

_TRUE = frozenset({"1", "t", "T", "true", "TRUE", "True", ""})
_FALSE = frozenset({"0", "f", "F", "false", "FALSE", "False"})
_DURATION = re.compile(r"[+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:ns|us|µs|μs|ms|s|m|h)", re.ASCII)
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
    """A boolean parameter: present without a value means true. Upstream takes any other word for yes; here it is told."""
    values = query.get(name)
    if not values:
        return default
    if values[0] in _TRUE:
        return True
    if values[0] in _FALSE:
        return False
    raise bad_request(f"strconv.ParseBool: parsing {go_quoted(values[0])}: invalid syntax")


def integer(query: Query, name: str, default: int = 0) -> int:
    """An integer parameter of 64 bits."""
    text = first(query, name)
    if not text:
        return default
    digits = text[1:] if text[0] in "+-" else text
    if not (digits.isascii() and digits.isdigit()):
        raise bad_request(f"strconv.ParseInt: parsing {go_quoted(text)}: invalid syntax")
    if len(digits) > 19 or not -(2**63) <= int(text) < 2**63:
        raise bad_request(f"strconv.ParseInt: parsing {go_quoted(text)}: value out of range")
    return int(text)


def check_timeout(query: Query) -> None:
    """400 for a `timeout` that is no duration of Go's."""
    text = first(query, "timeout")
    if text and text not in {"0", "+0", "-0"} and not (_DURATION.match(text) and not _DURATION.sub("", text)):
        what = f"invalid duration {go_quoted(text)}"
        raise bad_request(f"invalid timeout specified in the request URL - time: {what}")


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


def write_options(query: Query, user: UserInfo, user_agent: str = "", kind: str = "CreateOptions") -> WriteOptions:
    """Of create, update and patch; `kind` is CreateOptions, UpdateOptions or PatchOptions."""
    check_timeout(query)
    said = first(query, "fieldValidation")
    causes = dry_run_causes(query.get("dryRun"))
    if said not in _VALIDATIONS:
        causes.append(not_supported("fieldValidation", said, list(_VALIDATIONS)))
    if causes:
        raise invalid(kind, "", causes, "meta.k8s.io")
    return WriteOptions(
        user,
        bool(query.get("dryRun")),
        _VALIDATIONS[said],
        first(query, "fieldManager"),
        user_agent=user_agent,
        force=boolean(query, "force") if query.get("force") else None,
    )


def delete_options(query: Query, user: UserInfo) -> DeleteOptions:
    """Of delete, as far as the query says it."""
    check_timeout(query)
    options = DeleteOptions(user, parse_dry_run(query.get("dryRun")))
    if query.get("gracePeriodSeconds"):
        options.grace_period_s = integer(query, "gracePeriodSeconds")
    policy = first(query, "propagationPolicy")
    if policy and query.get("orphanDependents"):
        raise propagation_and_orphan(policy)
    if policy:
        options.propagation = cast("Propagation", policy)  # parse_delete_options refuses other words
    elif query.get("orphanDependents"):
        options.propagation = "Orphan" if boolean(query, "orphanDependents") else "Background"
    return options
