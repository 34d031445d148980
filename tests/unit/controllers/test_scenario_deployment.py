"""Deployments end to end on the real registry: to pods, through rollouts, back."""

from __future__ import annotations

from typing import Any

from podnet.controlplane.api.resources import CONFIGMAPS, DEPLOYMENTS, NODES, PODS, REPLICASETS, SERVICEACCOUNTS

WEB: dict[str, Any] = {
    "apiVersion": "apps/v1",
    "kind": "Deployment",
    "metadata": {"name": "web", "namespace": "default"},
    "spec": {
        "replicas": 3,
        "selector": {"matchLabels": {"app": "web"}},
        "template": {
            "metadata": {"labels": {"app": "web"}},
            "spec": {"containers": [{"name": "c", "image": "nginx:1"}]},
        },
    },
}


def deployment(**spec: Any) -> dict[str, Any]:
    return {**WEB, "spec": {**WEB["spec"], **spec}}


async def complete(plane: Any, name: str = "web") -> Any:
    async def check() -> Any:
        live = await plane.client.get(DEPLOYMENTS, name, "default")
        spec, status = live["spec"], live.get("status") or {}
        wanted = spec["replicas"]
        done = status.get("observedGeneration") == live["metadata"]["generation"] and all(
            status.get(field, 0) == wanted for field in ("replicas", "updatedReplicas", "availableReplicas")
        )
        return live if done else None

    return await plane.until(check)


async def booted(plane: Any) -> None:
    plane.start()
    plane.start_scheduler()
    plane.start_kubelet()
    await plane.add_node("node-1")
    await plane.add_node("node-2")


async def test_a_deployment_becomes_ready_pods_on_both_nodes(plane: Any) -> None:
    await booted(plane)
    await plane.client.create(DEPLOYMENTS, deployment(replicas=4))
    live = await complete(plane)
    reasons = {c["type"]: (c["status"], c["reason"]) for c in live["status"]["conditions"]}
    assert reasons == {
        "Available": ("True", "MinimumReplicasAvailable"),
        "Progressing": ("True", "NewReplicaSetAvailable"),
    }
    assert live["metadata"]["annotations"]["deployment.kubernetes.io/revision"] == "1"
    pods = (await plane.client.list(PODS, "default", label_selector="app=web")).items
    assert {pod["spec"]["nodeName"] for pod in pods} == {"node-1", "node-2"}
    (replica_set,) = (await plane.client.list(REPLICASETS, "default")).items
    suffix = replica_set["metadata"]["labels"]["pod-template-hash"]
    assert replica_set["metadata"]["name"] == f"web-{suffix}"
    assert replica_set["spec"]["selector"]["matchLabels"] == {"app": "web", "pod-template-hash": suffix}
    assert all(pod["metadata"]["name"].startswith(f"web-{suffix}-") for pod in pods)


async def test_nodes_get_subnets_and_namespaces_their_account_and_certificate(plane: Any) -> None:
    await booted(plane)

    async def subnets() -> Any:
        nodes = (await plane.client.list(NODES)).items
        found = {node["spec"].get("podCIDR") for node in nodes}
        return found if None not in found else None

    assert await plane.until(subnets) == {"10.244.0.0/24", "10.244.1.0/24"}

    async def furnished() -> Any:
        accounts = (await plane.client.list(SERVICEACCOUNTS)).items
        certificates = (await plane.client.list(CONFIGMAPS, field_selector="metadata.name=kube-root-ca.crt")).items
        return len(accounts) == len(certificates) == 4

    await plane.until(furnished)


async def test_rollout_keeps_history_and_undo_reuses_the_old_replica_set(plane: Any) -> None:
    await booted(plane)
    await plane.client.create(DEPLOYMENTS, deployment())
    await complete(plane)
    first = (await plane.client.list(REPLICASETS, "default")).items[0]
    container = {"name": "c", "image": "nginx:2"}
    patch = {"spec": {"template": {"spec": {"containers": [container]}}}}
    await plane.client.patch(DEPLOYMENTS, "web", "default", patch, patch_type="strategic")
    live = await complete(plane)
    assert live["metadata"]["annotations"]["deployment.kubernetes.io/revision"] == "2"
    images = [pod["spec"]["containers"][0]["image"] for pod in (await plane.client.list(PODS, "default")).items]
    assert images == ["nginx:2"] * 3
    # `kubectl rollout undo` replaces the template with that of the old ReplicaSet, less the hash label.
    template = {**first["spec"]["template"], "metadata": {"labels": {"app": "web"}}}
    undo = [{"op": "replace", "path": "/spec/template", "value": template}]
    await plane.client.patch(DEPLOYMENTS, "web", "default", undo, patch_type="json")
    live = await complete(plane)
    assert live["metadata"]["annotations"]["deployment.kubernetes.io/revision"] == "3"
    replica_sets = {rs["metadata"]["name"]: rs for rs in (await plane.client.list(REPLICASETS, "default")).items}
    assert len(replica_sets) == 2
    again = replica_sets[first["metadata"]["name"]]
    assert again["spec"]["replicas"] == 3
    assert again["metadata"]["annotations"]["deployment.kubernetes.io/revision"] == "3"
    assert again["metadata"]["annotations"]["deployment.kubernetes.io/revision-history"] == "1"


