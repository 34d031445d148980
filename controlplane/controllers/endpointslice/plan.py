"""Which addresses stand behind a Service, with which conditions and on which ports.

    Service + Pod ─▶ Backend (endpoint, resolved ports) ─▶ layout.py: EndpointSlices
                                                        └▶ endpoints.py: the older Endpoints object

This file decides; it never talks to the API server.
Source: k8s.io/endpointslice (utils.go), KEP-752, KEP-1672 (terminating), KEP-4444 (traffic distribution).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from podnet.controlplane.api import meta
from podnet.controlplane.api.types import Object

SERVICE_NAME = "kubernetes.io/service-name"
MANAGED_BY = "endpointslice.kubernetes.io/managed-by"
CONTROLLER_NAME = "endpointslice-controller.k8s.io"
HEADLESS = "service.kubernetes.io/headless"
ZONE = "topology.kubernetes.io/zone"

Ports = tuple[tuple[str, int, str, str], ...]
"""(name, port, protocol, appProtocol) of every Service port, resolved for one pod."""

ZoneOf = Callable[[str], str]
"""The zone of a node by its name, empty when it has none."""


@dataclass(frozen=True, slots=True)
class Backend:
    """One address behind the Service: its endpoint as the slice holds it, and the ports it answers on."""

    ports: Ports
    endpoint: Mapping[str, Any]

    @property
    def key(self) -> str:
        """By it an endpoint is found again in an older slice."""
        return endpoint_key(self.endpoint)


def endpoint_key(endpoint: Mapping[str, Any]) -> str:
    """The pod's uid; of an address without a pod, the address."""
    uid = (endpoint.get("targetRef") or {}).get("uid")
    return str(uid) if uid else " ".join(endpoint.get("addresses") or ())


def is_headless(service: Object) -> bool:
    """clusterIP: None."""
    return bool(service["spec"].get("clusterIP") == "None")


def selects(service: Object) -> bool:
    """Whether this Service's endpoints are ours to keep."""
    spec = service["spec"]
    return bool(spec.get("selector")) and spec.get("type") != "ExternalName" and not meta.is_terminating(service)


def is_behind(service: Object, pod: Object) -> bool:
    """Whether the Service selects the pod."""
    selector = service["spec"].get("selector")
    return bool(selector) and selector.items() <= meta.labels(pod).items()


def resolve_ports(service: Object, pod: Object) -> Ports:
    """The Service's ports on this pod; a named targetPort that the pod does not have is left out."""
    found: list[tuple[str, int, str, str]] = []
    for port in service["spec"].get("ports") or ():
        protocol = port.get("protocol") or "TCP"
        number = _target_port(port.get("targetPort") or port["port"], protocol, pod)
        if number is not None:
            found.append((port.get("name") or "", number, protocol, port.get("appProtocol") or ""))
    return tuple(found)


def _target_port(target: int | str, protocol: str, pod: Object) -> int | None:
    if isinstance(target, int):
        return target
    spec = pod["spec"]
    sidecars = [c for c in spec.get("initContainers") or () if c.get("restartPolicy") == "Always"]
    for container in [*(spec.get("containers") or ()), *sidecars]:
        for port in container.get("ports") or ():
            if port.get("name") == target and (port.get("protocol") or "TCP") == protocol:
                return int(port["containerPort"])
    return None


def pod_addresses(pod: Object) -> list[str]:
    """All addresses of the pod, the first one first."""
    status = pod.get("status") or {}
    return [entry["ip"] for entry in status.get("podIPs") or ()] or [ip for ip in [status.get("podIP")] if ip]


def address_type(address: str) -> str:
    """`IPv4` or `IPv6`."""
    return "IPv6" if ":" in address else "IPv4"


def address_types(service: Object) -> list[str]:
    """One layout of slices per IP family of the Service."""
    return [*(service["spec"].get("ipFamilies") or ["IPv4"])]


def desired_backend(service: Object, pod: Object, family: str, zone_of: ZoneOf) -> Backend | None:
    """The pod as an endpoint; None when it has no address of the family, or will never serve again."""
    status = pod.get("status") or {}
    address = next((ip for ip in pod_addresses(pod) if address_type(ip) == family), None)
    if address is None or status.get("phase") in {"Succeeded", "Failed"}:
        return None
    serving, terminating = meta.condition_is_true(pod, "Ready"), meta.is_terminating(pod)
    published = bool(service["spec"].get("publishNotReadyAddresses"))
    endpoint: dict[str, Any] = {
        "addresses": [address],
        "conditions": {
            "ready": published or (serving and not terminating),
            "serving": serving,
            "terminating": terminating,
        },
        "targetRef": {
            "kind": "Pod",
            "namespace": meta.namespace(pod),
            "name": meta.name(pod),
            "uid": meta.uid(pod),
        },
    }
    spec = pod["spec"]
    if spec.get("nodeName"):
        endpoint["nodeName"] = spec["nodeName"]
        zone = zone_of(spec["nodeName"])
        if zone:
            endpoint["zone"] = zone
            if _prefers_close(service) and endpoint["conditions"]["ready"]:
                endpoint["hints"] = {"forZones": [{"name": zone}]}
    if spec.get("hostname") and spec.get("subdomain") == meta.name(service):
        endpoint["hostname"] = spec["hostname"]
    return Backend(resolve_ports(service, pod), endpoint)


def _prefers_close(service: Object) -> bool:
    """Hints are for kube-proxy, so a headless Service has none."""
    return service["spec"].get("trafficDistribution") == "PreferClose" and not is_headless(service)


def service_labels(service: Object) -> dict[str, str]:
    """The Service's labels as its Endpoints bear them, too, with the one that says `headless` only when it is true."""
    labels = {key: value for key, value in meta.labels(service).items() if key != HEADLESS}
    if is_headless(service):
        labels[HEADLESS] = ""
    return labels
