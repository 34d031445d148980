"""A load in several transactions: it leads where one leads, and between any two no Service is half there."""

from __future__ import annotations

from ipaddress import IPv4Address

import pytest
from hypothesis import given, settings
from nft_table import BEHIND, SPECS, Table, clusters, ruleset_of, state_of
from nft_walk import walk
from proxy_objects import NODE_IP

from podnet.proxy.evaluate import Packet
from podnet.proxy.nftables.backend import NftablesBackend
from podnet.proxy.nftables.ruleset import Ruleset
from podnet.proxy.nftables.split import halve_steps, join_steps, plan_steps
from podnet.topology.kernel import KernelError

SOURCES = (("10.244.1.9", "pod"), (NODE_IP, "node"), ("10.1.2.3", "outside"), ("192.0.2.1", "outside"))
NAMES = ("a", "b", "c")


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


@pytest.mark.parametrize("spec", SPECS, ids=str)
@pytest.mark.parametrize("behind", BEHIND, ids=len)
@pytest.mark.parametrize("new_spec", SPECS, ids=str)
def test_between_two_steps_every_service_is_as_it_was_or_as_it_shall_be(spec, behind, new_spec):
    other = (SPECS[0], BEHIND[3])
    for before, after in (
        ({}, {"a": (spec, behind), "b": other}),
        ({"b": other}, {"a": (spec, behind), "b": other}),
        ({"a": (spec, behind), "b": other}, {"b": other}),
        ({"a": (spec, BEHIND[3]), "b": other}, {"a": (new_spec, behind), "b": other}),
    ):
        have = ruleset_of(before) if before else Ruleset()
        want = ruleset_of(after)
        table = Table()
        if before:
            table.run("".join(plan_steps(Ruleset(), have)))
        old, new = verdicts(table.as_ruleset()), verdicts(want)
        for step in plan_steps(have, want):
            table.run(step)
            for where, verdict in verdicts(table.as_ruleset()).items():
                assert unlike(verdict) in (unlike(old[where]), unlike(new[where])), (where, step)


class Small:
    """A kernel with a limit. It counts transactions, as the real one's generation does."""

    def __init__(self, limit):
        self.limit, self.generation, self.table, self.refused = limit, 0, Table(), 0

    def nft(self, _netns, script):
        if script.startswith("list"):
            return ""
        if len(script) > self.limit:
            self.refused += 1
            raise KernelError("nft: Message too long", 90)
        self.generation += 1
        self.table.run(script)
        return ""


def test_what_is_still_too_long_is_halved_and_the_generation_is_known():
    from proxy_objects import LOCAL, REMOTE, model, piece, service

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
    assert backend.is_intact()  # without a listing, which this kernel does not have
    backend.sync(some(60, LOCAL, REMOTE))
    assert all("numgen" in rules[-1] for name, rules in kernel.table.chains.items() if "default/" in name)
    assert backend.is_intact()
    kernel.generation += 1
    assert not backend.is_intact()


def test_a_step_is_never_divided():
    kernel = Small(10)
    backend = NftablesBackend(kernel, "", lambda _netns: kernel.generation)
    from proxy_objects import model

    with pytest.raises(KernelError, match="too long"):
        backend.sync(model([], []))
    assert halve_steps(["a", "b", "c"]) == (["a"], ["b", "c"])
    assert list(join_steps(["aa", "b", "ccccc", "d"], 3)) == [["aa", "b"], ["ccccc"], ["d"]]
