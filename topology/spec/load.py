"""cluster.yaml → ClusterSpec: every field read, every default filled in, every problem reported at once.

Pure. `fields` knows types, `rules` knows what must fit together; this file knows the fields and their defaults.
"""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import IPv4Address, IPv4Network
from typing import Any, NamedTuple

from podnet.topology.spec import fields as f
from podnet.topology.spec import rules
from podnet.topology.spec.addresses import assign_addresses
from podnet.topology.spec.document import DocumentError, Value, parse_document
from podnet.topology.spec.fields import Fields
from podnet.topology.spec.types import (
    API_VERSION,
    CONTROL_PLANE_LABEL,
    HOST_ROLES,
    KIND,
    OVERLAY_MODES,
    PROFILES,
    PROXY_MODES,
    ROLES,
    STORE_DRIVERS,
    SWITCH_KINDS,
    TAINT_EFFECTS,
    TIMING_PROFILES,
    ClusterSpec,
    DNSSpec,
    HostRoute,
    HostSpec,
    LinkSpec,
    NodeSpec,
    OverlaySpec,
    Problem,
    ProxySpec,
    SpecError,
    StoreSpec,
    SwitchSpec,
    Taint,
    TimingSpec,
    UnderlaySpec,
)

_UNSET = IPv4Address(0)
_KUBE_DNS_OFFSET = 10
DEFAULT_NAME = "default"
DEFAULT_SWITCH = "s1"
DEFAULT_HOST = "client"
INTERNET_HOST = "internet"
DEFAULT_WORKERS = 2
CONTROL_PLANE_TAINT = Taint(CONTROL_PLANE_LABEL, "NoSchedule")
NODES_MAX = 250
HOSTS_MAX = 100
SWITCHES_MAX = 64
VXLAN_OVERHEAD = 50


class _Machine(NamedTuple):
    """A node or host before its address and switch are settled."""

    name: str
    value: Value | None
    ip: IPv4Address
    switch: str


def load_cluster_spec(text: str, source: str = "cluster.yaml") -> ClusterSpec:
    """The spec of a cluster.yaml. SpecError lists everything that is wrong with it, by line and path."""
    try:
        root = parse_document(text)
    except DocumentError as error:
        raise SpecError(source, error.problems) from error
    problems: list[Problem] = []
    spec = _cluster(Fields(root, "", problems))
    if problems:
        raise SpecError(source, tuple(dict.fromkeys(problems)))
    return spec


def default_cluster_spec(
    name: str = DEFAULT_NAME, workers: int = DEFAULT_WORKERS, *, internet: bool = False
) -> ClusterSpec:
    """One control-plane node, some workers, one outside host (two with `internet`), one Linux bridge."""
    problems: list[Problem] = []
    if not 0 <= workers < NODES_MAX:
        raise SpecError("", (Problem("", 0, f"workers must be from 0 to {NODES_MAX - 1}, not {workers}"),))
    names = ["control-plane", *(f"worker-{n + 1}" for n in range(workers))]
    nodes = [Value({"name": Value(node, "", 0)}, f"spec.nodes[{n}]", 0) for n, node in enumerate(names)]
    spec: dict[str, Any] = {"nodes": Value(nodes, "spec.nodes", 0)}
    if internet:
        roles = ((DEFAULT_HOST, "client"), (INTERNET_HOST, "internet"))
        hosts = [{"name": Value(host, "", 0), "role": Value(role, "", 0)} for host, role in roles]
        spec["hosts"] = Value([Value(host, "", 0) for host in hosts], "spec.hosts", 0)
    top: dict[str, Any] = {
        "apiVersion": Value(API_VERSION, "apiVersion", 0),
        "kind": Value(KIND, "kind", 0),
        "metadata": Value({"name": Value(name, "metadata.name", 0)}, "metadata", 0),
        "spec": Value(spec, "spec", 0),
    }
    loaded = _cluster(Fields(Value(top, "", 0), "", problems))
    if problems:
        raise SpecError("", tuple(problems))
    return loaded


