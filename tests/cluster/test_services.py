"""Services on a booted cluster, in every proxy mode: who answers, and whom the server sees, from every place.

The Services lines of the conformance list. The rest of kube-proxy's packet-flow table is in `test_service_paths.py`.
"""

from __future__ import annotations

import subprocess
import sys
from collections import Counter

import pytest
from services_world import (
    BALANCER_IP,
    BOTH,
    EXTERNAL_IP,
    HTTP,
    NAMESPACE,
    REFUSED,
    TIMED_OUT,
    UDP,
    addresses_of,
    balancer,
    endpoint_slice,
    web,
)

# -- ClusterIP


@pytest.mark.parametrize(
    "source", ["c-1", "c-2", "web-1", "web-2", "node/worker-1", "node/worker-2", "node/control-plane"]
)
def test_a_cluster_ip_is_answered_by_both(world, source):
    address = world.service("cip")["spec"]["clusterIP"]
    world.answered(source, address, BOTH, 24)


def test_the_spread_is_even(world):
    address = world.service("even")["spec"]["clusterIP"]
    world.answered("c-1", address, BOTH, 24)
    seen = Counter(world.ask("c-1", address, 200))
    assert min(seen["web-1"], seen["web-2"]) > 60, seen


def test_a_pod_is_seen_as_itself_and_a_node_as_the_node(world):
    one = world.service("one", selector={"app": "one"})["spec"]["clusterIP"]
    world.run(web("web-one", "worker-1", "one"))
    world.answered("c-1", one, {"web-one"})
    assert world.seen_as("c-1", one) == world.ip("c-1"), "same node"
    assert world.seen_as("c-2", one) == world.ip("c-2"), "another node"
    hairpin = world.seen_as("web-one", one)
    assert hairpin != world.ip("web-one"), (
        "a pod that reaches itself is masqueraded, or it would answer itself directly"
    )
    assert hairpin.rpartition(".")[2] == "1"
    assert world.seen_as("node/worker-2", one) in addresses_of(world, "worker-2")


def test_from_outside_a_cluster_ip_is_masqueraded(world):
    address = world.service("outside")["spec"]["clusterIP"]
    with world.routed(address, "worker-1"):
        world.answered("host/client", address, BOTH)
        assert world.seen_as("host/client", address) in addresses_of(world, "worker-1")


def test_pods_reach_the_api_server(world):
    for source in ("c-1", "c-2", "node/worker-1"):
        assert world.shell(source, "curl -sk -m 3 https://10.96.0.1/version").count('"gitVersion"') == 1


def test_without_endpoints_a_connection_is_refused_at_once(world):
    spec = world.service("nobody", type="NodePort", selector={"app": "nobody"}, externalIPs=[EXTERNAL_IP])["spec"]
    port = spec["ports"][0]["nodePort"]
    for source in ("c-1", "node/worker-1"):
        world.answered(source, spec["clusterIP"], {REFUSED}, 2)
    for source in ("c-1", "node/worker-2", "host/client"):
        world.answered(source, f"{world.nodes['worker-1']}:{port}", {REFUSED}, 2)
    with world.routed(EXTERNAL_IP, "worker-1"):
        world.answered("host/client", EXTERNAL_IP, {REFUSED}, 2)


def test_several_ports_lead_to_several_ports(world):
    ports = [HTTP, {"name": "same", "port": 8080, "targetPort": 8080, "protocol": "TCP"}]
    address = world.service("multi", ports=ports)["spec"]["clusterIP"]
    world.answered("c-1", address, BOTH)
    world.answered("c-1", f"{address}:8080", BOTH)


def test_one_port_over_tcp_and_udp_and_then_only_one_of_them(world):
    spec = world.service("both", ports=[HTTP, UDP], type="NodePort")["spec"]
    address, port = spec["clusterIP"], spec["ports"][0]["nodePort"]
    assert {p["nodePort"] for p in spec["ports"]} == {port}
    world.answered("c-1", address, BOTH)
    assert set(world.ask_udp("c-1", address, 80, 12)) == BOTH
    assert set(world.ask_udp("host/client", world.nodes["worker-1"], port, 12)) == BOTH
    world.patch("both", spec={"ports": [{**HTTP, "nodePort": port}]})
    world.cluster.wait(lambda: not BOTH & set(world.ask_udp("c-1", address, 80)), "UDP is gone")
    assert set(world.ask("c-1", address, 16)) == BOTH


