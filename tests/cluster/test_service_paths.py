"""Services on a booted cluster, in every proxy mode: the packet-flow table of kube-proxy, as far as a packet shows it."""

from __future__ import annotations

import pytest
from scapy.layers.inet import IP, TCP
from services_world import (
    AGNHOST,
    BALANCER_IP,
    BOTH,
    EXTERNAL_IP,
    HTTP,
    REFUSED,
    TIMED_OUT,
    UDP,
    addresses_of,
    balancer,
    endpoint_slice,
    pod,
    web,
)


def test_addresses_from_outside_are_masqueraded_for_all_who_ask(world):
    """externalIPs, load balancer and node port under policy Cluster: the server sees the node, even for a pod."""
    spec = balancer(world, "all", externalIPs=[EXTERNAL_IP])
    node_port = f"{world.nodes['worker-1']}:{spec['ports'][0]['nodePort']}"
    with world.routed(EXTERNAL_IP, "worker-1"), world.routed(BALANCER_IP, "worker-1"):
        for where in (EXTERNAL_IP, BALANCER_IP, node_port):
            world.answered("host/client", where, BOTH, 8)
            assert world.seen_as("host/client", where) in addresses_of(world, "worker-1"), where
            world.answered("c-1", where, BOTH, 8)
            assert world.seen_as("c-1", where) in addresses_of(world, "worker-1"), where
            world.answered("node/worker-1", where, BOTH, 8)


def test_the_local_policy_holds_for_every_address_from_outside(world):
    """externalIPs and load balancer under policy Local: others only here and as themselves; pods and the node anywhere."""
    balancer(world, "every", externalTrafficPolicy="Local", selector={"app": "every"}, externalIPs=[EXTERNAL_IP])
    world.run(web("web-3", "worker-1", "every"))
    for where in (EXTERNAL_IP, BALANCER_IP):
        with world.routed(where, "worker-1"):
            world.answered("host/client", where, {"web-3"}, 4)
            assert world.seen_as("host/client", where) == "192.168.100.200", where
        with world.routed(where, "worker-2"):
            world.answered("host/client", where, {TIMED_OUT}, 1, wait_s=0.5)
        world.answered("c-2", where, {"web-3"}, 4)
        assert world.seen_as("c-2", where) == world.ip("c-2"), where
        world.answered("node/worker-2", where, {"web-3"}, 4)
        assert world.seen_as("node/worker-2", where) in addresses_of(world, "worker-2"), where


def test_without_endpoints_every_address_and_protocol_is_refused(world):
    """An ICMP message comes back, for UDP as well: a connected socket is told so."""
    both = {"ports": [HTTP, UDP], "selector": {"app": "nobody"}}
    spec = balancer(world, "void", externalIPs=[EXTERNAL_IP], **both)
    port = spec["ports"][0]["nodePort"]
    assert spec["ports"][1]["nodePort"] == port
    wheres = [(spec["clusterIP"], 80), (EXTERNAL_IP, 80), (BALANCER_IP, 80), (world.nodes["worker-1"], port)]
    program = (
        "import socket; s = socket.socket(type=socket.SOCK_DGRAM); s.settimeout(2); s.connect(({!r}, {})); "
        "s.send(b'hostname')\ntry: print(s.recv(99))\nexcept OSError as error: print(type(error).__name__)"
    )
    with world.routed(EXTERNAL_IP, "worker-1"), world.routed(BALANCER_IP, "worker-1"):
        for source in ("c-1", "c-2", "node/worker-1", "host/client"):
            for address, number in wheres:
                if source == "host/client" and address == spec["clusterIP"]:
                    continue
                world.answered(source, f"{address}:{number}", {REFUSED}, 1)
        for address, number in wheres[1:]:
            command = ("host/client", "python3", "-c", program.format(address, number))
            # Soon, not at once: the kernel sends one host a few ICMP errors and then one a second (icmp_ratelimit).
            world.cluster.wait(
                lambda c=command: world.cluster.exec(*c, check=False).stdout.strip() == "ConnectionRefusedError",
                f"{address}:{number} refuses UDP",
            )


