"""The fast path of both modes, shares of the last pass used again, against the slow one, everything compiled anew."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st
from proxy_objects import LOCAL, ON_A_NODE_PORT, REMOTE, facts, piece, service

from podnet.proxy.fragments import Fragments
from podnet.proxy.iptables import render as iptables_render
from podnet.proxy.iptables.ruleset import render_changes
from podnet.proxy.model import Model, compile_model, merge_models
from podnet.proxy.nftables import render as nftables_render
from podnet.proxy.nftables.ruleset import diff_ruleset

# Services share addresses, node ports and endpoints on purpose: of two that want one element, the first has it.
SPECS = {
    "plain": {},
    "same address": {"externalIPs": ["10.96.0.5"]},
    "node port": {"type": "NodePort", "ports": ON_A_NODE_PORT},
    "local": {"type": "NodePort", "ports": ON_A_NODE_PORT, "externalTrafficPolicy": "Local", "healthCheckNodePort": 31000},
    "load balancer": {
        "type": "LoadBalancer",
        "ports": ON_A_NODE_PORT,
        "ingress": [{"ip": "1.2.3.4"}],
        "loadBalancerSourceRanges": ["192.168.100.0/24"],
    },
    "affinity": {"sessionAffinity": "ClientIP"},
    "internal local": {"internalTrafficPolicy": "Local"},
    "headless": {"clusterIP": "None"},
    "elsewhere": {"clusterIP": "10.96.0.9"},
}  # fmt: skip
BEHIND = {"none": [], "one": [LOCAL], "other": [REMOTE], "both": [LOCAL, REMOTE]}
FACTS = [facts(), facts(masquerade_all=True), facts(zone="a", service_cidr=None)]

changes = st.tuples(
    st.sampled_from("abcd"), st.none() | st.tuples(st.sampled_from(list(SPECS)), st.sampled_from(list(BEHIND)))
)
passes = st.lists(st.tuples(st.integers(0, 2), st.lists(changes, max_size=3)), min_size=1, max_size=8)


def models(steps):
    """What the agent hands over, pass after pass: the model of a Service that did not change is the same object."""
    compiled, node = {}, None
    for number, changed in steps:
        if FACTS[number] != node:
            node = FACTS[number]
            compiled = {name: (spec, compile_model(node, *objects(name, spec))) for name, (spec, _) in compiled.items()}
        for name, spec in changed:
            if spec is None:
                compiled.pop(name, None)
            else:
                compiled[name] = spec, compile_model(node, *objects(name, spec))
        yield merge_models(node, [model for _, model in compiled.values()])


def objects(name, spec):
    kind, behind = spec
    return [service(name, **SPECS[kind])], [piece(*BEHIND[behind], name=name)]


@given(passes)
def test_nftables_fast_is_slow(steps):
    fragments = Fragments(nftables_render.compile_port)
    for model in models(steps):
        fast = nftables_render.assemble(model.node, fragments.of(model))
        slow = nftables_render.compile_ruleset(model)
        assert fast == slow
        assert list(fast.chains) == list(slow.chains), "in the same order, since that is what one reads"
        assert not diff_ruleset(fast, slow)


@given(passes)
def test_iptables_fast_is_slow(steps):
    fragments = Fragments(iptables_render.compile_port)
    for model in models(steps):
        fast = iptables_render.assemble(model, fragments.of(model))
        slow = iptables_render.compile_ruleset(model)
        assert fast == slow
        assert render_changes(fast, slow) == ""


def many(count, node=FACTS[0]):
    return merge_models(
        node, [compile_model(node, *objects(f"s{number}", ("plain", "both"))) for number in range(count)]
    )


def changed(model, number):
    ports = list(model.ports)
    ports[number] = dataclasses.replace(ports[number], cluster_endpoints=())
    return dataclasses.replace(model, ports=tuple(ports))


CASES = {
    "nothing": (lambda model: model, 0),
    "one Service": (lambda model: changed(model, 7), 1),
    "one gone": (lambda model: dataclasses.replace(model, ports=model.ports[1:]), 0),
    "equal, but another object": (lambda model: many(20), 20),
    "the node": (lambda model: dataclasses.replace(model, node=FACTS[1]), 20),
}


@pytest.mark.parametrize(("change", "compiled"), CASES.values(), ids=CASES)
def test_a_change_compiles_what_it_changes(change, compiled):
    calls = []
    fragments = Fragments(lambda _node, port: calls.append(port) or port.full_name)
    before = many(20)
    assert fragments.of(before) == [port.full_name for port in before.ports]
    calls.clear()
    after = change(before)
    assert fragments.of(after) == [port.full_name for port in after.ports]
    assert len(calls) == compiled


def test_what_is_gone_is_forgotten():
    calls = []
    fragments = Fragments(lambda _node, port: calls.append(port))
    model = many(20)
    fragments.of(model)
    assert fragments.of(Model(model.node)) == []
    fragments.of(model)
    assert len(calls) == 40
