"""What is answered without looking at an object: discovery, OpenAPI, version, health, keys of the token issuer.

Every document is built once on first use and kept as bytes with its ETag.
"""

from __future__ import annotations

import hashlib
import platform
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import orjson

from podnet.controlplane.api.discovery import (
    api_group,
    api_group_discovery,
    api_group_list,
    api_resource_list,
    api_versions,
)
from podnet.controlplane.api.openapi import document_hash, openapi_document, openapi_index
from podnet.controlplane.api.resources import RESOURCES
from podnet.controlplane.api.types import Object
from podnet.controlplane.apiserver.http.negotiation import wants_aggregated_discovery

VERSION = {
    "major": "1",
    "minor": "32",
    "gitVersion": "v1.32.4+podnet",
    "gitCommit": "",
    "gitTreeState": "clean",
    "buildDate": "2024-12-11T18:00:00Z",
    "goVersion": "",
    "compiler": "cpython",
    "platform": f"linux/{ {'x86_64': 'amd64', 'aarch64': 'arm64'}.get(platform.machine(), platform.machine()) }",
}
"""kubectl prints gitVersion and compares minors; a `-dispatcher` kubectl picks its binary by them."""

_OPENAPI_V2 = "application/com.github.proto-openapi.spec.v2@v1.0+protobuf"
_OPENAPI_V2_ANSWER = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf"
"""Clients ask for the first and can only parse the second: `@` may not stand in a media type."""
FAR_FUTURE = "Fri, 31 Dec 2055 23:59:59 GMT"
_AGGREGATED = "application/json;g=apidiscovery.k8s.io;v={};as=APIGroupDiscoveryList"

_PATHS = (
    "/.well-known/openid-configuration",
    "/api",
    "/apis",
    "/healthz",
    "/livez",
    "/metrics",
    "/openapi/v3",
    "/openid/v1/jwks",
    "/readyz",
    "/version",
)


@dataclass(frozen=True, slots=True)
class Document:
    """Bytes to answer with."""

    body: bytes
    content_type: str = "application/json"
    headers: dict[str, str] = field(default_factory=dict)
    status: int = 200

    @classmethod
    def of(cls, obj: Object | list[Any]) -> Document:
        """A JSON document."""
        return cls(orjson.dumps(obj))


def find_document(path: str, query: str, accept: str, server: str, issuer: Any) -> Document | None:
    """The document at a path (without a trailing slash), None when it is none of these."""
    parts = path.strip("/").split("/")
    head = parts[0]
    if head in {"api", "apis"}:
        return _discovery(parts, accept, server)
    if head == "openapi":
        return _openapi(parts, query, accept)
    if path == "/version":
        return Document.of(VERSION)
    if path in {"", "/"}:
        return Document.of({"paths": root_paths()})
    if path == "/openid/v1/jwks" and issuer is not None:
        return Document(orjson.dumps(issuer.jwks()), "application/jwk-set+json")
    if path == "/.well-known/openid-configuration" and issuer is not None:
        return Document.of(issuer.discovery(f"https://{server}"))
    return None


@cache
def root_paths() -> list[str]:
    """Every path that answers without naming a resource, as `/` lists them."""
    versions = {resource.path for resource in RESOURCES}
    groups = {path.rpartition("/")[0] for path in versions if path.startswith("/apis/")}
    documents = {f"/openapi/v3{path}" for path in versions}
    return sorted({*_PATHS, *versions, *groups, *documents})


def _discovery(parts: list[str], accept: str, server: str) -> Document | None:
    if len(parts) == 1:
        version = wants_aggregated_discovery(accept)
        if version:
            return _aggregated(parts[0] == "api", version)
        return Document.of(api_versions([server])) if parts[0] == "api" else _tagged(orjson.dumps(api_group_list()))
    if parts[0] == "api":
        found = api_resource_list("", parts[1]) if len(parts) == 2 else None
    elif len(parts) == 2:
        found = api_group(parts[1])
    else:
        found = api_resource_list(parts[1], parts[2]) if len(parts) == 3 else None
    return None if found is None else Document.of(found)


@cache
def _aggregated(core: bool, version: str) -> Document:
    document = api_group_discovery(core)
    document["apiVersion"] = f"apidiscovery.k8s.io/{version}"
    return _tagged(orjson.dumps(document), _AGGREGATED.format(version))


def _tagged(body: bytes, content_type: str = "application/json") -> Document:
    tag = hashlib.sha512(body).hexdigest().upper()
    return Document(body, content_type, {"ETag": f'"{tag}"', "Vary": "Accept"})


def _openapi_v2(accept: str) -> Document | None:
    """A document without definitions, in protobuf, the one form kubectl reads. It asks for it before it sends a `List`
    (and up to 1.28 before every apply), finds that it knows nothing of the kinds, and leaves validation to the server."""
    if _OPENAPI_V2 not in accept and _OPENAPI_V2_ANSWER not in accept:
        return None
    info = _text_field(1, "Kubernetes") + _text_field(2, VERSION["gitVersion"])
    return _tagged(_text_field(1, "2.0") + _length_delimited(2, info), _OPENAPI_V2_ANSWER)


def _text_field(number: int, text: str) -> bytes:
    return _length_delimited(number, text.encode())


def _length_delimited(number: int, data: bytes) -> bytes:
    return bytes([number << 3 | 2, len(data)]) + data


def _openapi(parts: list[str], query: str, accept: str) -> Document | None:
    if parts[1:] == ["v2"]:
        return _openapi_v2(accept)
    if len(parts) < 2 or parts[1] != "v3":
        return None
    if len(parts) == 2:
        return _tagged(orjson.dumps(openapi_index()))
    if parts[2] == "api" and len(parts) == 4:
        group, version = "", parts[3]
    elif parts[2] == "apis" and len(parts) == 5:
        group, version = parts[3], parts[4]
    else:
        return None
    body = openapi_document(group, version)
    if body is None:
        return None
    tag = document_hash(group, version)
    headers = {"ETag": f'"{tag}"', "Vary": "Accept"}
    if f"hash={tag}" in query:
        # kubectl keeps a group document on disk only when it is told that it never changes under this URL
        headers |= {"Cache-Control": "public, immutable", "Expires": FAR_FUTURE}
    else:
        headers["Cache-Control"] = "no-cache, private"
    return Document(body, "application/json", headers)


def health(path: str, checks: dict[str, Callable[[], bool]], *, verbose: bool, excluded: list[str]) -> Document | None:
    """`/healthz`, `/livez`, `/readyz`, each with `?verbose` and `/<check>`; 500 when a check fails."""
    name, _, single = path.strip("/").partition("/")
    if name not in {"healthz", "livez", "readyz"}:
        return None
    if single:
        check = checks.get(single)
        if check is None:
            return None
        good = check()
        return Document(
            b"ok" if good else b"internal server error: check failed\n",
            "text/plain; charset=utf-8",
            status=200 if good else 500,
        )
    results = {check: function() for check, function in checks.items() if check not in excluded}
    good = all(results.values())
    if good and not verbose:
        return Document(b"ok", "text/plain; charset=utf-8")
    lines = [f"[+]{check} ok" if passed else f"[-]{check} failed: reason withheld" for check, passed in results.items()]
    lines.append(f"{name} check {'passed' if good else 'failed'}")
    text = "\n".join(lines) + "\n"
    return Document(
        text.encode(), "text/plain; charset=utf-8", {"X-Content-Type-Options": "nosniff"}, 200 if good else 500
    )
