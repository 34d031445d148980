"""What `iptables-save -c` says of one Service port, in the order in which a packet meets it.

Pure. The listing is read as it is, not compared with what should be there: a rule that somebody added is shown as such.

    nat PREROUTING, OUTPUT         KUBE-SERVICES -> KUBE-FW-X | KUBE-EXT-X -> KUBE-SVC-X | KUBE-SVL-X -> KUBE-SEP-Y: DNAT
    filter INPUT, FORWARD, OUTPUT  KUBE-NODEPORTS, KUBE-SERVICES, KUBE-EXTERNAL-SERVICES, KUBE-PROXY-FIREWALL
    nat POSTROUTING                KUBE-POSTROUTING

Source: iptables-extensions(8); the layout is that of `iptables/render.py`.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction

from podnet.proxy.explain.types import FOREIGN, People, Rule, Walk, percent
from podnet.proxy.iptables.listing import jump_target
from podnet.proxy.model import ServicePort

_LINE = re.compile(r"(?:\[(\d+):(\d+)\] )?-A (\S+) ?(.*)")
_COMMENT = re.compile(r'-m comment --comment (?:"((?:[^"\\]|\\.)*)"|(\S+)) ?')
_OPTION = re.compile(r"(! )?(--?[a-z][a-z-]*)(?: ([^-!\s]\S*))?")
_HOOKS = ("PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING")

Tables = Mapping[str, Mapping[str, tuple[Rule, ...]]]


def parse_tables(text: str) -> Tables:
    """Table -> chain -> rules with their counters (without `-A CHAIN `)."""
    tables: dict[str, dict[str, list[Rule]]] = {}
    chains: dict[str, list[Rule]] = {}
    for line in text.splitlines():
        found = _LINE.fullmatch(line)
        if line.startswith("*"):
            chains = tables.setdefault(line[1:].strip(), {})
        elif found:
            counts = (int(found[1]), int(found[2])) if found[1] else (None, None)
            chains.setdefault(found[3], []).append(Rule(found[4], *counts))
    return {table: {name: tuple(rules) for name, rules in found.items()} for table, found in tables.items()}


@dataclass(frozen=True, slots=True)
class _Match:
    """A rule taken apart: options without their dashes, negated ones with `!`."""

    options: Mapping[str, str]
    comment: str
    target: str

    def get(self, name: str) -> str:
        return self.options.get(name, "")


@functools.lru_cache(maxsize=65536)
def _parse_rule(text: str) -> _Match:
    comment = _COMMENT.search(text)
    options = {
        ("!" if negated else "") + name.lstrip("-"): value
        for negated, name, value in _OPTION.findall(_COMMENT.sub("", text))
    }
    said = (comment[1] or comment[2] or "") if comment else ""
    return _Match(options, said, jump_target(text))


def _is_to(rule: Rule, port: ServicePort, address: object) -> bool:
    match = _parse_rule(rule.text)
    same_port = match.get("p") == port.protocol.lower() and match.get("dport") == str(port.port)
    return same_port and match.get("d") == f"{address}/32"


def _is_node_port(rule: Rule, port: ServicePort) -> bool:
    match = _parse_rule(rule.text)
    return (
        bool(port.node_port) and match.get("dport") == str(port.node_port) and match.get("p") == port.protocol.lower()
    )


def walk_port(tables: Tables, port: ServicePort, people: People, health_port: int = 0) -> Walk:
    """Every rule that a packet to this Service port may meet."""
    walker = _Walker(tables, port, people)
    addresses = (port.cluster_ip, *port.outside_ips)
    for rule in tables.get("nat", {}).get("KUBE-SERVICES", ()):
        if any(_is_to(rule, port, address) for address in addresses):
            walker.rule("nat", "KUBE-SERVICES", rule, 0)
        elif port.node_port and jump_target(rule.text) == "KUBE-NODEPORTS":
            entries = [r for r in tables["nat"].get("KUBE-NODEPORTS", ()) if _is_node_port(r, port)]
            if entries:
                walker.rule("nat", "KUBE-SERVICES", rule, 0, follow=False)
            for entry in entries:
                walker.rule("nat", "KUBE-NODEPORTS", entry, 1)
    filters = tables.get("filter", {})
    for rule in filters.get("KUBE-NODEPORTS", ()):
        if health_port and _parse_rule(rule.text).get("dport") == str(health_port):
            walker.rule("filter", "KUBE-NODEPORTS", rule, 0)
    for chain in ("KUBE-SERVICES", "KUBE-EXTERNAL-SERVICES", "KUBE-PROXY-FIREWALL"):
        for rule in filters.get(chain, ()):
            if any(_is_to(rule, port, address) for address in addresses) or _is_node_port(rule, port):
                walker.rule("filter", chain, rule, 0)
    if any("-j DNAT" in step.rule for step in walker.walk.steps):
        for rule in tables.get("nat", {}).get("KUBE-POSTROUTING", ()):
            walker.rule("nat", "KUBE-POSTROUTING", rule, 0)
    return walker.walk


def choices(tables: Tables, chain: str) -> dict[str, Fraction]:
    """Endpoint -> its part of those new connections that come to the end of a chain (no affinity, no special client)."""
    nat = tables.get("nat", {})
    found: dict[str, Fraction] = {}
    left = Fraction(1)
    for rule in nat.get(chain, ()):
        match = _parse_rule(rule.text)
        if "rcheck" in match.options:
            continue
        if match.target == "DNAT":
            return {match.get("to-destination"): Fraction(1)}
        if match.target.startswith("KUBE-SEP-"):
            part = left * _odds(match)
            for endpoint in choices(tables, match.target):
                found[endpoint] = found.get(endpoint, Fraction(0)) + part
            left -= part
    if found or not nat.get(chain):
        return found
    last = _parse_rule(nat[chain][-1].text)
    special = ("s" in last.options or "src-type" in last.options) and not chain.startswith("KUBE-FW-")
    return {} if special else choices(tables, last.target)  # else whoever is not special falls off the end


def _odds(match: _Match) -> Fraction:
    """A probability as it was meant: xt_statistic keeps 31 bits of 1/n."""
    text = match.get("probability")
    return Fraction(text).limit_denominator(5000) if text else Fraction(1)


def shares(tables: Tables, port: ServicePort) -> tuple[dict[str, Fraction], dict[str, Fraction]]:
    """By way of the cluster IP, and by way of the addresses for the outside."""
    nat = tables.get("nat", {})
    services = nat.get("KUBE-SERVICES", ())
    inside = [jump_target(rule.text) for rule in services if _is_to(rule, port, port.cluster_ip)]
    outside = [
        jump_target(rule.text) for rule in services for address in port.outside_ips if _is_to(rule, port, address)
    ]
    outside += [jump_target(rule.text) for rule in nat.get("KUBE-NODEPORTS", ()) if _is_node_port(rule, port)]
    return choices(tables, inside[0]) if inside else {}, choices(tables, outside[0]) if outside else {}


def opened(walk: Walk) -> dict[str, int]:
    """Connections counted by the DNAT rules, by endpoint."""
    counts: dict[str, int] = {}
    for step in walk.steps:
        match = _parse_rule(step.rule)
        if match.target == "DNAT":
            key = match.get("to-destination")
            counts[key] = counts.get(key, 0) + (step.packets or 0)
    return counts


class _Walker:
    """Follows jumps; a chain that was shown is not shown again."""

    def __init__(self, tables: Tables, port: ServicePort, people: People) -> None:
        self.tables, self.port, self.people = tables, port, people
        self.walk = Walk()
        self._left: dict[str, Fraction] = {}

    def hook(self, table: str, chain: str) -> str:
        """From which built-in chains a chain is reached."""
        chains = self.tables.get(table, {})
        top = "KUBE-SERVICES" if table == "nat" and chain == "KUBE-NODEPORTS" else chain
        hooks = [name for name in _HOOKS if any(jump_target(rule.text) == top for rule in chains.get(name, ()))]
        return f"{table} {', '.join(hooks)}" if hooks else "no hook leads here"

    def rule(self, table: str, chain: str, rule: Rule, depth: int, hook: str = "", *, follow: bool = True) -> None:
        """One rule, and the chain to which it leads."""
        hook = hook or self.hook(table, chain)
        self.walk.add(hook, chain, rule, self.sentence(table, chain, rule), depth)
        target = jump_target(rule.text)
        if not follow or target in self.walk.seen:
            return
        self.walk.seen.add(target)
        for inner in self.tables[table].get(target, ()):
            self.rule(table, target, inner, depth + 1, hook)

    def endpoint_of(self, chain: str) -> str:
        """The endpoint to which a KUBE-SEP chain translates, with its name."""
        found = choices(self.tables, chain)
        return self.people.name(next(iter(found))) if found else chain

    def sentence(self, table: str, chain: str, rule: Rule) -> str:
        """A plain sentence for a rule."""
        match = _parse_rule(rule.text)
        kind = "-".join(chain.split("-")[:2]) if chain.count("-") == 2 and chain not in _FIXED else chain
        if table == "filter":
            return self._refusal(chain, match)
        if kind == "KUBE-SERVICES":
            return self._dispatch(match)
        if kind == "KUBE-NODEPORTS":
            return f"Port {match.get('dport')} of this node is the node port of {self.port.full_name}: on to its chain."
        if kind == "KUBE-FW":
            return (
                f"loadBalancerSourceRanges: who comes from {match.get('s')} goes on; who matches none is dropped below."
            )
        if kind == "KUBE-EXT":
            return self._external(match)
        if kind in ("KUBE-SVC", "KUBE-SVL"):
            return self._choice(chain, match)
        if kind == "KUBE-SEP":
            return self._endpoint(match)
        if kind == "KUBE-MARK-MASQ" and match.target == "MARK":
            return "Bit 0x4000 of the packet's mark is set; postrouting will look at it."
        if kind == "KUBE-POSTROUTING":
            return _POSTROUTING.get(match.target, FOREIGN)
        return FOREIGN

    def _dispatch(self, match: _Match) -> str:
        port, address = self.port, match.get("d").partition("/")[0]
        if match.target == "KUBE-NODEPORTS":
            return "Last of all: to an address of this node itself? Then its node ports are gone through."
        if address == str(port.cluster_ip):
            kind = "cluster IP"
        else:
            kind = "load balancer's address" if address in map(str, port.load_balancer_ips) else "external IP"
        guarded = ", which loadBalancerSourceRanges guard" if match.target.startswith("KUBE-FW-") else ""
        return f"{address} port {port.port} is the {kind} of {port.full_name}{guarded}: on to its chain."

    def _external(self, match: _Match) -> str:
        if match.get("s"):
            return f"A pod (from {match.get('s')}) may have any endpoint: the policy Local is for outsiders."
        if "src-type" in match.options:
            if match.target == "KUBE-MARK-MASQ":
                return "The node itself as client is marked for masquerade ..."
            return "... and may have any endpoint."
        if match.target == "KUBE-MARK-MASQ":
            return "Marked for masquerade: the answer must come back through this node; the client's address is lost."
        if match.target.startswith("KUBE-SVL-"):
            return (
                "Everybody else gets an endpoint of this node only and keeps its address (externalTrafficPolicy Local)."
            )
        return "On to all endpoints of the Service." if match.target.startswith("KUBE-SVC-") else FOREIGN

    def _choice(self, chain: str, match: _Match) -> str:
        if match.target == "KUBE-MARK-MASQ":
            if "!s" not in match.options:
                return "Everybody who calls the cluster IP is marked for masquerade (masquerade-all)."
            return (
                f"A client outside the pod network {match.get('!s')} that calls the cluster IP is marked for masquerade:"
                " an endpoint elsewhere could not answer through this node otherwise."
            )
        if not match.target.startswith("KUBE-SEP-"):
            return FOREIGN
        name = self.endpoint_of(match.target)
        if "rcheck" in match.options:
            return f"sessionAffinity: a client seen within the last {match.get('seconds')} s goes to {name} again."
        odds = _odds(match)
        left = self._left.get(chain, Fraction(1))  # of those that reach the choice, so many come as far as this rule
        self._left[chain] = left - left * odds
        if odds == 1:
            return (
                f"The only endpoint: {name}." if left == 1 else f"Whoever is left gets {name}: {percent(left)} of all."
            )
        of_all = "" if left == 1 else f": {percent(left * odds)} of all"
        return f"{percent(odds)} of those that come here get {name}{of_all}."

    def _endpoint(self, match: _Match) -> str:
        if match.target == "KUBE-MARK-MASQ":
            return "The endpoint calls itself (hairpin): marked for masquerade, else it would answer itself."
        if match.target != "DNAT":
            return FOREIGN
        remembered = ", and the client is remembered (sessionAffinity)" if "set" in match.options else ""
        name = self.people.name(match.get("to-destination"))
        return f"DNAT: the destination becomes {name}{remembered}. conntrack does the same with the rest of the connection."

    def _refusal(self, chain: str, match: _Match) -> str:
        port = self.port
        if match.target == "ACCEPT":
            return (
                f"The health check node port {match.get('dport')} answers a load balancer: may one send to this node?"
            )
        what = f"node port {port.node_port}" if not match.get("d") else match.get("d").partition("/")[0]
        if match.target == "REJECT":
            return f"{what}: {port.full_name} has no usable endpoint anywhere: refused at once, so that clients need not wait."
        if match.target == "DROP" and chain == "KUBE-PROXY-FIREWALL":
            return f"{what}: not translated, so not from loadBalancerSourceRanges: dropped."
        if match.target == "DROP":
            return (
                f"{what}: {port.full_name} has endpoints, but none on this node, and the policy is Local: whoever was"
                " not translated before is dropped."
            )
        return FOREIGN


_FIXED = ("KUBE-MARK-MASQ",)
_POSTROUTING = {
    "RETURN": "Not marked: the packet leaves with its own source address.",
    "MARK": "The mark is cleared: it has done its work.",
    "MASQUERADE": "Marked: the source becomes this node's address, so that the answer returns here.",
}
