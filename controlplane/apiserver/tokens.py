"""ServiceAccount tokens: JSON Web Tokens signed with the cluster's key (ES256), and how they are checked.

The claims are upstream's (pkg/serviceaccount/claims.go): sub `system:serviceaccount:<ns>:<name>`, and under
`kubernetes.io` the namespace, the account and the pod the token is bound to. Source: RFC 7515, 7518, 7519.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature

from podnet.controlplane.apiserver.options import UserInfo

MIN_EXPIRATION_S = 600
MAX_EXPIRATION_S = 2**32
DEFAULT_EXPIRATION_S = 3600
_COORDINATE = 32
"""Bytes of one P-256 number in a JWS signature."""

TOKEN_MAX = 16 * 1024
USER_PREFIX = "system:serviceaccount:"


class TokenError(ValueError):
    """A token that proves nothing, with the reason."""


@dataclass(frozen=True, slots=True)
class BoundObject:
    """What a token dies with, beside its account."""

    kind: str
    name: str
    uid: str


@dataclass(frozen=True, slots=True)
class TokenClaims:
    """A checked token."""

    namespace: str
    name: str
    uid: str
    expires: float
    audiences: tuple[str, ...]
    bound: BoundObject | None = None
    token_id: str = ""

    @property
    def user(self) -> UserInfo:
        """Who the bearer is."""
        extra: dict[str, tuple[str, ...]] = {}
        if self.token_id:
            extra["authentication.kubernetes.io/credential-id"] = (f"JTI={self.token_id}",)
        if self.bound is not None and self.bound.kind == "Pod":
            extra["authentication.kubernetes.io/pod-name"] = (self.bound.name,)
            extra["authentication.kubernetes.io/pod-uid"] = (self.bound.uid,)
        groups = ("system:serviceaccounts", f"system:serviceaccounts:{self.namespace}", "system:authenticated")
        return UserInfo(f"{USER_PREFIX}{self.namespace}:{self.name}", groups, self.uid, extra)


class TokenIssuer:
    """Signs and checks tokens with one key pair."""

    def __init__(self, key_file: Path, issuer: str, clock: Callable[[], float]) -> None:
        key = serialization.load_pem_private_key(key_file.read_bytes(), None)
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            raise ValueError(f"{key_file}: not an ECDSA key")  # noqa: TRY004 - it is the file that is wrong
        self._key = key
        self._public = key.public_key()
        self._clock = clock
        self.issuer = issuer
        self.key_id = _key_id(self._public)

    def sign(
        self,
        namespace: str,
        name: str,
        uid: str,
        *,
        audiences: Sequence[str] = (),
        expiration_s: int = DEFAULT_EXPIRATION_S,
        bound: BoundObject | None = None,
    ) -> tuple[str, float]:
        """(token, when it expires)."""
        now = int(self._clock())
        subject: dict[str, Any] = {"namespace": namespace, "serviceaccount": {"name": name, "uid": uid}}
        if bound is not None:
            subject[bound.kind.lower()] = {"name": bound.name, "uid": bound.uid}
        claims = {
            "aud": list(audiences) or [self.issuer],
            "exp": now + expiration_s,
            "iat": now,
            "iss": self.issuer,
            "jti": str(uuid.uuid4()),
            "kubernetes.io": subject,
            "nbf": now,
            "sub": f"{USER_PREFIX}{namespace}:{name}",
        }
        signed = f"{_encode({'alg': 'ES256', 'kid': self.key_id})}.{_encode(claims)}"
        r, s = decode_dss_signature(self._key.sign(signed.encode(), ec.ECDSA(hashes.SHA256())))
        signature = r.to_bytes(_COORDINATE, "big") + s.to_bytes(_COORDINATE, "big")
        return f"{signed}.{_base64(signature)}", float(now + expiration_s)

    def verify(self, token: str, audiences: Sequence[str] = ()) -> TokenClaims:
        """The claims of a token of ours that is valid now and meant for one of `audiences` (ours by default)."""
        claims = self._checked_claims(token)
        now = self._clock()
        if claims.get("iss") != self.issuer:
            raise TokenError("the issuer is not this cluster")
        if not isinstance(claims.get("exp"), int) or now >= claims["exp"]:
            raise TokenError("service account token has expired")
        if isinstance(claims.get("nbf"), int) and now + 60 < claims["nbf"]:
            raise TokenError("service account token is not valid yet")
        meant = claims.get("aud") or []
        meant = [meant] if isinstance(meant, str) else meant
        matching = tuple(audience for audience in meant if audience in (list(audiences) or [self.issuer]))
        if not matching:
            raise TokenError(
                f"token audiences {meant} is invalid for the target audiences {list(audiences) or [self.issuer]}"
            )
        return _claims(claims, matching)

    def _checked_claims(self, token: str) -> dict[str, Any]:
        if len(token) > TOKEN_MAX:
            raise TokenError("the token is too long")
        try:
            head, body, signature = token.split(".")
            header, raw = orjson.loads(_decode(head)), _decode(signature)
            if header.get("alg") != "ES256" or len(raw) != 2 * _COORDINATE:
                raise TokenError("the token is signed with another algorithm")
            r, s = (int.from_bytes(part, "big") for part in (raw[:_COORDINATE], raw[_COORDINATE:]))
            self._public.verify(encode_dss_signature(r, s), f"{head}.{body}".encode(), ec.ECDSA(hashes.SHA256()))
            claims = orjson.loads(_decode(body))
        except TokenError:
            raise
        except (ValueError, AttributeError, UnicodeEncodeError, binascii.Error):
            raise TokenError("the token is malformed") from None
        except InvalidSignature:
            raise TokenError("the token's signature is not valid") from None
        if not isinstance(claims, dict):
            raise TokenError("the token is malformed")
        return claims

    def jwks(self) -> dict[str, Any]:
        """The document of `/openid/v1/jwks`."""
        numbers = self._public.public_numbers()
        coordinates = {k: _base64(v.to_bytes(_COORDINATE, "big")) for k, v in (("x", numbers.x), ("y", numbers.y))}
        return {
            "keys": [{"use": "sig", "kty": "EC", "kid": self.key_id, "crv": "P-256", "alg": "ES256", **coordinates}]
        }

    def discovery(self, server: str) -> dict[str, Any]:
        """The document of `/.well-known/openid-configuration`."""
        return {
            "issuer": self.issuer,
            "jwks_uri": f"{server}/openid/v1/jwks",
            "response_types_supported": ["id_token"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": ["ES256"],
        }


def _claims(claims: dict[str, Any], audiences: tuple[str, ...]) -> TokenClaims:
    subject = claims.get("kubernetes.io")
    if not isinstance(subject, dict) or not isinstance(subject.get("serviceaccount"), dict):
        raise TokenError("the token is not a service account's")
    account = subject["serviceaccount"]
    bound = None
    for kind in ("Pod", "Secret", "Node"):
        reference = subject.get(kind.lower())
        if isinstance(reference, dict):
            bound = BoundObject(kind, str(reference.get("name", "")), str(reference.get("uid", "")))
            break
    return TokenClaims(
        str(subject.get("namespace", "")),
        str(account.get("name", "")),
        str(account.get("uid", "")),
        claims["exp"],
        audiences,
        bound,
        str(claims.get("jti", "")),
    )


def _key_id(public: ec.EllipticCurvePublicKey) -> str:
    der = public.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return _base64(hashlib.sha256(der).digest())


def _encode(document: dict[str, Any]) -> str:
    return _base64(orjson.dumps(document))


def _base64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _decode(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
