"""What one Service contributes to the table, as a value: chains, affinity sets and elements of the shared maps.

The whole table is a fixed base and the union of such fragments, so a changed Service is a changed fragment.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from podnet.proxy.types import Endpoint, ServicePortName

TABLE = "kube-proxy"
FAMILY = "ip"

MAPS: Mapping[str, tuple[str, str]] = {
    "cluster-ips": ("set", "type ipv4_addr"),
    "nodeport-ips": ("set", "type ipv4_addr"),
    "hairpin-ips": ("set", "type ipv4_addr . ipv4_addr"),
    "service-ips": ("map", "type ipv4_addr . inet_proto . inet_service : verdict"),
    "service-nodeports": ("map", "type inet_proto . inet_service : verdict"),
    "no-endpoint-services": ("map", "type ipv4_addr . inet_proto . inet_service : verdict"),
    "no-endpoint-nodeports": ("map", "type inet_proto . inet_service : verdict"),
    "firewall-ips": ("map", "type ipv4_addr . inet_proto . inet_service : verdict"),
}
"""The shared sets and maps: kind and type. In `hairpin-ips` an endpoint of this node is paired with itself."""

AFFINITY_SET = "type ipv4_addr; flags dynamic,timeout;"
"""The body of every affinity set. The timeout is the rule's, so that a changed one needs no new set."""

COMMENT_MAX = 127
NAME_MAX = 250


class ElementKey(NamedTuple):
    """Where an element is: the map's (or set's) name and the key as nft writes it."""

    map: str
    key: str


class Element(NamedTuple):
    """A verdict ("" in a set) and a comment."""

    verdict: str = ""
    comment: str = ""

    def render(self, key: str) -> str:
        """As nft reads it."""
        note = f' comment "{self.comment[:COMMENT_MAX]}"' if self.comment else ""
        return f"{key}{note} : {self.verdict}" if self.verdict else f"{key}{note}"


@dataclass(frozen=True, slots=True)
class Fragment:
    """Chains by name with their rules, names of affinity sets, and elements."""

    chains: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    sets: frozenset[str] = frozenset()
    elements: Mapping[ElementKey, Element] = field(default_factory=dict)


EMPTY = Fragment()


def port_chain(kind: str, name: ServicePortName) -> str:
    """The chain of one Service port: `service-`, `external-`, `local-` or `firewall-`, a hash, and the name to read.

    The hash is over the whole name, so that two ports never share a chain even where the readable part is cut."""
    text = f"{name.namespace}/{name.service}/{name.protocol}/{name.port}"
    digest = hashlib.sha256(text.encode()).hexdigest()[:8].upper()
    return f"{kind}-{digest}-{text}"[:NAME_MAX]


def endpoint_chain(kind: str, name: ServicePortName, endpoint: Endpoint) -> str:
    """The chain (`endpoint-`) or the set (`affinity-`) of one endpoint of one Service port."""
    tail = f"__{endpoint.ip}/{endpoint.port}"
    return port_chain(kind, name)[: NAME_MAX - len(tail)] + tail
