"""Roles, bindings, reviews, certificates, admission, flow control, definitions.

Source: Kubernetes API reference, "Authorization", "Authentication", "Extend" and "Policy Resources" (1.32).
"""

from __future__ import annotations

from podnet.controlplane.api import names
from podnet.controlplane.api.errors import Cause, forbidden_field, invalid_value, not_supported, required
from podnet.controlplane.api.types import Object
from podnet.controlplane.api.validation.selector import validate_label_selector
from podnet.controlplane.api.validation.values import (
    IMMUTABLE,
    JSONObject,
    immutable,
    must_have,
    objects,
    one_of,
    part,
    strings,
    texts,
)

_RBAC = "rbac.authorization.k8s.io"
_USAGES = frozenset(
    {
        "signing",
        "digital signature",
        "content commitment",
        "key encipherment",
        "key agreement",
        "data encipherment",
        "cert sign",
        "crl sign",
        "encipher only",
        "decipher only",
        "any",
        "server auth",
        "client auth",
        "code signing",
        "email protection",
        "s/mime",
        "ipsec end system",
        "ipsec tunnel",
        "ipsec user",
        "timestamping",
        "ocsp signing",
        "microsoft sgc",
        "netscape sgc",
    }
)


def validate_role(obj: Object) -> list[Cause]:
    """Role: rules about resources of its namespace."""
    return _validate_rules(obj, namespaced=True)


def validate_cluster_role(obj: Object) -> list[Cause]:
    """ClusterRole: rules about resources, or about URLs that are none."""
    causes = _validate_rules(obj, namespaced=False)
    for index, selector in objects(part(obj, "aggregationRule"), "clusterRoleSelectors"):
        causes += validate_label_selector(selector, f"aggregationRule.clusterRoleSelectors[{index}]")
    return causes


def _validate_rules(obj: Object, *, namespaced: bool) -> list[Cause]:
    causes: list[Cause] = []
    for index, rule in objects(obj, "rules"):
        path = f"rules[{index}]"
        if not rule.get("verbs"):
            causes.append(required(f"{path}.verbs", "verbs must contain at least one value"))
        urls = strings(rule, "nonResourceURLs")
        if urls:
            if namespaced:
                text = "namespaced rules cannot apply to non-resource URLs"
                causes.append(invalid_value(f"{path}.nonResourceURLs", urls, text))
            if rule.get("apiGroups") or rule.get("resources") or rule.get("resourceNames"):
                text = "rules cannot apply to both regular resources and non-resource URLs"
                causes.append(invalid_value(f"{path}.nonResourceURLs", urls, text))
            continue
        if not rule.get("apiGroups"):
            text = "resource rules must supply at least one api group"
            causes.append(required(f"{path}.apiGroups", text))
        if not rule.get("resources"):
            text = "resource rules must supply at least one resource"
            causes.append(required(f"{path}.resources", text))
    return causes


def validate_role_binding(obj: Object) -> list[Cause]:
    """RoleBinding: it may bind a Role or a ClusterRole."""
    return _validate_binding(obj, ("Role", "ClusterRole"), namespaced=True)


def validate_cluster_role_binding(obj: Object) -> list[Cause]:
    """ClusterRoleBinding: it binds a ClusterRole."""
    return _validate_binding(obj, ("ClusterRole",), namespaced=False)


def _validate_binding(obj: Object, kinds: tuple[str, ...], *, namespaced: bool) -> list[Cause]:
    role = part(obj, "roleRef")
    causes: list[Cause] = []
    if role.get("apiGroup") != _RBAC:
        causes.append(not_supported("roleRef.apiGroup", role.get("apiGroup") or "", [_RBAC]))
    if role.get("kind") not in kinds:
        causes.append(not_supported("roleRef.kind", role.get("kind") or "", list(kinds)))
    name = role.get("name") or ""
    causes += texts("roleRef.name", name, names.path_segment(name)) if name else [required("roleRef.name")]
    for index, subject in objects(obj, "subjects"):
        causes += _validate_subject(subject, f"subjects[{index}]", namespaced=namespaced)
    return causes


def _validate_subject(subject: JSONObject, path: str, *, namespaced: bool) -> list[Cause]:
    causes = must_have(subject, path, "name")
    kind, name, group = subject.get("kind") or "", subject.get("name") or "", subject.get("apiGroup") or ""
    if kind == "ServiceAccount":
        if name:
            causes += texts(f"{path}.name", name, names.dns1123_subdomain(name))
        if group:
            causes.append(not_supported(f"{path}.apiGroup", group, [""]))
        if not namespaced and not subject.get("namespace"):
            causes.append(required(f"{path}.namespace"))
    elif kind in {"User", "Group"}:
        if group != _RBAC:
            causes.append(not_supported(f"{path}.apiGroup", group, [_RBAC]))
    else:
        causes.append(not_supported(f"{path}.kind", kind, ["ServiceAccount", "User", "Group"]))
    return causes


