"""ServiceCIDRs: ready when made, kept while needed."""

from __future__ import annotations

from typing import Any

import pytest

from podnet.controlplane.api.resources import SERVICECIDRS, SERVICES
from podnet.controlplane.controllers.servicecidr import FINALIZER, is_needed


def cidr(name: str, *ranges: str, **metadata: Any) -> dict[str, Any]:
    return {
        "apiVersion": "networking.k8s.io/v1beta1",
        "kind": "ServiceCIDR",
        "metadata": {"name": name, **metadata},
        "spec": {"cidrs": [*ranges]},
    }


@pytest.mark.parametrize(
    ("others", "addresses", "needed"),
    [
        ([], [], False),
        ([], ["10.99.0.5"], True),
        ([], ["10.98.0.5"], False),
        ([cidr("b", "10.99.0.0/16")], ["10.99.0.5"], False),
        ([cidr("b", "10.99.0.0/16", deletionTimestamp="x")], ["10.99.0.5"], True),
        ([], ["fd00::5"], True),
    ],
    ids=["empty", "used", "another range", "covered", "covered by one that goes, too", "other family"],
)
def test_when_a_range_is_needed(others: list[dict[str, Any]], addresses: list[str], needed: bool) -> None:
    mine = cidr("a", "10.99.0.0/24", "fd00::/64")
    assert is_needed(mine, [mine, *others], addresses) is needed


async def test_it_is_ready_and_stays_while_a_service_has_an_address_from_it(plane: Any) -> None:
    plane.start("servicecidr")
    await plane.client.create(SERVICECIDRS, cidr("more", "10.99.0.0/24"))

    async def condition() -> Any:
        found = await plane.client.get(SERVICECIDRS, "more")
        return [(c["status"], c["reason"]) for c in (found.get("status") or {}).get("conditions") or ()]

    async def is_ready() -> bool:
        return await condition() == [("True", "")]

    await plane.until(is_ready)
    assert (await plane.client.get(SERVICECIDRS, "more"))["metadata"]["finalizers"] == [FINALIZER]
    body = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "x", "namespace": "default"}}
    await plane.client.create(SERVICES, {**body, "spec": {"ports": [{"port": 80}], "clusterIP": "10.99.0.9"}})
    await plane.client.delete(SERVICECIDRS, "more")

    async def is_kept() -> bool:
        return await condition() == [("False", "Terminating")]

    await plane.until(is_kept)
    await plane.client.delete(SERVICES, "x", "default")

    async def is_gone() -> bool:
        return not (await plane.client.list(SERVICECIDRS)).items

    await plane.until(is_gone)