def test_what_no_service_owns_is_touched_only_by_nftables(world, start_in_room):
    """Another port of a Service and an unused address: nftables refuses and drops; iptables lets them pass, and they arrive.

    The outside host has both addresses and listens on the port, so that what passes is seen to pass.
    """
    address, unused = world.service("known-port")["spec"]["clusterIP"], "10.96.255.253"
    world.answered("c-1", address, BOTH)
    targets = (address, unused)
    place = world.cluster.home / "passed"
    serving = f"mkdir -p {place} && echo passed > {place}/hostname && exec python3 -m http.server 81 -d {place}"
    start_in_room(world.cluster, "host/client", "sh", "-c", serving)
    world.cluster.wait(lambda: world.ask("host/client", "127.0.0.1:81") == ["passed"], "the listener")
    try:
        for target in targets:
            world.shell("host/client", f"ip address add {target}/32 dev lo")
            world.shell("node/worker-1", f"ip route replace {target} via 192.168.100.200")
        wanted = {"nftables": ({REFUSED}, {TIMED_OUT}), "iptables": ({"passed"}, {"passed"})}[world.mode]
        for target, expected in zip(targets, wanted, strict=True):
            world.answered("c-1", f"{target}:81", expected, 2, wait_s=1)
        world.answered("c-1", address, BOTH)
    finally:
        for target in targets:
            world.shell("host/client", f"ip address del {target}/32 dev lo")
            world.shell("node/worker-1", f"ip route del {target}")


def test_headless_services_and_external_names_have_no_rule(world):
    before = {node: world.ruleset(node) for node in world.nodes}
    world.service("headless", clusterIP="None", type="ClusterIP")
    world.service("elsewhere", type="ExternalName", externalName="example.org", selector=None, ports=[HTTP])
    # What comes later has its rules: those before it have been seen.
    last = world.service("after")["spec"]["clusterIP"]
    for source in ("c-1", "c-2", "node/control-plane"):
        world.answered(source, last, BOTH)
    for node in world.nodes:
        assert "headless" not in world.ruleset(node)
        assert "elsewhere" not in world.ruleset(node)
    world.kubectl("delete", "service", "after")
    for node, rules in before.items():
        world.cluster.wait(lambda n=node, r=rules: world.ruleset(n) == r, f"{node}: the rules are as before", 15)


def test_internal_policy_local_for_nodes_and_for_pods_of_the_host_network(world):
    address = world.service("in-host", internalTrafficPolicy="Local", selector={"app": "in-host"})["spec"]["clusterIP"]
    body = pod("web-3", "worker-1", AGNHOST, ["netexec", "--http-port=8080"], {"app": "in-host"}, hostNetwork=True)
    world.run(body)
    for source in ("c-1", "node/worker-1"):
        world.answered(source, address, {"worker-1"}, 2)
    for source in ("c-2", "node/worker-2", "node/control-plane"):
        world.answered(source, address, {TIMED_OUT}, 1, wait_s=0.5)


def test_terminating_endpoints_are_the_last_resort_of_every_policy(world):
    """Decided for the Cluster and the Local set apart; the health check says there is nobody although traffic flows."""
    body = web("web-3", "worker-1", "leaving")
    body["spec"]["terminationGracePeriodSeconds"] = 60
    body["spec"]["containers"][0]["lifecycle"] = {"preStop": {"exec": {"command": ["sleep", "50"]}}}
    chosen = {"selector": {"app": "leaving"}}
    inner = world.service("leaving-in", internalTrafficPolicy="Local", **chosen)["spec"]["clusterIP"]
    outer = balancer(world, "leaving-out", externalTrafficPolicy="Local", **chosen)
    port, health = outer["ports"][0]["nodePort"], outer["healthCheckNodePort"]
    here = f"{world.nodes['worker-1']}:{port}"
    world.run(body)

    def healthy() -> str:
        code = "curl -s -m 2 -o /dev/null -w '%{http_code}'"
        return world.shell("host/client", f"{code} http://{world.nodes['worker-1']}:{health}/")

    world.cluster.wait(lambda: healthy() == "200", "somebody is here")
    world.kubectl("delete", "pod", "web-3", "--wait=false")
    world.cluster.wait(lambda: healthy() == "503", "only one that leaves is here")
    world.answered("c-1", inner, {"web-3"}, 2)
    world.answered("host/client", here, {"web-3"}, 2)
    assert world.seen_as("host/client", here) == "192.168.100.200"
    # Somebody ready elsewhere ends it for the Cluster set, but not for the Local one.
    world.run(web("web-4", "worker-2", "leaving"))
    world.answered("c-1", outer["clusterIP"], {"web-4"}, 8)
    world.answered("host/client", here, {"web-3"}, 4)
    world.answered("c-1", inner, {"web-3"}, 4)


