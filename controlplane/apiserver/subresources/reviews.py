"""Access reviews: who am I, may I, may they. Everyone who is known may do everything, until roles are enforced.

Source: k8s.io/api authorization/v1, authentication/v1.
"""

from __future__ import annotations

from typing import Any

from podnet.controlplane.api.errors import bad_request, invalid, required
from podnet.controlplane.api.timestamps import format_time
from podnet.controlplane.api.types import Object
from podnet.controlplane.apiserver.options import UserInfo

_EVERYTHING: dict[str, Any] = {
    "resourceRules": [{"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]}],
    "nonResourceRules": [{"verbs": ["*"], "nonResourceURLs": ["*"]}],
    "incomplete": False,
}


def self_subject_review(review: Object, user: UserInfo, now: float) -> Object:
    """`kubectl auth whoami`."""
    metadata = {**review.get("metadata", {}), "creationTimestamp": format_time(now)}
    return {**review, "metadata": metadata, "status": {"userInfo": user.to_dict()}}


def self_subject_rules_review(review: Object) -> Object:
    """`kubectl auth can-i --list`."""
    if not (review.get("spec") or {}).get("namespace"):
        raise bad_request("no namespace on request")
    return {**review, "status": _EVERYTHING}


def access_review(review: Object, user: UserInfo | None) -> Object:
    """SelfSubjectAccessReview when `user` is said, else Subject- and LocalSubjectAccessReview with the user in the spec."""
    spec = review.get("spec") or {}
    kind = review["kind"]
    if bool(spec.get("resourceAttributes")) == bool(spec.get("nonResourceAttributes")):
        detail = "exactly one of nonResourceAttributes or resourceAttributes must be specified"
        raise invalid(kind, "", [required("spec.resourceAttributes", detail)], "authorization.k8s.io")
    if user is None and not spec.get("user") and not spec.get("groups"):
        causes = [required("spec.user", "at least one of user or group must be specified")]
        raise invalid(kind, "", causes, "authorization.k8s.io")
    who = user or UserInfo(spec.get("user") or "", tuple(spec.get("groups") or ()))
    return {**review, "status": access(who)}


def access(user: UserInfo) -> dict[str, Any]:
    """The decision for a user."""
    if user.name in {"", "system:anonymous"}:
        return {"allowed": False, "reason": "anonymous requests are not authorized"}
    if "system:masters" in user.groups:
        return {"allowed": True}
    return {"allowed": True, "reason": "authenticated users are authorized"}
