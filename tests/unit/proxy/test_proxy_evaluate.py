"""The oracle: objects and a packet → verdict, endpoints, masqueraded? One row for each rule of kube-proxy's semantics,
read from the model by `evaluate` and, walked rule by rule, from the nftables ruleset."""

from __future__ import annotations

from dataclasses import dataclass, field
from ipaddress import IPv4Address

import pytest
from nft_walk import walk
from proxy_objects import LOCAL, NODE_IP, ON_A_NODE_PORT, REMOTE, endpoint, model, piece, service

from podnet.proxy.evaluate import Packet, evaluate
from podnet.proxy.nftables.render import compile_ruleset

POD, OTHER_POD, NODE, OUTSIDE = "10.244.1.9", "10.244.1.2", NODE_IP, "192.168.100.200"
CLUSTER_IP, EXTERNAL_IP, LB_IP = "10.96.0.5", "203.0.113.7", "198.51.100.9"
BOTH = ("10.244.1.2", "10.244.2.2")
ORIGINS = {POD: "pod", OTHER_POD: "pod", NODE: "node", OUTSIDE: "external"}


@dataclass(frozen=True)
class Case:
    name: str
    src: str
    dst: str
    action: str
    endpoints: tuple[str, ...] = ()
    masquerade: bool = False
    spec: dict = field(default_factory=dict)
    behind: tuple = (LOCAL, REMOTE)
    port: int = 80
    protocol: str = "TCP"
    labels: dict = field(default_factory=dict)
    facts: dict = field(default_factory=dict)
    iptables: str = ""


NODE_PORT = {"type": "NodePort", "ports": ON_A_NODE_PORT}
LB = {"type": "LoadBalancer", "ports": ON_A_NODE_PORT, "ingress": [{"ip": LB_IP}]}
E_LOCAL, I_LOCAL = {"externalTrafficPolicy": "Local"}, {"internalTrafficPolicy": "Local"}
RANGES = {"loadBalancerSourceRanges": ["10.0.0.0/8", "10.1.0.0/16", "172.16.0.0/12"]}
EXTERNAL = {"externalIPs": [EXTERNAL_IP]}
LEAVING = {"ready": False, "serving": True, "terminating": True}
GONE = {"ready": False, "serving": False, "terminating": True}

