"""ReplicaSets: who is deleted first, how many are created, whom it owns, what the status says."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from podnet.controlplane.api.timestamps import format_time
from podnet.controlplane.controllers.ownership import plan_claim
from podnet.controlplane.controllers.pods import deletion_order, is_available, next_available_s
from podnet.controlplane.controllers.replicaset.plan import (
    Failure,
    desired_pod,
    desired_status,
    plan_scale,
    slow_start_batches,
)

Object = dict[str, Any]
NOW = 2_000_000.0


def pod(name: str, **fields: Any) -> Object:
    conditions = []
    if fields.get("ready_s") is not None:
        stamp = format_time(NOW - fields["ready_s"])
        conditions.append({"type": "Ready", "status": "True", "lastTransitionTime": stamp})
    annotations = {"controller.kubernetes.io/pod-deletion-cost": str(fields["cost"])} if "cost" in fields else {}
    return {
        "metadata": {
            "name": name,
            "namespace": "ns",
            "uid": name,
            "annotations": annotations,
            "labels": fields.get("labels", {"app": "web"}),
            "creationTimestamp": format_time(NOW - fields.get("age_s", 1000)),
            **({"deletionTimestamp": "x"} if fields.get("deleting") else {}),
            **({"ownerReferences": [fields["owner"]]} if "owner" in fields else {}),
        },
        "spec": {"nodeName": fields.get("node", "n")} if fields.get("node", "n") else {},
        "status": {
            "phase": fields.get("phase", "Running"),
            "conditions": conditions,
            "containerStatuses": [{"restartCount": fields.get("restarts", 0)}],
        },
    }


def replica_set(replicas: int, **spec: Any) -> Object:
    template = {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": []}}
    return {
        "apiVersion": "apps/v1",
        "kind": "ReplicaSet",
        "metadata": {"name": "web", "namespace": "ns", "uid": "rs", "generation": 2},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {"app": "web"}},
            "template": template,
            **spec,
        },
    }


@pytest.mark.parametrize(
    ("first", "second"),
    [
        pytest.param({"node": ""}, {"phase": "Pending"}, id="unassigned before assigned"),
        pytest.param({"phase": "Pending"}, {"phase": "Unknown"}, id="pending before unknown"),
        pytest.param({"phase": "Unknown"}, {"phase": "Running"}, id="unknown before running"),
        pytest.param({}, {"ready_s": 5}, id="not ready before ready"),
        pytest.param({"ready_s": 900, "cost": -1}, {"ready_s": 5}, id="lower deletion cost"),
        pytest.param({"ready_s": 900, "node": "full"}, {"ready_s": 5}, id="more neighbours"),
        pytest.param({"ready_s": 5}, {"ready_s": 900}, id="ready for a shorter time"),
        pytest.param({"restarts": 9}, {"restarts": 1}, id="more restarts"),
        pytest.param({"age_s": 5}, {"age_s": 900}, id="younger"),
        pytest.param({"cost": "x"}, {"cost": 1}, id="a cost that is no number is zero"),
    ],
)
def test_deletion_order(first: dict, second: dict) -> None:
    one, other = pod("z-one", **first), pod("a-other", **second)
    for order in ([one, other], [other, one]):
        assert deletion_order(order, {"full": 3, "n": 1}, NOW) == [one, other]


def test_about_one_age_is_decided_by_uid() -> None:
    pods = [pod("b", ready_s=1000), pod("a", ready_s=1010)]
    assert [item["metadata"]["name"] for item in deletion_order(pods, {}, NOW)] == ["a", "b"]


def test_scaling_down_takes_from_the_crowded_node() -> None:
    pods = [pod("a", ready_s=900, node="one"), pod("b", ready_s=900, node="two"), pod("c", ready_s=900, node="two")]
    plan = plan_scale(replica_set(2), pods, pods, NOW)
    assert plan.create == 0
    assert [item["spec"]["nodeName"] for item in plan.delete] == ["two"]


@pytest.mark.parametrize(
    ("wanted", "have", "create", "delete"),
    [(3, 0, 3, 0), (3, 3, 0, 0), (0, 2, 0, 2), (900, 0, 500, 0)],
    ids=["create", "enough", "delete all", "burst"],
)
def test_plan_scale(wanted: int, have: int, create: int, delete: int) -> None:
    pods = [pod(str(index)) for index in range(have)]
    plan = plan_scale(replica_set(wanted), pods, pods, NOW)
    assert (plan.create, len(plan.delete)) == (create, delete)


def test_one_that_is_deleted_does_nothing() -> None:
    going = replica_set(3)
    going["metadata"]["deletionTimestamp"] = "x"
    assert plan_scale(going, [], [], NOW).create == 0


@given(st.integers(0, 600))
def test_slow_start_doubles_and_adds_up(count: int) -> None:
    batches = [*slow_start_batches(count)]
    assert sum(batches) == count
    assert all(batch == 2**index for index, batch in enumerate(batches[:-1]))


OWNER = {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web", "uid": "rs", "controller": True}


@pytest.mark.parametrize(
    ("fields", "verdict"),
    [
        pytest.param({"owner": OWNER}, "owned", id="ours"),
        pytest.param({"owner": OWNER, "labels": {"app": "x"}}, "release", id="ours, but matches no more"),
        pytest.param({}, "adopt", id="an orphan that matches"),
        pytest.param({"labels": {"app": "x"}}, "", id="an orphan that does not"),
        pytest.param({"owner": {**OWNER, "uid": "other"}}, "", id="somebody else's"),
        pytest.param({"deleting": True}, "", id="an orphan that is going"),
    ],
)
def test_claim(fields: dict, verdict: str) -> None:
    claim = plan_claim(replica_set(1), [pod("p", **fields)])
    found = [name for name in ("owned", "adopt", "release") if getattr(claim, name)]
    assert found == ([verdict] if verdict else [])


def test_status_counts_and_leaves_zeros_out() -> None:
    pods = [pod("a", ready_s=100), pod("b", ready_s=1), pod("c", labels={"app": "web", "x": "y"})]
    status = desired_status(replica_set(3, minReadySeconds=10), pods, None, NOW)
    assert status == {
        "replicas": 3,
        "fullyLabeledReplicas": 3,
        "readyReplicas": 2,
        "availableReplicas": 1,
        "observedGeneration": 2,
    }
    assert desired_status(replica_set(0), [], None, NOW) == {"replicas": 0, "observedGeneration": 2}
    assert next_available_s(pods, 10, NOW) == 9.0
    assert next_available_s(pods, 0, NOW) is None


def test_a_failure_is_told_and_taken_back() -> None:
    failed = desired_status(replica_set(1), [], Failure("FailedCreate", "quota"), NOW)
    (condition,) = failed["conditions"]
    assert (condition["type"], condition["reason"], condition["message"]) == ("ReplicaFailure", "FailedCreate", "quota")
    again = desired_status({**replica_set(1), "status": failed}, [], Failure("FailedCreate", "quota"), NOW + 9)
    assert again == failed
    assert "conditions" not in desired_status({**replica_set(1), "status": failed}, [], None, NOW)


@pytest.mark.parametrize(
    ("ready_s", "min_ready_s", "expected"), [(None, 0, False), (0, 0, True), (4, 5, False), (5, 5, True)]
)
def test_is_available(ready_s: float | None, min_ready_s: int, expected: bool) -> None:
    assert is_available(pod("p", ready_s=ready_s), min_ready_s, NOW) is expected


def test_the_pod_carries_the_template_and_its_owner() -> None:
    owner = replica_set(1)
    owner["spec"]["template"]["metadata"]["annotations"] = {"a": "b"}
    body = desired_pod(owner)
    assert body["metadata"]["generateName"] == "web-"
    assert body["metadata"]["labels"] == {"app": "web"}
    assert body["metadata"]["annotations"] == {"a": "b"}
    assert body["metadata"]["ownerReferences"][0]["uid"] == "rs"
    body["spec"]["containers"].append("changed")
    assert owner["spec"]["template"]["spec"]["containers"] == []
