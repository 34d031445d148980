"""DaemonSets, StatefulSets and ReplicationControllers, budgets and quotas end to end on the real registry."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path
from typing import Any

import pytest

from podnet.controlplane.api.errors import StatusError
from podnet.controlplane.api.resources import (
    CONTROLLERREVISIONS,
    DAEMONSETS,
    NODES,
    PERSISTENTVOLUMECLAIMS,
    PERSISTENTVOLUMES,
    PODDISRUPTIONBUDGETS,
    PODS,
    REPLICATIONCONTROLLERS,
    RESOURCEQUOTAS,
    STATEFULSETS,
)

sys.path.insert(0, str(Path(__file__).parent))
from scenario_steps import booted, image, live, pods, status_is, workload


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
