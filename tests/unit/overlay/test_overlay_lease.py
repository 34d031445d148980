"""Node objects in, leases out; what a node publishes about itself."""

from __future__ import annotations

import json
from ipaddress import IPv4Address, IPv4Network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from podnet.overlay.condition import network_condition_patch
from podnet.overlay.lease import (
    Lease,
    annotation_patch,
    parse_lease,
    parse_leases,
    render_annotations,
    render_subnet_env,
    valid_mac,
)
from podnet.overlay.masquerade import render_masquerade, render_no_masquerade

PREFIX = "flannel.alpha.coreos.com/"
GOOD = {
    PREFIX + "backend-type": "vxlan",
    PREFIX + "backend-data": '{"VNI":1,"VtepMAC":"8e:1f:00:00:00:01"}',
    PREFIX + "public-ip": "192.168.100.11",
    PREFIX + "kube-subnet-manager": "true",
}


def node(name="w1", cidr="10.244.1.0/24", annotations=None, **changed):
    notes = dict(GOOD if annotations is None else annotations)
    notes |= {PREFIX + key.replace("_", "-"): value for key, value in changed.items()}
    return {"metadata": {"name": name, "annotations": notes}, "spec": {"podCIDR": cidr} if cidr else {}}


def test_a_lease():
    assert parse_lease(node()) == Lease(
        "w1", IPv4Network("10.244.1.0/24"), IPv4Address("192.168.100.11"), "8e:1f:00:00:00:01", 1, "vxlan"
    )


@pytest.mark.parametrize(
    "broken",
    [
        node(cidr=None),
        node(cidr="10.244.1.7/24"),
        node(cidr="fd00::/64"),
        node(annotations={}),
        {"metadata": {"name": "w1"}},
        {"metadata": {"name": "w1", "annotations": None}, "spec": None},
        node(public_ip=""),
        node(public_ip="not an address"),
        node(public_ip="0.0.0.0"),
        node(public_ip="239.1.1.1"),
        node(public_ip="127.0.0.1"),
        node(public_ip="255.255.255.255"),
        node(backend_type=""),
        node(backend_data=""),
        node(backend_data="{"),
        node(backend_data="null"),
        node(backend_data="[]"),
        node(backend_data='{"VNI":"1","VtepMAC":"8e:1f:00:00:00:01"}'),
        node(backend_data='{"VNI":1,"VtepMAC":"01:00:5e:00:00:01"}'),
        node(backend_data='{"VNI":1,"VtepMAC":"junk"}'),
        node(backend_data='{"VNI":1}'),
    ],
)
def test_a_broken_node_has_no_lease_and_breaks_nobody(broken):
    assert parse_lease(broken) is None
    assert [
        lease.node
        for lease in parse_leases(
            [broken, node("w2", "10.244.2.0/24", backend_data='{"VNI":1,"VtepMAC":"8e:1f:00:00:00:02"}')]
        )
    ] == ["w2"]


def test_the_overwrite_annotation_wins():
    assert str(parse_lease(node(public_ip_overwrite="203.0.113.9")).public_ip) == "203.0.113.9"


def test_dual_stack_nodes_give_their_ipv4_subnet():
    both = node(cidr="fd00::/64")
    both["spec"]["podCIDRs"] = ["fd00::/64", "10.244.5.0/24"]
    assert str(parse_lease(both).pod_cidr) == "10.244.5.0/24"


@pytest.mark.parametrize(
    "second",
    [node("w2", "10.244.1.0/25", backend_data='{"VNI":1,"VtepMAC":"8e:1f:00:00:00:02"}'), node("w2", "10.244.2.0/24")],
    ids=["same subnet", "same MAC"],
)
def test_rivals_are_settled_alike_by_everybody(second):
    assert [lease.node for lease in parse_leases([second, node()])] == ["w1"]
    assert parse_leases([node(), second]) == parse_leases([second, node()])


