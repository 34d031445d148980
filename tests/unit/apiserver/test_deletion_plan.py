"""What a DELETE decides, as a value."""

from __future__ import annotations

from typing import Any

import pytest

from podnet.controlplane.api import resources as r
from podnet.controlplane.api.errors import StatusError
from podnet.controlplane.api.timestamps import format_time
from podnet.controlplane.apiserver.deletion import JOB_WARNING, is_finished, plan_deletion
from podnet.controlplane.apiserver.options import DeleteOptions

NOW = 1_800_000_000.0


def pod(*, node: str = "n1", phase: str = "Running", grace: int | None = 30, **metadata: Any) -> dict[str, Any]:
    spec: dict[str, Any] = {"nodeName": node} if node else {}
    if grace is not None:
        spec["terminationGracePeriodSeconds"] = grace
    return {"metadata": {"name": "a", **metadata}, "spec": spec, "status": {"phase": phase}}


@pytest.mark.parametrize(
    ("obj", "grace", "removed", "period"),
    [
        (pod(), None, False, 30),
        (pod(), 5, False, 5),
        (pod(), 0, True, None),
        (pod(node=""), None, True, None),
        (pod(node=""), 60, True, None),
        (pod(phase="Succeeded"), None, True, None),
        (pod(phase="Failed"), 10, True, None),
        (pod(grace=0), None, True, None),
        (pod(grace=None), None, False, 30),
        (pod(), -1, False, 1),
        (pod(finalizers=["x/y"]), 0, False, 0),
        (pod(node="", finalizers=["x/y"]), None, False, 0),
    ],
    ids=[
        "spec",
        "asked",
        "force",
        "unscheduled",
        "unscheduled-asked",
        "succeeded",
        "failed",
        "spec-0",
        "default",
        "negative",
        "finalizer-force",
        "finalizer-unscheduled",
    ],
)
def test_pods_have_grace(obj: dict[str, Any], grace: int | None, removed: bool, period: int | None) -> None:
    plan = plan_deletion(obj, r.PODS, DeleteOptions(grace_period_s=grace), NOW)
    assert plan.remove is removed
    if not removed:
        assert plan.keep is not None
        assert plan.keep["metadata"]["deletionGracePeriodSeconds"] == period
        assert plan.keep["metadata"]["deletionTimestamp"] == format_time(NOW + (period or 0))


def test_a_second_delete_may_shorten_but_not_lengthen() -> None:
    first = plan_deletion(pod(), r.PODS, DeleteOptions(), NOW).keep
    assert first is not None
    assert plan_deletion(dict(first), r.PODS, DeleteOptions(grace_period_s=60), NOW).keep is None
    shorter = plan_deletion(first, r.PODS, DeleteOptions(grace_period_s=5), NOW + 1).keep
    assert shorter is not None
    assert shorter["metadata"]["deletionGracePeriodSeconds"] == 5
    assert shorter["metadata"]["deletionTimestamp"] == format_time(NOW + 5)


def test_the_kubelets_last_word_removes() -> None:
    first = plan_deletion(pod(), r.PODS, DeleteOptions(), NOW).keep
    assert first is not None
    assert plan_deletion(first, r.PODS, DeleteOptions(grace_period_s=0), NOW + 30).remove


@pytest.mark.parametrize(
    ("policy", "finalizers"),
    [("Foreground", ["foregroundDeletion"]), ("Orphan", ["orphan"])],
)
def test_propagation_leaves_a_finalizer_for_the_collector(policy: Any, finalizers: list[str]) -> None:
    obj = {"metadata": {"name": "d", "generation": 1}, "spec": {}}
    plan = plan_deletion(obj, r.DEPLOYMENTS, DeleteOptions(propagation=policy), NOW)
    assert plan.keep is not None
    assert plan.keep["metadata"]["finalizers"] == finalizers
    assert plan.keep["metadata"]["generation"] == 2


def test_background_takes_the_object_at_once() -> None:
    assert plan_deletion(
        {"metadata": {"name": "d"}}, r.DEPLOYMENTS, DeleteOptions(propagation="Background"), NOW
    ).remove


def test_background_undoes_foreground() -> None:
    obj = {
        "metadata": {
            "name": "d",
            "deletionTimestamp": format_time(NOW),
            "deletionGracePeriodSeconds": 0,
            "finalizers": ["foregroundDeletion"],
        }
    }
    assert plan_deletion(obj, r.DEPLOYMENTS, DeleteOptions(propagation="Background"), NOW).remove


def test_jobs_orphan_their_pods_unless_told() -> None:
    options = DeleteOptions()
    plan = plan_deletion({"metadata": {"name": "j"}}, r.JOBS, options, NOW)
    assert plan.keep is not None
    assert plan.keep["metadata"]["finalizers"] == ["orphan"]
    assert options.warnings == [JOB_WARNING]


def test_an_unknown_policy_is_refused() -> None:
    with pytest.raises(StatusError, match="propagationPolicy"):
        plan_deletion({"metadata": {"name": "d"}}, r.DEPLOYMENTS, DeleteOptions(propagation="Sideways"), NOW)  # type: ignore[arg-type]


def test_a_namespace_waits_for_its_contents() -> None:
    obj = {"metadata": {"name": "n"}, "spec": {"finalizers": ["kubernetes"]}, "status": {"phase": "Active"}}
    plan = plan_deletion(obj, r.NAMESPACES, DeleteOptions(), NOW)
    assert plan.keep is not None
    assert plan.keep["status"]["phase"] == "Terminating"
    assert not is_finished(plan.keep, r.NAMESPACES)
    plan.keep["spec"]["finalizers"] = []
    assert is_finished(plan.keep, r.NAMESPACES)


@pytest.mark.parametrize(
    ("metadata", "finished"),
    [
        ({}, False),
        ({"deletionTimestamp": "t"}, True),
        ({"deletionTimestamp": "t", "finalizers": ["a"]}, False),
        ({"deletionTimestamp": "t", "deletionGracePeriodSeconds": 30}, False),
        ({"deletionTimestamp": "t", "deletionGracePeriodSeconds": 0}, True),
    ],
)
def test_when_an_update_ends_a_deletion(metadata: dict[str, Any], finished: bool) -> None:
    assert is_finished({"metadata": metadata}, r.PODS) is finished