def validate_role_ref_update(new: Object, old: Object) -> list[Cause]:
    """What a binding binds stays."""
    if new.get("roleRef") == old.get("roleRef"):
        return []
    return [invalid_value("roleRef", new.get("roleRef"), "cannot change roleRef")]


def validate_signing_request(obj: Object) -> list[Cause]:
    """CertificateSigningRequest."""
    spec = part(obj, "spec")
    causes = must_have(spec, "spec", "request", "signerName")
    usages = strings(spec, "usages")
    if not usages:
        causes.append(required("spec.usages"))
    for index, usage in enumerate(usages):
        if usage not in _USAGES:
            causes.append(not_supported(f"spec.usages[{index}]", usage, sorted(_USAGES)))
    signer = spec.get("signerName") or ""
    if signer and "/" not in signer:
        text = 'must be a fully qualified domain and path of the form "example.com/signer-name"'
        causes.append(invalid_value("spec.signerName", signer, text))
    seconds = spec.get("expirationSeconds")
    if seconds is not None and seconds < 600:
        text = "may not specify a duration less than 600 seconds (10 minutes)"
        causes.append(invalid_value("spec.expirationSeconds", seconds, text))
    return causes


def validate_signing_request_update(new: Object, old: Object) -> list[Cause]:
    """A request, once made, stays."""
    if new.get("spec") == old.get("spec"):
        return []
    return [invalid_value("spec", "", IMMUTABLE)]


def validate_token_request(obj: Object) -> list[Cause]:
    """TokenRequest."""
    seconds = part(obj, "spec").get("expirationSeconds") or 0
    path = "spec.expirationSeconds"
    if seconds < 600:
        return [invalid_value(path, seconds, "may not specify a duration less than 10 minutes")]
    if seconds > 1 << 32:
        return [invalid_value(path, seconds, "may not specify a duration larger than 2^32 seconds")]
    return []


def validate_token_review(obj: Object) -> list[Cause]:
    """TokenReview."""
    return must_have(part(obj, "spec"), "spec", "token")


def validate_access_review(obj: Object) -> list[Cause]:
    """SubjectAccessReview, LocalSubjectAccessReview: who, and what."""
    spec = part(obj, "spec")
    causes = _validate_attributes(spec)
    if not spec.get("user") and not spec.get("groups"):
        text = "at least one of user or group must be specified"
        causes.append(invalid_value("spec.user", "", text))
    return causes


def validate_self_access_review(obj: Object) -> list[Cause]:
    """SelfSubjectAccessReview: what."""
    return _validate_attributes(part(obj, "spec"))


def _validate_attributes(spec: JSONObject) -> list[Cause]:
    given = [name for name in ("resourceAttributes", "nonResourceAttributes") if spec.get(name) is not None]
    if len(given) == 2:
        text = "cannot be specified in combination with resourceAttributes"
        return [invalid_value("spec.nonResourceAttributes", spec["nonResourceAttributes"], text)]
    if not given:
        text = "exactly one of nonResourceAttributes or resourceAttributes must be specified"
        return [invalid_value("spec.resourceAttributes", None, text)]
    return []


def validate_webhooks(obj: Object) -> list[Cause]:
    """ValidatingWebhookConfiguration and MutatingWebhookConfiguration."""
    causes: list[Cause] = []
    for index, webhook in objects(obj, "webhooks"):
        path = f"webhooks[{index}]"
        name = webhook.get("name") or ""
        if name.count(".") < 2:
            text = "should be a domain with at least three segments separated by dots"
            causes.append(invalid_value(f"{path}.name", name, text))
        causes += one_of(webhook, "failurePolicy", path, ("Fail", "Ignore"))
        causes += one_of(webhook, "matchPolicy", path, ("Equivalent", "Exact"))
        if webhook.get("sideEffects") not in {"None", "NoneOnDryRun"}:
            causes.append(
                not_supported(f"{path}.sideEffects", webhook.get("sideEffects") or "", ["None", "NoneOnDryRun"])
            )
        seconds = webhook.get("timeoutSeconds")
        if seconds is not None and not 1 <= seconds <= 30:
            text = "the timeout value must be between 1 and 30 seconds"
            causes.append(invalid_value(f"{path}.timeoutSeconds", seconds, text))
        config = part(webhook, "clientConfig")
        if (config.get("url") is None) == (config.get("service") is None):
            causes.append(required(f"{path}.clientConfig", "exactly one of url or service is required"))
        if not webhook.get("admissionReviewVersions"):
            text = "must specify one of v1, v1beta1"
            causes.append(required(f"{path}.admissionReviewVersions", text))
        for field in ("namespaceSelector", "objectSelector"):
            causes += validate_label_selector(webhook.get(field), f"{path}.{field}")
    return causes


