"""What a Go server would say of an object it cannot decode: unknown fields with their paths, wrong types in Go's words.

    unknown field "spec.containers[0].foo"
    json: cannot unmarshal string into Go struct field DeploymentSpec.spec.replicas of type int32

The rule: called only after `Node.accepts` said no, so clarity goes before speed. The order is that of the document.
Source: encoding/json (UnmarshalTypeError), sigs.k8s.io/json (strict errors: lists are indexed; type errors: they are not).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from podnet.controlplane.api import quantity, timestamps
from podnet.controlplane.api.schema_node import Node, is_base64

MAX_UNKNOWN_FIELDS = 100


@dataclass(frozen=True, slots=True)
class TypeProblem:
    """One value of the wrong type: `path` with list indexes for people, `message` as Go's decoder words it."""

    path: str
    message: str

    def __str__(self) -> str:
        return self.message


# Go gives these strings a type of their own, and its messages name it; OpenAPI knows them only as strings.
_NAMED_STRINGS: dict[tuple[str, str], str] = {
    ("Container", "imagePullPolicy"): "v1.PullPolicy",
    ("Container", "terminationMessagePolicy"): "v1.TerminationMessagePolicy",
    ("Container", "restartPolicy"): "v1.ContainerRestartPolicy",
    ("ContainerPort", "protocol"): "v1.Protocol",
    ("ServicePort", "protocol"): "v1.Protocol",
    ("EndpointPort", "protocol"): "v1.Protocol",
    ("NetworkPolicyPort", "protocol"): "v1.Protocol",
    ("PodSpec", "dnsPolicy"): "v1.DNSPolicy",
    ("PodSpec", "restartPolicy"): "v1.RestartPolicy",
    ("PodSpec", "preemptionPolicy"): "v1.PreemptionPolicy",
    ("PodStatus", "phase"): "v1.PodPhase",
    ("HTTPGetAction", "scheme"): "v1.URIScheme",
    ("Taint", "effect"): "v1.TaintEffect",
    ("Toleration", "effect"): "v1.TaintEffect",
    ("Toleration", "operator"): "v1.TolerationOperator",
    ("ServiceSpec", "type"): "v1.ServiceType",
    ("ServiceSpec", "sessionAffinity"): "v1.ServiceAffinity",
    ("ServiceSpec", "externalTrafficPolicy"): "v1.ServiceExternalTrafficPolicy",
    ("ServiceSpec", "internalTrafficPolicy"): "v1.ServiceInternalTrafficPolicy",
    ("ServiceSpec", "ipFamilyPolicy"): "v1.IPFamilyPolicy",
    ("Secret", "type"): "v1.SecretType",
    ("DeploymentStrategy", "type"): "v1.DeploymentStrategyType",
    ("DaemonSetUpdateStrategy", "type"): "v1.DaemonSetUpdateStrategyType",
    ("StatefulSetUpdateStrategy", "type"): "v1.StatefulSetUpdateStrategyType",
    ("StatefulSetSpec", "podManagementPolicy"): "v1.PodManagementPolicyType",
    ("LabelSelectorRequirement", "operator"): "v1.LabelSelectorOperator",
    ("NodeSelectorRequirement", "operator"): "v1.NodeSelectorOperator",
    ("TopologySpreadConstraint", "whenUnsatisfiable"): "v1.UnsatisfiableConstraintAction",
    ("CronJobSpec", "concurrencyPolicy"): "v1.ConcurrencyPolicy",
    ("ObjectMeta", "uid"): "types.UID",
    ("OwnerReference", "uid"): "types.UID",
    ("ObjectReference", "uid"): "types.UID",
    ("HTTPIngressPath", "pathType"): "v1.PathType",
    ("EndpointSlice", "addressType"): "v1.AddressType",
    ("NetworkPolicySpec", "policyTypes"): "v1.PolicyType",
    ("ServiceSpec", "ipFamilies"): "v1.IPFamily",
    ("NamespaceSpec", "finalizers"): "v1.FinalizerName",
    ("PersistentVolumeSpec", "accessModes"): "v1.PersistentVolumeAccessMode",
    ("PersistentVolumeClaimSpec", "accessModes"): "v1.PersistentVolumeAccessMode",
    ("Capabilities", "add"): "v1.Capability",
    ("Capabilities", "drop"): "v1.Capability",
}  # fmt: skip

NAMED_STRINGS = frozenset(_NAMED_STRINGS.values())
"""Go types that are strings under a name of their own."""


