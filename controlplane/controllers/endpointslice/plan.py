"""Which addresses stand behind a Service, and how they are laid out in EndpointSlices and in Endpoints.

This file decides; it never talks to the API server. Endpoints stay in the slice they are in, so that a change of one pod
rewrites one slice; a slice holds at most a hundred, all with the same ports.
Source: k8s.io/endpointslice (reconciler.go, utils.go), kubernetes pkg/controller/endpoint, KEP-752, KEP-1672.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from podnet.controlplane.api import meta
from podnet.controlplane.api.types import Object

SERVICE_NAME = "kubernetes.io/service-name"
MANAGED_BY = "endpointslice.kubernetes.io/managed-by"
CONTROLLER_NAME = "endpointslice-controller.k8s.io"
HEADLESS = "service.kubernetes.io/headless"
ZONE = "topology.kubernetes.io/zone"
MAX_ENDPOINTS_PER_SLICE = 100
MAX_ENDPOINTS_ADDRESSES = 1000
"""Endpoints are cut off here, as upstream does, so that the object stays below the store's limit."""

Ports = tuple[tuple[str, int, str, str], ...]
"""(name, port, protocol, appProtocol) of every Service port, resolved for one pod."""

ZoneOf = Callable[[str], str]


@dataclass(frozen=True, slots=True)
class Backend:
    """One pod behind the Service: its endpoint as the slice holds it, and the ports it answers on."""

    ports: Ports
    endpoint: Mapping[str, Any]

    @property
    def key(self) -> str:
        """The pod's uid: by it an endpoint is found again."""
        return str(self.endpoint["targetRef"]["uid"])


def is_headless(service: Object) -> bool:
    """clusterIP: None."""
    return bool(service["spec"].get("clusterIP") == "None")


def selects(service: Object) -> bool:
    """Whether this Service's endpoints are ours to keep."""
    spec = service["spec"]
    return bool(spec.get("selector")) and spec.get("type") != "ExternalName" and not meta.is_terminating(service)


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
    if spec.get("hostname") and spec.get("subdomain") == meta.name(service):
        endpoint["hostname"] = spec["hostname"]
    return Backend(resolve_ports(service, pod), endpoint)


@dataclass(frozen=True, slots=True)
class SliceChanges:
    """What to do to a Service's slices."""

    create: tuple[Object, ...] = ()
    update: tuple[Object, ...] = ()
    delete: tuple[Object, ...] = ()


def plan_slices(service: Object, family: str, backends: Iterable[Backend], existing: Sequence[Object]) -> SliceChanges:
    """The changes that bring the slices of one family to `backends`; nothing when they are there."""
    by_ports: dict[Ports, dict[str, Backend]] = {}
    for backend in backends:
        by_ports.setdefault(backend.ports, {})[backend.key] = backend
    if not by_ports:
        # One empty slice stays, so that consumers can tell "no endpoints" from "not looked at yet".
        by_ports[()] = {}
    old_by_ports: dict[Ports, list[Object]] = {}
    for old in existing:
        old_by_ports.setdefault(_ports_of(old), []).append(old)
    create: list[Object] = []
    update: list[Object] = []
    delete: list[Object] = []
    for ports, wanted in by_ports.items():
        layout = _lay_out(wanted, old_by_ports.pop(ports, []))
        for old_slice, endpoints in layout:
            if old_slice is None:
                create.append(_new_slice(service, family, ports, endpoints))
            elif not endpoints and (wanted or (len(layout) > 1 and old_slice is not layout[0][0])):
                delete.append(old_slice)
            else:
                changed = _changed_slice(service, old_slice, endpoints)
                if changed is not None:
                    update.append(changed)
    delete += [old for leftover in old_by_ports.values() for old in leftover]
    return SliceChanges(tuple(create), tuple(update), tuple(delete))