def test_headless_and_foreign_proxy_labels_are_left_alone(world):
    for label in ("service.kubernetes.io/headless", "service.kubernetes.io/service-proxy-name"):
        name = label.rpartition("/")[2]
        address = world.service(name, labels={label: "x"})["spec"]["clusterIP"]
        assert not BOTH & set(world.ask("c-1", address, 2, wait_s=0.5)), label
        world.kubectl("label", "service", name, f"{label}-")
        world.answered("c-1", address, BOTH)
        world.kubectl("label", "service", name, f"{label}=x")
        world.cluster.wait(
            lambda address=address: not BOTH & set(world.ask("c-1", address, 1, wait_s=0.5)), f"{label} stops it"
        )


# -- endpoints come and go


def test_endpoints_follow_readiness(world):
    switch = {"exec": {"command": ["test", "!", "-e", "/tmp/down"]}, "periodSeconds": 1, "failureThreshold": 1}
    body = web("web-3", "worker-1", "switch")
    body["spec"]["containers"][0]["readinessProbe"] = switch
    address = world.service("switch", selector={"app": "switch"})["spec"]["clusterIP"]
    world.run(body)
    world.answered("c-2", address, {"web-3"})
    world.shell("web-3", "touch /tmp/down")
    world.answered("c-2", address, {REFUSED}, 2)
    world.patch("switch", spec={"publishNotReadyAddresses": True})
    world.answered("c-2", address, {"web-3"})


def test_a_terminating_pod_that_still_serves_is_the_last_resort(world):
    body = web("web-3", "worker-1", "dying")
    body["spec"]["terminationGracePeriodSeconds"] = 30
    body["spec"]["containers"][0]["lifecycle"] = {"preStop": {"exec": {"command": ["sleep", "20"]}}}
    address = world.service("dying", selector={"app": "dying"})["spec"]["clusterIP"]
    world.run(body)
    world.answered("c-2", address, {"web-3"})
    world.kubectl("delete", "pod", "web-3", "--wait=false")
    world.cluster.wait(lambda: "deletionTimestamp" in world.read("pod", "web-3")["metadata"], "it is terminating")
    assert set(world.ask("c-2", address, 8)) == {"web-3"}
    world.run(web("web-4", "worker-2", "dying"))
    world.answered("c-2", address, {"web-4"})


def test_a_udp_client_with_a_fixed_port_meets_the_next_endpoint(world):
    spec = world.service("udp", type="NodePort", ports=[UDP], selector={"app": "udp"})["spec"]
    address, port = spec["clusterIP"], spec["ports"][0]["nodePort"]
    world.run(web("web-3", "worker-1", "udp"))
    asks = (("c-2", address, 80), ("host/client", world.nodes["worker-2"], port))
    for source, where, number in asks:
        world.cluster.wait(
            lambda s=source, w=where, n=number: world.ask_udp(s, w, n, source_port=12345) == ["web-3"], "the first"
        )
    world.kubectl("delete", "pod", "web-3", "--now")
    world.run(web("web-4", "worker-2", "udp"))
    for source, where, number in asks:
        world.cluster.wait(
            lambda s=source, w=where, n=number: world.ask_udp(s, w, n, source_port=12345) == ["web-4"], "the next"
        )


def test_hand_made_slices_of_one_service_are_merged(world):
    ports = [HTTP, {"name": "other", "port": 81, "protocol": "TCP"}]
    address = world.service("merged", selector=None, ports=ports)["spec"]["clusterIP"]
    world.apply(
        endpoint_slice("merged-a", "merged", world.ip("web-1")),
        endpoint_slice("merged-b", "merged", world.ip("web-2")),
        endpoint_slice("merged-c", "merged", world.ip("web-2"), port_name="other"),
    )
    world.made(*(f"endpointslice/merged-{letter}" for letter in "abc"))
    world.answered("c-1", address, BOTH)
    world.answered("c-1", f"{address}:81", {"web-2"})
    world.kubectl("delete", "endpointslice", "merged-b")
    world.answered("c-1", address, {"web-1"})


def test_hand_made_endpoints_are_reached(world):
    address = world.service("mirrored", selector=None)["spec"]["clusterIP"]
    subset = {"addresses": [{"ip": world.ip("web-2")}], "ports": [{"name": "http", "port": 8080}]}
    metadata = {"name": "mirrored", "namespace": NAMESPACE}
    world.apply({"apiVersion": "v1", "kind": "Endpoints", "metadata": metadata, "subsets": [subset]})
    world.answered("c-1", address, {"web-2"})


