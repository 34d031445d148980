"""Endpoints, EndpointSlices, ingresses and network policies.

Source: Kubernetes API reference, "Service Resources" and "Policy Resources" (1.32).
"""

from __future__ import annotations

import ipaddress

from podnet.controlplane.api import names
from podnet.controlplane.api.addresses import parse_ip, parse_network
from podnet.controlplane.api.errors import (
    Cause,
    duplicate,
    forbidden_field,
    invalid_value,
    not_supported,
    required,
)
from podnet.controlplane.api.types import Object
from podnet.controlplane.api.validation.pods import validate_ip
from podnet.controlplane.api.validation.selector import validate_label_selector
from podnet.controlplane.api.validation.services import validate_cidr, validate_not_special
from podnet.controlplane.api.validation.values import (
    JSONObject,
    immutable,
    must_have,
    objects,
    one_of,
    part,
    strings,
    texts,
)

_PROTOCOLS = ("TCP", "UDP", "SCTP")
_ZONE_HINTS = 8


def validate_endpoints(obj: Object) -> list[Cause]:
    """Endpoints."""
    causes: list[Cause] = []
    for index, subset in objects(obj, "subsets"):
        path = f"subsets[{index}]"
        if not subset.get("addresses") and not subset.get("notReadyAddresses"):
            causes.append(required(path, "must specify `addresses` or `notReadyAddresses`"))
        for field in ("addresses", "notReadyAddresses"):
            for place, address in objects(subset, field):
                where = f"{path}.{field}[{place}]"
                ip, host, node = address.get("ip") or "", address.get("hostname"), address.get("nodeName")
                causes += validate_ip(ip, f"{where}.ip")
                causes += texts(f"{where}.hostname", host, names.dns1123_label(host)) if host else []
                causes += texts(f"{where}.nodeName", node, names.dns1123_subdomain(node)) if node is not None else []
                causes += validate_not_special(ip, f"{where}.ip")
        ports = list(objects(subset, "ports"))
        for place, port in ports:
            where = f"{path}.ports[{place}]"
            name = port.get("name") or ""
            if name:
                causes += texts(f"{where}.name", name, names.dns1123_label(name))
            elif len(ports) > 1:
                causes.append(required(f"{where}.name"))
            causes += texts(f"{where}.port", port.get("port") or 0, names.port_number(port.get("port") or 0))
            causes += one_of(port, "protocol", where, _PROTOCOLS, must=True)
    return causes


def validate_endpoint_slice(obj: Object) -> list[Cause]:
    """EndpointSlice."""
    kind = obj.get("addressType") or ""
    causes = one_of(obj, "addressType", "", ("FQDN", "IPv4", "IPv6"), must=True)
    causes = [Cause(cause.reason, cause.message, cause.field.removeprefix(".")) for cause in causes]
    if len(obj.get("endpoints") or ()) > 1000:
        causes.append(
            Cause("FieldValueTooMany", f"Too many: {len(obj['endpoints'])}: must have at most 1000 items", "endpoints")
        )
    for index, endpoint in objects(obj, "endpoints"):
        path = f"endpoints[{index}]"
        addresses = strings(endpoint, "addresses")
        if not addresses:
            causes.append(required(f"{path}.addresses", "must contain at least 1 address"))
        if len(addresses) > 100:
            causes.append(
                Cause(
                    "FieldValueTooMany", f"Too many: {len(addresses)}: must have at most 100 items", f"{path}.addresses"
                )
            )
        for place, address in enumerate(addresses):
            causes += _validate_slice_address(address, kind, f"{path}.addresses[{place}]")
        if endpoint.get("hostname") is not None:
            causes += texts(f"{path}.hostname", endpoint["hostname"], names.dns1123_label(endpoint["hostname"]))
        if endpoint.get("nodeName") is not None:
            causes += texts(f"{path}.nodeName", endpoint["nodeName"], names.dns1123_subdomain(endpoint["nodeName"]))
        causes += _validate_hints(part(endpoint, "hints"), f"{path}.hints.forZones")
    return causes + _validate_slice_ports(obj)


def _validate_hints(hints: JSONObject, path: str) -> list[Cause]:
    zones = [zone.get("name") or "" for _, zone in objects(hints, "forZones")]
    if len(zones) > _ZONE_HINTS:
        return [Cause("FieldValueTooMany", f"Too many: {len(zones)}: must have at most {_ZONE_HINTS} items", path)]
    causes: list[Cause] = []
    for index, zone in enumerate(zones):
        where = f"{path}[{index}].name"
        if zone in zones[:index]:
            causes.append(duplicate(where, zone))
        causes += texts(where, zone, names.label_value(zone))
    return causes


