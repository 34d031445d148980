"""What Services hold now: cluster addresses and node ports.

Pure. A node port is taken as a number, whatever its protocol: only the ports of one Service may share one.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from podnet.controlplane.api.addresses import parse_ip
from podnet.controlplane.api.types import Object


@dataclass(frozen=True, slots=True)
class Taken:
    """IPv4 addresses as numbers, and node ports with the health check ports."""

    addresses: frozenset[int] | set[int] = field(default_factory=frozenset)
    node_ports: frozenset[int] | set[int] = field(default_factory=frozenset)


def cluster_ips(service: Object) -> list[str]:
    """The addresses that a Service holds, in their one spelling: none when it is headless or an ExternalName."""
    spec = service.get("spec") or {}
    listed = spec.get("clusterIPs") or [spec.get("clusterIP")]
    return [_canonical(address) for address in listed if address and address != "None"]


def _canonical(text: str) -> str:
    try:
        return str(parse_ip(text))
    except ValueError:
        return text


def address_number(text: str) -> int | None:
    """An IPv4 address as a number; None for anything else."""
    try:
        address = parse_ip(text)
    except ValueError:
        return None
    return int(address) if address.version == 4 else None


def node_ports(service: Object) -> set[int]:
    """The node ports that a Service holds, its health check port among them."""
    spec = service.get("spec") or {}
    held = {port["nodePort"] for port in spec.get("ports") or () if port.get("nodePort")}
    if spec.get("healthCheckNodePort"):
        held.add(spec["healthCheckNodePort"])
    return held


def taken_by(services: Iterable[Object], addresses: Iterable[str] = ()) -> Taken:
    """What these Services hold together, and addresses that are taken for another reason."""
    numbers, ports = {address_number(text) for text in addresses}, set[int]()
    for service in services:
        numbers.update(address_number(text) for text in cluster_ips(service))
        ports |= node_ports(service)
    return Taken({number for number in numbers if number is not None}, ports)
