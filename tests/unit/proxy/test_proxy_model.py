"""What of Services and EndpointSlices reaches the model."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network

import pytest
from proxy_objects import LOCAL, ON_A_NODE_PORT, REMOTE, endpoint, model, piece, service

from podnet.proxy.conntrack import stale_judge
from podnet.proxy.model import merge_models
from podnet.topology.linux.conntrack import UDP, Flow


def only(services, slices, **facts):
    return model(services, slices, **facts).ports[0]


def addresses(endpoints):
    return [str(e.ip) for e in endpoints]


def test_slices_are_merged_by_address_and_port():
    other_port = piece(LOCAL, ports=[{"name": "http", "port": 9090}])
    port = only([service()], [piece(LOCAL), piece(REMOTE, LOCAL), other_port])
    assert [str(e) for e in port.cluster_endpoints] == ["10.244.1.2:8080", "10.244.1.2:9090", "10.244.2.2:8080"]


def test_zeros_in_front_of_a_number_do_not_make_it_octal():
    spec = {"type": "LoadBalancer", "clusterIP": "010.096.000.005", "loadBalancerSourceRanges": ["010.0.0.0/8"]}
    port = only([service(ingress=[{"ip": "203.0.113.010"}], **spec)], [piece(endpoint("010.244.001.002"))])
    assert port.cluster_ip == IPv4Address("10.96.0.5")
    assert port.load_balancer_ips == (IPv4Address("203.0.113.10"),)
    assert port.source_ranges == (IPv4Network("10.0.0.0/8"),)
    assert addresses(port.cluster_endpoints) == ["10.244.1.2"]


def test_of_two_entries_of_one_address_the_ready_one_counts():
    leaving = endpoint("10.244.1.2", ready=False, serving=False)
    for slices in ([piece(leaving), piece(LOCAL)], [piece(LOCAL), piece(leaving)]):
        assert addresses(only([service()], slices).cluster_endpoints) == ["10.244.1.2"]


@pytest.mark.parametrize(
    "slices",
    [
        [piece(LOCAL, family="IPv6")],
        [piece(LOCAL, name="other")],
        [piece(LOCAL, ports=[{"name": "http", "port": 8080, "protocol": "UDP"}])],
        [piece(LOCAL, ports=[{"name": "else", "port": 8080}])],
        [piece(LOCAL, ports=[{"name": "http"}])],
        [piece(LOCAL, labels={"service.kubernetes.io/headless": ""})],
        [piece({"addresses": [], "conditions": {}})],
        [piece({"addresses": ["fd00::1"], "conditions": {}})],
        [{**piece(LOCAL), "endpoints": None}],
    ],
    ids=["family", "service", "protocol", "port name", "no number", "label", "no address", "IPv6 address", "none"],
)
def test_entries_that_do_not_count(slices):
    assert only([service()], slices).cluster_endpoints == ()


def hinted(ip, zone="", node=""):
    hints = {"forZones": [{"name": zone}]} if zone else {}
    return endpoint(ip, hints=hints | ({"forNodes": [{"name": node}]} if node else {}))


@pytest.mark.parametrize(
    ("behind", "want"),
    [
        ((hinted("10.244.1.2", "a"), hinted("10.244.2.2", "b")), ["10.244.1.2"]),
        ((hinted("10.244.1.2", "a"), hinted("10.244.2.2")), ["10.244.1.2", "10.244.2.2"]),
        ((hinted("10.244.1.2", "b"), hinted("10.244.2.2", "c")), ["10.244.1.2", "10.244.2.2"]),
        ((hinted("10.244.1.2", "b", "n1"), hinted("10.244.2.2", "a", "n2")), ["10.244.1.2"]),
        ((hinted("10.244.1.2", "b", "n3"), hinted("10.244.2.2", "a", "n2")), ["10.244.2.2"]),
    ],
    ids=["zone", "not all have hints", "nobody for our zone", "node before zone", "no node of ours, then zone"],
)
def test_hints(behind, want):
    assert addresses(only([service()], [piece(*behind)], zone="a").cluster_endpoints) == want


def test_hints_do_not_narrow_the_local_set():
    behind = (hinted("10.244.1.2", "b"), hinted("10.244.1.3", "a"))
    port = only([service(internalTrafficPolicy="Local")], [piece(*behind)], zone="a")
    assert addresses(port.internal_endpoints) == ["10.244.1.2", "10.244.1.3"]


def test_affinity_has_a_default():
    assert only([service(sessionAffinity="ClientIP")], []).affinity_timeout_s == 10800


def test_health_check_counts_ready_local_endpoints_only():
    spec = {"type": "LoadBalancer", "ports": ON_A_NODE_PORT, "externalTrafficPolicy": "Local"}
    leaving = endpoint("10.244.1.3", ready=False, serving=True, terminating=True)
    checks = model([service(healthCheckNodePort=31000, **spec)], [piece(LOCAL, REMOTE, leaving)]).health_checks
    assert [(check.port, check.local_endpoints) for check in checks] == [(31000, 1)]
    checks = model([service(healthCheckNodePort=31000, **spec)], [piece(REMOTE, leaving)]).health_checks
    assert checks[0].local_endpoints == 0


def test_source_ranges_only_of_load_balancers():
    spec = {"loadBalancerSourceRanges": [" 10.0.0.0/8 "], "ingress": [{"ip": "198.51.100.9"}]}
    assert only([service(**spec)], []).source_ranges == ()
    assert only([service(type="LoadBalancer", **spec)], []).source_ranges == (IPv4Network("10.0.0.0/8"),)


def flow(dst, dport, reply, protocol=UDP):
    return Flow(protocol, IPv4Address("10.244.1.9"), 12345, IPv4Address(dst), dport, IPv4Address(reply), 8080)


UDP_SERVICE = {
    "type": "NodePort",
    "externalIPs": ["203.0.113.7"],
    "ports": [{"name": "dns", "port": 53, "protocol": "UDP", "nodePort": 30053}],
}


@pytest.mark.parametrize(
    ("entry", "is_stale"),
    [
        (flow("10.96.0.5", 53, "10.244.1.2"), False),
        (flow("10.96.0.5", 53, "10.244.7.7"), True),
        (flow("203.0.113.7", 53, "10.244.7.7"), True),
        (flow("192.168.100.11", 30053, "10.244.7.7"), True),
        (flow("10.96.0.5", 53, "10.244.7.7", protocol=6), False),
        (flow("10.96.0.5", 54, "10.244.7.7"), False),
        (flow("10.244.7.7", 53, "10.244.7.7"), False),
    ],
    ids=["serving", "gone", "external IP", "node port", "TCP", "another port", "no service"],
)
def test_stale_udp_flows(entry, is_stale):
    ports = [{"name": "dns", "port": 8080, "protocol": "UDP"}]
    here = model([service(**UDP_SERVICE)], [piece(LOCAL, ports=ports)])
    assert stale_judge(here)(entry) == is_stale


def test_a_service_without_serving_endpoints_is_left_alone():
    assert not stale_judge(model([service(**UDP_SERVICE)], []))(flow("10.96.0.5", 53, "10.244.7.7"))


def test_services_compiled_one_by_one_are_those_compiled_together():
    services = [service("b", clusterIP="10.96.0.7"), service("a"), service("c", clusterIP="None")]
    slices = [piece(LOCAL, name="a"), piece(REMOTE, name="b"), piece(REMOTE, name="a"), piece(LOCAL, name="c")]
    whole = model(services, slices)
    parts = [model([one], [p for p in slices if p["metadata"]["labels"]["kubernetes.io/service-name"] == name])
             for one, name in zip(services, "bac", strict=True)]  # fmt: skip
    assert merge_models(whole.node, [parts[1], parts[0], parts[2]]) == whole, "in the order of their names"