ADDRESSES = [f"198.18.{number >> 8}.{number & 255}" for number in range(1, 1001)]
SAYS_WHERE = """
import http.server
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(self.connection.getsockname()[0].encode())
http.server.ThreadingHTTPServer(("", 8080), Handler).serve_forever()
"""


def test_a_slice_of_a_thousand_endpoints(world, start_in_room):
    """The outside host has a thousand addresses and says which one was asked."""
    address = world.service("thousand", selector=None)["spec"]["clusterIP"]
    slice_of_all = endpoint_slice("thousand-1", "thousand", ADDRESSES[0])
    slice_of_all["endpoints"] = [{"addresses": [one]} for one in ADDRESSES]
    world.made("endpointslice/thousand-1")
    start_in_room(world.cluster, "host/client", "python3", "-c", SAYS_WHERE)
    world.shell("host/client", "ip route add local 198.18.0.0/22 dev lo")
    for node in ("worker-1", "worker-2"):
        world.shell(f"node/{node}", "ip route add 198.18.0.0/22 via 192.168.100.200")
    try:
        world.apply(slice_of_all)
        for source in ("c-1", "c-2", "node/worker-1"):
            world.cluster.wait(lambda s=source: world.ask(s, address)[0].startswith("198.18."), f"{source} is answered")
            seen = world.ask(source, address, 60)
            assert set(seen) <= set(ADDRESSES), source
            assert len(set(seen)) > 40, source
        world.apply(endpoint_slice("thousand-1", "thousand", ADDRESSES[999]))
        for source in ("c-1", "c-2"):
            world.answered(source, address, {ADDRESSES[999]}, 8)
    finally:
        for node in ("worker-1", "worker-2"):
            world.shell(f"node/{node}", "ip route del 198.18.0.0/22")
        world.shell("host/client", "ip route del local 198.18.0.0/22 dev lo")


def test_the_api_server_passes_on_to_pods_and_services(world):
    world.service("passed-on")
    base, seen = f"/api/v1/namespaces/{NAMESPACE}", set()

    def ask_once_more() -> bool:
        seen.add(world.kubectl("get", "--raw", f"{base}/services/passed-on:http/proxy/hostname", check=False).stdout)
        return seen >= BOTH

    world.cluster.wait(ask_once_more, "both answer")
    assert seen - {""} == BOTH  # nothing at all until the endpoints are there
    for name in BOTH:
        assert world.kubectl("get", "--raw", f"{base}/pods/{name}:8080/proxy/hostname").stdout == name


# -- from outside


@pytest.mark.parametrize("node", ["control-plane", "worker-1", "worker-2"])
def test_a_node_port_is_answered_on_every_node(world, node):
    spec = world.service("np", type="NodePort")["spec"]
    where = f"{world.nodes[node]}:{spec['ports'][0]['nodePort']}"
    for source in ("host/client", "c-1", "node/worker-2"):
        world.answered(source, where, BOTH)
    own = addresses_of(world, node)
    assert world.seen_as("host/client", where) in own, "every address is masqueraded"
    assert world.seen_as("c-1", where) in own | addresses_of(world, "worker-1"), "even a pod's"


def test_the_local_policy_keeps_the_client_and_drops_where_nobody_is(world):
    spec = world.service("local", type="NodePort", externalTrafficPolicy="Local", selector={"app": "local"})["spec"]
    world.run(web("web-3", "worker-1", "local"))
    port = spec["ports"][0]["nodePort"]
    here, elsewhere = f"{world.nodes['worker-1']}:{port}", f"{world.nodes['worker-2']}:{port}"
    world.answered("host/client", here, {"web-3"})
    assert world.seen_as("host/client", here) == "192.168.100.200"
    world.answered("host/client", elsewhere, {TIMED_OUT}, 1, wait_s=0.5)
    world.answered("c-2", elsewhere, {"web-3"}, 4)
    assert world.seen_as("c-2", elsewhere) == world.ip("c-2"), "a pod takes the short way, as itself"
    world.answered("node/worker-2", elsewhere, {"web-3"}, 4)
    assert world.seen_as("node/worker-2", elsewhere) in addresses_of(world, "worker-2"), "a node as itself"


def test_external_ips_are_answered_where_they_arrive(world):
    world.service("ext", externalIPs=[EXTERNAL_IP])
    with world.routed(EXTERNAL_IP, "worker-2"):
        world.answered("host/client", EXTERNAL_IP, BOTH)
    world.answered("c-1", EXTERNAL_IP, BOTH)
    world.answered("node/worker-1", EXTERNAL_IP, BOTH)


