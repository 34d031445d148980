"""Jobs: counting that loses nothing, outcomes and their reasons, indexes, policies, back-off."""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from workload_objects import LONG_AGO, NOW, ended, owner, pod

from podnet.controlplane.api.timestamps import format_time
from podnet.controlplane.controllers.job.indexes import count_within, format_indexes, parse_indexes, parse_intervals
from podnet.controlplane.controllers.job.outcome import has_ended
from podnet.controlplane.controllers.job.plan import NewPod, plan_job
from podnet.controlplane.controllers.job.pod import INDEX, INDEX_FAILURES, INDEX_IGNORED, TRACKING, desired_pod, judge


def job(status: dict[str, Any] | None = None, **spec: Any) -> dict[str, Any]:
    body = owner("Job", "j", **{"parallelism": 1, "completions": 1, "backoffLimit": 6, **spec})
    return {**body, "status": status or {}}


def tracked(made: dict[str, Any], index: int | None = None, failures: int = 0) -> dict[str, Any]:
    made["metadata"]["finalizers"] = [TRACKING]
    if index is not None:
        made["metadata"]["annotations"] = {INDEX: str(index), INDEX_FAILURES: str(failures)}
    return made


def reasons(plan: Any) -> dict[str, str]:
    return {condition["type"]: condition["reason"] for condition in plan.status.get("conditions", ())}


def test_the_first_step_starts_as_many_as_may_run() -> None:
    plan = plan_job(job(parallelism=2, completions=5), [], NOW)
    assert plan.create == [NewPod(), NewPod()]
    assert plan.status["startTime"] == format_time(NOW)
    assert plan_job(job(parallelism=5, completions=2), [], NOW).create == [NewPod(), NewPod()]


def test_an_ended_pod_is_noted_first_and_counted_when_it_is_released() -> None:
    done = tracked(ended("a", "Succeeded"))
    first = plan_job(job(completions=2), [done], NOW)
    assert first.status["uncountedTerminatedPods"] == {"succeeded": ["uid-a"]}
    assert "succeeded" not in first.status
    assert first.release == [done]
    again = plan_job(job(first.status, completions=2), [done], NOW)
    assert again.status["uncountedTerminatedPods"] == {"succeeded": ["uid-a"]}
    gone = plan_job(job(first.status, completions=2), [], NOW)
    assert (gone.status["succeeded"], gone.status["uncountedTerminatedPods"]) == (1, {})
    released = ended("a", "Succeeded")
    assert plan_job(job(gone.status, completions=2), [released], NOW).status["succeeded"] == 1


def test_completion_is_said_twice() -> None:
    done, other = tracked(ended("a", "Succeeded")), tracked(pod("b"))
    first = plan_job(job(parallelism=2), [done, other], NOW)
    assert reasons(first) == {"SuccessCriteriaMet": "CompletionsReached"}
    assert first.delete == [other]
    last = plan_job(job(first.status), [ended("a", "Succeeded")], NOW)
    assert reasons(last) == {"SuccessCriteriaMet": "CompletionsReached", "Complete": "CompletionsReached"}
    assert last.status["completionTime"] == format_time(NOW)
    assert last.events == [("Normal", "Completed", "Job completed")]
    assert has_ended({"status": last.status})


def failing(count: int) -> list[dict[str, Any]]:
    return [tracked(ended(f"f{number}", "Failed", code=1)) for number in range(count)]


def old_start(seconds: int) -> dict[str, Any]:
    return {"startTime": format_time(NOW - seconds)}


