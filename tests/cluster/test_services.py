"""Services on a booted cluster, in every proxy mode: who answers, and whom the server sees, from every place.

    web-1 (worker-1)   web-2 (worker-2)      the endpoints, agnhost netexec
    c-1   (worker-1)   c-2   (worker-2)      pods that ask
    client                                    a host outside the cluster; nodes ask, too

The Services lines of the conformance list and the packet-flow table of kube-proxy, as far as a packet can show them.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter

import pytest
import yaml

from podnet.proxy.modes import MODES

AGNHOST = "registry.k8s.io/e2e-test-images/agnhost:2.53"
NETSHOOT = "nicolaka/netshoot"
NAMESPACE = "world"
REFUSED, TIMED_OUT = "rc=7", "rc=28"
BOTH = {"web-1", "web-2"}
EXTERNAL_IP, BALANCER_IP = "203.0.113.10", "203.0.113.20"


def pod(name: str, node: str, image: str, args: list[str], labels: dict, **spec) -> dict:
    container = {"name": "c", "image": image, "args" if image == AGNHOST else "command": args}
    spec = {"nodeName": node, "terminationGracePeriodSeconds": 0, "containers": [container], **spec}
    metadata = {"name": name, "namespace": NAMESPACE, "labels": labels}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}


def web(name: str, node: str, app: str = "web", **spec) -> dict:
    return pod(name, node, AGNHOST, ["netexec", "--http-port=8080", "--udp-port=8081"], {"app": app}, **spec)


def asking(name: str, node: str) -> dict:
    return pod(name, node, NETSHOOT, ["sleep", "infinity"], {"app": "asking"})


HTTP = {"name": "http", "port": 80, "targetPort": 8080, "protocol": "TCP"}
UDP = {"name": "udp", "port": 80, "targetPort": 8081, "protocol": "UDP"}


class World:
    """A booted cluster with endpoints and those who ask."""

    def __init__(self, cluster, mode: str) -> None:
        self.cluster = cluster
        self.mode = mode
        self.nodes = {node["name"]: node["ip"] for node in cluster.status()["nodes"]}
        self._made: list[str] = []

    def apply(self, *objects: dict) -> None:
        body = {"apiVersion": "v1", "kind": "List", "items": [*objects]}
        self.cluster.kubectl("apply", "-f", "-", input=json.dumps(body))

    def kubectl(self, *words: str, check: bool = True):
        return self.cluster.kubectl("-n", NAMESPACE, *words, check=check)

    def service(self, name: str, **spec) -> dict:
        """Make a Service and read it back; it goes after the test."""
        labels = spec.pop("labels", {})
        spec.setdefault("selector", {"app": "web"})
        spec.setdefault("ports", [HTTP])
        spec = {key: value for key, value in spec.items() if value is not None}
        metadata = {"name": name, "namespace": NAMESPACE, "labels": labels}
        self.apply({"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": spec})
        self._made.append(f"service/{name}")
        return self.read("service", name)

    def run(self, *pods: dict) -> None:
        """Run pods until they are ready; they go after the test."""
        self.apply(*pods)
        names = [f"pod/{body['metadata']['name']}" for body in pods]
        self._made += names
        self.kubectl("wait", "--for=condition=Ready", *names, "--timeout=60s")

    def made(self, *names: str) -> None:
        self._made += names

    def clean(self) -> None:
        if self._made:
            self.kubectl("delete", "--ignore-not-found", "--now", *self._made, check=False)
        self._made.clear()

    def read(self, kind: str, name: str) -> dict:
        return json.loads(self.kubectl("get", kind, name, "-o", "json").stdout)

    def patch(self, name: str, *words: str, **body) -> None:
        self.kubectl("patch", "service", name, "--type=merge", "-p", json.dumps(body), *words)

    def ip(self, name: str) -> str:
        return self.read("pod", name)["status"]["podIP"]

    def source(self, name: str) -> str:
        return f"pod/{NAMESPACE}/{name}" if name.startswith(("c-", "web-")) else name

    def shell(self, source: str, command: str) -> str:
        return self.cluster.exec(self.source(source), "sh", "-c", command, check=False).stdout

    def ask(self, source: str, where: str, times: int = 1, path: str = "hostname", wait_s: float = 2) -> list[str]:
        """What `times` new connections are answered; `rc=7` for a refusal, `rc=28` for silence."""
        command = f"curl -s -m {wait_s} http://{where}/{path} || echo rc=$?; echo"
        loop = f"for i in $(seq {times}); do {command}; done"
        return [line for line in self.shell(source, loop).splitlines() if line]

    def ask_udp(self, source: str, address: str, port: int, times: int = 1, source_port: int = 0) -> list[str]:
        fixed = f",sourceport={source_port},reuseaddr" if source_port else ""
        command = f"echo hostname | socat -t 0.3 - udp:{address}:{port}{fixed} || echo refused; echo"
        return [
            line for line in self.shell(source, f"for i in $(seq {times}); do {command}; done").splitlines() if line
        ]

    def answered(self, source: str, where: str, expected: set[str], times: int = 16, **kwargs) -> None:
        """Soon, exactly these answer."""
        seen: set[str] = set()

        def same() -> bool:
            seen.clear()
            seen.update(self.ask(source, where, times, **kwargs))
            return seen == expected

        try:
            self.cluster.wait(same, f"{source} asks {where}", 10)
        except AssertionError:
            assert seen == expected, f"{source} asks {where}"

    def seen_as(self, source: str, where: str) -> str:
        """The address the server sees."""
        (line,) = self.ask(source, where, path="clientip")
        return line.partition(":")[0]

    def routed(self, address: str, node: str):
        """The client and nobody else sends packets to this address to a node."""
        return Route(self, address, node)

    def ruleset(self, node: str) -> str:
        """All rules of a node, without what counts or comes and goes by itself."""
        if self.mode == "iptables":
            text = self.shell(f"node/{node}", "iptables-save")
            kept = [line.partition(" [")[0] for line in text.splitlines() if not line.startswith("#")]
            return "\n".join(sorted(kept))
        return self.shell(f"node/{node}", "nft -s list ruleset ip")


class Route:
    """A route on the outside host, for one `with` block."""

    def __init__(self, world: World, address: str, node: str) -> None:
        self._world = world
        self._route = f"{address} via {world.nodes[node]}"

    def __enter__(self) -> None:
        self._world.shell("host/client", f"ip route replace {self._route}")

    def __exit__(self, *_: object) -> None:
        self._world.shell("host/client", f"ip route del {self._route}")


@pytest.fixture(scope="module", params=MODES)
def booted(request, boot_cluster, tmp_path_factory):
    path = tmp_path_factory.mktemp(request.param) / "cluster.yaml"
    spec = {"apiVersion": "podnet.dev/v1alpha1", "kind": "Cluster", "spec": {"proxy": {"mode": request.param}}}
    path.write_text(yaml.safe_dump(spec))
    cluster = boot_cluster("-f", str(path))
    cluster.kubectl("create", "namespace", NAMESPACE)
    world = World(cluster, request.param)
    world.run(web("web-1", "worker-1"), web("web-2", "worker-2"), asking("c-1", "worker-1"), asking("c-2", "worker-2"))
    world._made.clear()
    yield world
    cluster.down()


@pytest.fixture
def world(booted):
    yield booted
    booted.clean()


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


def endpoint_slice(name: str, service: str, address: str, port: int = 8080, port_name: str = "http") -> dict:
    labels = {"kubernetes.io/service-name": service, "endpointslice.kubernetes.io/managed-by": "a-person"}
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {"name": name, "namespace": NAMESPACE, "labels": labels},
        "addressType": "IPv4",
        "endpoints": [{"addresses": [address]}],
        "ports": [{"name": port_name, "port": port, "protocol": "TCP"}],
    }


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


def balancer(world, name: str, **spec) -> dict:
    world.service(name, type="LoadBalancer", **spec)
    ingress = {"loadBalancer": {"ingress": [{"ip": BALANCER_IP}]}}
    world.patch(name, "--subresource=status", status=ingress)
    return world.read("service", name)["spec"]


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


# -- the rest of the packet-flow table: every origin, every kind of address


def addresses_of(world, node: str) -> set[str]:
    rows = json.loads(world.shell(f"node/{node}", "ip -j -4 address"))
    return {info["local"] for row in rows for info in row["addr_info"]}


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
    """An ICMP message comes back at once, for UDP as well: a connected socket is told so."""
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
            said = world.cluster.exec("host/client", "python3", "-c", program.format(address, number), check=False)
            assert said.stdout.strip() == "ConnectionRefusedError", (address, said.stderr)


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
