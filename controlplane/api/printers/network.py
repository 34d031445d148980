"""The tables of Services, endpoints, ingresses, policies and addresses.

Source: k8s.io/kubernetes pkg/printers/internalversion (the rules of 1.32, restated).
"""

from __future__ import annotations

from typing import Any

from podnet.controlplane.api.printers.cells import (
    NONE,
    UNSET,
    Printer,
    age,
    items,
    labels,
    name,
    part,
    printer,
    selector,
    some,
)
from podnet.controlplane.api.types import Object


def _service(obj: Object, now: float) -> list[Any]:
    spec = part(obj, "spec")
    ips = items(obj, "spec", "clusterIPs")
    return [
        name(obj),
        spec.get("type") or "",
        ips[0] if ips else NONE,
        _external_ip(obj),
        _service_ports(items(obj, "spec", "ports")),
        age(obj, now),
        labels(spec.get("selector")),
    ]


def _external_ip(obj: Object) -> str:
    spec = part(obj, "spec")
    external = spec.get("externalIPs") or []
    kind = spec.get("type") or ""
    if kind in {"ClusterIP", "NodePort"}:
        return ",".join(external) or NONE
    if kind == "LoadBalancer":
        balanced = load_balancer(obj)
        return ",".join([balanced, *external] if balanced else external) or "<pending>"
    if kind == "ExternalName":
        return spec.get("externalName") or ""
    return "<unknown>"


def load_balancer(obj: Object) -> str:
    """The addresses or names a load balancer answers on, sorted."""
    rows = items(obj, "status", "loadBalancer", "ingress")
    return ",".join(sorted({row.get("ip") or row.get("hostname") for row in rows} - {None, ""}))


def _service_ports(ports: list[dict[str, Any]]) -> str:
    texts = []
    for port in ports:
        node_port = f":{port['nodePort']}" if port.get("nodePort") else ""
        texts.append(f"{port.get('port')}{node_port}/{port.get('protocol') or ''}")
    return ",".join(texts) or NONE


def _endpoints(obj: Object, now: float) -> list[Any]:
    subsets = items(obj, "subsets")
    texts = []
    for subset in subsets:
        addresses = [row.get("ip") or "" for row in subset.get("addresses") or ()]
        ports = subset.get("ports") or ()
        if not ports:
            texts += addresses
        for port in ports:
            texts += [f"[{ip}]:{port.get('port')}" if ":" in ip else f"{ip}:{port.get('port')}" for ip in addresses]
    return [name(obj), some(texts, "") if subsets else NONE, age(obj, now)]


def _endpoint_slice(obj: Object, now: float) -> list[Any]:
    ports = []
    for row in items(obj, "ports"):
        number, port_name = row.get("port"), row.get("name")
        ports.append(str(number) if number is not None else "*" if port_name is None else port_name)
    addresses = [address for row in items(obj, "endpoints") for address in row.get("addresses") or ()]
    return [name(obj), obj.get("addressType") or "", some(ports, UNSET), some(addresses, UNSET), age(obj, now)]


def _ingress(obj: Object, now: float) -> list[Any]:
    spec = part(obj, "spec")
    hosts = [rule["host"] for rule in items(obj, "spec", "rules") if rule.get("host")]
    return [
        name(obj),
        spec.get("ingressClassName") or NONE,
        some(hosts, "*"),
        load_balancer(obj),
        "80, 443" if spec.get("tls") else "80",
        age(obj, now),
    ]


def _ingress_class(obj: Object, now: float) -> list[Any]:
    reference = part(obj, "spec", "parameters")
    group = reference.get("apiGroup")
    kind = f"{reference.get('kind')}.{group}" if group else reference.get("kind")
    parameters = f"{kind}/{reference.get('name')}" if reference else NONE
    return [name(obj), part(obj, "spec").get("controller") or "", parameters, age(obj, now)]


def _network_policy(obj: Object, now: float) -> list[Any]:
    return [name(obj), selector(part(obj, "spec").get("podSelector")), age(obj, now)]


def _service_cidr(obj: Object, now: float) -> list[Any]:
    return [name(obj), ",".join(items(obj, "spec", "cidrs")), age(obj, now)]


def _ip_address(obj: Object, _: float) -> list[Any]:
    parent = part(obj, "spec", "parentRef")
    if not parent:
        return [name(obj), NONE]
    group = parent.get("group")
    resource = f"{parent.get('resource')}.{group}" if group else str(parent.get("resource"))
    where = f"{parent['namespace']}/" if parent.get("namespace") else ""
    return [name(obj), f"{resource.lower()}/{where}{parent.get('name')}"]


PRINTERS: dict[str, Printer] = {
    "services": printer("Name, Type, Cluster-IP, External-IP, Port(s), Age, +Selector", _service),
    "endpoints": printer("Name, Endpoints, Age", _endpoints),
    "endpointslices.discovery.k8s.io": printer("Name, AddressType, Ports, Endpoints, Age", _endpoint_slice),
    "ingresses.networking.k8s.io": printer("Name, Class, Hosts, Address, Ports, Age", _ingress),
    "ingressclasses.networking.k8s.io": printer("Name, Controller, Parameters, Age", _ingress_class),
    "networkpolicies.networking.k8s.io": printer("Name, Pod-Selector, Age", _network_policy),
    "servicecidrs.networking.k8s.io": printer("Name, CIDRs, Age", _service_cidr),
    "ipaddresses.networking.k8s.io": printer("Name, ParentRef", _ip_address),
}
