"""From the model to nftables: the fragment of a Service, the base that all share, and the text of the whole table.

Pure. The path of a packet that opens a connection (established ones are conntrack's business and see no rule):

    prerouting, output   -110  firewall-check      firewall-ips           -> firewall-X: drop who is not in the ranges
                         -100  services            service-ips            -> service-X | external-X | local-X
                                                   nodeport-ips, service-nodeports -> external-X
    input, forward, output  0  ...-endpoints-check no-endpoint-services, no-endpoint-nodeports -> reject | drop
                               cluster-ips-check   cluster-ips -> reject; Service range -> drop
    postrouting           100  masquerading        hairpin, mark 0x4000   -> masquerade

    external-X  policy Cluster: mark, service-X · Local: from a pod service-X; from the node mark, service-X; else local-X
    service-X   from outside the pod network to the cluster IP: mark · affinity · one endpoint at random

A plain Service has one chain: the endpoint is chosen and written by one `dnat to numgen ... map`, because the number of
chains is what makes a load slow. With session affinity each endpoint has its chain and its set of clients. An endpoint
that calls itself through its Service is recognized where it leaves, by source and destination being one address.

Sources: Kubernetes' description of kube-proxy's nftables mode (KEP-3866); nft(8).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from ipaddress import IPv4Address, collapse_addresses

from podnet.proxy.nftables.ruleset import (
    AFFINITY_SET,
    FAMILY,
    MAPS,
    TABLE,
    Element,
    ElementKey,
    Fragment,
    endpoint_chain,
    port_chain,
)
from podnet.proxy.types import Endpoint, NodeFacts, ServicePort

MASQUERADE_MARK = "0x4000"
REJECT = "goto reject-chain"
DROP = "drop"


def render_service(ports: Iterable[ServicePort], facts: NodeFacts) -> Fragment:
    """What the ports of one Service add to the table."""
    chains: dict[str, tuple[str, ...]] = {}
    sets: set[str] = set()
    elements: dict[ElementKey, Element] = {}
    for port in ports:
        elements[ElementKey("cluster-ips", str(port.cluster_ip))] = Element("", f"{port.name.namespace}/{port.name.service}")
        chains.update(_firewall_chains(port))
        elements.update(_firewall_elements(port))
        elements.update(_dispatch_elements(port))
        if not port.has_endpoints:
            continue
        chains.update(_policy_chains(port, facts))
        for endpoint in port.reachable_endpoints:
            if port.affinity_s:
                sets.add(endpoint_chain("affinity", port.name, endpoint))
                chains[endpoint_chain("endpoint", port.name, endpoint)] = _endpoint_rules(port, endpoint)
            if endpoint.may_be_local:
                key = ElementKey("hairpin-ips", f"{endpoint.ip} . {endpoint.ip}")
                elements[key] = Element("", endpoint.name)
    return Fragment(chains, frozenset(sets), elements)


def render_node(facts: NodeFacts) -> Fragment:
    """The addresses on which node ports listen."""
    return Fragment(elements={ElementKey("nodeport-ips", str(ip)): Element() for ip in facts.node_port_ips})


def _key(port: ServicePort, ip: IPv4Address) -> str:
    return f"{ip} . {port.protocol} . {port.port}"


def _dispatch_elements(port: ServicePort) -> dict[ElementKey, Element]:
    """Who looks up what: every address of the Service leads to a chain, or to why it does not."""
    found: dict[ElementKey, Element] = {}
    note = str(port.name)
    node_port = f"{port.protocol} . {port.node_port}"
    inside, outside = _key(port, port.cluster_ip), [_key(port, ip) for ip in port.outside_ips]
    refusal = DROP if port.has_endpoints else REJECT
    if port.internal_endpoints:
        kind = "local" if port.internal_local else "service"
        found[ElementKey("service-ips", inside)] = Element(f"goto {port_chain(kind, port.name)}", note)
    else:
        found[ElementKey("no-endpoint-services", inside)] = Element(refusal, note)
    if port.has_endpoints:
        external = Element(f"goto {port_chain('external', port.name)}", note)
        for key in outside:
            found[ElementKey("service-ips", key)] = external
        if port.node_port:
            found[ElementKey("service-nodeports", node_port)] = external
    if not port.external_endpoints:
        # Beside the chain, not instead of it: pods and the node itself are still served by the others' endpoints.
        for key in outside:
            found[ElementKey("no-endpoint-services", key)] = Element(refusal, note)
        if port.node_port:
            found[ElementKey("no-endpoint-nodeports", node_port)] = Element(refusal, note)
    return found


def _firewall_elements(port: ServicePort) -> dict[ElementKey, Element]:
    if not port.source_ranges:
        return {}
    element = Element(f"goto {port_chain('firewall', port.name)}", str(port.name))
    return {ElementKey("firewall-ips", _key(port, ip)): element for ip in port.load_balancer_ips}


def _firewall_chains(port: ServicePort) -> dict[str, tuple[str, ...]]:
    if not port.source_ranges or not port.load_balancer_ips:
        return {}
    # An interval set refuses elements that overlap.
    ranges = ", ".join(str(network) for network in sorted(collapse_addresses(port.source_ranges)))
    rule = f'ip saddr != {{ {ranges} }} drop comment "loadBalancerSourceRanges of {port.name}"'
    return {port_chain("firewall", port.name): (_short(rule),)}


def _policy_chains(port: ServicePort, facts: NodeFacts) -> dict[str, tuple[str, ...]]:
    """`service-`, `local-` and `external-` chains, those that something leads to."""
    chains: dict[str, tuple[str, ...]] = {}
    has_outside = bool(port.node_port or port.outside_ips)
    cluster, local = port_chain("service", port.name), port_chain("local", port.name)
    guard = _masquerade_outsiders(port, facts)
    if port.cluster_endpoints and (not port.internal_local or has_outside):
        rules = () if port.internal_local else guard
        chains[cluster] = (*rules, *_choice_rules(port, port.cluster_endpoints))
    if port.local_endpoints and (port.internal_local or (port.external_local and has_outside)):
        rules = guard if port.internal_local else ()
        chains[local] = (*rules, *_choice_rules(port, port.local_endpoints))
    if not has_outside:
        return chains
    external = port_chain("external", port.name)
    if not port.external_local:
        chains[external] = ("jump mark-for-masquerade", f"goto {cluster}")
        return chains
    rules_out: list[str] = []
    if port.cluster_endpoints:
        if facts.pod_cidr is not None:
            rules_out.append(f'ip saddr {facts.pod_cidr} goto {cluster} comment "pods: any endpoint"')
        rules_out += [
            'fib saddr type local jump mark-for-masquerade comment "the node itself: any endpoint, masqueraded"',
            f"fib saddr type local goto {cluster}",
        ]
    if port.local_endpoints:
        rules_out.append(f"goto {local}")
    chains[external] = tuple(rules_out)
    return chains


def _masquerade_outsiders(port: ServicePort, facts: NodeFacts) -> tuple[str, ...]:
    """Who is not a pod and calls the cluster IP is masqueraded: an endpoint on another node could not answer through us."""
    if facts.masquerade_all:
        return (f"ip daddr {port.cluster_ip} jump mark-for-masquerade",)
    if facts.pod_cidr is None:
        return ()
    return (f"ip daddr {port.cluster_ip} ip saddr != {facts.pod_cidr} jump mark-for-masquerade",)


def _choice_rules(port: ServicePort, endpoints: tuple[Endpoint, ...]) -> tuple[str, ...]:
    names = [endpoint.name for endpoint in endpoints if endpoint.name]
    note = f'{port.name} -> {", ".join(names) if names else f"{len(endpoints)} endpoints"}'
    count = len(endpoints)
    if port.affinity_s:
        known = [
            f"ip saddr @{endpoint_chain('affinity', port.name, e)} goto {endpoint_chain('endpoint', port.name, e)}"
            for e in endpoints
        ]
        chains = [endpoint_chain("endpoint", port.name, e) for e in endpoints]
        if count == 1:
            return (_short(f'goto {chains[0]} comment "{note}"'),)
        chosen = ", ".join(f"{number} : goto {chain}" for number, chain in enumerate(chains))
        return (*known, _with_comment(f"numgen random mod {count} vmap {{ {chosen} }}", note))
    match = f"meta l4proto {port.protocol} counter dnat ip to"
    if count == 1:
        return (_with_comment(f"{match} {endpoints[0].ip}:{endpoints[0].port}", note),)
    chosen = ", ".join(f"{number} : {e.ip} . {e.port}" for number, e in enumerate(endpoints))
    return (_with_comment(f"{match} numgen random mod {count} map {{ {chosen} }}", note),)


def _endpoint_rules(port: ServicePort, endpoint: Endpoint) -> tuple[str, ...]:
    return (
        f"update @{endpoint_chain('affinity', port.name, endpoint)} {{ ip saddr timeout {port.affinity_s}s }}",
        _with_comment(
            f"meta l4proto {port.protocol} counter dnat ip to {endpoint.ip}:{endpoint.port}",
            f"{port.name} -> {endpoint.name or endpoint.ip}",
        ),
    )


def _with_comment(rule: str, note: str) -> str:
    return f'{rule} comment "{note[:127]}"'


def _short(rule: str) -> str:
    """Cut a rule's comment to what nft takes."""
    body, found, rest = rule.partition(' comment "')
    return _with_comment(body, rest[:-1]) if found else rule


