"""Services over the registry: addresses and node ports are settled before a write and recorded beside it.

    settle(new, old) ──▶ claim: IPAddress objects ──▶ the Service is written ──▶ release what it held before

The Services themselves say what is taken; an IPAddress object per cluster address says it where every client can see
it, and is the store's own "only one may have this" when several API servers allocate at once. `repair` makes the two
agree again after a crash between two of these steps, and after hands that deleted or invented IPAddress objects.

Rule: the caller holds the registry's lock from `settle` to `release`; nothing is remembered but a cache of what the
watch cache says. Source: KEP-1880; pkg/registry/core/service of Kubernetes 1.32.
"""

from __future__ import annotations

import hashlib
import logging
import random
import time
from collections.abc import Callable
from dataclasses import replace
from ipaddress import IPv4Network
from typing import Protocol

from podnet.controlplane.api.errors import StatusError, invalid, invalid_value
from podnet.controlplane.api.resources import EVENTS, IPADDRESSES, SERVICECIDRS, SERVICES
from podnet.controlplane.api.timestamps import format_time
from podnet.controlplane.api.types import Object, Resource
from podnet.controlplane.apiserver.allocation import ServiceRanges, Taken, allocate
from podnet.controlplane.apiserver.allocation.repair import (
    ALLOCATOR,
    MANAGED_BY,
    Complaint,
    is_ours,
    is_parent,
    plan_repair,
)
from podnet.controlplane.apiserver.allocation.taken import address_number, cluster_ips, node_ports
from podnet.controlplane.apiserver.keys import key_of, prefix_of
from podnet.controlplane.apiserver.options import DeleteOptions, WriteOptions
from podnet.controlplane.apiserver.watchcache import Entry, WatchCache

LOG = logging.getLogger(__name__)

FAMILY = "ipaddress.kubernetes.io/ip-family"
REPAIRER = "ipallocator-repair-controller"


class Records(Protocol):
    """What of the registry is used here."""

    cache: WatchCache

    async def create(self, resource: Resource, namespace: str, obj: Object, options: WriteOptions) -> Entry:
        """POST."""

    async def delete(self, resource: Resource, namespace: str, name: str, options: DeleteOptions) -> Object:
        """DELETE."""


class _Held:
    """What every Service holds, kept up with the watch cache: only entries of a new revision are looked into."""

    def __init__(self) -> None:
        self._seen: dict[str, tuple[int, Taken]] = {}
        self._addresses: dict[int, str] = {}
        self._node_ports: dict[int, str] = {}

    def follow(self, entries: list[Entry]) -> None:
        """Take over what changed since the last time."""
        for entry in entries:
            known = self._seen.get(entry.key)
            if known is None or known[0] != entry.revision:
                self._drop(entry.key)
                numbers = (address_number(address) for address in cluster_ips(entry.obj))
                found = Taken(frozenset(n for n in numbers if n is not None), frozenset(node_ports(entry.obj)))
                self._seen[entry.key] = (entry.revision, found)
                self._addresses |= dict.fromkeys(found.addresses, entry.key)
                self._node_ports |= dict.fromkeys(found.node_ports, entry.key)
        if len(self._seen) > len(entries):
            for key in self._seen.keys() - {entry.key for entry in entries}:
                self._drop(key)

    def _drop(self, key: str) -> None:
        """Forget one; a number that another has taken over meanwhile is that one's."""
        _, held = self._seen.pop(key, (0, Taken()))
        for numbers, owners in ((held.addresses, self._addresses), (held.node_ports, self._node_ports)):
            for number in numbers:
                if owners.get(number) == key:
                    del owners[number]

    def without(self, key: str) -> Taken:
        """What all but one hold."""
        _, mine = self._seen.get(key, (0, Taken()))
        return Taken(self._addresses.keys() - mine.addresses, self._node_ports.keys() - mine.node_ports)


