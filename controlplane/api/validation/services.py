"""Services.

Source: Kubernetes API reference "Service" (1.32) and the messages of a 1.32 server.
"""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address
from typing import Any

from podnet.controlplane.api import names
from podnet.controlplane.api.addresses import parse_ip, parse_network
from podnet.controlplane.api.errors import Cause, duplicate, forbidden_field, invalid_value, not_supported, required
from podnet.controlplane.api.types import Object
from podnet.controlplane.api.validation.metadata import validate_labels
from podnet.controlplane.api.validation.pods import validate_ip
from podnet.controlplane.api.validation.values import JSONObject, objects, one_of, part, strings, texts

_TYPES = ("ClusterIP", "ExternalName", "LoadBalancer", "NodePort")
_PROTOCOLS = ("TCP", "UDP", "SCTP")
_AFFINITY_MAX_S = 86400
_FAMILIES = ("IPv4", "IPv6")
_IP_MODES = ("Proxy", "VIP")
_TOPOLOGY_MODE = "service.kubernetes.io/topology-mode"
_OLDER_TOPOLOGY_MODE = "service.kubernetes.io/topology-aware-hints"
_POLICIES = ("SingleStack", "PreferDualStack", "RequireDualStack")


def validate_service(obj: Object) -> list[Cause]:
    """A Service, with its addresses allocated or not."""
    spec = part(obj, "spec")
    kind = spec.get("type") or ""
    causes: list[Cause] = []
    if not spec.get("ports") and not _is_headless(spec) and kind != "ExternalName":
        causes.append(required("spec.ports"))
    if kind == "LoadBalancer":
        for index, port in objects(spec, "ports"):
            if port.get("port") == 10250:
                text = "may not expose port 10250 externally since it is used by kubelet"
                causes.append(invalid_value(f"spec.ports[{index}].port", 10250, text))
        if _is_headless(spec):
            text = "may not be set to 'None' for LoadBalancer services"
            causes.append(invalid_value("spec.clusterIPs[0]", "None", text))
    elif kind == "NodePort" and _is_headless(spec):
        text = "may not be set to 'None' for NodePort services"
        causes.append(invalid_value("spec.clusterIPs[0]", "None", text))
    elif kind == "ExternalName":
        causes += _validate_external_name(spec)
    causes += _validate_ports(spec)
    causes += validate_labels(spec.get("selector"), "spec.selector")
    causes += _validate_affinity(spec)
    for index, address in enumerate(strings(spec, "externalIPs")):
        causes += _validate_outside_ip(address, f"spec.externalIPs[{index}]")
    causes += one_of(spec, "type", "spec", _TYPES, must=True)
    causes += _validate_ranges(spec, kind)
    causes += _validate_topology_mode(part(part(obj, "metadata"), "annotations"))
    return causes + _validate_policies(spec, kind) + validate_families(spec)


def _validate_topology_mode(annotations: JSONObject) -> list[Cause]:
    """The annotation and its older name say the same, where both are there."""
    mode, older = annotations.get(_TOPOLOGY_MODE), annotations.get(_OLDER_TOPOLOGY_MODE)
    if mode is None or older is None or mode == older:
        return []
    text = f"must match annotations[{_OLDER_TOPOLOGY_MODE}] when both are specified"
    return [invalid_value(f"metadata.annotations[{_TOPOLOGY_MODE}]", mode, text)]


def _is_headless(spec: JSONObject) -> bool:
    return spec.get("clusterIP") == "None" or "None" in (spec.get("clusterIPs") or ())


def _validate_external_name(spec: JSONObject) -> list[Cause]:
    unwanted = ("clusterIPs", "ipFamilies", "ipFamilyPolicy")
    text = "may not be set for ExternalName services"
    causes = [forbidden_field(f"spec.{field}", text) for field in unwanted if spec.get(field)]
    name = (spec.get("externalName") or "").removesuffix(".")
    if not name:
        return [*causes, required("spec.externalName")]
    return causes + texts("spec.externalName", name, names.dns1123_subdomain(name))


