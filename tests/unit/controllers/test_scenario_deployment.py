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
