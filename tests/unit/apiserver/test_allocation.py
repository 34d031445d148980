"""Cluster addresses and node ports: given, kept, refused."""

from __future__ import annotations

import itertools
from ipaddress import IPv4Network
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from podnet.controlplane.api.errors import Cause, StatusError
from podnet.controlplane.apiserver.allocation import ServiceRanges, Taken, allocate, taken_by
from podnet.controlplane.apiserver.allocation.ranges import band_offset, draw_free, usable
from podnet.controlplane.apiserver.allocation.taken import cluster_ips, node_ports

SMALL = ServiceRanges(IPv4Network("10.96.0.0/28"), (30000, 30009))
LARGE = ServiceRanges(IPv4Network("10.96.0.0/16"), (30000, 32767))


def lowest(_: int) -> int:
    return 0


def service(name: str = "a", namespace: str = "default", **spec: Any) -> dict[str, Any]:
    spec.setdefault("type", "ClusterIP")
    spec.setdefault("selector", {"app": name})
    spec.setdefault("ports", [{"port": 80, "protocol": "TCP"}])
    return {"metadata": {"name": name, "namespace": namespace}, "spec": spec}


def settle(
    new: dict[str, Any],
    old: dict[str, Any] | None = None,
    others: list[dict[str, Any]] | None = None,
    ranges: ServiceRanges = SMALL,
) -> list[Cause]:
    return allocate(new, old, taken_by(others or []), ranges, lowest)


@pytest.mark.parametrize(
    ("size", "limits", "offset"),
    [
        (65536, (16, 256, 16), 256),
        (4096, (16, 256, 16), 256),
        (1024, (16, 256, 16), 64),
        (64, (16, 256, 16), 16),
        (16, (16, 256, 16), 0),
        (8, (16, 256, 16), 0),
        (2768, (16, 128, 32), 86),
        (100, (16, 128, 32), 16),
        (10, (16, 128, 32), 0),
    ],
    ids=["/16", "/20", "/22", "/26", "/28", "/29", "node ports", "a hundred ports", "ten ports"],
)
def test_the_static_band_has_the_documented_size(size: int, limits: tuple[int, int, int], offset: int) -> None:
    assert band_offset(size, *limits) == offset


def test_the_dynamic_band_is_drawn_from_first() -> None:
    new = service(type="NodePort")
    assert settle(new, ranges=LARGE) == []
    assert new["spec"]["clusterIP"] == "10.96.1.1"
    assert new["spec"]["clusterIPs"] == ["10.96.1.1"]
    assert new["spec"]["ports"][0]["nodePort"] == 30086


def test_the_static_band_is_used_when_the_dynamic_one_is_full() -> None:
    full = Taken({int(LARGE.network.network_address) + n for n in range(257, 65535)}, frozenset(range(30086, 32768)))
    new = service(type="NodePort")
    assert allocate(new, None, full, LARGE, lowest) == []
    assert new["spec"]["clusterIP"] == "10.96.0.2"
    assert new["spec"]["ports"][0]["nodePort"] == 30000


def test_the_dns_address_is_only_given_to_whom_asks() -> None:
    others = [service(f"s{i}", clusterIP=f"10.96.0.{i}") for i in range(2, 10)]
    new = service("x")
    settle(new, None, others)
    assert new["spec"]["clusterIP"] == "10.96.0.11"
    dns = service("kube-dns", "kube-system", clusterIP="10.96.0.10")
    assert settle(dns, None, [*others, new]) == []


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        ("10.96.0.2", "failed to allocate IP 10.96.0.2: provided IP is already allocated"),
        ("10.96.0.1", "failed to allocate IP 10.96.0.1: provided IP is already allocated"),
        (
            "10.97.0.1",
            (
                "failed to allocate IP 10.97.0.1: the provided IP (10.97.0.1) is not in the valid range. "
                "The range of valid IPs is 10.96.0.0/28"
            ),
        ),
        (
            "10.96.0.0",
            (
                "failed to allocate IP 10.96.0.0: the provided IP (10.96.0.0) is not in the valid range. "
                "The range of valid IPs is 10.96.0.0/28"
            ),
        ),
    ],
    ids=["taken", "reserved", "outside", "network"],
)
def test_an_address_that_cannot_be_had_is_refused(wanted: str, message: str) -> None:
    causes = settle(service(clusterIP=wanted), None, [service("b", clusterIP="10.96.0.2")])
    assert [(cause.field, cause.reason) for cause in causes] == [("spec.clusterIPs", "FieldValueInvalid")]
    assert causes[0].message == f'Invalid value: []string{{"{wanted}"}}: {message}'


