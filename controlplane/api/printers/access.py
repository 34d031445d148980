"""The tables of role bindings, certificates, admission and flow control.

Source: k8s.io/kubernetes pkg/printers/internalversion (the rules of 1.32, restated).
"""

from __future__ import annotations

from typing import Any

from podnet.controlplane.api import timestamps
from podnet.controlplane.api.printers.cells import (
    NONE,
    UNSET,
    Printer,
    age,
    condition,
    is_true,
    items,
    name,
    part,
    printer,
    selector,
)
from podnet.controlplane.api.types import Object


def _role_binding(obj: Object, now: float) -> list[Any]:
    role = part(obj, "roleRef")
    users, groups, accounts = [], [], []
    for subject in items(obj, "subjects"):
        kind, text = subject.get("kind"), subject.get("name") or ""
        if kind == "User":
            users.append(text)
        elif kind == "Group":
            groups.append(text)
        elif kind == "ServiceAccount":
            accounts.append(f"{subject.get('namespace') or ''}/{text}")
    reference = f"{role.get('kind') or ''}/{role.get('name') or ''}"
    return [name(obj), reference, age(obj, now), ", ".join(users), ", ".join(groups), ", ".join(accounts)]


def _signing_request(obj: Object, now: float) -> list[Any]:
    spec = part(obj, "spec")
    seconds = spec.get("expirationSeconds")
    verdict = "Denied" if _has(obj, "Denied") else "Approved" if _has(obj, "Approved") else "Pending"
    verdict += ",Failed" if _has(obj, "Failed") else ""
    verdict += ",Issued" if part(obj, "status").get("certificate") else ""
    return [
        name(obj),
        age(obj, now),
        spec.get("signerName") or NONE,
        spec.get("username") or "",
        NONE if seconds is None else timestamps.human_duration(seconds),
        verdict,
    ]


def _has(obj: Object, type_: str) -> bool:
    """Denied, Approved and Failed count by being there; old signers left their status out."""
    row = condition(obj, type_)
    return row is not None and (not row.get("status") or is_true(obj, type_))


def _admission_policy(obj: Object, now: float) -> list[Any]:
    kind = part(obj, "spec", "paramKind")
    text = f"{kind.get('apiVersion') or ''}/{kind.get('kind') or ''}" if kind else UNSET
    return [name(obj), len(items(obj, "spec", "validations")), text, age(obj, now)]


def _admission_policy_binding(obj: Object, now: float) -> list[Any]:
    reference = part(obj, "spec", "paramRef")
    text = UNSET
    if reference.get("name"):
        text = f"{reference.get('namespace') or '*'}/{reference['name']}"
    elif reference.get("selector") is not None:
        text = selector(reference["selector"])
    return [name(obj), part(obj, "spec").get("policyName") or "", text, age(obj, now)]


def _flow_schema(obj: Object, now: float) -> list[Any]:
    spec = part(obj, "spec")
    dangling = condition(obj, "Dangling")
    return [
        name(obj),
        part(spec, "priorityLevelConfiguration").get("name") or "",
        spec.get("matchingPrecedence") or 0,
        part(spec, "distinguisherMethod").get("type") or NONE,
        age(obj, now),
        "?" if dangling is None else dangling.get("status") or "",
    ]


def _priority_level(obj: Object, now: float) -> list[Any]:
    limited = part(obj, "spec", "limited")
    queuing = part(limited, "limitResponse", "queuing")
    cells = [limited.get("nominalConcurrencyShares", 0)] if limited else [NONE]
    cells += [queuing.get(field, 0) if queuing else NONE for field in ("queues", "handSize", "queueLengthLimit")]
    return [name(obj), part(obj, "spec").get("type") or "", *cells, age(obj, now)]


_BINDINGS = printer("Name, Role, Age, +Users, +Groups, +ServiceAccounts", _role_binding)

PRINTERS: dict[str, Printer] = {
    "rolebindings.rbac.authorization.k8s.io": _BINDINGS,
    "clusterrolebindings.rbac.authorization.k8s.io": _BINDINGS,
    "certificatesigningrequests.certificates.k8s.io": printer(
        "Name, Age, SignerName, Requestor, RequestedDuration, Condition", _signing_request
    ),
    "validatingadmissionpolicies.admissionregistration.k8s.io": printer(
        "Name, Validations:integer, ParamKind, Age", _admission_policy
    ),
    "validatingadmissionpolicybindings.admissionregistration.k8s.io": printer(
        "Name, PolicyName, ParamRef, Age", _admission_policy_binding
    ),
    "flowschemas.flowcontrol.apiserver.k8s.io": printer(
        "Name, PriorityLevel, MatchingPrecedence, DistinguisherMethod, Age, MissingPL", _flow_schema
    ),
    "prioritylevelconfigurations.flowcontrol.apiserver.k8s.io": printer(
        "Name, Type, NominalConcurrencyShares, Queues, HandSize, QueueLengthLimit, Age", _priority_level
    ),
}
