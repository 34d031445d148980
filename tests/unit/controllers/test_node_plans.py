"""Node IPAM, node lifecycle, taint eviction, pod garbage: the pure parts."""

from __future__ import annotations

from ipaddress import ip_network
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from podnet.controlplane.controllers.nodeipam.plan import plan_subnet, used_subnets
from podnet.controlplane.controllers.nodelifecycle.eviction import eviction_due
from podnet.controlplane.controllers.nodelifecycle.plan import (
    Heartbeat,
    desired_taints,
    observe_heartbeat,
    plan_eviction,
    unknown_conditions,
)
from podnet.controlplane.controllers.podgc import OUT_OF_SERVICE, excess_terminated, is_out_of_service

NOW = 86_400.0
STAMP = "1970-01-02T00:00:00Z"


@pytest.mark.parametrize(
    ("cluster", "length", "used", "expected"),
    [
        pytest.param("10.244.0.0/16", 24, [], "10.244.0.0/24", id="the first"),
        pytest.param("10.244.0.0/16", 24, ["10.244.0.0/24", "10.244.2.0/24"], "10.244.1.0/24", id="the lowest gap"),
        pytest.param("10.244.0.0/23", 24, ["10.244.0.0/24", "10.244.1.0/24"], None, id="exhausted"),
        pytest.param("10.244.0.0/16", 24, ["10.244.0.128/25"], "10.244.1.0/24", id="a smaller one is in the way"),
        pytest.param("10.244.0.0/16", 24, ["10.244.0.0/22"], "10.244.4.0/24", id="a larger one is in the way"),
        pytest.param("10.244.0.0/16", 24, ["192.168.0.0/24"], "10.244.0.0/24", id="foreign ones do not matter"),
        pytest.param("10.244.0.0/16", 24, ["10.0.0.0/8"], None, id="all of it is taken"),
        pytest.param("fd00::/56", 64, ["fd00::/64", "10.244.0.0/24"], "fd00:0:0:1::/64", id="IPv6"),
    ],
)
def test_plan_subnet(cluster: str, length: int, used: list[str], expected: str | None) -> None:
    found = plan_subnet(ip_network(cluster), length, [ip_network(text) for text in used])
    assert found == (ip_network(expected) if expected else None)


@given(st.lists(st.sampled_from(["add", "remove"]), max_size=80), st.randoms(use_true_random=False))
def test_no_two_nodes_ever_share_addresses(steps: list[str], random: Any) -> None:
    cluster = ip_network("10.0.0.0/20")
    held: list[Any] = []
    for step in steps:
        if step == "remove" and held:
            held.pop(random.randrange(len(held)))
            continue
        subnet = plan_subnet(cluster, 24, held)
        assert (subnet is None) == (len(held) == 16)
        if subnet is not None:
            assert not any(subnet.overlaps(other) for other in held)
            assert subnet.subnet_of(cluster)
            held.append(subnet)


def test_promised_subnets_count_as_used() -> None:
    nodes = [{"spec": {"podCIDR": "10.244.3.0/24"}}, {"spec": {}}]
    found = used_subnets(nodes, {"new": "10.244.0.0/24"})
    assert {str(network) for network in found} == {"10.244.3.0/24", "10.244.0.0/24"}


def node(*conditions: tuple[str, str], **spec: Any) -> dict[str, Any]:
    return {
        "metadata": {"name": "n", "creationTimestamp": "1970-01-01T00:00:00Z"},
        "spec": spec,
        "status": {"conditions": [{"type": kind, "status": status} for kind, status in conditions]},
    }


def taint(key: str, effect: str) -> tuple[str, str]:
    return (f"node.kubernetes.io/{key}", effect)


@pytest.mark.parametrize(
    ("given_node", "expected"),
    [
        pytest.param(node(("Ready", "True")), set(), id="ready"),
        pytest.param(node(), {taint("not-ready", "NoSchedule")}, id="never said so"),
        pytest.param(
            node(("Ready", "False")),
            {taint("not-ready", "NoSchedule"), taint("not-ready", "NoExecute")},
            id="not ready",
        ),
        pytest.param(
            node(("Ready", "Unknown")),
            {taint("unreachable", "NoSchedule"), taint("unreachable", "NoExecute")},
            id="unreachable",
        ),
        pytest.param(
            node(("Ready", "True"), unschedulable=True), {taint("unschedulable", "NoSchedule")}, id="cordoned"
        ),
        pytest.param(
            node(("Ready", "True"), ("DiskPressure", "True"), ("PIDPressure", "Unknown")),
            {taint("disk-pressure", "NoSchedule")},
            id="pressure",
        ),
    ],
)
def test_desired_taints(given_node: dict[str, Any], expected: set[tuple[str, str]]) -> None:
    taints = desired_taints(given_node, NOW)
    assert {(entry["key"], entry["effect"]) for entry in taints} == expected
    assert all(entry["timeAdded"] == STAMP for entry in taints)
    settled = {**given_node, "spec": {**given_node["spec"], "taints": taints}}
    assert desired_taints(settled, NOW + 99) == taints


def test_other_peoples_taints_stay_and_ours_go() -> None:
    own = {"key": "node.kubernetes.io/unreachable", "effect": "NoExecute", "timeAdded": STAMP}
    other = {"key": "dedicated", "value": "x", "effect": "NoSchedule"}
    assert desired_taints(node(("Ready", "True"), taints=[own, other]), NOW) == [other]


