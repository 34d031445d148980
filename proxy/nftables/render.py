"""From the model to the table of the nftables mode.

Pure. The path of a packet that opens a connection:

    prerouting, output     -100  firewall-check       firewall-ips -> firewall-X: drop who is not in the ranges
                                 services             service-ips -> service-X | local-X | external-X
                                                      nodeport-ips, service-nodeports -> external-X
                            -90  ...-endpoints-check  no-endpoint-services, no-endpoint-nodeports -> reject | drop
                                 cluster-ips-check    cluster-ips -> reject; Service range -> drop
    postrouting             100  masquerading         hairpin-ips, mark 0x4000 -> masquerade

Every hook is of type nat, and to those the kernel shows the first packet of a connection only: what is established
passes no rule at all. Hooks of type filter, with `ct state new` before each check (so this was once, as upstream's is),
took 12 % of the throughput between pods that use no Service. A nat chain may drop and reject as well (reject in
prerouting: Linux 5.9), and whom an earlier one has given an endpoint does not come to -90; hostPorts (-95) have theirs
by then, too.

    external-X  policy Cluster: mark, service-X. Local: a pod service-X; the node itself mark, service-X; else local-X
    service-X   from outside the pod network to the cluster IP: mark. Then affinity, then one endpoint at random

A plain Service has one chain: the endpoint is chosen and written by one `dnat to numgen ... map`, because the number of
chains is what makes a load slow. With session affinity each endpoint has its chain and its set of clients. An endpoint
that calls itself through its Service is recognized where it leaves, by source and destination being one address.

Sources: the published design of kube-proxy's nftables mode (KEP-3866); nft(8).
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, collapse_addresses

from podnet.proxy.evaluate import allowed_sources
from podnet.proxy.model import Endpoint, Model, NodeFacts, ServicePort
from podnet.proxy.nftables.ruleset import Chain, NamedSet, Ruleset

MASQUERADE_MARK = "0x4000"
REJECT = "goto reject-chain"
DROP = "drop"

_ADDRESS_PORT = "type ipv4_addr . inet_proto . inet_service : verdict"
_PORT = "type inet_proto . inet_service : verdict"
_DECLARATIONS = {
    "cluster-ips": "type ipv4_addr",
    "nodeport-ips": "type ipv4_addr",
    "hairpin-ips": "type ipv4_addr . ipv4_addr",
    "service-ips": _ADDRESS_PORT,
    "service-nodeports": _PORT,
    "no-endpoint-services": _ADDRESS_PORT,
    "no-endpoint-nodeports": _PORT,
    "firewall-ips": _ADDRESS_PORT,
}
_CLIENTS = "type ipv4_addr; flags dynamic,timeout;"
_COMMENT_MAX = 127
_NAME_MAX = 250


@dataclass(frozen=True, slots=True)
class Fragment:
    """One Service port's share of the table. `elements`: (set or map, key, verdict, comment); of two ports that want
    one element, the first has it."""

    chains: Mapping[str, Chain]
    elements: Sequence[tuple[str, str, str, str]]
    client_sets: Sequence[str]


def compile_ruleset(model: Model) -> Ruleset:
    """The whole table of one node."""
    return assemble(model.node, [compile_port(model.node, port) for port in model.ports])


def assemble(node: NodeFacts, fragments: Iterable[Fragment]) -> Ruleset:
    """The table of one node, from the shares of its Service ports."""
    chains = dict(base_chains(node))
    elements: dict[str, dict[str, str]] = {name: {} for name in _DECLARATIONS}
    comments: dict[str, dict[str, str]] = {name: {} for name in _DECLARATIONS}
    clients: list[str] = []
    elements["nodeport-ips"] = {str(ip): "" for ip in node.ips}
    for fragment in fragments:
        chains.update(fragment.chains)
        clients += fragment.client_sets
        for name, key, verdict, comment in fragment.elements:
            if key not in elements[name]:
                elements[name][key] = verdict
                if comment:
                    comments[name][key] = comment
    sets = {
        name: NamedSet("map" if "verdict" in declaration else "set", declaration, elements[name], comments[name])
        for name, declaration in _DECLARATIONS.items()
    }
    return Ruleset(chains, sets | dict.fromkeys(clients, NamedSet("set", _CLIENTS, dynamic=True)))


def claims_of(fragment: Fragment) -> Iterable[tuple[str, str]]:
    """What another port may want, too: elements, by set and key. Chains and sets of clients bear the port's name."""
    return [(name, key) for name, key, _, _ in fragment.elements]


def compile_port(node: NodeFacts, port: ServicePort) -> Fragment:
    """One Service port's share."""
    share = _Share()
    share.add("cluster-ips", str(port.cluster_ip), "", f"{port.namespace}/{port.name}")
    _add_firewall(share, node, port)
    _add_dispatch(share, port)
    if port.has_endpoints:
        share.chains.update(_policy_chains(port, node))
        for endpoint in dict.fromkeys((*port.cluster_endpoints, *port.local_endpoints)):
            share.add("hairpin-ips", f"{endpoint.ip} . {endpoint.ip}")
            if port.affinity_timeout_s:
                share.client_sets.append(endpoint_chain("affinity", port, endpoint))
                share.chains[endpoint_chain("endpoint", port, endpoint)] = Chain(_endpoint_rules(port, endpoint))
    return Fragment(share.chains, share.elements, share.client_sets)


