"""What a URL addresses.

    /api/v1/namespaces/{ns}/pods/{name}/log      /apis/apps/v1/deployments      /api/v1/nodes/{name}/proxy/{rest}

Pure. Source: apiserver pkg/endpoints/request/requestinfo.go.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from urllib.parse import unquote

from podnet.controlplane.api.errors import bad_request
from podnet.controlplane.api.resources import find
from podnet.controlplane.api.types import Resource
from podnet.controlplane.apiserver.keys import key_of

_ABSOLUTE = re.compile(r"https?://[^/?#]*", re.IGNORECASE)
"""What a client that takes this server for its proxy writes before the path (RFC 9112 section 3.2.2)."""
_NO_ESCAPE = re.compile("%(?![0-9A-Fa-f]{2}).{0,2}")
_WATCH = re.compile(r"(/api/[^/]+|/apis/[^/]+/[^/]+)/watch/(.+)")
_REMEMBERED_MAX = 1024
"""Characters; what is longer names nothing that is asked for twice, and may be 64 KiB long."""
_NAMESPACE_SUBRESOURCES = frozenset({"status", "finalize"})


@dataclass(frozen=True, slots=True)
class Target:
    """A resource URL: `name` is empty for a collection, `key` is the object's store key, `rest` follows `proxy`."""

    resource: Resource
    namespace: str
    name: str
    subresource: str
    rest: str
    key: str


def split_target(raw: str) -> tuple[str, str]:
    """(path, query) of a request line's target; 400 for an escape that is none. (It is ASCII: the parser of HTTP lets nothing
    else through.)"""
    if raw[:1] != "/":
        raw = _ABSOLUTE.sub("", raw, count=1)
    path, _, query = raw.partition("?")
    if not path.startswith("/"):
        if path:
            raise bad_request(f"invalid URI for request: {path[:200]}")
        path = "/"
    if "%" in path:
        wrong = _NO_ESCAPE.search(path)
        if wrong is not None:
            raise bad_request(f'invalid URL escape "{wrong[0]}"')
    return path, query.partition("#")[0] if "#" in query else query


def parse_path(path: str) -> Target | None:
    """The target of a path (without its query), None when it names no resource of the registry."""
    return _remembered(path) if len(path) <= _REMEMBERED_MAX else _parse(path)


def _parse(path: str) -> Target | None:
    parts = path.split("/")
    if len(parts) > 2 and parts[-1] == "" and "proxy" not in parts:
        parts.pop()  # a trailing slash changes nothing
    if len(parts) >= 4 and parts[1] == "api":
        group, version, tail = "", parts[2], parts[3:]
    elif len(parts) >= 5 and parts[1] == "apis":
        group, version, tail = parts[2], parts[3], parts[4:]
    else:
        return None
    tail = [unquote(part) for part in tail]
    namespace = ""
    if (
        tail[0] == "namespaces"
        and len(tail) > 2
        and not (group == "" and len(tail) == 3 and tail[2] in _NAMESPACE_SUBRESOURCES)
    ):
        namespace, tail = tail[1], tail[2:]
        if not namespace:
            return None
    return _target(group, version, namespace, tail)


_remembered = lru_cache(maxsize=8192)(_parse)


def watched_path(path: str) -> str:
    """The collection or the object that one of the old `/watch/` URLs is about, "" for any other path.

    /api/v1/watch/namespaces/{ns}/pods      /apis/apps/v1/watch/deployments      (deprecated since 1.11, served to this day)
    """
    match = _WATCH.fullmatch(path)
    return f"{match[1]}/{match[2]}" if match is not None else ""


def _target(group: str, version: str, namespace: str, tail: list[str]) -> Target | None:
    resource = find(group, version, tail[0])
    if resource is None or (namespace and not resource.namespaced):
        return None
    name = tail[1] if len(tail) > 1 else ""
    subresource = tail[2] if len(tail) > 2 else ""
    rest = "/".join(tail[3:])
    if (len(tail) > 1 and not name) or (len(tail) > 2 and subresource not in resource.subresources):
        return None
    if (rest and subresource != "proxy") or "/" in name:
        return None
    if name and resource.namespaced and not namespace:
        return None
    key = key_of(resource, namespace, name) if name else ""
    return Target(resource, namespace, name, subresource, rest, key)