def test_the_kubernetes_service_has_the_reserved_address() -> None:
    assert settle(service("kubernetes", clusterIP="10.96.0.1")) == []


def test_a_range_that_another_servicecidr_adds_is_used_when_the_first_is_full() -> None:
    ranges = ServiceRanges(IPv4Network("10.96.0.0/29"), (30000, 30009), (IPv4Network("10.99.0.0/29"),))
    others = [service(f"s{i}", clusterIP=f"10.96.0.{i}") for i in range(2, 7)]
    new = service()
    assert settle(new, None, others, ranges) == []
    assert new["spec"]["clusterIP"] == "10.99.0.1"


def test_a_full_range_is_an_error_of_the_server() -> None:
    others = [service(f"s{i}", clusterIP=f"10.96.0.{i}") for i in range(2, 15) if i != 10]
    with pytest.raises(StatusError) as caught:
        settle(service(), None, others)
    assert (caught.value.code, caught.value.message) == (
        500,
        "Internal error occurred: failed to allocate a serviceIP: range is full",
    )


def test_full_node_ports_are_an_error_of_the_server() -> None:
    with pytest.raises(StatusError, match="failed to allocate a nodePort: range is full"):
        allocate(service(type="NodePort"), None, Taken(frozenset(), frozenset(range(30000, 30010))), SMALL, lowest)


def test_headless_and_external_get_nothing() -> None:
    headless, external = service(clusterIP="None"), service(type="ExternalName", externalName="a.b")
    assert settle(headless) == settle(external) == []
    assert headless["spec"]["clusterIPs"] == ["None"]
    assert "clusterIP" not in external["spec"]
    assert cluster_ips(headless) == cluster_ips(external) == []


def test_an_update_keeps_what_it_leaves_out() -> None:
    old = service(type="NodePort", ports=[{"name": "a", "port": 80, "protocol": "TCP"}])
    settle(old)
    new = service(
        type="NodePort",
        ports=[{"name": "b", "port": 81, "protocol": "TCP"}, {"name": "a", "port": 8080, "protocol": "TCP"}],
    )
    assert settle(new, old) == []
    assert new["spec"]["clusterIP"] == old["spec"]["clusterIP"]
    assert new["spec"]["clusterIPs"] == old["spec"]["clusterIPs"]
    assert [port["nodePort"] for port in new["spec"]["ports"]] == [30001, 30000]
    assert (new["spec"]["ipFamilies"], new["spec"]["ipFamilyPolicy"]) == (["IPv4"], "SingleStack")


def test_an_update_that_leaves_out_none_stays_headless() -> None:
    old = service(clusterIP="None")
    settle(old)
    new = service()
    assert settle(new, old) == []
    assert new["spec"]["clusterIP"] == "None"


def test_from_external_name_to_cluster_ip_gives_an_address() -> None:
    old = service(type="ExternalName", externalName="a.b")
    new = service()
    assert settle(new, old) == []
    assert new["spec"]["clusterIPs"] == ["10.96.0.2"]


def test_a_changed_address_is_left_to_validation() -> None:
    """May not change once set is the true reason, not that the new one is taken or out of range."""
    old = service()
    settle(old)
    assert settle(service(clusterIP="10.77.0.1"), old) == []


@pytest.mark.parametrize(
    ("old", "new", "settled"),
    [
        (None, {"clusterIP": "10.96.0.5"}, ("10.96.0.5", ["10.96.0.5"])),
        (None, {"clusterIP": "None"}, ("None", ["None"])),
        (
            {"clusterIP": "None", "clusterIPs": ["None"]},
            {"clusterIP": "10.96.0.5", "clusterIPs": ["None"]},
            ("10.96.0.5", ["10.96.0.5"]),
        ),
    ],
    ids=["clusterIP alone", "headless", "only clusterIP changed"],
)
def test_the_two_address_fields_say_the_same(
    old: dict[str, Any] | None, new: dict[str, Any], settled: tuple[str, list[str]]
) -> None:
    wanted = service(**new)
    assert settle(wanted, service(**old) if old is not None else None) == []
    assert (wanted["spec"]["clusterIP"], wanted["spec"]["clusterIPs"]) == settled


