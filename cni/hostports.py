"""hostPorts as nftables rules: one table per node, one map element per port.

    table ip podnet-hostports
        map one   (address . protocol . port : pod address . port)      hostIP given
        map any   (protocol . port : pod address . port)                any address of the node
        prerouting, output ─▶ hostports: dnat, for packets to the node itself
        postrouting: masquerade a pod that reaches itself, and what comes from 127.0.0.1
        guard: nothing from outside reaches 127.0.0.0/8, which route_localnet would allow

This file decides; it runs nothing. The client's address is kept otherwise. A port belongs to whom took it last, as in
the reference plugin; the scheduler keeps two pods with one port apart. Source: CNI CONVENTIONS (portMappings), the
behaviour of the reference portmap plugin.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from podnet.cni.types import expect, refuse
from podnet.topology.kernel import IPAddress

TABLE = "podnet-hostports"
ANY_ADDRESS = "0.0.0.0"
_PROTOCOLS = ("tcp", "udp", "sctp")
_COMMENT_MAX = 120
_UNSAFE = re.compile(r"[^\w./:@ -]")

BASE = f"""\
table ip {TABLE} {{
    map one {{ type ipv4_addr . inet_proto . inet_service : ipv4_addr . inet_service; }}
    map any {{ type inet_proto . inet_service : ipv4_addr . inet_service; }}
    set pods {{ type ipv4_addr . ipv4_addr; }}
    chain hostports {{ }}
    chain prerouting {{ type nat hook prerouting priority -95; }}
    chain output {{ type nat hook output priority -95; }}
    chain postrouting {{ type nat hook postrouting priority 95; }}
    chain guard {{ type filter hook prerouting priority -300; }}
}}
flush chain ip {TABLE} hostports
flush chain ip {TABLE} prerouting
flush chain ip {TABLE} output
flush chain ip {TABLE} postrouting
flush chain ip {TABLE} guard
table ip {TABLE} {{
    chain hostports {{
        meta l4proto {{ tcp, udp, sctp }} dnat ip to ip daddr . meta l4proto . th dport map @one
        meta l4proto {{ tcp, udp, sctp }} dnat ip to meta l4proto . th dport map @any
    }}
    chain prerouting {{
        fib daddr type local jump hostports
    }}
    chain output {{
        fib daddr type local jump hostports
    }}
    chain postrouting {{
        ip saddr . ip daddr @pods masquerade comment "a pod reaches itself through its node"
        ip saddr 127.0.0.0/8 oifname != "lo" ct status dnat masquerade comment "the node reaches a pod through 127.0.0.1"
    }}
    chain guard {{
        iifname != "lo" ip daddr 127.0.0.0/8 drop
    }}
}}
"""
"""The table without its elements; running it again changes nothing."""


@dataclass(frozen=True, slots=True)
class HostPort:
    """One port of the node that leads to a pod. `host_ip` 0.0.0.0 means every address of the node."""

    protocol: str
    host_port: int
    pod_ip: str
    pod_port: int
    host_ip: str = ANY_ADDRESS

    @property
    def key(self) -> tuple[str, str, int]:
        """What there can be only one of."""
        return self.host_ip, self.protocol, self.host_port


def parse_port_mappings(mappings: Any, pod_ip: IPAddress) -> tuple[HostPort, ...]:
    """`runtimeConfig.portMappings`, for one address of the pod; a hostIP of the other family is not for it."""
    found: dict[tuple[str, str, int], HostPort] = {}
    for index, item in enumerate(expect(mappings, list, "runtimeConfig.portMappings")):
        path = f"runtimeConfig.portMappings[{index}]"
        mapping = expect(item, dict, path)
        if not mapping.get("hostPort"):
            continue
        protocol = str(mapping.get("protocol") or "tcp").lower()
        if protocol not in _PROTOCOLS:
            refuse(f"{path}.protocol", f"{mapping['protocol']!r} is not one of tcp, udp, sctp")
        host_ip = _host_ip(mapping, path)
        if host_ip is not None and host_ip.version != pod_ip.version:
            continue
        port = HostPort(
            protocol,
            _port(mapping, "hostPort", path),
            str(pod_ip),
            _port(mapping, "containerPort", path),
            ANY_ADDRESS if host_ip is None else str(host_ip),
        )
        found[port.key] = port
    return tuple(found.values())


def _port(mapping: Mapping[str, Any], name: str, path: str) -> int:
    value = expect(mapping.get(name), int, f"{path}.{name}")
    if not 1 <= value <= 65535:
        refuse(f"{path}.{name}", f"{value} is outside 1..65535")
    return int(value)


def _host_ip(mapping: Mapping[str, Any], path: str) -> IPAddress | None:
    text = mapping.get("hostIP") or ""
    try:
        address = ipaddress.ip_address(expect(text, str, f"{path}.hostIP")) if text else None
    except ValueError as error:
        refuse(f"{path}.hostIP", str(error))
    return None if address is None or address.is_unspecified else address


def _element(port: HostPort) -> tuple[str, str]:
    """The map of a port, and its key there."""
    if port.host_ip == ANY_ADDRESS:
        return "any", f"{port.protocol} . {port.host_port}"
    return "one", f"{port.host_ip} . {port.protocol} . {port.host_port}"


def render_add(ports: Iterable[HostPort], comment: str) -> str:
    """The transaction that opens these ports; it makes the table, too, where it is missing."""
    text = _UNSAFE.sub("_", comment)[:_COMMENT_MAX]
    lines = [BASE]
    for port in ports:
        name, key = _element(port)
        target = f"{port.pod_ip} . {port.pod_port}"
        lines.append(f'add element ip {TABLE} {name} {{ {key} comment "{text}" : {target} }}')
        lines.append(f"add element ip {TABLE} pods {{ {port.pod_ip} . {port.pod_ip} }}")
    return "\n".join(lines) + "\n"


def render_delete(ports: Iterable[HostPort]) -> list[str]:
    """Transactions that close these ports, one each: what is missing already must not keep the rest."""
    scripts: dict[str, None] = {}
    for port in ports:
        name, key = _element(port)
        scripts[f"delete element ip {TABLE} {name} {{ {key} }}\n"] = None
    for port in ports:
        scripts[f"delete element ip {TABLE} pods {{ {port.pod_ip} . {port.pod_ip} }}\n"] = None
    return [*scripts]


def render_get(port: HostPort) -> str:
    """The question whether a port is open; its answer names the pod."""
    name, key = _element(port)
    return f"get element ip {TABLE} {name} {{ {key} }}\n"


def is_open(port: HostPort, answer: str) -> bool:
    """Whether the answer to `render_get` leads to the pod."""
    return f": {port.pod_ip} . {port.pod_port} " in " ".join(answer.split()) + " "
