"""Who asks: a client certificate of the cluster's authority, or a ServiceAccount token; else nobody (401).

A certificate's CN is the user and its O the groups; TLS has checked the chain already. `system:masters` may impersonate.
Source: apiserver pkg/authentication/request/{x509,bearertoken,anonymous}, impersonation filter.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import unquote

from podnet.controlplane.api.errors import StatusError, bad_request, unauthorized
from podnet.controlplane.apiserver.options import UserInfo
from podnet.controlplane.apiserver.tokens import TokenClaims, TokenError

ANONYMOUS = UserInfo("system:anonymous", ("system:unauthenticated",))
_CACHED_CERTIFICATES = 1024

CheckToken = Callable[[str], TokenClaims]


class Authenticator:
    """Reads identities off requests. `insecure_user` is who everybody is where the server listens without TLS."""

    def __init__(self, check_token: CheckToken | None, insecure_user: UserInfo | None = None) -> None:
        self._check_token = check_token
        self._insecure_user = insecure_user
        self._by_certificate: dict[bytes, UserInfo] = {}

    def authenticate(self, transport: Any, headers: Mapping[str, str]) -> UserInfo | None:
        """The user, None for an anonymous request. Raises 401 for credentials that prove nothing."""
        user = self._of_certificate(transport) or self._of_token(headers)
        return user or self._insecure_user

    def _of_certificate(self, transport: Any) -> UserInfo | None:
        tls = transport.get_extra_info("ssl_object") if transport is not None else None
        if tls is None:
            return None
        der = tls.getpeercert(True)
        if not der:
            return None
        user = self._by_certificate.get(der)
        if user is None:
            user = _user_of_subject(tls.getpeercert(), der)
            if len(self._by_certificate) >= _CACHED_CERTIFICATES:
                self._by_certificate.clear()
            self._by_certificate[der] = user
        return user

    def _of_token(self, headers: Mapping[str, str]) -> UserInfo | None:
        value = headers.get("Authorization")
        if not value:
            return None
        scheme, _, token = value.partition(" ")
        if scheme.lower() != "bearer" or self._check_token is None:
            raise unauthorized()
        try:
            return self._check_token(token.strip()).user
        except TokenError:
            raise unauthorized() from None


def _user_of_subject(certificate: Mapping[str, Any], der: bytes) -> UserInfo:
    name, groups = "", []
    for attributes in certificate.get("subject", ()):
        for key, value in attributes:
            if key == "commonName":
                name = value
            elif key == "organizationName":
                groups.append(value)
    credential = f"X509SHA256={hashlib.sha256(der).hexdigest()}"
    return UserInfo(
        name, (*groups, "system:authenticated"), extra={"authentication.kubernetes.io/credential-id": (credential,)}
    )


def impersonated(user: UserInfo, headers: Any) -> UserInfo:
    """The user whom Impersonate-* headers name; only `system:masters` may."""
    name = readable(headers.get("Impersonate-User", ""))
    groups = tuple(map(readable, headers.getall("Impersonate-Group", ())))
    uid = readable(headers.get("Impersonate-Uid", ""))
    if not name:
        if groups or uid:  # upstream answers 500; it is the client that is wrong
            raise bad_request(f"requested [{'Group' if groups else 'UID'}] without impersonating a user")
        return user
    if "system:masters" not in user.groups:
        raise StatusError(
            403,
            "Forbidden",
            f'users "{name}" is forbidden: User "{user.name}" cannot impersonate resource "users" in API group "" at the cluster scope',
            {"name": name, "kind": "users"},
        )
    if name.startswith("system:serviceaccount:") and not groups:
        namespace = name.split(":")[2]
        groups = ("system:serviceaccounts", f"system:serviceaccounts:{namespace}")
    known = () if name == "system:anonymous" else ("system:authenticated",)
    extra: dict[str, tuple[str, ...]] = {}
    for header in headers:
        lowered = header.lower()
        if lowered.startswith("impersonate-extra-"):
            key = unquote(readable(lowered.removeprefix("impersonate-extra-")))
            extra[key] = tuple(map(readable, headers.getall(header)))
    return UserInfo(name, tuple(dict.fromkeys((*groups, *known))), uid, extra)


def readable(text: str) -> str:
    """A header's value as Unicode: bytes that are none become U+FFFD."""
    return text if text.isascii() else text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
