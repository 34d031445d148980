"""From the model to the chains of the iptables mode.

Pure. The path of a packet that opens a connection (established ones never see the nat table again):

    nat PREROUTING, OUTPUT   KUBE-SERVICES  address and port -> KUBE-SVC-X | KUBE-SVL-X | KUBE-EXT-X | KUBE-FW-X
                                            any address of this node -> KUBE-NODEPORTS -> KUBE-EXT-X
    filter INPUT, FORWARD, OUTPUT           what was not translated: KUBE-SERVICES, KUBE-EXTERNAL-SERVICES (REJECT, DROP),
                                            KUBE-PROXY-FIREWALL (DROP who is not in loadBalancerSourceRanges)
    nat POSTROUTING          KUBE-POSTROUTING  mark 0x4000 -> MASQUERADE

    KUBE-FW-X   who is in loadBalancerSourceRanges -> KUBE-EXT-X
    KUBE-EXT-X  policy Cluster: mark, KUBE-SVC-X. Local: a pod KUBE-SVC-X; the node itself mark, KUBE-SVC-X; else KUBE-SVL-X
    KUBE-SVC-X  from outside the pod network to the cluster IP: mark. Affinity, then KUBE-SEP-Y, each with equal odds
    KUBE-SVL-X  the same over the local endpoints
    KUBE-SEP-Y  the endpoint itself calls: mark. Remember the client, DNAT

Names and layout are kube-proxy's, so that what one reads about it elsewhere holds here: X and Y are the first 16 letters
of base32(sha256(...)). Unlike the nftables mode, unknown ports of a cluster IP are not touched. One thing is stricter:
KUBE-EXTERNAL-SERVICES is also asked on OUTPUT, so the node itself is refused where everybody else is.
"""

from __future__ import annotations

import base64
import functools
import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address

from podnet.proxy.evaluate import allowed_sources
from podnet.proxy.iptables.ruleset import FIXED_CHAINS, Ruleset
from podnet.proxy.model import Endpoint, Model, NodeFacts, ServicePort

MASQUERADE_MARK = "0x4000"
_HASH_LENGTH = 16
_COMMENT_MAX = 255


@dataclass(frozen=True, slots=True)
class Fragment:
    """One Service port's share: rules that it appends to fixed chains of the filter and the nat table, as (chain, rule),
    and chains of its own in the nat table."""

    filter_rules: Sequence[tuple[str, str]]
    nat_rules: Sequence[tuple[str, str]]
    nat_chains: Mapping[str, tuple[str, ...]]


Chains = Mapping[str, Mapping[str, tuple[str, ...]]]
"""By table and name."""


def compile_ruleset(model: Model) -> Ruleset:
    """All chains of one node."""
    return assemble(model, [compile_port(model.node, port) for port in model.ports])


def assemble(model: Model, fragments: Iterable[Fragment]) -> Ruleset:
    """All chains of one node, from the shares of its Service ports."""
    shares = list(fragments)
    return add_own(fixed_chains(model, shares), shares)


def add_own(fixed: Chains, fragments: Iterable[Fragment]) -> Ruleset:
    """The fixed chains, and besides the Service ports' own."""
    nat = dict(fixed["nat"])
    for fragment in fragments:
        nat.update(fragment.nat_chains)
    return Ruleset({"filter": fixed["filter"], "nat": nat})


def is_fixed_same(before: Sequence[Fragment], after: Sequence[Fragment]) -> bool:
    """Whether shares in place of others leave the fixed chains as they are: a change of endpoints mostly does."""
    return [(old.filter_rules, old.nat_rules) for old in before] == [(new.filter_rules, new.nat_rules) for new in after]


def fixed_chains(model: Model, fragments: Iterable[Fragment]) -> Chains:
    """The chains that every node has, with what all Service ports have in them."""
    filter_chains: dict[str, list[str]] = {name: [] for name in FIXED_CHAINS["filter"]}
    nat: dict[str, list[str]] = {name: [] for name in FIXED_CHAINS["nat"]}
    _add_base(filter_chains, nat)
    for check in model.health_checks:
        note = _comment(f"{check.namespace}/{check.name} health check node port")
        filter_chains["KUBE-NODEPORTS"].append(f"{note} -m tcp -p tcp --dport {check.port} -j ACCEPT")
    for fragment in fragments:
        for chain, rule in fragment.filter_rules:
            filter_chains[chain].append(rule)
        for chain, rule in fragment.nat_rules:
            nat[chain].append(rule)
    nat["KUBE-SERVICES"].append(
        _comment("kubernetes service nodeports; NOTE: this must be the last rule in this chain")
        + " -m addrtype --dst-type LOCAL -j KUBE-NODEPORTS"
    )
    tables = {"filter": filter_chains, "nat": nat}
    return {table: {name: tuple(rules) for name, rules in chains.items()} for table, chains in tables.items()}


