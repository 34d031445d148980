"""Jobs and CronJobs end to end on the real registry."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from podnet.controlplane.api.resources import (
    CRONJOBS,
    JOBS,
    PODS,
)

sys.path.insert(0, str(Path(__file__).parent))
from scenario_steps import job, live, pods


async def finish(plane: Any, pod: dict[str, Any], phase: str, code: int = 0) -> None:
    ended = {"exitCode": code, "reason": "Completed" if code == 0 else "Error", "finishedAt": "2020-01-01T00:00:00Z"}
    status = {
        "phase": phase,
        "containerStatuses": [
            {
                "name": "c",
                "image": "i",
                "imageID": "",
                "ready": False,
                "restartCount": 0,
                "state": {"terminated": ended},
            }
        ],
    }
    await plane.client.patch(
        PODS, pod["metadata"]["name"], "default", {"status": status}, patch_type="strategic", subresource="status"
    )


async def unfinished(plane: Any, count: int) -> Any:
    async def check() -> Any:
        found = [p for p in await pods(plane) if p["status"]["phase"] in {"Pending", "Running"}]
        return (found,) if len(found) == count else None

    return (await plane.until(check))[0]


async def ended(plane: Any, name: str, kind: str) -> Any:
    async def check() -> Any:
        found = await live(plane, JOBS, name)
        conditions = {c["type"]: c for c in (found.get("status") or {}).get("conditions") or ()}
        return (found, conditions) if kind in conditions else None

    try:
        return await plane.until(check)
    except AssertionError:
        raise AssertionError((await live(plane, JOBS, name)).get("status")) from None


async def test_a_job_runs_to_its_completions_and_counts_pods_that_are_gone(plane: Any) -> None:
    plane.start()
    await plane.client.create(JOBS, job("pi", completions=3, parallelism=2))
    for count in (2, 2, 1):
        pod, *_ = await unfinished(plane, count)
        await finish(plane, pod, "Succeeded")
        await plane.client.delete(PODS, pod["metadata"]["name"], "default", grace_period_s=0)
    found, conditions = await ended(plane, "pi", "Complete")
    assert found["status"]["succeeded"] == 3
    assert conditions["Complete"]["reason"] == conditions["SuccessCriteriaMet"]["reason"] == "CompletionsReached"
    assert "completionTime" in found["status"]
    assert await pods(plane) == []


async def test_an_indexed_job_numbers_its_pods(plane: Any) -> None:
    plane.start()
    await plane.client.create(JOBS, job("idx", completions=2, parallelism=2, completionMode="Indexed"))
    both = await unfinished(plane, 2)
    key = "batch.kubernetes.io/job-completion-index"
    assert sorted(pod["metadata"]["annotations"][key] for pod in both) == ["0", "1"]
    assert sorted(pod["spec"]["hostname"] for pod in both) == ["idx-0", "idx-1"]
    (variable,) = both[0]["spec"]["containers"][0]["env"]
    assert variable["name"] == "JOB_COMPLETION_INDEX"
    for pod in both:
        await finish(plane, pod, "Succeeded")
    found, _ = await ended(plane, "idx", "Complete")
    assert found["status"]["completedIndexes"] == "0,1"


async def test_a_job_gives_up_at_its_backoff_limit(plane: Any) -> None:
    plane.start()
    await plane.client.create(JOBS, job("bad", backoffLimit=0))
    (pod,) = await unfinished(plane, 1)
    await finish(plane, pod, "Failed", 1)
    found, conditions = await ended(plane, "bad", "Failed")
    assert conditions["Failed"]["reason"] == "BackoffLimitExceeded"
    assert found["status"]["failed"] == 1


async def test_a_failure_policy_ends_a_job_at_once(plane: Any) -> None:
    plane.start()
    policy = {"rules": [{"action": "FailJob", "onExitCodes": {"operator": "In", "values": [42]}}]}
    await plane.client.create(JOBS, job("picky", parallelism=2, completions=2, podFailurePolicy=policy))
    pod, other = await unfinished(plane, 2)
    await finish(plane, pod, "Failed", 42)
    _, conditions = await ended(plane, "picky", "FailureTarget")
    await finish(plane, other, "Failed", 137)
    _, conditions = await ended(plane, "picky", "Failed")
    name = pod["metadata"]["name"]
    expected = f"Container c for pod default/{name} failed with exit code 42 matching FailJob rule at index 0"
    assert conditions["Failed"]["message"] == expected
    assert conditions["Failed"]["reason"] == "PodFailurePolicy"


async def test_each_index_has_its_own_limit(plane: Any) -> None:
    plane.start()
    body = job("idx", completions=2, parallelism=2, completionMode="Indexed", backoffLimitPerIndex=0)
    await plane.client.create(JOBS, body)
    first, second = sorted(await unfinished(plane, 2), key=lambda pod: pod["spec"]["hostname"])
    await finish(plane, first, "Failed", 1)
    await finish(plane, second, "Succeeded")
    found, conditions = await ended(plane, "idx", "Failed")
    assert conditions["Failed"]["reason"] == "FailedIndexes"
    assert (found["status"]["failedIndexes"], found["status"]["completedIndexes"]) == ("0", "1")


async def test_a_suspended_job_has_no_pods_and_loses_nothing(plane: Any) -> None:
    plane.start()
    await plane.client.create(JOBS, job("nap", suspend=True))
    _, conditions = await ended(plane, "nap", "Suspended")
    assert conditions["Suspended"]["reason"] == "JobSuspended"
    assert await pods(plane) == []
    await plane.client.patch(JOBS, "nap", "default", {"spec": {"suspend": False}})
    await unfinished(plane, 1)
    await plane.client.patch(JOBS, "nap", "default", {"spec": {"suspend": True}})
    await unfinished(plane, 0)
    await plane.client.patch(JOBS, "nap", "default", {"spec": {"suspend": False}})
    (pod,) = await unfinished(plane, 1)
    await finish(plane, pod, "Succeeded")
    found, _ = await ended(plane, "nap", "Complete")
    assert "failed" not in found["status"]


async def test_deadline_and_time_to_live(plane: Any) -> None:
    plane.start()
    await plane.client.create(JOBS, job("slow", activeDeadlineSeconds=1, ttlSecondsAfterFinished=0))

    async def gone() -> Any:
        jobs = (await plane.client.list(JOBS, "default")).items
        return not jobs and not await pods(plane)

    await plane.until(gone)


@pytest.mark.parametrize("propagation", ["Background", "Foreground"])
async def test_pods_of_a_deleted_job_go(plane: Any, propagation: str) -> None:
    plane.start()
    await plane.client.create(JOBS, job("pi"))
    await unfinished(plane, 1)
    await plane.client.delete(JOBS, "pi", "default", propagation=propagation)

    async def gone() -> Any:
        return not (await plane.client.list(JOBS, "default")).items and not await pods(plane)

    await plane.until(gone)


async def test_pods_of_an_orphaning_job_stay_and_are_free(plane: Any) -> None:
    plane.start()
    await plane.client.create(JOBS, job("pi"))
    await unfinished(plane, 1)
    await plane.client.delete(JOBS, "pi", "default", propagation="Orphan")

    async def free() -> Any:
        return [p for p in await pods(plane) if not {"ownerReferences", "finalizers"} & p["metadata"].keys()]

    await plane.until(free)


async def test_a_cron_job_starts_jobs_and_keeps_few(plane: Any) -> None:
    plane.start()
    template = {"spec": {"template": job("x")["spec"]["template"]}}
    spec = {"schedule": "@every 1s", "jobTemplate": template, "concurrencyPolicy": "Forbid"}
    body = {"apiVersion": "batch/v1", "kind": "CronJob", "metadata": {"name": "tick", "namespace": "default"}}
    await plane.client.create(CRONJOBS, {**body, "spec": {**spec, "successfulJobsHistoryLimit": 0}})
    (pod,) = await unfinished(plane, 1)
    cron_job = await live(plane, CRONJOBS, "tick")
    (active,) = cron_job["status"]["active"]
    assert active["name"] == pod["metadata"]["ownerReferences"][0]["name"]
    await finish(plane, pod, "Succeeded")

    async def forgotten() -> Any:
        names = [each["metadata"]["name"] for each in (await plane.client.list(JOBS, "default")).items]
        last = (await live(plane, CRONJOBS, "tick"))["status"].get("lastSuccessfulTime")
        return last and active["name"] not in names

    await plane.until(forgotten)
