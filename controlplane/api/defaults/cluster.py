"""Defaults of what a cluster itself consists of: namespaces, nodes, configuration, roles, admission, priority.

Source: Kubernetes API reference, "Cluster", "Policy" and "Authorization Resources" (1.32).
"""

from __future__ import annotations

import base64

from podnet.controlplane.api.defaults.fill import (
    JSONObject,
    canonical_quantities,
    child,
    each,
    fill,
    fill_empty,
    present,
)

_RBAC = "rbac.authorization.k8s.io"


def default_namespace(obj: JSONObject) -> None:
    """Namespace: Active, held by the `kubernetes` finalizer's phase, and labelled with its own name."""
    fill_empty(child(obj, "status"), phase="Active")
    metadata = child(obj, "metadata")
    if metadata.get("name"):
        child(metadata, "labels")["kubernetes.io/metadata.name"] = metadata["name"]


def default_node(obj: JSONObject) -> None:
    """Node: what it can allocate is what it has; `podCIDR` is the first of `podCIDRs`."""
    status = present(obj, "status") or {}
    canonical_quantities(status, "capacity", "allocatable")
    if status.get("capacity") and status.get("allocatable") is None:
        status["allocatable"] = dict(status["capacity"])
    spec = child(obj, "spec")
    if spec.get("podCIDR"):
        fill_empty(spec, podCIDRs=[spec["podCIDR"]])
    elif spec.get("podCIDRs"):
        spec["podCIDR"] = spec["podCIDRs"][0]


def default_secret(obj: JSONObject) -> None:
    """Secret: `stringData` is a way to write `data`, and is never read back."""
    fill_empty(obj, type="Opaque")
    plain = obj.pop("stringData", None)
    if plain:
        encoded = {
            key: base64.b64encode(value.encode()).decode() for key, value in plain.items() if isinstance(value, str)
        }
        child(obj, "data").update(encoded)


def default_limit_range(obj: JSONObject) -> None:
    """LimitRange: a container's default limit is the maximum, its default request the default limit, else the minimum."""
    for item in each(present(obj, "spec") or {}, "limits"):
        names = ("max", "min", "default", "defaultRequest", "maxLimitRequestRatio")
        canonical_quantities(item, *names)
        if item.get("type") == "Container":
            for target, sources in (("default", ("max",)), ("defaultRequest", ("default", "min"))):
                for source in sources:
                    if item.get(source):
                        fill(child(item, target), **item[source])


def default_resource_quota(obj: JSONObject) -> None:
    """ResourceQuota: only the form of its quantities."""
    canonical_quantities(present(obj, "spec") or {}, "hard")
    canonical_quantities(present(obj, "status") or {}, "hard", "used")


def default_binding(obj: JSONObject) -> None:
    """RoleBinding and ClusterRoleBinding: users, groups and roles are RBAC's own."""
    role = present(obj, "roleRef")
    if role is not None:
        fill_empty(role, apiGroup=_RBAC)
    for subject in each(obj, "subjects"):
        if subject.get("kind") in {"User", "Group"}:
            fill_empty(subject, apiGroup=_RBAC)


def default_priority_class(obj: JSONObject) -> None:
    """PriorityClass."""
    fill(obj, preemptionPolicy="PreemptLowerPriority")


def default_token_request(obj: JSONObject) -> None:
    """TokenRequest: an hour."""
    fill(child(obj, "spec"), expirationSeconds=3600)


def default_webhooks(obj: JSONObject) -> None:
    """ValidatingWebhookConfiguration and MutatingWebhookConfiguration."""
    for webhook in each(obj, "webhooks"):
        fill(webhook, failurePolicy="Fail", matchPolicy="Equivalent", timeoutSeconds=10)
        fill(webhook, namespaceSelector={}, objectSelector={})
        if obj.get("kind") == "MutatingWebhookConfiguration":
            fill(webhook, reinvocationPolicy="Never")
        _default_service_port(present(webhook, "clientConfig") or {})
        _default_scopes(webhook, "rules")


def default_admission_policy(obj: JSONObject) -> None:
    """ValidatingAdmissionPolicy."""
    spec = child(obj, "spec")
    fill(spec, failurePolicy="Fail")
    _default_match(present(spec, "matchConstraints"))


def default_admission_policy_binding(obj: JSONObject) -> None:
    """ValidatingAdmissionPolicyBinding."""
    _default_match(present(present(obj, "spec") or {}, "matchResources"))


def _default_match(match: JSONObject | None) -> None:
    if match is not None:
        fill(match, matchPolicy="Equivalent", namespaceSelector={}, objectSelector={})
        _default_scopes(match, "resourceRules")
        _default_scopes(match, "excludeResourceRules")


def _default_scopes(target: JSONObject, name: str) -> None:
    for rule in each(target, name):
        fill(rule, scope="*")


def _default_service_port(config: JSONObject) -> None:
    service = present(config, "service")
    if service is not None:
        fill(service, port=443)


def default_flow_schema(obj: JSONObject) -> None:
    """FlowSchema."""
    fill_empty(child(obj, "spec"), matchingPrecedence=1000)


def default_priority_level(obj: JSONObject) -> None:
    """PriorityLevelConfiguration."""
    spec = child(obj, "spec")
    exempt, limited = present(spec, "exempt"), present(spec, "limited")
    if exempt is not None:
        fill(exempt, nominalConcurrencyShares=0, lendablePercent=0)
    if limited is not None:
        fill(limited, nominalConcurrencyShares=30, lendablePercent=0)
        queuing = present(present(limited, "limitResponse") or {}, "queuing")
        if queuing is not None:
            fill_empty(queuing, queues=64, handSize=8, queueLengthLimit=50)


def default_definition(obj: JSONObject) -> None:
    """CustomResourceDefinition: names that follow from the kind."""
    spec = child(obj, "spec")
    names = child(spec, "names")
    if names.get("kind"):
        fill_empty(names, singular=names["kind"].lower(), listKind=names["kind"] + "List")
    conversion = child(spec, "conversion")
    fill_empty(conversion, strategy="None")
    _default_service_port(present(present(conversion, "webhook") or {}, "clientConfig") or {})


def default_api_service(obj: JSONObject) -> None:
    """APIService."""
    _default_service_port(present(obj, "spec") or {})
