"""The chains of the iptables mode: the names and rules kube-proxy would write, and laws over all models."""

from __future__ import annotations

import re
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st
from proxy_objects import LOCAL, ON_A_NODE_PORT, REMOTE, endpoint, model, piece, service

from podnet.proxy.iptables.listing import jump_target
from podnet.proxy.iptables.render import compile_ruleset, endpoint_chain, port_chain
from podnet.proxy.iptables.ruleset import FIXED_CHAINS, TABLES, is_ours

LAST = (
    '-m comment --comment "kubernetes service nodeports; NOTE: this must be the last rule in this chain" '
    "-m addrtype --dst-type LOCAL -j KUBE-NODEPORTS"
)
NOTE = '-m comment --comment "default/web:http'


def compiled(services, slices=(), **facts):
    return compile_ruleset(model(services, slices, **facts))


def rules_of(ruleset, kind, table="nat"):
    """The rules of the chains of a kind, in order of their names."""
    chains = ruleset.chains(table)
    return [rule for name in sorted(chains) if name.startswith(f"KUBE-{kind}-") for rule in chains[name]]


def test_names_are_those_of_kube_proxy():
    """Known from the public test data of kube-proxy: ns1/svc1:p80 and its endpoint 10.180.0.1:80."""
    own = service("svc1", ports=[{"name": "p80", "port": 80, "protocol": "TCP"}])
    own["metadata"]["namespace"] = "ns1"
    behind = piece(endpoint("10.180.0.1"), name="svc1", ports=[{"name": "p80", "port": 80, "protocol": "TCP"}])
    behind["metadata"]["namespace"] = "ns1"
    (port,) = model([own], [behind]).ports
    assert port_chain("SVC", port) == "KUBE-SVC-XPGD46QRK7WJZT7O"
    assert endpoint_chain(port, port.cluster_endpoints[0]) == "KUBE-SEP-SXIVWICOYRO3J4NJ"


def test_the_whole_nat_table_of_a_plain_service():
    chains = compiled([service()], [piece(LOCAL, REMOTE)]).chains("nat")
    (port,) = model([service()], [piece(LOCAL, REMOTE)]).ports
    svc = port_chain("SVC", port)
    first, second = (endpoint_chain(port, one) for one in port.cluster_endpoints)
    assert chains == {
        "KUBE-SERVICES": (
            f'{NOTE} cluster IP" -m tcp -p tcp -d 10.96.0.5 --dport 80 -j {svc}',
            LAST,
        ),
        "KUBE-NODEPORTS": (),
        "KUBE-MARK-MASQ": ("-j MARK --or-mark 0x4000",),
        "KUBE-POSTROUTING": (
            "-m mark ! --mark 0x4000/0x4000 -j RETURN",
            "-j MARK --xor-mark 0x4000",
            '-m comment --comment "kubernetes service traffic requiring SNAT" -j MASQUERADE --random-fully',
        ),
        svc: (
            f'{NOTE} cluster IP" -m tcp -p tcp -d 10.96.0.5 --dport 80 ! -s 10.244.0.0/16 -j KUBE-MARK-MASQ',
            f'{NOTE} -> 10.244.1.2:8080" -m statistic --mode random --probability 0.5000000000 -j {first}',
            f'{NOTE} -> 10.244.2.2:8080" -j {second}',
        ),
        first: (
            f'{NOTE}" -s 10.244.1.2 -j KUBE-MARK-MASQ',
            f'{NOTE}" -m tcp -p tcp -j DNAT --to-destination 10.244.1.2:8080',
        ),
        second: (
            f'{NOTE}" -s 10.244.2.2 -j KUBE-MARK-MASQ',
            f'{NOTE}" -m tcp -p tcp -j DNAT --to-destination 10.244.2.2:8080',
        ),
    }


def test_affinity_remembers_the_client_by_endpoint():
    ruleset = compiled([service(sessionAffinity="ClientIP")], [piece(LOCAL, REMOTE)])
    seps = sorted(name for name in ruleset.chains("nat") if name.startswith("KUBE-SEP-"))
    known = [rule for rule in rules_of(ruleset, "SVC") if "recent" in rule]
    assert sorted(jump_target(rule) for rule in known) == seps
    assert all(f"-m recent --name {jump_target(r)} --rcheck --seconds 10800 --reap" in r for r in known)
    for name in seps:
        assert f"-m recent --name {name} --set -m tcp -p tcp -j DNAT" in ruleset.chains("nat")[name][1]


def test_policy_local_sends_pods_and_the_node_anywhere_and_others_to_local_endpoints():
    local = service(type="NodePort", ports=ON_A_NODE_PORT, externalTrafficPolicy="Local")
    ruleset = compiled([local], [piece(LOCAL, REMOTE)])
    external = rules_of(ruleset, "EXT")
    assert [jump_target(rule)[:8] for rule in external] == ["KUBE-SVC", "KUBE-MAR", "KUBE-SVC", "KUBE-SVL"]
    assert "-s 10.244.0.0/16" in external[0]
    assert all("--src-type LOCAL" in rule for rule in external[1:3])
    (only,) = rules_of(ruleset, "SVL")
    assert "10.244.1.2:8080" in only
    assert ruleset.chains("filter")["KUBE-EXTERNAL-SERVICES"] == ()


