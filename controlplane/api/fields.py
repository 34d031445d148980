"""Field selectors: `fieldSelector=status.phase!=Running,spec.nodeName=n1` and which fields a kind offers.

The rule: only the fields listed here may be asked for; any other is refused, never treated as "no match".
Source: apimachinery pkg/fields; the AddFieldLabelConversionFunc of each kind in Kubernetes 1.32.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from podnet.controlplane.api import resources
from podnet.controlplane.api.errors import bad_request, go_quoted
from podnet.controlplane.api.types import Object, Resource

_TERM = re.compile(r"((?:[^=!\\]|\\.|!(?!=))*?)(!=|==|=)(.*)", re.DOTALL)
_UNESCAPED_COMMA = re.compile(r"((?:[^,\\]|\\.|\\$)*)(?:,|$)", re.DOTALL)

Getter = Callable[[Object], tuple[str, ...]]
"""The values an object has for a field; several where the field is a list (`status.podIPs`)."""


def _text(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)


def _at(*paths: str, default: object = "") -> Getter:
    """The first of `paths` that is there."""
    split = [path.split(".") for path in paths]

    def get(obj: Object) -> tuple[str, ...]:
        for parts in split:
            value: Any = obj
            for part in parts:
                value = value.get(part) if isinstance(value, dict) else None
            if value is not None and value != "":
                return (_text(value),)
        return (_text(default),)

    return get


def _pod_ips(obj: Object) -> tuple[str, ...]:
    ips = tuple(_text(entry.get("ip")) for entry in (obj.get("status") or {}).get("podIPs") or ())
    return ips or ("",)


def _paths(*paths: str) -> dict[str, Getter]:
    return {path: _at(path) for path in paths}


def _event_reference(prefix: str) -> dict[str, Getter]:
    parts = ("kind", "namespace", "name", "uid", "apiVersion", "resourceVersion", "fieldPath")
    return {f"{prefix}.{part}": _at(f"involvedObject.{part}", f"regarding.{part}") for part in parts}


_EVENT_COMMON: dict[str, Getter] = {
    "reason": _at("reason"),
    "type": _at("type"),
    "source": _at("source.component", "deprecatedSource.component", "reportingComponent", "reportingController"),
}
_REPORTER = _at("reportingComponent", "reportingController")

_FIELDS: dict[Resource, dict[str, Getter]] = {
    resources.PODS: {
        **_paths("spec.nodeName", "spec.schedulerName", "status.podIP", "status.nominatedNodeName"),
        "spec.restartPolicy": _at("spec.restartPolicy", default="Always"),
        "spec.serviceAccountName": _at("spec.serviceAccountName"),
        "spec.hostNetwork": _at("spec.hostNetwork", default=False),
        "status.phase": _at("status.phase"),
        "status.podIPs": _pod_ips,
    },
    resources.EVENTS: {**_EVENT_COMMON, **_event_reference("involvedObject"), "reportingComponent": _REPORTER},
    resources.EVENTS_V1: {**_EVENT_COMMON, **_event_reference("regarding"), "reportingController": _REPORTER},
    resources.NODES: {"spec.unschedulable": _at("spec.unschedulable", default=False)},
    resources.NAMESPACES: _paths("status.phase"),
    resources.SECRETS: _paths("type"),
    resources.SERVICES: _paths("spec.clusterIP", "spec.type"),
    resources.REPLICATIONCONTROLLERS: {"status.replicas": _at("status.replicas", default=0)},
    resources.REPLICASETS: {"status.replicas": _at("status.replicas", default=0)},
    resources.JOBS: {"status.successful": _at("status.succeeded", default=0)},
    resources.CERTIFICATESIGNINGREQUESTS: _paths("spec.signerName"),
}
_METADATA = _paths("metadata.name", "metadata.namespace")


@dataclass(frozen=True, slots=True)
class FieldTerm:
    """`field=value`, or `!=` when `negated`."""

    field: str
    value: str
    negated: bool
    get: Getter

    def matches(self, obj: Object) -> bool:
        """Whether the object satisfies the term."""
        return (self.value in self.get(obj)) is not self.negated

    def __str__(self) -> str:
        return f"{self.field}{'!=' if self.negated else '='}{_escape(self.value)}"


@dataclass(frozen=True, slots=True)
class FieldSelector:
    """All of `terms` must hold."""

    terms: tuple[FieldTerm, ...] = ()

    def matches(self, obj: Object) -> bool:
        """Whether the object is selected."""
        return all(term.matches(obj) for term in self.terms)

    @property
    def empty(self) -> bool:
        """It selects everything."""
        return not self.terms

    def exact(self, field: str) -> str | None:
        """The value `field` must have, where a term says so: lets a list by name become a get."""
        for term in self.terms:
            if term.field == field and not term.negated:
                return term.value
        return None

    def __str__(self) -> str:
        return ",".join(str(term) for term in self.terms)


def supported_fields(resource: Resource, extra: tuple[str, ...] = ()) -> Mapping[str, Getter]:
    """Every field that may be asked for; `extra` are the JSON paths of a CRD's `selectableFields`. A cluster-scoped kind
    with a list of its own (Node, Namespace) does not offer metadata.namespace; one without takes both names."""
    custom = {path.lstrip("."): _at(path.lstrip(".")) for path in extra}
    own = _FIELDS.get(resource)
    if own is None:
        return {**_METADATA, **custom}
    metadata = _METADATA if resource.namespaced else _paths("metadata.name")
    return {**metadata, **own, **custom}


def _unsupported(field: str, resource: Resource) -> str:
    if resource is resources.JOBS:
        return f"field label {go_quoted(field)} not supported for batchv1.Job"
    if resource in _FIELDS:
        return f"field label not supported: {field}"
    return f'{go_quoted(field)} is not a known field selector: only "metadata.name", "metadata.namespace"'


def parse_field_selector(text: str | None, resource: Resource, extra: tuple[str, ...] = ()) -> FieldSelector:
    """The selector a query spells; empty text selects everything. Raises StatusError 400."""
    if not text:
        return FieldSelector()
    known = supported_fields(resource, extra)
    terms: list[FieldTerm] = []
    for part in _split_terms(text):
        if not part:
            continue
        match = _TERM.fullmatch(part)
        if match is None:
            raise bad_request(f"invalid selector: '{text}'; can't understand '{part}'")
        field, operator, value = match.groups()
        getter = known.get(field)
        if getter is None:
            raise bad_request(_unsupported(field, resource))
        terms.append(FieldTerm(field, _unescape(value, text), operator == "!=", getter))
    return FieldSelector(tuple(terms))


def _split_terms(text: str) -> list[str]:
    return [match[1] for match in _UNESCAPED_COMMA.finditer(text)]


def _escape(value: str) -> str:
    return value.replace("\\", "\\\\").replace(",", "\\,").replace("=", "\\=")


def _unescape(value: str, selector: str) -> str:
    out: list[str] = []
    escaped = False
    for char in value:
        if escaped:
            if char not in "\\,=":
                raise bad_request(f"invalid field selector: invalid escape sequence: \\{char}")
            out.append(char)
            escaped = False
        elif char == "\\":
            escaped = True
        elif char in ",=":
            raise bad_request(f"invalid field selector: unescaped character in value: {char}")
        else:
            out.append(char)
    if escaped:
        raise bad_request(f"invalid selector: '{selector}'; unfinished escape sequence")
    return "".join(out)
