"""Cluster addresses and node ports: given, kept, refused."""

from __future__ import annotations

from ipaddress import IPv4Network
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from podnet.controlplane.apiserver.allocation import ServiceRanges, allocate, used_addresses, used_node_ports

RANGES = ServiceRanges(IPv4Network("10.96.0.0/28"), (30000, 30009))


def service(name: str = "a", namespace: str = "default", **spec: Any) -> dict[str, Any]:
    spec.setdefault("type", "ClusterIP")
    spec.setdefault("ports", [{"port": 80, "protocol": "TCP"}])
    return {"metadata": {"name": name, "namespace": namespace}, "spec": spec}


def test_the_lowest_free_address_is_given() -> None:
    first, second = service("a"), service("b")
    assert allocate(first, None, [], RANGES) == []
    assert allocate(second, None, [first], RANGES) == []
    assert (first["spec"]["clusterIP"], second["spec"]["clusterIP"]) == ("10.96.0.2", "10.96.0.3")
    assert second["spec"]["clusterIPs"] == ["10.96.0.3"]


def test_the_dns_address_is_only_given_to_whom_asks() -> None:
    taken = [service(f"s{i}", clusterIP=f"10.96.0.{i}") for i in range(2, 10)]
    new = service("x")
    allocate(new, None, taken, RANGES)
    assert new["spec"]["clusterIP"] == "10.96.0.11"
    dns = service("kube-dns", "kube-system", clusterIP="10.96.0.10")
    assert allocate(dns, None, [*taken, new], RANGES) == []


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
    causes = allocate(service(clusterIP=wanted), None, [service("b", clusterIP="10.96.0.2")], RANGES)
    assert [(cause.field, cause.reason) for cause in causes] == [("spec.clusterIPs", "FieldValueInvalid")]
    assert causes[0].message == f'Invalid value: ["{wanted}"]: {message}'


def test_the_kubernetes_service_has_the_reserved_address() -> None:
    assert allocate(service("kubernetes", clusterIP="10.96.0.1"), None, [], RANGES) == []


def test_a_full_range_says_so() -> None:
    others = [service(f"s{i}", clusterIP=f"10.96.0.{i}") for i in range(2, 15) if i != 10]
    causes = allocate(service(), None, others, RANGES)
    assert "range is full" in causes[0].message


def test_headless_and_external_get_nothing() -> None:
    headless, external = service(clusterIP="None"), service(type="ExternalName", externalName="a.b")
    assert allocate(headless, None, [], RANGES) == allocate(external, None, [], RANGES) == []
    assert headless["spec"]["clusterIPs"] == ["None"]
    assert "clusterIP" not in external["spec"]


def test_an_update_keeps_what_it_leaves_out() -> None:
    old = service(type="NodePort")
    allocate(old, None, [], RANGES)
    new = service(type="NodePort", ports=[{"port": 80, "protocol": "TCP"}, {"port": 81, "protocol": "TCP"}])
    assert allocate(new, old, [], RANGES) == []
    assert new["spec"]["clusterIP"] == old["spec"]["clusterIP"]
    assert new["spec"]["ports"][0]["nodePort"] == old["spec"]["ports"][0]["nodePort"] == 30000
    assert new["spec"]["ports"][1]["nodePort"] == 30001


def test_becoming_external_gives_the_address_back() -> None:
    old = service()
    allocate(old, None, [], RANGES)
    new = service(type="ExternalName", externalName="a.b", clusterIP=old["spec"]["clusterIP"])
    allocate(new, old, [], RANGES)
    assert "clusterIP" not in new["spec"]
    assert used_addresses([new]) == set()


@pytest.mark.parametrize(
    ("port", "message"),
    [
        (30001, "provided port is already allocated"),
        (29999, "provided port is not in the valid range. The range of valid ports is 30000-30009"),
        (30010, "provided port is not in the valid range. The range of valid ports is 30000-30009"),
    ],
)
def test_a_node_port_that_cannot_be_had_is_refused(port: int, message: str) -> None:
    other = service("b", type="NodePort", clusterIP="10.96.0.9", ports=[{"port": 1, "nodePort": 30001}])
    new = service(type="NodePort", ports=[{"port": 80, "protocol": "TCP", "nodePort": port}])
    causes = allocate(new, None, [other], RANGES)
    assert [(c.field, c.message) for c in causes] == [("spec.ports[0].nodePort", f"Invalid value: {port}: {message}")]


def test_one_port_over_two_protocols_shares_a_node_port() -> None:
    new = service(type="NodePort", ports=[{"port": 53, "protocol": "UDP"}, {"port": 53, "protocol": "TCP"}])
    allocate(new, None, [], RANGES)
    assert [port["nodePort"] for port in new["spec"]["ports"]] == [30000, 30000]


def test_one_node_port_may_serve_another_protocol() -> None:
    other = service(
        "b", type="NodePort", clusterIP="10.96.0.9", ports=[{"port": 1, "protocol": "UDP", "nodePort": 30001}]
    )
    new = service(type="NodePort", ports=[{"port": 80, "protocol": "TCP", "nodePort": 30001}])
    assert allocate(new, None, [other], RANGES) == []


def test_the_same_node_port_twice_in_one_service_is_refused() -> None:
    ports = [{"port": 80, "protocol": "TCP", "nodePort": 30001}, {"port": 81, "protocol": "TCP", "nodePort": 30001}]
    assert [c.field for c in allocate(service(type="NodePort", ports=ports), None, [], RANGES)] == [
        "spec.ports[1].nodePort"
    ]


def test_a_load_balancer_may_do_without_node_ports() -> None:
    new = service(type="LoadBalancer", allocateLoadBalancerNodePorts=False)
    allocate(new, None, [], RANGES)
    assert used_node_ports([new]) == set()


def test_a_local_load_balancer_has_a_health_port() -> None:
    new = service(type="LoadBalancer", externalTrafficPolicy="Local")
    assert allocate(new, None, [], RANGES) == []
    assert new["spec"]["healthCheckNodePort"] == 30001


@given(st.lists(st.sampled_from(["ClusterIP", "NodePort", "LoadBalancer", "ExternalName"]), max_size=9))
def test_nothing_is_given_twice(kinds: list[str]) -> None:
    """Whatever is created in whatever order, addresses and node ports are distinct."""
    made: list[dict[str, Any]] = []
    for index, kind in enumerate(kinds):
        new = service(f"s{index}", type=kind)
        assert allocate(new, None, made, RANGES) == []
        made.append(new)
    addresses = [s["spec"]["clusterIP"] for s in made if s["spec"].get("clusterIP")]
    ports = [p["nodePort"] for s in made for p in s["spec"]["ports"] if p.get("nodePort")]
    assert len(addresses) == len(set(addresses))
    assert len(ports) == len(set(ports))
