"""ServiceCIDRs: each is said to be ready, and one that is deleted stays while Services have addresses from it alone.

    created ─▶ finalizer, Ready=True          deleted ─▶ Ready=False, Terminating ─▶ no address left ─▶ finalizer gone

Source: KEP-1880; kubernetes pkg/controller/servicecidrs.
"""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import ip_address, ip_network

from podnet.controlplane.api import meta
from podnet.controlplane.api.resources import IPADDRESSES, SERVICECIDRS
from podnet.controlplane.api.timestamps import format_time
from podnet.controlplane.api.types import Object
from podnet.controlplane.client.reconcile import DONE, Controller, Result
from podnet.controlplane.client.workqueue import WorkQueue
from podnet.controlplane.controllers.context import ControllerContext, handling

FINALIZER = "networking.k8s.io/service-cidr-finalizer"


def holds(cidr: Object, address: str) -> bool:
    """Whether an address is in one of the ranges."""
    found = ip_address(address)
    networks = [ip_network(text) for text in cidr["spec"].get("cidrs") or ()]
    return any(found.version == network.version and found in network for network in networks)


def is_needed(cidr: Object, others: Iterable[Object], addresses: Iterable[str]) -> bool:
    """Whether an address would be in no range, were this one gone."""
    staying = [other for other in others if meta.name(other) != meta.name(cidr) and not meta.is_terminating(other)]
    return any(holds(cidr, address) and not any(holds(other, address) for other in staying) for address in addresses)


class ServiceCIDRController:
    """One key per ServiceCIDR; any change of addresses looks again at those that wait to go."""

    def __init__(self, context: ControllerContext) -> None:
        self._context = context
        self._client = context.client
        self._cidrs = context.informers.of(SERVICECIDRS)
        self._addresses = context.informers.of(IPADDRESSES)
        self._queue = WorkQueue()

    async def run(self) -> None:
        """Reconcile until cancelled."""
        with handling((self._cidrs, self._on_cidr), (self._addresses, self._on_address)):
            await self._context.informers.wait_synced(self._cidrs, self._addresses)
            await Controller("servicecidr", self._queue, self.reconcile).run()

    def _on_cidr(self, _key: str, _old: Object | None, _new: Object | None) -> None:
        for cidr in self._cidrs.list():  # one that goes may keep another that is terminating, and the other way round
            self._queue.add(meta.key(cidr))

    def _on_address(self, _key: str, _old: Object | None, new: Object | None) -> None:
        for cidr in self._cidrs.list() if new is None else ():
            if meta.is_terminating(cidr):
                self._queue.add(meta.key(cidr))

    async def reconcile(self, key: str) -> Result:
        """One ServiceCIDR."""
        cidr = self._cidrs.get(key)
        if cidr is None:
            return DONE
        finalizers = cidr["metadata"].get("finalizers") or []
        if not meta.is_terminating(cidr):
            if FINALIZER not in finalizers:
                metadata = {**cidr["metadata"], "finalizers": [*finalizers, FINALIZER]}
                await self._client.update(SERVICECIDRS, {**cidr, "metadata": metadata})
                return DONE  # its echo brings us back
            await self._say(cidr, "True", "", "Kubernetes Service CIDR is ready")
            return DONE
        if FINALIZER not in finalizers:
            return DONE
        if is_needed(cidr, self._cidrs.list(), (meta.name(address) for address in self._addresses.list())):
            words = "There are still IPAddresses referencing the ServiceCIDR, please remove them or create a new ServiceCIDR"
            await self._say(cidr, "False", "Terminating", words)
            return DONE
        metadata = {**cidr["metadata"], "finalizers": [name for name in finalizers if name != FINALIZER]}
        await self._client.update(SERVICECIDRS, {**cidr, "metadata": metadata})
        return DONE

    async def _say(self, cidr: Object, status: str, reason: str, message: str) -> None:
        conditions = (cidr.get("status") or {}).get("conditions") or []
        ready: Object = next((found for found in conditions if found["type"] == "Ready"), {})
        if (ready.get("status"), ready.get("reason") or "") == (status, reason):
            return
        condition = {
            "type": "Ready",
            "status": status,
            "reason": reason,
            "message": message,
            "lastTransitionTime": format_time(self._context.clock()),
        }
        others = [found for found in conditions if found["type"] != "Ready"]
        body = {**cidr, "status": {"conditions": [*others, condition]}}
        await self._client.update(SERVICECIDRS, body, subresource="status")
