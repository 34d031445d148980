"""Topology hints by CPU: which zone each endpoint is to serve, so that a third of the CPU has a third of the endpoints.

    service.kubernetes.io/topology-mode: Auto  (or the older topology-aware-hints)

A zone's share is the allocatable CPU of its ready nodes, those of the control plane left out. An endpoint serves its
own zone first; zones that have too many give some to zones that have too few. All ready endpoints have hints or none
has, and none has where

    a node does not say its zone or CPU                      nobody's share is known
    nodes are ready in one zone only                         nothing to prefer
    there are fewer ready endpoints than zones               a zone would have none
    a zone would have 20 % more load than its share,         few endpoints, shares that differ much
    however the endpoints are dealt
    an endpoint has no zone

Hints that are there stay while no zone is overloaded by more than those 20 %: moving one is a change in every node.

This file decides; it never talks to the API server. Source: KEP-2433, k8s.io/endpointslice (topologycache).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

from podnet.controlplane.api import meta, quantity
from podnet.controlplane.api.types import Object
from podnet.controlplane.controllers.endpointslice.plan import ZONE, Backend, endpoint_key, is_headless

TOPOLOGY_MODE = "service.kubernetes.io/topology-mode"
DEPRECATED_HINTS = "service.kubernetes.io/topology-aware-hints"
OVERLOAD_THRESHOLD = Fraction(1, 5)

ENABLED = "Topology Aware Hints has been enabled"
DISABLED = "Topology Aware Hints has been disabled"
NO_NODE_INFO = "Insufficient Node information: allocatable CPU or zone not specified on one or more nodes"
ONE_ZONE = "Nodes only ready in one zone"
TOO_FEW = "Insufficient number of endpoints"
OVERLOAD = "Unable to allocate minimum required endpoints to each zone without exceeding overload threshold"
NO_ZONE = "One or more endpoints do not have a zone specified"

_EXCLUDED = ("node-role.kubernetes.io/control-plane", "node-role.kubernetes.io/master")


@dataclass(frozen=True, slots=True)
class Shares:
    """Every zone's part of the CPU, one together; or, with none, why they are not known."""

    ratios: Mapping[str, Fraction]
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Hinted:
    """The endpoints with their hints; or without any, and why."""

    backends: Sequence[Backend]
    reason: str = ""


def wants_hints(service: Object) -> bool:
    """Whether the Service asks for them. The older annotation is the first that is looked at, as upstream."""
    annotations = service["metadata"].get("annotations") or {}
    mode = annotations.get(DEPRECATED_HINTS, annotations.get(TOPOLOGY_MODE))
    return mode in {"Auto", "auto"} and not is_headless(service)


def node_part(node: Object) -> tuple[bool, str, str]:
    """What of a node its zone's share depends on: whether it counts, its zone, its CPU."""
    labels, status = meta.labels(node), node.get("status") or {}
    counts = meta.condition_is_true(node, "Ready") and not any(label in labels for label in _EXCLUDED)
    return counts, labels.get(ZONE, ""), str((status.get("allocatable") or {}).get("cpu") or "0")


def shares_of(nodes: Iterable[Object]) -> Shares:
    """The zones' shares of the CPU."""
    cpu: dict[str, Fraction] = {}
    for node in nodes:
        counts, zone, text = node_part(node)
        if not counts:
            continue
        amount = _cores(text)
        if not zone or amount <= 0:
            return Shares({}, NO_NODE_INFO)
        cpu[zone] = cpu.get(zone, Fraction(0)) + amount
    if not cpu:
        return Shares({}, NO_NODE_INFO)
    if len(cpu) < 2:
        return Shares({}, ONE_ZONE)
    total = sum(cpu.values())
    return Shares({zone: amount / total for zone, amount in sorted(cpu.items())})


def _cores(text: str) -> Fraction:
    return quantity.of(text).value if quantity.is_valid(text) else Fraction(0)


