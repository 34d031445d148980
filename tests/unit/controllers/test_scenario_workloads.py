"""DaemonSets, StatefulSets, Jobs and ReplicationControllers end to end on the real registry."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest

from podnet.controlplane.api.errors import StatusError
from podnet.controlplane.api.resources import (
    CONTROLLERREVISIONS,
    CRONJOBS,
    DAEMONSETS,
    JOBS,
    NODES,
    PERSISTENTVOLUMECLAIMS,
    PERSISTENTVOLUMES,
    PODDISRUPTIONBUDGETS,
    PODS,
    REPLICATIONCONTROLLERS,
    RESOURCEQUOTAS,
    STATEFULSETS,
)


def workload(kind: str, name: str, **spec: Any) -> dict[str, Any]:
    template = {
        "metadata": {"labels": {"app": name}},
        "spec": {"containers": [{"name": "c", "image": "nginx:1"}]},
    }
    return {
        "apiVersion": "apps/v1",
        "kind": kind,
        "metadata": {"name": name, "namespace": "default"},
        "spec": {"selector": {"matchLabels": {"app": name}}, "template": template, **spec},
    }


def job(name: str, **spec: Any) -> dict[str, Any]:
    pod = {"restartPolicy": "Never", "containers": [{"name": "c", "image": "busybox"}]}
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {"template": {"spec": pod}, **spec},
    }


def image(name: str) -> dict[str, Any]:
    return {"spec": {"template": {"spec": {"containers": [{"name": "c", "image": name}]}}}}


async def booted(plane: Any, *nodes: str) -> None:
    plane.start()
    plane.start_scheduler()
    plane.start_kubelet()
    for node in nodes or ("node-1", "node-2"):
        await plane.add_node(node)


async def pods(plane: Any, app: str = "") -> list[dict[str, Any]]:
    return (await plane.client.list(PODS, "default", label_selector=f"app={app}" if app else "")).items


async def live(plane: Any, resource: Any, name: str) -> Any:
    return await plane.client.get(resource, name, "default")


async def status_is(plane: Any, resource: Any, name: str, **fields: Any) -> Any:
    async def check() -> Any:
        obj = await live(plane, resource, name)
        status = obj.get("status") or {}
        same = status.get("observedGeneration", 0) == obj["metadata"].get("generation", 0)
        return obj if same and all(status.get(field, 0) == value for field, value in fields.items()) else None

    try:
        return await plane.until(check)
    except AssertionError:
        raise AssertionError((await live(plane, resource, name)).get("status")) from None


async def test_a_daemon_set_follows_the_nodes(plane: Any) -> None:
    await booted(plane)
    await plane.client.create(DAEMONSETS, workload("DaemonSet", "agent"))
    await status_is(plane, DAEMONSETS, "agent", desiredNumberScheduled=2, numberAvailable=2, updatedNumberScheduled=2)
    await plane.add_node("node-3")
    await status_is(plane, DAEMONSETS, "agent", desiredNumberScheduled=3, numberAvailable=3)
    assert {pod["spec"]["nodeName"] for pod in await pods(plane, "agent")} == {"node-1", "node-2", "node-3"}
    await plane.client.delete(NODES, "node-2")
    await status_is(plane, DAEMONSETS, "agent", desiredNumberScheduled=2, numberAvailable=2)
    taint = {"spec": {"taints": [{"key": "away", "effect": "NoExecute"}]}}
    await plane.client.patch(NODES, "node-3", "", taint)
    await status_is(plane, DAEMONSETS, "agent", desiredNumberScheduled=1, numberAvailable=1)

    async def alone() -> Any:
        # The pod of the node that is gone is the pod collector's, after its quarantine.
        return {pod["spec"]["nodeName"] for pod in await pods(plane, "agent")} - {"node-2"} == {"node-1"}

    await plane.until(alone)


async def test_a_daemon_set_rolls_and_comes_back(plane: Any) -> None:
    await booted(plane)
    await plane.client.create(DAEMONSETS, workload("DaemonSet", "agent"))
    await status_is(plane, DAEMONSETS, "agent", numberAvailable=2, updatedNumberScheduled=2)
    await plane.client.patch(DAEMONSETS, "agent", "default", image("nginx:2"), patch_type="strategic")
    await status_is(plane, DAEMONSETS, "agent", numberAvailable=2, updatedNumberScheduled=2)
    assert [pod["spec"]["containers"][0]["image"] for pod in await pods(plane, "agent")] == ["nginx:2"] * 2
    revisions = (await plane.client.list(CONTROLLERREVISIONS, "default")).items
    assert sorted(revision["revision"] for revision in revisions) == [1, 2]
    # `kubectl rollout undo` sends the data of the old revision as a strategic merge patch.
    first = next(revision for revision in revisions if revision["revision"] == 1)
    await plane.client.patch(DAEMONSETS, "agent", "default", first["data"], patch_type="strategic")
    await status_is(plane, DAEMONSETS, "agent", numberAvailable=2, updatedNumberScheduled=2)
    assert [pod["spec"]["containers"][0]["image"] for pod in await pods(plane, "agent")] == ["nginx:1"] * 2
    revisions = (await plane.client.list(CONTROLLERREVISIONS, "default")).items
    assert sorted(revision["revision"] for revision in revisions) == [2, 3]
    counted = "deprecated.daemonset.template.generation"
    assert (await live(plane, DAEMONSETS, "agent"))["metadata"]["annotations"][counted] == "3"
    assert {pod["metadata"]["labels"]["pod-template-generation"] for pod in await pods(plane, "agent")} == {"3"}


async def test_on_delete_waits_for_the_user(plane: Any) -> None:
    await booted(plane, "node-1")
    await plane.client.create(DAEMONSETS, workload("DaemonSet", "agent", updateStrategy={"type": "OnDelete"}))
    await status_is(plane, DAEMONSETS, "agent", numberAvailable=1, updatedNumberScheduled=1)
    await plane.client.patch(DAEMONSETS, "agent", "default", image("nginx:2"), patch_type="strategic")
    await status_is(plane, DAEMONSETS, "agent", numberAvailable=1, updatedNumberScheduled=0)
    (pod,) = await pods(plane, "agent")
    assert pod["spec"]["containers"][0]["image"] == "nginx:1"
    await plane.client.delete(PODS, pod["metadata"]["name"], "default")
    await status_is(plane, DAEMONSETS, "agent", numberAvailable=1, updatedNumberScheduled=1)


async def test_a_surging_daemon_set_keeps_the_old_pod_until_the_new_is_ready(plane: Any) -> None:
    plane.start()
    plane.start_scheduler()
    await plane.add_node("node-1")
    surge = {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}}
    await plane.client.create(DAEMONSETS, workload("DaemonSet", "agent", updateStrategy=surge))

    async def placed(count: int) -> Any:
        found = [pod for pod in await pods(plane, "agent") if pod["spec"].get("nodeName")]
        return found if len(found) == count else None

    (old,) = await plane.until(lambda: placed(1))
    await plane.set_ready(old)
    await status_is(plane, DAEMONSETS, "agent", numberAvailable=1)
    await plane.client.patch(DAEMONSETS, "agent", "default", image("nginx:2"), patch_type="strategic")
    both = await plane.until(lambda: placed(2))
    assert not any(pod["metadata"].get("deletionTimestamp") for pod in both)
    (new,) = [pod for pod in both if pod["metadata"]["uid"] != old["metadata"]["uid"]]
    await plane.set_ready(new)

    async def old_goes() -> Any:
        return [p for p in await pods(plane, "agent") if p["metadata"].get("deletionTimestamp")]

    (going,) = await plane.until(old_goes)
    assert going["metadata"]["uid"] == old["metadata"]["uid"]


async def test_a_stateful_set_starts_in_order_with_names_and_claims(plane: Any) -> None:
    await booted(plane)
    claim = {
        "metadata": {"name": "data"},
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}},
    }
    for number in range(2):  # an administrator's volumes: without one a pod waits for its node
        spec = {
            "capacity": {"storage": "1Gi"},
            "accessModes": ["ReadWriteOnce"],
            "hostPath": {"path": f"/data/{number}"},
        }
        volume = {"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": f"pv-{number}"}, "spec": spec}
        await plane.client.create(PERSISTENTVOLUMES, volume)
    body = workload("StatefulSet", "db", replicas=2, serviceName="db", volumeClaimTemplates=[claim])
    await plane.client.create(STATEFULSETS, body)

    async def claims() -> Any:
        return sorted(c["metadata"]["name"] for c in (await plane.client.list(PERSISTENTVOLUMECLAIMS, "default")).items)

    async def first() -> Any:
        return await claims() == ["data-db-0", "data-db-1"]

    await plane.until(first)
    pod = await live(plane, PODS, "db-0")
    assert pod["metadata"]["labels"]["statefulset.kubernetes.io/pod-name"] == "db-0"
    assert pod["metadata"]["labels"]["apps.kubernetes.io/pod-index"] == "0"
    assert (pod["spec"]["hostname"], pod["spec"]["subdomain"]) == ("db-0", "db")
    volume = next(v for v in pod["spec"]["volumes"] if v["name"] == "data")
    assert volume["persistentVolumeClaim"]["claimName"] == "data-db-0"


@pytest.mark.parametrize("when", ["whenScaled", "whenDeleted"])
async def test_claims_go_when_the_policy_says_so(plane: Any, when: str) -> None:
    await booted(plane)
    claim = {
        "metadata": {"name": "data"},
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}},
    }
    body = workload(
        "StatefulSet",
        "db",
        replicas=2,
        podManagementPolicy="Parallel",
        volumeClaimTemplates=[claim],
        persistentVolumeClaimRetentionPolicy={when: "Delete"},
    )
    await plane.client.create(STATEFULSETS, body)

    async def claims() -> Any:
        found = (await plane.client.list(PERSISTENTVOLUMECLAIMS, "default")).items
        # A claim in use is held by its protection until its pod is gone: that it goes is all that counts here.
        return [c["metadata"]["name"] for c in found if not c["metadata"].get("deletionTimestamp")]

    async def are(*names: str) -> Any:
        return sorted(await claims()) == [*names]

    await plane.until(lambda: are("data-db-0", "data-db-1"))
    await plane.until(lambda: _count(plane, 2))
    if when == "whenScaled":
        await plane.client.patch(STATEFULSETS, "db", "default", {"spec": {"replicas": 1}})
        await plane.until(lambda: are("data-db-0"))
    else:
        await plane.client.delete(STATEFULSETS, "db", "default", propagation="Background")
        await plane.until(are)


async def _count(plane: Any, number: int) -> bool:
    return len(await pods(plane, "db")) == number


async def test_a_stateful_set_grows_shrinks_and_updates_from_the_top(plane: Any) -> None:
    await booted(plane)
    await plane.client.create(STATEFULSETS, workload("StatefulSet", "db", replicas=3))
    fresh = await status_is(plane, STATEFULSETS, "db", replicas=3, readyReplicas=3, currentReplicas=3)
    first = fresh["status"]["currentRevision"]
    partition = {"spec": {"updateStrategy": {"rollingUpdate": {"partition": 2}}}}
    await plane.client.patch(STATEFULSETS, "db", "default", partition)
    await plane.client.patch(STATEFULSETS, "db", "default", image("nginx:2"), patch_type="strategic")
    half = await status_is(plane, STATEFULSETS, "db", readyReplicas=3, updatedReplicas=1, currentReplicas=2)
    assert half["status"]["currentRevision"] == first != half["status"]["updateRevision"]
    # A pod below the partition comes back as it was.
    await plane.client.delete(PODS, "db-0", "default")
    await status_is(plane, STATEFULSETS, "db", readyReplicas=3, updatedReplicas=1, currentReplicas=2)

    async def images() -> Any:
        found = {p["metadata"]["name"]: p["spec"]["containers"][0]["image"] for p in await pods(plane, "db")}
        return found == {"db-0": "nginx:1", "db-1": "nginx:1", "db-2": "nginx:2"}

    await plane.until(images)
    whole = {"spec": {"updateStrategy": {"rollingUpdate": {"partition": 0}}, "replicas": 2}}
    await plane.client.patch(STATEFULSETS, "db", "default", whole)
    done = await status_is(plane, STATEFULSETS, "db", replicas=2, readyReplicas=2, updatedReplicas=2)
    assert done["status"]["currentRevision"] == done["status"]["updateRevision"]


async def test_a_parallel_stateful_set_does_not_wait(plane: Any) -> None:
    plane.start()
    body = workload("StatefulSet", "db", replicas=3, podManagementPolicy="Parallel")
    await plane.client.create(STATEFULSETS, body)

    async def all_there() -> Any:
        return sorted(p["metadata"]["name"] for p in await pods(plane, "db")) == ["db-0", "db-1", "db-2"]

    await plane.until(all_there)


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


async def test_a_budget_and_a_quota_follow_the_pods(plane: Any) -> None:
    await booted(plane)
    quota = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "q", "namespace": "default"}}
    await plane.client.create(RESOURCEQUOTAS, {**quota, "spec": {"hard": {"pods": "2"}}})
    budget = {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": {"name": "b", "namespace": "default"},
    }
    selector = {"matchLabels": {"app": "db"}}
    await plane.client.create(PODDISRUPTIONBUDGETS, {**budget, "spec": {"selector": selector, "maxUnavailable": 1}})
    await plane.client.create(STATEFULSETS, workload("StatefulSet", "db", replicas=2))
    await status_is(plane, PODDISRUPTIONBUDGETS, "b", expectedPods=2, currentHealthy=2, disruptionsAllowed=1)
    await status_is(plane, RESOURCEQUOTAS, "q", used={"pods": "2"})
    spare = {"metadata": {"name": "x", "namespace": "default"}, "spec": {"containers": [{"name": "c", "image": "i"}]}}
    with pytest.raises(StatusError, match="exceeded quota: q, requested: pods=1, used: pods=2, limited: pods=2"):
        await plane.client.create(PODS, {"apiVersion": "v1", "kind": "Pod", **spare})


async def test_a_replication_controller_keeps_its_number(plane: Any) -> None:
    await booted(plane)
    body = workload("ReplicationController", "old", replicas=2, selector={"app": "old"})
    await plane.client.create(REPLICATIONCONTROLLERS, {**body, "apiVersion": "v1"})
    await status_is(plane, REPLICATIONCONTROLLERS, "old", replicas=2, readyReplicas=2)
    pod, _ = await pods(plane, "old")
    await plane.client.delete(PODS, pod["metadata"]["name"], "default")
    await status_is(plane, REPLICATIONCONTROLLERS, "old", replicas=2, readyReplicas=2)
    await plane.client.patch(REPLICATIONCONTROLLERS, "old", "default", {"spec": {"replicas": 0}})
    await status_is(plane, REPLICATIONCONTROLLERS, "old", replicas=0)


async def test_a_budget_over_daemons_says_that_it_cannot_count(plane: Any) -> None:
    await booted(plane)
    selector = {"matchLabels": {"app": "agent"}}
    budget = {"apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "spec": {"selector": selector}}
    for name, spec in (("share", {"maxUnavailable": 1}), ("number", {"minAvailable": 1})):
        body = {**budget, "metadata": {"name": name, "namespace": "default"}}
        await plane.client.create(PODDISRUPTIONBUDGETS, {**body, "spec": {"selector": selector, **spec}})
    await plane.client.create(DAEMONSETS, workload("DaemonSet", "agent"))
    await status_is(plane, PODDISRUPTIONBUDGETS, "number", expectedPods=2, currentHealthy=2, disruptionsAllowed=1)

    async def told() -> Any:
        conditions = (await live(plane, PODDISRUPTIONBUDGETS, "share")).get("status", {}).get("conditions") or [{}]
        return conditions[0].get("reason") == "SyncFailed" and conditions[0]["message"]

    assert await plane.until(told) == "daemonsets.apps does not implement the scale subresource"


async def test_a_claim_that_went_is_made_again_for_the_pod_that_waits(plane: Any) -> None:
    await booted(plane)
    spec = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}
    claim = {"metadata": {"name": "data"}, "spec": spec}
    await plane.client.create(STATEFULSETS, workload("StatefulSet", "db", replicas=1, volumeClaimTemplates=[claim]))

    async def waiting() -> Any:
        return [pod for pod in await pods(plane, "db") if pod["metadata"]["name"] == "db-0"]

    await plane.until(waiting)
    first = await live(plane, PERSISTENTVOLUMECLAIMS, "data-db-0")
    await plane.client.delete(PERSISTENTVOLUMECLAIMS, "data-db-0", "default")
    with contextlib.suppress(StatusError):  # it may be gone already
        free = {"metadata": {"finalizers": None}}
        await plane.client.patch(PERSISTENTVOLUMECLAIMS, "data-db-0", "default", free)

    async def fresh() -> Any:
        await plane.client.patch(PODS, "db-0", "default", {"metadata": {"annotations": {"seen": "again"}}})
        found = (await plane.client.list(PERSISTENTVOLUMECLAIMS, "default")).items
        return [one for one in found if one["metadata"]["uid"] != first["metadata"]["uid"]]

    await plane.until(fresh)