def test_a_load_balancer_filters_by_source_and_its_node_port_does_not(world):
    spec = balancer(world, "lb", loadBalancerSourceRanges=["192.168.100.200/32"])
    node_port = f"{world.nodes['worker-1']}:{spec['ports'][0]['nodePort']}"
    with world.routed(BALANCER_IP, "worker-1"):
        world.answered("host/client", BALANCER_IP, BOTH)
        world.patch("lb", spec={"loadBalancerSourceRanges": ["198.51.100.0/24"]})
        world.answered("host/client", BALANCER_IP, {TIMED_OUT}, 1, wait_s=0.5)
        world.answered("host/client", node_port, BOTH)


def test_a_local_load_balancer_says_where_its_endpoints_are(world):
    spec = balancer(world, "hc", externalTrafficPolicy="Local", selector={"app": "hc"})
    world.run(web("web-3", "worker-2", "hc"))
    port = spec["healthCheckNodePort"]

    def codes() -> list[str]:
        return [
            world.shell("host/client", f"curl -s -m 2 -o /dev/null -w '%{{http_code}}' http://{world.nodes[n]}:{port}/")
            for n in ("worker-1", "worker-2")
        ]

    world.cluster.wait(lambda: codes() == ["503", "200"], "health check node port")
    with world.routed(BALANCER_IP, "worker-2"):
        world.answered("host/client", BALANCER_IP, {"web-3"})
        assert world.seen_as("host/client", BALANCER_IP) == "192.168.100.200"


# -- type changes


def test_from_cluster_ip_to_external_name_and_back(world):
    old = world.service("changing")["spec"]["clusterIP"]
    world.answered("c-1", old, BOTH)
    world.patch("changing", spec={"type": "ExternalName", "externalName": "example.org"})
    world.cluster.wait(lambda: not BOTH & set(world.ask("c-1", old, 1, wait_s=0.5)), "the old address is dead")
    world.patch("changing", spec={"type": "ClusterIP", "externalName": None})
    world.answered("c-1", world.read("service", "changing")["spec"]["clusterIP"], BOTH)


def test_from_node_port_to_external_name_and_back(world):
    port = world.service("moving", type="NodePort")["spec"]["ports"][0]["nodePort"]
    where = f"{world.nodes['worker-1']}:{port}"
    world.answered("host/client", where, BOTH)
    world.patch("moving", spec={"type": "ExternalName", "externalName": "example.org"})
    world.answered("host/client", where, {REFUSED}, 2)
    world.patch("moving", spec={"type": "NodePort", "externalName": None})
    again = world.read("service", "moving")["spec"]["ports"][0]["nodePort"]
    world.answered("host/client", f"{world.nodes['worker-1']}:{again}", BOTH)


# -- affinity and policies


def test_affinity_on_a_cluster_ip_can_be_switched_on_and_off(world):
    address = world.service("sticky", sessionAffinity="ClientIP")["spec"]["clusterIP"]
    for source in ("c-1", "c-2", "node/worker-1"):
        world.cluster.wait(lambda s=source: set(world.ask(s, address, 1)) <= BOTH, "it answers")
        assert len(set(world.ask(source, address, 20))) == 1, source
    world.patch("sticky", spec={"sessionAffinity": "None"})
    world.answered("c-1", address, BOTH, 24)
    world.patch("sticky", spec={"sessionAffinity": "ClientIP"})
    world.cluster.wait(lambda: len(set(world.ask("c-1", address, 16))) == 1, "sticky again")


def test_affinity_on_a_node_port(world):
    spec = world.service("sticky-np", type="NodePort", sessionAffinity="ClientIP")["spec"]
    where = f"{world.nodes['worker-1']}:{spec['ports'][0]['nodePort']}"
    world.cluster.wait(lambda: set(world.ask("host/client", where, 1)) <= BOTH, "it answers")
    seen = set(world.ask("host/client", where, 20))
    assert len(seen) == 1
    assert seen < BOTH


def test_affinity_ends_with_its_timeout(world):
    config = {"clientIP": {"timeoutSeconds": 1}}
    address = world.service("forgetful", sessionAffinity="ClientIP", sessionAffinityConfig=config)["spec"]["clusterIP"]
    world.cluster.wait(lambda: set(world.ask("c-1", address, 1)) <= BOTH, "it answers")
    assert len(set(world.ask("c-1", address, 10))) == 1
    seen: set[str] = set()

    def both() -> bool:  # each time as likely the other one
        seen.update(world.shell("c-1", f"sleep 1.5; curl -s -m 2 http://{address}/hostname").split())
        return seen == BOTH

    world.cluster.wait(both, "another endpoint when the timeout is over", 40)


