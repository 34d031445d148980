"""What `nft list table ip kube-proxy` says of one Service port, in the order in which a packet meets it.

Pure. The listing is read as it is, not compared with what should be there: a rule that somebody added is shown as such.

    -100  firewall-check, services   element of a map -> external-X -> service-X | local-X -> endpoint-X: dnat
     -90  ...-endpoints-check        element -> reject | drop; cluster-ips-check
     100  masquerading

Source: nft(8); the layout is that of `nftables/render.py`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction

from podnet.proxy.explain.types import FOREIGN, People, Rule, Walk, percent
from podnet.proxy.model import ServicePort
from podnet.proxy.nftables.listing import parse_blocks, parse_elements

_ELEMENT = re.compile(r'(?P<key>.*?)(?: comment "(?P<note>[^"]*)")?(?: : (?P<verdict>.*))?')
_COUNTER = re.compile(r"counter packets (\d+) bytes (\d+) ?")
_COMMENT = re.compile(r' comment "[^"]*"$')
_HOOK = re.compile(r"type (\w+) hook (\w+) priority ([^;]+);")
_LEADS = re.compile(r"(?:goto|jump) (\S+?)(?=[,\s]|$)")
_DNAT_ONE = re.compile(r"dnat (?:ip )?to (\d+\.\d+\.\d+\.\d+):(\d+)")
_DNAT_MAP = re.compile(r"dnat ip to numgen random mod \d+ map \{ (.*) \}")
_NAMED_PRIORITIES = {"dstnat": -100, "srcnat": 100}
_MAX_NAMES = 10


@dataclass(frozen=True, slots=True)
class LiveTable:
    """The table as the kernel has it. `elements`: set or map -> key -> verdict ("" in a set)."""

    chains: Mapping[str, tuple[Rule, ...]]
    elements: Mapping[str, Mapping[str, str]]
    hooks: Mapping[str, tuple[str, str, int]]


def parse_table(listing: str) -> LiveTable:
    """Read a listing."""
    chains: dict[str, tuple[Rule, ...]] = {}
    elements: dict[str, dict[str, str]] = {}
    hooks: dict[str, tuple[str, str, int]] = {}
    for name, lines in parse_blocks(listing).items():
        members = [found for text in parse_elements(lines) if (found := _ELEMENT.fullmatch(text))]
        elements[name] = {found["key"].strip(): found["verdict"] or "" for found in members}
        hook = next((found for line in lines if (found := _HOOK.match(line))), None)
        if hook:
            hooks[name] = (hook[1], hook[2], _priority(hook[3]))
        chains[name] = tuple(_rule(line) for line in lines if line and not _HOOK.match(line))
    return LiveTable(chains, elements, hooks)


def _priority(text: str) -> int:
    """`dstnat + 10`, `srcnat`, `-90`."""
    total, sign = 0, 1
    for word in text.split():
        if word in "+-":
            sign = -1 if word == "-" else 1
        else:
            total += sign * (_NAMED_PRIORITIES[word] if word in _NAMED_PRIORITIES else int(word))
    return total


def _rule(line: str) -> Rule:
    counted = _COUNTER.search(line)
    return Rule(line, int(counted[1]), int(counted[2])) if counted else Rule(line)


def walk_port(live: LiveTable, port: ServicePort, people: People) -> Walk:
    """Every rule and element that a packet to this Service port may meet."""
    walker = _Walker(live, port, people)
    protocol = port.protocol.lower()
    for ip in port.load_balancer_ips:
        walker.look_up("firewall-check", "firewall-ips", f"{ip} . {protocol} . {port.port}")
    addresses = [f"{ip} . {protocol} . {port.port}" for ip in (port.cluster_ip, *port.outside_ips)]
    for key in addresses:
        walker.look_up("services", "service-ips", key)
    if port.node_port:
        walker.look_up("services", "service-nodeports", f"{protocol} . {port.node_port}")
        walker.look_up("nodeport-endpoints-check", "no-endpoint-nodeports", f"{protocol} . {port.node_port}")
    for key in addresses:
        walker.look_up("service-endpoints-check", "no-endpoint-services", key)
    walker.look_up("cluster-ips-check", "cluster-ips", str(port.cluster_ip))
    if any("dnat" in step.rule for step in walker.walk.steps):
        walker.whole("masquerading")
    return walker.walk


def choices(live: LiveTable, chain: str, share: Fraction = Fraction(1)) -> dict[str, Fraction]:
    """Endpoint -> its part of those new connections that come to the end of a chain (no affinity, no special client)."""
    rules = live.chains.get(chain, ())
    if not rules:
        return {}
    text = rules[-1].text
    targets = list(_targets(text))
    if targets:
        return {target: share / len(targets) for target in targets}
    if not text.startswith(("goto ", "numgen ")):
        return {}  # only for special clients: everybody else falls off the end of the chain
    found: dict[str, Fraction] = {}
    leads = [lead for lead in _LEADS.findall(text) if lead in live.chains]
    for lead in leads:
        for endpoint, part in choices(live, lead, share / len(leads)).items():
            found[endpoint] = found.get(endpoint, Fraction(0)) + part
    return found


def shares(live: LiveTable, port: ServicePort) -> tuple[dict[str, Fraction], dict[str, Fraction]]:
    """By way of the cluster IP, and by way of the addresses for the outside."""
    protocol = port.protocol.lower()
    services, node_ports = live.elements.get("service-ips", {}), live.elements.get("service-nodeports", {})
    inside = services.get(f"{port.cluster_ip} . {protocol} . {port.port}", "")
    outside = [services.get(f"{ip} . {protocol} . {port.port}", "") for ip in port.outside_ips]
    outside.append(node_ports.get(f"{protocol} . {port.node_port}", ""))
    entry = next((verdict for verdict in outside if verdict), "")
    return choices(live, inside.removeprefix("goto ")), choices(live, entry.removeprefix("goto "))


def opened(walk: Walk) -> dict[str, int]:
    """Connections counted by the DNAT rules: by endpoint where a rule leads to one, else under ""."""
    counts: dict[str, int] = {}
    for step in walk.steps:
        targets = list(_targets(step.rule))
        if targets and step.packets is not None:
            key = targets[0] if len(targets) == 1 else ""
            counts[key] = counts.get(key, 0) + step.packets
    return counts


def _targets(rule: str) -> Iterator[str]:
    one, many = _DNAT_ONE.search(rule), _DNAT_MAP.search(rule)
    if one:
        yield f"{one[1]}:{one[2]}"
    elif many:
        for entry in many[1].split(","):
            address, _, number = entry.partition(" : ")[2].strip().partition(" . ")
            yield f"{address}:{number}"


class _Walker:
    """Follows verdicts; a chain that was shown is not shown again."""

    def __init__(self, live: LiveTable, port: ServicePort, people: People) -> None:
        self.live, self.port, self.people = live, port, people
        self.walk = Walk()

    def hook(self, chain: str) -> str:
        """From which base chains a chain is reached."""
        bases = [name for name, rules in self.live.chains.items() if any(r.text == f"jump {chain}" for r in rules)]
        found = sorted(
            {self.live.hooks[name] for name in bases if name in self.live.hooks}, key=lambda h: -ord(h[1][0])
        )
        if not found:
            return "no hook leads here"
        return f"{found[0][0]} {', '.join(hook for _, hook, _ in found)}, priority {found[0][2]}"

    def look_up(self, chain: str, name: str, key: str) -> None:
        """The rule that asks a map, the element that answers, and where that leads."""
        if key not in self.live.elements.get(name, {}):
            return
        hook, verdict = self.hook(chain), self.live.elements[name][key]
        asks = next((rule for rule in self.live.chains.get(chain, ()) if f"@{name}" in rule.text), None)
        if asks is not None and f"{chain}@{name}" not in self.walk.seen:
            self.walk.seen.add(f"{chain}@{name}")
            self.walk.add(hook, chain, asks, self.sentence(asks.text), 0)
        text = f"{key} : {verdict}" if verdict else key
        self.walk.add(hook, f"@{name}", Rule(text), self.element(name, key, verdict), 1)
        self.descend(hook, verdict, 2)

    def whole(self, chain: str) -> None:
        """Every rule of a chain that is asked about all packets."""
        hook = self.hook(chain)
        for rule in self.live.chains.get(chain, ()):
            self.walk.add(hook, chain, rule, self.sentence(rule.text), 0)

    def descend(self, hook: str, text: str, depth: int) -> None:
        """The chains to which a rule or verdict leads."""
        for chain in _LEADS.findall(text):
            if chain in self.walk.seen or chain not in self.live.chains:
                continue
            self.walk.seen.add(chain)
            for rule in self.live.chains[chain]:
                self.walk.add(hook, chain, rule, self.sentence(rule.text), depth)
                self.descend(hook, rule.text, depth + 1)

    def element(self, name: str, key: str, verdict: str) -> str:
        """What an element means."""
        port = self.port
        address = key.partition(" ")[0]
        kind = (
            "cluster IP" if address == str(port.cluster_ip)
            else "load balancer's address" if address in map(str, port.load_balancer_ips)
            else "external IP"
        )  # fmt: skip
        if name == "cluster-ips":
            return f"{key} is the cluster IP of {port.namespace}/{port.name}."
        if name == "firewall-ips":
            return f"The {kind} {address} is guarded by spec.loadBalancerSourceRanges."
        if name == "service-nodeports":
            return f"Port {port.node_port} of this node is the node port of {port.full_name}: on to its chain."
        if name == "service-ips":
            return f"{address} port {port.port} is the {kind} of {port.full_name}: on to its chain."
        what = f"node port {port.node_port}" if name == "no-endpoint-nodeports" else f"{kind} {address}"
        if verdict == "drop":
            return (
                f"{what}: {port.full_name} has endpoints, but none on this node, and the policy is Local: whoever"
                " was not translated before is dropped."
            )
        return (
            f"{what}: {port.full_name} has no usable endpoint anywhere: refused at once, so that clients need not wait."
        )

    def sentence(self, text: str) -> str:
        """A plain sentence for a rule."""
        bare = _COMMENT.sub("", _COUNTER.sub("", text))
        for pattern, explain in _SENTENCES:
            found = pattern.fullmatch(bare)
            if found:
                return explain(self, found)
        return FOREIGN

    def clients(self, name: str) -> int:
        return len(self.live.elements.get(name, {}))

    def endpoint_of(self, chain: str) -> str:
        """The endpoint to which an endpoint chain translates, with its name."""
        found = [target for rule in self.live.chains.get(chain, ()) for target in _targets(rule.text)]
        return self.people.name(found[0]) if found else chain


def _choose(targets: list[str]) -> str:
    if len(targets) == 1:
        return f"The only endpoint: {targets[0]}"
    return f"one of {len(targets)} endpoints at random, {percent(1 / len(targets))} each: {_enumerate(targets)}"


def _enumerate(names: list[str]) -> str:
    more = len(names) - _MAX_NAMES
    return "; ".join(names[:_MAX_NAMES]) + (f"; and {more} more" if more > 0 else "")


def _dnat(walker: _Walker, found: re.Match[str]) -> str:
    targets = list(_targets(found[0]))
    names = [walker.people.name(target) for target in targets]
    if len(names) == 1:
        return f"DNAT: the destination becomes {names[0]}. conntrack does the same with the rest of the connection."
    return f"DNAT to {_choose(names)}. conntrack keeps the choice for the rest of the connection."


def _spread(walker: _Walker, found: re.Match[str]) -> str:
    names = [walker.endpoint_of(chain) for chain in _LEADS.findall(found[0])]
    return f"A client that is not remembered gets {_choose(names)}."


def _remembered(walker: _Walker, found: re.Match[str]) -> str:
    count = walker.clients(found[1])
    now = f"{count} client{'' if count == 1 else 's'} remembered now"
    return f"sessionAffinity: a client that is remembered goes to {walker.endpoint_of(found[2])} again ({now})."


def _outsiders(_walker: _Walker, found: re.Match[str]) -> str:
    return (
        f"A client outside the pod network {found[2]} that calls the cluster IP is marked for masquerade: an endpoint"
        " elsewhere could not answer through this node otherwise."
    )


def _to_local(_walker: _Walker, _found: re.Match[str]) -> str:
    return "Everybody else gets an endpoint of this node only and keeps its address (externalTrafficPolicy Local)."


def _plain(text: str) -> Callable[[_Walker, re.Match[str]], str]:
    def say(_walker: _Walker, found: re.Match[str]) -> str:
        return text.format(*found.groups())

    return say


_MASQ = "jump mark-for-masquerade"
_SENTENCES: tuple[tuple[re.Pattern[str], Callable[[_Walker, re.Match[str]], str]], ...] = tuple(
    (re.compile(pattern), explain if callable(explain) else _plain(explain))
    for pattern, explain in (
        (r".* vmap @firewall-ips", "Is the destination an address that loadBalancerSourceRanges guard?"),
        (r".* vmap @service-ips", "Address, protocol and port are looked up in one map: one step, however many Services."),
        (r".* vmap @service-nodeports", "To an address of this node: the port is looked up in the map of node ports."),
        (r".* vmap @no-endpoint-services", "Not translated so far: is it for a Service with no endpoint to offer here?"),
        (r".* vmap @no-endpoint-nodeports", "Not translated so far: is it for a node port with no endpoint to offer here?"),
        (r"ip daddr @cluster-ips reject", "To a cluster IP, but not to one of the Service's ports: refused at once."),
        (r"ip saddr != \{? ?(.*?) ?\}? drop", "Who does not come from {0} is dropped."),
        (rf"ip daddr (\S+) ip saddr != (\S+) {_MASQ}", _outsiders),
        (rf"ip daddr (\S+) {_MASQ}", "Everybody who calls the cluster IP is marked for masquerade (masquerade-all)."),
        (_MASQ, "Marked for masquerade: the answer must come back through this node; the client's address is lost."),
        (r"ip saddr (\S+) goto service-\S+", "A pod (from {0}) may have any endpoint: the policy Local is for outsiders."),
        (rf"fib saddr type local {_MASQ}", "The node itself as client is marked for masquerade ..."),
        (r"fib saddr type local goto service-\S+", "... and may have any endpoint."),
        (r"goto service-\S+", "On to all endpoints of the Service."),
        (r"goto local-\S+", _to_local),
        (r"goto (endpoint-\S+)", lambda walker, found: f"The only endpoint: {walker.endpoint_of(found[1])}."),
        (r"ip saddr @(affinity-\S+) goto (endpoint-\S+)", _remembered),
        (r"numgen random mod \d+ vmap \{ .* \}", _spread),
        (r"update @affinity-\S+ \{ ip saddr timeout (\S+) \}", "sessionAffinity: the client is remembered for {0} from now."),
        (r"meta l4proto \w+ dnat .*", _dnat),
        (r"meta mark set meta mark \| 0x0*4000", "Bit 0x4000 of the packet's mark is set; postrouting will look at it."),
        (r"ct status dnat ip saddr \. ip daddr @hairpin-ips masquerade fully-random",
         "An endpoint that was given itself (hairpin) sees the node's address instead: else it would answer itself."),
        (r"meta mark & 0x0*4000 == 0x0*0 return", "Not marked: the packet leaves with its own source address."),
        (r"meta mark set meta mark \^ 0x0*4000", "The mark is cleared: it has done its work."),
        (r"masquerade fully-random", "Marked: the source becomes this node's address, so that the answer returns here."),
        (r"reject(?: with \S+ \S+)?", "Refused with an ICMP error: the client fails at once."),
        (r"drop", "Dropped without an answer: the client waits until it gives up."),
    )
)  # fmt: skip
