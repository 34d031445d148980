"""The names of one Service: what stands at it and below it, and the records of each.

    web.default.svc                    ClusterIP, or every ready endpoint when headless, or the CNAME of an ExternalName
    _http._tcp.web.default.svc         SRV for the port; the underscores may be missing, `_` alone means any
    10-244-1-7.web.default.svc         one endpoint, by its host name or its address
    eu-1.pin._zone.web.default.svc     headless and option `zonal` only: the endpoints of a zone, `prefer`: or else all

An entry is built from its own objects and nothing else; a zone shares it as long as they stay what they are.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from podnet.dns.message import A_, AAAA_, CNAME_, SRV_
from podnet.dns.records.objects import NO_PORT, Endpoint, Port, Service, Slice
from podnet.dns.records.types import NODATA, NXDOMAIN, Answer, Labels, Options, Record


@dataclass(frozen=True, slots=True)
class Match:
    """One address behind a question, and the name it has there."""

    address: str
    port: int
    target: str


@dataclass(frozen=True, slots=True)
class Pointer:
    """What the reverse zones say of an address of this Service."""

    address: str
    target: str
    namespace: str
    service: str
    cluster_ip: bool


@dataclass(frozen=True, slots=True)
class ServiceEntry:
    """A Service with its endpoints. `service` is None for slices whose Service is not there (yet)."""

    namespace: str
    name: str
    service: Service | None
    endpoints: tuple[Endpoint, ...]
    by_label: Mapping[str, tuple[Endpoint, ...]]

    @property
    def domain(self) -> str:
        """`web.default.svc`."""
        return f"{self.name}.{self.namespace}.svc"

    def pointers(self) -> list[Pointer]:
        """Every address with the name that its PTR record gives."""
        addresses = self.service.addresses if self.service is not None and self.service.type == "ClusterIP" else ()
        found = [Pointer(ip, self.domain, self.namespace, self.name, cluster_ip=True) for ip in addresses]
        seen: set[tuple[str, str]] = set()
        for endpoint in self.endpoints:
            identity = (endpoint.address, endpoint.label)
            if identity not in seen:  # the same endpoint may stand in two slices
                seen.add(identity)
                target = f"{endpoint.label}.{self.domain}"
                found.append(Pointer(endpoint.address, target, self.namespace, self.name, cluster_ip=False))
        return found


def build_entry(namespace: str, name: str, service: Service | None, slices: Iterable[Slice]) -> ServiceEntry:
    """The entry of a Service and all its slices."""
    endpoints = tuple(endpoint for part in slices for endpoint in part.endpoints)
    by_label: dict[str, list[Endpoint]] = {}
    for endpoint in endpoints:
        by_label.setdefault(endpoint.label, []).append(endpoint)
    return ServiceEntry(namespace, name, service, endpoints, {label: tuple(group) for label, group in by_label.items()})


def lookup(entry: ServiceEntry, left: Labels, qtype: int, options: Options, *, multicluster: bool = False) -> Answer:
    """The answer for the labels `left` of the Service's own name."""
    service = entry.service
    if service is None:
        return NXDOMAIN
    if service.type == "ExternalName":
        if left:
            return NXDOMAIN
        # SRV for external names is not a thing of the specification.
        return (
            NODATA
            if qtype == SRV_
            else Answer(True, (Record(entry.domain, CNAME_, service.external_name, options.ttl_s),))
        )
    if options.ignore_empty_service and service.type == "ClusterIP" and not entry.endpoints:
        return NXDOMAIN
    matches = _matches(entry, service, left, options, multicluster=multicluster)
    if not matches:
        return NXDOMAIN
    owner = ".".join((*left, entry.domain))
    if qtype in (A_, AAAA_):
        return Answer(True, _addresses(owner, matches, qtype, options.ttl_s))
    return _srv(owner, matches, options.ttl_s) if qtype == SRV_ else NODATA


def _matches(
    entry: ServiceEntry, service: Service, left: Labels, options: Options, *, multicluster: bool
) -> list[Match]:
    match left:
        case ():
            return _port_matches(entry, service, "", "")
        case (label,):
            return _endpoint_matches(entry, entry.by_label.get(label, ()))
        case (label, cluster) if multicluster and not label.startswith("_"):
            return _endpoint_matches(entry, entry.by_label.get(f"{label}.{cluster}", ()))
        case (port, protocol):
            return _port_matches(entry, service, port.removeprefix("_"), protocol.removeprefix("_"))
        case (*zone, rule, "_zone") if options.zonal and service.type == "Headless":
            return _endpoint_matches(entry, _in_zone(entry, ".".join(zone), rule))
    return []


def _port_matches(entry: ServiceEntry, service: Service, name: str, protocol: str) -> list[Match]:
    if service.type == "Headless":
        return _endpoint_matches(entry, entry.endpoints, name, protocol)
    ports = [port for port in service.ports if _fits(port, name, protocol)]
    return [Match(address, port.port, entry.domain) for port in ports for address in service.addresses]


def _endpoint_matches(
    entry: ServiceEntry, endpoints: Iterable[Endpoint], name: str = "", protocol: str = ""
) -> list[Match]:
    domain = entry.domain
    return [
        Match(endpoint.address, port.port, f"{endpoint.label}.{domain}")
        for endpoint in endpoints
        for port in endpoint.ports
        if _fits(port, name, protocol)
    ]


def _in_zone(entry: ServiceEntry, zone: str, rule: str) -> Iterable[Endpoint]:
    if rule not in ("pin", "prefer"):
        return ()
    near = [endpoint for endpoint in entry.endpoints if endpoint.zone == zone]
    return near if near or rule == "pin" else entry.endpoints


def _fits(port: Port, name: str, protocol: str) -> bool:
    return name in ("", port.name) and protocol in ("", port.protocol)


def _addresses(owner: str, matches: Iterable[Match], qtype: int, ttl_s: int) -> tuple[Record, ...]:
    wanted = (":" in match.address for match in matches)
    found = dict.fromkeys(match.address for match, six in zip(matches, wanted, strict=True) if six == (qtype == AAAA_))
    return tuple(Record(owner, qtype, address, ttl_s) for address in found)


def _srv(owner: str, matches: list[Match], ttl_s: int) -> Answer:
    """One record a target and port, each address once. The weight shares 100 among all that matched, and is at least 1
    so that nobody is left out."""
    weight = max(1, 100 // len(matches))
    usable = [match for match in matches if match.port != NO_PORT]
    targets = dict.fromkeys((match.target, match.port) for match in usable)
    addresses = dict.fromkeys((match.target, match.address) for match in usable)
    records = tuple(Record(owner, SRV_, target, ttl_s, weight, port) for target, port in targets)
    glue = tuple(Record(target, AAAA_ if ":" in address else A_, address, ttl_s) for target, address in addresses)
    return Answer(True, records, glue)
