"""cluster.yaml: what a good one means, and what is said about a bad one."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network

import pytest

from podnet.topology.spec import ClusterSpec, LinkSpec, SpecError, Taint, default_cluster_spec, load_cluster_spec

HEAD = "apiVersion: podnet.dev/v1alpha1\nkind: Cluster\n"
CONTROL_PLANE_TAINT = Taint("node-role.kubernetes.io/control-plane", "NoSchedule")


def load(body: str) -> ClusterSpec:
    return load_cluster_spec(HEAD + body, "cluster.yaml")


def problems(text: str) -> list[str]:
    with pytest.raises(SpecError) as caught:
        load_cluster_spec(text, "cluster.yaml")
    assert str(caught.value) == "\n".join(caught.value.lines())
    return caught.value.lines()


def test_the_shortest_file_is_the_default_cluster() -> None:
    spec = load("")
    assert spec == default_cluster_spec()
    assert [(node.name, node.role, str(node.ip)) for node in spec.nodes] == [
        ("control-plane", "control-plane", "192.168.100.10"),
        ("worker-1", "worker", "192.168.100.11"),
        ("worker-2", "worker", "192.168.100.12"),
    ]
    assert [(host.name, str(host.ip)) for host in spec.hosts] == [("client", "192.168.100.200")]
    assert [(switch.name, switch.kind) for switch in spec.switches] == [("s1", "linux-bridge")]
    assert {frozenset((link.a, link.b)) for link in spec.links} == {
        frozenset((name, "s1")) for name in ("control-plane", "worker-1", "worker-2", "client")
    }
    assert (str(spec.pod_cidr), str(spec.service_cidr)) == ("10.244.0.0/16", "10.96.0.0/16")
    assert (spec.cluster_domain, spec.node_cidr_mask_size) == ("cluster.local", 24)
    assert (str(spec.underlay.cidr), str(spec.underlay.gateway)) == ("192.168.100.0/24", "192.168.100.1")
    assert (spec.overlay.mode, spec.overlay.vni, spec.overlay.port, spec.overlay.mtu) == ("vxlan", 1, 8472, 1450)
    assert str(spec.dns.cluster_ip) == "10.96.0.10"
    assert spec.store.driver == "sqlite"
    assert spec.control_plane.name == "control-plane"


def test_control_plane_has_its_taint_and_workers_none() -> None:
    spec = load("")
    assert [node.taints for node in spec.nodes] == [(CONTROL_PLANE_TAINT,), (), ()]


def test_taints_can_be_taken_away_and_given() -> None:
    spec = load(
        "spec:\n  nodes:\n  - {name: cp, role: control-plane, taints: []}\n"
        "  - {name: w, taints: [{key: example.com/gpu, value: a100, effect: NoExecute}], labels: {zone: a, x.io/y: ''}}\n"
    )
    assert spec.nodes[0].taints == ()
    assert spec.nodes[1].taints == (Taint("example.com/gpu", "NoExecute", "a100"),)
    assert spec.nodes[1].taints[0].to_dict() == {"key": "example.com/gpu", "value": "a100", "effect": "NoExecute"}
    assert spec.nodes[1].labels == {"zone": "a", "x.io/y": ""}


def test_default_spec_takes_a_name_and_a_number_of_workers() -> None:
    spec = default_cluster_spec("demo", workers=4)
    assert spec.name == "demo"
    assert [node.name for node in spec.nodes] == ["control-plane", *(f"worker-{n}" for n in range(1, 5))]
    assert len(default_cluster_spec(workers=0).nodes) == 1


@pytest.mark.parametrize(("name", "workers"), [("Not_OK", 1), ("x" * 64, 1), ("ok", -1), ("ok", 100_000), ("ok", 254)])
def test_default_spec_refuses_what_a_file_would(name: str, workers: int) -> None:
    with pytest.raises(SpecError):
        default_cluster_spec(name, workers)


def test_first_node_is_the_control_plane_when_none_is_named_so() -> None:
    spec = load("spec: {nodes: [{name: a}, {name: b}]}")
    assert [node.role for node in spec.nodes] == ["control-plane", "worker"]
    spec = load("spec: {nodes: [{name: b}, {name: control-plane}]}")
    assert [node.role for node in spec.nodes] == ["worker", "control-plane"]


def test_given_addresses_are_kept_and_skipped() -> None:
    spec = load(
        "spec: {nodes: [{name: a}, {name: b, ip: 192.168.100.10}, {name: c}], hosts: [{name: h, ip: 192.168.100.77}]}"
    )
    assert [str(node.ip) for node in spec.nodes] == ["192.168.100.11", "192.168.100.10", "192.168.100.12"]
    assert str(spec.hosts[0].ip) == "192.168.100.77"


def test_a_node_added_at_the_end_moves_nobody() -> None:
    few, many = default_cluster_spec(workers=3), default_cluster_spec(workers=9)
    assert [node.ip for node in many.nodes[:4]] == [node.ip for node in few.nodes]
    assert many.hosts == few.hosts


def test_no_hosts_at_all() -> None:
    assert load("spec: {hosts: []}").hosts == ()


def test_null_means_absent() -> None:
    assert load("metadata:\nspec:\n  nodes:\n  overlay: ~\n") == default_cluster_spec()


def test_links_with_rates_and_switches_in_a_row() -> None:
    spec = load(
        "spec:\n"
        "  switches: [{name: s1}, {name: s2, kind: openflow}]\n"
        "  links:\n"
        "  - {endpoints: [s1, s2], rate: 1Gbit}\n"
        "  - {endpoints: [s2, worker-2], rate: 100Mbit, delay: 2.5ms, loss: 0.5%}\n"
    )
    assert spec.link("s2", "s1") == LinkSpec("s1", "s2", rate_bit_s=10**9)
    assert spec.link("worker-2", "s2") == LinkSpec("s2", "worker-2", 100_000_000, 2.5, 0.5)
    assert {node.name: node.switch for node in spec.nodes} == {
        "control-plane": "s1",
        "worker-1": "s1",
        "worker-2": "s2",
    }
    assert spec.link("worker-1", "s2") is None


def test_timing_profiles_and_overrides() -> None:
    assert load("").timing.node_monitor_grace_period_s < 10
    upstream = load("spec: {timing: {profile: upstream}}").timing
    assert (
        upstream.node_monitor_grace_period_s,
        upstream.node_status_update_frequency_s,
        upstream.default_toleration_s,
        upstream.node_lease_duration_s,
    ) == (50.0, 10.0, 300, 40)
    mixed = load("spec: {timing: {profile: upstream, nodeMonitorGracePeriod: 1m30s, nodeMonitorPeriod: 500ms}}").timing
    assert (mixed.node_monitor_grace_period_s, mixed.node_monitor_period_s) == (90.0, 0.5)


def test_dns_address_follows_the_service_range() -> None:
    assert load("spec: {serviceCIDR: 10.100.0.0/20}").dns.cluster_ip == IPv4Address("10.100.0.10")


def test_pod_mtu_follows_the_underlay() -> None:
    assert load("spec: {underlay: {mtu: 9000}}").overlay.mtu == 8950


def test_json_is_yaml() -> None:
    spec = load_cluster_spec('{"apiVersion": "podnet.dev/v1alpha1", "kind": "Cluster", "metadata": {"name": "j"}}', "x")
    assert spec.name == "j"


def test_small_underlay_is_filled_from_the_bottom() -> None:
    spec = load("spec: {underlay: {cidr: 172.30.5.0/28}}")
    ips = [*(node.ip for node in spec.nodes), *(host.ip for host in spec.hosts)]
    assert [str(ip) for ip in ips] == ["172.30.5.2", "172.30.5.3", "172.30.5.4", "172.30.5.5"]


def test_host_routes() -> None:
    spec = load("spec: {hosts: [{name: client, routes: [{to: 10.96.0.0/16, via: 192.168.100.11}]}]}")
    (route,) = spec.hosts[0].routes
    assert (route.to, route.via) == (IPv4Network("10.96.0.0/16"), IPv4Address("192.168.100.11"))


@dataclass(frozen=True)
class Bad:
    id: str
    body: str
    expected: str


BAD = [
    Bad(
        "unknown-field-with-suggestion",
        "spec:\n  nodes:\n  - name: a\n  - name: b\n    rol: worker\n",
        'cluster.yaml:7: spec.nodes[1].rol: unknown field (did you mean "role"?)',
    ),
    Bad("unknown-top-level", "specs: {}\n", 'cluster.yaml:3: specs: unknown field (did you mean "spec"?)'),
    Bad("case-matters", "spec: {podCidr: 10.0.0.0/16}\n", 'spec.podCidr: unknown field (did you mean "podCIDR"?)'),
    Bad("unknown-in-overlay", "spec:\n  overlay:\n    mod: vxlan\n", 'cluster.yaml:5: spec.overlay.mod: unknown field (did you mean "mode"?)'),
    Bad("nothing-near", "spec: {zzz: 1}\n", "spec.zzz: unknown field (known here: podCIDR,"),
    Bad("wrong-type-string", "spec: {clusterDomain: 5}\n", "spec.clusterDomain: must be a string, not the number 5"),
    Bad("wrong-type-list", "spec: {nodes: worker-1}\n", "spec.nodes: must be a list, not the string 'worker-1'"),
    Bad("wrong-type-mapping", "spec: {overlay: vxlan}\n", "spec.overlay: must be a mapping, not the string 'vxlan'"),
    Bad("wrong-type-node", "spec: {nodes: [control-plane]}\n", "spec.nodes[0]: must be a mapping, not the string 'control-plane'"),
    Bad("wrong-type-int", "spec: {overlay: {vni: one}}\n", "spec.overlay.vni: must be a whole number, not the string 'one'"),
    Bad("bool-is-no-int", "spec: {overlay: {vni: true}}\n", "spec.overlay.vni: must be a whole number, not the boolean true"),
    Bad("float-is-no-int", "spec: {overlay: {port: 8472.5}}\n", "spec.overlay.port: must be a whole number"),
    Bad("string-is-no-bool", "spec: {dns: {enabled: 'yes'}}\n", "spec.dns.enabled: must be true or false"),
    Bad("vni-range", "spec: {overlay: {vni: 16777216}}\n", "spec.overlay.vni: must be from 1 to 16777215, not 16777216"),
    Bad("port-range", "spec: {overlay: {port: 0}}\n", "spec.overlay.port: must be from 1 to 65535, not 0"),
    Bad("mtu-too-large", "spec: {overlay: {mtu: 1480}}\n", "spec.overlay.mtu: 1480 does not fit: the underlay's 1500 less 50"),
    Bad("overlay-mode", "spec: {overlay: {mode: vxlann}}\n", 'spec.overlay.mode: must be one of vxlan, not the string \'vxlann\' (did you mean "vxlan"?)'),
    Bad("proxy-mode", "spec: {proxy: {mode: ipvs}}\n", "spec.proxy.mode: must be one of nftables, iptables, none"),
    Bad("proxy-masquerade-all", "spec: {proxy: {masqueradeAll: 1}}\n", "spec.proxy.masqueradeAll: must be true or false"),
    Bad("store-driver", "spec: {store: {driver: mysql}}\n", "spec.store.driver: must be one of sqlite, memory"),
    Bad("switch-kind", "spec: {switches: [{name: s1, kind: openflo}]}\n", '(did you mean "openflow"?)'),
    Bad("role", "spec: {nodes: [{name: a, role: master}]}\n", "spec.nodes[0].role: must be one of control-plane, worker"),
    Bad("cidr-without-prefix", "spec: {podCIDR: 10.244.0.0}\n", "spec.podCIDR: '10.244.0.0' is not a CIDR block: it has no /prefix"),
    Bad("cidr-host-bits", "spec: {podCIDR: 10.244.1.0/16}\n", '(did you mean "10.244.0.0/16"?)'),
    Bad("cidr-garbage", "spec: {podCIDR: ten/8}\n", "spec.podCIDR: 'ten/8' is not an IPv4 CIDR block"),
    Bad("cidr-ipv6", "spec: {podCIDR: 'fd00::/64'}\n", "is not an IPv4 CIDR block"),
    Bad("cidr-prefix", "spec: {podCIDR: 10.0.0.0/40}\n", "is not an IPv4 CIDR block"),
    Bad("overlap-pods-services", "spec: {podCIDR: 10.96.0.0/12}\n", "spec.podCIDR: podCIDR 10.96.0.0/12 overlaps serviceCIDR 10.96.0.0/16"),
    Bad("overlap-underlay", "spec: {underlay: {cidr: 10.244.7.0/24}}\n", "overlaps underlay.cidr 10.244.7.0/24"),
    Bad("too-few-pod-ranges", "spec: {podCIDR: 10.244.0.0/23}\n", "spec.podCIDR: 10.244.0.0/23 has 2 ranges of /24, but there are 3 nodes"),
    Bad("mask-larger-than-pods", "spec: {nodeCIDRMaskSize: 12}\n", "spec.nodeCIDRMaskSize: /12 is larger than podCIDR"),
    Bad("service-range-too-small", "spec: {serviceCIDR: 10.96.0.0/30}\n", "spec.serviceCIDR: must be from /12 to /28, not /30"),
    Bad("dns-outside", "spec: {dns: {clusterIP: 10.1.1.1}}\n", "spec.dns.clusterIP: 10.1.1.1 is outside the Service range"),
    Bad("dns-is-kubernetes", "spec: {dns: {clusterIP: 10.96.0.1}}\n", "spec.dns.clusterIP: 10.96.0.1 belongs to the Service kubernetes"),
    Bad("ip-outside", "spec: {nodes: [{name: a, ip: 10.0.0.1}]}\n", "spec.nodes[0].ip: 10.0.0.1 is outside the underlay 192.168.100.0/24"),
    Bad("ip-network-address", "spec: {nodes: [{name: a, ip: 192.168.100.0}]}\n", "is the network or broadcast address"),
    Bad("ip-broadcast", "spec: {nodes: [{name: a, ip: 192.168.100.255}]}\n", "is the network or broadcast address"),
    Bad("ip-gateway", "spec: {nodes: [{name: a, ip: 192.168.100.1}]}\n", "spec.nodes[0].ip: 192.168.100.1 is the address of the gateway already"),
    Bad("ip-twice", "spec:\n  nodes:\n  - {name: a, ip: 192.168.100.9}\n  - {name: b, ip: 192.168.100.9}\n", "cluster.yaml:6: spec.nodes[1].ip: 192.168.100.9 is the address of 'a' already"),
    Bad("ip-garbage", "spec: {nodes: [{name: a, ip: 192.168.100.300}]}\n", "spec.nodes[0].ip: '192.168.100.300' is not an IPv4 address"),
    Bad("ip-unspecified", "spec: {nodes: [{name: a, ip: 0.0.0.0}]}\n", "spec.nodes[0].ip: '0.0.0.0' is no address of a machine"),
    Bad("underlay-full", "spec: {underlay: {cidr: 10.9.0.0/29}, nodes: [{name: a}, {name: b}, {name: c}, {name: d}, {name: e}, {name: f}]}\n", "no address is left for it in the underlay 10.9.0.0/29"),
    Bad("underlay-too-small", "spec: {underlay: {cidr: 10.9.0.0/30}}\n", "spec.underlay.cidr: must be from /8 to /29"),
    Bad("gateway-outside", "spec: {underlay: {gateway: 10.0.0.1}}\n", "the gateway 10.0.0.1 is no address of a machine in 192.168.100.0/24"),
    Bad("name-missing", "spec: {nodes: [{role: control-plane}]}\n", "spec.nodes[0].name: is required"),
    Bad("name-upper-case", "spec: {nodes: [{name: Worker}]}\n", "spec.nodes[0].name: 'Worker' is not a DNS-1123 label"),
    Bad("name-underscore", "metadata: {name: my_cluster}\n", "metadata.name: 'my_cluster' is not a DNS-1123 label"),
    Bad("name-too-long", f"metadata: {{name: {'x' * 64}}}\n", "is not a DNS-1123 label"),
    Bad("node-name-too-long", f"spec: {{nodes: [{{name: {'x' * 53}}}]}}\n", "is longer than 52 characters"),
    Bad("name-newline", 'metadata: {name: "a\\n"}\n', "is not a DNS-1123 label"),
    Bad("name-number", "spec: {nodes: [{name: 7}]}\n", "spec.nodes[0].name: must be a string, not the number 7"),
    Bad("name-twice", "spec: {nodes: [{name: a}, {name: a}]}\n", "spec.nodes[1]: the name 'a' is taken by another machine"),
    Bad("host-named-as-node", "spec: {hosts: [{name: worker-1}]}\n", "spec.hosts[0]: the name 'worker-1' is taken by another machine"),
    Bad("node-named-as-switch", "spec: {nodes: [{name: s1}]}\n", "spec.nodes[0]: the name 's1' is taken by a switch"),
    Bad("switch-twice", "spec: {switches: [{name: s1}, {name: s1}]}\n", "spec.switches[1]: a second switch is called 's1'"),
    Bad("switch-name-too-long", "spec: {switches: [{name: a-name-of-16-chr}]}\n", "is longer than the 15 characters of an interface name"),
    Bad("switch-named-lo", "spec: {switches: [{name: lo}]}\n", "'lo' is an interface name with a meaning of its own"),
    Bad("no-switches", "spec: {switches: []}\n", "spec.switches: at least one switch is needed"),
    Bad("no-control-plane", "spec: {nodes: [{name: a, role: worker}]}\n", "exactly one node has the role control-plane (found none)"),
    Bad("no-nodes", "spec: {nodes: []}\n", "exactly one node has the role control-plane (found none)"),
    Bad("two-control-planes", "spec: {nodes: [{name: a, role: control-plane}, {name: b, role: control-plane}]}\n", "(found 2: a, b)"),
    Bad("three-control-planes-without-etcd", "spec: {nodes: [{name: a, role: control-plane}, {name: b, role: control-plane}, {name: c, role: control-plane}]}\n", "exactly one node has the role control-plane (found 3: a, b, c; three need store.driver: etcd)"),
    Bad("two-etcd-members", "spec: {store: {driver: etcd}, nodes: [{name: a, role: control-plane}, {name: b, role: control-plane}]}\n", "one or three nodes have the role control-plane (found 2: a, b)"),
    Bad("unknown-switch", "spec: {nodes: [{name: a, switch: s2}]}\n", "spec.nodes[0].switch: there is no switch 's2' (known here: s1)"),
    Bad("link-unknown-end", "spec: {links: [{endpoints: [worker-1, sw]}]}\n", "spec.links[0]: there is no node, host or switch 'sw'"),
    Bad("link-misspelt-end", "spec: {links: [{endpoints: [worker-11, s1]}]}\n", '(did you mean "worker-1"?)'),
    Bad("link-one-end", "spec: {links: [{endpoints: [worker-1]}]}\n", "spec.links[0].endpoints: must be two names"),
    Bad("link-no-ends", "spec: {links: [{rate: 1Mbit}]}\n", "spec.links[0].endpoints: is required: two names"),
    Bad("link-to-itself", "spec: {links: [{endpoints: [s1, s1]}]}\n", "spec.links[0]: joins 's1' to itself"),
    Bad("link-two-machines", "spec: {links: [{endpoints: [worker-1, worker-2]}]}\n", "one end must be a switch"),
    Bad("link-twice", "spec: {links: [{endpoints: [worker-1, s1]}, {endpoints: [s1, worker-1]}]}\n", "spec.links[1]: a second link between 's1' and 'worker-1'"),
    Bad("two-uplinks", "spec: {switches: [{name: s1}, {name: s2}], links: [{endpoints: [s1, s2]}, {endpoints: [worker-1, s1]}, {endpoints: [worker-1, s2]}]}\n", "spec.links[2]: 'worker-1' has a link already"),
    Bad("switch-and-link-differ", "spec: {switches: [{name: s1}, {name: s2}], nodes: [{name: a, switch: s1}], links: [{endpoints: [s1, s2]}, {endpoints: [a, s2]}]}\n", "'a' is plugged into 's1', but its link says 's2'"),
    Bad("loop", "spec:\n  switches: [{name: a}, {name: b}, {name: c}]\n  links:\n  - {endpoints: [a, b]}\n  - {endpoints: [b, c]}\n  - {endpoints: [c, a]}\n", "cluster.yaml:8: spec.links[2]: 'c' and 'a' are joined already: switches run no spanning tree"),
    Bad("islands", "spec: {switches: [{name: a}, {name: b}]}\n", "spec.links: switches 'a', 'b' are not joined by links"),
    Bad("rate-garbage", "spec: {links: [{endpoints: [worker-1, s1], rate: fast}]}\n", "spec.links[0].rate: must be a rate such as 100Mbit, not the string 'fast'"),
    Bad("rate-number", "spec: {links: [{endpoints: [worker-1, s1], rate: 100}]}\n", "spec.links[0].rate: must be a rate such as 100Mbit"),
    Bad("rate-too-low", "spec: {links: [{endpoints: [worker-1, s1], rate: 1bit}]}\n", "must be from 8kbit to 10Tbit"),
    Bad("rate-negative", "spec: {links: [{endpoints: [worker-1, s1], rate: -1Mbit}]}\n", "must be a rate such as 100Mbit"),
    Bad("delay-garbage", "spec: {links: [{endpoints: [worker-1, s1], delay: soon}]}\n", "spec.links[0].delay: must be a duration"),
    Bad("loss-over-100", "spec: {links: [{endpoints: [worker-1, s1], loss: 101%}]}\n", "spec.links[0].loss: must be a percentage"),
    Bad("label-key", "spec: {nodes: [{name: a, labels: {'-x': y}}]}\n", "'-x' is not a qualified name"),
    Bad("label-value-type", "spec: {nodes: [{name: a, labels: {x: 5}}]}\n", "spec.nodes[0].labels.x: must be a string, not the number 5"),
    Bad("taint-effect", "spec: {nodes: [{name: a, taints: [{key: x, effect: NoSchedul}]}]}\n", '(did you mean "NoSchedule"?)'),
    Bad("taint-key", "spec: {nodes: [{name: a, taints: [{effect: NoSchedule}]}]}\n", "spec.nodes[0].taints[0].key: is required"),
    Bad("grace-shorter-than-lease", "spec: {timing: {nodeMonitorGracePeriod: 1s}}\n", "spec.timing.nodeMonitorGracePeriod: 1s must be longer than a lease renewal"),
    Bad("duration", "spec: {timing: {nodeMonitorPeriod: 5 seconds}}\n", "spec.timing.nodeMonitorPeriod: must be a duration such as 40s"),
    Bad("duration-infinite", "spec: {timing: {nodeMonitorPeriod: .inf}}\n", "must be from 0.05s to 3600s"),
    Bad("duration-nan", "spec: {timing: {nodeMonitorPeriod: .nan}}\n", "must be from 0.05s to 3600s"),
    Bad("profile", "spec: {timing: {profile: production}}\n", "spec.timing.profile: must be one of lab, upstream"),
    Bad("route-via-outside", "spec: {hosts: [{name: c, routes: [{to: 10.96.0.0/16, via: 10.0.0.1}]}]}\n", "the route to 10.96.0.0/16 leads via 10.0.0.1, outside 192.168.100.0/24"),
    Bad("key-twice", "spec:\n  podCIDR: 10.1.0.0/16\n  podCIDR: 10.2.0.0/16\n", "cluster.yaml:5: spec.podCIDR: given twice (first in line 4)"),
    Bad("key-no-string", "spec: {1: 2}\n", "spec: a field's name must be a string, not '1'"),
]  # fmt: skip


@pytest.mark.parametrize("case", BAD, ids=lambda case: case.id)
def test_bad_files_are_refused_by_path_and_line(case: Bad) -> None:
    lines = problems(HEAD + case.body)
    assert any(case.expected in line for line in lines), lines
    assert all(line.startswith("cluster.yaml") for line in lines)


def test_every_problem_is_reported_at_once() -> None:
    lines = problems(HEAD + "spec:\n  podCIDR: x\n  overlay: {vni: 0}\n  nodes:\n  - {nam: a}\n")
    text = "\n".join(lines)
    for path in ("spec.podCIDR", "spec.overlay.vni", "spec.nodes[0].nam", "spec.nodes[0].name"):
        assert path in text
    assert lines == sorted(lines, key=lambda line: int(line.split(":")[1]))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "cluster.yaml:1: empty: expected apiVersion, kind, metadata and spec"),
        ("# nothing\n", "empty"),
        ("[1, 2]", "cluster.yaml:1: must be a mapping, not a list"),
        ("just words", "must be a mapping, not the string 'just words'"),
        ("a: [", "not YAML"),
        ("a: *nowhere", "not YAML: found undefined alias"),
        ("\ta: 1", "not YAML"),
        ("a: 1\n---\nb: 2", "cluster.yaml:2: not YAML: but found another document"),
        ("&a [*a]", "an alias contains itself"),
        ("a: !!python/object/apply:os.system ['true']", "not YAML"),
        ("a: !foo bar", "not YAML"),
        ("\x00", "not YAML"),
        ("a: 2001-99-99", "not YAML"),
        ("apiVersion: v1\nkind: Cluster\n", "apiVersion: must be one of podnet.dev/v1alpha1, not the string 'v1'"),
        ("kind: Cluster\n", "apiVersion: is required"),
        ("apiVersion: podnet.dev/v1alpha1\n", "kind: is required"),
        ("? {a: b}\n: 1\n", "a field's name must be a string"),
        ("[" * 5000, "not YAML"),
    ],
)
def test_garbage_is_refused(text: str, expected: str) -> None:
    lines = problems(text)
    assert any(expected in line for line in lines), lines


def test_aliases_cannot_multiply_without_end() -> None:
    bomb = "a: &a [x, x, x, x, x, x, x, x, x, x]\n"
    for previous, name in zip("abcdef", "bcdefg", strict=True):
        bomb += f"{name}: &{name} [{', '.join([f'*{previous}'] * 10)}]\n"
    assert any("more than 20000 values" in line for line in problems(bomb))


def test_an_enormous_file_is_refused() -> None:
    assert any("larger than" in line for line in problems("#" * (2 << 20)))