def unknown_fields(node: Node, value: Any, path: str = "") -> Iterator[str]:
    """Paths of the fields the schema does not know, lists indexed."""
    if node.kind == "struct" and isinstance(value, dict):
        for name, child in value.items():
            field = node.fields.get(name)
            where = f"{path}.{name}" if path else name
            if field is None:
                yield where
            else:
                yield from unknown_fields(field, child, where)
    elif node.kind == "list" and isinstance(value, list):
        for index, child in enumerate(value):
            yield from unknown_fields(node.item, child, f"{path}[{index}]")
    elif node.kind == "map" and isinstance(value, dict):
        for name, child in value.items():
            yield from unknown_fields(node.item, child, f"{path}.{name}")


@dataclass(frozen=True, slots=True)
class _Where:
    """Where the decoder stands: the people's path, Go's field stack, the innermost struct and field."""

    path: str = ""
    stack: str = ""
    struct: str = ""
    field: str = ""

    def into_field(self, struct: str, name: str) -> _Where:
        return _Where(
            f"{self.path}.{name}" if self.path else name, f"{self.stack}.{name}" if self.stack else name, struct, name
        )

    def into(self, suffix: str) -> _Where:
        return _Where(self.path + suffix, self.stack, self.struct, self.field)

    def mismatch(self, value: str, go_type: str) -> TypeProblem:
        if go_type in {"string", "[]string"}:
            named = _NAMED_STRINGS.get((self.struct, self.field), "string")
            go_type = go_type.replace("string", named)
        elif go_type == "map[string]resource.Quantity":
            go_type = "v1.ResourceList"
        target = f"Go struct field {self.struct}.{self.stack}" if self.stack else "Go value"
        return TypeProblem(self.path, f"json: cannot unmarshal {value} into {target} of type {go_type}")


def type_problems(node: Node, value: Any, where: _Where = _Where()) -> Iterator[TypeProblem]:
    """Values of the wrong type, in document order; upstream reports the first."""
    if value is None:
        return
    if node.kind == "struct":
        if not isinstance(value, dict):
            yield where.mismatch(_json_word(value), node.go_type)
            return
        for name, child in value.items():
            field = node.fields.get(name)
            if field is not None and not field.accepts(child):
                yield from type_problems(field, child, where.into_field(node.struct_name, name))
    elif node.kind == "list":
        if not isinstance(value, list):
            yield where.mismatch(_json_word(value), node.go_type)
            return
        for index, child in enumerate(value):
            yield from type_problems(node.item, child, where.into(f"[{index}]"))
    elif node.kind == "map":
        if not isinstance(value, dict):
            yield where.mismatch(_json_word(value), node.go_type)
            return
        for name, child in value.items():
            yield from type_problems(node.item, child, where.into(f".{name}"))
    elif not node.accepts(value):
        yield _leaf_problem(node, value, where)


def _leaf_problem(node: Node, value: Any, where: _Where) -> TypeProblem:
    word = _json_word(value)
    if node.kind in {"int32", "int64"} and word == "number":
        return where.mismatch(f"number {_number_text(value)}", node.go_type)
    if node.kind in {"time", "micro"}:
        if not isinstance(value, str):
            return TypeProblem(where.path, f"json: cannot unmarshal {word} into Go value of type string")
        return TypeProblem(where.path, timestamps.parse_error(value, micro=node.kind == "micro"))
    if node.kind == "quantity":
        return TypeProblem(where.path, _quantity_message(value))
    if node.kind == "int_or_string":
        number = f" {_number_text(value)}" if word == "number" else ""
        return TypeProblem(where.path, f"json: cannot unmarshal {word}{number} into Go value of type int32")
    if node.kind == "bytes" and isinstance(value, str):
        return TypeProblem(where.path, f"illegal base64 data at input byte {_bad_base64_at(value)}")
    return where.mismatch(word, node.go_type)


def _json_word(value: Any) -> str:
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, str):
        return "string"
    if isinstance(value, (int, float)):
        return "number"
    return "array" if isinstance(value, list) else "object"


def _number_text(value: float) -> str:
    return repr(value)


def _quantity_message(value: Any) -> str:
    if isinstance(value, (str, int, float)) and not isinstance(value, bool):
        try:
            quantity.of(value)
        except quantity.QuantityError as error:
            return str(error)
    return quantity.FORMAT_ERROR


def _bad_base64_at(text: str) -> int:
    """The offset Go reports: the first character that cannot be there, or where the input ends too early."""
    alphabet = set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/")
    for index, char in enumerate(text):
        if char in "\r\n" or char in alphabet:
            continue
        if char == "=" and is_base64(text[: index + 1].ljust(index + (-index % 4), "=")):
            continue
        return index
    return len(text) // 4 * 4