def _cluster(top: Fields) -> ClusterSpec:
    top.required("apiVersion", API_VERSION, f.one_of((API_VERSION,)))
    top.required("kind", KIND, f.one_of((KIND,)))
    metadata = top.mapping("metadata")
    name = metadata.parsed("name", DEFAULT_NAME, f.dns_label)
    metadata.done()
    spec = top.mapping("spec")
    top.done()
    before = len(top.problems)
    pod_cidr = spec.parsed("podCIDR", IPv4Network("10.244.0.0/16"), f.ipv4_network)
    service_cidr = spec.parsed("serviceCIDR", IPv4Network("10.96.0.0/16"), f.ipv4_network)
    underlay = _underlay(spec.mapping("underlay"))
    mask_size = spec.parsed("nodeCIDRMaskSize", max(24, pod_cidr.prefixlen), f.integer(8, 30))
    cidrs_sound = len(top.problems) == before
    switches = _switches(spec)
    nodes, hosts = _nodes(spec), _hosts(spec)
    links, attached = _links(spec, nodes, hosts, switches)
    ips = assign_addresses(underlay, [m.ip for _, m in nodes], [m.ip for m, _ in hosts], unset=_UNSET)
    loaded = ClusterSpec(
        name=name,
        nodes=tuple(
            NodeSpec(m.name, extra.role, ip, attached[m.name], extra.labels, extra.taints)
            for (extra, m), ip in zip(nodes, ips.nodes, strict=True)
        ),
        hosts=tuple(
            HostSpec(m.name, ip, attached[m.name], extra.routes, extra.role)
            for (m, extra), ip in zip(hosts, ips.hosts, strict=True)
        ),
        switches=tuple(switches),
        links=links,
        pod_cidr=pod_cidr,
        service_cidr=service_cidr,
        node_cidr_mask_size=mask_size,
        cluster_domain=spec.parsed("clusterDomain", "cluster.local", f.dns_subdomain),
        underlay=underlay,
        overlay=_overlay(spec.mapping("overlay"), underlay),
        proxy=_proxy(spec.mapping("proxy")),
        dns=_dns(spec.mapping("dns"), service_cidr),
        store=_store(spec.mapping("store")),
        timing=_timing(spec.mapping("timing")),
    )
    spec.done()
    values = {m.name: m.value for m in [*(m for _, m in nodes), *(m for m, _ in hosts)]}
    if cidrs_sound:
        rules.check_cidrs(loaded, spec)
        rules.check_addresses(loaded, spec, values)
    rules.check_nodes(loaded, spec)
    rules.check_hosts(loaded, spec, values)
    return loaded


# --- nodes and hosts ----------------------------------------------------------------------------------------------


class _NodeExtra(NamedTuple):
    """What only nodes have."""

    role: Any
    labels: Mapping[str, str]
    taints: tuple[Taint, ...]


def _nodes(spec: Fields) -> list[tuple[_NodeExtra, _Machine]]:
    given = spec.items("nodes")
    if given is None:
        names = ["control-plane", *(f"worker-{n + 1}" for n in range(DEFAULT_WORKERS))]
        given = [Value({"name": Value(node, "", spec.line)}, "spec.nodes", spec.line) for node in names]
    _limit(spec, "nodes", given, NODES_MAX)
    taken = {str(v.data["name"].data) for v in given if isinstance(v.data, dict) and "name" in v.data}
    return [_node(value, n, taken, spec.problems) for n, value in enumerate(given)]


def _node(value: Value, number: int, taken: set[str], problems: list[Problem]) -> tuple[_NodeExtra, _Machine]:
    fields = Fields(value, value.path, problems)
    name = fields.required("name", f"?{number}", rules.node_name)
    default_role = "control-plane" if name == "control-plane" or (number == 0 and "control-plane" not in taken) else ""
    role = fields.parsed("role", default_role or "worker", f.one_of(ROLES))
    ip = fields.parsed("ip", _UNSET, f.machine_address)
    switch = fields.parsed("switch", "", f.text)
    labels = rules.checked_labels(fields.mapping("labels"))
    taints: tuple[Taint, ...] = (CONTROL_PLANE_TAINT,) if role == "control-plane" else ()
    given = fields.items("taints")
    if given is not None:
        taints = tuple(_taint(item, problems) for item in given)
    fields.done()
    return _NodeExtra(role, labels, taints), _Machine(name, value, ip, switch)


def _taint(value: Value, problems: list[Problem]) -> Taint:
    fields = Fields(value, value.path, problems)
    key = fields.required("key", "", rules.qualified_name)
    taint = Taint(
        key, fields.required("effect", "", f.one_of(TAINT_EFFECTS)), fields.parsed("value", "", rules.label_value)
    )
    fields.done()
    return taint


class _HostExtra(NamedTuple):
    """What only hosts have."""

    routes: tuple[HostRoute, ...]
    role: Any


