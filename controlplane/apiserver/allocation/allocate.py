"""One Service gets its address and ports, or the reasons why it may not have what it asks for.

    type           address    node ports            health check port
    ClusterIP      yes*       no                    no
    NodePort       yes        yes                   no
    LoadBalancer   yes        unless it says no     with externalTrafficPolicy Local
    ExternalName   no         no                    no                         * `None` when headless

Pure: works on the new object in place; what was allocated is remembered by the Services alone, so nothing can leak or
get out of step, and a refused or dry write has allocated nothing. Source: the Service registry of Kubernetes 1.32.
"""

from __future__ import annotations

from typing import Any

from podnet.controlplane.api.addresses import parse_ip
from podnet.controlplane.api.errors import Cause, internal_error, invalid_value
from podnet.controlplane.api.types import Object
from podnet.controlplane.apiserver.allocation.families import normalize_cluster_ips, settle_families
from podnet.controlplane.apiserver.allocation.ranges import Draw, ServiceRanges
from podnet.controlplane.apiserver.allocation.taken import Taken, node_ports

Spec = dict[str, Any]


def allocate(new: Object, old: Object | None, taken: Taken, ranges: ServiceRanges, draw: Draw) -> list[Cause]:
    """Complete `new`, in place; empty when it has all it needs. `taken` is what all other Services hold.

    StatusError (500) when a range has no free number left.
    """
    spec: Spec = new["spec"]
    before: Spec = (old or {}).get("spec") or {}
    normalize_cluster_ips(spec, before)
    keep_allocated(spec, before)
    causes = settle_families(new, old) or _allocate_address(new, before, taken, ranges, draw)
    if causes:
        return causes
    claimed: set[int] = set()
    return _allocate_node_ports(spec, before, taken, claimed, ranges, draw) or _allocate_health_port(
        spec, before, taken, claimed, ranges, draw
    )


def needs_address(spec: Spec) -> bool:
    """Every type but ExternalName; headless ones say None."""
    return bool(spec) and spec.get("type", "ClusterIP") != "ExternalName"


def needs_node_ports(spec: Spec) -> bool:
    """NodePort and LoadBalancer, unless the latter says it does not want them."""
    kind: str = spec.get("type", "ClusterIP")
    return kind == "NodePort" or (kind == "LoadBalancer" and spec.get("allocateLoadBalancerNodePorts") is not False)


def may_have_node_ports(spec: Spec) -> bool:
    """NodePort and LoadBalancer: one that wants none by itself may still ask for some."""
    return spec.get("type") in {"NodePort", "LoadBalancer"}


def needs_health_port(spec: Spec) -> bool:
    """A load balancer that asks every node whether it has endpoints of its own."""
    return spec.get("type") == "LoadBalancer" and spec.get("externalTrafficPolicy") == "Local"


def keep_allocated(spec: Spec, old: Spec) -> None:
    """An update that leaves allocated values out means to keep them. Ports are the same when their names are."""
    if needs_address(old) and needs_address(spec):
        if not spec.get("clusterIP") and old.get("clusterIP"):
            spec["clusterIP"] = old["clusterIP"]
        if not spec.get("clusterIPs") and spec.get("clusterIP") == old.get("clusterIP") and old.get("clusterIPs"):
            spec["clusterIPs"] = list(old["clusterIPs"])
    if needs_node_ports(old) and needs_node_ports(spec):
        ports = spec.get("ports") or ()
        used = {port["nodePort"] for port in ports if port.get("nodePort")}
        held = {port.get("name") or "": port["nodePort"] for port in old.get("ports") or () if port.get("nodePort")}
        for port in ports:
            number = held.get(port.get("name") or "")
            if not port.get("nodePort") and number is not None and number not in used:
                port["nodePort"] = number
                used.add(number)
    if needs_health_port(old) and needs_health_port(spec) and not spec.get("healthCheckNodePort"):
        spec["healthCheckNodePort"] = old.get("healthCheckNodePort")