def _validate_slice_address(address: str, kind: str, path: str) -> list[Cause]:
    if kind == "FQDN":
        return texts(path, address, names.dns1123_subdomain(address))
    if kind not in {"IPv4", "IPv6"}:
        return []
    try:
        fits = f"IPv{parse_ip(address).version}" == kind
    except ValueError:
        fits = False
    wrong = [] if fits else [invalid_value(path, address, f"must be a valid {kind} address")]
    return wrong + validate_not_special(address, path)


def _validate_slice_ports(obj: Object) -> list[Cause]:
    causes: list[Cause] = []
    seen: set[str] = set()
    for index, port in objects(obj, "ports"):
        path = f"ports[{index}]"
        name = port.get("name") or ""
        if name:
            causes += texts(f"{path}.name", name, names.dns1123_label(name))
        if name in seen:
            causes.append(duplicate(f"{path}.name", name))
        seen.add(name)
        causes += one_of(port, "protocol", path, _PROTOCOLS, must=True)
        if port.get("port") is not None:
            causes += texts(f"{path}.port", port["port"], names.port_number(port["port"]))
        if port.get("appProtocol") is not None:
            causes += texts(f"{path}.appProtocol", port["appProtocol"], names.qualified_name(port["appProtocol"]))
    return causes


def validate_endpoint_slice_update(new: Object, old: Object) -> list[Cause]:
    """The address type stays."""
    return [Cause(cause.reason, cause.message, "addressType") for cause in immutable(new, old, "addressType", "")]


def validate_network_policy(obj: Object) -> list[Cause]:
    """NetworkPolicy."""
    spec = part(obj, "spec")
    causes = validate_label_selector(spec.get("podSelector"), "spec.podSelector")
    for field, peers in (("ingress", "from"), ("egress", "to")):
        for index, rule in objects(spec, field):
            path = f"spec.{field}[{index}]"
            for place, port in objects(rule, "ports"):
                causes += _validate_policy_port(port, f"{path}.ports[{place}]")
            for place, peer in objects(rule, peers):
                causes += _validate_peer(peer, f"{path}.{peers}[{place}]")
    allowed = ("Ingress", "Egress")
    types = strings(spec, "policyTypes")
    if len(types) > len(allowed):
        return [*causes, invalid_value("spec.policyTypes", types, "may not specify more than two policyTypes")]
    for index, kind in enumerate(types):
        if kind not in allowed:
            causes.append(not_supported(f"spec.policyTypes[{index}]", kind, list(allowed)))
    return causes


def _validate_policy_port(port: JSONObject, path: str) -> list[Cause]:
    causes: list[Cause] = []
    protocol = port.get("protocol")
    if protocol is not None and protocol not in _PROTOCOLS:
        causes.append(not_supported(f"{path}.protocol", protocol, list(_PROTOCOLS)))
    value, end = port.get("port"), port.get("endPort")
    if isinstance(value, str):
        causes += texts(f"{path}.port", value, names.port_name(value))
    elif value is not None:
        causes += texts(f"{path}.port", value, names.port_number(value))
    if end is None:
        return causes
    if value is None:
        causes.append(invalid_value(f"{path}.endPort", end, "may not be specified when `port` is not specified"))
    elif isinstance(value, str):
        causes.append(invalid_value(f"{path}.endPort", end, "may not be specified when `port` is non-numeric"))
    elif end < value:
        causes.append(invalid_value(f"{path}.endPort", end, "must be greater than or equal to `port`"))
    return causes + texts(f"{path}.endPort", end, names.port_number(end))


def _validate_peer(peer: JSONObject, path: str) -> list[Cause]:
    causes: list[Cause] = []
    given = [name for name in ("podSelector", "namespaceSelector", "ipBlock") if peer.get(name) is not None]
    for name in ("podSelector", "namespaceSelector"):
        causes += validate_label_selector(peer.get(name), f"{path}.{name}")
    if "ipBlock" in given:
        causes += _validate_ip_block(part(peer, "ipBlock"), f"{path}.ipBlock")
        if len(given) > 1:
            causes.append(forbidden_field(path, "may not specify both ipBlock and another peer"))
    if not given:
        causes.append(required(path, "must specify a peer"))
    return causes


def _validate_ip_block(block: JSONObject, path: str) -> list[Cause]:
    text = block.get("cidr") or ""
    if not text:
        return [required(f"{path}.cidr")]
    causes = validate_cidr(text, f"{path}.cidr")
    if causes:
        return causes
    network = parse_network(text)
    for index, inner in enumerate(strings(block, "except")):
        where = f"{path}.except[{index}]"
        problems = validate_cidr(inner, where)
        if not problems:
            hole = parse_network(inner)
            inside = hole.version == network.version and hole.subnet_of(network) and hole != network  # type: ignore[arg-type]
            if not inside:
                problems = [invalid_value(where, inner, "must be a strict subset of `cidr`")]
        causes += problems
    return causes