def _hosts(spec: Fields) -> list[tuple[_Machine, _HostExtra]]:
    given = spec.items("hosts")
    if given is None:
        given = [Value({"name": Value(DEFAULT_HOST, "", spec.line)}, "spec.hosts", spec.line)]
    _limit(spec, "hosts", given, HOSTS_MAX)
    return [_host(value, n, spec.problems) for n, value in enumerate(given)]


def _host(value: Value, number: int, problems: list[Problem]) -> tuple[_Machine, _HostExtra]:
    fields = Fields(value, value.path, problems)
    name = fields.required("name", f"?h{number}", f.dns_label)
    machine = _Machine(name, value, fields.parsed("ip", _UNSET, f.machine_address), fields.parsed("switch", "", f.text))
    routes = tuple(_host_route(item, problems) for item in fields.items("routes") or [])
    role = fields.parsed("role", "client", f.one_of(HOST_ROLES))
    fields.done()
    return machine, _HostExtra(routes, role)


def _host_route(value: Value, problems: list[Problem]) -> HostRoute:
    fields = Fields(value, value.path, problems)
    route = HostRoute(
        fields.required("to", IPv4Network("0.0.0.0/0"), f.ipv4_network), fields.required("via", _UNSET, f.ipv4_address)
    )
    fields.done()
    return route


def _limit(spec: Fields, name: str, given: list[Value], most: int) -> None:
    if len(given) > most:
        spec.problem(given[most], f"at most {most} {name}")


# --- switches and links -------------------------------------------------------------------------------------------


def _switches(spec: Fields) -> list[SwitchSpec]:
    given = spec.items("switches")
    if given is None:
        return [SwitchSpec(DEFAULT_SWITCH)]
    _limit(spec, "switches", given, SWITCHES_MAX)
    if not given:
        spec.problem(None, "at least one switch is needed", "switches")
    switches = []
    for value in given:
        fields = Fields(value, value.path, spec.problems)
        name = fields.required("name", "", rules.switch_name)
        switches.append(SwitchSpec(name, fields.parsed("kind", "linux-bridge", f.one_of(SWITCH_KINDS))))
        fields.done()
        if [s.name for s in switches].count(name) > 1:
            spec.problem(value, f"a second switch is called {name!r}")
    return switches or [SwitchSpec(DEFAULT_SWITCH)]


def _links(
    spec: Fields,
    nodes: list[tuple[_NodeExtra, _Machine]],
    hosts: list[tuple[_Machine, _HostExtra]],
    switches: list[SwitchSpec],
) -> tuple[tuple[LinkSpec, ...], dict[str, str]]:
    """All cables, and the switch of every machine: as it says itself, as its cable says, else the first switch."""
    machines = [*(machine for _, machine in nodes), *(machine for machine, _ in hosts)]
    rules.check_names(machines, switches, spec)
    given = [(value, _link(value, spec.problems)) for value in spec.items("links") or []]
    explicit = rules.check_links(given, [m.name for m in machines], [s.name for s in switches], spec)
    attached: dict[str, str] = {}
    links = list(explicit)
    for machine in machines:
        cable = next((link for link in explicit if machine.name in (link.a, link.b)), None)
        cabled = (cable.b if cable.a == machine.name else cable.a) if cable else ""
        rules.check_uplink(machine, cabled, [s.name for s in switches], spec)
        attached[machine.name] = machine.switch or cabled or switches[0].name
        if cable is None:
            links.append(LinkSpec(machine.name, attached[machine.name]))
    return tuple(links), attached


def _link(value: Value, problems: list[Problem]) -> LinkSpec:
    fields = Fields(value, value.path, problems)
    ends = fields.items("endpoints")
    names = ["", ""]
    if ends is None:
        if not fields.has("endpoints"):
            fields.problem(None, "is required: two names", "endpoints")
    elif len(ends) != 2 or not all(isinstance(end.data, str) for end in ends):
        fields.problem(value.data["endpoints"], "must be two names, of a switch and of what is plugged into it")
    else:
        names = [end.data for end in ends]
    link = LinkSpec(
        names[0],
        names[1],
        rate_bit_s=fields.parsed("rate", 0, f.rate_bit_s),
        delay_ms=round(fields.parsed("delay", 0.0, f.duration_s(0, 10)) * 1000, 3),
        loss_percent=fields.parsed("loss", 0.0, f.percent),
    )
    fields.done()
    return link


