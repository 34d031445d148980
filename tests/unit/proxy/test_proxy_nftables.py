"""The laws of the nftables ruleset and its difference, and what the listing tells."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from proxy_objects import LOCAL, ON_A_NODE_PORT, REMOTE, endpoint, model, piece, service

from podnet.proxy.nftables.backend import NftablesBackend
from podnet.proxy.nftables.listing import dynamic_elements, is_listed, parse_blocks
from podnet.proxy.nftables.render import compile_ruleset, port_chain
from podnet.proxy.nftables.ruleset import Ruleset, diff_ruleset, render_full
from podnet.topology.kernel import KernelError


def build(*services):
    """A ruleset of (name, address, endpoints, fields of the spec)."""
    return compile_ruleset(
        model(
            [service(name, clusterIP=ip, **spec) for name, ip, _, spec in services],
            [piece(*behind, name=name) for name, _, behind, _ in services],
        )
    )


SPECS = [
    {},
    {"sessionAffinity": "ClientIP"},
    {"sessionAffinity": "ClientIP", "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 5}}},
    {"internalTrafficPolicy": "Local"},
    {"type": "NodePort", "ports": ON_A_NODE_PORT, "externalTrafficPolicy": "Local"},
    {"externalIPs": ["203.0.113.7"]},
    {
        "type": "LoadBalancer",
        "ports": ON_A_NODE_PORT,
        "ingress": [{"ip": "198.51.100.9"}],
        "loadBalancerSourceRanges": ["10.0.0.0/8"],
    },
]
BEHIND = [(), (LOCAL,), (REMOTE,), (LOCAL, REMOTE), tuple(endpoint(f"10.244.3.{n}", "n3") for n in range(1, 5))]
one_service = st.tuples(st.sampled_from(SPECS), st.sampled_from(BEHIND))
clusters = st.dictionaries(st.sampled_from(["a", "b", "c"]), one_service)


def ruleset_of(cluster):
    return build(*((name, f"10.96.0.{ord(name)}", behind, spec) for name, (spec, behind) in sorted(cluster.items())))


class Table:
    """The few commands of nft that the scripts use, with the kernel's refusals."""

    def __init__(self):
        self.chains, self.sets = {}, {}

    def run(self, script):
        for line in re.sub(r"\n\}", " }", script).splitlines():
            self._command(line)

    def _command(self, line):
        verb, kind, _, _, name, *rest = line.split(" ", 5)
        text = rest[0] if rest else ""
        if kind == "chain":
            if verb == "add":
                self.chains.setdefault(name, [])
            elif verb == "flush":
                self.chains[name].clear()
            else:
                assert not self._is_referenced(name), f"EBUSY: {line}"
                assert self.chains.pop(name) == []
        elif kind == "rule":
            for target in re.findall(r"(?:goto|jump) ([^\s,]+)", text):
                assert target in self.chains, line
            for clients in re.findall(r"@(\S+)", text):
                assert clients in self.sets, line
            self.chains[name].append(text)
        elif kind == "element":
            self._elements(verb, name, text.removeprefix("{ ").removesuffix(" }"), line)
        elif verb == "add":
            assert name not in self.sets
            self.sets[name] = {}
        elif verb == "flush":
            self.sets[name].clear()
        else:
            assert not self._is_referenced("@" + name), f"EBUSY: {line}"
            del self.sets[name]

    def _elements(self, verb, name, text, line):
        for element in text.split(", "):
            key = element.split(" comment ")[0].split(" : ")[0]
            if verb == "delete":
                del self.sets[name][key]
            else:
                assert key not in self.sets[name], f"EEXIST: {line}"
                self.sets[name][key] = element

    def _is_referenced(self, name):
        texts = [rule for rules in self.chains.values() for rule in rules]
        texts += [element for elements in self.sets.values() for element in elements.values()]
        return any(name in re.split(r"[ ,]", text) for text in texts)


def state_of(ruleset: Ruleset):
    chains = {name: list(chain.rules) for name, chain in ruleset.chains.items()}
    return chains, {name: {k: item.render_element(k) for k in item.elements} for name, item in ruleset.sets.items()}


@given(st.lists(clusters, min_size=1, max_size=5))
@settings(max_examples=60, deadline=None)
def test_changes_lead_where_a_full_load_leads(steps):
    table, have = Table(), Ruleset()
    for step in steps:
        want = ruleset_of(step)
        changes = diff_ruleset(have, want)
        table.run(changes.update)
        table.run(changes.prune)
        assert (table.chains, table.sets) == state_of(want)
        have = want


