"""One Service on one node, explained: its objects, the rules as the node has them, its connections.

Pure: `explain_service` is given everything as read. The order is that of a packet; where a node has no rules for a
Service it says why.

    Service, EndpointSlices, Pods, Node + listing (nft | iptables-save) + conntrack rows  ->  Explanation
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from ipaddress import IPv4Address, IPv4Network
from typing import Any

from podnet.proxy.explain import iptables, nftables
from podnet.proxy.explain.types import (
    Connection,
    EndpointState,
    Explanation,
    People,
    PortExplanation,
    Walk,
)
from podnet.proxy.model import (
    IGNORE_LABELS,
    LABEL_SERVICE_NAME,
    LABEL_ZONE,
    Model,
    NodeFacts,
    ServicePort,
    compile_model,
)

_EVERYTHING = IPv4Network("0.0.0.0/0")


@dataclass(frozen=True, slots=True)
class Material:
    """What was read. `slices`: those of the Service's namespace. `listing`: `nft list table ip kube-proxy` or
    `iptables-save -c`, by `mode`. `flows`: rows of the control verb `conntrack`."""

    service: Mapping[str, Any]
    node: Mapping[str, Any]
    mode: str
    listing: str = ""
    slices: Sequence[Mapping[str, Any]] = ()
    pods: Sequence[Mapping[str, Any]] = ()
    flows: Sequence[Mapping[str, Any]] = field(default_factory=list)


def explain_service(found: Material) -> Explanation:
    """Everything that there is to say of a Service on a node."""
    meta, spec = found.service["metadata"], found.service["spec"]
    label = f"{meta['namespace']}/{meta['name']}"
    mine = [
        piece
        for piece in found.slices
        if _labels(piece).get(LABEL_SERVICE_NAME) == meta["name"] and piece.get("addressType") == "IPv4"
    ]
    facts = _node_facts(found.node)
    model = compile_model(facts, [found.service], mine)
    explanation = Explanation(
        service=label,
        type=spec.get("type") or "ClusterIP",
        node=facts.name,
        mode=found.mode,
        facts=_facts(found.service),
        why_none=_why_none(found, model),
    )
    people = People(facts.name, _owners(mine, found.pods))
    ports = [_explain_port(found, model, port, mine, people) for port in model.ports]
    if not ports:
        ports = [_without_rules(entry, mine, facts.name) for entry in spec.get("ports") or ()]
    return replace(explanation, ports=tuple(ports))


def _labels(obj: Mapping[str, Any]) -> Mapping[str, str]:
    return obj["metadata"].get("labels") or {}


def _node_facts(node: Mapping[str, Any]) -> NodeFacts:
    addresses = (node.get("status") or {}).get("addresses") or ()
    ips = tuple(
        IPv4Address(entry["address"])
        for entry in addresses
        if entry.get("type") == "InternalIP" and ":" not in entry["address"]
    )
    # The pod network is not asked for here: sentences take it from the rules.
    return NodeFacts(node["metadata"]["name"], ips, _EVERYTHING, zone=_labels(node).get(LABEL_ZONE, ""))


def _owners(slices: Sequence[Mapping[str, Any]], pods: Sequence[Mapping[str, Any]]) -> dict[str, tuple[str, str]]:
    owners: dict[str, tuple[str, str]] = {}
    for pod in pods:
        address = (pod.get("status") or {}).get("podIP")
        if address and not pod["spec"].get("hostNetwork"):
            owners[address] = (pod["metadata"]["name"], pod["spec"].get("nodeName") or "")
    for piece in slices:
        for endpoint in piece.get("endpoints") or ():
            target = endpoint.get("targetRef") or {}
            name = target.get("name", "") if target.get("kind") == "Pod" else ""
            for address in endpoint.get("addresses") or () if name or endpoint.get("nodeName") else ():
                name = name or owners.get(address, ("", ""))[0]
                owners[address] = (name, endpoint.get("nodeName") or "")
    return owners


def _facts(service: Mapping[str, Any]) -> tuple[str, ...]:
    """The fields that decide what the rules look like."""
    spec = service["spec"]
    said = [f"cluster IP {spec['clusterIP']}"] if spec.get("clusterIP") else []
    said += [f"external IP {address}" for address in spec.get("externalIPs") or ()]
    ingress = ((service.get("status") or {}).get("loadBalancer") or {}).get("ingress") or ()
    said += [f"load balancer {entry['ip']}" for entry in ingress if entry.get("ip")]
    if spec.get("sessionAffinity") == "ClientIP":
        config = (spec.get("sessionAffinityConfig") or {}).get("clientIP") or {}
        said.append(f"sessionAffinity ClientIP for {config.get('timeoutSeconds', 10800)} s")
    said += [
        f"{name} {spec[name]}"
        for name in ("internalTrafficPolicy", "externalTrafficPolicy", "trafficDistribution", "healthCheckNodePort")
        if spec.get(name)
    ]
    if spec.get("loadBalancerSourceRanges"):
        said.append(f"loadBalancerSourceRanges {', '.join(spec['loadBalancerSourceRanges'])}")
    return tuple(said)


def _why_none(found: Material, model: Model) -> str:
    """Why there are no rules, "" where there should be some."""
    spec, labels = found.service["spec"], _labels(found.service)
    if spec.get("type") == "ExternalName":
        return (
            f"ExternalName: DNS answers with a CNAME to {spec.get('externalName')}, and the client connects there"
            " itself. There is no address to translate, so no node has rules for it."
        )
    proxy, headless = IGNORE_LABELS
    if proxy in labels:
        return f"the label {proxy} says that the proxy {labels[proxy]!r} serves it: kube-proxy leaves it alone."
    if headless in labels or spec.get("clusterIP") in ("None", None, ""):
        return (
            "headless: DNS answers with the addresses of the endpoints themselves, and the client picks one. There is"
            " no address to translate, so no node has rules for it."
        )
    if found.mode == "none":
        return (
            "spec.proxy.mode is none: podnet runs no kube-proxy here, another proxy is to be brought along. See"
            " podnet proxy mode."
        )
    if not model.ports:
        return f"its cluster IP {spec.get('clusterIP')} or its ports are not such as this proxy serves (IPv4)."
    return ""


def _explain_port(
    found: Material, model: Model, port: ServicePort, slices: Sequence[Mapping[str, Any]], people: People
) -> PortExplanation:
    health_port = next((check.port for check in model.health_checks), 0)
    walk, inside, outside, counts = Walk(), dict[str, Fraction](), dict[str, Fraction](), dict[str, int]()
    if found.mode == "nftables":
        table = nftables.parse_table(found.listing)
        walk = nftables.walk_port(table, port, people)
        (inside, outside), counts = nftables.shares(table, port), nftables.opened(walk)
    elif found.mode == "iptables":
        tables = iptables.parse_tables(found.listing)
        walk = iptables.walk_port(tables, port, people, health_port)
        (inside, outside), counts = iptables.shares(tables, port), iptables.opened(walk)
    connections = _connections(found, model.node, port)
    rows = []
    for row in _endpoints(port.port_name, port.protocol, slices, model.node.name):
        key = f"{row.address}:{row.port}"
        rows.append(
            replace(
                row,
                inside=_part(inside, key),
                outside=_part(outside, key),
                connections=sum(connection.endpoint == key for connection in connections),
                opened=None if "" in counts else counts.get(key),  # a rule for many endpoints does not tell which
            )
        )
    addresses = [str(ip) for ip in (port.cluster_ip, *port.outside_ips)]
    return PortExplanation(
        name=port.port_name,
        protocol=port.protocol,
        port=port.port,
        addresses=tuple(addresses),
        node_port=port.node_port,
        opened=sum(counts.values()),
        steps=tuple(walk.steps),
        endpoints=tuple(rows),
        connections=tuple(connections),
        notes=_notes(found, port, rows, walk),
    )


def _part(shares: Mapping[str, Fraction], key: str) -> float | None:
    return round(float(shares[key]), 6) if key in shares else (0.0 if shares else None)


def _without_rules(entry: Mapping[str, Any], slices: Sequence[Mapping[str, Any]], here: str) -> PortExplanation:
    """A port for which no rule exists: its endpoints all the same."""
    name, protocol = entry.get("name") or "", entry.get("protocol") or "TCP"
    rows = _endpoints(name, protocol, slices, here)
    return PortExplanation(name, protocol, int(entry["port"]), (), endpoints=tuple(rows))


def _endpoints(name: str, protocol: str, slices: Sequence[Mapping[str, Any]], here: str) -> list[EndpointState]:
    rows: dict[tuple[str, int], EndpointState] = {}
    for piece in slices:
        for entry in piece.get("ports") or ():
            same = (entry.get("name") or "", entry.get("protocol") or "TCP") == (name, protocol)
            if not same or not entry.get("port"):
                continue
            for endpoint in piece.get("endpoints") or ():
                row = _endpoint(endpoint, int(entry["port"]), here)
                known = rows.get((row.address, row.port))
                if known is None or (row.ready, row.serving) > (known.ready, known.serving):
                    rows[row.address, row.port] = row
    return sorted(rows.values(), key=lambda row: ([int(part) for part in row.address.split(".")], row.port))


def _endpoint(endpoint: Mapping[str, Any], port: int, here: str) -> EndpointState:
    conditions, target = endpoint.get("conditions") or {}, endpoint.get("targetRef") or {}
    ready = conditions.get("ready") is not False
    serving = conditions.get("serving")
    node = endpoint.get("nodeName") or ""
    return EndpointState(
        address=str(next(iter(endpoint.get("addresses") or ()), "")),
        port=port,
        pod=target.get("name", "") if target.get("kind") == "Pod" else "",
        node=node,
        is_local=bool(node) and node == here,
        ready=ready,
        serving=ready if serving is None else bool(serving),
        terminating=bool(conditions.get("terminating")),
    )


def _connections(found: Material, node: NodeFacts, port: ServicePort) -> list[Connection]:
    """Those that were sent to one of the port's addresses."""
    addresses = {str(ip) for ip in (port.cluster_ip, *port.outside_ips)}
    sent_to = {(address, port.port) for address in addresses}
    if port.node_port:
        sent_to |= {(str(ip), port.node_port) for ip in node.ips}
    rows = []
    for flow in found.flows:
        destination = (flow["destination"], flow["destination_port"])
        if destination not in sent_to or flow["protocol"] != port.protocol.lower():
            continue
        endpoint = f"{flow['reply_source']}:{flow['reply_source_port']}"
        translated = [] if endpoint == f"{destination[0]}:{destination[1]}" else ["DNAT"]
        if flow["source"] != flow["reply_destination"]:
            translated.append(f"SNAT to {flow['reply_destination']}")
        rows.append(
            Connection(
                protocol=flow["protocol"],
                state=flow["state"],
                timeout_s=flow["timeout_s"],
                client=f"{flow['source']}:{flow['source_port']}",
                sent_to=f"{destination[0]}:{destination[1]}",
                answered_by=endpoint,
                endpoint=endpoint if translated and translated[0] == "DNAT" else "",
                translated=", ".join(translated),
                packets=flow.get("packets", 0),
                bytes=flow.get("bytes", 0),
            )
        )
    return sorted(rows, key=lambda row: (-row.timeout_s, row.client))


