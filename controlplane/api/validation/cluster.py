"""Namespaces, nodes, configuration, accounts, events, leases, quotas, limits, priorities.

Source: Kubernetes API reference 1.32 and the messages of a 1.32 server.
"""

from __future__ import annotations

import base64
import binascii
import json

from podnet.controlplane.api import names
from podnet.controlplane.api.errors import (
    Cause,
    duplicate,
    forbidden_field,
    invalid_value,
    not_supported,
    required,
    too_long,
)
from podnet.controlplane.api.types import Object
from podnet.controlplane.api.validation.resources import validate_quantity
from podnet.controlplane.api.validation.services import validate_cidr
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

_CONTENT_BYTES_MAX = 1024 * 1024
_SET = "field is immutable when `immutable` is set"
_SECRET_KEYS: dict[str, tuple[str, ...]] = {
    "kubernetes.io/dockercfg": (".dockercfg",),
    "kubernetes.io/dockerconfigjson": (".dockerconfigjson",),
    "kubernetes.io/ssh-auth": ("ssh-privatekey",),
    "kubernetes.io/tls": ("tls.crt", "tls.key"),
}
_REDACTED = "<secret contents redacted>"
_ACCOUNT_TOKEN = "kubernetes.io/service-account-token"
_EFFECTS = ("NoSchedule", "PreferNoSchedule", "NoExecute")
_PRIORITY_MAX = 1_000_000_000


def validate_namespace_status(new: Object, _: Object) -> list[Cause]:
    """A Namespace is Terminating exactly while it is being deleted."""
    deleting = bool(part(new, "metadata").get("deletionTimestamp"))
    phase = part(new, "status").get("phase") or ""
    if deleting and phase != "Terminating":
        return [invalid_value("status.Phase", phase, "may only be 'Terminating' if `deletionTimestamp` is not empty")]
    if not deleting and phase != "Active":
        return [invalid_value("status.Phase", phase, "may only be 'Active' if `deletionTimestamp` is empty")]
    return []


def validate_config_map(obj: Object) -> list[Cause]:
    """ConfigMap: keys are file names, and all of it is at most a mebibyte."""
    causes: list[Cause] = []
    data, binary = part(obj, "data"), part(obj, "binaryData")
    total = 0
    for key, value in data.items():
        causes += texts(f"data[{key}]", key, names.config_map_key(key))
        if key in binary:
            causes.append(invalid_value(f"data[{key}]", key, "duplicate of key present in binaryData"))
        total += len(value.encode()) if isinstance(value, str) else 0
    for key, value in binary.items():
        causes += texts(f"binaryData[{key}]", key, names.config_map_key(key))
        total += _decoded_length(value)
    if total > _CONTENT_BYTES_MAX:
        causes.append(too_long("[]", _CONTENT_BYTES_MAX))
    return causes


def _decoded_length(value: object) -> int:
    if not isinstance(value, str):
        return 0
    try:
        return len(base64.b64decode(value, validate=True))
    except (ValueError, binascii.Error):
        return len(value)


def validate_frozen(new: Object, old: Object) -> list[Cause]:
    """A ConfigMap or Secret that said `immutable: true` keeps its data, and its word."""
    causes: list[Cause] = []
    if old.get("immutable"):
        if not new.get("immutable"):
            causes.append(forbidden_field("immutable", _SET))
        causes += [
            forbidden_field(field, _SET)
            for field in ("data", "binaryData")
            if (new.get(field) or {}) != (old.get(field) or {})
        ]
    return causes


def _docker_problem(value: object) -> str:
    """Why this is not the JSON object that a registry's clients read."""
    try:
        found = json.loads(base64.b64decode(str(value), validate=True) or b"")
    except json.JSONDecodeError as error:
        if error.pos >= len(error.doc):
            return "unexpected end of JSON input"
        return f"invalid character '{error.doc[error.pos]}' looking for beginning of value"
    except (ValueError, RecursionError):
        return "invalid character in JSON input"
    if found is None or isinstance(found, dict):
        return ""
    kind = {list: "array", str: "string", bool: "bool"}.get(type(found), "number")
    return f"json: cannot unmarshal {kind} into Go value of type map[string]interface {{}}"