def test_internal_traffic_stays_on_its_node_when_told_so(world):
    address = world.service("internal", internalTrafficPolicy="Local", selector={"app": "internal"})["spec"][
        "clusterIP"
    ]
    world.run(web("web-3", "worker-1", "internal"))
    world.answered("c-1", address, {"web-3"})
    world.answered("node/worker-1", address, {"web-3"}, 4)
    world.answered("c-2", address, {TIMED_OUT}, 1, wait_s=0.5)


@pytest.mark.parametrize(
    ("spec", "annotation"),
    [({"trafficDistribution": "PreferClose"}, ""), ({}, "service.kubernetes.io/topology-mode=Auto")],
    ids=["trafficDistribution", "topology-mode"],
)
def test_close_endpoints_are_preferred(world, spec, annotation):
    for node, zone in (("worker-1", "east"), ("worker-2", "west")):
        world.cluster.kubectl("label", "node", node, f"topology.kubernetes.io/zone={zone}")
    try:
        address = world.service("close", **spec)["spec"]["clusterIP"]
        if annotation:
            world.kubectl("annotate", "service", "close", annotation)
        world.answered("c-1", address, {"web-1"})
        world.answered("c-2", address, {"web-2"})
        world.answered("node/control-plane", address, BOTH, 24)
    finally:
        world.cluster.kubectl("label", "nodes", "--all", "topology.kubernetes.io/zone-")


# -- churn


def test_two_hundred_services_come_and_go_while_one_is_asked(world):
    """No wrong answer meanwhile, no rule left behind."""
    address = world.service("steady")["spec"]["clusterIP"]
    world.answered("c-1", address, BOTH)
    world.answered("c-2", address, BOTH)
    before = {node: world.ruleset(node) for node in world.nodes}
    loop = f"while :; do curl -s -m 2 http://{address}/hostname || echo rc=$?; echo; sleep 0.02; done"
    command = [sys.executable, "-m", "podnet", "exec", "-c", world.cluster.name, world.source("c-2"), "--", "sh", "-c"]
    asking = subprocess.Popen([*command, loop], env=world.cluster.env, stdout=subprocess.PIPE, text=True)
    try:
        for turn in range(4):
            names = [f"churn-{turn}-{number}" for number in range(50)]
            spec = {"type": "NodePort", "selector": {"app": ("web", "nobody")[turn % 2]}, "ports": [HTTP, UDP]}
            world.apply(
                *(
                    {
                        "apiVersion": "v1",
                        "kind": "Service",
                        "metadata": {"name": name, "namespace": NAMESPACE, "labels": {"of": "churn"}},
                        "spec": spec,
                    }
                    for name in names
                )
            )
            last = world.read("service", names[-1])["spec"]["clusterIP"]
            world.answered("c-1", last, BOTH if turn % 2 == 0 else {REFUSED}, 8)
            world.kubectl("delete", "service", "-l", "of=churn")
    finally:
        asking.terminate()
        output, _ = asking.communicate(timeout=20)
    seen = Counter(line for line in output.splitlines() if line)
    assert set(seen) == BOTH, seen
    assert sum(seen.values()) > 20
    for node, rules in before.items():
        world.cluster.wait(lambda n=node, r=rules: world.ruleset(n) == r, f"{node}: the rules are as before", 15)


def test_a_connection_that_runs_outlives_other_endpoints(world):
    """TCP is never touched: a request that takes a while ends well although the endpoints change under it."""
    address = world.service("long")["spec"]["clusterIP"]
    world.answered("c-1", address, BOTH)
    command = [sys.executable, "-m", "podnet", "exec", "-c", world.cluster.name, world.source("c-1"), "--"]
    running = subprocess.Popen(
        [*command, "curl", "-s", "-m", "20", f"http://{address}/shell?cmd=sleep%206;echo%20done"],
        env=world.cluster.env,
        stdout=subprocess.PIPE,
        text=True,
    )
    servers = ("web-1", "web-2")
    world.cluster.wait(lambda: any("sleep" in world.shell(s, "ps ax") for s in servers), "the server works on it")
    world.patch("long", spec={"selector": {"app": "nobody"}})
    world.answered("c-1", address, {REFUSED}, 2)
    output, _ = running.communicate(timeout=30)
    assert "done" in output
