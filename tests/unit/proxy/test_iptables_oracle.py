"""The iptables chains, walked packet by packet, say what `evaluate` says: for every kind of Service and of sender."""

from __future__ import annotations

import re
import shlex
from ipaddress import IPv4Address, IPv4Network

from hypothesis import given, settings
from hypothesis import strategies as st
from proxy_objects import LOCAL, NODE_IP, ON_A_NODE_PORT, REMOTE, model, piece, service

from podnet.proxy.evaluate import Packet, evaluate
from podnet.proxy.iptables.render import compile_ruleset
from podnet.proxy.iptables.ruleset import JUMPS

ENDS = {"ACCEPT", "DROP", "REJECT", "DNAT"}


class Walk:
    """One first packet through the chains. Chance takes every branch; what no rule of ours says fails here."""

    def __init__(self, ruleset, packet):
        self.ruleset, self.packet = ruleset, packet
        self.found: list[tuple[str, bool]] = []

    def matches(self, words: list[str]) -> bool:
        pairs, negated, options = iter(words), False, {}
        for word in pairs:
            if word == "!":
                negated = True
            elif word == "--reap":
                continue
            else:
                options[word] = (next(pairs), negated)
                negated = False
        p = self.packet
        answers = {
            "-p": lambda v: v == p.protocol.lower(),
            "-s": lambda v: p.src in IPv4Network(v),
            "-d": lambda v: p.dst in IPv4Network(v),
            "--dport": lambda v: int(v) == p.dport,
            "--dst-type": lambda _: p.dst == IPv4Address(NODE_IP),
            "--src-type": lambda _: p.origin == "node",
            "--ctstate": lambda v: "NEW" in v,
            "--mark": lambda _: False,
            "-m": lambda _: True,
            "--comment": lambda _: True,
            "--mode": lambda _: True,
            "--probability": lambda _: True,
        }
        return all(answers[option](value) != negated for option, (value, negated) in options.items())

    def chain(self, table: str, name: str, marked: bool) -> tuple[bool, bool, str]:
        """Whether the packet goes on, whether it is marked, and the verdict if it does not."""
        for rule in self.ruleset.chains(table)[name]:
            head, _, tail = rule.rpartition("-j ")
            target = tail.split()[0]
            is_chance = "--probability" in head
            head = re.sub(r"-m recent --name \S+ --set", "", head)
            if not self.matches(shlex.split(head)):
                continue
            if target == "DNAT":
                self.found.append((tail.split()[-1], marked))
            if target in ENDS:
                return False, marked, target
            if target == "KUBE-MARK-MASQ":
                marked = True
                continue
            goes_on, after, verdict = self.chain(table, target, marked)
            if not is_chance:
                marked = after
                if not goes_on:
                    return False, marked, verdict
        return True, marked, ""

    def verdict(self) -> str:
        hooks = ["OUTPUT"] if self.packet.origin == "node" else ["PREROUTING"]
        on_node = self.packet.dst == IPv4Address(NODE_IP)
        last = ["INPUT"] if on_node else [] if self.packet.origin == "node" else ["FORWARD"]
        for table, names in (("nat", hooks), ("filter", [*(h for h in hooks if h == "OUTPUT"), *last])):
            for hook, rule in JUMPS[table]:
                target = rule.rpartition("-j ")[2]
                if hook not in names or target in ("KUBE-FORWARD", "KUBE-FIREWALL"):
                    continue
                goes_on, _, verdict = self.chain(table, target, marked=False)
                if not goes_on:
                    return {"DNAT": "dnat", "DROP": "drop", "REJECT": "reject"}[verdict]
        return "pass"


SPECS = st.fixed_dictionaries(
    {
        "type": st.sampled_from(["ClusterIP", "NodePort", "LoadBalancer"]),
        "externalTrafficPolicy": st.sampled_from(["Cluster", "Local"]),
        "internalTrafficPolicy": st.sampled_from(["Cluster", "Local"]),
        "externalIPs": st.sampled_from([[], ["203.0.113.1"]]),
        "loadBalancerSourceRanges": st.sampled_from([[], ["198.51.100.0/24"], ["192.168.100.0/24"]]),
        "ingress": st.sampled_from([[], [{"ip": "203.0.113.9"}]]),
    }
)
SENDERS = st.sampled_from(
    [("10.244.1.2", "pod"), ("10.244.1.7", "pod"), (NODE_IP, "node"), ("198.51.100.4", "external"), ("192.0.2.1", "external")]
)  # fmt: skip
ADDRESSES = st.sampled_from(
    [("10.96.0.5", 80), ("10.96.0.5", 81), (NODE_IP, 30080), ("203.0.113.1", 80), ("203.0.113.9", 80), ("10.96.9.9", 80)]
)  # fmt: skip


@settings(max_examples=400, deadline=None)
@given(SPECS, st.sets(st.sampled_from([0, 1])), SENDERS, ADDRESSES, st.booleans())
def test_the_chains_say_what_the_oracle_says(spec, behind, sender, address, masquerade_all):
    endpoints = [(LOCAL, REMOTE)[number] for number in sorted(behind)]
    one = model([service(ports=ON_A_NODE_PORT, **spec)], [piece(*endpoints)], masquerade_all=masquerade_all)
    packet = Packet(IPv4Address(sender[0]), IPv4Address(address[0]), "TCP", address[1], sender[1])
    expected = evaluate(one, packet, "iptables")
    walk = Walk(compile_ruleset(one), packet)
    assert walk.verdict() == expected.action
    if expected.action == "dnat":
        assert {target for target, _ in walk.found} == {str(endpoint) for endpoint in expected.endpoints}
        for endpoint in expected.endpoints:
            marks = {marked for target, marked in walk.found if target == str(endpoint)}
            assert marks == {expected.is_masqueraded(packet, endpoint)}
