"""How endpoints are laid out in EndpointSlices: at most a hundred each, all with the same ports, few slices rewritten.

Per set of resolved ports, in this order:
    1. endpoints stay in the slice they are in, with their news; those that are gone leave it
    2. new ones go into slices that are rewritten anyway, the fullest first
    3. the rest goes into one more slice that has room for all of it, if there is one
    4. else into new slices
Slices are never repacked just to have fewer of them: a write costs every node a change.

This file decides; it never talks to the API server. Source: k8s.io/endpointslice (reconciler.go), KEP-752.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from podnet.controlplane.api import meta
from podnet.controlplane.api.types import Object
from podnet.controlplane.controllers.endpointslice.plan import (
    CONTROLLER_NAME,
    MANAGED_BY,
    SERVICE_NAME,
    Backend,
    Ports,
    endpoint_key,
    service_labels,
)

MAX_ENDPOINTS_PER_SLICE = 100

Endpoint = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class SliceOwner:
    """What slices of one Service and family look like from outside: names, labels and owner."""

    name: str
    namespace: str
    labels: Mapping[str, str]
    reference: Mapping[str, Any]
    annotations: Mapping[str, str] | None = None
    """None leaves the annotations of existing slices alone."""


@dataclass(frozen=True, slots=True)
class SliceChanges:
    """What to do to a Service's slices."""

    create: tuple[Object, ...] = ()
    update: tuple[Object, ...] = ()
    delete: tuple[Object, ...] = ()


@dataclass(slots=True)
class _Filling:
    """One slice while it is filled; `old` is None for a new one."""

    old: Object | None
    endpoints: list[Endpoint]
    changed: bool


def owned_by_service(service: Object) -> SliceOwner:
    """Slices of a Service with a selector."""
    labels = {key: value for key, value in service_labels(service).items() if key not in {SERVICE_NAME, MANAGED_BY}}
    labels |= {SERVICE_NAME: meta.name(service), MANAGED_BY: CONTROLLER_NAME}
    return SliceOwner(meta.name(service), meta.namespace(service), labels, meta.controller_reference(service))


def plan_slices(
    owner: SliceOwner, family: str, backends: Iterable[Backend], existing: Sequence[Object]
) -> SliceChanges:
    """The changes that bring the slices of one family to `backends`; nothing when they are there."""
    by_ports: dict[Ports, dict[str, Backend]] = {}
    for backend in backends:
        by_ports.setdefault(backend.ports, {})[backend.key] = backend
    if not by_ports:
        # One empty slice stays, so that consumers can tell "no endpoints" from "not looked at yet".
        by_ports[()] = {}
    old_by_ports: dict[Ports, list[Object]] = {}
    for old in existing:
        old_by_ports.setdefault(ports_of(old), []).append(old)
    create: list[Object] = []
    update: list[Object] = []
    delete: list[Object] = []
    for ports, wanted in by_ports.items():
        layout = _lay_out(owner, wanted, old_by_ports.pop(ports, []))
        for place, filling in enumerate(layout):
            if filling.old is None:
                create.append(_new_slice(owner, family, ports, filling.endpoints))
            elif not filling.endpoints and (wanted or place):
                delete.append(filling.old)
            elif filling.changed:
                update.append(_changed_slice(owner, filling.old, filling.endpoints))
    delete += [old for leftover in old_by_ports.values() for old in leftover]
    return SliceChanges(tuple(create), tuple(update), tuple(delete))


def _lay_out(owner: SliceOwner, wanted: Mapping[str, Backend], existing: Sequence[Object]) -> list[_Filling]:
    missing = dict(wanted)
    layout = [_keep(owner, old, missing) for old in existing]
    rest = [backend.endpoint for backend in missing.values()]
    changed = [filling for filling in layout if filling.changed]
    for filling in sorted(changed, key=lambda filling: -len(filling.endpoints)):
        rest = _fill(filling, rest)
    if rest:
        rooms = [filling for filling in layout if not filling.changed and _room(filling) >= len(rest)]
        if rooms:
            rest = _fill(min(rooms, key=_room), rest)
    while rest:
        filling = _Filling(None, [], changed=True)
        rest = _fill(filling, rest)
        layout.append(filling)
    return layout or [_Filling(None, [], changed=True)]


def _keep(owner: SliceOwner, old: Object, missing: dict[str, Backend]) -> _Filling:
    """What of `missing` is in this slice already; it is taken out there."""
    kept: list[Endpoint] = []
    for endpoint in old.get("endpoints") or ():
        backend = missing.pop(endpoint_key(endpoint), None)
        if backend is not None:
            kept.append(backend.endpoint)
    relabelled = dict(owner.labels) != meta.labels(old) or (
        owner.annotations is not None and dict(owner.annotations) != (old["metadata"].get("annotations") or {})
    )
    return _Filling(old, kept, changed=relabelled or kept != (old.get("endpoints") or []))


def _room(filling: _Filling) -> int:
    return MAX_ENDPOINTS_PER_SLICE - len(filling.endpoints)


def _fill(filling: _Filling, rest: list[Endpoint]) -> list[Endpoint]:
    room = _room(filling)
    filling.changed = filling.changed or bool(rest and room)
    filling.endpoints += rest[:room]
    return rest[room:]


def ports_of(found: Object) -> Ports:
    """The ports of a slice, to compare."""
    return tuple(
        (
            port.get("name") or "",
            int(port.get("port") or 0),
            port.get("protocol") or "TCP",
            port.get("appProtocol") or "",
        )
        for port in found.get("ports") or ()
    )


def port_objects(ports: Ports) -> list[Object]:
    """The ports as a slice says them."""
    out: list[Object] = []
    for name, number, protocol, app_protocol in ports:
        port: Object = {"name": name, "port": number, "protocol": protocol}
        if app_protocol:
            port["appProtocol"] = app_protocol
        out.append(port)
    return out


def _new_slice(owner: SliceOwner, family: str, ports: Ports, endpoints: Sequence[Endpoint]) -> Object:
    metadata: Object = {
        "generateName": f"{owner.name}-",
        "namespace": owner.namespace,
        "labels": dict(owner.labels),
        "ownerReferences": [dict(owner.reference)],
    }
    if owner.annotations:
        metadata["annotations"] = dict(owner.annotations)
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": metadata,
        "addressType": family,
        "endpoints": [dict(endpoint) for endpoint in endpoints],
        "ports": port_objects(ports),
    }


def _changed_slice(owner: SliceOwner, old: Object, endpoints: Sequence[Endpoint]) -> Object:
    metadata = {**old["metadata"], "labels": dict(owner.labels)}
    if owner.annotations is not None:
        metadata["annotations"] = dict(owner.annotations)
    return {**old, "metadata": metadata, "endpoints": [dict(entry) for entry in endpoints]}
