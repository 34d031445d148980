"""What must fit together in a cluster.yaml: names, address ranges, cables.

Pure. Each check notes its problems at the value that causes them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from ipaddress import IPv4Address
from itertools import combinations
from typing import Any, Protocol

from podnet.topology.kernel import MAX_IFNAME
from podnet.topology.naming import port_name
from podnet.topology.spec import fields as f
from podnet.topology.spec.document import Value
from podnet.topology.spec.fields import Fields
from podnet.topology.spec.types import ClusterSpec, HostSpec, LinkSpec, NodeSpec, SwitchSpec

_QUALIFIED = re.compile(r"[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?")
_NODE_NAME_MAX = 64 - len("system:node:")
_LABEL_MAX = 63
# Names a bridge cannot have in the room, or that would shadow what each namespace has.
_RESERVED = frozenset({"lo", "all", "default", "eth0"})


class Machine(Protocol):
    """A node or host while it is being read."""

    @property
    def name(self) -> str: ...
    @property
    def value(self) -> Value | None: ...
    @property
    def switch(self) -> str: ...


# --- single values ------------------------------------------------------------------------------------------------


def switch_name(data: Any) -> str:
    """A DNS label that fits an interface name, since the bridge carries it."""
    name = f.dns_label(data)
    if len(name) > MAX_IFNAME:
        raise ValueError(f"{name!r} is longer than the {MAX_IFNAME} characters of an interface name")
    if name in _RESERVED:
        raise ValueError(f"{name!r} is an interface name with a meaning of its own")
    return name


def node_name(data: Any) -> str:
    """A DNS label that, as `system:node:<name>`, fits the 64 characters of a certificate's common name (RFC 5280)."""
    name = f.dns_label(data)
    if len(name) > _NODE_NAME_MAX:
        raise ValueError(
            f"{name!r} is longer than {_NODE_NAME_MAX} characters: its certificate could not say system:node:<name>"
        )
    return name


def qualified_name(data: Any) -> str:
    """A label's or taint's key: an optional DNS prefix and '/', then up to 63 of [A-Za-z0-9-_.]."""
    key = f.text(data)
    prefix, slash, name = key.rpartition("/")
    if slash:
        f.dns_subdomain(prefix)
    if len(name) > _LABEL_MAX or not _QUALIFIED.fullmatch(name):
        raise ValueError(f"{key!r} is not a qualified name: [prefix/]name of at most 63 alphanumerics, '-', '_' or '.'")
    return key


def label_value(data: Any) -> str:
    """Empty, or up to 63 of [A-Za-z0-9-_.]."""
    value = f.text(data)
    if value and (len(value) > _LABEL_MAX or not _QUALIFIED.fullmatch(value)):
        raise ValueError(f"{value!r} is not a label value: at most 63 alphanumerics, '-', '_' or '.'")
    return value


def checked_labels(fields: Fields) -> dict[str, str]:
    """A mapping of labels."""
    labels = {}
    for key, value in fields.each():
        try:
            labels[qualified_name(key)] = label_value(value.data)
        except ValueError as error:
            fields.problem(value, str(error))
    return labels


# --- names and cables ---------------------------------------------------------------------------------------------


def check_names(machines: Sequence[Machine], switches: Sequence[SwitchSpec], spec: Fields) -> None:
    """Nodes, hosts and switches share one set of names: points of capture and ends of links are written by name."""
    seen = {switch.name: "a switch" for switch in switches}
    ports: dict[str, str] = {}
    for machine in machines:
        port = port_name(machine.name)
        if ports.setdefault(port, machine.name) != machine.name:
            spec.problem(machine.value, f"{machine.name!r} and {ports[port]!r} shorten to one interface name, {port!r}")
        if machine.name in seen:
            other = seen[machine.name]
            spec.problem(machine.value, f"the name {machine.name!r} is taken by {other}", "nodes")
        seen[machine.name] = "another machine"


def check_uplink(machine: Machine, cabled: str, switches: Sequence[str], spec: Fields) -> None:
    """A machine has one uplink, to a switch that exists."""
    if machine.switch and machine.switch not in switches:
        message = f"there is no switch {machine.switch!r}{f.suggestion(machine.switch, switches)}"
        at = machine.value.data.get("switch") if machine.value else None
        spec.problem(at, message)
    elif machine.switch and cabled and machine.switch != cabled:
        spec.problem(
            machine.value, f"{machine.name!r} is plugged into {machine.switch!r}, but its link says {cabled!r}"
        )


def check_links(
    given: Sequence[tuple[Value, LinkSpec]], machines: Sequence[str], switches: Sequence[str], spec: Fields
) -> list[LinkSpec]:
    """The cables that are sound; problems for the others."""
    sound: list[LinkSpec] = []
    joined = {name: name for name in switches}
    for value, link in given:
        message = _link_problem(link, sound, machines, switches)
        if not message and link.a in joined and link.b in joined:
            roots = _root(joined, link.a), _root(joined, link.b)
            if roots[0] == roots[1]:
                message = f"{link.a!r} and {link.b!r} are joined already: switches run no spanning tree, so no loops"
            joined[roots[0]] = roots[1]
        if message:
            spec.problem(value, message)
        else:
            sound.append(link)
    islands = sorted({_root(joined, name) for name in switches}, key=list(switches).index)
    if len(islands) > 1 and len(sound) == len(given):
        spec.problem(None, f"switches {', '.join(map(repr, islands))} are not joined by links", "links")
    return sound