def minima(shares: Shares, endpoints: int) -> dict[str, int]:
    """How many endpoints each zone needs, lest its own have more than the threshold above what they should."""
    return {
        zone: max(1, math.ceil(ratio * endpoints / (1 + OVERLOAD_THRESHOLD))) for zone, ratio in shares.ratios.items()
    }


def add_hints(backends: Sequence[Backend], shares: Shares, current: Mapping[str, str]) -> Hinted:
    """Endpoints with hints by CPU. `current`: the zone that an endpoint serves now, by its key, if it has a hint."""
    bare = [_without_hint(backend) for backend in backends]
    ready = [backend for backend in bare if backend.endpoint["conditions"]["ready"]]
    reason = _refusal(ready, shares)
    if reason:
        return Hinted(bare, reason)
    needed = minima(shares, len(ready))
    own = {backend.key: str(backend.endpoint["zone"]) for backend in ready}
    zones = {key: current.get(key, zone) for key, zone in own.items()}
    if not current or not _is_balanced(zones.values(), needed):
        zones = _dealt(own, {zone: ratio * len(ready) for zone, ratio in shares.ratios.items()}, needed)
    return Hinted([_with_hint(backend, zones.get(backend.key, "")) for backend in bare])


def _refusal(ready: Sequence[Backend], shares: Shares) -> str:
    if shares.reason:
        return shares.reason
    zones, count = len(shares.ratios), len(ready)
    if count < zones:
        return f"{TOO_FEW} ({count} endpoints, {zones} zones)"
    if sum(minima(shares, count).values()) > count:
        return f"{OVERLOAD} ({count} endpoints, {zones} zones)"
    return NO_ZONE if any(not backend.endpoint.get("zone") for backend in ready) else ""


def _is_balanced(zones: Iterable[str], needed: Mapping[str, int]) -> bool:
    counts = Counter(zones)
    return counts.keys() <= needed.keys() and all(counts[zone] >= least for zone, least in needed.items())


def _dealt(zones: Mapping[str, str], desired: Mapping[str, Fraction], needed: Mapping[str, int]) -> dict[str, str]:
    """Endpoints given from zone to zone, one after the other, while somebody has too few or it brings both nearer to
    what they should have. A zone without a share of CPU gives all."""
    served = dict(sorted(zones.items()))
    counts = Counter(served.values())

    def surplus(zone: str) -> Fraction:
        return counts[zone] - desired.get(zone, Fraction(0))

    while True:
        givers = [zone for zone in sorted(counts) if counts[zone] > needed.get(zone, 0)]
        if not givers:
            return served
        giver = max(givers, key=surplus)
        receiver = min(sorted(needed), key=lambda zone: (counts[zone] >= needed[zone], surplus(zone)))
        is_needed = counts[receiver] < needed[receiver] or giver not in needed
        if giver == receiver or not (is_needed or surplus(giver) - surplus(receiver) > 1):
            return served
        # The last of its own first: who was given away before stays away, and the others where they are.
        served[[key for key, zone in served.items() if zone == giver][-1]] = receiver
        counts[giver] -= 1
        counts[receiver] += 1


def hints_of(slices: Iterable[Object]) -> dict[str, str]:
    """The zone that each endpoint of some slices serves, by its key."""
    found: dict[str, str] = {}
    for piece in slices:
        for endpoint in piece.get("endpoints") or ():
            zones = [str(zone.get("name", "")) for zone in (endpoint.get("hints") or {}).get("forZones") or ()]
            if len(zones) == 1:
                found[endpoint_key(endpoint)] = zones[0]
    return found


def _without_hint(backend: Backend) -> Backend:
    endpoint: dict[str, Any] = {key: value for key, value in backend.endpoint.items() if key != "hints"}
    return replace(backend, endpoint=endpoint)


def _with_hint(backend: Backend, zone: str) -> Backend:
    if not zone:
        return backend
    return replace(backend, endpoint={**backend.endpoint, "hints": {"forZones": [{"name": zone}]}})
