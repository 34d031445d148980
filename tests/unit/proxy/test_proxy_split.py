"""A load in several transactions: it leads where one leads, and between any two no Service is half there."""

from __future__ import annotations

from ipaddress import IPv4Address

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from nft_table import BEHIND, SPECS, Table, clusters, ruleset_of, state_of
from nft_walk import walk
from proxy_objects import LOCAL, NODE_IP, REMOTE, model, piece, service

from podnet.proxy.evaluate import Packet
from podnet.proxy.nftables.backend import NftablesBackend
from podnet.proxy.nftables.ruleset import Ruleset
from podnet.proxy.nftables.split import halve_steps, join_steps, plan_steps
from podnet.topology.kernel import KernelError

SOURCES = (("10.244.1.9", "pod"), (NODE_IP, "node"), ("10.1.2.3", "outside"), ("192.0.2.1", "outside"))
NAMES = ("a", "b")
# Only one of them is reached from outside: of two with one node port, which the API server does not allow, the first has it.
_any, _plain = (st.tuples(st.sampled_from(specs), st.sampled_from(BEHIND)) for specs in (SPECS, SPECS[:4]))
pairs = st.fixed_dictionaries({}, optional={"a": _any, "b": _plain})


def places(name):
    """Every address under which a Service of `clusters` may be reached, its own and those that they share."""
    return [(f"10.96.0.{ord(name)}", 80), (NODE_IP, 30080), ("203.0.113.7", 80), ("198.51.100.9", 80)]


def verdicts(ruleset):
    """What becomes of packets from everywhere to everything. Without hooks: nothing."""
    found = {}
    for name in NAMES:
        for ip, port in places(name):
            for source, origin in SOURCES:
                packet = Packet(IPv4Address(source), IPv4Address(ip), "TCP", port, origin)
                is_hooked = "refuse-output" in ruleset.chains
                found[ip, port, source] = walk(ruleset, packet) if is_hooked else ("pass", (), {})
    return found


def unlike(verdict):
    """Refused is refused, with or without an answer: what a Service is between not being there and being there."""
    return "refused" if verdict[0] in {"drop", "reject"} else verdict


@given(clusters, clusters)
@settings(max_examples=60, deadline=None)
def test_steps_lead_where_a_full_load_leads(before, after):
    table = Table()
    for have, want in ((Ruleset(), ruleset_of(before)), (ruleset_of(before), ruleset_of(after))):
        for together in join_steps(plan_steps(have, want), 300):
            table.run("".join(together))
        assert (table.chains, table.sets) == state_of(want)


@given(pairs, pairs)
@settings(max_examples=25, deadline=None)
@example({}, {"a": (SPECS[4], BEHIND[3])})
@example({"a": (SPECS[6], BEHIND[3])}, {"a": (SPECS[4], BEHIND[2]), "b": (SPECS[1], BEHIND[4])})
@example({"a": (SPECS[1], BEHIND[4])}, {"a": (SPECS[5], BEHIND[1])})
def test_between_two_steps_every_service_is_as_it_was_or_as_it_shall_be(before, after):
    have = ruleset_of(before) if before else Ruleset()
    want = ruleset_of(after)
    table = Table()
    if before:
        table.run("".join(plan_steps(Ruleset(), have)))
    old, new = verdicts(table.as_ruleset()), verdicts(want)
    for step in plan_steps(have, want):
        table.run(step)
        if step.split()[0] == "add" and step.split()[1] in {"set", "map", "table", "chain"} and before:
            continue  # a name by itself changes nothing
        for where, verdict in verdicts(table.as_ruleset()).items():
            assert unlike(verdict) in (unlike(old[where]), unlike(new[where])), (where, step)


class Small:
    """A kernel with a limit. It counts transactions, as the real one's generation does."""

    def __init__(self, limit):
        self.limit, self.table = limit, Table()
        self.generation = self.refused = self.listings = 0

    def nft(self, _netns, script):
        if script.startswith("list"):
            self.listings += 1
            return self.table.listing()
        if len(script) > self.limit:
            self.refused += 1
            raise KernelError("nft: Message too long", 90)
        self.generation += 1
        self.table.run(script)
        return ""


def test_what_is_still_too_long_is_halved_and_the_generation_is_known():
    def some(count, *behind):
        names = [f"s{n}" for n in range(count)]
        return model(
            [service(name, clusterIP=f"10.96.1.{n}") for n, name in enumerate(names)],
            [piece(*behind, name=name) for name in names],
        )

    kernel = Small(4000)
    backend = NftablesBackend(kernel, "", lambda _netns: kernel.generation)
    backend.sync(some(60, LOCAL))
    assert kernel.refused > 1
    assert kernel.generation > 4
    assert backend.is_intact()
    backend.sync(some(60, LOCAL, REMOTE))
    assert all("numgen" in rules[-1] for name, rules in kernel.table.chains.items() if "default/" in name)
    assert backend.is_intact()
    listings = kernel.listings
    assert backend.is_intact()
    assert kernel.listings == listings
    kernel.generation += 1  # somebody else's
    assert backend.is_intact()
    assert kernel.listings == listings + 1


def test_a_line_is_never_divided():
    kernel = Small(10)
    backend = NftablesBackend(kernel, "", lambda _netns: kernel.generation)
    with pytest.raises(KernelError, match="too long"):
        backend.sync(model([], []))
    assert halve_steps(["a", "b", "c"]) == (["a"], ["b", "c"])
    assert halve_steps(["a\nb\n"]) == (["a\n"], ["b\n"])
    assert halve_steps(["a\n"]) is None
    assert list(join_steps(["aa", "b", "ccccc", "d"], 3)) == [["aa", "b"], ["ccccc"], ["d"]]