# --- the table --------------------------------------------------------------------------------------------------


def base_chains(facts: NodeFacts) -> dict[str, tuple[str, ...]]:
    """The chains every packet passes, by name; the first line of a base chain is its hook."""
    services = (
        "ip daddr . meta l4proto . th dport vmap @service-ips",
        "ip daddr @nodeport-ips meta l4proto . th dport vmap @service-nodeports",
    )
    no_endpoint = "ip daddr . meta l4proto . th dport vmap @no-endpoint-services"
    no_endpoint_node = "ip daddr @nodeport-ips meta l4proto . th dport vmap @no-endpoint-nodeports"
    ranges = tuple(
        f'ip daddr {cidr} drop comment "no Service has this address"' for cidr in facts.service_cidrs
    )
    to_services, to_node = "ct state new jump service-endpoints-check", "ct state new jump nodeport-endpoints-check"
    to_cluster_ips = "ct state new jump cluster-ips-check"
    return {
        "mark-for-masquerade": (f"meta mark set meta mark or {MASQUERADE_MARK}",),
        "reject-chain": ('reject with icmp port-unreachable comment "a Service without endpoints"',),
        "services": services,
        "firewall-check": ("ip daddr . meta l4proto . th dport vmap @firewall-ips",),
        "service-endpoints-check": (no_endpoint,),
        "nodeport-endpoints-check": (no_endpoint_node,),
        "cluster-ips-check": (
            'ip daddr @cluster-ips reject with icmp port-unreachable comment "a Service, but not one of its ports"',
            *ranges,
        ),
        "masquerading": (
            'ct status dnat ip saddr . ip daddr @hairpin-ips masquerade fully-random comment "an endpoint calls itself"',
            f"meta mark and {MASQUERADE_MARK} == 0 return",
            f"meta mark set meta mark xor {MASQUERADE_MARK}",
            "masquerade fully-random",
        ),
        "filter-prerouting": (_hook("filter", "prerouting", -110), "ct state new jump firewall-check"),
        "filter-output-pre-dnat": (_hook("filter", "output", -110), "ct state new jump firewall-check"),
        "nat-prerouting": (_hook("nat", "prerouting", -100), "jump services"),
        "nat-output": (_hook("nat", "output", -100), "jump services"),
        "filter-input": (_hook("filter", "input", 0), to_node, to_services),
        "filter-forward": (_hook("filter", "forward", 0), to_services, to_cluster_ips),
        "filter-output": (_hook("filter", "output", 0), to_services, to_cluster_ips),
        "nat-postrouting": (_hook("nat", "postrouting", 100), "jump masquerading"),
    }


