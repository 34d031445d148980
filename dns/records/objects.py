"""API objects as the index needs them: a few immutable fields of a Service, an EndpointSlice, a Namespace, a Pod.

The rule: whatever an object lacks or spells wrongly is left out here, so that nothing behind this file meets it.
A not ready endpoint is left out too; `publishNotReadyAddresses` is in the slice's `ready` condition already.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from podnet.controlplane.api.types import Object
from podnet.dns.records.names import canonical_address, endpoint_label
from podnet.dns.records.types import Options

SERVICE_NAME = "kubernetes.io/service-name"
MULTICLUSTER_SERVICE_NAME = "multicluster.kubernetes.io/service-name"
SOURCE_CLUSTER = "multicluster.kubernetes.io/source-cluster"
NO_PORT = -1
"""A port for endpoints that declare none: they have addresses, but no SRV records."""

ServiceType: TypeAlias = Literal["ClusterIP", "Headless", "ExternalName"]


@dataclass(frozen=True, slots=True)
class Port:
    """A named port; `protocol` in lower case, as in `_tcp`."""

    name: str
    protocol: str
    port: int


@dataclass(frozen=True, slots=True)
class Service:
    """A Service, or a ServiceImport of the multicluster API."""

    type: ServiceType
    addresses: tuple[str, ...] = ()
    ports: tuple[Port, ...] = ()
    external_name: str = ""  # a whole name with its final dot


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One ready address of a slice and its name below the Service: `172-0-0-2`, or `172-0-0-2.cluster1`."""

    address: str
    label: str
    ports: tuple[Port, ...]
    zone: str = ""


@dataclass(frozen=True, slots=True)
class Slice:
    """An EndpointSlice of the Service `service`."""

    service: str
    endpoints: tuple[Endpoint, ...]


@dataclass(frozen=True, slots=True)
class Pod:
    """A pod that runs, by its addresses."""

    namespace: str
    name: str
    addresses: tuple[str, ...]


def parse_service(obj: Object, options: Options) -> Service | None:
    """None for a Service that has no records."""
    if not options.labels.matches(obj["metadata"].get("labels")):
        return None
    spec = obj.get("spec") or {}
    ports = tuple(_port(entry) for entry in spec.get("ports") or ())
    if spec.get("type") == "ExternalName":
        target = str(spec.get("externalName") or "").rstrip(".")
        if not target or canonical_address(target):
            return None  # an address is no name: there is no CNAME to it
        return Service("ExternalName", ports=ports, external_name=f"{target}.")
    addresses = spec.get("clusterIPs") or [spec.get("clusterIP") or ""]
    if addresses[0] in (None, "None"):
        return Service("Headless", ports=ports)
    return Service("ClusterIP", _addresses(addresses), ports or (Port("", "", NO_PORT),))


def parse_service_import(obj: Object) -> Service:
    """A ServiceImport of the multicluster API (KEP-1645)."""
    spec = obj.get("spec") or {}
    ports = tuple(_port(entry) for entry in spec.get("ports") or ())
    if spec.get("type") == "Headless":
        return Service("Headless", ports=ports)
    return Service("ClusterIP", _addresses(spec.get("ips") or ()), ports or (Port("", "", NO_PORT),))


def parse_slice(obj: Object, options: Options, *, multicluster: bool = False) -> Slice | None:
    """None for a slice of no Service, or of names instead of addresses."""
    labels = obj["metadata"].get("labels") or {}
    service = labels.get(MULTICLUSTER_SERVICE_NAME if multicluster else SERVICE_NAME)
    if not service or obj.get("addressType") == "FQDN" or not options.labels.matches(labels):
        return None
    cluster = str(labels.get(SOURCE_CLUSTER) or "") if multicluster else ""
    ports = tuple(_port(entry) for entry in obj.get("ports") or ()) or (Port("", "", NO_PORT),)
    endpoints: list[Endpoint] = []
    for entry in obj.get("endpoints") or ():
        if (entry.get("conditions") or {}).get("ready") is False:  # an unknown state counts as ready
            continue
        pod = entry.get("targetRef") or {}
        for text in entry.get("addresses") or ():
            address = canonical_address(text)
            if address:
                label = endpoint_label(
                    address,
                    entry.get("hostname") or "",
                    pod.get("name") or "",
                    pod_names=options.endpoint_pod_names,
                )
                label = f"{label}.{cluster.lower()}" if cluster else label
                endpoints.append(Endpoint(address, label, ports, str(entry.get("zone") or "").lower()))
    return Slice(str(service), tuple(endpoints))


def parse_node(obj: Object) -> tuple[str, ...]:
    """The addresses of a Node inside the cluster, in their order."""
    found = (obj.get("status") or {}).get("addresses") or ()
    return tuple(dict.fromkeys(_addresses(e.get("address") or "" for e in found if e.get("type") == "InternalIP")))


def parse_pod(obj: Object) -> Pod | None:
    """None for a pod that has no address, has ended or is about to."""
    metadata, status = obj["metadata"], obj.get("status") or {}
    if metadata.get("deletionTimestamp") or status.get("phase") in ("Succeeded", "Failed", "Unknown"):
        return None
    texts = [entry.get("ip") for entry in status.get("podIPs") or ()] or [status.get("podIP")]
    addresses = _addresses(text for text in texts if text)
    return Pod(metadata.get("namespace", ""), metadata["name"], addresses) if addresses else None


def _port(entry: Mapping[str, Any]) -> Port:
    number = entry.get("port")
    protocol = str(entry.get("protocol") or "TCP").lower()
    return Port(str(entry.get("name") or "").lower(), protocol, NO_PORT if number is None else int(number))


def _addresses(texts: Any) -> tuple[str, ...]:
    return tuple(address for address in map(canonical_address, texts) if address)
