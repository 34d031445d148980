"""Addresses and node ports of Services: which are taken, and the next free one.

Pure: the Services that exist come in, causes of refusal or values come out. Nothing is remembered between calls, so
nothing can leak or get out of step. Source: pkg/registry/core/service (ipallocator, portallocator) of Kubernetes 1.32.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from podnet.controlplane.api.errors import Cause, invalid_value
from podnet.controlplane.api.types import Object

DNS_OFFSET = 10
"""`kube-dns` stands at the tenth address by convention; it is given only to whom asks for it."""


@dataclass(frozen=True, slots=True)
class ServiceRanges:
    """What may be given out. `reserved` belongs to the `kubernetes` Service, whether it exists yet or not."""

    network: ipaddress.IPv4Network
    node_ports: tuple[int, int]

    @property
    def reserved(self) -> str:
        """The address of `default/kubernetes`."""
        return str(self.network.network_address + 1)


def used_addresses(services: Iterable[Object]) -> set[str]:
    """Cluster addresses that Services hold."""
    used: set[str] = set()
    for service in services:
        spec = service.get("spec") or {}
        used.update(
            address for address in spec.get("clusterIPs") or [spec.get("clusterIP")] if address and address != "None"
        )
    return used


def used_node_ports(services: Iterable[Object]) -> set[tuple[str, int]]:
    """(protocol, node port) pairs that Services hold; a health check port counts as TCP."""
    used: set[tuple[str, int]] = set()
    for service in services:
        spec = service.get("spec") or {}
        used.update(
            (port.get("protocol", "TCP"), port["nodePort"]) for port in spec.get("ports") or () if port.get("nodePort")
        )
        if spec.get("healthCheckNodePort"):
            used.add(("TCP", spec["healthCheckNodePort"]))
    return used


def allocate(new: Object, old: Object | None, others: Iterable[Object], ranges: ServiceRanges) -> list[Cause]:
    """Give `new` its addresses and ports, in place; the causes say why it may not have what it asked for.

    `others` are all Services but this one. What `old` holds is kept where `new` does not say otherwise.
    """
    others = list(others)
    spec = new["spec"]
    _carry_over(spec, (old or {}).get("spec") or {})
    causes = _allocate_address(new, old, used_addresses(others), ranges)
    taken = used_node_ports(others)
    causes += _allocate_node_ports(spec, taken, ranges.node_ports)
    causes += _allocate_health_port(spec, taken, ranges.node_ports)
    return causes


def needs_address(spec: dict[str, Any]) -> bool:
    """ExternalName has none, headless says None."""
    kind: str = spec.get("type", "ClusterIP")
    return kind != "ExternalName" and bool(spec.get("clusterIP") != "None")


def needs_node_ports(spec: dict[str, Any]) -> bool:
    """NodePort and LoadBalancer, unless the latter says it does not want them."""
    kind: str = spec.get("type", "ClusterIP")
    return kind == "NodePort" or (kind == "LoadBalancer" and spec.get("allocateLoadBalancerNodePorts") is not False)


def _carry_over(spec: dict[str, Any], old: dict[str, Any]) -> None:
    """An update that leaves allocated values out means to keep them (patchAllocatedValues upstream)."""
    if needs_address(old) and needs_address(spec) and not spec.get("clusterIP") and not spec.get("clusterIPs"):
        for field in ("clusterIP", "clusterIPs"):
            if old.get(field):
                spec[field] = old[field]
    if needs_node_ports(old) and needs_node_ports(spec):
        held = {
            (port.get("protocol", "TCP"), port["port"]): port["nodePort"]
            for port in old.get("ports") or ()
            if port.get("nodePort")
        }
        said = {port.get("nodePort") for port in spec.get("ports") or ()}
        for port in spec.get("ports") or ():
            node_port = held.get((port.get("protocol", "TCP"), port.get("port")))
            if not port.get("nodePort") and node_port is not None and node_port not in said:
                port["nodePort"] = node_port
    if _needs_health_port(old) and _needs_health_port(spec) and not spec.get("healthCheckNodePort"):
        spec["healthCheckNodePort"] = old.get("healthCheckNodePort")


def _allocate_address(new: Object, old: Object | None, used: set[str], ranges: ServiceRanges) -> list[Cause]:
    spec = new["spec"]
    if not needs_address(spec):
        if spec.get("type") == "ExternalName" and old is not None and old["spec"].get("type") != "ExternalName":
            for field in ("clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy"):
                spec.pop(field, None)
        elif spec.get("clusterIP") == "None":
            spec["clusterIPs"] = ["None"]
        return []
    wanted = spec.get("clusterIP") or next(iter(spec.get("clusterIPs") or ()), "")
    if not wanted:
        wanted = _lowest_free(used, ranges)
        if not wanted:
            detail = "failed to allocate a serviceIP: range is full"
            return [Cause("InternalError", f"Internal error: {detail}", "spec.clusterIPs")]
        spec["clusterIP"], spec["clusterIPs"] = wanted, [wanted]
        return []
    cause = _refuse_address(new, wanted, used, ranges)
    if cause is not None:
        return [cause]
    spec["clusterIP"] = wanted
    spec.setdefault("clusterIPs", [wanted])
    return []


def _refuse_address(service: Object, wanted: str, used: set[str], ranges: ServiceRanges) -> Cause | None:
    try:
        address = ipaddress.ip_address(wanted)
    except ValueError:
        return None  # validation has the words for it
    network = ranges.network
    if address not in network or address in {network.network_address, network.broadcast_address}:
        why = f"the provided IP ({wanted}) is not in the valid range. The range of valid IPs is {network}"
    elif wanted in used or (wanted == ranges.reserved and not _is_kubernetes(service)):
        why = "provided IP is already allocated"
    else:
        return None
    return invalid_value("spec.clusterIPs", [wanted], f"failed to allocate IP {wanted}: {why}")


def _is_kubernetes(service: Object) -> bool:
    metadata = service["metadata"]
    return (metadata.get("namespace"), metadata.get("name")) == ("default", "kubernetes")


def _lowest_free(used: set[str], ranges: ServiceRanges) -> str:
    first = int(ranges.network.network_address)
    last = int(ranges.network.broadcast_address)
    for value in range(first + 2, last):
        address = str(ipaddress.IPv4Address(value))
        if value != first + DNS_OFFSET and address not in used:
            return address
    return ""


def _allocate_node_ports(spec: dict[str, Any], taken: set[tuple[str, int]], limits: tuple[int, int]) -> list[Cause]:
    ports = spec.get("ports") or []
    if spec.get("type", "ClusterIP") not in {"NodePort", "LoadBalancer"}:
        return []
    causes: list[Cause] = []
    claimed: dict[int, set[str]] = {}
    for index, port in enumerate(ports):
        wanted, protocol = port.get("nodePort"), port.get("protocol", "TCP")
        if not isinstance(wanted, int) or not wanted:
            continue
        cause = _refuse_port(f"spec.ports[{index}].nodePort", wanted, protocol, taken, limits)
        if cause is not None:
            causes.append(cause)
        elif protocol in claimed.setdefault(wanted, set()):
            causes.append(invalid_value(f"spec.ports[{index}].nodePort", wanted, "provided port is already allocated"))
        claimed.setdefault(wanted, set()).add(protocol)
    if causes or not needs_node_ports(spec):
        return causes
    busy = {number for _, number in taken} | set(claimed)
    by_port: dict[int, tuple[int, set[str]]] = {}
    for index, port in enumerate(ports):
        if port.get("nodePort"):
            continue
        number, protocol = port.get("port", 0), port.get("protocol", "TCP")
        shared = by_port.get(number)
        # the same port number over TCP and UDP gets one node port, as upstream does for DNS
        if shared is not None and protocol not in shared[1]:
            port["nodePort"] = shared[0]
            shared[1].add(protocol)
            continue
        free = next((value for value in range(limits[0], limits[1] + 1) if value not in busy), None)
        if free is None:
            causes.append(
                Cause(
                    "InternalError",
                    "Internal error: failed to allocate a nodePort: range is full",
                    f"spec.ports[{index}].nodePort",
                )
            )
            break
        busy.add(free)
        port["nodePort"] = free
        by_port[number] = (free, {protocol})
    return causes


def _needs_health_port(spec: dict[str, Any]) -> bool:
    kind, policy = str(spec.get("type")), str(spec.get("externalTrafficPolicy"))
    return kind == "LoadBalancer" and policy == "Local"


def _allocate_health_port(spec: dict[str, Any], taken: set[tuple[str, int]], limits: tuple[int, int]) -> list[Cause]:
    if not _needs_health_port(spec):
        return []
    wanted = spec.get("healthCheckNodePort")
    if wanted:
        cause = _refuse_port("spec.healthCheckNodePort", wanted, "TCP", taken, limits)
        return [cause] if cause else []
    busy = {number for _, number in taken} | {port.get("nodePort") for port in spec.get("ports") or ()}
    spec["healthCheckNodePort"] = next(value for value in range(limits[0], limits[1] + 1) if value not in busy)
    return []


def _refuse_port(
    field: str, wanted: int, protocol: str, taken: set[tuple[str, int]], limits: tuple[int, int]
) -> Cause | None:
    if not limits[0] <= wanted <= limits[1]:
        why = f"provided port is not in the valid range. The range of valid ports is {limits[0]}-{limits[1]}"
        return invalid_value(field, wanted, why)
    if (protocol, wanted) in taken:
        return invalid_value(field, wanted, "provided port is already allocated")
    return None
