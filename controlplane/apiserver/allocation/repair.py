"""What Services and IPAddress objects that disagree need, after a crash, a restored store or a careless hand. Pure.

    a Service's address without its IPAddress      record it
    an IPAddress of ours that stands for nobody    forget it
    an address or a port that two Services hold    the one with the record keeps it, else the older; the other is told
    one that is in no range, or no address         its Service is told

Rule: what nobody but the user can mend is a complaint, an event on the Service, never an error: a server that refused to
start over it could not be asked to delete the Service. Source: the repair controllers of Kubernetes 1.32 (ClusterIPs, ports).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from podnet.controlplane.api.addresses import parse_ip
from podnet.controlplane.api.types import Object
from podnet.controlplane.apiserver.allocation.ranges import ServiceRanges
from podnet.controlplane.apiserver.allocation.taken import cluster_ips, node_ports

MANAGED_BY = "ipaddress.kubernetes.io/managed-by"
ALLOCATOR = "ipallocator.k8s.io"
_RECREATE = "please recreate service"


@dataclass(frozen=True, slots=True)
class Complaint:
    """What is wrong with a Service and will stay so."""

    service: Object
    reason: str
    message: str


@dataclass(slots=True)
class Repair:
    """What to do. `record`: (Service, address)."""

    record: list[tuple[Object, str]] = field(default_factory=list)
    forget: list[str] = field(default_factory=list)
    complaints: list[Complaint] = field(default_factory=list)


def plan_repair(services: Iterable[Object], recorded: Mapping[str, Object], ranges: ServiceRanges) -> Repair:
    """What to do about these Services and these IPAddress objects, which go by their names."""
    repair = Repair()
    oldest_first = sorted(services, key=lambda service: service["metadata"].get("creationTimestamp") or "")
    holders: dict[str, list[Object]] = {}
    for service in oldest_first:
        for address in cluster_ips(service):
            holders.setdefault(address, []).append(service)
    for address, holding in holders.items():
        _settle_address(repair, address, holding, recorded.get(address), ranges)
    repair.forget += [name for name, found in recorded.items() if name not in holders and is_ours(found)]
    _settle_ports(repair, oldest_first, ranges)
    return repair


def _settle_address(
    repair: Repair, address: str, holding: list[Object], found: Object | None, ranges: ServiceRanges
) -> None:
    try:
        ip = parse_ip(address)
    except ValueError:
        text = f"Cluster IP {address} is not a valid IP; {_RECREATE}"
        repair.complaints += [Complaint(service, "ClusterIPNotValid", text) for service in holding]
        return
    shown = f"Cluster IP [IPv{ip.version}]: {address}"
    owner = next((service for service in holding if found is not None and is_parent(found, service)), None)
    if owner is None and (found is None or is_ours(found)):
        owner = holding[0]
    text = f"{shown} was assigned to multiple services; {_RECREATE}"
    others = [service for service in holding if service is not owner]
    repair.complaints += [Complaint(service, "ClusterIPAlreadyAllocated", text) for service in others]
    if owner is None:
        return
    if not ranges.holds(ip):
        text = f"{shown} is not within any configured Service CIDR; {_RECREATE}"
        repair.complaints.append(Complaint(owner, "ClusterIPOutOfRange", text))
    if found is None or not is_parent(found, owner):
        repair.record.append((owner, address))


def _settle_ports(repair: Repair, services: Iterable[Object], ranges: ServiceRanges) -> None:
    first, last = ranges.node_ports
    seen: set[int] = set()
    for service in services:
        for port in sorted(node_ports(service)):
            if port in seen:
                text = f"Port {port} was assigned to multiple services; {_RECREATE}"
                repair.complaints.append(Complaint(service, "PortAlreadyAllocated", text))
            elif not first <= port <= last:
                text = f"Port {port} is not within the port range {first}-{last}; {_RECREATE}"
                repair.complaints.append(Complaint(service, "PortOutOfRange", text))
            seen.add(port)


def is_ours(record: Object) -> bool:
    """Whether the API server wrote this IPAddress."""
    return (record["metadata"].get("labels") or {}).get(MANAGED_BY) == ALLOCATOR


def is_parent(record: Object, service: Object) -> bool:
    """Whether this IPAddress stands for that Service."""
    parent, metadata = record["spec"].get("parentRef") or {}, service["metadata"]
    named = (parent.get("group") or "", parent.get("resource"), parent.get("namespace"), parent.get("name"))
    return named == ("", "services", metadata["namespace"], metadata["name"])
