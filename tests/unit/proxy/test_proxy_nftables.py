"""The laws of the nftables ruleset and its difference, and what the listing tells."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nft_table import BEHIND, SPECS, Table, clusters, ruleset_of, state_of
from proxy_objects import LOCAL, REMOTE, model, piece, service

from podnet.proxy.nftables.backend import NftablesBackend
from podnet.proxy.nftables.listing import dynamic_elements, is_listed, parse_blocks
from podnet.proxy.nftables.render import port_chain
from podnet.proxy.nftables.ruleset import Ruleset, diff_ruleset, render_full
from podnet.topology.kernel import KernelError


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
