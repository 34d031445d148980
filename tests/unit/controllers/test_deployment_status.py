"""Deployment status, revisions and template hashes: what `kubectl rollout` reads."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from podnet.controlplane.api.timestamps import format_time
from podnet.controlplane.controllers.deployment import revision
from podnet.controlplane.controllers.deployment.controller import desired_replica_set
from podnet.controlplane.controllers.deployment.status import (
    find,
    is_timed_out,
    paused_conditions,
    recheck_after_s,
    rollout_status,
)
from podnet.controlplane.controllers.deployment.template import find_new, same_template, template_hash

Object = dict[str, Any]
NOW = 1_000_000.0
TEMPLATE = {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "c", "image": "i:1"}]}}


def deployment(replicas: int = 3, conditions: list[Object] | None = None, **spec: Any) -> Object:
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "web", "namespace": "ns", "uid": "d", "generation": 4},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {"app": "web"}},
            "template": TEMPLATE,
            "progressDeadlineSeconds": 600,
            **spec,
        },
        "status": {"conditions": conditions or []},
    }


def rs(name: str, size: int, ready: int, available: int) -> Object:
    return {
        "metadata": {"name": name, "uid": name, "creationTimestamp": "2026-01-01T00:00:00Z"},
        "spec": {"replicas": size},
        "status": {"replicas": size, "readyReplicas": ready, "availableReplicas": available},
    }


def progressing(reason: str, age_s: float, status: str = "True") -> Object:
    stamp = format_time(NOW - age_s)
    return {
        "type": "Progressing",
        "status": status,
        "reason": reason,
        "lastUpdateTime": stamp,
        "lastTransitionTime": stamp,
    }


def test_counts() -> None:
    new, old = rs("new", 2, 1, 1), rs("old", 2, 2, 2)
    status = rollout_status(deployment(), new, [old, new], NOW)
    counts = {key: value for key, value in status.items() if key != "conditions"}
    assert counts == {
        "observedGeneration": 4,
        "replicas": 4,
        "updatedReplicas": 2,
        "readyReplicas": 3,
        "availableReplicas": 3,
        "unavailableReplicas": 1,
    }


@pytest.mark.parametrize(
    ("before", "sets", "expected"),
    [
        pytest.param(
            [progressing("NewReplicaSetCreated", 5)],
            [rs("new", 3, 3, 3)],
            ("True", "NewReplicaSetAvailable", 'ReplicaSet "new" has successfully progressed.'),
            id="complete",
        ),
        pytest.param(
            [progressing("NewReplicaSetCreated", 5)],
            [rs("new", 3, 1, 1)],
            ("True", "ReplicaSetUpdated", 'ReplicaSet "new" is progressing.'),
            id="on the way",
        ),
        pytest.param(
            [progressing("NewReplicaSetCreated", 601)],
            [rs("new", 0, 0, 0)],
            ("False", "ProgressDeadlineExceeded", 'ReplicaSet "new" has timed out progressing.'),
            id="stuck",
        ),
        pytest.param(
            [progressing("NewReplicaSetCreated", 599)],
            [rs("new", 0, 0, 0)],
            ("True", "NewReplicaSetCreated", None),
            id="not stuck yet",
        ),
        pytest.param(
            [progressing("NewReplicaSetAvailable", 9000)],
            [rs("new", 3, 2, 2)],
            ("True", "NewReplicaSetAvailable", None),
            id="complete once: a pod that falls later is no rollout",
        ),
    ],
)
def test_progressing(before: list[Object], sets: list[Object], expected: tuple[str, str, str | None]) -> None:
    status = rollout_status(deployment(conditions=before), sets[0], sets, NOW)
    condition = find(status["conditions"], "Progressing")
    assert condition is not None
    status_, reason, message = expected
    assert (condition["status"], condition["reason"]) == (status_, reason)
    if message is not None:
        assert condition["message"] == message


def test_available_follows_max_unavailable() -> None:
    rolling = {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 1}}
    for available, expected in ((1, "False"), (2, "True")):
        sets = [rs("new", 3, available, available)]
        status = rollout_status(deployment(strategy=rolling), sets[0], sets, NOW)
        condition = find(status["conditions"], "Available")
        assert condition is not None
        assert condition["status"] == expected


def test_a_failing_replica_set_shows_on_the_deployment() -> None:
    new = rs("new", 1, 0, 0)
    failure = {"type": "ReplicaFailure", "status": "True", "reason": "FailedCreate", "message": "quota"}
    new["status"]["conditions"] = [failure]
    status = rollout_status(deployment(), new, [new], NOW)
    condition = find(status["conditions"], "ReplicaFailure")
    assert condition is not None
    assert (condition["reason"], condition["message"]) == ("FailedCreate", "quota")
    new["status"]["conditions"] = []
    cleared = rollout_status({**deployment(), "status": status}, new, [new], NOW)
    assert find(cleared["conditions"], "ReplicaFailure") is None


def test_without_a_deadline_nothing_progresses() -> None:
    spec = deployment(conditions=[progressing("NewReplicaSetCreated", 5)])
    del spec["spec"]["progressDeadlineSeconds"]
    new = rs("new", 3, 3, 3)
    assert find(rollout_status(spec, new, [new], NOW)["conditions"], "Progressing") is None


def test_the_deadline_is_looked_at_when_it_is_due() -> None:
    waiting = {"conditions": [progressing("NewReplicaSetCreated", 590)], "observedGeneration": 4}
    assert recheck_after_s(deployment(), waiting, NOW) == 11.0
    done = {"replicas": 3, "updatedReplicas": 3, "availableReplicas": 3, **waiting}
    assert recheck_after_s(deployment(), done, NOW) is None
    late = {"conditions": [progressing("ProgressDeadlineExceeded", 900, "False")]}
    assert recheck_after_s(deployment(), late, NOW) is None
    assert is_timed_out(deployment(), late, NOW)


@pytest.mark.parametrize(
    ("paused", "before", "expected"),
    [
        pytest.param(True, [], "DeploymentPaused", id="pause"),
        pytest.param(True, [progressing("DeploymentPaused", 5, "Unknown")], None, id="still paused"),
        pytest.param(False, [progressing("DeploymentPaused", 5, "Unknown")], "DeploymentResumed", id="resume"),
        pytest.param(False, [], None, id="was not paused"),
        pytest.param(True, [progressing("ProgressDeadlineExceeded", 5, "False")], None, id="a timeout is not hidden"),
    ],
)
def test_paused_conditions(paused: bool, before: list[Object], expected: str | None) -> None:
    conditions = paused_conditions(deployment(conditions=before, paused=paused), NOW)
    reason = None if conditions is None else (find(conditions, "Progressing") or {}).get("reason")
    assert reason == expected


def test_the_new_replica_set() -> None:
    spec = deployment(minReadySeconds=7, strategy={"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 2}})
    spec["metadata"]["annotations"] = {
        "kubernetes.io/change-cause": "why",
        "kubectl.kubernetes.io/last-applied-configuration": "{}",
        "deployment.kubernetes.io/revision": "9",
    }
    body = desired_replica_set(spec, [])
    suffix = template_hash(TEMPLATE, 0)
    assert body["metadata"]["name"] == f"web-{suffix}"
    assert body["metadata"]["labels"] == {"app": "web", "pod-template-hash": suffix}
    assert body["spec"]["template"]["metadata"]["labels"] == {"app": "web", "pod-template-hash": suffix}
    assert body["spec"]["selector"] == {"matchLabels": {"app": "web", "pod-template-hash": suffix}}
    assert body["metadata"]["annotations"] == {
        "kubernetes.io/change-cause": "why",
        "deployment.kubernetes.io/revision": "1",
        "deployment.kubernetes.io/desired-replicas": "3",
        "deployment.kubernetes.io/max-replicas": "5",
    }
    assert body["spec"]["minReadySeconds"] == 7
    assert body["metadata"]["ownerReferences"][0]["controller"] is True
    assert spec["spec"]["template"] == TEMPLATE


def test_a_template_is_found_again_whatever_the_hash_label() -> None:
    labelled = {"metadata": {"labels": {"app": "web", "pod-template-hash": "abc"}}, "spec": TEMPLATE["spec"]}
    assert same_template(labelled, TEMPLATE)
    other = {"metadata": {"labels": {"app": "other"}}, "spec": TEMPLATE["spec"]}
    assert not same_template(labelled, other)
    sets = [{"metadata": {"name": "x"}, "spec": {"template": labelled}}]
    assert find_new(deployment(), sets) is sets[0]


@given(st.text(), st.integers(0, 5))
def test_the_hash_is_a_name_and_moves_with_its_input(image: str, count: int) -> None:
    template = {"spec": {"containers": [{"image": image}]}}
    value = template_hash(template, count)
    assert value == template_hash(template, count)
    assert set(value) <= set("bcdfghjklmnpqrstvwxz2456789")
    assert 1 <= len(value) <= 10
    assert value != template_hash(template, count + 1)


def test_history_remembers_every_revision_a_replica_set_was() -> None:
    once = revision.new_annotations(deployment(), {}, 1)
    again = revision.new_annotations(deployment(), once, 3)
    thrice = revision.new_annotations(deployment(), again, 5)
    assert thrice[revision.REVISION] == "5"
    assert thrice[revision.REVISION_HISTORY] == "1,3"
    assert revision.new_annotations(deployment(), thrice, 4) == thrice


@pytest.mark.parametrize(
    ("limit", "expected"),
    [(10, []), (2, ["r1"]), (1, ["r1", "r2"]), (0, ["r1", "r2"])],
    ids=["room", "one too many", "the oldest two", "never those in use"],
)
def test_cleanup(limit: int, expected: list[str]) -> None:
    def old(number: int, size: int = 0) -> Object:
        return {
            "metadata": {"name": f"r{number}", "annotations": {revision.REVISION: str(number)}, "generation": 1},
            "spec": {"replicas": size},
            "status": {"replicas": size, "observedGeneration": 1},
        }

    sets = [old(2), old(1), old(3, size=1)]
    found = revision.plan_cleanup(deployment(revisionHistoryLimit=limit), sets)
    assert [item["metadata"]["name"] for item in found] == expected