def _validate_ports(spec: JSONObject) -> list[Cause]:
    causes: list[Cause] = []
    ports = list(objects(spec, "ports"))
    seen_names: set[str] = set()
    for index, port in ports:
        path = f"spec.ports[{index}]"
        name = port.get("name") or ""
        if not name:
            if len(ports) > 1:
                causes.append(required(f"{path}.name"))
        else:
            causes += texts(f"{path}.name", name, names.dns1123_label(name))
            if name in seen_names:
                causes.append(duplicate(f"{path}.name", name))
            seen_names.add(name)
        number = port.get("port") or 0
        causes += texts(f"{path}.port", number, names.port_number(number))
        protocol = port.get("protocol") or ""
        if not protocol:
            causes.append(required(f"{path}.protocol"))
        elif protocol not in _PROTOCOLS:
            causes.append(not_supported(f"{path}.protocol", protocol, list(_PROTOCOLS)))
        causes += _validate_target(port, path, headless=_is_headless(spec))
        if port.get("appProtocol") is not None:
            causes += texts(f"{path}.appProtocol", port["appProtocol"], names.qualified_name(port["appProtocol"]))
        if port.get("nodePort"):
            if spec.get("type") == "ClusterIP":
                text = "may not be used when `type` is 'ClusterIP'"
                causes.append(forbidden_field(f"{path}.nodePort", text))
            else:
                causes += texts(f"{path}.nodePort", port["nodePort"], names.port_number(port["nodePort"]))
    return causes + _validate_port_clashes(ports)


def _validate_target(port: JSONObject, path: str, *, headless: bool) -> list[Cause]:
    target = port.get("targetPort")
    if isinstance(target, str):
        causes = texts(f"{path}.targetPort", target, names.port_name(target))
    else:
        causes = texts(f"{path}.targetPort", target or 0, names.port_number(target or 0))
    return causes if not headless else [cause for cause in causes if target]


def _validate_port_clashes(ports: list[tuple[int, JSONObject]]) -> list[Cause]:
    causes: list[Cause] = []
    seen: set[tuple[Any, Any]] = set()
    node_ports: set[tuple[Any, Any]] = set()
    for index, port in ports:
        key = (port.get("protocol"), port.get("port"))
        if key in seen:
            shown = {"protocol": key[0], "port": key[1]}
            causes.append(duplicate(f"spec.ports[{index}]", shown))
        seen.add(key)
        if port.get("nodePort"):
            node_key = (port.get("protocol"), port["nodePort"])
            if node_key in node_ports:
                causes.append(duplicate(f"spec.ports[{index}].nodePort", port["nodePort"]))
            node_ports.add(node_key)
    return causes


def _validate_affinity(spec: JSONObject) -> list[Cause]:
    causes = one_of(spec, "sessionAffinity", "spec", ("ClientIP", "None"), must=True)
    seconds = part(part(spec, "sessionAffinityConfig"), "clientIP").get("timeoutSeconds")
    path = "spec.sessionAffinityConfig.clientIP.timeoutSeconds"
    if spec.get("sessionAffinity") == "ClientIP":
        if seconds is None:
            causes.append(required(path))
        elif not 0 < seconds <= _AFFINITY_MAX_S:
            text = f"must be greater than 0 and less than {_AFFINITY_MAX_S}"
            causes.append(invalid_value(path, seconds, text))
    elif spec.get("sessionAffinity") == "None" and spec.get("sessionAffinityConfig") is not None:
        text = "must not be set when session affinity is None"
        causes.append(forbidden_field("spec.sessionAffinityConfig", text))
    return causes


def _validate_outside_ip(address: str, path: str) -> list[Cause]:
    """An address others can reach."""
    return validate_ip(address, path) or validate_not_special(address, path)


def validate_not_special(address: str, path: str) -> list[Cause]:
    """An address traffic may be sent to: not one that means this host, nobody, a link, or a group on it."""
    try:
        ip = parse_ip(address)
    except ValueError:
        return [invalid_value(path, address, "must be a valid IP address")]
    reasons = (
        (ip.is_unspecified, f"may not be unspecified ({address})"),
        (ip.is_loopback, "may not be in the loopback range (127.0.0.0/8, ::1/128)"),
        (ip.is_link_local, "may not be in the link-local range (169.254.0.0/16, fe80::/10)"),
        (_is_link_local_group(ip), "may not be in the link-local multicast range (224.0.0.0/24, ff02::/10)"),
    )
    return [invalid_value(path, address, text) for wrong, text in reasons if wrong]


