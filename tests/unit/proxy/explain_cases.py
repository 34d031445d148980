"""Services of every shape, to be explained: objects, and listings as a kernel printed them (tests/golden/explain)."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from proxy_objects import LOCAL, NODE_IP, ON_A_NODE_PORT, REMOTE, endpoint, facts, piece, service

from podnet.proxy.explain.service import Material
from podnet.proxy.model import compile_model

GOLDEN = Path(__file__).parents[2] / "golden" / "explain"
NODE = {
    "metadata": {"name": "n1", "labels": {"topology.kubernetes.io/zone": "a"}},
    "status": {"addresses": [{"type": "InternalIP", "address": NODE_IP}, {"type": "Hostname", "address": "n1"}]},
}
POD = {
    "metadata": {"name": "web-0", "namespace": "default", "labels": {"app": "web"}},
    "spec": {"nodeName": "n1"},
    "status": {"phase": "Running", "podIP": "10.244.1.2"},
}
AFFINITY = {"sessionAffinity": "ClientIP", "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 60}}}
BALANCED = {"type": "LoadBalancer", "ports": ON_A_NODE_PORT, "ingress": [{"ip": "198.51.100.7"}]}
GOING = endpoint("10.244.2.9", "n2", ready=False, serving=True, terminating=True)
UNREADY = endpoint("10.244.1.9", "n1", ready=False, serving=False)


def flow(destination, port, endpoint_ip, **other):
    return {
        "protocol": "tcp", "source": "10.244.1.8", "source_port": 40000, "destination": destination,
        "destination_port": port, "reply_source": endpoint_ip, "reply_source_port": 8080,
        "reply_destination": "10.244.1.8", "reply_destination_port": 40000, "state": "ESTABLISHED", "timeout_s": 86390,
        "packets": 0, "bytes": 0, **other,
    }  # fmt: skip


@dataclass(frozen=True)
class Case:
    id: str
    service: dict
    slices: tuple = ()
    flows: tuple = ()
    pods: tuple = (POD,)
    others: tuple = field(default=())

    def model(self):
        return compile_model(facts(zone="a"), [self.service], self.slices)

    def listing_file(self, mode):
        return GOLDEN / f"{self.id}.{mode}.listing"

    def material(self, mode, listing=None):
        if listing is None:
            path = self.listing_file(mode)
            listing = path.read_text() if mode != "none" and path.exists() else ""
        return Material(self.service, NODE, mode, listing, self.slices, self.pods, self.flows)


NAMED = {**LOCAL, "targetRef": {"kind": "Pod", "namespace": "default", "name": "web-0"}}

CASES = [
    Case("cluster-ip", service(), (piece(NAMED, REMOTE),), (flow("10.96.0.5", 80, "10.244.2.2"),)),
    Case("one-endpoint", service(), (piece(LOCAL),)),
    Case("node-port", service(type="NodePort", ports=ON_A_NODE_PORT), (piece(LOCAL, REMOTE),),
         (flow(NODE_IP, 30080, "10.244.2.2", source="192.168.100.200", reply_destination=NODE_IP),
          flow("10.96.0.5", 80, "10.244.9.9"))),
    Case("affinity", service(**AFFINITY), (piece(LOCAL, REMOTE),)),
    Case("affinity-one", service(**AFFINITY), (piece(REMOTE),)),
    Case("internal-local", service(internalTrafficPolicy="Local"), (piece(LOCAL, REMOTE),)),
    Case("internal-local-elsewhere", service(internalTrafficPolicy="Local"), (piece(REMOTE),)),
    Case("external-local",
         service(type="NodePort", ports=ON_A_NODE_PORT, externalTrafficPolicy="Local"), (piece(LOCAL, REMOTE),)),
    Case("external-local-elsewhere",
         service(type="NodePort", ports=ON_A_NODE_PORT, externalTrafficPolicy="Local"), (piece(REMOTE),)),
    Case("external-ips", service(externalIPs=["192.0.2.9"]), (piece(LOCAL, REMOTE),)),
    Case("load-balancer", service(**BALANCED, externalTrafficPolicy="Local", healthCheckNodePort=31999,
                                  loadBalancerSourceRanges=["203.0.113.0/24", "198.51.100.0/25"]),
         (piece(LOCAL, REMOTE),)),
    Case("load-balancer-one-range", service(**BALANCED, loadBalancerSourceRanges=["203.0.113.0/24"]), (piece(LOCAL),)),
    Case("two-protocols",
         service(ports=[{"name": "tcp", "port": 53, "protocol": "TCP"}, {"name": "udp", "port": 53, "protocol": "UDP"}]),
         (piece(LOCAL, REMOTE, ports=[{"name": "tcp", "port": 53, "protocol": "TCP"},
                                      {"name": "udp", "port": 53, "protocol": "UDP"}]),)),
    Case("terminating", service(), (piece(GOING),)),
    Case("some-ready", service(), (piece(LOCAL, GOING, UNREADY),)),
    Case("hints", service(trafficDistribution="PreferClose"),
         (piece(endpoint("10.244.1.2", hints={"forZones": [{"name": "a"}]}),
                endpoint("10.244.2.2", "n2", hints={"forZones": [{"name": "b"}]})),)),
    Case("no-endpoints", service(selector={"app": "nobody"})),
    Case("no-endpoints-node-port", service(type="NodePort", ports=ON_A_NODE_PORT, selector={"app": "web"})),
    Case("none-ready", service(selector={"app": "web"}), (piece(UNREADY),)),
    Case("no-selector", service()),
]  # fmt: skip

NO_RULES = [
    Case("headless", service(clusterIP="None"), (piece(LOCAL, REMOTE),)),
    Case("external-name", service(type="ExternalName", clusterIP="", externalName="example.com")),
    Case("other-proxy", service(labels={"service.kubernetes.io/service-proxy-name": "mine"}), (piece(LOCAL),)),
    Case("headless-label", service(labels={"service.kubernetes.io/headless": ""}), (piece(LOCAL),)),
]