class _Share:
    """A fragment under construction."""

    def __init__(self) -> None:
        self.chains: dict[str, Chain] = {}
        self.client_sets: list[str] = []
        self.elements: list[tuple[str, str, str, str]] = []

    def add(self, name: str, key: str, verdict: str = "", comment: str = "") -> None:
        self.elements.append((name, key, verdict, comment[:_COMMENT_MAX]))


def port_chain(kind: str, port: ServicePort) -> str:
    """The chain of one Service port: `service-`, `external-`, `local-` or `firewall-`, a hash, and the name to read.

    The hash is over the whole name, so that two ports never share a chain even where the readable part is cut."""
    text = f"{port.namespace}/{port.name}/{port.protocol.lower()}/{port.port_name or port.port}"
    # A port may be named like another's number only where names are checked badly; the hash tells them apart anyway.
    digest = hashlib.sha256(f"{text}/{port.port_name}".encode()).hexdigest()[:8].upper()
    return f"{kind}-{digest}-{text}"[:_NAME_MAX]


def endpoint_chain(kind: str, port: ServicePort, endpoint: Endpoint) -> str:
    """The chain (`endpoint-`) or the set of clients (`affinity-`) of one endpoint of one Service port."""
    tail = f"__{endpoint.ip}/{endpoint.port}"
    return port_chain(kind, port)[: _NAME_MAX - len(tail)] + tail


def _add_firewall(share: _Share, node: NodeFacts, port: ServicePort) -> None:
    if not port.source_ranges or not port.load_balancer_ips:
        return
    name = port_chain("firewall", port)
    # An interval set refuses elements that overlap.
    ranges = ", ".join(str(network) for network in sorted(collapse_addresses(allowed_sources(node, port))))
    rule = f"ip saddr != {{ {ranges} }} drop"
    share.chains[name] = Chain((_noted(rule, f"not in loadBalancerSourceRanges of {port.full_name}"),))
    for ip in port.load_balancer_ips:
        share.add("firewall-ips", _key(port, ip), f"goto {name}", port.full_name)


def _key(port: ServicePort, ip: IPv4Address) -> str:
    return f"{ip} . {port.protocol.lower()} . {port.port}"


def _add_dispatch(share: _Share, port: ServicePort) -> None:
    """Every address of the Service leads to a chain, or to why it does not."""
    note = port.full_name
    refusal = DROP if port.has_endpoints else REJECT
    outside = [_key(port, ip) for ip in port.outside_ips]
    node_port = f"{port.protocol.lower()} . {port.node_port}"
    if port.internal_endpoints:
        chain = port_chain("local" if port.internal_local else "service", port)
        share.add("service-ips", _key(port, port.cluster_ip), f"goto {chain}", note)
    else:
        share.add("no-endpoint-services", _key(port, port.cluster_ip), refusal, note)
    if port.has_endpoints:
        chain = port_chain("external", port)
        for key in outside:
            share.add("service-ips", key, f"goto {chain}", note)
        if port.node_port:
            share.add("service-nodeports", node_port, f"goto {chain}", note)
    if not (port.local_endpoints if port.external_local else port.cluster_endpoints):
        # Beside the chain, not instead of it: pods and the node itself are still served by the others' endpoints.
        for key in outside:
            share.add("no-endpoint-services", key, refusal, note)
        if port.node_port:
            share.add("no-endpoint-nodeports", node_port, refusal, note)


def _policy_chains(port: ServicePort, node: NodeFacts) -> dict[str, Chain]:
    """`service-`, `local-` and `external-` chains, those that something leads to."""
    chains: dict[str, Chain] = {}
    cluster, local = port_chain("service", port), port_chain("local", port)
    guard = _masquerade_outsiders(port, node)
    if port.cluster_endpoints and (port.has_outside or not port.internal_local):
        rules = () if port.internal_local else guard
        chains[cluster] = Chain((*rules, *_choice_rules(port, port.cluster_endpoints)))
    if port.local_endpoints and (port.internal_local or (port.external_local and port.has_outside)):
        rules = guard if port.internal_local else ()
        chains[local] = Chain((*rules, *_choice_rules(port, port.local_endpoints)))
    if port.has_outside:
        chains[port_chain("external", port)] = Chain(_external_rules(port, node, cluster, local))
    return chains


def _external_rules(port: ServicePort, node: NodeFacts, cluster: str, local: str) -> tuple[str, ...]:
    if not port.external_local:
        return ("jump mark-for-masquerade", f"goto {cluster}")
    rules: list[str] = []
    if port.cluster_endpoints:
        rules += [
            _noted(f"ip saddr {node.pod_cidr} goto {cluster}", "a pod: any endpoint"),
            _noted("fib saddr type local jump mark-for-masquerade", "the node itself: any endpoint, masqueraded"),
            f"fib saddr type local goto {cluster}",
        ]
    if port.local_endpoints:
        rules.append(f"goto {local}")
    return tuple(rules)