@pytest.mark.parametrize(
    ("spec", "families", "policy"),
    [
        ({}, ["IPv4"], "SingleStack"),
        ({"ipFamilyPolicy": "PreferDualStack"}, ["IPv4"], "PreferDualStack"),
        ({"ipFamilies": ["IPv4"]}, ["IPv4"], "SingleStack"),
        ({"clusterIP": "None"}, ["IPv4"], "SingleStack"),
        ({"clusterIP": "None", "selector": None}, ["IPv4", "IPv6"], "RequireDualStack"),
        (
            {"clusterIP": "None", "selector": None, "ipFamilyPolicy": "SingleStack", "ipFamilies": ["IPv6"]},
            ["IPv6"],
            "SingleStack",
        ),
        ({"clusterIP": "None", "selector": None, "ipFamilies": ["IPv6"]}, ["IPv6", "IPv4"], "RequireDualStack"),
    ],
    ids=["nothing", "prefer", "v4", "headless", "selectorless", "selectorless single v6", "selectorless v6 first"],
)
def test_dual_stack_fields_are_completed(spec: dict[str, Any], families: list[str], policy: str) -> None:
    new = service(**spec)
    assert settle(new) == []
    assert (new["spec"]["ipFamilies"], new["spec"]["ipFamilyPolicy"]) == (families, policy)


@pytest.mark.parametrize(
    ("spec", "field", "message"),
    [
        (
            {"ipFamilyPolicy": "RequireDualStack"},
            "spec.ipFamilyPolicy",
            'Invalid value: "RequireDualStack": this cluster is not configured for dual-stack services',
        ),
        ({"ipFamilies": ["IPv6"]}, "spec.ipFamilies[0]", 'Invalid value: "IPv6": not configured on this cluster'),
        (
            {"ipFamilies": ["IPv4", "IPv6"], "ipFamilyPolicy": "PreferDualStack"},
            "spec.ipFamilies[1]",
            'Invalid value: "IPv6": not configured on this cluster',
        ),
        (
            {"ipFamilies": ["IPv4", "IPv6"]},
            "spec.ipFamilyPolicy",
            (
                "Invalid value: \"SingleStack\": must be 'RequireDualStack' or 'PreferDualStack' when multiple IP "
                "families are specified"
            ),
        ),
        (
            {"clusterIP": "fd00::1"},
            "spec.clusterIPs[0]",
            'Invalid value: []string{"fd00::1"}: IPv6 is not configured on this cluster',
        ),
        (
            {"clusterIP": "10.96.0.3", "ipFamilies": ["IPv6"]},
            "spec.clusterIPs[0]",
            'Invalid value: "10.96.0.3": expected an IPv6 value as indicated by `ipFamilies[0]`',
        ),
        (
            {"clusterIPs": ["10.96.0.3"]},
            "spec.clusterIPs",
            'Invalid value: []string{"10.96.0.3"}: must be empty when `clusterIP` is not specified',
        ),
        (
            {"clusterIP": "10.96.0.3", "clusterIPs": ["10.96.0.4"]},
            "spec.clusterIPs",
            'Invalid value: []string{"10.96.0.4"}: first value must match `clusterIP`',
        ),
    ],
    ids=["require", "v6", "prefer both", "single both", "v6 address", "wrong family", "only clusterIPs", "differ"],
)
def test_what_a_single_stack_cluster_has_not_is_refused(spec: dict[str, Any], field: str, message: str) -> None:
    assert [(c.field, c.message) for c in settle(service(**spec))] == [(field, message)]


@pytest.mark.parametrize(
    ("port", "message"),
    [
        (30001, "provided port is already allocated"),
        (29999, "provided port is not in the valid range. The range of valid ports is 30000-30009"),
        (30010, "provided port is not in the valid range. The range of valid ports is 30000-30009"),
        (70000, "provided port is not in the valid range. The range of valid ports is 30000-30009"),
    ],
)
def test_a_node_port_that_cannot_be_had_is_refused(port: int, message: str) -> None:
    other = service("b", type="NodePort", clusterIP="10.96.0.9", ports=[{"port": 1, "nodePort": 30001}])
    new = service(type="NodePort", ports=[{"port": 80, "protocol": "TCP", "nodePort": port}])
    causes = settle(new, None, [other])
    assert [(c.field, c.message) for c in causes] == [("spec.ports[0].nodePort", f"Invalid value: {port}: {message}")]


def test_one_port_over_two_protocols_shares_a_node_port() -> None:
    new = service(type="NodePort", ports=[{"port": 53, "protocol": "UDP"}, {"port": 53, "protocol": "TCP"}])
    settle(new)
    assert [port["nodePort"] for port in new["spec"]["ports"]] == [30000, 30000]