async def pods_of(plane: Any) -> list[dict[str, Any]]:
    return (await plane.client.list(PODS, "default", label_selector="app=web")).items


def image(name: str) -> dict[str, Any]:
    return {"spec": {"template": {"spec": {"containers": [{"name": "c", "image": name}]}}}}


async def change(plane: Any, patch: dict[str, Any]) -> None:
    await plane.client.patch(DEPLOYMENTS, "web", "default", patch, patch_type="strategic")


async def test_a_rollout_that_fails_keeps_the_old_pods_and_says_so(plane: Any) -> None:
    plane.start()
    plane.start_scheduler()
    await plane.add_node("node-1")
    rolling = {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}}
    await plane.client.create(DEPLOYMENTS, deployment(strategy=rolling, progressDeadlineSeconds=1))

    async def placed(count: int) -> Any:
        pods = [pod for pod in await pods_of(plane) if pod["spec"].get("nodeName")]
        return pods if len(pods) == count else None

    for pod in await plane.until(lambda: placed(3)):
        await plane.set_ready(pod)
    await complete(plane)
    await change(plane, image("broken"))
    await plane.until(lambda: placed(4))

    async def timed_out() -> Any:
        live = await plane.client.get(DEPLOYMENTS, "web", "default")
        conditions = {c["type"]: c for c in live["status"]["conditions"]}
        return conditions if conditions["Progressing"]["status"] == "False" else None

    conditions = await plane.until(timed_out)
    assert conditions["Progressing"]["reason"] == "ProgressDeadlineExceeded"
    assert conditions["Available"]["status"] == "True"
    ready = [pod for pod in await pods_of(plane) if pod["status"].get("phase") == "Running"]
    assert [pod["spec"]["containers"][0]["image"] for pod in ready] == ["nginx:1"] * 3


async def test_recreate_never_mixes_old_and_new(plane: Any) -> None:
    await booted(plane)
    await plane.client.create(DEPLOYMENTS, deployment(strategy={"type": "Recreate"}))
    await complete(plane)
    mixed: list[set[str]] = []

    async def rolled() -> bool:
        images = {pod["spec"]["containers"][0]["image"] for pod in await pods_of(plane)}
        mixed.append(images)
        return images == {"nginx:2"}

    await change(plane, image("nginx:2"))
    await plane.until(rolled)
    await complete(plane)
    assert all(len(images) <= 1 for images in mixed)


async def test_a_paused_deployment_scales_but_does_not_roll(plane: Any) -> None:
    await booted(plane)
    await plane.client.create(DEPLOYMENTS, deployment())
    await complete(plane)
    await change(plane, {"spec": {"paused": True}})
    await change(plane, image("nginx:2"))
    await change(plane, {"spec": {"replicas": 5}})

    async def scaled() -> Any:
        live = await plane.client.get(DEPLOYMENTS, "web", "default")
        conditions = {c["type"]: c["reason"] for c in live["status"]["conditions"]}
        return conditions if live["status"].get("availableReplicas") == 5 else None

    assert (await plane.until(scaled))["Progressing"] == "DeploymentPaused"
    assert {pod["spec"]["containers"][0]["image"] for pod in await pods_of(plane)} == {"nginx:1"}
    assert len((await plane.client.list(REPLICASETS, "default")).items) == 1
    await change(plane, {"spec": {"paused": False}})
    await complete(plane)
    assert {pod["spec"]["containers"][0]["image"] for pod in await pods_of(plane)} == {"nginx:2"}


async def test_scaling_to_zero_and_back(plane: Any) -> None:
    await booted(plane)
    await plane.client.create(DEPLOYMENTS, deployment())
    await complete(plane)
    for replicas in (0, 4):
        await change(plane, {"spec": {"replicas": replicas}})
        await complete(plane)
        assert len(await pods_of(plane)) == replicas


async def test_history_is_limited(plane: Any) -> None:
    await booted(plane)
    await plane.client.create(DEPLOYMENTS, deployment(revisionHistoryLimit=1))
    await complete(plane)
    for number in (2, 3, 4):
        await change(plane, image(f"nginx:{number}"))
        await complete(plane)

    async def two_left() -> Any:
        found = (await plane.client.list(REPLICASETS, "default")).items
        revisions = {rs["metadata"]["annotations"]["deployment.kubernetes.io/revision"] for rs in found}
        return revisions == {"3", "4"}

    await plane.until(two_left)


