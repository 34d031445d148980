"""serviceaccounts/token and TokenReview: tokens given out, and tokens judged.

Source: pkg/registry/core/serviceaccount/storage/token.go, pkg/serviceaccount of Kubernetes 1.32.
"""

from __future__ import annotations

from typing import Any

from podnet.controlplane.api.errors import StatusError, bad_request, conflict, invalid, invalid_value, not_found
from podnet.controlplane.api.resources import NODES, PODS, SECRETS, SERVICEACCOUNTS
from podnet.controlplane.api.timestamps import format_time
from podnet.controlplane.api.types import Object
from podnet.controlplane.apiserver.registry import Registry
from podnet.controlplane.apiserver.tokens import (
    DEFAULT_EXPIRATION_S,
    MAX_EXPIRATION_S,
    MIN_EXPIRATION_S,
    BoundObject,
    TokenClaims,
    TokenError,
    TokenIssuer,
)

_BOUND = {"Pod": PODS, "Secret": SECRETS, "Node": NODES}


async def request_token(registry: Registry, issuer: TokenIssuer, namespace: str, name: str, request: Object) -> Object:
    """POST token: the TokenRequest with its status filled in."""
    spec = request.get("spec") or {}
    account = (await registry.get(SERVICEACCOUNTS, namespace, name)).obj
    expiration = spec.get("expirationSeconds")
    expiration = DEFAULT_EXPIRATION_S if expiration is None else int(expiration)
    if not MIN_EXPIRATION_S <= expiration <= MAX_EXPIRATION_S:
        bound = "less than 10 minutes" if expiration < MIN_EXPIRATION_S else "larger than 1<<32 seconds"
        cause = invalid_value("spec.expirationSeconds", expiration, f"may not specify a duration {bound}")
        raise invalid("TokenRequest", name, [cause], "authentication.k8s.io")
    audiences = list(spec.get("audiences") or [issuer.issuer])
    bound_object = _bound_object(registry, account, namespace, spec.get("boundObjectRef"))
    token, expires = issuer.sign(
        namespace, name, account["metadata"]["uid"], audiences=audiences, expiration_s=expiration, bound=bound_object
    )
    out_spec = {"audiences": audiences, "expirationSeconds": expiration, "boundObjectRef": spec.get("boundObjectRef")}
    return {
        "kind": "TokenRequest",
        "apiVersion": "authentication.k8s.io/v1",
        "metadata": {"name": name, "namespace": namespace, "creationTimestamp": format_time(registry.clock())},
        "spec": out_spec,
        "status": {"token": token, "expirationTimestamp": format_time(expires)},
    }


def _bound_object(
    registry: Registry, account: Object, namespace: str, reference: dict[str, Any] | None
) -> BoundObject | None:
    if not reference:
        return None
    kind, name = reference.get("kind", ""), reference.get("name", "")
    resource = _BOUND.get(kind)
    if resource is None:
        raise bad_request(f"cannot bind token for serviceaccount to a {reference.get('apiVersion', '')}/{kind}")
    obj = registry.find(resource, namespace, name)
    if obj is None:
        raise not_found(resource.plural, name)
    uid = obj["metadata"]["uid"]
    if reference.get("uid") and reference["uid"] != uid:
        why = f"the UID in the bound object reference ({reference['uid']}) does not match the UID in record. The object might have been deleted and then recreated"
        raise conflict(resource.plural, name, why)
    if kind == "Pod" and obj["spec"].get("serviceAccountName") != account["metadata"]["name"]:
        raise bad_request(
            f"cannot bind token for serviceaccount {account['metadata']['name']!r} to pod running with different "
            f"serviceaccount name."
        )
    return BoundObject(kind, name, uid)


def check_token(registry: Registry, issuer: TokenIssuer, token: str, audiences: list[str]) -> TokenClaims:
    """A token whose account, and whose bound object, still stand. Raises TokenError."""
    claims = issuer.verify(token, audiences)
    account = registry.find(SERVICEACCOUNTS, claims.namespace, claims.name)
    if account is None or account["metadata"]["uid"] != claims.uid:
        raise TokenError("the service account does not exist any more")
    bound = claims.bound
    if bound is not None and bound.kind in _BOUND:
        obj = registry.find(_BOUND[bound.kind], claims.namespace, bound.name)
        if obj is None or obj["metadata"]["uid"] != bound.uid:
            raise TokenError(f"the {bound.kind.lower()} the token is bound to does not exist any more")
    return claims


def review_token(registry: Registry, issuer: TokenIssuer, review: Object) -> Object:
    """POST tokenreviews."""
    spec = review.get("spec") or {}
    token, audiences = spec.get("token") or "", list(spec.get("audiences") or [])
    if not token:
        raise StatusError(400, "BadRequest", "token is required for TokenReview in authentication")
    status: dict[str, Any]
    try:
        claims = check_token(registry, issuer, token, audiences)
        status = {"authenticated": True, "user": claims.user.to_dict(), "audiences": list(claims.audiences)}
    except TokenError as error:
        status = {"user": {}, "error": f"[invalid bearer token, {error}]"}
    return {**review, "status": status}