def _allocate_address(new: Object, before: Spec, taken: Taken, ranges: ServiceRanges, draw: Draw) -> list[Cause]:
    spec = new["spec"]
    if not needs_address(spec) or spec.get("clusterIP") == "None":
        return []
    if needs_address(before) and before.get("clusterIP"):
        return []  # it stays, and validation refuses another one
    wanted = spec.get("clusterIP")
    if not wanted:
        drawn = ranges.draw_address(taken.addresses, draw)
        if not drawn:
            raise internal_error("failed to allocate a serviceIP: range is full")
        spec["clusterIP"], spec["clusterIPs"] = drawn, [drawn]
        return []
    why = _why_not_address(new, wanted, taken, ranges)
    if not why:
        return []
    return [invalid_value("spec.clusterIPs", spec.get("clusterIPs"), f"failed to allocate IP {wanted}: {why}")]


def _why_not_address(service: Object, wanted: str, taken: Taken, ranges: ServiceRanges) -> str:
    try:
        address = parse_ip(wanted)
    except ValueError:
        return ""  # validation has the words for it
    if not ranges.holds(address):
        shown = ",".join(str(network) for network in ranges.networks)
        return f"the provided IP ({wanted}) is not in the valid range. The range of valid IPs is {shown}"
    if int(address) in taken.addresses or (str(address) == ranges.reserved and not _is_kubernetes(service)):
        return "provided IP is already allocated"
    return ""


def _is_kubernetes(service: Object) -> bool:
    metadata = service["metadata"]
    return (metadata.get("namespace"), metadata.get("name")) == ("default", "kubernetes")


def _allocate_node_ports(
    spec: Spec, before: Spec, taken: Taken, claimed: set[int], ranges: ServiceRanges, draw: Draw
) -> list[Cause]:
    """The same port number over TCP and UDP gets one node port, as DNS likes it. `claimed` collects what is given."""
    if not may_have_node_ports(spec):
        return []
    ports = spec.get("ports") or []
    held = node_ports({"spec": before}) if may_have_node_ports(before) else set[int]()
    asked = {port.get("port"): port["nodePort"] for port in reversed(ports) if port.get("nodePort")}
    given: dict[tuple[Any, str], int] = {}
    shared_by: set[tuple[str, int]] = set()
    for index, port in enumerate(ports):
        protocol, wanted = port.get("protocol") or "TCP", port.get("nodePort")
        if wanted:
            why = "" if wanted in held or wanted in claimed else _why_not_port(wanted, taken, ranges)
            if (protocol, wanted) in shared_by:
                why = "provided port is already allocated"
            if why:
                return [invalid_value(f"spec.ports[{index}].nodePort", wanted, why)]
            claimed.add(wanted)
            shared_by.add((protocol, wanted))
            given[port.get("port"), protocol] = wanted
    if not needs_node_ports(spec):
        return []
    for port in ports:
        number, protocol = port.get("port"), port.get("protocol") or "TCP"
        if port.get("nodePort"):
            continue
        shared = asked.get(number)
        if shared is None or given.get((number, protocol)) is not None:
            shared = ranges.draw_node_port(taken.node_ports | claimed | held, draw)
            if shared is None:
                raise internal_error("failed to allocate a nodePort: range is full")
            asked.setdefault(number, shared)
        port["nodePort"] = given[number, protocol] = shared
        claimed.add(shared)
    return []


def _allocate_health_port(
    spec: Spec, before: Spec, taken: Taken, claimed: set[int], ranges: ServiceRanges, draw: Draw
) -> list[Cause]:
    if not needs_health_port(spec):
        return []
    wanted = spec.get("healthCheckNodePort")
    if not wanted:
        drawn = ranges.draw_node_port(taken.node_ports | claimed, draw)
        if drawn is None:
            raise internal_error("failed to allocate a HealthCheck NodePort 0: range is full")
        spec["healthCheckNodePort"] = drawn
        return []
    if wanted == before.get("healthCheckNodePort"):
        return []
    why = "provided port is already allocated" if wanted in claimed else _why_not_port(wanted, taken, ranges)
    return [invalid_value("spec.healthCheckNodePort", wanted, why)] if why else []


def _why_not_port(wanted: int, taken: Taken, ranges: ServiceRanges) -> str:
    low, high = ranges.node_ports
    if not low <= wanted <= high:
        return f"provided port is not in the valid range. The range of valid ports is {low}-{high}"
    return "provided port is already allocated" if wanted in taken.node_ports else ""