async def test_pods_that_fail_or_are_deleted_are_replaced(plane: Any) -> None:
    await booted(plane)
    await plane.client.create(DEPLOYMENTS, deployment())
    await complete(plane)
    first, second, _ = await pods_of(plane)
    await plane.client.delete(PODS, first["metadata"]["name"], "default", grace_period_s=0)
    failed = {"status": {"phase": "Failed"}}
    await plane.client.patch(PODS, second["metadata"]["name"], "default", failed, subresource="status")

    async def healed() -> Any:
        running = [pod for pod in await pods_of(plane) if pod["status"].get("phase") == "Running"]
        names = {pod["metadata"]["name"] for pod in running}
        return len(running) == 3 and first["metadata"]["name"] not in names

    await plane.until(healed)
    await complete(plane)


async def test_a_pod_that_leaves_the_selector_is_released_and_replaced(plane: Any) -> None:
    await booted(plane)
    await plane.client.create(DEPLOYMENTS, deployment())
    await complete(plane)
    name = (await pods_of(plane))[0]["metadata"]["name"]
    await plane.client.patch(PODS, name, "default", {"metadata": {"labels": {"app": "debug"}}})

    async def released() -> Any:
        pod = await plane.client.get(PODS, name, "default")
        return not pod["metadata"].get("ownerReferences") and len(await pods_of(plane)) == 3

    await plane.until(released)


async def test_scaling_in_the_middle_of_a_rollout_ends_well(plane: Any) -> None:
    await booted(plane)
    await plane.client.create(DEPLOYMENTS, deployment(replicas=6))
    await complete(plane)
    await change(plane, image("nginx:2"))
    await change(plane, {"spec": {"replicas": 10}})
    await complete(plane)
    pods = await pods_of(plane)
    assert [pod["spec"]["containers"][0]["image"] for pod in pods] == ["nginx:2"] * 10


async def test_a_stranger_with_our_name_is_a_collision(plane: Any) -> None:
    from podnet.controlplane.controllers.deployment.controller import desired_replica_set

    live = await plane.client.create(DEPLOYMENTS, deployment())
    stranger = desired_replica_set(live, [])
    del stranger["metadata"]["ownerReferences"]
    stranger["spec"]["selector"] = {"matchLabels": {"app": "stranger"}}
    stranger["spec"]["template"]["metadata"]["labels"] = {"app": "stranger"}
    stranger["metadata"]["labels"] = {"app": "stranger"}
    stranger["spec"]["replicas"] = 0
    await plane.client.create(REPLICASETS, stranger)
    await booted(plane)
    live = await complete(plane)
    assert live["status"]["collisionCount"] == 1
    assert len((await plane.client.list(REPLICASETS, "default")).items) == 2


async def test_events_tell_the_story(plane: Any) -> None:
    from podnet.controlplane.api.resources import EVENTS

    await booted(plane)
    await plane.client.create(DEPLOYMENTS, deployment(replicas=1))
    await complete(plane)

    async def told() -> Any:
        events = (await plane.client.list(EVENTS, "default")).items
        found = {(event["involvedObject"]["kind"], event["reason"]): event["message"] for event in events}
        wanted = {("Deployment", "ScalingReplicaSet"), ("ReplicaSet", "SuccessfulCreate"), ("Pod", "Scheduled")}
        return found if wanted <= set(found) else None

    found = await plane.until(told)
    (pod,) = await pods_of(plane)
    name = pod["metadata"]["name"]
    replica_set = name.rpartition("-")[0]
    assert found["Deployment", "ScalingReplicaSet"] == f"Scaled up replica set {replica_set} from 0 to 1"
    assert found["ReplicaSet", "SuccessfulCreate"] == f"Created pod: {name}"
    assert found["Pod", "Scheduled"] == f"Successfully assigned default/{name} to {pod['spec']['nodeName']}"


async def test_a_replica_set_that_is_refused_is_told_in_condition_and_event(plane: Any) -> None:
    from podnet.controlplane.api.resources import EVENTS, RESOURCEQUOTAS

    await booted(plane)
    hard = {"count/replicasets.apps": "0"}
    quota = {"metadata": {"name": "q", "namespace": "default"}, "spec": {"hard": hard}, "status": {"hard": hard}}
    await plane.client.create(RESOURCEQUOTAS, quota)

    async def counted() -> Any:
        return ((await plane.client.get(RESOURCEQUOTAS, "q", "default")).get("status") or {}).get("hard")

    await plane.until(counted)
    await plane.client.create(DEPLOYMENTS, deployment(replicas=1))

    async def told() -> Any:
        events = (await plane.client.list(EVENTS, "default")).items
        return next((event["message"] for event in events if event["reason"] == "ReplicaSetCreateError"), None)

    message = await plane.until(told)
    assert message.startswith('Failed to create new replica set "')
    assert "exceeded quota: q" in message
