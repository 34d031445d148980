"""Message types: the notation of `fields/*.py`, compiled once into tables the decoder walks.

One line a message (continued lines are indented)::

    ContainerPort = name:1 hostPort:2:int32 containerPort:3:int32 protocol:4 hostIP:5
    ^message        ^JSON name:number[marks][:type]          no type means string

Marks: ``*`` repeated, ``%`` map from string to the type, ``?`` the Go field is a pointer (so a zero on the wire was meant),
``^`` the message is inlined into its parent's JSON. A type is ``int32 int64 bool bytes``, one of the special types below,
a message of the same group, or ``group.version.Message``.

Rule: pure. A message is compiled when it is first met: a process that only sees Pods never compiles FlowSchemas.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

from podnet.controlplane.api.protobuf.fields import (
    access,
    cluster,
    core,
    core_pods,
    core_volumes,
    extension,
    meta,
    network,
    workloads,
)

SCALARS = frozenset({"string", "int32", "int64", "bool", "bytes", "double"})
SPECIALS = frozenset(
    {"Time", "MicroTime", "Quantity", "IntOrString", "FieldsV1", "RawExtension", "ExtraValue", "JSON", "SchemaOrBool"}
    | {"SchemaOrArray", "SchemaOrStrings"}
)
"""Messages whose JSON is not an object of their fields; `decode.py` has one function each."""

_TABLES: tuple[tuple[str, str], ...] = (
    ("meta.v1", meta.META),
    ("core.v1", core.CORE + core_pods.CORE_PODS + core_volumes.CORE_VOLUMES),
    ("apps.v1", workloads.APPS),
    ("batch.v1", workloads.BATCH),
    ("autoscaling.v1", workloads.AUTOSCALING_V1),
    ("autoscaling.v2", workloads.AUTOSCALING_V2),
    ("policy.v1", workloads.POLICY),
    ("networking.v1", network.NETWORKING),
    ("networking.v1beta1", network.NETWORKING_BETA),
    ("discovery.v1", network.DISCOVERY),
    ("coordination.v1", network.COORDINATION),
    ("events.v1", network.EVENTS),
    ("rbac.v1", access.RBAC),
    ("authentication.v1", access.AUTHENTICATION),
    ("authorization.v1", access.AUTHORIZATION),
    ("certificates.v1", access.CERTIFICATES),
    ("admissionregistration.v1", cluster.ADMISSIONREGISTRATION),
    ("flowcontrol.v1", cluster.FLOWCONTROL),
    ("node.v1", cluster.NODE),
    ("scheduling.v1", cluster.SCHEDULING),
    ("storage.v1", cluster.STORAGE),
    ("apiextensions.v1", extension.APIEXTENSIONS),
    ("apiregistration.v1", extension.APIREGISTRATION),
)

GROUPS: dict[str, str] = {
    "v1": "core.v1",
    "apps/v1": "apps.v1",
    "batch/v1": "batch.v1",
    "autoscaling/v1": "autoscaling.v1",
    "autoscaling/v2": "autoscaling.v2",
    "policy/v1": "policy.v1",
    "networking.k8s.io/v1": "networking.v1",
    "networking.k8s.io/v1beta1": "networking.v1beta1",
    "discovery.k8s.io/v1": "discovery.v1",
    "coordination.k8s.io/v1": "coordination.v1",
    "events.k8s.io/v1": "events.v1",
    "rbac.authorization.k8s.io/v1": "rbac.v1",
    "authentication.k8s.io/v1": "authentication.v1",
    "authorization.k8s.io/v1": "authorization.v1",
    "certificates.k8s.io/v1": "certificates.v1",
    "admissionregistration.k8s.io/v1": "admissionregistration.v1",
    "flowcontrol.apiserver.k8s.io/v1": "flowcontrol.v1",
    "node.k8s.io/v1": "node.v1",
    "scheduling.k8s.io/v1": "scheduling.v1",
    "storage.k8s.io/v1": "storage.v1",
    "apiextensions.k8s.io/v1": "apiextensions.v1",
    "apiregistration.k8s.io/v1": "apiregistration.v1",
    "meta.k8s.io/v1": "meta.v1",
}
"""`apiVersion` → the table's group."""

EVERY_GROUP = frozenset({"DeleteOptions", "CreateOptions", "UpdateOptions", "PatchOptions", "Status"})
"""Kinds of meta/v1 that upstream registers under every group and version."""


@dataclass(frozen=True, slots=True)
class Field:
    """One field of a message; `type` is a scalar, a special type, or the full name of a message."""

    name: str
    number: int
    type: str
    repeated: bool = False
    is_map: bool = False
    pointer: bool = False
    inline: bool = False

    @property
    def is_message(self) -> bool:
        """Its value is a message with a table of its own."""
        return self.type not in SCALARS and self.type not in SPECIALS


@cache
def _lines() -> dict[str, str]:
    """Full message name → its field tokens, joined."""
    lines: dict[str, str] = {}
    for group, text in _TABLES:
        name = ""
        for line in text.splitlines():
            if line.startswith(" "):
                lines[name] += " " + line.strip()
            elif line:
                head, _, tokens = line.partition("=")
                name = f"{group}.{head.strip()}"
                lines[name] = tokens.strip()
    return lines


@cache
def message(name: str) -> dict[int, Field]:
    """The fields of a message by number. KeyError when there is no such message."""
    group = name.rpartition(".")[0]
    fields = (parse_field(token, group) for token in _lines()[name].split())
    return {field.number: field for field in fields}


def messages() -> list[str]:
    """The full names of all messages."""
    return sorted(_lines())


def parse_field(token: str, group: str) -> Field:
    """One `name:number[marks][:type]` token of a message of `group`."""
    name, number, *rest = token.split(":")
    digits = number.rstrip("*%?^")
    marks = number[len(digits) :]
    type_ = rest[0] if rest else "string"
    if type_ not in SCALARS and type_ not in SPECIALS and "." not in type_:
        type_ = f"{group}.{type_}"
    return Field(name, int(digits), type_, "*" in marks, "%" in marks, "?" in marks, "^" in marks)


def message_of(api_version: str, kind: str) -> str | None:
    """The message that carries a kind: `("apps/v1", "Deployment")` → `apps.v1.Deployment`; None when unknown."""
    if kind in EVERY_GROUP:
        return f"meta.v1.{kind}"
    group = GROUPS.get(api_version)
    name = f"{group}.{kind}"
    return name if group and name in _lines() else None