class ServiceAllocator:
    """Gives Services what they need. `ranges` are the cluster's own; ServiceCIDR objects add to them."""

    def __init__(
        self,
        records: Records,
        ranges: ServiceRanges,
        draw: Callable[[int], int] = random.randrange,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._records = records
        self._draw = draw
        self._clock = clock
        self.ranges = ranges
        self._held = _Held()
        self._ours: dict[str, int] = {}

    def settle(self, new: Object, old: Object | None) -> None:
        """Complete a Service in place, or say with 422 why it may not have what it asks for."""
        me = key_of(SERVICES, new["metadata"]["namespace"], new["metadata"]["name"])
        ranges = replace(self.ranges, more=self._added_networks())
        causes = allocate(new, old, self._taken_by_others(me, new), ranges, self._draw)
        if causes:
            raise invalid("Service", new["metadata"]["name"], causes)

    async def claim(self, new: Object, old: Object | None) -> None:
        """Record the addresses that `new` has and `old` had not; all of them or none."""
        held = cluster_ips(old) if old is not None else []
        claimed: list[str] = []
        try:
            for address in cluster_ips(new):
                if address not in held:
                    await self._record(new, address)
                    claimed.append(address)
        except StatusError:
            for address in claimed:
                await self._forget(address)
            raise

    async def release(self, old: Object, new: Object | None) -> None:
        """Forget the addresses that `old` had and `new` has not."""
        kept = cluster_ips(new) if new is not None else []
        for address in cluster_ips(old):
            if address not in kept:
                await self._forget(address)

    async def repair(self) -> None:
        """Every cluster address has its IPAddress, and no IPAddress of ours stands for an address nobody has; what the
        user has to mend is told as an event on the Service."""
        recorded = {found["metadata"]["name"]: found for found in self._objects(IPADDRESSES)}
        ranges = replace(self.ranges, more=self._added_networks(ending=True))
        plan = plan_repair(self._services(), recorded, ranges)
        for service, address in plan.record:
            try:
                await self._record(service, address)
            except StatusError as error:  # a hand was quicker; the next repair sees what it did
                LOG.warning("no IPAddress for %s: %s", address, error)
        for address in plan.forget:
            await self._forget(address)
        for complaint in plan.complaints:
            await self._complain(complaint)

    async def _complain(self, complaint: Complaint) -> None:
        """Once for each Service and matter: the event says it until it expires, and then again."""
        body = event_of(complaint, format_time(self._clock()))
        namespace, name = body["metadata"]["namespace"], body["metadata"]["name"]
        if self._records.cache.of(EVENTS).get(key_of(EVENTS, namespace, name)) is not None:
            return
        LOG.warning("service %s/%s: %s", namespace, complaint.service["metadata"]["name"], complaint.message)
        try:
            await self._records.create(EVENTS, namespace, body, WriteOptions())
        except StatusError as error:
            LOG.warning("no event for it: %s", error)

    # -- what there is

    def _objects(self, resource: Resource) -> list[Object]:
        return [entry.obj for entry in self._records.cache.of(resource).range(prefix_of(resource))]

    def _services(self) -> list[Object]:
        return self._objects(SERVICES)

    def _added_networks(self, *, ending: bool = False) -> tuple[IPv4Network, ...]:
        added = []
        for found in self._objects(SERVICECIDRS):
            if found["metadata"].get("deletionTimestamp") and not ending:
                continue
            networks = [IPv4Network(cidr) for cidr in found["spec"].get("cidrs") or () if ":" not in cidr]
            added += [network for network in networks if network != self.ranges.network]
        return tuple(added)

    def _taken_by_others(self, me: str, service: Object) -> Taken:
        """What all Services but `me` hold, and the addresses others recorded by hand."""
        self._held.follow(self._records.cache.of(SERVICES).range(prefix_of(SERVICES)))
        taken = self._held.without(me)
        names = [record["metadata"]["name"] for record in self._foreign() if not is_parent(record, service)]
        numbers = {number for number in map(address_number, names) if number is not None}
        return replace(taken, addresses=taken.addresses | numbers)

    def _foreign(self) -> list[Object]:
        """The IPAddress objects that are not ours; that one is, is looked up once for each of its revisions."""
        entries = self._records.cache.of(IPADDRESSES).range(prefix_of(IPADDRESSES))
        unknown = [entry for entry in entries if self._ours.get(entry.key) != entry.revision]
        self._ours |= {entry.key: entry.revision for entry in unknown if is_ours(entry.obj)}
        if len(self._ours) > len(entries):
            self._ours = {entry.key: entry.revision for entry in entries if is_ours(entry.obj)}
        return [entry.obj for entry in unknown if not is_ours(entry.obj)]

    # -- records

    async def _record(self, service: Object, address: str) -> None:
        body = ip_address(service, address)
        for _ in range(2):
            try:
                await self._records.create(IPADDRESSES, "", body, WriteOptions(field_validation="Strict"))
            except StatusError as error:
                if not error.is_already_exists:
                    raise
            else:
                return
            await self._records.cache.wait_fresh()
            found = self._records.cache.of(IPADDRESSES).get(key_of(IPADDRESSES, "", address))
            if found is not None and is_parent(found.obj, service):
                return
            if found is not None and not (is_ours(found.obj) and self._is_stale(found.obj)):
                break
            await self._forget(address)  # a record that a crash left behind: its Service is gone or never came
            body = ip_address(service, address)
        text = f"failed to allocate IP {address}: provided IP is already allocated"
        raise invalid("Service", service["metadata"]["name"], [invalid_value("spec.clusterIPs", [address], text)])

    def _is_stale(self, record: Object) -> bool:
        parent = record["spec"]["parentRef"]
        key = key_of(SERVICES, parent.get("namespace") or "", parent.get("name") or "")
        holder = self._records.cache.of(SERVICES).get(key)
        return holder is None or record["metadata"]["name"] not in cluster_ips(holder.obj)

    async def _forget(self, address: str) -> None:
        try:
            await self._records.delete(IPADDRESSES, "", address, DeleteOptions())
        except StatusError as error:
            if not error.is_not_found:
                raise


def ip_address(service: Object, address: str) -> Object:
    """The IPAddress object that says: this address is that Service's."""
    metadata = service["metadata"]
    family = "IPv6" if ":" in address else "IPv4"
    return {
        "apiVersion": IPADDRESSES.api_version,
        "kind": IPADDRESSES.kind,
        "metadata": {"name": address, "labels": {FAMILY: family, MANAGED_BY: ALLOCATOR}},
        "spec": {"parentRef": {"resource": "services", "namespace": metadata["namespace"], "name": metadata["name"]}},
    }


def event_of(complaint: Complaint, now: str) -> Object:
    """The event that tells a complaint; its name is the same as long as the matter is."""
    service = complaint.service
    metadata = service["metadata"]
    digest = hashlib.sha256(f"{metadata.get('uid')}{complaint.message}".encode()).hexdigest()[:16]
    return {
        "apiVersion": EVENTS.api_version,
        "kind": EVENTS.kind,
        "metadata": {"name": f"{metadata['name']}.{digest}", "namespace": metadata["namespace"]},
        "involvedObject": {
            "apiVersion": SERVICES.api_version,
            "kind": SERVICES.kind,
            "namespace": metadata["namespace"],
            "name": metadata["name"],
            "uid": metadata.get("uid", ""),
        },
        "type": "Warning",
        "reason": complaint.reason,
        "message": complaint.message,
        "source": {"component": REPAIRER},
        "reportingComponent": REPAIRER,
        "firstTimestamp": now,
        "lastTimestamp": now,
        "count": 1,
    }