def _is_link_local_group(ip: IPv4Address | IPv6Address) -> bool:
    return int(ip) >> 8 == 0xE00000 if ip.version == 4 else int(ip) >> 112 & 0xFF0F == 0xFF02


def _validate_ranges(spec: JSONObject, kind: str) -> list[Cause]:
    ranges = strings(spec, "loadBalancerSourceRanges")
    causes: list[Cause] = []
    if ranges and kind != "LoadBalancer":
        text = "may only be used when `type` is 'LoadBalancer'"
        causes.append(forbidden_field("spec.loadBalancerSourceRanges", text))
    for index, text in enumerate(ranges):
        causes += validate_cidr(text.strip(), f"spec.loadBalancerSourceRanges[{index}]")
    return causes


def validate_cidr(text: str, path: str) -> list[Cause]:
    """An address range such as `10.0.0.0/8`."""
    try:
        parse_network(text)
    except ValueError:
        return [invalid_value(path, text, "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)")]
    return []


def _validate_policies(spec: JSONObject, kind: str) -> list[Cause]:
    causes: list[Cause] = []
    outside = kind in {"NodePort", "LoadBalancer"} or (kind == "ClusterIP" and bool(spec.get("externalIPs")))
    external = spec.get("externalTrafficPolicy") or ""
    if not outside:
        if external:
            text = "may only be set for externally-accessible services"
            causes.append(invalid_value("spec.externalTrafficPolicy", external, text))
    else:
        causes += one_of(spec, "externalTrafficPolicy", "spec", ("Cluster", "Local"), must=True)
    if kind in {"ClusterIP", "NodePort", "LoadBalancer"}:
        causes += one_of(spec, "internalTrafficPolicy", "spec", ("Cluster", "Local"), must=True)
    health = spec.get("healthCheckNodePort") or 0
    if health and not (kind == "LoadBalancer" and external == "Local"):
        text = "may only be set when `type` is 'LoadBalancer' and `externalTrafficPolicy` is 'Local'"
        causes.append(invalid_value("spec.healthCheckNodePort", health, text))
    if spec.get("allocateLoadBalancerNodePorts") is not None and kind != "LoadBalancer":
        text = "may only be used when `type` is 'LoadBalancer'"
        causes.append(forbidden_field("spec.allocateLoadBalancerNodePorts", text))
    name = spec.get("loadBalancerClass")
    if name is not None and kind == "LoadBalancer":
        causes += texts("spec.loadBalancerClass", name, names.qualified_name(name))
    elif name is not None:
        text = "may only be used when `type` is 'LoadBalancer'"
        causes.append(forbidden_field("spec.loadBalancerClass", text))
    distribution = spec.get("trafficDistribution")
    if distribution is not None and distribution != "PreferClose":  # unlike elsewhere, "" is not the same as absent
        causes.append(not_supported("spec.trafficDistribution", distribution, ["PreferClose"]))
    return causes


def validate_families(spec: JSONObject) -> list[Cause]:
    """`clusterIP`, `clusterIPs` and `ipFamilies` agree with one another; they may still be missing."""
    if spec.get("type") == "ExternalName":
        return []
    causes: list[Cause] = []
    addresses, families = strings(spec, "clusterIPs"), strings(spec, "ipFamilies")
    for index, family in enumerate(families):
        if family not in _FAMILIES:
            causes.append(not_supported(f"spec.ipFamilies[{index}]", family, list(_FAMILIES)))
    if len(families) > 2:
        causes.append(invalid_value("spec.ipFamilies", families, "service.ipFamilies can not have more than 2 entries"))
    elif len(families) != len(set(families)):
        causes.append(duplicate(f"spec.ipFamilies[{len(families) - 1}]", families[-1]))
    causes += one_of(spec, "ipFamilyPolicy", "spec", _POLICIES)
    if len(addresses) > 2:
        text = "may only hold up to 2 values"
        causes.append(invalid_value("spec.clusterIPs", addresses, text))
    if addresses and not spec.get("clusterIP"):
        causes.append(invalid_value("spec.clusterIPs", addresses, "must be empty when `clusterIP` is not specified"))
    elif addresses and spec.get("clusterIP") != addresses[0]:
        causes.append(invalid_value("spec.clusterIPs", addresses, "first value must match `clusterIP`"))
    if len(addresses) == 2 and "None" not in addresses and (":" in addresses[0]) == (":" in addresses[1]):
        text = "may specify no more than one IP for each IP family"
        causes.append(invalid_value("spec.clusterIPs", addresses, text))
    for index, address in enumerate(addresses):
        path = f"spec.clusterIPs[{index}]"
        if address == "None":
            if index:
                causes.append(invalid_value(path, address, "'None' must be the first and only value"))
            continue
        problems = validate_ip(address, path) if address else []
        causes += problems
        if address and not problems and index < len(families):
            family = "IPv6" if ":" in address else "IPv4"
            if family != families[index]:
                text = f"expected an {families[index]} value as indicated by `ipFamilies[{index}]`"
                causes.append(invalid_value(path, address, text))
    return causes


