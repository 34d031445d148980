"""Endpoints of Services: which pods, with which conditions and ports, in which slices."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from podnet.controlplane.api import meta
from podnet.controlplane.api.resources import ENDPOINTS, ENDPOINTSLICES, PODS, SERVICES
from podnet.controlplane.controllers.endpointslice.endpoints import desired_endpoints
from podnet.controlplane.controllers.endpointslice.layout import owned_by_service, plan_slices
from podnet.controlplane.controllers.endpointslice.plan import Backend, desired_backend, resolve_ports

Object = dict[str, Any]


def service(**spec: Any) -> Object:
    body = {"selector": {"app": "web"}, "ports": [{"name": "http", "port": 80, "targetPort": 8080}], **spec}
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "web", "namespace": "default", "uid": "s", "labels": {"team": "a"}},
        "spec": body,
    }


def pod(name: str = "p", ip: str = "10.244.1.5", *, ready: bool = True, **fields: Any) -> Object:
    metadata: Object = {"name": name, "namespace": "default", "uid": name, "labels": {"app": "web"}}
    if fields.get("deleting"):
        metadata["deletionTimestamp"] = "x"
    return {
        "metadata": metadata,
        "spec": {"nodeName": "n1", "containers": [{"ports": fields.get("ports", [])}], **fields.get("spec", {})},
        "status": {
            "podIP": ip,
            "phase": fields.get("phase", "Running"),
            "conditions": [{"type": "Ready", "status": "True" if ready else "False"}],
        },
    }


@pytest.mark.parametrize(
    ("given_pod", "spec", "expected"),
    [
        pytest.param(pod(), {}, (True, True, False), id="ready"),
        pytest.param(pod(ready=False), {}, (False, False, False), id="not ready"),
        pytest.param(pod(ready=False), {"publishNotReadyAddresses": True}, (True, False, False), id="published anyway"),
        pytest.param(pod(deleting=True), {}, (False, True, True), id="terminating, still serving"),
        pytest.param(pod(phase="Failed"), {}, None, id="failed"),
        pytest.param(pod(ip=""), {}, None, id="no address yet"),
    ],
)
def test_conditions(given_pod: Object, spec: Object, expected: tuple[bool, bool, bool] | None) -> None:
    backend = desired_backend(service(**spec), given_pod, "IPv4", lambda _: "zone-1")
    if expected is None:
        assert backend is None
        return
    assert backend is not None
    conditions = backend.endpoint["conditions"]
    assert (conditions["ready"], conditions["serving"], conditions["terminating"]) == expected
    assert backend.endpoint["nodeName"] == "n1"
    assert backend.endpoint["zone"] == "zone-1"


@pytest.mark.parametrize(
    ("ports", "pod_ports", "expected"),
    [
        pytest.param([{"port": 80}], [], [80], id="targetPort is port"),
        pytest.param(
            [{"port": 80, "targetPort": "web"}], [{"name": "web", "containerPort": 8080}], [8080], id="by name"
        ),
        pytest.param([{"port": 80, "targetPort": "web"}], [], [], id="the pod has no such port"),
        pytest.param(
            [{"port": 53, "targetPort": "dns", "protocol": "UDP"}],
            [
                {"name": "dns", "containerPort": 1, "protocol": "TCP"},
                {"name": "dns", "containerPort": 2, "protocol": "UDP"},
            ],
            [2],
            id="name and protocol",
        ),
    ],
)
def test_ports(ports: list[Object], pod_ports: list[Object], expected: list[int]) -> None:
    assert [port[1] for port in resolve_ports(service(ports=ports), pod(ports=pod_ports))] == expected


def test_a_stable_name_needs_its_own_service() -> None:
    named = pod(spec={"hostname": "web-0", "subdomain": "web"})
    backend = desired_backend(service(), named, "IPv4", lambda _: "")
    assert backend is not None
    assert backend.endpoint["hostname"] == "web-0"
    other = desired_backend(service(), pod(spec={"hostname": "web-0", "subdomain": "x"}), "IPv4", lambda _: "")
    assert other is not None
    assert "hostname" not in other.endpoint


def test_endpoints_group_by_ports_and_readiness_and_leave_out_the_dying() -> None:
    named = service(ports=[{"port": 80, "targetPort": "web"}])
    pods = [
        pod("a", "10.0.0.2", ports=[{"name": "web", "containerPort": 1}]),
        pod("b", "10.0.0.1", ports=[{"name": "web", "containerPort": 1}], ready=False),
        pod("c", "10.0.0.3", ports=[{"name": "web", "containerPort": 2}]),
        pod("d", "10.0.0.4", ports=[{"name": "web", "containerPort": 2}], deleting=True),
    ]
    found = [desired_backend(named, entry, "IPv4", lambda _: "") for entry in pods]
    subsets = desired_endpoints(named, [backend for backend in found if backend is not None])["subsets"]
    layout = [
        (
            [address["ip"] for address in subset.get("addresses", [])],
            [address["ip"] for address in subset.get("notReadyAddresses", [])],
            subset["ports"],
        )
        for subset in subsets
    ]
    assert layout == [
        (["10.0.0.2"], ["10.0.0.1"], [{"port": 1, "protocol": "TCP"}]),
        (["10.0.0.3"], [], [{"port": 2, "protocol": "TCP"}]),
    ]


def test_the_slice_says_whose_it_is() -> None:
    (body,) = plan_slices(owned_by_service(service(clusterIP="None")), "IPv4", [], []).create
    assert body["metadata"]["labels"] == {
        "team": "a",
        "kubernetes.io/service-name": "web",
        "endpointslice.kubernetes.io/managed-by": "endpointslice-controller.k8s.io",
        "service.kubernetes.io/headless": "",
    }
    assert body["metadata"]["ownerReferences"][0]["uid"] == "s"
    assert body["endpoints"] == []


def backend(number: int, ready: bool = True, port: int = 80) -> Backend:
    endpoint = {
        "addresses": [f"10.0.{number // 250}.{number % 250}"],
        "conditions": {"ready": ready},
        "targetRef": {"uid": str(number)},
    }
    return Backend((("", port, "TCP", ""),), endpoint)


STATE = st.dictionaries(st.integers(0, 250), st.tuples(st.booleans(), st.sampled_from([80, 81])), max_size=230)


@settings(max_examples=60, deadline=None)
@given(st.lists(STATE, min_size=1, max_size=4))
def test_slices_always_hold_just_the_backends_and_settle(states: list[dict[int, tuple[bool, int]]]) -> None:
    slices: dict[str, Object] = {}
    serial = 0
    for state in states:
        backends = [backend(number, ready, port) for number, (ready, port) in state.items()]
        changes = plan_slices(owned_by_service(service()), "IPv4", backends, [*slices.values()])
        for body in changes.delete:
            del slices[meta.name(body)]
        for body in changes.update:
            slices[meta.name(body)] = body
        for body in changes.create:
            serial += 1
            name = f"s{serial}"
            slices[name] = {**body, "metadata": {**body["metadata"], "name": name}}
        held = [
            (entry["targetRef"]["uid"], entry["conditions"]["ready"], found["ports"][0]["port"])
            for found in slices.values()
            for entry in found["endpoints"]
        ]
        assert sorted(held) == sorted((str(number), ready, port) for number, (ready, port) in state.items())
        assert all(len(found["endpoints"]) <= 100 for found in slices.values())
        assert len(slices) >= 1
        again = plan_slices(owned_by_service(service()), "IPv4", backends, [*slices.values()])
        assert (again.create, again.update, again.delete) == ((), (), ())


def test_one_change_rewrites_one_slice() -> None:
    backends = [backend(number) for number in range(150)]
    slices = []
    for index, body in enumerate(plan_slices(owned_by_service(service()), "IPv4", backends, []).create):
        slices.append({**body, "metadata": {**body["metadata"], "name": str(index)}})
    assert [len(found["endpoints"]) for found in slices] == [100, 50]
    backends[120] = backend(120, ready=False)
    changes = plan_slices(owned_by_service(service()), "IPv4", backends, slices)
    assert [meta.name(found) for found in changes.update] == ["1"]
    assert not changes.create
    assert not changes.delete


async def test_a_service_finds_its_pods_and_loses_them(plane: Any) -> None:
    plane.start()
    created = service(clusterIP="None")
    del created["metadata"]["uid"]
    await plane.client.create(SERVICES, created)
    from podnet.controlplane.api.resources import SERVICEACCOUNTS

    async def account() -> Any:
        return (await plane.client.list(SERVICEACCOUNTS, "default")).items

    await plane.until(account)
    await plane.add_node("node-1")
    body = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "p", "namespace": "default", "labels": {"app": "web"}},
        "spec": {"containers": [{"name": "c", "image": "nginx"}], "nodeName": "node-1"},
    }
    live = await plane.client.create(PODS, body)

    async def shown() -> Any:
        found = (await plane.client.list(ENDPOINTSLICES, "default")).items
        entries = [
            (entry["addresses"], entry["conditions"]["ready"]) for item in found for entry in item["endpoints"] or ()
        ]
        old = (await plane.client.list(ENDPOINTS, "default")).items
        subsets = [subset for item in old for subset in item.get("subsets") or ()]
        return entries, [[address["ip"] for address in subset.get("addresses", ())] for subset in subsets]

    async def shows(expected: Any) -> Any:
        return await shown() == expected

    address = {"status": {"podIP": "10.244.1.5", "podIPs": [{"ip": "10.244.1.5"}]}}
    await plane.client.patch(PODS, "p", "default", address, subresource="status")
    await plane.until(lambda: shows(([(["10.244.1.5"], False)], [[]])))
    await plane.set_ready(live)
    await plane.until(lambda: shows(([(["10.244.1.5"], True)], [["10.244.1.5"]])))
    await plane.client.delete(PODS, "p", "default", grace_period_s=0)
    await plane.until(lambda: shows(([], [])))
    await plane.client.delete(SERVICES, "web", "default")

    async def all_gone() -> bool:
        slices = (await plane.client.list(ENDPOINTSLICES, "default")).items
        return not slices and not (await plane.client.list(ENDPOINTS, "default")).items

    await plane.until(all_gone)
