"""The fast path of both modes, shares of the last pass used again, against the slow one, everything compiled anew."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st
from proxy_objects import LOCAL, ON_A_NODE_PORT, REMOTE, facts, piece, service

from podnet.proxy.fragments import Fragments
from podnet.proxy.iptables import render as iptables_render
from podnet.proxy.iptables.backend import IptablesBackend
from podnet.proxy.iptables.ruleset import render_changes
from podnet.proxy.iptables.ruleset import render_full as iptables_full
from podnet.proxy.model import Model, compile_model, merge_models
from podnet.proxy.nftables import render as nftables_render
from podnet.proxy.nftables.backend import NftablesBackend
from podnet.proxy.nftables.ruleset import diff_ruleset, render_full

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
        yield merge_models(node, [model for _, (_, model) in sorted(compiled.items())])


def objects(name, spec):
    kind, behind = spec
    return [service(name, **SPECS[kind])], [piece(*BEHIND[behind], name=name)]


class Written:
    """A kernel and an iptables that write down what they are told."""

    def __init__(self):
        self.scripts = []

    def nft(self, _netns, script):
        self.scripts.append(script)
        return ""

    def restore(self, _netns, script):
        self.scripts.append(script)

    def save(self, _netns):
        return ""

    def is_nftables(self):
        return False

    def apply(self, _netns, _operations):
        pass

    def taken(self):
        taken, self.scripts = self.scripts, []
        return taken


@given(passes)
def test_nftables_fast_is_slow(steps):
    written, have = Written(), None
    backend = NftablesBackend(written, generation=lambda _: 1)
    for model in models(steps):
        want = nftables_render.compile_ruleset(model)
        backend.sync(model)
        if have is None:
            assert written.taken()[-1] == render_full(want)
        else:
            changes = diff_ruleset(have, want)
            assert written.taken() == [script for script in (changes.update, changes.prune) if script]
        have = want
    backend.invalidate()
    backend.sync(model)
    assert written.taken()[-1] == render_full(have), "and so is the memory of the whole"


@given(passes)
def test_iptables_fast_is_slow(steps):
    written, have = Written(), None
    backend = IptablesBackend(written, program=written, generation=lambda _: 1)
    for model in models(steps):
        want = iptables_render.compile_ruleset(model)
        backend.sync(model)
        if have is None:
            assert written.taken() == [iptables_full(want, {})]
        else:
            script = render_changes(have, want)
            assert "".join(written.taken()) == script
        have = want
    backend.invalidate()
    backend.sync(model)
    assert written.taken() == [iptables_full(have, {})], "and so is the memory of the whole"


@given(passes)
def test_claims_are_forgotten_with_their_ports(steps):
    fragments = Fragments(nftables_render.compile_port, nftables_render.claims_of)
    for model in models(steps):
        fragments.follow(model)
    fragments.follow(Model(model.node))
    assert (fragments.all(), fragments._shares, fragments._claimants) == ([], {}, {})


def many(count, node=FACTS[0]):
    return merge_models(
        node, [compile_model(node, *objects(f"s{number:02}", ("plain", "both"))) for number in range(count)]
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
    fragments.follow(before)
    assert fragments.all() == [port.full_name for port in before.ports]
    calls.clear()
    after = change(before)
    fragments.follow(after)
    assert fragments.all() == [port.full_name for port in after.ports]
    assert len(calls) == compiled


def test_what_is_gone_is_forgotten():
    calls = []
    fragments = Fragments(lambda _node, port: calls.append(port))
    model = many(20)
    fragments.follow(model)
    fragments.follow(Model(model.node))
    assert fragments.all() == []
    fragments.follow(model)
    assert len(calls) == 40


def test_a_change_looks_at_what_claims_the_same_and_no_further():
    fragments = Fragments(nftables_render.compile_port, nftables_render.claims_of)
    before = many(20)  # all of them have the same address and endpoints
    fragments.follow(before)
    change = fragments.follow(changed(before, 7))
    assert [len(change.before), len(change.after)] == [2, 2]
    assert change.before[0] is change.after[0]