def compile_port(node: NodeFacts, port: ServicePort) -> Fragment:
    """One Service port's share."""
    return Fragment(
        list(_refusals(node, port)),
        list(_dispatch(port)),
        {name: tuple(rules) for name, rules in _port_chains(node, port)},
    )


def port_chain(kind: str, port: ServicePort) -> str:
    """The chain of one Service port; `kind` is SVC, SVL, EXT or FW."""
    return f"KUBE-{kind}-{_hash(port.full_name + port.protocol.lower())}"


def endpoint_chain(port: ServicePort, endpoint: Endpoint) -> str:
    """The chain of one endpoint of one Service port; also the name of its list of clients."""
    return f"KUBE-SEP-{_hash(port.full_name + port.protocol.lower() + str(endpoint))}"


@functools.lru_cache(maxsize=65536)
def _hash(text: str) -> str:
    return base64.b32encode(hashlib.sha256(text.encode()).digest()).decode()[:_HASH_LENGTH]


def _add_base(filter_chains: dict[str, list[str]], nat: dict[str, list[str]]) -> None:
    marked = f"{MASQUERADE_MARK}/{MASQUERADE_MARK}"
    filter_chains["KUBE-FIREWALL"].append(
        _comment("block incoming localnet connections")
        + " -d 127.0.0.0/8 ! -s 127.0.0.0/8 -m conntrack ! --ctstate RELATED,ESTABLISHED,DNAT -j DROP"
    )
    filter_chains["KUBE-FORWARD"] += [
        "-m conntrack --ctstate INVALID -j DROP",
        f"{_comment('kubernetes forwarding rules')} -m mark --mark {marked} -j ACCEPT",
        f"{_comment('kubernetes forwarding conntrack rule')} -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT",
    ]
    nat["KUBE-MARK-MASQ"].append(f"-j MARK --or-mark {MASQUERADE_MARK}")
    nat["KUBE-POSTROUTING"] += [
        f"-m mark ! --mark {marked} -j RETURN",
        # Cleared, so that a packet that comes back through another interface is not taken for one to masquerade.
        f"-j MARK --xor-mark {MASQUERADE_MARK}",
        f"{_comment('kubernetes service traffic requiring SNAT')} -j MASQUERADE --random-fully",
    ]


def _refusals(node: NodeFacts, port: ServicePort) -> Iterator[tuple[str, str]]:
    """What the nat table does not translate is answered here."""
    action, why = ("DROP", "has no local endpoints") if port.has_endpoints else ("REJECT", "has no endpoints")
    note = _comment(f"{port.full_name} {why}")
    if not port.internal_endpoints:
        yield "KUBE-SERVICES", f"{note} {_to(port, port.cluster_ip)} -j {action}"
    if not (port.local_endpoints if port.external_local else port.cluster_endpoints):
        for ip in port.outside_ips:
            # Who may not use the load balancer is not told either; the firewall's DROP comes after these.
            sources = [f" -s {network}" for network in allowed_sources(node, port)] if _is_guarded(port, ip) else [""]
            for source in sources:
                yield "KUBE-EXTERNAL-SERVICES", f"{note} {_to(port, ip)}{source} -j {action}"
        if port.node_port:
            match = f"-m addrtype --dst-type LOCAL {_protocol(port)} --dport {port.node_port}"
            yield "KUBE-EXTERNAL-SERVICES", f"{note} {match} -j {action}"
    barred = _comment(f"{port.full_name} traffic not accepted by {port_chain('FW', port)}")
    for ip in port.load_balancer_ips:
        if _is_guarded(port, ip):
            yield "KUBE-PROXY-FIREWALL", f"{barred} {_to(port, ip)} -j DROP"


def _dispatch(port: ServicePort) -> Iterator[tuple[str, str]]:
    """Every address of the Service leads to a chain."""
    if port.internal_endpoints:
        chain = port_chain("SVL" if port.internal_local else "SVC", port)
        yield "KUBE-SERVICES", f"{_comment(f'{port.full_name} cluster IP')} {_to(port, port.cluster_ip)} -j {chain}"
    if not port.has_endpoints or not port.has_outside:
        return
    external, firewall = port_chain("EXT", port), port_chain("FW", port)
    for ip in port.outside_ips:
        kind = "loadbalancer IP" if ip in port.load_balancer_ips else "external IP"
        chain = firewall if _is_guarded(port, ip) else external
        yield "KUBE-SERVICES", f"{_comment(f'{port.full_name} {kind}')} {_to(port, ip)} -j {chain}"
    if port.node_port:
        match = f"{_protocol(port)} --dport {port.node_port}"
        yield "KUBE-NODEPORTS", f"{_comment(port.full_name)} {match} -j {external}"