REFUSALS = [
    pytest.param({}, [], ["REJECT"], [], id="no-endpoints"),
    pytest.param({"internalTrafficPolicy": "Local"}, [REMOTE], ["DROP"], [], id="internal-local-without"),
    pytest.param({"externalIPs": ["203.0.113.1"]}, [], ["REJECT"], ["REJECT"], id="external-ip-no-endpoints"),
    pytest.param({"type": "NodePort", "ports": ON_A_NODE_PORT}, [], ["REJECT"], ["REJECT"], id="node-port-none"),
    pytest.param({"type": "NodePort", "ports": ON_A_NODE_PORT, "externalTrafficPolicy": "Local"}, [REMOTE], [], ["DROP"],
                 id="external-local-without"),
    pytest.param({"type": "NodePort", "ports": ON_A_NODE_PORT}, [REMOTE], [], [], id="all-well"),
]  # fmt: skip


@pytest.mark.parametrize(("spec", "endpoints", "internal", "external"), REFUSALS)
def test_what_is_not_translated_is_answered(spec, endpoints, internal, external):
    chains = compiled([service(**spec)], [piece(*endpoints)] if endpoints else []).chains("filter")
    assert [jump_target(rule) for rule in chains["KUBE-SERVICES"]] == internal
    assert [jump_target(rule) for rule in chains["KUBE-EXTERNAL-SERVICES"]] == external


def test_source_ranges_guard_the_load_balancer_and_not_the_node_port():
    guarded = service(type="LoadBalancer", ports=ON_A_NODE_PORT, ingress=[{"ip": "203.0.113.9"}],
                      loadBalancerSourceRanges=["198.51.100.0/24"])  # fmt: skip
    ruleset = compiled([guarded], [piece(LOCAL)])
    nat = ruleset.chains("nat")
    (firewall,) = [name for name in nat if name.startswith("KUBE-FW-")]
    (external,) = [name for name in nat if name.startswith("KUBE-EXT-")]
    assert [jump_target(rule) for rule in nat["KUBE-SERVICES"] if "203.0.113.9" in rule] == [firewall]
    assert ["-s 198.51.100.0/24" in rule and jump_target(rule) == external for rule in nat[firewall]] == [True]
    assert [jump_target(rule) for rule in nat["KUBE-NODEPORTS"]] == [external]
    (barred,) = ruleset.chains("filter")["KUBE-PROXY-FIREWALL"]
    assert "-d 203.0.113.9 --dport 80 -j DROP" in barred


def test_masquerade_all_marks_every_source():
    (mark, _) = rules_of(compiled([service()], [piece(LOCAL)], masquerade_all=True), "SVC")
    assert mark.endswith("-d 10.96.0.5 --dport 80 -j KUBE-MARK-MASQ")


@given(st.integers(1, 40))
def test_every_endpoint_is_as_likely_as_any_other(count):
    ruleset = compiled([service()], [piece(*(endpoint(f"10.244.3.{n + 1}") for n in range(count)))])
    left, shares = Fraction(1), []
    for rule in rules_of(ruleset, "SVC")[1:]:
        odds = re.search(r"--probability (\S+)", rule)
        share = left * (Fraction(odds[1]) if odds else 1)
        shares.append(share)
        left -= share
    assert len(shares) == count
    assert all(abs(share - Fraction(1, count)) < Fraction(1, 10**8) for share in shares)


SPECS = st.fixed_dictionaries(
    {
        "type": st.sampled_from(["ClusterIP", "NodePort", "LoadBalancer"]),
        "externalTrafficPolicy": st.sampled_from(["Cluster", "Local"]),
        "internalTrafficPolicy": st.sampled_from(["Cluster", "Local"]),
        "sessionAffinity": st.sampled_from(["None", "ClientIP"]),
        "externalIPs": st.sampled_from([[], ["203.0.113.1"]]),
        "loadBalancerSourceRanges": st.sampled_from([[], ["198.51.100.0/24"]]),
        "ingress": st.sampled_from([[], [{"ip": "203.0.113.9"}]]),
    }
)


@given(SPECS, st.lists(st.sampled_from([LOCAL, REMOTE]), max_size=2), st.booleans())
def test_every_jump_leads_somewhere_and_every_chain_is_led_to(spec, endpoints, masquerade_all):
    ruleset = compiled([service(ports=ON_A_NODE_PORT, **spec)], [piece(*endpoints)], masquerade_all=masquerade_all)
    for table in TABLES:
        chains = ruleset.chains(table)
        targets = {target for rules in chains.values() for rule in rules if (target := jump_target(rule)) in chains}
        named = {jump_target(rule) for rules in chains.values() for rule in rules}
        assert {name for name in named if name.startswith("KUBE-")} == targets
        assert all(is_ours(table, name) and len(name) < 29 for name in chains)
        assert chains.keys() - targets <= set(FIXED_CHAINS[table])