def _link_problem(link: LinkSpec, sound: Sequence[LinkSpec], machines: Sequence[str], switches: Sequence[str]) -> str:
    known = [name for name in (*machines, *switches) if not name.startswith("?")]
    if not link.a or not link.b:
        return "has no two ends"
    for end in (link.a, link.b):
        if end not in known:
            return f"there is no node, host or switch {end!r}{f.suggestion(end, known)}"
    if link.a == link.b:
        return f"joins {link.a!r} to itself"
    if link.a in machines and link.b in machines:
        return f"joins two machines, {link.a!r} and {link.b!r}: one end must be a switch"
    if any(link.joins(other.a, other.b) for other in sound):
        return f"a second link between {link.a!r} and {link.b!r}"
    for end in (link.a, link.b):
        if end in machines and any(end in (other.a, other.b) for other in sound):
            return f"{end!r} has a link already: a machine has one uplink, eth0"
    return ""


def _root(joined: Mapping[str, str], name: str) -> str:
    while joined[name] != name:
        name = joined[name]
    return name


# --- addresses ----------------------------------------------------------------------------------------------------


def check_cidrs(loaded: ClusterSpec, spec: Fields) -> None:
    """Pods, Services and the underlay must not overlap, and every node needs a pod range of its own."""
    ranges = [
        ("podCIDR", loaded.pod_cidr),
        ("serviceCIDR", loaded.service_cidr),
        ("underlay.cidr", loaded.underlay.cidr),
    ]
    for (name, one), (other_name, other) in combinations(ranges, 2):
        if one.overlaps(other):
            blamed = name if spec.has(name) else other_name.split(".")[0]
            at = spec.raw(blamed) if spec.has(blamed) else None
            spec.problem(at, f"{name} {one} overlaps {other_name} {other}")
    if not 12 <= loaded.service_cidr.prefixlen <= 28:
        message = f"must be from /12 to /28, not /{loaded.service_cidr.prefixlen}"
        spec.problem(spec.raw("serviceCIDR"), message)
    mask, prefix = loaded.node_cidr_mask_size, loaded.pod_cidr.prefixlen
    if prefix > mask:
        spec.problem(spec.raw("nodeCIDRMaskSize"), f"/{mask} is larger than podCIDR {loaded.pod_cidr}")
    elif 1 << (mask - prefix) < len(loaded.nodes):
        message = (
            f"{loaded.pod_cidr} has {1 << (mask - prefix)} ranges of /{mask}, but there are {len(loaded.nodes)} nodes"
        )
        spec.problem(spec.raw("podCIDR"), message)


def check_addresses(loaded: ClusterSpec, spec: Fields, values: Mapping[str, Value | None]) -> None:
    """Every machine has an address of its own inside the underlay."""
    cidr, gateway = loaded.underlay.cidr, loaded.underlay.gateway
    if gateway not in cidr or gateway in (cidr.network_address, cidr.broadcast_address):
        spec.problem(spec.raw("underlay"), f"the gateway {gateway} is no address of a machine in {cidr}")
    owners = {gateway: "the gateway"}
    machines: list[NodeSpec | HostSpec] = [*loaded.nodes, *loaded.hosts]
    for machine in machines:
        message = _address_problem(machine.ip, loaded, owners)
        if message:
            value = values.get(machine.name)
            given = value.data.get("ip") if value and isinstance(value.data, dict) else None
            spec.problem(given or value, message)
        owners[machine.ip] = repr(machine.name)
    for host in loaded.hosts:
        for route in host.routes:
            if route.via not in cidr:
                spec.problem(values.get(host.name), f"the route to {route.to} leads via {route.via}, outside {cidr}")


def _address_problem(ip: IPv4Address, loaded: ClusterSpec, owners: Mapping[IPv4Address, str]) -> str:
    cidr = loaded.underlay.cidr
    if ip == IPv4Address(0):
        return f"no address is left for it in the underlay {cidr}"
    if ip not in cidr:
        return f"{ip} is outside the underlay {cidr}"
    if ip in (cidr.network_address, cidr.broadcast_address):
        return f"{ip} is the network or broadcast address of {cidr}"
    return f"{ip} is the address of {owners[ip]} already" if ip in owners else ""


def check_hosts(loaded: ClusterSpec, spec: Fields, values: Mapping[str, Value | None]) -> None:
    """There is one outside world at most: every node's resolv.conf names it."""
    outside = [host.name for host in loaded.hosts if host.role == "internet"]
    for name in outside[1:]:
        spec.problem(values.get(name), f"a second host has the role internet; {outside[0]!r} has it already")


def check_nodes(loaded: ClusterSpec, spec: Fields) -> None:
    """Exactly one node runs the control plane; etcd has a member on each of one or three."""
    planes = [node.name for node in loaded.nodes if node.role == "control-plane"]
    etcd = loaded.store.driver == "etcd"
    if len(planes) not in ((1, 3) if etcd else (1,)):
        found = f"found {len(planes)}: {', '.join(planes)}" if planes else "found none"
        wanted = "one or three nodes have" if etcd else "exactly one node has"
        hint = "; three need store.driver: etcd" if len(planes) == 3 else ""
        spec.problem(spec.raw("nodes"), f"{wanted} the role control-plane ({found}{hint})", "nodes")
