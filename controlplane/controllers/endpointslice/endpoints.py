"""The older Endpoints object of a Service: addresses grouped by ports, ready and not ready apart.

It holds a thousand addresses at most, ready ones first, and says so when it had to leave some out: EndpointSlices have
them all. This file decides; it never talks to the API server. Source: kubernetes pkg/controller/endpoint.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from podnet.controlplane.api import meta
from podnet.controlplane.api.types import Object
from podnet.controlplane.controllers.endpointslice.layout import port_objects
from podnet.controlplane.controllers.endpointslice.plan import Backend, Ports, service_labels

MAX_ENDPOINTS_ADDRESSES = 1000
OVER_CAPACITY = "endpoints.kubernetes.io/over-capacity"


def desired_endpoints(service: Object, backends: Iterable[Backend]) -> Object:
    """The Endpoints of a Service with a selector; a terminating pod is in it only when it is published in any case."""
    shown = [backend for backend in backends if _is_shown(service, backend)]
    shown.sort(key=lambda backend: not backend.endpoint["conditions"]["ready"])
    truncated = len(shown) > MAX_ENDPOINTS_ADDRESSES
    subsets: dict[Ports, dict[str, list[Object]]] = {}
    for backend in sorted(shown[:MAX_ENDPOINTS_ADDRESSES], key=lambda entry: str(entry.endpoint["addresses"][0])):
        endpoint = backend.endpoint
        address: Object = {"ip": endpoint["addresses"][0]}
        address |= {key: endpoint[key] for key in ("hostname", "nodeName") if key in endpoint}
        address["targetRef"] = dict(endpoint["targetRef"])
        kind = "addresses" if endpoint["conditions"]["ready"] else "notReadyAddresses"
        subsets.setdefault(backend.ports, {}).setdefault(kind, []).append(address)
    body: Object = {
        "apiVersion": "v1",
        "kind": "Endpoints",
        "metadata": {
            "name": meta.name(service),
            "namespace": meta.namespace(service),
            "labels": service_labels(service),
        },
    }
    if truncated:
        body["metadata"]["annotations"] = {OVER_CAPACITY: "truncated"}
    if subsets:
        body["subsets"] = [_subset(ports, found) for ports, found in sorted(subsets.items())]
    return body


def _is_shown(service: Object, backend: Backend) -> bool:
    spec = service["spec"]
    if backend.endpoint["conditions"]["terminating"] and not spec.get("publishNotReadyAddresses"):
        return False
    return bool(backend.ports) or not spec.get("ports")


def _subset(ports: Ports, found: Mapping[str, list[Object]]) -> Object:
    subset: Object = {kind: found[kind] for kind in ("addresses", "notReadyAddresses") if kind in found}
    if ports:
        subset["ports"] = [{key: value for key, value in port.items() if value != ""} for port in port_objects(ports)]
    return subset


def changed_endpoints(current: Object, desired: Object) -> Object | None:
    """What to write over `current`, None when it is as desired. Annotations of others stay."""
    annotations = dict(current["metadata"].get("annotations") or {})
    kept = {key: value for key, value in annotations.items() if key != OVER_CAPACITY}
    kept |= desired["metadata"].get("annotations") or {}
    same = current.get("subsets") == desired.get("subsets") and annotations == kept
    if same and meta.labels(current) == meta.labels(desired):
        return None
    metadata = {**current["metadata"], "labels": meta.labels(desired), "annotations": kept}
    return {**desired, "metadata": metadata}