def validate_admission_policy(obj: Object) -> list[Cause]:
    """ValidatingAdmissionPolicy."""
    spec = part(obj, "spec")
    causes: list[Cause] = []
    if spec.get("matchConstraints") is None:
        causes.append(required("spec.matchConstraints"))
    if not spec.get("validations") and not spec.get("auditAnnotations"):
        text = "validations or auditAnnotations must contain at least one item"
        causes.append(required("spec.validations", text))
    for index, row in objects(spec, "validations"):
        if not (row.get("expression") or "").strip():
            causes.append(required(f"spec.validations[{index}].expression", "expression is not specified"))
    return causes + one_of(spec, "failurePolicy", "spec", ("Fail", "Ignore"))


def validate_admission_policy_binding(obj: Object) -> list[Cause]:
    """ValidatingAdmissionPolicyBinding."""
    spec = part(obj, "spec")
    causes = must_have(spec, "spec", "policyName")
    actions = strings(spec, "validationActions")
    if not actions:
        causes.append(required("spec.validationActions", "at least one validation action is required"))
    for index, action in enumerate(actions):
        if action not in {"Audit", "Deny", "Warn"}:
            causes.append(not_supported(f"spec.validationActions[{index}]", action, ["Audit", "Deny", "Warn"]))
    return causes


def validate_flow_schema(obj: Object) -> list[Cause]:
    """FlowSchema."""
    spec = part(obj, "spec")
    causes: list[Cause] = []
    order = spec.get("matchingPrecedence") or 0
    if not 1 <= order <= 10000:
        text = "must be a value between 1 and 10000"
        causes.append(invalid_value("spec.matchingPrecedence", order, text))
    if not part(spec, "priorityLevelConfiguration").get("name"):
        causes.append(required("spec.priorityLevelConfiguration.name", "must reference a priority level"))
    return causes


def validate_priority_level(obj: Object) -> list[Cause]:
    """PriorityLevelConfiguration."""
    spec = part(obj, "spec")
    causes = one_of(spec, "type", "spec", ("Exempt", "Limited"), must=True)
    if spec.get("type") == "Limited" and spec.get("limited") is None:
        causes.append(required("spec.limited", "must not be empty when type is Limited"))
    if spec.get("type") == "Exempt" and spec.get("limited") is not None:
        causes.append(forbidden_field("spec.limited", "must be nil if the type is not Limited"))
    return causes


def validate_definition(obj: Object) -> list[Cause]:
    """CustomResourceDefinition: its name is `<plural>.<group>`, one version is stored, every version has a schema."""
    spec = part(obj, "spec")
    kind_names = part(spec, "names")
    causes: list[Cause] = []
    name = part(obj, "metadata").get("name") or ""
    expected = f"{kind_names.get('plural') or ''}.{spec.get('group') or ''}"
    if name != expected:
        causes.append(invalid_value("metadata.name", name, 'must be spec.names.plural+"."+spec.group'))
    group = spec.get("group") or ""
    if not group:
        causes.append(required("spec.group"))
    else:
        causes += texts("spec.group", group, names.dns1123_subdomain(group))
        if "." not in group:
            causes.append(invalid_value("spec.group", group, "should be a domain with at least one dot"))
    causes += one_of(spec, "scope", "spec", ("Cluster", "Namespaced"), must=True)
    for field in ("plural", "singular", "kind", "listKind"):
        value = kind_names.get(field) or ""
        path = f"spec.names.{field}"
        causes += texts(path, value, names.dns1035_label(value.lower())) if value else [required(path)]
    stored = sum(bool(version.get("storage")) for _, version in objects(spec, "versions"))
    if stored != 1:
        text = "must have exactly one version marked as storage version"
        causes.append(invalid_value("spec.versions", spec.get("versions") or [], text))
    for index, version in objects(spec, "versions"):
        path = f"spec.versions[{index}]"
        value = version.get("name") or ""
        causes += texts(f"{path}.name", value, names.dns1035_label(value))
        if part(version, "schema").get("openAPIV3Schema") is None:
            causes.append(required(f"{path}.schema.openAPIV3Schema", "schemas are required"))
    return causes


def validate_definition_update(new: Object, old: Object) -> list[Cause]:
    """Group, scope and names of a definition stay."""
    after, before = part(new, "spec"), part(old, "spec")
    causes = immutable(after, before, "group", "spec") + immutable(after, before, "scope", "spec")
    for field in ("kind", "plural"):
        causes += immutable(part(after, "names"), part(before, "names"), field, "spec.names")
    return causes


def validate_api_service(obj: Object) -> list[Cause]:
    """APIService: its name is `<version>.<group>`."""
    spec = part(obj, "spec")
    name = part(obj, "metadata").get("name") or ""
    expected = f"{spec.get('version') or ''}.{spec.get('group') or ''}"
    causes: list[Cause] = []
    if name != expected:
        causes.append(
            invalid_value(
                "metadata.name", name, f'must be `spec.version+"."+spec.group`: {expected!r}'.replace("'", '"')
            )
        )
    for field, top in (("groupPriorityMinimum", 20000), ("versionPriority", 1000)):
        value = spec.get(field) or 0
        if not 0 < value <= top:
            causes.append(invalid_value(f"spec.{field}", value, f"must be positive and less than {top}"))
    return causes
