"""What a disruption budget allows, and what a quota counts."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from workload_objects import NOW, owner, pod

from podnet.controlplane.api.resources import CONFIGMAPS, PERSISTENTVOLUMECLAIMS, PODS, SERVICES
from podnet.controlplane.api.timestamps import format_time
from podnet.controlplane.controllers.disruption.plan import (
    counts_controllers,
    desired_status,
    failed_status,
    recheck_after_s,
)
from podnet.controlplane.controllers.resourcequota import plan as quotas


def budget(status: dict[str, Any] | None = None, **spec: Any) -> dict[str, Any]:
    body = owner("PodDisruptionBudget", "b")
    return {**body, "spec": {"selector": {}, **spec}, "status": status or {}}


def pods(ready: int, unready: int = 0) -> list[dict[str, Any]]:
    return [pod(f"p{n}", ready=n < ready) for n in range(ready + unready)]


BUDGETS = [
    pytest.param({"minAvailable": 2}, pods(3), 5, (3, 2, 1), id="a number is of the pods there are"),
    pytest.param({"minAvailable": "50%"}, pods(5), 5, (5, 3, 2), id="a percentage is of the pods wanted, rounded up"),
    pytest.param({"maxUnavailable": 1}, pods(5), 5, (5, 4, 1), id="one may go"),
    pytest.param({"maxUnavailable": 1}, pods(4, 1), 5, (5, 4, 0), id="one is gone already"),
    pytest.param({"maxUnavailable": "30%"}, pods(5), 5, (5, 3, 2), id="percentages of unavailable round up too"),
    pytest.param({"maxUnavailable": 0}, pods(5), 5, (5, 5, 0), id="none may go"),
    pytest.param({"maxUnavailable": 9}, pods(5), 5, (5, 0, 5), id="all may go"),
    pytest.param({"minAvailable": 0}, [], 0, (0, 0, 0), id="no pods, nothing to disturb"),
    pytest.param(
        {"minAvailable": 1},
        [*pods(2), pod("done", ready=False, phase="Succeeded")],
        5,
        (3, 1, 1),
        id="who has ended is expected but never healthy",
    ),
]


@pytest.mark.parametrize(("spec", "there", "wanted", "expected"), BUDGETS)
def test_budgets(spec: dict[str, Any], there: list[Any], wanted: int, expected: tuple[int, int, int]) -> None:
    status = desired_status(budget(**spec), there, lambda _pod: ("rs", wanted), NOW)
    assert (status["expectedPods"], status["desiredHealthy"], status["disruptionsAllowed"]) == expected
    (condition,) = status["conditions"]
    assert condition["reason"] == ("SufficientPods" if expected[2] else "InsufficientPods")


def test_an_allowed_eviction_is_remembered_until_it_shows() -> None:
    noted = {"disruptedPods": {"p0": format_time(NOW - 60), "p1": format_time(NOW - 200), "gone": format_time(NOW)}}
    status = desired_status(budget(noted, maxUnavailable=1), pods(3), lambda _pod: ("rs", 3), NOW)
    assert status["disruptedPods"] == {"p0": format_time(NOW - 60)}
    assert (status["currentHealthy"], status["disruptionsAllowed"]) == (2, 0)
    assert recheck_after_s(status, NOW) == 60.0


def test_what_cannot_be_counted_allows_nothing_and_keeps_the_counts() -> None:
    before = {"currentHealthy": 2, "desiredHealthy": 1, "expectedPods": 2, "disruptionsAllowed": 1}
    status = failed_status(budget({**before, "observedGeneration": 1}, maxUnavailable=1), "no scale", NOW)
    assert {**before, "disruptionsAllowed": 0}.items() <= status.items()
    (condition,) = status["conditions"]
    assert (condition["status"], condition["reason"], condition["message"]) == ("False", "SyncFailed", "no scale")
    assert failed_status(budget(maxUnavailable=1), "no scale", NOW)["expectedPods"] == 0


@pytest.mark.parametrize(
    ("spec", "counts"),
    [({"minAvailable": 1}, False), ({"minAvailable": "1%"}, True), ({"maxUnavailable": 1}, True), ({}, False)],
    ids=str,
)
def test_only_shares_need_the_controllers(spec: dict[str, Any], counts: bool) -> None:
    assert counts_controllers(budget(**spec)) is counts


@given(st.integers(0, 8), st.integers(0, 8), st.integers(0, 10))
def test_what_is_allowed_never_breaks_the_minimum(ready: int, unready: int, minimum: int) -> None:
    status = desired_status(budget(minAvailable=minimum), pods(ready, unready), lambda _pod: None, NOW)
    assert status["disruptionsAllowed"] >= 0
    assert status["disruptionsAllowed"] == 0 or ready - status["disruptionsAllowed"] >= minimum


def quota(hard: dict[str, str], **spec: Any) -> dict[str, Any]:
    return {"metadata": {"name": "q", "namespace": "default"}, "spec": {"hard": hard, **spec}}


def asking(name: str, cpu: str, **more: Any) -> dict[str, Any]:
    made = pod(name, **more)
    made["spec"]["containers"] = [{"name": "c", "resources": {"requests": {"cpu": cpu}}}]
    return made


def test_a_quota_counts_what_admission_counts() -> None:
    hard = {
        "pods": "5",
        "requests.cpu": "2",
        "cpu": "2",
        "services.nodeports": "1",
        "count/configmaps": "9",
        "odd": "1",
    }
    service = {"spec": {"type": "NodePort", "ports": [{"port": 80}]}}
    body = quota(hard)
    assert quotas.measured_resources(body) == [CONFIGMAPS, PODS, SERVICES]
    some = {
        PODS: [asking("a", "500m"), asking("b", "1"), asking("done", "1", phase="Succeeded")],
        SERVICES: [service],
        CONFIGMAPS: [{}, {}],
    }
    status = quotas.desired_status(body, some, NOW)
    assert status == {
        "hard": hard,
        "used": {
            "pods": "2",
            "requests.cpu": "1500m",
            "cpu": "1500m",
            "services.nodeports": "1",
            "count/configmaps": "2",
        },
    }


SCOPES = [
    pytest.param({"scopes": ["BestEffort"]}, "1", id="best effort"),
    pytest.param({"scopes": ["NotBestEffort"]}, "2", id="not best effort"),
    pytest.param({"scopes": ["NotBestEffort", "Terminating"]}, "0", id="both must hold"),
    pytest.param(
        {"scopeSelector": {"matchExpressions": [{"scopeName": "PriorityClass", "operator": "In", "values": ["high"]}]}},
        "1",
        id="of one priority class",
    ),
    pytest.param(
        {"scopeSelector": {"matchExpressions": [{"scopeName": "PriorityClass", "operator": "DoesNotExist"}]}},
        "2",
        id="of none",
    ),
    pytest.param(
        {
            "scopeSelector": {
                "matchExpressions": [{"scopeName": "PriorityClass", "operator": "NotIn", "values": ["high"]}]
            }
        },
        "2",
        id="of another or none",
    ),
]


@pytest.mark.parametrize(("spec", "used"), SCOPES)
def test_scopes(spec: dict[str, Any], used: str) -> None:
    high = asking("a", "1")
    high["spec"]["priorityClassName"] = "high"
    status = quotas.desired_status(quota({"pods": "9"}, **spec), {PODS: [high, asking("b", "1"), pod("c")]}, NOW)
    assert status["used"] == {"pods": used}


@pytest.mark.parametrize(
    ("late_s", "used"),
    [
        (-5, {"pods": "1", "count/pods": "1"}),
        (25, {"pods": "1", "count/pods": "1"}),
        (31, {"pods": "0", "count/pods": "1"}),
    ],
    ids=["ends", "takes its grace", "is stuck on a lost node"],
)
def test_who_should_have_gone_uses_nothing(late_s: int, used: dict[str, str]) -> None:
    going = pod("a")
    going["metadata"] |= {"deletionTimestamp": format_time(NOW - late_s), "deletionGracePeriodSeconds": 30}
    status = quotas.desired_status(quota({"pods": "9", "count/pods": "9"}), {PODS: [going]}, NOW)
    assert status["used"] == used


def test_measured_resource() -> None:
    assert quotas.measured_resource("requests.storage") == PERSISTENTVOLUMECLAIMS
    assert quotas.measured_resource("persistentvolumeclaims") == PERSISTENTVOLUMECLAIMS
    assert quotas.measured_resource("count/unknown.example.com") is None
    assert {quotas.measured_resource(key) for key in ("hugepages-2Mi", "requests.example.com/gpu", "cpu")} == {PODS}


def test_the_same_amount_in_other_words_is_no_change() -> None:
    one, other = {"hard": {"cpu": "1"}, "used": {"cpu": "0"}}, {"hard": {"cpu": "1000m"}, "used": {"cpu": "0"}}
    assert quotas.same_status(one, other)
    assert not quotas.same_status(None, other)
    assert not quotas.same_status({**one, "used": {"cpu": "1"}}, other)