def _lay_out(
    wanted: Mapping[str, Backend], existing: Sequence[Object]
) -> list[tuple[Object | None, list[Mapping[str, Any]]]]:
    """Endpoints per slice: those that stay where they are, then new ones into the room that is left."""
    missing = dict(wanted)
    layout: list[tuple[Object | None, list[Mapping[str, Any]]]] = []
    for old in existing:
        kept: list[Mapping[str, Any]] = []
        for endpoint in old.get("endpoints") or ():
            backend = missing.pop(str((endpoint.get("targetRef") or {}).get("uid")), None)
            if backend is not None:
                kept.append(backend.endpoint)
        layout.append((old, kept))
    rest = [backend.endpoint for backend in missing.values()]
    for _, kept in layout:
        room = MAX_ENDPOINTS_PER_SLICE - len(kept)
        kept += rest[:room]
        rest = rest[room:]
    while rest:
        layout.append((None, rest[:MAX_ENDPOINTS_PER_SLICE]))
        rest = rest[MAX_ENDPOINTS_PER_SLICE:]
    return layout or [(None, [])]


def _ports_of(old: Object) -> Ports:
    return tuple(
        (
            port.get("name") or "",
            int(port.get("port") or 0),
            port.get("protocol") or "TCP",
            port.get("appProtocol") or "",
        )
        for port in old.get("ports") or ()
    )


def _slice_labels(service: Object) -> dict[str, str]:
    labels = {
        key: value for key, value in meta.labels(service).items() if key not in {SERVICE_NAME, MANAGED_BY, HEADLESS}
    }
    labels |= {SERVICE_NAME: meta.name(service), MANAGED_BY: CONTROLLER_NAME}
    if is_headless(service):
        labels[HEADLESS] = ""
    return labels


def _port_objects(ports: Ports) -> list[Object]:
    out: list[Object] = []
    for name, number, protocol, app_protocol in ports:
        port: Object = {"name": name, "port": number, "protocol": protocol}
        if app_protocol:
            port["appProtocol"] = app_protocol
        out.append(port)
    return out


def _new_slice(service: Object, family: str, ports: Ports, endpoints: Sequence[Mapping[str, Any]]) -> Object:
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "generateName": f"{meta.name(service)}-",
            "namespace": meta.namespace(service),
            "labels": _slice_labels(service),
            "ownerReferences": [meta.controller_reference(service)],
        },
        "addressType": family,
        "endpoints": [dict(endpoint) for endpoint in endpoints],
        "ports": _port_objects(ports),
    }


def _changed_slice(service: Object, old: Object, endpoints: Sequence[Mapping[str, Any]]) -> Object | None:
    labels = _slice_labels(service)
    if labels == meta.labels(old) and [*endpoints] == (old.get("endpoints") or []):
        return None
    return {**old, "metadata": {**old["metadata"], "labels": labels}, "endpoints": [dict(entry) for entry in endpoints]}


def desired_endpoints(service: Object, backends: Iterable[Backend]) -> Object:
    """The older Endpoints object: addresses grouped by ports, ready and not ready apart, none that terminate."""
    subsets: dict[Ports, dict[str, list[Object]]] = {}
    for count, backend in enumerate(sorted(backends, key=lambda entry: str(entry.endpoint["addresses"][0]))):
        endpoint = backend.endpoint
        if count >= MAX_ENDPOINTS_ADDRESSES:
            break
        if endpoint["conditions"]["terminating"] or (not backend.ports and not is_headless(service)):
            continue
        address: Object = {"ip": endpoint["addresses"][0]}
        address |= {key: endpoint[key] for key in ("hostname", "nodeName") if key in endpoint}
        address["targetRef"] = dict(endpoint["targetRef"])
        kind = "addresses" if endpoint["conditions"]["ready"] else "notReadyAddresses"
        subsets.setdefault(backend.ports, {}).setdefault(kind, []).append(address)
    labels = {key: value for key, value in meta.labels(service).items() if key != HEADLESS}
    if is_headless(service):
        labels[HEADLESS] = ""
    body: Object = {
        "apiVersion": "v1",
        "kind": "Endpoints",
        "metadata": {"name": meta.name(service), "namespace": meta.namespace(service), "labels": labels},
    }
    if subsets:
        body["subsets"] = [_subset(ports, found) for ports, found in sorted(subsets.items())]
    return body


def _subset(ports: Ports, found: Mapping[str, list[Object]]) -> Object:
    subset: Object = {kind: found[kind] for kind in ("addresses", "notReadyAddresses") if kind in found}
    if ports:
        subset["ports"] = [{key: value for key, value in port.items() if value != ""} for port in _port_objects(ports)]
    return subset