# --- the small blocks ---------------------------------------------------------------------------------------------


def _underlay(fields: Fields) -> UnderlaySpec:
    cidr = fields.parsed("cidr", UnderlaySpec().cidr, f.ipv4_network)
    if not 8 <= cidr.prefixlen <= 29:
        fields.problem(fields.raw("cidr"), f"must be from /8 to /29 to hold nodes, not /{cidr.prefixlen}")
        cidr = UnderlaySpec().cidr
    gateway = fields.parsed("gateway", cidr[1], f.ipv4_address)
    mtu = fields.parsed("mtu", 1500, f.integer(576, 9216))
    fields.done()
    return UnderlaySpec(cidr, gateway, mtu)


def _overlay(fields: Fields, underlay: UnderlaySpec) -> OverlaySpec:
    mode = fields.parsed("mode", "vxlan", f.one_of(OVERLAY_MODES))
    most = underlay.mtu - VXLAN_OVERHEAD
    overlay = OverlaySpec(
        mode=mode,
        vni=fields.parsed("vni", 1, f.integer(1, (1 << 24) - 1)),
        port=fields.parsed("port", 8472, f.integer(1, 65535)),
        mtu=fields.parsed("mtu", most, f.integer(68, 9216)),
    )
    if overlay.mtu > most:
        message = f"{overlay.mtu} does not fit: the underlay's {underlay.mtu} less {VXLAN_OVERHEAD} for VXLAN is {most}"
        fields.problem(fields.raw("mtu"), message)
    fields.done()
    return overlay


def _proxy(fields: Fields) -> ProxySpec:
    mode = fields.parsed("mode", "nftables", f.one_of(PROXY_MODES))
    proxy = ProxySpec(mode, masquerade_all=fields.parsed("masqueradeAll", False, f.boolean))
    fields.done()
    return proxy


def _dns(fields: Fields, service_cidr: IPv4Network) -> DNSSpec:
    enabled = fields.parsed("enabled", True, f.boolean)
    offset = min(_KUBE_DNS_OFFSET, service_cidr.num_addresses - 1)
    cluster_ip = fields.parsed("clusterIP", service_cidr[offset], f.ipv4_address)
    if cluster_ip not in service_cidr:
        fields.problem(fields.raw("clusterIP"), f"{cluster_ip} is outside the Service range {service_cidr}")
    elif cluster_ip == service_cidr[1] and service_cidr.num_addresses > 2:
        fields.problem(fields.raw("clusterIP"), f"{cluster_ip} belongs to the Service kubernetes")
    node_names = fields.parsed("nodeNames", False, f.boolean)
    fields.done()
    return DNSSpec(enabled, cluster_ip, node_names)


def _store(fields: Fields) -> StoreSpec:
    store = StoreSpec(fields.parsed("driver", "sqlite", f.one_of(STORE_DRIVERS)))
    fields.done()
    return store


def _timing(fields: Fields) -> TimingSpec:
    base = TIMING_PROFILES[fields.parsed("profile", "lab", f.one_of(PROFILES))]
    seconds = f.duration_s(0.05, 3600)
    timing = TimingSpec(
        profile=base.profile,
        node_monitor_period_s=fields.parsed("nodeMonitorPeriod", base.node_monitor_period_s, seconds),
        node_monitor_grace_period_s=fields.parsed("nodeMonitorGracePeriod", base.node_monitor_grace_period_s, seconds),
        node_status_update_frequency_s=fields.parsed(
            "nodeStatusUpdateFrequency", base.node_status_update_frequency_s, seconds
        ),
        node_lease_duration_s=fields.parsed("nodeLeaseDurationSeconds", base.node_lease_duration_s, f.integer(1, 3600)),
        default_toleration_s=fields.parsed(
            "defaultTolerationSeconds", base.default_toleration_s, f.integer(0, 1 << 31)
        ),
    )
    # A node renews its lease every quarter of its duration; a shorter grace would call healthy nodes NotReady.
    renewal_s = timing.node_lease_duration_s / 4
    if timing.node_monitor_grace_period_s <= renewal_s:
        grace = f"{timing.node_monitor_grace_period_s:g}s"
        message = f"{grace} must be longer than a lease renewal ({renewal_s:g}s, a quarter of nodeLeaseDurationSeconds)"
        fields.problem(fields.raw("nodeMonitorGracePeriod"), message)
    fields.done()
    return timing