def test_the_older_node_keeps_what_a_newcomer_claims():
    old, new = node("w2"), node("a1", backend_data='{"VNI":1,"VtepMAC":"8e:1f:00:00:00:02"}')
    old["metadata"]["creationTimestamp"] = "2026-01-01T00:00:00Z"
    new["metadata"]["creationTimestamp"] = "2026-01-02T00:00:00Z"
    assert [lease.node for lease in parse_leases([new, old])] == ["w2"]


def test_what_lies_outside_the_pod_network_takes_nothing_away():
    wide = node("a1", "10.0.0.0/8", backend_data='{"VNI":1,"VtepMAC":"8e:1f:00:00:00:02"}')
    assert [lease.node for lease in parse_leases([wide, node()], IPv4Network("10.244.0.0/16"))] == ["w1"]


macs = st.binary(min_size=6, max_size=6).map(lambda raw: bytes([raw[0] & 0xFE, *raw[1:]]).hex(":"))
leases = st.builds(
    Lease,
    st.just("w1"),
    st.integers(0, 255).map(lambda n: IPv4Network(f"10.244.{n}.0/24")),
    st.integers(1, 254).map(lambda n: IPv4Address(f"192.168.100.{n}")),
    macs,
    st.integers(1, 2**24 - 1),
    st.just("vxlan"),
)


@given(leases)
def test_parse_inverts_render(lease):
    body = {
        "metadata": {"name": "w1", "annotations": render_annotations(lease)},
        "spec": {"podCIDR": str(lease.pod_cidr)},
    }
    assert parse_lease(body) == lease
    assert annotation_patch(body, lease) is None


def test_the_patch_holds_only_what_changed():
    lease = parse_lease(node())
    assert annotation_patch(node(public_ip="1.2.3.4"), lease) == {
        "metadata": {"annotations": {PREFIX + "public-ip": "192.168.100.11"}}
    }
    assert len(annotation_patch({"metadata": {"name": "w1"}}, lease)["metadata"]["annotations"]) == 4


def test_host_gw_publishes_no_backend_data():
    lease = Lease("w1", IPv4Network("10.244.1.0/24"), IPv4Address("192.168.100.11"), backend="host-gw")
    assert json.loads(render_annotations(lease)[PREFIX + "backend-data"]) is None


@pytest.mark.parametrize(
    ("mac", "ok"),
    [
        ("8e:1f:00:00:00:01", True),
        ("8E:1F:00:00:00:01", False),
        ("01:00:00:00:00:01", False),
        ("", False),
        (None, False),
    ],
)
def test_macs(mac, ok):
    assert valid_mac(mac) is ok


def test_subnet_env():
    text = render_subnet_env(IPv4Network("10.244.0.0/16"), IPv4Network("10.244.3.0/24"), 1450, masquerade=True)
    assert text.splitlines() == [
        "FLANNEL_NETWORK=10.244.0.0/16",
        "FLANNEL_SUBNET=10.244.3.1/24",
        "FLANNEL_MTU=1450",
        "FLANNEL_IPMASQ=true",
    ]


def test_the_condition_is_set_once():
    patch = network_condition_patch(node(), now="2026-01-01T00:00:00Z")
    (condition,) = patch["status"]["conditions"]
    assert (condition["type"], condition["status"], condition["reason"]) == (
        "NetworkUnavailable",
        "False",
        "FlannelIsUp",
    )
    assert network_condition_patch(node() | {"status": {"conditions": [condition]}}, now="x") is None
    down = condition | {"status": "True"}
    assert network_condition_patch(node() | {"status": {"conditions": [down]}}, now="x") is not None


def test_masquerade_spares_pods_nodes_and_listed_networks():
    script = render_masquerade(
        IPv4Network("10.244.0.0/16"),
        [IPv4Address("192.168.100.12"), IPv4Address("192.168.100.11"), IPv4Address("172.16.0.4")],
        [IPv4Network("172.16.0.0/24")],
    )
    assert "elements = { 10.244.0.0/16, 172.16.0.0/24, 192.168.100.11, 192.168.100.12 }" in script
    assert (
        script.index("ip saddr != 10.244.0.0/16 return")
        < script.index("ip daddr @cluster return")
        < script.index("masquerade")
    )
    assert script.startswith(render_no_masquerade()), "one transaction replaces what was there"