def validate_secret(obj: Object) -> list[Cause]:
    """Secret: keys are file names, its type may ask for some, and all of it is at most a mebibyte."""
    causes: list[Cause] = []
    data = part(obj, "data")
    total = 0
    for key, value in data.items():
        causes += texts(f"data[{key}]", key, names.config_map_key(key))
        total += _decoded_length(value)
    if total > _CONTENT_BYTES_MAX:
        causes.append(too_long("data", _CONTENT_BYTES_MAX))
    kind = obj.get("type") or ""
    if kind == _ACCOUNT_TOKEN:
        path = "metadata.annotations[kubernetes.io/service-account.name]"
        if not part(part(obj, "metadata"), "annotations").get("kubernetes.io/service-account.name"):
            causes.append(required(path))
    elif kind == "kubernetes.io/basic-auth" and "username" not in data and "password" not in data:
        causes += [required("data[username]"), required("data[password]")]
    for key in _SECRET_KEYS.get(kind, ()):
        if key not in data:
            causes.append(required(f"data[{key}]"))
        elif key.startswith(".docker"):
            problem = _docker_problem(data[key])
            causes += [invalid_value(f"data[{key}]", _REDACTED, problem)] if problem else []
    return causes


def validate_secret_update(new: Object, old: Object) -> list[Cause]:
    """The type of a Secret stays."""
    causes = validate_frozen(new, old)
    if (new.get("type") or "Opaque") != (old.get("type") or "Opaque"):
        causes.append(invalid_value("type", new.get("type"), IMMUTABLE))
    return causes


def validate_node(obj: Object) -> list[Cause]:
    """Node: taints, pod ranges, capacity."""
    spec = part(obj, "spec")
    causes = validate_taints(spec)
    ranges = strings(spec, "podCIDRs")
    for index, text in enumerate(ranges):
        causes += validate_cidr(text, f"spec.podCIDRs[{index}]")
    if len(ranges) > 2:
        text = "no more than one CIDR for each IP family allowed"
        causes.append(invalid_value("spec.podCIDRs", ranges, text))
    elif len(ranges) == 2 and (":" in ranges[0]) == (":" in ranges[1]):
        text = "must specify no more than one CIDR for each IP family"
        causes.append(invalid_value("spec.podCIDRs", ranges, text))
    if ranges and spec.get("podCIDR") and ranges[0] != spec["podCIDR"]:
        causes.append(invalid_value("spec.podCIDRs[0]", ranges[0], "must match `podCIDR`"))
    return causes + validate_node_status(obj, {})


def validate_taints(spec: JSONObject) -> list[Cause]:
    """Taints: a key and an effect once."""
    causes: list[Cause] = []
    seen: set[tuple[str, str]] = set()
    for index, taint in objects(spec, "taints"):
        path = f"spec.taints[{index}]"
        key, value, effect = taint.get("key") or "", taint.get("value") or "", taint.get("effect") or ""
        causes += texts(f"{path}.key", key, names.qualified_name(key))
        causes += texts(f"{path}.value", value, names.label_value(value)) if value else []
        if not effect:
            causes.append(required(f"{path}.effect"))
        elif effect not in _EFFECTS:
            causes.append(not_supported(f"{path}.effect", effect, list(_EFFECTS)))
        if (key, effect) in seen:
            cause = duplicate(path, {"key": key, "effect": effect})
            causes.append(Cause(cause.reason, "taints must be unique by key and effect pair", cause.field))
        seen.add((key, effect))
    return causes


def validate_node_status(new: Object, _: Object) -> list[Cause]:
    """Addresses are unique, amounts are quantities."""
    status = part(new, "status")
    causes: list[Cause] = []
    for field in ("capacity", "allocatable"):
        for name, value in part(status, field).items():
            causes += validate_quantity(value, f"status.{field}[{name}]")
    seen: set[tuple[str, str]] = set()
    for index, row in objects(status, "addresses"):
        key = (row.get("type") or "", row.get("address") or "")
        if key in seen:
            causes.append(duplicate(f"status.addresses[{index}]", row))
        seen.add(key)
    return causes


def validate_node_update(new: Object, old: Object) -> list[Cause]:
    """A pod range, once given, stays; so does the provider's name for the node."""
    after, before = part(new, "spec"), part(old, "spec")
    causes: list[Cause] = []
    if before.get("podCIDRs") and after.get("podCIDRs") != before["podCIDRs"]:
        text = 'node updates may not change podCIDR except from "" to valid'
        causes.append(forbidden_field("spec.podCIDRs", text))
    if before.get("providerID") and after.get("providerID") != before["providerID"]:
        text = 'node updates may not change providerID except from "" to valid'
        causes.append(forbidden_field("spec.providerID", text))
    return causes