def test_hints_count_only_when_every_endpoint_has_them(world):
    """Hints of a person: for a zone each, then for one of two endpoints, which is no hint at all."""
    address = world.service("hinted", selector=None)["spec"]["clusterIP"]
    first = endpoint_slice("hinted-a", "hinted", world.ip("web-1"))
    second = endpoint_slice("hinted-b", "hinted", world.ip("web-2"))
    first["endpoints"][0]["hints"] = {"forZones": [{"name": "west"}]}
    second["endpoints"][0]["hints"] = {"forZones": [{"name": "east"}]}
    world.made("endpointslice/hinted-a", "endpointslice/hinted-b")
    for node, zone in (("worker-1", "east"), ("worker-2", "west")):
        world.cluster.kubectl("label", "node", node, f"topology.kubernetes.io/zone={zone}")
    try:
        world.apply(first, second)
        world.answered("c-1", address, {"web-2"}, 12)
        world.answered("c-2", address, {"web-1"}, 12)
        world.answered("node/control-plane", address, BOTH)
        del second["endpoints"][0]["hints"]
        world.apply(second)
        world.answered("c-1", address, BOTH)
        world.answered("c-2", address, BOTH)
    finally:
        world.cluster.kubectl("label", "nodes", "--all", "topology.kubernetes.io/zone-")


def test_affinity_on_a_node_port_can_be_switched_off_and_on(world):
    spec = world.service("np-switch", type="NodePort")["spec"]
    where = f"{world.nodes['worker-2']}:{spec['ports'][0]['nodePort']}"
    world.answered("host/client", where, BOTH, 24)
    world.patch("np-switch", spec={"sessionAffinity": "ClientIP"})
    world.cluster.wait(lambda: len(set(world.ask("host/client", where, 16))) == 1, "sticky")
    assert set(world.ask("host/client", where, 8)) < BOTH
    world.patch("np-switch", spec={"sessionAffinity": "None"})
    world.answered("host/client", where, BOTH, 24)


def test_affinity_is_refreshed_by_each_connection(world):
    """Asked twice a second, an affinity of three seconds lasts five."""
    config = {"clientIP": {"timeoutSeconds": 3}}
    address = world.service("fresh", sessionAffinity="ClientIP", sessionAffinityConfig=config)["spec"]["clusterIP"]
    world.cluster.wait(lambda: set(world.ask("c-1", address, 1)) <= BOTH, "it answers")
    loop = f"for i in $(seq 10); do curl -s -m 2 http://{address}/hostname; echo; sleep 0.5; done"
    seen = world.shell("c-1", loop).split()
    assert len(seen) == 10
    assert len(set(seen)) == 1, seen
    assert set(seen) < BOTH


def test_a_udp_client_meets_an_endpoint_that_becomes_ready_again(world):
    """A flow of a fixed port goes to the endpoint that is ready now."""
    switch = {"exec": {"command": ["test", "!", "-e", "/tmp/down"]}, "periodSeconds": 1, "failureThreshold": 1}
    body = web("web-3", "worker-1", "udp-again")
    body["spec"]["containers"][0]["readinessProbe"] = switch
    address = world.service("udp-again", ports=[UDP], selector={"app": "udp-again"})["spec"]["clusterIP"]
    world.run(body)

    def says(*wanted: str) -> None:
        world.cluster.wait(lambda: world.ask_udp("c-2", address, 80, source_port=12346) == [*wanted], f"{wanted}", 20)

    says("web-3")
    world.shell("web-3", "touch /tmp/down")
    world.run(web("web-4", "worker-2", "udp-again"))
    says("web-4")
    world.shell("web-3", "rm /tmp/down")
    world.kubectl("delete", "pod", "web-4", "--now")
    says("web-3")


def test_one_host_port_with_other_addresses_and_protocols(world):
    """Beside kube-proxy's rules of either mode: no conflict, each is reached, from outside and from pods."""
    address = world.nodes["worker-2"]

    def server(name: str, **port) -> dict:
        body = web(name, "worker-2", "host-port")
        body["spec"]["containers"][0]["ports"] = [{"hostPort": 54321, **port}]
        return body

    world.run(
        server("web-5", containerPort=8080, hostIP="127.0.0.1"),
        server("web-6", containerPort=8080, hostIP=address),
        server("web-7", containerPort=8081, hostIP=address, protocol="UDP"),
    )
    for source in ("host/client", "c-1", "c-2", "node/worker-1", "node/worker-2"):
        world.answered(source, f"{address}:54321", {"web-6"}, 2)
        world.cluster.wait(lambda s=source: world.ask_udp(s, address, 54321) == ["web-7"], f"{source}: UDP", 10)
    world.answered("node/worker-2", "127.0.0.1:54321", {"web-5"}, 2)


def test_names_are_found_over_the_rules_of_this_mode(world):
    """A lookup is a Service packet, over UDP and TCP, from every node that has a pod."""
    for source in ("c-1", "c-2"):
        for transport in ("+notcp", "+tcp"):
            command = f"dig +short {transport} +tries=3 kubernetes.default.svc.cluster.local."
            assert world.shell(source, command).split() == ["10.96.0.1"], (source, transport)


# -- a packet that connection tracking does not know

