"""What a request asks for besides its object: who asks, dry run, field validation, list, watch and delete options.

Names follow meta/v1 CreateOptions, UpdateOptions, ListOptions and DeleteOptions. Values are already parsed and checked
here; the HTTP layer turns query parameters and bodies into them, the in-process client makes them directly.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from podnet.controlplane.api.errors import (
    Cause,
    StatusError,
    bad_request,
    go_quoted,
    invalid,
    invalid_value,
    not_supported,
)

FieldValidation = Literal["Ignore", "Warn", "Strict"]
Propagation = Literal["", "Background", "Foreground", "Orphan"]


@dataclass(frozen=True, slots=True)
class UserInfo:
    """Who asks, as authentication/v1 UserInfo says it."""

    name: str
    groups: tuple[str, ...] = ()
    uid: str = ""
    extra: Mapping[str, tuple[str, ...]] = field(default_factory=dict, hash=False)

    def to_dict(self) -> dict[str, Any]:
        """The JSON of UserInfo."""
        out: dict[str, Any] = {"username": self.name}
        if self.uid:
            out["uid"] = self.uid
        out["groups"] = list(self.groups)
        if self.extra:
            out["extra"] = {key: list(values) for key, values in self.extra.items()}
        return out


APISERVER = UserInfo("system:apiserver", ("system:masters", "system:authenticated"))
"""The server itself: bootstrap objects are written under this name."""


@dataclass(slots=True)
class WriteOptions:
    """Of create, update and patch. `warnings` collects what is answered in Warning headers. `force` is an apply's (None:
    not said), `applying` marks the write of one, `initial_managers` are the managedFields of what it creates."""

    user: UserInfo = APISERVER
    dry_run: bool = False
    field_validation: FieldValidation = "Warn"
    field_manager: str = ""
    warnings: list[str] = field(default_factory=list)
    user_agent: str = ""
    force: bool | None = None
    applying: bool = False
    initial_managers: list[dict[str, Any]] | None = None


@dataclass(slots=True)
class DeleteOptions:
    """Of delete and deletecollection. `uid` and `resource_version` are preconditions."""

    user: UserInfo = APISERVER
    dry_run: bool = False
    grace_period_s: int | None = None
    propagation: Propagation = ""
    uid: str = ""
    resource_version: str = ""
    warnings: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class ListOptions:
    """Of list; `resource_version_match` is "", NotOlderThan or Exact."""

    label_selector: str = ""
    field_selector: str = ""
    resource_version: str = ""
    resource_version_match: str = ""
    limit: int = 0
    continue_token: str = ""


@dataclass(frozen=True, slots=True)
class WatchOptions:
    """Of watch; `timeout_s` 0 leaves the length to the server."""

    label_selector: str = ""
    field_selector: str = ""
    resource_version: str = ""
    resource_version_match: str = ""
    timeout_s: int = 0
    allow_bookmarks: bool = False
    send_initial_events: bool | None = None


def parse_resource_version(text: str) -> int:
    """A revision as clients write it: decimal, "" for unset (0). Anything else is a 400."""
    if not text:
        return 0
    problem = ""
    if not (text.isascii() and text.isdigit()):
        problem = "invalid syntax"
    elif len(text) > 20 or int(text) >= 2**64:
        problem = "value out of range"
    if problem:
        said = go_quoted(text)
        raise bad_request(f"resourceVersion: Invalid value: {said}: strconv.ParseUint: parsing {said}: {problem}")
    return int(text)


def check_list_options(options: ListOptions) -> None:
    """The combinations of resourceVersion, resourceVersionMatch and continue that ListOptions validation refuses."""
    match, causes = options.resource_version_match, []
    if match:
        if not options.resource_version:
            causes.append(_forbidden_match("resourceVersionMatch is forbidden unless resourceVersion is provided"))
        if options.continue_token:
            causes.append(_forbidden_match("resourceVersionMatch is forbidden when continue is provided"))
        if match not in {"Exact", "NotOlderThan"}:
            causes.append(not_supported("resourceVersionMatch", match, ["Exact", "NotOlderThan", ""], sort=False))
        if match == "Exact" and options.resource_version == "0":
            causes.append(_forbidden_match('resourceVersionMatch "exact" is forbidden for resourceVersion "0"'))
    if options.limit < 0:
        causes.append(invalid_value("limit", options.limit, "must be greater than or equal to 0"))
    if causes:
        raise _invalid_options(causes)


def check_watch_options(options: WatchOptions) -> None:
    """SendInitialEvents and resourceVersionMatch go together or not at all."""
    causes = []
    if options.send_initial_events is not None and options.resource_version_match != "NotOlderThan":
        causes.append(
            _forbidden_match("sendInitialEvents requires setting resourceVersionMatch to NotOlderThan")
            if not options.resource_version_match
            else not_supported("resourceVersionMatch", options.resource_version_match, ["NotOlderThan"])
        )
    if options.send_initial_events is None and options.resource_version_match:
        causes.append(
            _forbidden_match("resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided")
        )
    if causes:
        raise _invalid_options(causes)


def _forbidden_match(detail: str) -> Cause:
    return Cause("FieldValueForbidden", f"Forbidden: {detail}", "resourceVersionMatch")


def _invalid_options(causes: list[Cause]) -> StatusError:
    return invalid("ListOptions", "", causes, "meta.k8s.io")