def _notes(found: Material, port: ServicePort, rows: Sequence[EndpointState], walk: Walk) -> tuple[str, ...]:
    """What the rules alone do not tell."""
    notes = []
    if not walk.steps and found.mode != "none":
        notes.append(
            f"The node has no rule for it, although it should: its kube-proxy has not got so far yet, or somebody has"
            f" deleted them. See podnet status and the log of podnet-node/{found.node['metadata']['name']}."
        )
    if not rows:
        notes.append(_why_no_endpoints(found))
    elif not port.has_endpoints:
        notes.append("It has endpoints, but none is ready: readiness probes and kubectl describe pod say why.")
    elif port.internal_local and not port.local_endpoints:
        notes.append(
            "internalTrafficPolicy is Local and no ready endpoint is on this node: clients here get no answer."
        )
    if port.has_endpoints and port.external_local and port.has_outside and not port.local_endpoints:
        notes.append(
            "externalTrafficPolicy is Local and no ready endpoint is on this node: clients outside get no answer here."
        )
    unused = [row for row in rows if row.ready and port.cluster_endpoints and not row.inside and not row.outside]
    if unused and walk.steps and not port.internal_local:
        notes.append(
            f"{len(unused)} ready endpoint{'' if len(unused) == 1 else 's'} elsewhere unused from here: topology hints"
            " keep the connections in this node's zone or on this node."
        )
    if rows and port.cluster_endpoints and not any(row.ready for row in rows):
        notes.append("No endpoint is ready: those that terminate but still serve are used (KEP-1669).")
    return tuple(notes)


def _why_no_endpoints(found: Material) -> str:
    spec = found.service["spec"]
    selector = spec.get("selector") or {}
    if not selector:
        return "It has no selector: its EndpointSlices (or Endpoints) must be written by hand, and there are none."
    text = ",".join(f"{key}={value}" for key, value in sorted(selector.items()))
    matching = [pod for pod in found.pods if selector.items() <= _labels(pod).items()]
    if not matching:
        return f"No pod of the namespace has the labels of its selector ({text})."
    phases = sorted({(pod.get("status") or {}).get("phase") or "Pending" for pod in matching})
    return (
        f"{len(matching)} pod{'' if len(matching) == 1 else 's'} ({', '.join(phases)}) have the labels of its selector"
        f" ({text}), but none has an address and the port that targetPort names."
    )
