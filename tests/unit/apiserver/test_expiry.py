"""Events run out an hour after they last happened; bootstrap objects come back."""

from __future__ import annotations

from typing import Any

import pytest

from podnet.controlplane.api import resources as r
from podnet.controlplane.api.timestamps import format_micro_time, format_time
from podnet.controlplane.apiserver.bootstrap import ensure_bootstrap
from podnet.controlplane.apiserver.expiry import EVENT_TTL_S, expire_events
from podnet.controlplane.apiserver.local import LocalClient
from podnet.controlplane.apiserver.registry import Registry


def event(name: str, **times: Any) -> dict[str, Any]:
    reference = {"kind": "Pod", "namespace": "default", "name": "p"}
    return {
        "metadata": {"name": name, "namespace": "default"},
        "involvedObject": reference,
        "reason": "R",
        "message": "m",
        **times,
    }


@pytest.mark.parametrize("age", [0.0, EVENT_TTL_S - 1, EVENT_TTL_S + 1])
async def test_an_events_hour(client: LocalClient, registry: Registry, clock: Any, age: float) -> None:
    await client.create(r.EVENTS, event("e"))
    clock.now += age
    assert await expire_events(registry) == (1 if age > EVENT_TTL_S else 0)
    assert len((await client.list(r.EVENTS)).items) == (0 if age > EVENT_TTL_S else 1)


@pytest.mark.parametrize("field", ["lastTimestamp", "eventTime"])
async def test_an_event_that_goes_on_stays(client: LocalClient, registry: Registry, clock: Any, field: str) -> None:
    late = clock.now + EVENT_TTL_S
    text = format_micro_time(late) if field == "eventTime" else format_time(late)
    extra = (
        {"reportingComponent": "x.y/z", "reportingInstance": "i", "action": "A", "type": "Normal"}
        if field == "eventTime"
        else {}
    )
    await client.create(r.EVENTS, event("e", **{field: text}, **extra))
    clock.now += EVENT_TTL_S + 10
    assert await expire_events(registry) == 0


async def test_what_was_there_from_the_start_comes_back(client: LocalClient, registry: Registry) -> None:
    for resource, name in (
        (r.SERVICES, "kubernetes"),
        (r.ENDPOINTS, "kubernetes"),
        (r.ENDPOINTSLICES, "kubernetes"),
    ):
        namespace = "default" if resource.namespaced else ""
        await client.delete(resource, name, namespace)
        await ensure_bootstrap(registry, advertise_address="192.168.100.1", port=6443)
        assert (await client.get(resource, name, namespace))["metadata"]["name"] == name
    assert (await client.get(r.SERVICES, "kubernetes", "default"))["spec"]["clusterIP"] == "10.96.0.1"


async def test_a_namespace_that_goes_is_waited_for(client: LocalClient, registry: Registry) -> None:
    await client.delete(r.NAMESPACES, "kube-node-lease")
    await client.delete(r.SERVICEACCOUNTS, "default", "kube-node-lease")
    await ensure_bootstrap(registry, advertise_address="192.168.100.1", port=6443)
    namespace = await client.get(r.NAMESPACES, "kube-node-lease")
    await client.update(r.NAMESPACES, {**namespace, "spec": {"finalizers": []}}, subresource="finalize")
    await ensure_bootstrap(registry, advertise_address="192.168.100.1", port=6443)
    assert (await client.get(r.NAMESPACES, "kube-node-lease"))["status"]["phase"] == "Active"


async def test_ensuring_twice_writes_nothing(registry: Registry) -> None:
    before = await registry.store.revision()
    await ensure_bootstrap(registry, advertise_address="192.168.100.1", port=6443)
    assert await registry.store.revision() == before


async def test_a_new_address_is_told(client: LocalClient, registry: Registry) -> None:
    await ensure_bootstrap(registry, advertise_address="192.168.100.7", port=7000)
    endpoints = await client.get(r.ENDPOINTS, "kubernetes", "default")
    assert endpoints["subsets"][0]["addresses"] == [{"ip": "192.168.100.7"}]
    slices = await client.get(r.ENDPOINTSLICES, "kubernetes", "default")
    assert (slices["endpoints"][0]["addresses"], slices["ports"][0]["port"]) == (["192.168.100.7"], 7000)
