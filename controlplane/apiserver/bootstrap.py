"""What a cluster has before anyone has written to it: namespaces, priority classes, the `kubernetes` Service.

Idempotent: what exists is left alone, except the address of the API server, which is made to be true.
Source: pkg/controlplane (bootstrap controller), pkg/registry/scheduling/rest of Kubernetes 1.32.
"""

from __future__ import annotations

from ipaddress import ip_address
from typing import Any

from podnet.controlplane.api.errors import StatusError
from podnet.controlplane.api.resources import (
    APISERVICES,
    ENDPOINTS,
    ENDPOINTSLICES,
    NAMESPACES,
    PRIORITYCLASSES,
    RESOURCES,
    SERVICEACCOUNTS,
    SERVICECIDRS,
    SERVICES,
)
from podnet.controlplane.api.timestamps import format_time
from podnet.controlplane.api.types import Object, Resource
from podnet.controlplane.apiserver.options import WriteOptions
from podnet.controlplane.apiserver.registry import Registry

SYSTEM_NAMESPACES = ("default", "kube-system", "kube-public", "kube-node-lease")
SYSTEM_PRIORITIES = {
    "system-node-critical": (
        2000001000,
        "Used for system critical pods that must not be moved from their current node.",
    ),
    "system-cluster-critical": (
        2000000000,
        "Used for system critical pods that must run in the cluster, but can be moved to another node if necessary.",
    ),
}


async def ensure_bootstrap(registry: Registry, *, advertise_address: str, port: int) -> None:
    """Create what is missing."""
    await registry.cache.wait_fresh()
    for name in SYSTEM_NAMESPACES:
        await _ensure(registry, NAMESPACES, "", {"metadata": {"name": name}})
        # The controller does this for every other namespace; here it would only make the first pod wait.
        await _ensure(registry, SERVICEACCOUNTS, name, {"metadata": {"name": "default"}})
    for name, (value, description) in SYSTEM_PRIORITIES.items():
        await _ensure(
            registry, PRIORITYCLASSES, "", {"metadata": {"name": name}, "value": value, "description": description}
        )
    await _ensure_service_cidr(registry)
    await _ensure(registry, SERVICES, "default", kubernetes_service(registry.ranges.reserved))
    await registry.repair_services()
    if not ip_address(advertise_address).is_loopback:  # no pod could reach it there, and validation says so
        endpoint_slice = kubernetes_endpoint_slice(advertise_address, port)
        await _ensure_true(registry, ENDPOINTS, kubernetes_endpoints(advertise_address, port), "subsets")
        await _ensure_true(registry, ENDPOINTSLICES, endpoint_slice, "endpoints", "ports")
    for group, version in dict.fromkeys((r.group, r.version) for r in RESOURCES):
        await _ensure_api_service(registry, group, version)


async def _ensure(registry: Registry, resource: Resource, namespace: str, obj: Object) -> None:
    if registry.find(resource, namespace, obj["metadata"]["name"]) is not None:
        return
    try:
        await registry.create(resource, namespace, obj, WriteOptions(field_validation="Strict"))
    except StatusError as error:
        # a namespace that is going takes nothing new; the next round finds it gone and begins again
        if not error.is_already_exists and error.code != 403:
            raise


async def _ensure_service_cidr(registry: Registry) -> None:
    """`kubectl get servicecidrs`: the range that the cluster was started with is one of them, and ready."""
    spec = {"cidrs": [str(registry.ranges.network)]}
    await _ensure(registry, SERVICECIDRS, "", {"metadata": {"name": "kubernetes"}, "spec": spec})
    await registry.cache.wait_fresh()
    found = registry.find(SERVICECIDRS, "", "kubernetes")
    if found is not None and not (found.get("status") or {}).get("conditions"):
        condition = {
            "type": "Ready",
            "status": "True",
            "reason": "",
            "message": "Kubernetes default Service CIDR is ready",
            "lastTransitionTime": format_time(registry.clock()),
        }

        def ready(current: Object) -> Object:
            return {**current, "status": {"conditions": [condition]}}

        await registry.write(SERVICECIDRS, "", "kubernetes", ready, WriteOptions(), subresource="status")


async def _ensure_true(registry: Registry, resource: Resource, obj: Object, *fields: str) -> None:
    """Create, or set `fields` of what is there."""
    name = obj["metadata"]["name"]
    if registry.find(resource, "default", name) is None:
        await _ensure(registry, resource, "default", obj)
        return

    def transform(current: Object) -> Object:
        return {**current, **{field: obj[field] for field in fields}}

    await registry.write(resource, "default", name, transform, WriteOptions())


def kubernetes_service(cluster_ip: str) -> Object:
    """The Service through which pods reach the API server."""
    spec = {
        "type": "ClusterIP",
        "clusterIP": cluster_ip,
        "clusterIPs": [cluster_ip],
        "ports": [{"name": "https", "port": 443, "protocol": "TCP", "targetPort": 6443}],
    }
    labels = {"component": "apiserver", "provider": "kubernetes"}
    return {"metadata": {"name": "kubernetes", "labels": labels}, "spec": spec}


def kubernetes_endpoints(address: str, port: int) -> Object:
    """Its Endpoints: the API server keeps them itself, there is no selector."""
    labels = {"endpointslice.kubernetes.io/skip-mirror": "true"}
    subset = {"addresses": [{"ip": address}], "ports": [{"name": "https", "port": port, "protocol": "TCP"}]}
    return {"metadata": {"name": "kubernetes", "labels": labels}, "subsets": [subset]}


def kubernetes_endpoint_slice(address: str, port: int) -> Object:
    """The same for kube-proxy."""
    return {
        "metadata": {"name": "kubernetes", "labels": {"kubernetes.io/service-name": "kubernetes"}},
        "addressType": "IPv4",
        "endpoints": [{"addresses": [address], "conditions": {"ready": True}}],
        "ports": [{"name": "https", "port": port, "protocol": "TCP"}],
    }


async def _ensure_api_service(registry: Registry, group: str, version: str) -> None:
    """`kubectl get apiservices`: every group and version is served by this process."""
    condition = {
        "type": "Available",
        "status": "True",
        "reason": "Local",
        "message": "Local APIServices are always available",
        "lastTransitionTime": None,
    }
    obj: dict[str, Any] = {
        "metadata": {"name": f"{version}.{group}", "labels": {"kube-aggregator.kubernetes.io/automanaged": "onstart"}},
        "spec": {
            "group": group,
            "version": version,
            "groupPriorityMinimum": 18000 if not group else 17000,
            "versionPriority": 15,
        },
        "status": {"conditions": [{k: v for k, v in condition.items() if v is not None}]},
    }
    await _ensure(registry, APISERVICES, "", obj)
