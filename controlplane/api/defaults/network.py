"""Defaults of Services, their endpoints, ingresses and network policies.

Addresses, families and node ports are not given here: that needs the cluster's ranges and what is in use.
Source: Kubernetes API reference, "Service Resources" (1.32); concepts/services-networking/dual-stack.
"""

from __future__ import annotations

from podnet.controlplane.api.defaults.fill import JSONObject, child, each, fill, fill_empty, present

_AFFINITY_S = 10800


def default_service(obj: JSONObject) -> None:
    """Service."""
    spec = child(obj, "spec")
    fill_empty(spec, sessionAffinity="None", type="ClusterIP")
    if spec["sessionAffinity"] == "None":
        spec.pop("sessionAffinityConfig", None)
    elif spec["sessionAffinity"] == "ClientIP":
        fill(child(child(spec, "sessionAffinityConfig"), "clientIP"), timeoutSeconds=_AFFINITY_S)
    for port in each(spec, "ports"):
        fill_empty(port, protocol="TCP")
        if not port.get("targetPort") and port.get("port") is not None:
            port["targetPort"] = port["port"]
    if spec.get("clusterIP") and not spec.get("clusterIPs"):
        spec["clusterIPs"] = [spec["clusterIP"]]
    kind = spec["type"]
    if kind in {"NodePort", "LoadBalancer"} or (kind == "ClusterIP" and spec.get("externalIPs")):
        fill_empty(spec, externalTrafficPolicy="Cluster")
    if kind in {"ClusterIP", "NodePort", "LoadBalancer"}:
        fill(spec, internalTrafficPolicy="Cluster")
    if kind == "LoadBalancer":
        fill(spec, allocateLoadBalancerNodePorts=True)
        for ingress in each(present(present(obj, "status") or {}, "loadBalancer") or {}, "ingress"):
            if ingress.get("ip"):
                fill(ingress, ipMode="VIP")


def default_endpoints(obj: JSONObject) -> None:
    """Endpoints."""
    for subset in each(obj, "subsets"):
        for port in each(subset, "ports"):
            fill_empty(port, protocol="TCP")


def default_endpoint_slice(obj: JSONObject) -> None:
    """EndpointSlice: an unnamed port has the empty name; an endpoint of which nothing is said has conditions, though
    empty ones."""
    for endpoint in each(obj, "endpoints"):
        child(endpoint, "conditions")
    for port in each(obj, "ports"):
        fill(port, name="", protocol="TCP")


def default_network_policy(obj: JSONObject) -> None:
    """NetworkPolicy: it isolates ingress, and egress when it has egress rules."""
    spec = child(obj, "spec")
    for rules in ("ingress", "egress"):
        for rule in each(spec, rules):
            for port in each(rule, "ports"):
                fill(port, protocol="TCP")
    fill_empty(spec, policyTypes=["Ingress", "Egress"] if spec.get("egress") else ["Ingress"])


def default_ingress_class(obj: JSONObject) -> None:
    """IngressClass: parameters are cluster-wide."""
    parameters = present(present(obj, "spec") or {}, "parameters")
    if parameters is not None:
        fill(parameters, scope="Cluster")