def test_the_shared_node_port_is_the_one_that_was_asked_for() -> None:
    ports = [{"port": 53, "protocol": "UDP"}, {"port": 53, "protocol": "TCP", "nodePort": 30007}]
    new = service(type="NodePort", ports=ports)
    assert settle(new) == []
    assert [port["nodePort"] for port in new["spec"]["ports"]] == [30007, 30007]


def test_one_service_may_ask_for_one_node_port_with_two_protocols() -> None:
    ports = [{"port": 53, "protocol": "UDP", "nodePort": 30007}, {"port": 53, "protocol": "TCP", "nodePort": 30007}]
    assert settle(service(type="NodePort", ports=ports)) == []


def test_another_service_may_not_have_it_with_any_protocol() -> None:
    """A node port is reserved as a number."""
    other = service(
        "b", type="NodePort", clusterIP="10.96.0.9", ports=[{"port": 1, "protocol": "UDP", "nodePort": 30001}]
    )
    new = service(type="NodePort", ports=[{"port": 80, "protocol": "TCP", "nodePort": 30001}])
    assert [c.message for c in settle(new, None, [other])] == [
        "Invalid value: 30001: provided port is already allocated"
    ]


def test_the_same_node_port_twice_in_one_service_is_refused() -> None:
    ports = [{"port": 80, "protocol": "TCP", "nodePort": 30001}, {"port": 81, "protocol": "TCP", "nodePort": 30001}]
    assert [c.field for c in settle(service(type="NodePort", ports=ports))] == ["spec.ports[1].nodePort"]


def test_a_load_balancer_may_do_without_node_ports() -> None:
    new = service(type="LoadBalancer", allocateLoadBalancerNodePorts=False)
    settle(new)
    assert node_ports(new) == set()


def test_a_load_balancer_without_them_may_still_ask_for_one() -> None:
    new = service(
        type="LoadBalancer", allocateLoadBalancerNodePorts=False, ports=[{"port": 80, "nodePort": 30003}, {"port": 81}]
    )
    assert settle(new) == []
    assert node_ports(new) == {30003}


def test_a_local_load_balancer_has_a_health_port_of_its_own() -> None:
    new = service(type="LoadBalancer", externalTrafficPolicy="Local")
    assert settle(new) == []
    assert new["spec"]["ports"][0]["nodePort"] == 30000
    assert new["spec"]["healthCheckNodePort"] == 30001
    again = service(type="LoadBalancer", externalTrafficPolicy="Local")
    assert settle(again, new) == []
    assert again["spec"] == new["spec"]


@pytest.mark.parametrize("wanted", [30001, 29999])
def test_a_health_port_that_cannot_be_had_is_refused(wanted: int) -> None:
    other = service("b", type="NodePort", clusterIP="10.96.0.9", ports=[{"port": 1, "nodePort": 30001}])
    new = service(type="LoadBalancer", externalTrafficPolicy="Local", healthCheckNodePort=wanted)
    assert [c.field for c in settle(new, None, [other])] == ["spec.healthCheckNodePort"]


@given(
    st.lists(st.sampled_from(["ClusterIP", "NodePort", "LoadBalancer", "ExternalName"]), max_size=9),
    st.randoms(use_true_random=False),
)
def test_nothing_is_given_twice(kinds: list[str], random: Any) -> None:
    """Whatever is created in whatever order, addresses and node ports are distinct."""
    made: list[dict[str, Any]] = []
    for index, kind in enumerate(kinds):
        new = service(f"s{index}", type=kind)
        assert allocate(new, None, taken_by(made), SMALL, random.randrange) == []
        made.append(new)
    addresses = list(itertools.chain.from_iterable(cluster_ips(s) for s in made))
    ports = [port for s in made for port in node_ports(s)]
    assert len(set(addresses)) == len(addresses)
    assert len(set(ports)) == len(ports)
    assert "10.96.0.10" not in addresses
    assert "10.96.0.1" not in addresses


@given(st.sets(st.integers(0, 40)), st.integers(1, 40), st.randoms(use_true_random=False))
def test_a_free_number_is_found_whenever_there_is_one(taken: set[int], size: int, random: Any) -> None:
    found = draw_free(range(size), taken, frozenset({3}), random.randrange)
    free = set(range(size)) - taken - {3}
    assert (found in free) if free else found is None


def test_first_and_last_address_of_a_network_are_nobodys() -> None:
    assert [*usable(IPv4Network("10.0.0.0/30"))] == [(10 << 24) + 1, (10 << 24) + 2]