INDEXED = {"completionMode": "Indexed", "completions": 2, "parallelism": 2}
PER_INDEX = {**INDEXED, "backoffLimitPerIndex": 0}
BOTH_FAILED = [tracked(ended(f"f{n}", "Failed", code=1), n) for n in range(2)]
OUTCOMES = [
    pytest.param(job(backoffLimit=0), failing(1), "BackoffLimitExceeded", id="no second try"),
    pytest.param(job(backoffLimit=2), failing(2), None, id="at the limit is not beyond it"),
    pytest.param(job(backoffLimit=2), failing(3), "BackoffLimitExceeded", id="beyond the limit"),
    pytest.param(job(old_start(9), activeDeadlineSeconds=10), [], None, id="in time"),
    pytest.param(job(old_start(10), activeDeadlineSeconds=10), [], "DeadlineExceeded", id="too late"),
    pytest.param(job(old_start(10), activeDeadlineSeconds=10, suspend=True), [], None, id="suspended time is free"),
    pytest.param(job(**PER_INDEX), BOTH_FAILED, "FailedIndexes", id="every index failed"),
    pytest.param(job(**PER_INDEX), BOTH_FAILED[:1], None, id="another index may go on"),
    pytest.param(
        job(**PER_INDEX, maxFailedIndexes=0), BOTH_FAILED[:1], "MaxFailedIndexesExceeded", id="one was too many"
    ),
]


@pytest.mark.parametrize(("body", "pods", "reason"), OUTCOMES)
def test_failures(body: dict[str, Any], pods: list[Any], reason: str | None) -> None:
    assert reasons(plan_job(body, pods, NOW)).get("FailureTarget") == reason


def test_restarts_count_where_pods_are_restarted() -> None:
    body = job(backoffLimit=2)
    body["spec"]["template"]["spec"]["restartPolicy"] = "OnFailure"
    restless = tracked(pod("a"))
    restless["status"]["containerStatuses"] = [{"name": "c", "restartCount": 2}]
    assert reasons(plan_job(body, [restless], NOW))["FailureTarget"] == "BackoffLimitExceeded"


def exits(action: str, operator: str, *codes: int) -> dict[str, Any]:
    return {"rules": [{"action": action, "onExitCodes": {"operator": operator, "values": [*codes]}}]}