@given(clusters)
@settings(max_examples=30, deadline=None)
def test_no_change_is_no_script(cluster):
    assert not diff_ruleset(ruleset_of(cluster), ruleset_of(cluster))


def test_a_change_mentions_only_what_changed():
    have = ruleset_of({"a": (SPECS[0], BEHIND[3]), "b": (SPECS[0], BEHIND[3])})
    want = ruleset_of({"a": (SPECS[0], BEHIND[3]), "b": (SPECS[0], BEHIND[1])})
    changes = diff_ruleset(have, want)
    assert "default/b" in changes.update
    assert "default/a" not in changes.update
    assert [line.split()[0:2] for line in changes.update.splitlines()] == [
        ["flush", "chain"],
        ["add", "rule"],
        ["add", "rule"],
    ]
    assert not changes.prune


def test_a_full_load_replaces_the_table_in_one_script():
    script = render_full(ruleset_of({"a": (SPECS[0], BEHIND[3])}))
    assert script.startswith("add table ip kube-proxy\ndelete table ip kube-proxy\ntable ip kube-proxy {")
    assert 'comment "default/a:http"' in script


def test_no_rule_sees_an_established_connection():
    """Every base chain is of type nat: the kernel shows those the first packet of a connection only."""
    hooks = {name: chain.hook for name, chain in ruleset_of({}).chains.items() if chain.hook}
    assert {hook.split()[3] for hook in hooks.values()} == {"prerouting", "output", "postrouting"}
    assert all(hook.startswith("type nat ") for hook in hooks.values()), hooks


def test_long_names_stay_within_what_nft_takes_and_apart():
    ports = model(
        [
            service(
                "s" * 63,
                ports=[{"name": "p" * 14 + n, "port": p, "protocol": "TCP"} for n, p in (("a", 1), ("b", 2))],
            )
        ],
        [],
    ).ports
    names = {port_chain("external", port) for port in ports}
    assert len(names) == 2
    assert all(len(name) <= 250 for name in names)


LISTING = """table ip kube-proxy {
\tset affinity-1 {
\t\ttype ipv4_addr
\t\tflags dynamic,timeout
\t\telements = { 10.0.0.1 timeout 3h expires 2h59m, 10.0.0.2 timeout 3h expires 1h,
\t\t\t     10.0.0.3 timeout 3h expires 1s }
\t}

\tchain services {
\t\tcomment "x"
\t\tcounter packets 1 bytes 2
\t}
}
"""


def test_listing_is_read_block_by_block():
    blocks = parse_blocks(LISTING)
    assert blocks["services"] == ['comment "x"', "counter packets 1 bytes 2"]
    assert set(blocks) == {"affinity-1", "services"}


def test_clients_of_affinity_sets_that_stay_are_carried_over():
    want = ruleset_of({"a": (SPECS[1], BEHIND[1])})
    name = next(name for name, item in want.sets.items() if item.dynamic)
    found = dynamic_elements(want, LISTING.replace("affinity-1", name))
    assert found == {
        name: ["10.0.0.1 timeout 3h expires 2h59m", "10.0.0.2 timeout 3h expires 1h", "10.0.0.3 timeout 3h expires 1s"]
    }
    assert dynamic_elements(want, LISTING) == {}


def test_an_empty_listing_is_not_ours():
    assert not is_listed(ruleset_of({}), "")


class RefusingKernel:
    """Keeps scripts; refuses those that mention a word."""

    def __init__(self):
        self.scripts, self.refused = [], ""

    def nft(self, _netns, script):
        if script.startswith("list"):
            return ""
        if self.refused and self.refused in script:
            raise KernelError("nft: refused", 22)
        self.scripts.append(script)
        return ""


def test_a_refused_change_is_followed_by_a_full_load():
    kernel = RefusingKernel()
    backend = NftablesBackend(kernel, "", lambda _netns: 1)
    few = model([service()], [piece(LOCAL)])
    more = model([service()], [piece(LOCAL, REMOTE)])
    backend.sync(few)
    kernel.refused = "flush chain"
    with pytest.raises(KernelError):
        backend.sync(more)
    kernel.refused = ""
    backend.sync(more)
    assert [script.startswith("add table") for script in kernel.scripts] == [True, True]
    assert "10.244.2.2" in kernel.scripts[-1]


def test_nothing_to_do_runs_nothing():
    kernel = RefusingKernel()
    backend = NftablesBackend(kernel, "", lambda _netns: 1)
    for _ in range(2):
        backend.sync(model([service()], [piece(LOCAL)]))
    assert len(kernel.scripts) == 1