def _hook(kind: str, hook: str, priority: int) -> str:
    return f"type {kind} hook {hook} priority {priority}; policy accept;"


def render_table(facts: NodeFacts, fragments: Mapping[str, Fragment], elements: Mapping[ElementKey, Element]) -> str:
    """The whole table as one transaction that replaces what there was: established connections do not notice."""
    lines = [f"add table {FAMILY} {TABLE}", f"delete table {FAMILY} {TABLE}", f"table {FAMILY} {TABLE} {{"]
    lines.append('  comment "rules of kube-proxy"')
    members: dict[str, list[str]] = {name: [] for name in MAPS}
    for place, element in sorted(elements.items()):
        members[place.map].append(element.render(place.key))
    lines += [f"  set {name} {{ {AFFINITY_SET} }}" for f in fragments.values() for name in sorted(f.sets)]
    # A map's elements may only name chains that are there already.
    chains = base_chains(facts)
    names = [name for f in fragments.values() for name in f.chains]
    lines += [f"  chain {name} {{\n  }}" for name in names]
    lines += ["  chain mark-for-masquerade {\n  }", "  chain reject-chain {\n  }"]
    for name, (kind, declaration) in MAPS.items():
        lines.append(f"  {kind} {name} {{\n    {declaration}")
        if members[name]:
            lines.append("    elements = {\n      " + ",\n      ".join(members[name]) + "\n    }")
        lines.append("  }")
    for name, rules in [*chains.items(), *(item for f in fragments.values() for item in f.chains.items())]:
        lines += [f"  chain {name} {{", *(f"    {rule}" for rule in rules), "  }"]
    lines.append("}")
    return "\n".join(lines) + "\n"


def render_no_table() -> str:
    """The removal of the table, whether it is there or not."""
    return f"add table {FAMILY} {TABLE}\ndelete table {FAMILY} {TABLE}\n"