DISRUPTED = {"rules": [{"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]}]}
POLICIES = [
    pytest.param(exits("FailJob", "In", 42), 42, "FailJob", id="in"),
    pytest.param(exits("FailJob", "In", 42), 1, "Count", id="not in"),
    pytest.param(exits("Ignore", "NotIn", 42), 1, "Ignore", id="other than"),
    pytest.param(exits("Ignore", "NotIn", 42), 42, "Count", id="not other than"),
    pytest.param(DISRUPTED, 1, "Count", id="no such condition"),
]


@pytest.mark.parametrize(("policy", "code", "action"), POLICIES)
def test_failure_policy(policy: dict[str, Any], code: int, action: str) -> None:
    assert judge(job(podFailurePolicy=policy), ended("a", "Failed", code=code)).action == action


def test_an_ignored_failure_does_not_count() -> None:
    moved = tracked(ended("a", "Failed", code=137))
    moved["status"]["conditions"].append({"type": "DisruptionTarget", "status": "True"})
    plan = plan_job(job(podFailurePolicy=DISRUPTED, backoffLimit=0), [moved], NOW)
    assert plan.status["uncountedTerminatedPods"] == {}
    assert plan.release == [moved]
    assert plan.create == [NewPod()]


def test_an_ignored_failure_delays_the_next_try() -> None:
    failed = [tracked(ended(f"f{n}", "Failed", code=5, at=format_time(NOW))) for n in range(2)]
    body = job(podFailurePolicy=exits("Ignore", "In", 5))
    assert (plan_job(body, failed[:1], NOW).create, plan_job(body, failed[:1], NOW).recheck_s) == ([], 10.0)
    assert plan_job(body, failed, NOW).recheck_s == 20.0
    assert plan_job(body, failed, NOW + 20).create == [NewPod()]


def test_an_index_carries_ignored_failures_on_apart() -> None:
    body = job(podFailurePolicy=exits("Ignore", "In", 5), **{**PER_INDEX, "completions": 1})
    failed = tracked(ended("f", "Failed", code=5, at=format_time(NOW)), 0)
    failed["metadata"]["annotations"][INDEX_IGNORED] = "1"
    plan = plan_job(body, [failed], NOW)
    assert (plan.create, plan.recheck_s, plan.release) == ([], 20.0, [])
    (new,) = plan_job(body, [failed], NOW + 20).create
    assert new == NewPod(0, failures=0, ignored=2)
    annotations = desired_pod(body, new.index, new.failures, new.ignored)["metadata"]["annotations"]
    assert (annotations[INDEX_FAILURES], annotations[INDEX_IGNORED]) == ("0", "2")


def test_the_next_try_waits_longer_each_time() -> None:
    just_now = [tracked(ended(f"f{n}", "Failed", code=1, at=format_time(NOW - n))) for n in range(3)]
    plan = plan_job(job(), just_now[:1], NOW)
    assert (plan.create, plan.recheck_s) == ([], 10.0)
    assert plan_job(job(), just_now, NOW).recheck_s == 40.0
    assert plan_job(job(), just_now[:1], NOW + 10).create == [NewPod()]


def test_indexes_are_filled_and_doubles_withdrawn() -> None:
    body = job(**{**INDEXED, "completions": 4, "parallelism": 3})
    pods = [tracked(pod("a"), 1), tracked(pod("b"), 1), tracked(ended("c", "Succeeded"), 0)]
    plan = plan_job(body, pods, NOW)
    assert [p["metadata"]["name"] for p in plan.withdraw] == ["b"]
    after = plan_job(body, [pods[0], pods[2]], NOW)
    assert after.create == [NewPod(2), NewPod(3)]
    assert after.status["completedIndexes"] == "0"


def test_an_index_carries_its_failures_on() -> None:
    body = job(**{**PER_INDEX, "backoffLimitPerIndex": 2})
    failed = tracked(ended("a", "Failed", code=1, at=LONG_AGO), 0, failures=1)
    plan = plan_job(body, [failed], NOW)
    assert plan.create == [NewPod(0, 2), NewPod(1, 0)]
    assert plan.release == []  # nobody else knows the number yet
    successor = tracked(pod("b"), 0, failures=2)
    assert plan_job(body, [failed, successor], NOW).release == [failed]


def test_a_pod_that_goes_is_replaced_at_once_or_when_it_is_gone() -> None:
    going = tracked(pod("a", deletionTimestamp=LONG_AGO))
    assert plan_job(job(), [going], NOW + 1).status["uncountedTerminatedPods"] == {"failed": ["uid-a"]}
    patient = plan_job(job(podReplacementPolicy="Failed"), [going], NOW)
    assert (patient.create, patient.status["terminating"]) == ([], 1)


def test_success_policy() -> None:
    policy = {"rules": [{"succeededIndexes": "1-2", "succeededCount": 1}]}
    body = job(**{**INDEXED, "completions": 3, "parallelism": 3}, successPolicy=policy)
    leader = tracked(ended("a", "Succeeded"), 1)
    follower = tracked(pod("b"), 2)
    plan = plan_job(body, [leader, follower], NOW)
    assert reasons(plan) == {"SuccessCriteriaMet": "SuccessPolicy"}
    assert plan.delete == [follower]
    assert reasons(plan_job(body, [tracked(ended("a", "Succeeded"), 0)], NOW)) == {}


def test_suspension_and_resumption() -> None:
    running = tracked(pod("a"))
    asleep = plan_job(job(old_start(100), suspend=True), [running], NOW)
    assert asleep.withdraw == [running]
    assert reasons(asleep) == {"Suspended": "JobSuspended"}
    awake = plan_job(job(asleep.status), [], NOW)
    assert reasons(awake) == {"Suspended": "JobResumed"}
    assert awake.status["startTime"] == format_time(NOW)


def test_an_indexed_pod_knows_its_number() -> None:
    made = desired_pod(job(**PER_INDEX), 3, 1)
    assert made["metadata"]["generateName"] == "j-3-"
    assert made["metadata"]["annotations"] == {INDEX: "3", INDEX_FAILURES: "1"}
    assert made["spec"]["hostname"] == "j-3"
    (variable,) = made["spec"]["containers"][0]["env"]
    assert variable["valueFrom"]["fieldRef"]["fieldPath"] == f"metadata.labels['{INDEX}']"


INDEX_TEXTS = [
    pytest.param({0, 1, 2}, "0-2", id="a run"),
    pytest.param({0, 1}, "0,1", id="a pair"),
    pytest.param({1, 3, 4, 5, 7}, "1,3-5,7", id="mixed"),
    pytest.param(set(), "", id="none"),
]


@pytest.mark.parametrize(("indexes", "text"), INDEX_TEXTS)
def test_index_texts(indexes: set[int], text: str) -> None:
    assert format_indexes(indexes) == text
    assert parse_indexes(text, 10) == indexes


@given(st.sets(st.integers(0, 40)))
def test_index_texts_round_trip(indexes: set[int]) -> None:
    assert parse_indexes(format_indexes(indexes), 41) == indexes


@given(
    completions=st.integers(1, 6),
    parallelism=st.integers(1, 4),
    indexed=st.booleans(),
    seed=st.integers(0, 2**32),
)
def test_no_pod_is_lost_or_counted_twice(completions: int, parallelism: int, indexed: bool, seed: int) -> None:
    """Pods end, vanish when nothing holds them, and every write may be lost half-way: in the end it adds up."""
    chance = random.Random(seed)
    spec = {"completions": completions, "parallelism": parallelism, "backoffLimit": 1000}
    body = job(**spec, completionMode="Indexed" if indexed else "NonIndexed")
    pods: dict[str, dict[str, Any]] = {}
    outcomes: dict[str, str] = {}
    now, shown = NOW, 0
    for turn in range(400):
        now += 700  # past every back-off
        plan = plan_job(body, [*pods.values()], now)
        assert len([p for p in pods.values() if p["status"]["phase"] == "Running"]) <= parallelism
        if chance.random() < 0.9:  # the status write reaches the server
            body = {**body, "status": plan.status}
            for released in plan.release:
                if chance.random() < 0.8:
                    released["metadata"]["finalizers"] = []
            for number, new in enumerate(plan.create):
                if chance.random() < 0.9:
                    name = f"p{turn}-{number}"
                    pods[name] = tracked(pod(name), new.index)
            for dead in (*plan.withdraw, *plan.delete):
                pods.pop(dead["metadata"]["name"])
        if has_ended(body):
            break
        for name, each in [*pods.items()]:
            if each["status"]["phase"] == "Running" and chance.random() < 0.5:
                phase = chance.choice(["Succeeded", "Failed"])
                outcomes[name] = phase
                pods[name] = {**ended(name, phase, at=format_time(now)), "metadata": each["metadata"]}
            elif not each["metadata"]["finalizers"] and chance.random() < 0.5:
                del pods[name]
        status = body["status"]
        waiting = status.get("uncountedTerminatedPods") or {}
        total = status.get("succeeded", 0) + len(waiting.get("succeeded", ()))
        assert total >= shown
        shown = total
    assert has_ended(body), "the job does not end"
    status = body["status"]
    assert status["succeeded"] == completions
    assert status.get("failed", 0) == sum(1 for phase in outcomes.values() if phase == "Failed")


MANY = {**INDEXED, "completions": 2_000_000_000}


def test_as_many_indexes_as_there_may_be() -> None:
    """What may be said is planned for, and never written out."""
    assert plan_job(job(**MANY), [], NOW).create == [NewPod(0), NewPod(1)]
    limits = {"backoffLimitPerIndex": 1, "maxFailedIndexes": 1}
    assert plan_job(job(**MANY, **limits), [], NOW).create == [NewPod(0), NewPod(1)]
    policy = {"rules": [{"succeededIndexes": "5-1999999999", "succeededCount": 1}]}
    done = [tracked(ended("a", "Succeeded"), 7)]
    assert reasons(plan_job(job(**MANY, successPolicy=policy), done, NOW))["Complete"] == "SuccessPolicy"


@pytest.mark.parametrize("index", ["²", "9" * 5000, "-1", "", "x"])
def test_a_pod_whose_index_is_no_number_has_none(index: str) -> None:
    odd = tracked(pod("a"), 0)
    odd["metadata"]["annotations"] |= {INDEX: index, INDEX_FAILURES: index, INDEX_IGNORED: index}
    assert plan_job(job(**INDEXED), [odd], NOW).withdraw == [odd]


@given(st.sets(st.integers(0, 60)), st.sets(st.integers(0, 60)))
def test_counting_within_runs(indexes: set[int], named: set[int]) -> None:
    assert count_within(indexes, parse_intervals(format_indexes(named), 61)) == len(indexes & named)
