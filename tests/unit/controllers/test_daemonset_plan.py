"""DaemonSets: which nodes are wanted, one pod on each, and rollouts that keep their bounds."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from workload_objects import NOW, owner, pod

from podnet.controlplane.controllers.daemonset.placement import (
    Wanted,
    daemon_tolerations,
    desired_pod,
    node_of,
    node_wanted,
    pods_by_node,
)
from podnet.controlplane.controllers.daemonset.plan import View, desired_status, plan_presence, plan_rolling
from podnet.controlplane.controllers.history import REVISION_HASH


def node(name: str, *, labels: dict[str, str] | None = None, taints: list[Any] | None = None) -> dict[str, Any]:
    return {"metadata": {"name": name, "labels": labels or {}}, "spec": {"taints": taints or []}}


def taint(key: str, effect: str) -> dict[str, str]:
    return {"key": key, "effect": effect}


PLACES = [
    pytest.param({}, node("n"), Wanted(run=True, keep=True), id="any node"),
    pytest.param({"nodeName": "other"}, node("n"), Wanted(run=False, keep=False), id="another node is named"),
    pytest.param({"nodeSelector": {"disk": "ssd"}}, node("n"), Wanted(run=False, keep=False), id="selector differs"),
    pytest.param(
        {"nodeSelector": {"disk": "ssd"}}, node("n", labels={"disk": "ssd"}), Wanted(run=True, keep=True), id="selected"
    ),
    pytest.param({}, node("n", taints=[taint("x", "NoSchedule")]), Wanted(run=False, keep=True), id="no new pods"),
    pytest.param({}, node("n", taints=[taint("x", "NoExecute")]), Wanted(run=False, keep=False), id="no pods at all"),
    pytest.param({}, node("n", taints=[taint("x", "PreferNoSchedule")]), Wanted(run=True, keep=True), id="a wish"),
    pytest.param(
        {},
        node("n", taints=[taint("node.kubernetes.io/unreachable", "NoExecute")]),
        Wanted(run=True, keep=True),
        id="a dead node keeps its daemons",
    ),
    pytest.param(
        {},
        node("n", taints=[taint("node.kubernetes.io/unschedulable", "NoSchedule")]),
        Wanted(run=True, keep=True),
        id="a cordoned node too",
    ),
    pytest.param(
        {},
        node("n", taints=[taint("node.kubernetes.io/network-unavailable", "NoSchedule")]),
        Wanted(run=False, keep=True),
        id="no network, no pod",
    ),
    pytest.param(
        {"hostNetwork": True},
        node("n", taints=[taint("node.kubernetes.io/network-unavailable", "NoSchedule")]),
        Wanted(run=True, keep=True),
        id="unless it brings the network",
    ),
]


@pytest.mark.parametrize(("spec", "on", "wanted"), PLACES)
def test_node_wanted(spec: dict[str, Any], on: dict[str, Any], wanted: Wanted) -> None:
    daemon_set = owner("DaemonSet", "d")
    daemon_set["spec"]["template"]["spec"] |= spec
    assert node_wanted(daemon_set, on) == wanted


def test_tolerations_are_added_once() -> None:
    once = daemon_tolerations({})
    assert len(once) == 6
    assert daemon_tolerations({"tolerations": once}) == once


def test_a_daemon_pod_is_bound_to_its_node_by_name() -> None:
    made = desired_pod(owner("DaemonSet", "d"), "worker-1", "abc")
    assert node_of(made) == "worker-1"
    assert made["metadata"]["labels"] == {"app": "d", REVISION_HASH: "abc"}
    assert "nodeName" not in made["spec"]


def view(pods: list[Any], nodes: int, **rolling: Any) -> View:
    daemon_set = owner("DaemonSet", "d", updateStrategy={"type": "RollingUpdate", "rollingUpdate": rolling})
    wanted = {f"n{number}": Wanted(run=True, keep=True) for number in range(nodes)}
    return View(daemon_set, wanted, pods_by_node(pods), "new", NOW)


def daemon(name: str, on: str, revision: str, **more: Any) -> dict[str, Any]:
    return pod(name, node=on, labels={REVISION_HASH: revision}, **more)


def always(_node: str) -> bool:
    return True


def test_presence_fills_dedupes_and_replaces_the_dead() -> None:
    pods = [
        daemon("a", "n0", "new"),
        daemon("b", "n0", "new", creationTimestamp="2021-01-01T00:00:00Z"),
        daemon("c", "n1", "new", phase="Failed"),
    ]
    step = plan_presence(view(pods, 3), always)
    assert step.create == ["n2"]
    assert [p["metadata"]["name"] for p in step.delete] == ["b", "c"]
    assert [p["metadata"]["name"] for p in step.dead] == ["c"]
    assert plan_presence(view(pods, 3), lambda _node: False).dead == []


def test_a_terminating_pod_holds_its_place() -> None:
    going = daemon("a", "n0", "new", deletionTimestamp="2026-01-01T00:00:00Z")
    step = plan_presence(view([going], 1), always)
    assert (step.create, step.delete) == ([], [])


def test_a_pod_that_is_of_no_use_is_replaced_beyond_the_bound() -> None:
    pods = [daemon("a", "n0", "old", ready=False), daemon("b", "n1", "old", ready=False), daemon("c", "n2", "old")]
    step = plan_rolling(view(pods, 3, maxUnavailable=1))
    assert [p["metadata"]["name"] for p in step.delete] == ["a", "b"]


def test_status_counts_nodes() -> None:
    pods = [daemon("a", "n0", "new"), daemon("b", "n1", "old", ready=False), daemon("c", "gone", "old")]
    shown = view(pods, 3)
    shown.wanted["gone"] = Wanted(run=False, keep=True)  # type: ignore[index]
    assert desired_status(shown) == {
        "currentNumberScheduled": 2,
        "numberMisscheduled": 1,
        "desiredNumberScheduled": 3,
        "numberReady": 1,
        "observedGeneration": 1,
        "updatedNumberScheduled": 1,
        "numberAvailable": 1,
        "numberUnavailable": 2,
    }


BOUNDS = st.one_of(
    st.tuples(st.integers(1, 4), st.just(0)), st.tuples(st.just(0), st.integers(1, 4)), st.just(("34%", 0))
)


@given(nodes=st.integers(1, 7), bounds=BOUNDS, luck=st.lists(st.booleans(), min_size=60, max_size=60))
def test_a_rollout_ends_and_never_exceeds_its_bounds(nodes: int, bounds: tuple[Any, int], luck: list[bool]) -> None:
    """A kubelet that makes pods ready when it pleases; deleted pods go at once."""
    unavailable, surge = bounds
    limit = -(-nodes * 34 // 100) if unavailable == "34%" else unavailable
    pods = {f"old{number}": daemon(f"old{number}", f"n{number}", "old") for number in range(nodes)}
    coins = iter(luck)
    for turn in range(200):
        shown = view([*pods.values()], nodes, maxUnavailable=unavailable, maxSurge=surge)
        step = plan_presence(shown, always)
        if not step.create and not step.delete:
            step = plan_rolling(shown)
        for gone in step.delete:
            del pods[gone["metadata"]["name"]]
        for number, on in enumerate(step.create):
            pods[f"p{turn}-{number}"] = daemon(f"p{turn}-{number}", on, "new", ready=False)
        groups = pods_by_node(pods.values())
        served = sum(any(p["status"]["conditions"][0]["status"] == "True" for p in group) for group in groups.values())
        assert nodes - served <= limit
        assert sum(len(group) - 1 for group in groups.values()) <= surge
        waiting = [p for p in pods.values() if p["status"]["conditions"][0]["status"] == "False"]
        if waiting and next(coins, True):
            waiting[0]["status"]["conditions"][0]["status"] = "True"
        if (
            len(pods) == nodes
            and not waiting
            and all(p["metadata"]["labels"][REVISION_HASH] == "new" for p in pods.values())
        ):
            return
    raise AssertionError("the rollout does not end")


def test_a_surging_node_is_updated_when_its_old_pod_is_gone() -> None:
    """`kubectl rollout status` compares these counts: a new pod beside an old one does not finish a rollout."""
    old, new = daemon("a", "n0", "old"), daemon("b", "n0", "new", ready=False, creationTimestamp="2021-01-01T00:00:00Z")
    status = desired_status(view([new, old], 1, maxSurge=1, maxUnavailable=0))
    assert (status.get("updatedNumberScheduled", 0), status["numberAvailable"]) == (0, 1)
    status = desired_status(view([new], 1, maxSurge=1, maxUnavailable=0))
    assert (status["updatedNumberScheduled"], status.get("numberAvailable", 0)) == (1, 0)