def _port_chains(node: NodeFacts, port: ServicePort) -> Iterator[tuple[str, Iterable[str]]]:
    """KUBE-FW-, KUBE-EXT-, KUBE-SVC-, KUBE-SVL- and KUBE-SEP-, those that something leads to."""
    if not port.has_endpoints:
        return
    if port.source_ranges and port.load_balancer_ips:
        note = _comment(f"{port.full_name} loadbalancer IP")
        leads = f"-j {port_chain('EXT', port)}"
        yield port_chain("FW", port), [f"{note} -s {network} {leads}" for network in allowed_sources(node, port)]
    if port.has_outside:
        yield port_chain("EXT", port), _external_rules(port, node)
    endpoints: tuple[Endpoint, ...] = ()
    if port.cluster_endpoints and (port.has_outside or not port.internal_local):
        guard = [] if port.internal_local else [_masquerade_outsiders(port, node)]
        yield port_chain("SVC", port), guard + _choice_rules(port, port.cluster_endpoints)
        endpoints += port.cluster_endpoints
    if port.local_endpoints and (port.internal_local or (port.external_local and port.has_outside)):
        guard = [_masquerade_outsiders(port, node)] if port.internal_local else []
        yield port_chain("SVL", port), guard + _choice_rules(port, port.local_endpoints)
        endpoints += port.local_endpoints
    for endpoint in dict.fromkeys(endpoints):
        yield endpoint_chain(port, endpoint), _endpoint_rules(port, endpoint)


def _external_rules(port: ServicePort, node: NodeFacts) -> Iterator[str]:
    cluster, name = port_chain("SVC", port), port.full_name
    if not port.external_local:
        yield f"{_comment(f'masquerade traffic for {name} external destinations')} -j KUBE-MARK-MASQ"
        yield f"-j {cluster}"
        return
    if port.cluster_endpoints:
        yield f"{_comment(f'pod traffic for {name} external destinations')} -s {node.pod_cidr} -j {cluster}"
        here = "-m addrtype --src-type LOCAL"
        yield f"{_comment(f'masquerade LOCAL traffic for {name} external destinations')} {here} -j KUBE-MARK-MASQ"
        yield f"{_comment(f'route LOCAL traffic for {name} external destinations')} {here} -j {cluster}"
    if port.local_endpoints:
        yield f"-j {port_chain('SVL', port)}"


def _masquerade_outsiders(port: ServicePort, node: NodeFacts) -> str:
    """Who is not a pod and calls the cluster IP: an endpoint elsewhere could not answer through us."""
    source = "" if node.masquerade_all else f" ! -s {node.pod_cidr}"
    return f"{_comment(f'{port.full_name} cluster IP')} {_to(port, port.cluster_ip)}{source} -j KUBE-MARK-MASQ"


def _choice_rules(port: ServicePort, endpoints: tuple[Endpoint, ...]) -> list[str]:
    notes = [_comment(f"{port.full_name} -> {endpoint}") for endpoint in endpoints]
    chains = [endpoint_chain(port, endpoint) for endpoint in endpoints]
    rules = []
    if port.affinity_timeout_s:
        recent = f"--rcheck --seconds {port.affinity_timeout_s} --reap"
        rules += [f"{n} -m recent --name {c} {recent} -j {c}" for n, c in zip(notes, chains, strict=True)]
    for number, (note, chain) in enumerate(zip(notes, chains, strict=True)):
        # Of those left, each as likely as the others; the last takes all that came so far.
        left = len(endpoints) - number
        odds = f" -m statistic --mode random --probability {1 / left:.10f}" if left > 1 else ""
        rules.append(f"{note}{odds} -j {chain}")
    return rules


def _endpoint_rules(port: ServicePort, endpoint: Endpoint) -> list[str]:
    note = _comment(port.full_name)
    remember = f" -m recent --name {endpoint_chain(port, endpoint)} --set" if port.affinity_timeout_s else ""
    return [
        f"{note} -s {endpoint.ip} -j KUBE-MARK-MASQ",
        f"{note}{remember} {_protocol(port)} -j DNAT --to-destination {endpoint}",
    ]


def _is_guarded(port: ServicePort, ip: IPv4Address) -> bool:
    return bool(port.source_ranges) and ip in port.load_balancer_ips


def _to(port: ServicePort, ip: IPv4Address) -> str:
    return f"{_protocol(port)} -d {ip} --dport {port.port}"


def _protocol(port: ServicePort) -> str:
    return f"-m {port.protocol.lower()} -p {port.protocol.lower()}"


def _comment(text: str) -> str:
    return f'-m comment --comment "{text[:_COMMENT_MAX]}"'
