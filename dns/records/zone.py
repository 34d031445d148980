"""The zone index: every name of the cluster, immutable; a change makes a new one that shares all it did not touch.

    Zone ── namespaces ──▶ NamespaceEntry ── entries ──▶ ServiceEntry     built from its own Service and slices only
         ├─ pointers   ──▶ address → names                               for the reverse zones
         ├─ pods       ──▶ address → pods                                for `pods verified` and autopath
         └─ nodes      ──▶ name → addresses                              for `nodes`, an option of podnet's own

`lookup` is for names below svc and pod, `lookup_reverse` for addresses. The apex (SOA, NS) is the plugin's, which knows
the zone's own name; `name_servers` tells it whom to name there. `edit.py` makes zones.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from podnet.dns.message import A_, AAAA_, PTR_, TXT_
from podnet.dns.records import service as service_names
from podnet.dns.records.names import pod_address
from podnet.dns.records.objects import Pod, Service, Slice
from podnet.dns.records.service import Pointer, ServiceEntry
from podnet.dns.records.types import (
    DNS_SCHEMA_VERSION,
    DNS_VERSION_TTL_S,
    NODATA,
    NXDOMAIN,
    Answer,
    Labels,
    Options,
    Record,
)

_EXISTING = frozenset({(), ("svc",), ("pod",), ("dns",), ("dns-version",), ("ns", "dns")})
"""Names that exist in every zone: the apex, the two branches, and those which SOA and the specification need."""


@dataclass(frozen=True, slots=True)
class NamespaceEntry:
    """One namespace: whether its Namespace object is there, and everything known of it."""

    labels: Mapping[str, str] | None = None  # None: there is no such Namespace
    services: Mapping[str, Service] = field(default_factory=dict)
    slices: Mapping[str, Slice] = field(default_factory=dict)
    slices_of: Mapping[str, tuple[str, ...]] = field(default_factory=dict)  # Service → names of its slices
    entries: Mapping[str, ServiceEntry] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Zone:
    """See the module. `serial` is that of the SOA: when the zone last changed."""

    options: Options = field(default_factory=Options)
    multicluster: bool = False
    serial: int = 0
    namespaces: Mapping[str, NamespaceEntry] = field(default_factory=dict)
    pointers: Mapping[str, tuple[Pointer, ...]] = field(default_factory=dict)
    pods: Mapping[str, tuple[Pod, ...]] = field(default_factory=dict)
    pods_by_key: Mapping[str, Pod] = field(default_factory=dict)
    nodes: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def exposed(self, namespace: str) -> bool:
        """Whether names of this namespace are served."""
        entry = self.namespaces.get(namespace)
        options = self.options
        return (
            entry is not None
            and entry.labels is not None
            and (not options.namespaces or namespace in options.namespaces)
            and options.namespace_labels.matches(entry.labels)
        )

    def lookup(self, labels: Labels, qtype: int) -> Answer:
        """The answer for a name relative to the zone, of any type."""
        if labels in _EXISTING:
            if labels == ("dns-version",) and qtype == TXT_:
                return Answer(True, (Record("dns-version", TXT_, DNS_SCHEMA_VERSION, DNS_VERSION_TTL_S),))
            return NODATA
        if labels == ("node",):
            return NODATA if self.options.nodes else NXDOMAIN
        if labels[-1] == "pod":
            return self._pod(labels[:-2], labels[-2], qtype)
        if labels[-1] == "node" and self.options.nodes:
            return self._node(".".join(labels[:-1]), qtype)
        if labels[-1] != "svc" or not self.exposed(labels[-2]):
            return NXDOMAIN
        if len(labels) == 2:
            return NODATA
        entry = self.namespaces[labels[-2]].entries.get(labels[-3])
        if entry is None:
            return NXDOMAIN
        return service_names.lookup(entry, labels[:-3], qtype, self.options, multicluster=self.multicluster)

    def lookup_reverse(self, address: str, owner: str, qtype: int) -> Answer:
        """The names behind an address; `owner` is the name that was asked."""
        found = [pointer for pointer in self.pointers.get(address, ()) if self.exposed(pointer.namespace)]
        nodes = sorted(name for name, addresses in self.nodes.items() if address in addresses)
        if not found and not nodes:
            return NXDOMAIN
        if qtype != PTR_:
            return NODATA
        # A ClusterIP is one Service's and says all; endpoints may be many Services'.
        chosen = [pointer for pointer in found if pointer.cluster_ip][:1] or found
        targets = dict.fromkeys([*(pointer.target for pointer in chosen), *(f"{name}.node" for name in nodes)])
        return Answer(True, tuple(Record(owner, PTR_, target, self.options.ttl_s) for target in targets))

    def name_servers(self, addresses: Iterable[str]) -> tuple[tuple[str, str], ...]:
        """(name, address) of the zone's servers: the Services that have one of this server's addresses behind them, or
        the addresses themselves under the name `ns.dns`."""
        own = [*addresses]
        found: dict[tuple[str, str], None] = {}
        for address in own:
            for pointer in self.pointers.get(address, ()):
                entry = self.namespaces[pointer.namespace].entries[pointer.service]
                if pointer.cluster_ip or entry.service is None:
                    continue
                if entry.service.type == "Headless":
                    found |= {(f"{e.label}.{entry.domain}", e.address): None for e in entry.endpoints}
                else:
                    found |= {(entry.domain, ip): None for ip in entry.service.addresses}
        return tuple(found) or tuple(("ns.dns", address) for address in own)

    def namespace_of(self, address: str) -> str:
        """The namespace of the pod with this address, or empty: where a client's search path begins."""
        pods = self.pods.get(address, ())
        return pods[0].namespace if pods else ""

    def _node(self, name: str, qtype: int) -> Answer:
        addresses = self.nodes.get(name)
        if addresses is None:
            # A node's name may have dots in it; what lies between it and the branch exists, if only empty.
            return NODATA if any(other.endswith(f".{name}") for other in self.nodes) else NXDOMAIN
        wanted = [ip for ip in addresses if qtype == (AAAA_ if ":" in ip else A_)]
        return Answer(True, tuple(Record(f"{name}.node", qtype, ip, self.options.ttl_s) for ip in wanted))

    def _pod(self, left: Labels, namespace: str, qtype: int) -> Answer:
        if self.options.pods == "disabled" or not self.exposed(namespace):
            return NXDOMAIN
        if not left:
            return NODATA
        address = pod_address(left[0]) if len(left) == 1 else ""
        if not address:
            return NXDOMAIN
        if self.options.pods == "verified" and not any(p.namespace == namespace for p in self.pods.get(address, ())):
            return NXDOMAIN
        if qtype != (AAAA_ if ":" in address else A_):
            return NODATA
        owner = ".".join((*left, namespace, "pod"))
        return Answer(True, (Record(owner, qtype, address, self.options.ttl_s),))
