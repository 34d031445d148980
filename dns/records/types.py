"""The words of the zone index: a record, an answer, the options that decide what is in the zone."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from podnet.controlplane.api.selectors import EVERYTHING, LabelSelector
from podnet.controlplane.api.types import Object
from podnet.dns.message import CNAME_

DNS_SCHEMA_VERSION = "1.1.0"
DNS_VERSION_TTL_S = 28_800
DEFAULT_TTL_S = 5

Labels: TypeAlias = tuple[str, ...]
"""A name relative to its zone, in lower case, the leftmost label first: `("web", "default", "svc")`."""

PodMode: TypeAlias = Literal["disabled", "insecure", "verified"]
Kind: TypeAlias = Literal["Service", "EndpointSlice", "Namespace", "Pod", "Node", "ServiceImport"]


@dataclass(frozen=True, slots=True)
class Options:
    """The part of the Corefile's `kubernetes` block that decides which records there are."""

    namespaces: frozenset[str] = frozenset()  # empty: every namespace
    namespace_labels: LabelSelector = EVERYTHING
    labels: LabelSelector = EVERYTHING  # of Services and EndpointSlices
    pods: PodMode = "disabled"
    endpoints: bool = True  # False is the option `noendpoints`
    endpoint_pod_names: bool = False
    ignore_empty_service: bool = False
    zonal: bool = False
    nodes: bool = False  # podnet's own: names `<node>.node.<zone>`
    ttl_s: int = DEFAULT_TTL_S


@dataclass(frozen=True, slots=True)
class Record:
    """One record. `owner` and the target of SRV, PTR and NS are relative to the zone (`web.default.svc`); the target of
    a CNAME is a whole name with its final dot; the value of A and AAAA is the address, of TXT the text."""

    owner: str
    type: int
    value: str
    ttl_s: int
    weight: int = 0
    port: int = 0


@dataclass(frozen=True, slots=True)
class Answer:
    """What the zone says. No records: NODATA where the name exists, NXDOMAIN where it does not."""

    exists: bool
    records: tuple[Record, ...] = ()
    additional: tuple[Record, ...] = ()

    @property
    def alias(self) -> str:
        """The target of an ExternalName Service, which somebody has to look up; else empty."""
        return self.records[0].value if len(self.records) == 1 and self.records[0].type == CNAME_ else ""


NXDOMAIN = Answer(exists=False)
NODATA = Answer(exists=True)


@dataclass(frozen=True, slots=True)
class Change:
    """One object as it is now, or None when it is gone."""

    kind: Kind
    namespace: str
    name: str
    object: Object | None = field(repr=False)
