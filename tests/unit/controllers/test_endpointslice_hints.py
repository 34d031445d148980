"""Hints by CPU: shares of zones, when there are none, who serves which zone. Pure, and once with a control plane."""

from __future__ import annotations

from collections import Counter
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from podnet.controlplane.api.resources import ENDPOINTSLICES, EVENTS, NODES, PODS, SERVICEACCOUNTS, SERVICES
from podnet.controlplane.controllers.endpointslice import hints
from podnet.controlplane.controllers.endpointslice.hints import add_hints, hints_of, minima, shares_of, wants_hints
from podnet.controlplane.controllers.endpointslice.plan import Backend

Object = dict[str, Any]
ZONE = "topology.kubernetes.io/zone"
CONTROL_PLANE = {"node-role.kubernetes.io/control-plane": ""}
AUTO = {"service.kubernetes.io/topology-mode": "Auto"}


def node(zone: str = "", cpu: str = "1", ready: str = "True", labels: Object | None = None) -> Object:
    return {
        "metadata": {"name": "n", "labels": {**({ZONE: zone} if zone else {}), **(labels or {})}},
        "status": {"allocatable": {"cpu": cpu}, "conditions": [{"type": "Ready", "status": ready}]},
    }


def backend(name: str, zone: str = "", *, ready: bool = True) -> Backend:
    conditions = {"ready": ready, "serving": ready, "terminating": False}
    endpoint = {"addresses": ["10.0.0.1"], "conditions": conditions, "targetRef": {"uid": name}}
    return Backend((), {**endpoint, **({"zone": zone} if zone else {})})


def in_zones(**counts: int) -> list[Backend]:
    return [backend(f"{zone}{number}", zone) for zone, count in counts.items() for number in range(count)]


def served(backends: Any) -> dict[str, int]:
    """How many endpoints serve each zone."""
    return dict(Counter(hints_of([{"endpoints": [each.endpoint for each in backends]}]).values()))


@pytest.mark.parametrize(
    ("nodes", "ratios", "reason"),
    [
        pytest.param([node("a"), node("b")], {"a": (1, 2), "b": (1, 2)}, "", id="equal"),
        pytest.param([node("a", "1500m"), node("a"), node("b", "500m")], {"a": (5, 6), "b": (1, 6)}, "", id="by CPU"),
        pytest.param(
            [node("a"), node("b"), node("c", labels=CONTROL_PLANE)],
            {"a": (1, 2), "b": (1, 2)},
            "",
            id="the control plane's nodes do not count",
        ),
        pytest.param(
            [node("a"), node("b"), node("", ready="False")],
            {"a": (1, 2), "b": (1, 2)},
            "",
            id="nodes that are not ready do not count",
        ),
        pytest.param([node("a"), node("")], {}, hints.NO_NODE_INFO, id="a node without a zone"),
        pytest.param([node("a"), node("b", "0")], {}, hints.NO_NODE_INFO, id="a node without CPU"),
        pytest.param([node("a"), node("a")], {}, hints.ONE_ZONE, id="one zone"),
        pytest.param([], {}, hints.NO_NODE_INFO, id="no node"),
    ],
)
def test_a_zone_has_its_share_of_the_cpu(nodes: list[Object], ratios: Object, reason: str) -> None:
    found = shares_of(nodes)
    assert (dict(found.ratios), found.reason) == ({zone: Fraction(*part) for zone, part in ratios.items()}, reason)


EQUAL = [node("a"), node("b")]
THREE = [node("a"), node("b"), node("c")]


@pytest.mark.parametrize(
    ("nodes", "behind", "reason"),
    [
        (EQUAL, in_zones(a=1), "Insufficient number of endpoints (1 endpoints, 2 zones)"),
        (EQUAL, [], "Insufficient number of endpoints (0 endpoints, 2 zones)"),
        (THREE, in_zones(a=4), f"{hints.OVERLOAD} (4 endpoints, 3 zones)"),
        (EQUAL, [*in_zones(a=2, b=1), backend("x")], hints.NO_ZONE),
        (EQUAL, [*in_zones(a=1), backend("x", "b", ready=False)], f"{hints.TOO_FEW} (1 endpoints, 2 zones)"),
        ([node("a")], in_zones(a=4), hints.ONE_ZONE),
    ],
    ids=["one", "none", "overload", "no zone", "not ready", "one zone"],
)
def test_when_there_are_no_hints(nodes: list[Object], behind: list[Backend], reason: str) -> None:
    hinted = [Backend(each.ports, {**each.endpoint, "hints": {"forZones": [{"name": "a"}]}}) for each in behind]
    found = add_hints(hinted, shares_of(nodes), {})
    assert found.reason == reason
    assert served(found.backends) == {}


@pytest.mark.parametrize(
    ("nodes", "behind", "expected"),
    [
        (EQUAL, in_zones(a=1, b=1), {"a": 1, "b": 1}),
        (EQUAL, in_zones(a=4), {"a": 2, "b": 2}),
        (EQUAL, in_zones(a=8, b=12), {"a": 10, "b": 10}),
        (THREE, in_zones(a=3), {"a": 1, "b": 1, "c": 1}),
        (THREE, in_zones(a=5, b=3, c=1), {"a": 3, "b": 3, "c": 3}),
        ([node("a", "3"), node("b")], in_zones(a=2, b=2), {"a": 3, "b": 1}),
        (EQUAL, in_zones(a=3, b=2, c=1), {"a": 3, "b": 3}),
    ],
    ids=["already", "all in one", "many", "three", "from two to one", "more CPU", "a zone without nodes"],
)
def test_endpoints_are_dealt_by_cpu(nodes: list[Object], behind: list[Backend], expected: dict[str, int]) -> None:
    found = add_hints(behind, shares_of(nodes), {})
    assert (served(found.backends), found.reason) == (expected, "")


