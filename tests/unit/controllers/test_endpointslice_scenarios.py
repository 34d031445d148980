"""The endpoint controllers against the real registry: mirroring, hand-made slices, orphans, zones."""

from __future__ import annotations

import time
from typing import Any

from podnet.controlplane.api.resources import ENDPOINTS, ENDPOINTSLICES, NODES, PODS, SERVICEACCOUNTS, SERVICES

Object = dict[str, Any]


def service(name: str = "db", **spec: Any) -> Object:
    spec.setdefault("ports", [{"port": 80}])
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "namespace": "default"}, "spec": spec}


def endpoints(name: str = "db", *ips: str) -> Object:
    subsets = [{"addresses": [{"ip": ip} for ip in ips], "ports": [{"port": 5432, "protocol": "TCP"}]}] if ips else []
    metadata = {"name": name, "namespace": "default"}
    return {"apiVersion": "v1", "kind": "Endpoints", "metadata": metadata, "subsets": subsets}


async def addresses(plane: Any) -> list[tuple[str, list[str]]]:
    found = (await plane.client.list(ENDPOINTSLICES, "default")).items
    label = "endpointslice.kubernetes.io/managed-by"
    return sorted(
        (
            item["metadata"]["labels"].get(label, ""),
            sorted(a for e in item.get("endpoints") or () for a in e["addresses"]),
        )
        for item in found
    )


async def shows(plane: Any, *expected: tuple[str, list[str]]) -> None:
    async def same() -> bool:
        return await addresses(plane) == [*expected]

    try:
        await plane.until(same)
    except AssertionError:
        assert await addresses(plane) == [*expected]


MIRROR = "endpointslicemirroring-controller.k8s.io"


async def test_hand_made_endpoints_are_mirrored_from_birth_to_death(plane: Any) -> None:
    plane.start("endpointslice", "endpointslicemirroring", "garbage-collector")
    await plane.client.create(SERVICES, service())
    await plane.client.create(ENDPOINTS, endpoints("db", "192.0.2.5"))
    await shows(plane, (MIRROR, ["192.0.2.5"]))
    live = await plane.client.get(ENDPOINTS, "db", "default")
    await plane.client.update(ENDPOINTS, {**live, "subsets": endpoints("db", "192.0.2.6", "192.0.2.7")["subsets"]})
    await shows(plane, (MIRROR, ["192.0.2.6", "192.0.2.7"]))
    await plane.client.delete(ENDPOINTS, "db", "default")
    await shows(plane)


async def test_endpoints_may_come_before_their_service(plane: Any) -> None:
    plane.start("endpointslice", "endpointslicemirroring")
    await plane.client.create(ENDPOINTS, endpoints("db", "192.0.2.5"))
    await plane.client.create(SERVICES, service())
    await shows(plane, (MIRROR, ["192.0.2.5"]))


async def test_a_hand_made_slice_is_left_alone(plane: Any) -> None:
    plane.start("endpointslice", "endpointslicemirroring")
    mine = {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {"name": "mine", "namespace": "default", "labels": {"kubernetes.io/service-name": "web"}},
        "addressType": "IPv4",
        "endpoints": [{"addresses": ["192.0.2.9"]}],
        "ports": [{"port": 80}],
    }
    await plane.client.create(ENDPOINTSLICES, mine)
    await plane.client.create(SERVICES, service("web", selector={"app": "web"}))
    await shows(plane, ("", ["192.0.2.9"]), ("endpointslice-controller.k8s.io", []))


async def test_a_slice_that_somebody_deleted_or_bent_comes_back(plane: Any) -> None:
    plane.start("endpointslice")
    await plane.client.create(SERVICES, service("web", selector={"app": "web"}))
    await shows(plane, ("endpointslice-controller.k8s.io", []))
    (found,) = (await plane.client.list(ENDPOINTSLICES, "default")).items
    await plane.client.update(ENDPOINTSLICES, {**found, "endpoints": [{"addresses": ["192.0.2.1"]}]})
    await shows(plane, ("endpointslice-controller.k8s.io", []))
    await plane.client.delete(ENDPOINTSLICES, found["metadata"]["name"], "default")
    await shows(plane, ("endpointslice-controller.k8s.io", []))


async def test_endpoints_without_a_service_go_when_the_controller_starts(plane: Any) -> None:
    leader = endpoints("leader")
    leader["metadata"]["annotations"] = {"control-plane.alpha.kubernetes.io/leader": "{}"}
    await plane.client.create(ENDPOINTS, leader)
    await plane.client.create(ENDPOINTS, endpoints("orphan", "192.0.2.5"))
    await plane.client.create(SERVICES, service("kept"))
    await plane.client.create(ENDPOINTS, endpoints("kept", "192.0.2.5"))
    plane.start("endpointslice")

    async def only_these() -> bool:
        names = sorted(found["metadata"]["name"] for found in (await plane.client.list(ENDPOINTS, "default")).items)
        return names == ["kept", "leader"]

    await plane.until(only_these)


async def running_pod(plane: Any, name: str, ip: str, node: str) -> Object:
    body = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": "default", "labels": {"app": "web"}},
        "spec": {"containers": [{"name": "c", "image": "nginx"}], "nodeName": node},
    }
    live: Object = await plane.client.create(PODS, body)
    patch = {"status": {"podIP": ip, "podIPs": [{"ip": ip}]}}
    await plane.client.patch(PODS, name, "default", patch, subresource="status")
    return live


async def start_with_account(plane: Any, *names: str) -> None:
    plane.start("serviceaccount", *names)

    async def account() -> Any:
        return (await plane.client.list(SERVICEACCOUNTS, "default")).items

    await plane.until(account)


async def test_a_node_that_comes_to_a_zone_takes_its_endpoints_along(plane: Any) -> None:
    await start_with_account(plane, "endpointslice")
    await plane.add_node("n1")
    await plane.client.create(SERVICES, service("web", selector={"app": "web"}, trafficDistribution="PreferClose"))
    await plane.set_ready(await running_pod(plane, "p", "10.244.1.5", "n1"))
    await shows(plane, ("endpointslice-controller.k8s.io", ["10.244.1.5"]))
    zone = {"metadata": {"labels": {"topology.kubernetes.io/zone": "east"}}}
    await plane.client.patch(NODES, "n1", "", zone)

    async def hinted() -> bool:
        (found,) = (await plane.client.list(ENDPOINTSLICES, "default")).items
        (endpoint,) = found["endpoints"]
        return endpoint.get("zone") == "east" and endpoint.get("hints") == {"forZones": [{"name": "east"}]}

    await plane.until(hinted)


async def test_a_ready_pod_is_in_its_slice_at_once(plane: Any) -> None:
    """Not a budget, a guard against a queue that waits: the best of five, in memory."""
    await start_with_account(plane, "endpointslice")
    await plane.add_node("n1")
    await plane.client.create(SERVICES, service("web", selector={"app": "web"}))
    live = await running_pod(plane, "p", "10.244.1.5", "n1")
    best_s = 1.0
    for turn in range(5):
        ready = turn % 2 == 0

        async def is_so(ready: bool = ready) -> bool:
            (found,) = (await plane.client.list(ENDPOINTSLICES, "default")).items
            endpoints = found.get("endpoints") or [{"conditions": {}}]
            return endpoints[0]["conditions"].get("ready") is ready

        started = time.perf_counter()
        await plane.set_ready(live, ready=ready)
        await plane.until(is_so)
        best_s = min(best_s, time.perf_counter() - started)
    assert best_s < 0.2