def validate_service_update(new: Object, old: Object) -> list[Cause]:
    """The cluster address of a Service stays, unless it becomes or was an ExternalName."""
    after, before = part(new, "spec"), part(old, "spec")
    causes: list[Cause] = []
    if "ExternalName" in {after.get("type"), before.get("type")}:
        return causes
    if before.get("clusterIP") and after.get("clusterIP") != before["clusterIP"]:
        addresses = after.get("clusterIPs") or [after.get("clusterIP") or ""]
        causes.append(invalid_value("spec.clusterIPs[0]", addresses, "may not change once set"))
    old_families, new_families = strings(before, "ipFamilies"), strings(after, "ipFamilies")
    if old_families and new_families and old_families[0] != new_families[0]:
        text = "primary ipFamily can not be changed"
        causes.append(invalid_value("spec.ipFamilies[0]", new_families[0], text))
    balanced = before.get("type") == "LoadBalancer" == after.get("type")
    if balanced and before.get("loadBalancerClass") != after.get("loadBalancerClass"):
        text = "may not change once set"
        causes.append(invalid_value("spec.loadBalancerClass", after.get("loadBalancerClass"), text))
    asked, held = (spec.get("healthCheckNodePort") or 0 for spec in (after, before))
    if _is_asked_for_health(before) and _is_asked_for_health(after) and asked != held:
        causes.append(forbidden_field("spec.healthCheckNodePort", "field is immutable"))
    return causes


def _is_asked_for_health(spec: JSONObject) -> bool:
    return spec.get("type") == "LoadBalancer" and spec.get("externalTrafficPolicy") == "Local"


def validate_service_status(new: Object, _: Object) -> list[Cause]:
    """Load balancer addresses are addresses, and of a load balancer."""
    rows = list(objects(part(part(new, "status"), "loadBalancer"), "ingress"))
    if rows and part(new, "spec").get("type") != "LoadBalancer":
        text = 'may only be used when `spec.type` is "LoadBalancer"'
        return [forbidden_field("status.loadBalancer.ingress", text)]
    return [cause for index, row in rows for cause in _validate_ingress(row, f"status.loadBalancer.ingress[{index}]")]


def _validate_ingress(row: JSONObject, path: str) -> list[Cause]:
    ip, mode, host = row.get("ip"), row.get("ipMode"), row.get("hostname")
    causes = validate_ip(ip, f"{path}.ip") if ip else []
    if ip and mode is None:
        causes.append(required(f"{path}.ipMode", "must be specified when `ip` is set"))
    elif mode is not None and not ip:
        causes.append(forbidden_field(f"{path}.ipMode", "may not be specified when `ip` is not set"))
    elif mode is not None and mode not in _IP_MODES:
        causes.append(not_supported(f"{path}.ipMode", mode, list(_IP_MODES)))
    if host:
        causes += texts(f"{path}.hostname", host, names.dns1123_subdomain(host))
        if _is_ip(host):
            causes.append(invalid_value(f"{path}.hostname", host, "must be a DNS name, not an IP address"))
    return causes


def _is_ip(text: str) -> bool:
    try:
        parse_ip(text)
    except ValueError:
        return False
    return True
