"""A reader of the proxy's own nftables rules: walks one first packet through the hooks. It knows the statements that the
renderer writes and no others, so a new one fails here until somebody says what it means."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network

from podnet.proxy.nftables.ruleset import Ruleset


@dataclass
class Flow:
    """The packet on its way, and what has become of it."""

    src: str
    dst: str
    protocol: str
    port: int
    is_local: bool
    marked: bool = False
    translated: bool = False
    targets: list[tuple[str, int]] = field(default_factory=list)


class Done(Exception):
    """A verdict that ends the walk of a hook."""


def walk(ruleset: Ruleset, packet):
    """Action, addresses of the possible endpoints, and by address whether it would be masqueraded."""
    flow = Flow(str(packet.src), str(packet.dst), packet.protocol.lower(), packet.dport, packet.origin == "node")
    hook = "output" if flow.is_local else "prerouting"
    if _hook(ruleset, flow, f"nat-{hook}") == "drop":
        return "drop", (), {}
    if flow.targets:
        masquerade = {}
        for ip, port in flow.targets:
            last = Flow(flow.src, ip, flow.protocol, port, flow.is_local, flow.marked, translated=True)
            masquerade[ip] = _hook(ruleset, last, "nat-postrouting") == "masquerade"
        return "dnat", tuple(ip for ip, _ in flow.targets), masquerade
    verdict = _hook(ruleset, flow, f"refuse-{hook}")
    if verdict in {"reject", "drop"}:
        return verdict, (), {}
    return "pass", (), {}


def _hook(ruleset: Ruleset, flow: Flow, chain: str) -> str:
    try:
        _chain(ruleset, flow, chain)
    except Done as done:
        return str(done)
    return "accept"


def _chain(ruleset: Ruleset, flow: Flow, name: str) -> None:
    for rule in ruleset.chains[name].rules:
        if _rule(ruleset, flow, rule.split(' comment "')[0]) == "stop":
            return


def _follow(ruleset: Ruleset, flow: Flow, verdict: str) -> str:
    word, _, target = verdict.partition(" ")
    if word in {"jump", "goto"}:
        _chain(ruleset, flow, target)
        return "stop" if word == "goto" else ""
    raise Done(word)


def _rule(ruleset: Ruleset, flow: Flow, rule: str) -> str:
    """Match by match, until one fails or a statement acts. "stop": no further rule of this chain."""
    values = {
        "ip daddr . meta l4proto . th dport": f"{flow.dst} . {flow.protocol} . {flow.port}",
        "meta l4proto . th dport": f"{flow.protocol} . {flow.port}",
        "ip saddr . ip daddr": f"{flow.src} . {flow.dst}",
        "ip saddr": flow.src,
        "ip daddr": flow.dst,
    }
    while rule:
        if found := re.match(r"(ip daddr \. meta l4proto \. th dport|meta l4proto \. th dport) vmap @(\S+) ?", rule):
            verdict = ruleset.sets[found[2]].elements.get(values[found[1]])
            return _follow(ruleset, flow, verdict) if verdict else ""
        if found := re.match(r"(ip saddr \. ip daddr|ip saddr|ip daddr) @(\S+) ", rule):
            if values[found[1]] not in ruleset.sets[found[2]].elements:
                return ""
        elif found := re.match(r"(ip [sd]addr) (!= )?(?:\{ ([^}]*) \}|([\d./]+)) ", rule):
            networks = (found[3] or found[4]).split(", ")
            inside = any(IPv4Address(values[found[1]]) in IPv4Network(n) for n in networks)
            if inside is bool(found[2]):
                return ""
        elif found := re.match(r"ct status dnat ", rule):
            if not flow.translated:
                return ""
        elif found := re.match(r"fib saddr type local ", rule):
            if not flow.is_local:
                return ""
        elif found := re.match(r"meta l4proto (\w+) counter ", rule):
            if found[1] != flow.protocol:
                return ""
        elif found := re.match(r"meta mark and 0x4000 == 0 ", rule):
            if flow.marked:
                return ""
        else:
            return _statement(ruleset, flow, rule)
        rule = rule[found.end() :]
    raise AssertionError("a rule without a statement")


def _statement(ruleset: Ruleset, flow: Flow, rule: str) -> str:
    if found := re.fullmatch(r"dnat ip to ([\d.]+):(\d+)", rule):
        flow.targets.append((found[1], int(found[2])))
        return "stop"
    if found := re.fullmatch(r"dnat ip to numgen random mod (\d+) map \{ (.*) \}", rule):
        pairs = [entry.split(" : ") for entry in found[2].split(", ")]
        assert [int(number) for number, _ in pairs] == list(range(int(found[1])))
        flow.targets += [(target.split(" . ")[0], int(target.split(" . ")[1])) for _, target in pairs]
        return "stop"
    if found := re.fullmatch(r"numgen random mod (\d+) vmap \{ (.*) \}", rule):
        pairs = [entry.split(" : ") for entry in found[2].split(", ")]
        assert [int(number) for number, _ in pairs] == list(range(int(found[1])))
        for _, verdict in pairs:
            _follow(ruleset, flow, verdict)
        return "stop"
    if found := re.match(r"update @(\S+) \{ ip saddr timeout \d+s \}", rule):
        assert ruleset.sets[found[1]].dynamic
        return ""
    if rule == "meta mark set meta mark or 0x4000":
        flow.marked = True
        return ""
    if rule == "meta mark set meta mark xor 0x4000":
        flow.marked = not flow.marked
        return ""
    if rule == "return":
        return "stop"
    return _follow(ruleset, flow, rule)