def validate_event(obj: Object) -> list[Cause]:
    """Event: it lives where its object lives; cluster-scoped objects' events live in `default`."""
    target = part(obj, "involvedObject") or part(obj, "regarding")
    namespace, own = target.get("namespace") or "", part(obj, "metadata").get("namespace") or ""
    field = "regarding.namespace" if "regarding" in obj else "involvedObject.namespace"
    if not namespace:
        if own not in {"", "default", "kube-system"}:
            return [invalid_value(field, namespace, "does not match event.namespace")]
    elif own and namespace != own:
        return [invalid_value(field, namespace, "does not match event.namespace")]
    return []


def validate_event_v1(obj: Object) -> list[Cause]:
    """Event of events.k8s.io/v1: it also says when, who and what."""
    causes = validate_event(obj)
    if not obj.get("eventTime"):
        causes.append(required("eventTime"))
    causes += one_of(obj, "type", "", ("Normal", "Warning"), must=True)
    causes = [Cause(cause.reason, cause.message, cause.field.removeprefix(".")) for cause in causes]
    causes += must_have(obj, "", "reportingController", "reportingInstance", "action", "reason")
    if len((obj.get("note") or "").encode()) > 1024:
        causes.append(invalid_value("message", "", "can have at most 1024 bytes"))
    return causes


def validate_lease(obj: Object) -> list[Cause]:
    """Lease."""
    spec = part(obj, "spec")
    causes: list[Cause] = []
    duration, transitions = spec.get("leaseDurationSeconds"), spec.get("leaseTransitions")
    if duration is not None and duration <= 0:
        causes.append(invalid_value("spec.leaseDurationSeconds", duration, "must be greater than 0"))
    if transitions is not None and transitions < 0:
        text = "must be greater than or equal to 0"
        causes.append(invalid_value("spec.leaseTransitions", transitions, text))
    if spec.get("holderIdentity") == "":
        causes.append(invalid_value("spec.holderIdentity", "", "must not be empty"))
    return causes


def validate_priority_class(obj: Object) -> list[Cause]:
    """PriorityClass: the highest values are the system's."""
    causes: list[Cause] = []
    name, value = part(obj, "metadata").get("name") or "", obj.get("value") or 0
    if name.startswith("system-"):
        if name not in {"system-cluster-critical", "system-node-critical"}:
            text = (
                "priority class names with 'system-' prefix are reserved for system use only. error: "
                f"{name} is not a known system priority class"
            )
            causes.append(forbidden_field("metadata.name", text))
    elif value > _PRIORITY_MAX:
        text = f"maximum allowed value of a user defined priority is {_PRIORITY_MAX}"
        causes.append(forbidden_field("value", text))
    return causes + [
        Cause(cause.reason, cause.message, cause.field.removeprefix("."))
        for cause in one_of(obj, "preemptionPolicy", "", ("PreemptLowerPriority", "Never"), must=True)
    ]


def validate_priority_class_update(new: Object, old: Object) -> list[Cause]:
    """The value of a PriorityClass stays."""
    causes: list[Cause] = []
    if (new.get("value") or 0) != (old.get("value") or 0):
        causes.append(forbidden_field("value", "may not be changed in an update."))
    return causes + [
        Cause(cause.reason, cause.message, cause.field.removeprefix("."))
        for cause in immutable(new, old, "preemptionPolicy", "")
    ]


def validate_runtime_class(obj: Object) -> list[Cause]:
    """RuntimeClass."""
    handler = obj.get("handler") or ""
    return texts("handler", handler, names.dns1123_label(handler))


def validate_runtime_class_update(new: Object, old: Object) -> list[Cause]:
    """The handler of a RuntimeClass stays."""
    return [Cause(cause.reason, cause.message, "handler") for cause in immutable(new, old, "handler", "")]


def validate_binding(obj: Object) -> list[Cause]:
    """Binding of a pod to a node."""
    target = part(obj, "target")
    causes: list[Cause] = []
    kind = target.get("kind") or ""
    if kind and kind != "Node":
        causes.append(not_supported("target.kind", kind, ["Node", ""]))
    if not target.get("name"):
        causes.append(required("target.name"))
    return causes
