"""A Service that changes its type: what only the old type used falls away, unless the writer changed it on purpose.

`kubectl patch svc x -p '{"spec":{"type":"ClusterIP"}}'` leaves the node ports standing in the object it sends; upstream
forgives that, and refuses only what somebody set anew.

    old type    new type       dropped when unchanged
    any other   ExternalName   clusterIP(s), ipFamilies, ipFamilyPolicy, internalTrafficPolicy
    NodePort    ClusterIP      ports[].nodePort, externalTrafficPolicy
    LB          any other      allocateLoadBalancerNodePorts, loadBalancerClass, healthCheckNodePort, status.loadBalancer

Rule: pure; works on the new object in place, before allocation and validation.
Source: the Service strategy of Kubernetes 1.32.
"""

from __future__ import annotations

from typing import Any

from podnet.controlplane.api.types import Object

_ADDRESS_FIELDS = ("clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy", "internalTrafficPolicy")
_BALANCER_FIELDS = ("allocateLoadBalancerNodePorts", "loadBalancerClass")


def drop_type_fields(new: Object, old: Object) -> Object:
    """Drop from `new` the fields its type has no use for and that are as they were in `old`; returns `new`."""
    after, before = new.get("spec") or {}, old.get("spec") or {}
    was, now = before.get("type"), after.get("type")
    if now == "ExternalName" != was:
        _drop_unchanged(after, before, _ADDRESS_FIELDS)
    if was == "LoadBalancer" != now:
        _drop_unchanged(after, before, _BALANCER_FIELDS)
        new["status"] = {**(new.get("status") or {}), "loadBalancer": {}}  # nobody balances for it any more
    if _has_node_ports(before) and not _has_node_ports(after) and _node_ports(after) == _node_ports(before):
        for port in after.get("ports") or ():
            port.pop("nodePort", None)
    if _is_outside(before) and not _is_outside(after):
        _drop_unchanged(after, before, ("externalTrafficPolicy",))
    if _has_health_port(before) and not _has_health_port(after):
        _drop_unchanged(after, before, ("healthCheckNodePort",))
    return new


def _drop_unchanged(after: dict[str, Any], before: dict[str, Any], fields: tuple[str, ...]) -> None:
    for field in fields:
        if field in after and after[field] == before.get(field):
            del after[field]


def _has_node_ports(spec: dict[str, Any]) -> bool:
    kind = spec.get("type")
    return kind == "NodePort" or (kind == "LoadBalancer" and spec.get("allocateLoadBalancerNodePorts") is not False)


def _node_ports(spec: dict[str, Any]) -> list[Any]:
    return sorted(port["nodePort"] for port in spec.get("ports") or () if port.get("nodePort"))


def _is_outside(spec: dict[str, Any]) -> bool:
    kind = spec.get("type")
    return kind in {"NodePort", "LoadBalancer"} or (kind == "ClusterIP" and bool(spec.get("externalIPs")))


def _has_health_port(spec: dict[str, Any]) -> bool:
    return spec.get("type") == "LoadBalancer" and spec.get("externalTrafficPolicy") == "Local"