def validate_ingress(obj: Object) -> list[Cause]:
    """Ingress."""
    spec = part(obj, "spec")
    causes: list[Cause] = []
    if not spec.get("rules") and spec.get("defaultBackend") is None:
        causes.append(
            invalid_value("spec", spec.get("rules") or [], "either `defaultBackend` or `rules` must be specified")
        )
    if spec.get("defaultBackend") is not None:
        causes += _validate_backend(part(spec, "defaultBackend"), "spec.defaultBackend")
    if spec.get("ingressClassName") is not None:
        name = spec["ingressClassName"]
        causes += texts("spec.ingressClassName", name, names.dns1123_subdomain(name))
    for index, tls in objects(spec, "tls"):
        for place, host in enumerate(strings(tls, "hosts")):
            causes += _validate_host(host, f"spec.tls[{index}].hosts[{place}]")
    for index, rule in objects(spec, "rules"):
        path = f"spec.rules[{index}]"
        causes += _validate_host(rule.get("host") or "", f"{path}.host") if rule.get("host") else []
        http = rule.get("http")
        if http is not None:
            if not part(rule, "http").get("paths"):
                causes.append(required(f"{path}.http.paths"))
            for place, row in objects(part(rule, "http"), "paths"):
                causes += _validate_http_path(row, f"{path}.http.paths[{place}]")
    return causes


def _validate_host(host: str, path: str) -> list[Cause]:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        bare = host.removeprefix("*.")
        return texts(path, host, names.dns1123_subdomain(bare))
    return [invalid_value(path, host, "must be a DNS name, not an IP address")]


def _validate_http_path(row: JSONObject, path: str) -> list[Cause]:
    kind, value = row.get("pathType"), row.get("path") or ""
    if kind is None:
        return [required(f"{path}.pathType", "pathType must be specified")]
    causes: list[Cause] = []
    if kind in {"Exact", "Prefix"}:
        if not value.startswith("/"):
            causes.append(invalid_value(f"{path}.path", value, "must be an absolute path"))
        wrongs = [f"must not contain '{wrong}'" for wrong in ("//", "/./", "/../", "%2f", "%2F") if wrong in value]
        wrongs += [f"cannot end with '{wrong}'" for wrong in ("/..", "/.") if value.endswith(wrong)]
        causes += texts(f"{path}.path", value, wrongs)
    elif kind == "ImplementationSpecific":
        if value and not value.startswith("/"):
            causes.append(invalid_value(f"{path}.path", value, "must be an absolute path"))
    else:
        causes.append(not_supported(f"{path}.pathType", kind, ["Exact", "ImplementationSpecific", "Prefix"]))
    return causes + _validate_backend(part(row, "backend"), f"{path}.backend")


def _validate_backend(backend: JSONObject, path: str) -> list[Cause]:
    service, resource = backend.get("service"), backend.get("resource")
    if service is not None and resource is not None:
        return [invalid_value(path, "", "cannot set both resource and service backends")]
    if resource is not None:
        return must_have(part(backend, "resource"), f"{path}.resource", "kind", "name")
    if service is None:
        return [required(path, "resource or service backend is required")]
    row = part(backend, "service")
    name = row.get("name") or ""
    causes: list[Cause] = []
    causes += (
        texts(f"{path}.service.name", name, names.dns1035_label(name)) if name else [required(f"{path}.service.name")]
    )
    port = part(row, "port")
    where = f"{path}.service.port"
    if port.get("name") and port.get("number"):
        return [*causes, invalid_value(where, "", "cannot set both port name & port number")]
    if port.get("name"):
        return causes + texts(f"{where}.name", port["name"], names.port_name(port["name"]))
    if port.get("number"):
        return causes + texts(f"{where}.number", port["number"], names.port_number(port["number"]))
    return [*causes, required(where, "port name or number is required")]


def validate_ingress_class(obj: Object) -> list[Cause]:
    """IngressClass."""
    controller = part(obj, "spec").get("controller") or ""
    if not controller:
        return [required("spec.controller")]
    if len(controller) > 250:
        return [Cause("FieldValueTooLong", "Too long: may not be more than 250 bytes", "spec.controller")]
    if "/" not in controller:
        return [invalid_value("spec.controller", controller, 'must be a domain-prefixed path (such as "acme.io/foo")')]
    return []


def validate_ingress_class_update(new: Object, old: Object) -> list[Cause]:
    """The controller of an IngressClass stays."""
    return immutable(part(new, "spec"), part(old, "spec"), "controller", "spec")