def test_who_need_not_go_elsewhere_serves_its_own_zone() -> None:
    found = add_hints(in_zones(a=3, b=1), shares_of(EQUAL), {}).backends
    given_away = [each.key for each in found if each.endpoint["hints"]["forZones"] != [{"name": each.endpoint["zone"]}]]
    assert given_away == ["a2"]


def test_one_that_is_not_ready_has_no_hint() -> None:
    found = add_hints([*in_zones(a=1, b=1), backend("x", "a", ready=False)], shares_of(EQUAL), {})
    assert ["hints" in each.endpoint for each in found.backends] == [True, True, False]


def test_hints_stay_while_nobody_is_overloaded() -> None:
    behind = in_zones(a=10, b=10)
    current = hints_of([{"endpoints": [each.endpoint for each in add_hints(behind, shares_of(EQUAL), {}).backends]}])
    assert served(add_hints(behind[1:], shares_of(EQUAL), current).backends) == {"a": 9, "b": 10}
    assert served(add_hints(behind[6:], shares_of(EQUAL), current).backends) == {"a": 7, "b": 7}


zones = st.sampled_from("abcd")


@given(
    st.dictionaries(st.sampled_from("abc"), st.integers(1, 64), min_size=2),
    st.lists(zones, max_size=40),
    st.dictionaries(st.integers(0, 39), zones),
)
def test_all_have_hints_and_every_zone_enough_or_nobody_has(
    cpu: dict[str, int], where: list[str], old: dict[int, str]
) -> None:
    shares = shares_of([node(zone, str(amount)) for zone, amount in cpu.items()])
    behind = [backend(str(number), zone) for number, zone in enumerate(where)]
    found = add_hints(behind, shares, {str(number): zone for number, zone in old.items()})
    counts = served(found.backends)
    if found.reason:
        assert counts == {}
        return
    assert sum(counts.values()) == len(where)
    needed = minima(shares, len(where))
    assert counts.keys() == needed.keys()
    assert all(counts[zone] >= least for zone, least in needed.items())
    again = add_hints(behind, shares, hints_of([{"endpoints": [each.endpoint for each in found.backends]}]))
    assert again == found, "asked again, nothing moves"


@pytest.mark.parametrize(
    ("annotations", "spec", "wants"),
    [
        (AUTO, {}, True),
        ({"service.kubernetes.io/topology-mode": "auto"}, {}, True),
        ({"service.kubernetes.io/topology-aware-hints": "Auto"}, {}, True),
        ({"service.kubernetes.io/topology-mode": "Disabled"}, {}, False),
        (AUTO, {"clusterIP": "None"}, False),
        ({}, {"trafficDistribution": "PreferClose"}, False),
    ],
    ids=["Auto", "auto", "older", "another mode", "headless", "by distribution"],
)
def test_who_asks_for_them(annotations: Object, spec: Object, wants: bool) -> None:
    assert wants_hints({"metadata": {"annotations": annotations}, "spec": spec}) is wants


async def test_hints_come_and_go_with_what_they_need_and_say_so(plane: Any) -> None:
    plane.start("serviceaccount", "endpointslice")

    async def account() -> Any:
        return (await plane.client.list(SERVICEACCOUNTS, "default")).items

    async def label(name: str, zone: str | None) -> None:
        await plane.client.patch(NODES, name, "", {"metadata": {"labels": {ZONE: zone}}})

    await plane.until(account)
    for name, zone in (("n1", "a"), ("n2", "b")):
        await plane.add_node(name)
        await label(name, zone)
    spec = {"selector": {"app": "web"}, "ports": [{"port": 80}]}
    metadata = {"name": "web", "namespace": "default", "annotations": AUTO}
    await plane.client.create(SERVICES, {"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": spec})
    for number in range(2):
        body = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": f"p{number}", "namespace": "default", "labels": {"app": "web"}},
            "spec": {"containers": [{"name": "c", "image": "nginx"}], "nodeName": "n1"},
        }
        live = await plane.client.create(PODS, body)
        patch = {"status": {"podIP": f"10.244.1.{number + 2}", "podIPs": [{"ip": f"10.244.1.{number + 2}"}]}}
        await plane.client.patch(PODS, f"p{number}", "default", patch, subresource="status")
        await plane.set_ready(live)

    async def told() -> list[tuple[str, str]]:
        events = (await plane.client.list(EVENTS, "default")).items
        return [(found["reason"], found["message"]) for found in events if "Hints" in found["reason"]]

    async def are(*expected: str) -> None:
        async def same() -> bool:
            (found,) = (await plane.client.list(ENDPOINTSLICES, "default")).items
            return sorted(hints_of([found]).values()) == [*expected]

        await plane.until(same)

    async def said(reason: str, message: str) -> None:
        async def there() -> bool:
            return (reason, message) in await told()

        await plane.until(there)

    await are("a", "b")
    await said("TopologyAwareHintsEnabled", f"{hints.ENABLED}, addressType: IPv4")
    await label("n2", None)
    await are()
    await said("TopologyAwareHintsDisabled", f"{hints.NO_NODE_INFO}, addressType: IPv4")
    await label("n2", "b")
    await are("a", "b")
    off = {"metadata": {"annotations": {"service.kubernetes.io/topology-mode": None}}}
    await plane.client.patch(SERVICES, "web", "default", off)
    await are()
    await said("TopologyAwareHintsDisabled", f"{hints.DISABLED}, addressType: IPv4")
