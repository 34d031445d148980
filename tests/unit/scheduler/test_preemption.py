"""Preemption: the fewest and least important victims, and the room that is kept for who waits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from podnet.controlplane.scheduler.cache import SchedulerCache
from podnet.controlplane.scheduler.decide import Placement, Unschedulable, decide
from podnet.controlplane.scheduler.preemption import Preemption
from podnet.controlplane.scheduler.types import node_infos, parse_pod

Object = dict[str, Any]


def node(name: str, cpu: str = "4") -> Object:
    return {
        "metadata": {"name": name, "labels": {"kubernetes.io/hostname": name}},
        "status": {"allocatable": {"cpu": cpu, "memory": "8Gi", "pods": "110"}},
    }


def pod(name: str, cpu: str, priority: int = 0, on: str = "", **fields: Any) -> Object:
    spec: Object = {
        "containers": [{"resources": {"requests": {"cpu": cpu}}}],
        "priority": priority,
        **fields.get("spec", {}),
    }
    if on:
        spec["nodeName"] = on
    metadata: Object = {"name": name, "namespace": "ns", "uid": name}
    if fields.get("deleting"):
        metadata["deletionTimestamp"] = "x"
    return {"metadata": metadata, "spec": spec, "status": fields.get("status", {})}


def outcome_of(wanted: Object, nodes: list[Object], others: list[Object]) -> Unschedulable:
    outcome = decide(parse_pod(wanted), node_infos(nodes, others), lambda _: 0)
    assert isinstance(outcome, Unschedulable)
    return outcome


def chosen(preemption: Preemption | None) -> tuple[str, set[str]] | None:
    if preemption is None:
        return None
    return preemption.node, {victim.key.removeprefix("ns/") for victim in preemption.victims}


@pytest.mark.parametrize(
    ("wanted", "others", "expected"),
    [
        pytest.param(pod("p", "4", 10), [pod("a", "2", 0, "n1")], ("n1", {"a"}), id="one victim"),
        pytest.param(
            pod("p", "2", 10),
            [pod("a", "2", 1, "n1"), pod("b", "2", 5, "n1")],
            ("n1", {"a"}),
            id="the more important one is reprieved",
        ),
        pytest.param(pod("p", "4", 10), [pod("a", "2", 10, "n1")], None, id="nobody is less important"),
        pytest.param(pod("p", "5", 10), [pod("a", "2", 0, "n1")], None, id="not even an empty node would do"),
        pytest.param(
            pod("p", "4", 10, spec={"preemptionPolicy": "Never"}), [pod("a", "2", 0, "n1")], None, id="it may not"
        ),
        pytest.param(
            pod("p", "4", 10, status={"nominatedNodeName": "n1"}),
            [pod("a", "2", 0, "n1", deleting=True), pod("b", "1", 0, "n1")],
            None,
            id="its victims are leaving already",
        ),
    ],
)
def test_victims_on_one_node(wanted: Object, others: list[Object], expected: tuple[str, set[str]] | None) -> None:
    assert chosen(outcome_of(wanted, [node("n1")], others).preemption) == expected


@pytest.mark.parametrize(
    ("others", "expected"),
    [
        pytest.param([pod("a", "4", 5, "n1"), pod("b", "4", 1, "n2")], ("n2", {"b"}), id="the less important"),
        pytest.param(
            [pod("a", "2", 1, "n1"), pod("b", "2", 1, "n1"), pod("c", "4", 1, "n2")], ("n2", {"c"}), id="the fewer"
        ),
    ],
)
def test_the_node_whose_victims_matter_least(others: list[Object], expected: tuple[str, set[str]]) -> None:
    outcome = outcome_of(pod("p", "4", 10), [node("n1"), node("n2")], others)
    assert chosen(outcome.preemption) == expected
    assert outcome.message == "0/2 nodes are available: 2 Insufficient cpu."


def budget(allowed: int, app: str, **status: Any) -> Object:
    spec: Object = {"selector": {"matchLabels": {"app": app}}} if app else {"selector": {}}
    metadata = {"name": app or "all", "namespace": "ns"}
    return {"metadata": metadata, "spec": spec, "status": {"disruptionsAllowed": allowed, **status}}


def labelled(obj: Object, app: str, started: str = "") -> Object:
    status = {"startTime": started} if started else {}
    return {**obj, "metadata": {**obj["metadata"], "labels": {"app": app}}, "status": status}


@dataclass(frozen=True)
class Choice:
    others: list[Object]
    victims: tuple[str, set[str]]
    budgets: tuple[Object, ...] = ()


@pytest.mark.parametrize(
    "choice",
    [
        pytest.param(
            Choice(
                [labelled(pod("a", "4", 1, "n1"), "kept"), labelled(pod("b", "4", 5, "n2"), "free")],
                ("n2", {"b"}),
                (budget(0, "kept"),),
            ),
            id="a budget weighs more than a priority",
        ),
        pytest.param(
            Choice(
                [labelled(pod("a", "2", 1, "n1"), "kept"), labelled(pod("b", "2", 5, "n1"), "free")],
                ("n1", {"b"}),
                (budget(0, "kept"),),
            ),
            id="whom a budget keeps is put back first",
        ),
        pytest.param(
            Choice(
                [labelled(pod("a", "2", 1, "n1"), "kept"), labelled(pod("b", "2", 5, "n1"), "free")],
                ("n1", {"a"}),
                (budget(1, "kept"), budget(0, ""), budget(0, "kept", disruptedPods={"a": "x"})),
            ),
            id="a budget that allows it, one of nobody, one that has counted it",
        ),
        pytest.param(
            Choice([labelled(pod("a", "4", 1, "n1"), "kept")], ("n1", {"a"}), (budget(0, "kept"),)),
            id="where nothing else helps a budget is broken",
        ),
        pytest.param(
            Choice(
                [pod("a", "2", -5, "n1"), pod("b", "2", -5, "n1"), pod("c", "4", -5, "n2")],
                ("n2", {"c"}),
            ),
            id="the fewer also below zero",
        ),
        pytest.param(
            Choice(
                [
                    labelled(pod("a", "4", 1, "n1"), "x", "2026-01-01T00:00:00Z"),
                    labelled(pod("b", "4", 1, "n2"), "x", "2026-01-02T00:00:00Z"),
                ],
                ("n2", {"b"}),
            ),
            id="the younger",
        ),
    ],
)
def test_budgets_numbers_and_ages(choice: Choice) -> None:
    used = {other["spec"]["nodeName"] for other in choice.others}
    infos = node_infos([node(name, cpu="4") for name in sorted(used)], choice.others)
    wanted = parse_pod(pod("p", "2" if len(used) == 1 and len(choice.others) == 2 else "4", 10))
    outcome = decide(wanted, infos, lambda _: 0, budgets=choice.budgets)
    assert isinstance(outcome, Unschedulable)
    assert chosen(outcome.preemption) == choice.victims


def test_cleared_room_is_kept_for_who_waits() -> None:
    cache = SchedulerCache()
    cache.set_node(node("n1"))
    cache.nominate(parse_pod(pod("vip", "3", 10)), "n1")
    small = parse_pod(pod("small", "2", 0))
    assert isinstance(decide(small, cache.nodes(small), lambda _: 0), Unschedulable)
    rival = parse_pod(pod("rival", "2", 20))
    assert decide(rival, cache.nodes(rival), lambda _: 0) == Placement("n1")
    vip = parse_pod(pod("vip", "3", 10))
    assert decide(vip, cache.nodes(vip), lambda _: 0) == Placement("n1")
    cache.remove_pod("ns/vip")
    assert decide(small, cache.nodes(small), lambda _: 0) == Placement("n1")


@given(st.lists(st.tuples(st.integers(1, 4), st.integers(0, 12)), max_size=6), st.integers(1, 4), st.integers(0, 12))
def test_after_the_victims_left_the_pod_fits_and_none_left_in_vain(
    running: list[tuple[int, int]], cpu: int, priority: int
) -> None:
    others, used = [], 0
    for index, (size, importance) in enumerate(running):
        if used + size <= 4:
            used += size
            others.append(pod(f"p{index}", str(size), importance, "n1"))
    wanted = pod("wanted", str(cpu), priority)
    outcome = decide(parse_pod(wanted), node_infos([node("n1")], others), lambda _: 0)
    if isinstance(outcome, Placement):
        return
    lesser = [other for other in others if other["spec"]["priority"] < priority]
    kept_by_all = used - sum(int(other["spec"]["containers"][0]["resources"]["requests"]["cpu"]) for other in lesser)
    if outcome.preemption is None:
        assert kept_by_all + cpu > 4
        return
    victims = {victim.key.removeprefix("ns/") for victim in outcome.preemption.victims}
    assert victims <= {other["metadata"]["name"] for other in lesser}

    def fits_without(gone: set[str]) -> bool:
        stay = [other for other in others if other["metadata"]["name"] not in gone]
        return isinstance(decide(parse_pod(wanted), node_infos([node("n1")], stay), lambda _: 0), Placement)

    assert fits_without(victims)
    assert not any(fits_without(victims - {name}) for name in victims)
