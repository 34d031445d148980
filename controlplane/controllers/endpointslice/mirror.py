"""Hand-made Endpoints as EndpointSlices: for a Service without a selector, whoever writes its Endpoints is heard.

    Endpoints (a person's, an operator's) ─▶ EndpointSlices, managed by endpointslicemirroring-controller.k8s.io

Not mirrored: Endpoints that say `skip-mirror`, that elect a leader, whose Service is not there or has a selector.
This file decides; it never talks to the API server. Source: kubernetes pkg/controller/endpointslicemirroring.
"""

from __future__ import annotations

from typing import Any

from podnet.controlplane.api import meta
from podnet.controlplane.api.types import Object
from podnet.controlplane.controllers.endpointslice.layout import SliceOwner
from podnet.controlplane.controllers.endpointslice.plan import HEADLESS, MANAGED_BY, SERVICE_NAME, Backend, address_type

MIRRORING_NAME = "endpointslicemirroring-controller.k8s.io"
SKIP_MIRROR = "endpointslice.kubernetes.io/skip-mirror"
LEADER = "control-plane.alpha.kubernetes.io/leader"
MAX_ADDRESSES_PER_SUBSET = 1000
_NOT_COPIED = frozenset(
    {"kubectl.kubernetes.io/last-applied-configuration", "endpoints.kubernetes.io/last-change-trigger-time"}
)


def is_mirrored(endpoints: Object, service: Object | None) -> bool:
    """Whether these Endpoints have slices made of them."""
    if service is None or service["spec"].get("selector") or meta.is_terminating(endpoints):
        return False
    annotations = endpoints["metadata"].get("annotations") or {}
    return meta.labels(endpoints).get(SKIP_MIRROR) != "true" and LEADER not in annotations


def owned_by_endpoints(endpoints: Object) -> SliceOwner:
    """Mirrored slices bear the labels and annotations of the Endpoints."""
    own = {SERVICE_NAME, MANAGED_BY, HEADLESS, SKIP_MIRROR}
    labels = {key: value for key, value in meta.labels(endpoints).items() if key not in own}
    if HEADLESS in meta.labels(endpoints):
        labels[HEADLESS] = meta.labels(endpoints)[HEADLESS]
    labels |= {SERVICE_NAME: meta.name(endpoints), MANAGED_BY: MIRRORING_NAME}
    annotations = endpoints["metadata"].get("annotations") or {}
    copied = {key: value for key, value in annotations.items() if key not in _NOT_COPIED}
    reference = meta.controller_reference(endpoints)
    return SliceOwner(meta.name(endpoints), meta.namespace(endpoints), labels, reference, copied)


def mirrored_backends(endpoints: Object) -> dict[str, list[Backend]]:
    """The addresses by family; of every subset a thousand, ready ones first."""
    found: dict[str, list[Backend]] = {}
    for subset in endpoints.get("subsets") or ():
        ports = tuple(
            (port.get("name") or "", int(port["port"]), port.get("protocol") or "TCP", port.get("appProtocol") or "")
            for port in subset.get("ports") or ()
        )
        rows = [(row, True) for row in subset.get("addresses") or ()]
        rows += [(row, False) for row in subset.get("notReadyAddresses") or ()]
        for row, ready in rows[:MAX_ADDRESSES_PER_SUBSET]:
            found.setdefault(address_type(row["ip"]), []).append(Backend(ports, _endpoint(row, ready=ready)))
    return found


def _endpoint(address: Object, *, ready: bool) -> dict[str, Any]:
    endpoint: dict[str, Any] = {"addresses": [address["ip"]], "conditions": {"ready": ready}}
    for field in ("hostname", "nodeName", "targetRef"):
        if address.get(field):
            endpoint[field] = address[field]
    return endpoint
