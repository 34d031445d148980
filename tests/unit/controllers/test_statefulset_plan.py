"""StatefulSets: order, partition, names and claims."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from workload_objects import NOW, owner, pod

from podnet.controlplane.controllers.history import REVISION_HASH
from podnet.controlplane.controllers.statefulset.plan import View, desired_status, plan_step
from podnet.controlplane.controllers.statefulset.pod import (
    desired_claim_owners,
    desired_claims,
    desired_pod,
    is_stale_claim,
    ordinal_of,
)


def stateful(replicas: int = 3, **spec: Any) -> dict[str, Any]:
    return owner("StatefulSet", "db", replicas=replicas, serviceName="svc", **spec)


def member(ordinal: int, revision: str = "r1", **more: Any) -> dict[str, Any]:
    return pod(f"db-{ordinal}", node="n", labels={REVISION_HASH: revision}, **more)


def view(stateful_set: dict[str, Any], pods: list[Any], current: str = "r1", update: str = "r1") -> View:
    return View(stateful_set, pods, current, update, NOW)


def names(pods: Any) -> list[str]:
    return [p["metadata"]["name"] for p in pods]


GOING = "2026-01-01T00:00:00Z"
PARALLEL = {"podManagementPolicy": "Parallel"}
STEPS = [
    pytest.param(stateful(), [], [0], [], id="the first comes first"),
    pytest.param(stateful(), [member(0)], [1], [], id="the next when it is ready"),
    pytest.param(stateful(), [member(0, ready=False)], [], [], id="but not before"),
    pytest.param(stateful(), [member(0), member(2)], [1], [], id="a gap is filled"),
    pytest.param(stateful(), [member(0, phase="Failed"), member(1)], [], ["db-0"], id="a failed one is replaced"),
    pytest.param(stateful(**PARALLEL), [], [0, 1, 2], [], id="parallel: all at once"),
    pytest.param(stateful(1), [member(0), member(1), member(2)], [], ["db-2"], id="the last goes first"),
    pytest.param(
        stateful(1), [member(0), member(1), member(2, deletionTimestamp=GOING)], [], [], id="and is waited for"
    ),
    pytest.param(
        stateful(1), [member(0, ready=False), member(1)], [], [], id="nobody goes while one below is unhealthy"
    ),
    pytest.param(stateful(1), [member(0), member(1, ready=False)], [], ["db-1"], id="an unhealthy one may go"),
    pytest.param(stateful(1, **PARALLEL), [member(n) for n in range(3)], [], ["db-2", "db-1"], id="parallel: all go"),
    pytest.param(stateful(2, ordinals={"start": 5}), [member(0)], [5], [], id="ordinals begin elsewhere"),
]


@pytest.mark.parametrize(("stateful_set", "pods", "create", "delete"), STEPS)
def test_plan_step(stateful_set: Any, pods: list[Any], create: list[int], delete: list[str]) -> None:
    step = plan_step(view(stateful_set, pods))
    assert [ordinal for ordinal, _ in step.create] == create
    assert names(step.delete) == delete


def rolling(partition: int) -> dict[str, Any]:
    return {"updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"partition": partition}}}


UPDATES = [
    pytest.param(rolling(0), ["r1", "r1", "r1"], ["db-2"], id="from the top"),
    pytest.param(rolling(0), ["r1", "r1", "r2"], ["db-1"], id="and on"),
    pytest.param(rolling(2), ["r1", "r1", "r2"], [], id="to the partition"),
    pytest.param({"updateStrategy": {"type": "OnDelete"}}, ["r1", "r1", "r1"], [], id="never by itself"),
]


@pytest.mark.parametrize(("spec", "revisions", "delete"), UPDATES)
def test_updates(spec: dict[str, Any], revisions: list[str], delete: list[str]) -> None:
    pods = [member(number, revision) for number, revision in enumerate(revisions)]
    assert names(plan_step(view(stateful(**spec), pods, "r1", "r2")).delete) == delete


def test_a_new_pod_below_the_partition_is_of_the_old_revision() -> None:
    step = plan_step(view(stateful(**rolling(2)), [], "r1", "r2"))
    assert step.create == ((0, "r1"),)
    assert plan_step(view(stateful(**rolling(0)), [], "r1", "r2")).create == ((0, "r2"),)


def test_minimum_ready_time_holds_the_next_back() -> None:
    young = member(0)
    young["status"]["conditions"][0]["lastTransitionTime"] = "2027-01-15T07:59:50Z"
    assert plan_step(view(stateful(minReadySeconds=30), [young])).create == ()
    assert plan_step(view(stateful(minReadySeconds=5), [young])).create == ((1, "r1"),)


def test_a_finished_update_becomes_current() -> None:
    pods = [member(number, "r2") for number in range(3)]
    status = desired_status(view(stateful(), pods, "r1", "r2"))
    assert (status["currentRevision"], status["currentReplicas"], status["updatedReplicas"]) == ("r2", 3, 3)
    half = desired_status(view(stateful(), [member(0), member(1), member(2, "r2")], "r1", "r2"))
    assert (half["currentRevision"], half["currentReplicas"], half["updatedReplicas"]) == ("r1", 2, 1)


TEMPLATES = [{"metadata": {"name": "data"}, "spec": {"accessModes": ["ReadWriteOnce"]}}]


def test_a_pod_keeps_its_name_its_host_and_its_claim() -> None:
    stateful_set = stateful(volumeClaimTemplates=TEMPLATES)
    made = desired_pod(stateful_set, 1, "r1")
    assert made["metadata"]["name"] == made["spec"]["hostname"] == "db-1"
    assert made["spec"]["subdomain"] == "svc"
    assert made["spec"]["volumes"][0]["persistentVolumeClaim"]["claimName"] == "data-db-1"
    (claim,) = desired_claims(stateful_set, 1)
    assert (claim["metadata"]["name"], claim["metadata"]["labels"]) == ("data-db-1", {"app": "db"})
    assert ordinal_of(stateful_set, made) == 1
    assert ordinal_of(stateful_set, pod("other-1")) is None
    assert ordinal_of(stateful_set, pod("db-x")) is None


RETENTION = [
    pytest.param("Retain", "Retain", False, [], id="stays"),
    pytest.param("Retain", "Retain", True, [], id="stays when scaled"),
    pytest.param("Delete", "Retain", False, ["StatefulSet"], id="goes with the set"),
    pytest.param("Delete", "Retain", True, ["StatefulSet"], id="only with the set"),
    pytest.param("Retain", "Delete", False, [], id="stays while wanted"),
    pytest.param("Retain", "Delete", True, ["Pod"], id="goes with the pod"),
    pytest.param("Delete", "Delete", True, ["Pod"], id="goes with whichever"),
]


@pytest.mark.parametrize(("deleted", "scaled", "condemned", "kinds"), RETENTION)
def test_claim_retention(deleted: str, scaled: str, condemned: bool, kinds: list[str]) -> None:
    policy = {"whenDeleted": deleted, "whenScaled": scaled}
    stateful_set = stateful(volumeClaimTemplates=TEMPLATES, persistentVolumeClaimRetentionPolicy=policy)
    (claim,) = desired_claims(stateful_set, 0)
    owners = desired_claim_owners(stateful_set, claim, member(0), condemned=condemned)
    assert [reference["kind"] for reference in owners] == kinds
    again = desired_claim_owners(
        stateful_set, {"metadata": {"ownerReferences": owners}}, member(0), condemned=condemned
    )
    assert again == owners
    # No new pod may be given a claim that goes with its former one.
    claimed = {"metadata": {"ownerReferences": owners}}
    assert is_stale_claim(stateful_set, claimed, 0) is (kinds == ["Pod"])
    assert not is_stale_claim(stateful_set, claimed, 1)
    foreign = {"apiVersion": "v1", "kind": "ConfigMap", "name": "x", "uid": "x"}
    kept = desired_claim_owners(stateful_set, {"metadata": {"ownerReferences": [foreign]}}, member(0), condemned=False)
    assert foreign in kept


@given(
    replicas=st.integers(0, 5),
    start=st.integers(0, 5),
    update=st.sampled_from(["r1", "r2"]),
    events=st.lists(st.tuples(st.integers(0, 5), st.sampled_from(["ready", "unready", "fail"])), max_size=20),
)
@example(replicas=1, start=4, update="r1", events=[(0, "unready"), (1, "fail"), (2, "fail")])
def test_ordered_steps_reach_the_goal_and_keep_the_order(
    replicas: int, start: int, update: str, events: list[tuple[int, str]]
) -> None:
    """Deleted pods go at once, created ones become ready when the disturbances are over."""
    stateful_set = stateful(replicas)
    pods = {number: member(number) for number in range(start)}
    disturbances = iter(events)
    for _ in range(100):
        shown = view(stateful_set, [*pods.values()], "r1", update)
        step = plan_step(shown)
        assert len(step.create) + len(step.delete) <= 1
        for ordinal, revision in step.create:
            assert all(below in pods and shown.is_available(pods[below]) for below in range(ordinal))
            pods[ordinal] = member(ordinal, revision, ready=False)
        for gone in step.delete:
            ordinal = ordinal_of(stateful_set, gone)
            if ordinal is not None and ordinal >= replicas:
                assert ordinal == max(pods)
            del pods[ordinal]  # type: ignore[arg-type]
        which, what = next(disturbances, (0, "settle"))
        if what == "settle":
            for each in pods.values():
                each["status"]["conditions"][0]["status"] = "True"
        elif which in pods:
            pods[which]["status"]["conditions"][0]["status"] = "True" if what == "ready" else "False"
            if what == "fail":
                pods[which]["status"]["phase"] = "Failed"
    assert sorted(pods) == [*range(replicas)]
    assert {p["metadata"]["labels"][REVISION_HASH] for p in pods.values()} <= {update}


def test_as_many_replicas_as_there_may_be() -> None:
    """What may be said is planned for, a burst at a time."""
    many = 2_000_000_000
    assert [ordinal for ordinal, _ in plan_step(view(stateful(many, **PARALLEL), [])).create] == list(range(500))
    assert plan_step(view(stateful(many), [])).create == ((0, "r1"),)
    there = [member(ordinal) for ordinal in range(500)]
    following = plan_step(view(stateful(many, **PARALLEL), there)).create
    assert [ordinal for ordinal, _ in following] == list(range(500, 1000))