CASES = [
    Case("pod to cluster IP", POD, CLUSTER_IP, "dnat", BOTH),
    Case("pod to cluster IP, masquerade all", POD, CLUSTER_IP, "dnat", BOTH, True, facts={"masquerade_all": True}),
    Case("outside, external Local, masquerade all: as itself", OUTSIDE, NODE, "dnat", BOTH[:1], False,
         NODE_PORT | E_LOCAL, port=30080, facts={"masquerade_all": True}),
    Case("pod, external Local, masquerade all: as itself", POD, NODE, "dnat", BOTH, False,
         NODE_PORT | E_LOCAL, port=30080, facts={"masquerade_all": True}),
    Case("endpoint to its own service", OTHER_POD, CLUSTER_IP, "dnat", BOTH),
    Case("node to cluster IP", NODE, CLUSTER_IP, "dnat", BOTH, True),
    Case("outside to cluster IP", OUTSIDE, CLUSTER_IP, "dnat", BOTH, True),
    Case("pod, internal Local", POD, CLUSTER_IP, "dnat", BOTH[:1], spec=I_LOCAL),
    Case("node, internal Local", NODE, CLUSTER_IP, "dnat", BOTH[:1], True, spec=I_LOCAL),
    Case("internal Local, none here", POD, CLUSTER_IP, "drop", spec=I_LOCAL, behind=(REMOTE,)),
    Case("internal Local, none anywhere", POD, CLUSTER_IP, "reject", spec=I_LOCAL, behind=()),
    Case("outside to node port", OUTSIDE, NODE, "dnat", BOTH, True, NODE_PORT, port=30080),
    Case("pod to node port", POD, NODE, "dnat", BOTH, True, NODE_PORT, port=30080),
    Case("node to node port", NODE, NODE, "dnat", BOTH, True, NODE_PORT, port=30080),
    Case("node port of the other protocol", OUTSIDE, NODE, "pass", (), False, NODE_PORT, port=30080, protocol="UDP"),
    Case("outside, external Local", OUTSIDE, NODE, "dnat", BOTH[:1], False, NODE_PORT | E_LOCAL, port=30080),
    Case("pod, external Local", POD, NODE, "dnat", BOTH, False, NODE_PORT | E_LOCAL, port=30080),
    Case("node, external Local", NODE, NODE, "dnat", BOTH, True, NODE_PORT | E_LOCAL, port=30080),
    Case("outside, external Local, none here", OUTSIDE, NODE, "drop", (), False, NODE_PORT | E_LOCAL, (REMOTE,), 30080),
    Case("pod, external Local, none here", POD, NODE, "dnat", BOTH[1:], False, NODE_PORT | E_LOCAL, (REMOTE,), 30080),
    Case("node, external Local, none here", NODE, NODE, "dnat", BOTH[1:], True, NODE_PORT | E_LOCAL, (REMOTE,), 30080),
    Case("external Local changes nothing inside", POD, CLUSTER_IP, "dnat", BOTH, False, NODE_PORT | E_LOCAL),
    Case("outside to external IP", OUTSIDE, EXTERNAL_IP, "dnat", BOTH, True, EXTERNAL),
    Case("pod to external IP", POD, EXTERNAL_IP, "dnat", BOTH, True, EXTERNAL),
    Case("outside to external IP, Local", OUTSIDE, EXTERNAL_IP, "dnat", BOTH[:1], False, EXTERNAL | E_LOCAL),
    Case("outside to LB IP", OUTSIDE, LB_IP, "dnat", BOTH, True, LB),
    Case("outside to LB IP, Local", OUTSIDE, LB_IP, "dnat", BOTH[:1], False, LB | E_LOCAL),
    Case("LB IP that the load balancer keeps", OUTSIDE, LB_IP, "pass", (), False,
         LB | {"ingress": [{"ip": LB_IP, "ipMode": "Proxy"}]}),
    Case("LB IP from beyond the ranges", OUTSIDE, LB_IP, "drop", (), False, LB | RANGES),
    Case("LB IP from within the ranges", POD, LB_IP, "dnat", BOTH, True, LB | RANGES),
    Case("node port ignores the ranges", OUTSIDE, NODE, "dnat", BOTH, True, LB | RANGES, port=30080),
    Case("cluster IP ignores the ranges", OUTSIDE, CLUSTER_IP, "dnat", BOTH, True, LB | RANGES),
    Case("only IPv6 ranges let nobody in", OUTSIDE, LB_IP, "drop", (), False,
         LB | {"loadBalancerSourceRanges": ["fd00::/8"]}),
    Case("no endpoints, cluster IP", POD, CLUSTER_IP, "reject", behind=()),
    Case("no endpoints, node port", OUTSIDE, NODE, "reject", (), False, NODE_PORT, (), 30080),
    Case("no endpoints, node port, Local", OUTSIDE, NODE, "reject", (), False, NODE_PORT | E_LOCAL, (), 30080),
    Case("no endpoints, external IP", OUTSIDE, EXTERNAL_IP, "reject", (), False, EXTERNAL, ()),
    Case("only unready endpoints", POD, CLUSTER_IP, "reject", behind=(endpoint("10.244.1.2", ready=False),)),
    Case("unknown port of a cluster IP", POD, CLUSTER_IP, "reject", port=81, iptables="pass"),
    Case("unknown protocol of a cluster IP", POD, CLUSTER_IP, "reject", protocol="UDP", iptables="pass"),
    Case("unused service address", POD, "10.96.9.9", "drop", iptables="pass"),
    Case("unused service address, range unknown", POD, "10.96.9.9", "pass", facts={"service_cidr": None}),
    Case("somewhere else", POD, "10.244.2.2", "pass"),
    Case("headless", POD, "10.244.2.2", "pass", spec={"clusterIP": "None"}),
    Case("ExternalName", POD, CLUSTER_IP, "drop", spec={"type": "ExternalName"}, iptables="pass"),
    Case("another proxy's", POD, CLUSTER_IP, "drop", labels={"service.kubernetes.io/service-proxy-name": "x"},
         iptables="pass"),
    Case("headless by label", POD, CLUSTER_IP, "drop", labels={"service.kubernetes.io/headless": ""}, iptables="pass"),
    Case("leaving ones stay out while one is ready", POD, CLUSTER_IP, "dnat", BOTH[1:],
         behind=(endpoint("10.244.1.2", **LEAVING), REMOTE)),
    Case("leaving ones when none is ready", POD, CLUSTER_IP, "dnat", BOTH[:1],
         behind=(endpoint("10.244.1.2", **LEAVING), endpoint("10.244.2.2", "n2", **GONE))),
    Case("each set falls back by itself", OUTSIDE, NODE, "dnat", BOTH[:1], False, NODE_PORT | E_LOCAL,
         (endpoint("10.244.1.2", **LEAVING), REMOTE), 30080),
    Case("leaving and not serving is nobody", POD, CLUSTER_IP, "reject", behind=(endpoint("10.244.1.2", **GONE),)),
    Case("affinity changes who, not whether", POD, CLUSTER_IP, "dnat", BOTH, spec={"sessionAffinity": "ClientIP"}),
]  # fmt: skip


def build(case):
    return model([service(labels=case.labels, **case.spec)], [piece(*case.behind)], **case.facts)


def packet(case):
    return Packet(IPv4Address(case.src), IPv4Address(case.dst), case.protocol, case.port, ORIGINS[case.src])


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_evaluate(case):
    verdict = evaluate(build(case), packet(case))
    got = tuple(str(e.ip) for e in verdict.endpoints)
    assert (verdict.action, got, verdict.masquerade) == (case.action, case.endpoints, case.masquerade)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_the_nftables_ruleset_says_the_same(case):
    """The same rows, read from the rules instead of the model."""
    ruleset = compile_ruleset(build(case))
    action, endpoints, masquerade = walk(ruleset, packet(case))
    assert (action, endpoints) == (case.action, case.endpoints)
    for ip in endpoints:
        assert masquerade[ip] == (case.masquerade or ip == case.src)


@pytest.mark.parametrize("case", [c for c in CASES if c.iptables], ids=lambda case: case.name)
def test_where_iptables_differs(case):
    assert evaluate(build(case), packet(case), "iptables").action == case.iptables


def test_hairpin_is_masqueraded_whoever_else_is_not():
    case = next(c for c in CASES if c.name == "endpoint to its own service")
    verdict = evaluate(build(case), packet(case))
    assert [verdict.is_masqueraded(packet(case), e) for e in verdict.endpoints] == [True, False]