def _masquerade_outsiders(port: ServicePort, node: NodeFacts) -> tuple[str, ...]:
    """Who is not a pod and calls the cluster IP is masqueraded: an endpoint elsewhere could not answer through us."""
    source = "" if node.masquerade_all else f" ip saddr != {node.pod_cidr}"
    return (f"ip daddr {port.cluster_ip}{source} jump mark-for-masquerade",)


def _choice_rules(port: ServicePort, endpoints: tuple[Endpoint, ...]) -> tuple[str, ...]:
    count = len(endpoints)
    if port.affinity_timeout_s:
        chains = [endpoint_chain("endpoint", port, endpoint) for endpoint in endpoints]
        sets = [endpoint_chain("affinity", port, endpoint) for endpoint in endpoints]
        if count == 1:
            return (f"goto {chains[0]}",)
        known = [f"ip saddr @{clients} goto {chain}" for clients, chain in zip(sets, chains, strict=True)]
        chosen = ", ".join(f"{number} : goto {chain}" for number, chain in enumerate(chains))
        return (*known, _noted(f"numgen random mod {count} vmap {{ {chosen} }}", port.full_name))
    if count == 1:
        return (_dnat(port, f"{endpoints[0].ip}:{endpoints[0].port}"),)
    chosen = ", ".join(f"{number} : {e.ip} . {e.port}" for number, e in enumerate(endpoints))
    return (_dnat(port, f"numgen random mod {count} map {{ {chosen} }}"),)


def _endpoint_rules(port: ServicePort, endpoint: Endpoint) -> tuple[str, ...]:
    clients = endpoint_chain("affinity", port, endpoint)
    # The timeout is the rule's and not the set's, so that a changed one needs no new set.
    return (
        f"update @{clients} {{ ip saddr timeout {port.affinity_timeout_s}s }}",
        _dnat(port, f"{endpoint.ip}:{endpoint.port}"),
    )


def _dnat(port: ServicePort, target: str) -> str:
    # nft wants the transport named before it translates a port. Only first packets come here: it counts connections.
    return _noted(f"meta l4proto {port.protocol.lower()} counter dnat ip to {target}", port.full_name)


def _noted(rule: str, note: str) -> str:
    return f'{rule} comment "{note[:_COMMENT_MAX]}"'


@functools.lru_cache(maxsize=8)
def base_chains(node: NodeFacts) -> Mapping[str, Chain]:
    """The chains every packet that opens a connection passes."""
    unused = () if node.service_cidr is None else (f"ip daddr {node.service_cidr} drop",)
    regular: dict[str, Iterable[str]] = {
        "mark-for-masquerade": (f"meta mark set meta mark or {MASQUERADE_MARK}",),
        "reject-chain": (_noted("reject with icmp port-unreachable", "a Service without endpoints"),),
        "firewall-check": ("ip daddr . meta l4proto . th dport vmap @firewall-ips",),
        "services": (
            "ip daddr . meta l4proto . th dport vmap @service-ips",
            "ip daddr @nodeport-ips meta l4proto . th dport vmap @service-nodeports",
        ),
        "service-endpoints-check": ("ip daddr . meta l4proto . th dport vmap @no-endpoint-services",),
        "nodeport-endpoints-check": ("ip daddr @nodeport-ips meta l4proto . th dport vmap @no-endpoint-nodeports",),
        "cluster-ips-check": (
            _noted("ip daddr @cluster-ips reject with icmp port-unreachable", "a Service, but not one of its ports"),
            *(_noted(rule, "no Service has this address") for rule in unused),
        ),
        "masquerading": (
            _noted(
                "ct status dnat ip saddr . ip daddr @hairpin-ips masquerade fully-random", "an endpoint calls itself"
            ),
            f"meta mark and {MASQUERADE_MARK} == 0 return",
            f"meta mark set meta mark xor {MASQUERADE_MARK}",
            "masquerade fully-random",
        ),
    }
    translate = ("jump firewall-check", "jump services")
    refuse = ("jump nodeport-endpoints-check", "jump service-endpoints-check", "jump cluster-ips-check")
    hooked = {
        "nat-prerouting": Chain(translate, _hook("prerouting", -100)),
        "nat-output": Chain(translate, _hook("output", -100)),
        "refuse-prerouting": Chain(refuse, _hook("prerouting", -90)),
        "refuse-output": Chain(refuse, _hook("output", -90)),
        "nat-postrouting": Chain(("jump masquerading",), _hook("postrouting", 100)),
    }
    return {name: Chain(tuple(rules)) for name, rules in regular.items()} | hooked


def _hook(hook: str, priority: int) -> str:
    return f"type nat hook {hook} priority {priority}"