def test_a_silent_node_is_unknown() -> None:
    conditions = unknown_conditions(node(("Ready", "True"), ("NetworkUnavailable", "False")), NOW)
    found = {entry["type"]: (entry["status"], entry.get("reason"), entry.get("message")) for entry in conditions}
    assert found["Ready"] == ("Unknown", "NodeStatusUnknown", "Kubelet stopped posting node status.")
    assert found["DiskPressure"] == ("Unknown", "NodeStatusNeverUpdated", "Kubelet never posted node status.")
    assert found["NetworkUnavailable"] == ("False", None, None)
    again = {"metadata": {}, "status": {"conditions": conditions}}
    assert unknown_conditions(again, NOW + 50) == conditions


def test_a_heartbeat_is_a_change_and_is_timed_by_our_clock() -> None:
    bare = node(("Ready", "True"))
    first = observe_heartbeat(None, bare, None, 1.0)
    assert observe_heartbeat(first, bare, None, 5.0) is first
    renewed = observe_heartbeat(first, bare, {"spec": {"renewTime": "1999-01-01T00:00:00Z"}}, 6.0)
    assert renewed == Heartbeat("1999-01-01T00:00:00Z", "", 6.0)
    posted = node()
    posted["status"]["conditions"] = [{"type": "Ready", "status": "True", "lastHeartbeatTime": "t"}]
    assert observe_heartbeat(first, posted, None, 7.0).seen == 7.0


TAINT = {"key": "k", "effect": "NoExecute", "timeAdded": STAMP}


@pytest.mark.parametrize(
    ("taints", "tolerations", "expected"),
    [
        pytest.param([TAINT], [], 5.0, id="not tolerated: at once"),
        pytest.param([TAINT], [{"operator": "Exists"}], None, id="for ever"),
        pytest.param([TAINT], [{"key": "k", "operator": "Exists", "tolerationSeconds": 30}], NOW + 30, id="a while"),
        pytest.param(
            [{"key": "k", "effect": "NoExecute"}],
            [{"key": "k", "operator": "Exists", "tolerationSeconds": 30}],
            35.0,
            id="from when it was seen, if it does not say",
        ),
        pytest.param(
            [TAINT, {"key": "other", "effect": "NoExecute", "timeAdded": STAMP}],
            [
                {"operator": "Exists", "tolerationSeconds": 60},
                {"key": "k", "operator": "Exists", "tolerationSeconds": 9},
            ],
            NOW + 9,
            id="the earliest of two",
        ),
    ],
)
def test_eviction_due(taints: list, tolerations: list, expected: float | None) -> None:
    assert eviction_due(taints, tolerations, 5.0) == expected


def test_the_oldest_finished_pods_go_first() -> None:
    def finished(name: str, created: str, phase: str = "Succeeded") -> dict[str, Any]:
        return {"metadata": {"name": name, "creationTimestamp": created}, "spec": {}, "status": {"phase": phase}}

    pods = [finished("b", "2"), finished("a", "1", "Failed"), finished("c", "0", "Running"), finished("d", "3")]
    assert [pod["metadata"]["name"] for pod in excess_terminated(pods, 1)] == ["a", "b"]
    assert excess_terminated(pods, 3) == []


def zoned(zone: str, *statuses: str) -> list[dict[str, Any]]:
    nodes = [node(("Ready", status)) for status in statuses]
    for entry in nodes:
        entry["metadata"]["labels"] = {"topology.kubernetes.io/zone": zone} if zone else {}
    return nodes


@pytest.mark.parametrize(
    ("nodes", "expected"),
    [
        pytest.param(zoned("", "True", "True", "Unknown"), {"": "on"}, id="one lost"),
        pytest.param(zoned("", "True", "Unknown", "Unknown"), {"": "on"}, id="two lost are too few to say"),
        pytest.param(zoned("", "True", "True", "Unknown", "False", "Unknown"), {"": "hold"}, id="three of five"),
        pytest.param(zoned("", *["True"] * 3, *["Unknown"] * 3), {"": "on"}, id="three of six"),
        pytest.param(zoned("", "Unknown", "Unknown"), {"": "off"}, id="all"),
        pytest.param(
            [*zoned("a", "Unknown", "Unknown"), *zoned("b", "True")], {"a": "on", "b": "on"}, id="all of one zone"
        ),
        pytest.param(zoned("", *["True"] * 20, *["Unknown"] * 40), {"": "on"}, id="a large cluster"),
        pytest.param([], {}, id="no nodes"),
    ],
)
def test_plan_eviction(nodes: list[dict[str, Any]], expected: dict[str, str]) -> None:
    assert plan_eviction(nodes) == expected


@pytest.mark.parametrize(
    ("eviction", "begun", "expected"),
    [("on", False, True), ("hold", False, False), ("hold", True, True), ("off", True, False)],
)
def test_no_execute_follows_the_eviction_plan(eviction: Any, begun: bool, expected: bool) -> None:
    taints = [{"key": "node.kubernetes.io/unreachable", "effect": "NoExecute", "timeAdded": STAMP}] if begun else []
    found = desired_taints(node(("Ready", "Unknown"), taints=taints), NOW, eviction)
    assert ("NoExecute" in {taint["effect"] for taint in found}) is expected
    assert "NoSchedule" in {taint["effect"] for taint in found}


@pytest.mark.parametrize(
    ("ready", "key", "expected"),
    [
        ("Unknown", OUT_OF_SERVICE, True),
        ("False", OUT_OF_SERVICE, True),
        ("True", OUT_OF_SERVICE, False),
        ("Unknown", "node.kubernetes.io/unreachable", False),
    ],
    ids=["lost", "not ready", "it lives", "nobody has said so"],
)
def test_only_who_is_lost_can_be_out_of_service(ready: str, key: str, expected: bool) -> None:
    taints = [{"key": key, "value": "nodeshutdown", "effect": "NoExecute"}]
    lost = {"spec": {"taints": taints}, "status": {"conditions": [{"type": "Ready", "status": ready}]}}
    assert is_out_of_service(lost) is expected
    assert not is_out_of_service(None)