# Two requests over one connection; in between it says what a segment of the server would carry: the port it goes to, the
# number the client waits for, and the number the server waits for.
TALK = """
import socket, struct, sys
tap = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(0x0800))
with socket.create_connection(("{address}", 80), timeout=5) as server:
    def ask():
        server.sendall(b"GET /hostname HTTP/1.1\\r\\nHost: web\\r\\n\\r\\n")
        return server.recv(4096).decode().rpartition("\\r\\n")[2]
    print(ask(), flush=True)
    port, tap_timeout, numbers = server.getsockname()[1], tap.settimeout(0.5), None
    try:
        while True:
            packet = tap.recv(2048)
            tcp = packet[(packet[0] & 15) * 4 :]
            if packet[9] == 6 and struct.unpack("!HH", tcp[:4]) == (80, port):
                sent = struct.unpack("!H", packet[2:4])[0] - (packet[0] & 15) * 4 - (tcp[12] >> 4) * 4
                sequence, acknowledged = struct.unpack("!II", tcp[4:12])
                numbers = (sequence + sent, acknowledged)
    except TimeoutError:
        print(port, *numbers, flush=True)
    sys.stdin.readline()
    print(ask(), flush=True)
"""
SEND = """
import socket
with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_TCP) as raw:
    for _ in range(3):
        print(raw.sendto(bytes.fromhex("{segment}"), ("{client}", 0)))
"""


@pytest.mark.parametrize("server", ["web-1", "web-2"], ids=["same node", "another node"])
def test_a_segment_outside_the_window_ends_no_connection(world, start_in_room, server):
    """To connection tracking it is INVALID; untranslated it would reach the client from an endpoint it never called, and
    the client's RST would end the connection (kubernetes/kubernetes issue 74839)."""
    world.run(web("web-late", world.read("pod", server)["spec"]["nodeName"], "late"))
    address = world.service("late", selector={"app": "late"})["spec"]["clusterIP"]
    world.answered("c-1", address, {"web-late"}, 2)
    client, endpoint = world.ip("c-1"), world.ip("web-late")
    talk = start_in_room(world.cluster, world.source("c-1"), "python3", "-c", TALK.format(address=address))
    assert talk.stdout.readline().strip() == "web-late", talk.stderr.read()
    port, expected, acknowledged = (int(word) for word in talk.stdout.readline().split())
    beyond = (expected + (1 << 28)) % (1 << 32)
    tcp = TCP(sport=8080, dport=port, seq=beyond, ack=acknowledged, flags="PA", window=1024)
    segment = bytes(IP(src=endpoint, dst=client) / tcp / b"boom")[20:]
    sending = ("python3", "-c", SEND.format(segment=segment.hex(), client=client))
    sent = world.cluster.exec(world.source("web-late"), *sending).stdout
    assert sent.split() == [str(len(segment))] * 3
    output, errors = talk.communicate("go on\n", timeout=20)
    assert (output.strip(), errors) == ("web-late", "")


def test_an_address_with_zeros_in_front_is_decimal(world):
    """010.096.077.007 is 10.96.77.7 for the API, the rules and the names, never an octal number (CVE-2021-29923)."""
    world.service("zeros", clusterIP="010.096.077.007")
    world.answered("c-1", "10.96.77.7", BOTH, 8)
    world.answered("node/worker-2", "10.96.77.7", BOTH, 8)
    world.cluster.wait(
        lambda: world.shell("c-2", "dig +short +search zeros").split() == ["10.96.77.7"], "the name of it", 10
    )


def test_the_proxy_of_a_node_tells_its_mode_and_whether_the_node_stays(world):
    """Port 10249 for the node itself; 10256 for load balancers, which are to leave a node that is marked for deletion."""
    mark = "ToBeDeletedByClusterAutoscaler"

    def code(source, path):
        return world.shell(source, f"curl -s -o /dev/null -m 2 -w '%{{http_code}}' http://{path}").strip()

    worker = world.nodes["worker-1"]
    assert world.shell("node/worker-1", "curl -s http://127.0.0.1:10249/proxyMode") == world.mode
    assert "kubeproxy_sync_proxy_rules_duration_seconds_count" in world.shell(
        "node/worker-1", "curl -s http://127.0.0.1:10249/metrics"
    )
    assert code("host/client", f"{worker}:10249/proxyMode") == "000", "nobody else is told"
    assert code("host/client", f"{worker}:10256/healthz") == "200"
    world.cluster.kubectl("taint", "node", "worker-1", f"{mark}=1:NoSchedule")
    try:
        world.cluster.wait(lambda: code("host/client", f"{worker}:10256/healthz") == "503", "healthz says 503", 10)
        assert code("host/client", f"{worker}:10256/livez") == "200"
    finally:
        world.cluster.kubectl("taint", "node", "worker-1", f"{mark}-")
    world.cluster.wait(lambda: code("host/client", f"{worker}:10256/healthz") == "200", "healthz says 200", 10)
