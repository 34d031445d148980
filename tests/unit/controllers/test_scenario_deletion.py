"""Garbage collection, namespaces and lost nodes, end to end on the real registry."""

from __future__ import annotations

from typing import Any

import pytest

from podnet.controlplane.api.errors import StatusError
from podnet.controlplane.api.resources import (
    CONFIGMAPS,
    DEPLOYMENTS,
    LEASES,
    NAMESPACES,
    NODES,
    PODS,
    REPLICASETS,
    SERVICES,
)

TEMPLATE = {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "c", "image": "nginx:1"}]}}


def web(namespace: str = "default", replicas: int = 2) -> dict[str, Any]:
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "web", "namespace": namespace},
        "spec": {"replicas": replicas, "selector": {"matchLabels": {"app": "web"}}, "template": TEMPLATE},
    }


async def booted(plane: Any, **options: Any) -> None:
    plane.start(**options)
    plane.start_scheduler()
    plane.start_kubelet()
    await plane.add_node("node-1")


async def running(plane: Any, namespace: str = "default", count: int = 2) -> Any:
    async def check() -> Any:
        pods = (await plane.client.list(PODS, namespace)).items
        return pods if len(pods) == count and all(pod["status"]["phase"] == "Running" for pod in pods) else None

    return await plane.until(check)


async def gone(plane: Any, resource: Any, namespace: str = "default", timeout_s: float = 10.0) -> None:
    async def check() -> bool:
        return not (await plane.client.list(resource, namespace)).items

    await plane.until(check, timeout_s)


@pytest.mark.parametrize("propagation", ["Background", "Foreground"])
async def test_deleting_a_deployment_takes_replica_set_and_pods_along(plane: Any, propagation: str) -> None:
    await booted(plane)
    await plane.client.create(DEPLOYMENTS, web())
    await running(plane)
    await plane.client.delete(DEPLOYMENTS, "web", "default", propagation=propagation)
    for resource in (PODS, REPLICASETS, DEPLOYMENTS):
        await gone(plane, resource)


async def test_foreground_keeps_the_owner_until_the_last_pod_is_gone(plane: Any) -> None:
    plane.start()
    plane.start_scheduler()
    await plane.add_node("node-1")
    await plane.client.create(DEPLOYMENTS, web(replicas=1))

    async def scheduled() -> Any:
        pods = (await plane.client.list(PODS, "default")).items
        return pods if pods and pods[0]["spec"].get("nodeName") else None

    (pod,) = await plane.until(scheduled)
    await plane.client.delete(DEPLOYMENTS, "web", "default", propagation="Foreground")

    async def pod_terminating() -> Any:
        live = await plane.client.get(PODS, pod["metadata"]["name"], "default")
        return live["metadata"].get("deletionTimestamp")

    await plane.until(pod_terminating)
    assert (await plane.client.get(DEPLOYMENTS, "web", "default"))["metadata"]["finalizers"] == ["foregroundDeletion"]
    await plane.client.delete(PODS, pod["metadata"]["name"], "default", grace_period_s=0)
    await gone(plane, DEPLOYMENTS)


async def test_orphan_leaves_pods_that_a_new_owner_adopts(plane: Any) -> None:
    await booted(plane)
    await plane.client.create(DEPLOYMENTS, web())
    before = {pod["metadata"]["uid"] for pod in await running(plane)}
    await plane.client.delete(DEPLOYMENTS, "web", "default", propagation="Orphan")
    await gone(plane, DEPLOYMENTS)
    (replica_set,) = (await plane.client.list(REPLICASETS, "default")).items
    assert not replica_set["metadata"].get("ownerReferences")
    await plane.client.create(DEPLOYMENTS, web())

    async def adopted() -> Any:
        (live,) = (await plane.client.list(REPLICASETS, "default")).items
        return live["metadata"].get("ownerReferences")

    await plane.until(adopted)
    assert {pod["metadata"]["uid"] for pod in await running(plane)} == before


async def test_a_dependent_of_an_owner_that_never_was_goes(plane: Any) -> None:
    await booted(plane)
    owner = {"apiVersion": "v1", "kind": "ConfigMap", "name": "ghost", "uid": "00000000-0000-0000-0000-000000000000"}
    body = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "child", "namespace": "kube-public", "ownerReferences": [owner]},
    }
    await plane.client.create(CONFIGMAPS, body)

    async def collected() -> bool:
        names = {item["metadata"]["name"] for item in (await plane.client.list(CONFIGMAPS, "kube-public")).items}
        return "child" not in names

    await plane.until(collected)


async def test_one_owner_of_two_is_enough(plane: Any) -> None:
    await booted(plane)
    owners = []
    for name in ("one", "two"):
        body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": "default"}}
        live = await plane.client.create(CONFIGMAPS, body)
        owners.append({"apiVersion": "v1", "kind": "ConfigMap", "name": name, "uid": live["metadata"]["uid"]})
    metadata = {"name": "child", "namespace": "default", "ownerReferences": owners}
    await plane.client.create(CONFIGMAPS, {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata})
    await plane.client.delete(CONFIGMAPS, "one", "default")

    async def one_left() -> bool:
        live = await plane.client.get(CONFIGMAPS, "child", "default")
        return [owner["name"] for owner in live["metadata"]["ownerReferences"]] == ["two"]

    await plane.until(one_left)
    await plane.client.delete(CONFIGMAPS, "two", "default")

    async def child_gone() -> bool:
        try:
            await plane.client.get(CONFIGMAPS, "child", "default")
        except StatusError as error:
            return error.is_not_found
        return False

    await plane.until(child_gone)


async def test_a_namespace_takes_its_contents_along(plane: Any) -> None:
    await booted(plane)
    await plane.client.create(NAMESPACES, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop"}})

    async def furnished() -> bool:
        names = {item["metadata"]["name"] for item in (await plane.client.list(CONFIGMAPS, "shop")).items}
        return "kube-root-ca.crt" in names

    await plane.until(furnished)
    await plane.client.create(DEPLOYMENTS, web("shop"))
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "web", "namespace": "shop"},
        "spec": {"ports": [{"port": 80}]},
    }
    await plane.client.create(SERVICES, service)
    await running(plane, "shop")
    await plane.client.delete(NAMESPACES, "shop")

    async def namespace_gone() -> bool:
        try:
            await plane.client.get(NAMESPACES, "shop")
        except StatusError as error:
            return error.is_not_found
        return False

    await plane.until(namespace_gone)
    for resource in (PODS, REPLICASETS, DEPLOYMENTS, SERVICES, CONFIGMAPS):
        assert not (await plane.client.list(resource, "shop")).items


async def test_a_namespace_says_what_holds_it(plane: Any) -> None:
    await booted(plane)
    await plane.client.create(NAMESPACES, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "held"}})
    metadata = {"name": "stone", "namespace": "held", "finalizers": ["example.com/stone"]}
    await plane.client.create(CONFIGMAPS, {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata})
    await plane.client.delete(NAMESPACES, "held")

    async def told() -> Any:
        live = await plane.client.get(NAMESPACES, "held")
        conditions = {c["type"]: c for c in live["status"].get("conditions", ())}
        found = conditions.get("NamespaceFinalizersRemaining", {})
        return conditions if found.get("status") == "True" else None

    conditions = await plane.until(told)
    held = "Some content in the namespace has finalizers remaining: example.com/stone in 1 resource instances"
    assert conditions["NamespaceFinalizersRemaining"]["message"] == held
    remaining = "Some resources are remaining: configmaps. has 1 resource instances"
    assert conditions["NamespaceContentRemaining"]["message"] == remaining
    await plane.client.patch(CONFIGMAPS, "stone", "held", {"metadata": {"finalizers": None}})

    async def namespace_gone() -> bool:
        try:
            await plane.client.get(NAMESPACES, "held")
        except StatusError as error:
            return error.is_not_found
        return False

    await plane.until(namespace_gone)


async def test_a_silent_node_loses_its_pods_to_another(plane: Any) -> None:
    await booted(plane, grace_s=0.5)
    await plane.add_node("node-2")
    template = {
        "metadata": TEMPLATE["metadata"],
        "spec": {
            **TEMPLATE["spec"],
            "tolerations": [
                {"key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 1}
                for key in ("node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable")
            ],
        },
    }
    body = web()
    body["spec"]["template"] = template
    await plane.client.create(DEPLOYMENTS, body)
    await running(plane)

    def lease(number: int) -> dict[str, Any]:
        return {
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": {"name": "node-2", "namespace": "kube-node-lease"},
            "spec": {"holderIdentity": "node-2", "renewTime": f"2026-01-01T00:00:00.{number:06d}Z"},
        }

    await plane.client.create(LEASES, lease(0))
    beats = 0

    async def node_1_lost() -> Any:
        # node-2 renews its lease, node-1 has none.
        nonlocal beats
        beats += 1
        await plane.client.patch(LEASES, "node-2", "kube-node-lease", {"spec": lease(beats)["spec"]})
        live = await plane.client.get(NODES, "node-1")
        return live if len(live["spec"].get("taints", ())) == 2 else None

    node = await plane.until(node_1_lost)
    ready = next(c for c in node["status"]["conditions"] if c["type"] == "Ready")
    expected = ("Unknown", "NodeStatusUnknown", "Kubelet stopped posting node status.")
    assert (ready["status"], ready["reason"], ready["message"]) == expected
    assert {(t["key"], t["effect"]) for t in node["spec"]["taints"]} == {
        ("node.kubernetes.io/unreachable", "NoSchedule"),
        ("node.kubernetes.io/unreachable", "NoExecute"),
    }

    async def moved() -> Any:
        await node_1_lost()
        pods = (await plane.client.list(PODS, "default")).items
        return len(pods) == 2 and all(
            pod["spec"].get("nodeName") == "node-2" and pod["status"]["phase"] == "Running" for pod in pods
        )

    await plane.until(moved)


async def test_pods_of_a_deleted_node_are_collected(plane: Any) -> None:
    plane.start(grace_s=0.5)
    plane.start_scheduler()
    await plane.add_node("node-1")
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "alone", "namespace": "default"},
        "spec": {"containers": [{"name": "c", "image": "nginx"}]},
    }
    await plane.until(lambda: _account(plane))
    await plane.client.create(PODS, pod)

    async def scheduled() -> Any:
        return (await plane.client.get(PODS, "alone", "default"))["spec"].get("nodeName")

    assert await plane.until(scheduled) == "node-1"
    await plane.client.delete(NODES, "node-1")
    await gone(plane, PODS)


async def _account(plane: Any) -> bool:
    from podnet.controlplane.api.resources import SERVICEACCOUNTS

    return bool((await plane.client.list(SERVICEACCOUNTS, "default")).items)


def config_map(name: str, *owners: dict[str, Any], namespace: str = "default", **metadata: Any) -> dict[str, Any]:
    fields = {"name": name, "namespace": namespace, "ownerReferences": [*owners], **metadata}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": fields}


def owned_by(obj: dict[str, Any], **fields: Any) -> dict[str, Any]:
    metadata = obj["metadata"]
    return {
        "apiVersion": obj["apiVersion"],
        "kind": obj["kind"],
        "name": metadata["name"],
        "uid": metadata["uid"],
        **fields,
    }


async def vanished(plane: Any, resource: Any, name: str, namespace: str = "") -> None:
    async def check() -> bool:
        try:
            await plane.client.get(resource, name, namespace)
        except StatusError as error:
            return error.is_not_found
        return False

    await plane.until(check)


async def test_a_ring_of_owners_does_not_hold_itself(plane: Any) -> None:
    await booted(plane)
    first = await plane.client.create(CONFIGMAPS, config_map("first"))
    second = await plane.client.create(CONFIGMAPS, config_map("second", owned_by(first, blockOwnerDeletion=True)))
    patch = {"metadata": {"ownerReferences": [owned_by(second, blockOwnerDeletion=True)]}}
    await plane.client.patch(CONFIGMAPS, "first", "default", patch)
    await plane.client.delete(CONFIGMAPS, "first", "default", propagation="Foreground")
    await vanished(plane, CONFIGMAPS, "first", "default")
    await vanished(plane, CONFIGMAPS, "second", "default")


async def test_an_owner_in_another_namespace_does_not_count(plane: Any) -> None:
    await booted(plane)
    owner = await plane.client.create(CONFIGMAPS, config_map("owner", namespace="kube-public"))
    await plane.client.create(CONFIGMAPS, config_map("child", owned_by(owner)))
    await vanished(plane, CONFIGMAPS, "child", "default")
    assert await plane.client.get(CONFIGMAPS, "owner", "kube-public")


async def test_what_cannot_be_decided_stays(plane: Any) -> None:
    await booted(plane)
    uid = "11111111-1111-1111-1111-111111111111"
    strange = {"apiVersion": "example.com/v1", "kind": "Thing", "name": "x", "uid": uid}
    await plane.client.create(CONFIGMAPS, config_map("of-unknown-kind", strange))
    namespaced = {"apiVersion": "v1", "kind": "ConfigMap", "name": "x", "uid": uid}
    node = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "upward", "ownerReferences": [namespaced]}}
    await plane.client.create(NODES, node)
    # Something that is collected after them shows that they had their turn.
    await plane.client.create(CONFIGMAPS, config_map("gone", {**namespaced, "name": "ghost"}))
    await vanished(plane, CONFIGMAPS, "gone", "default")
    assert await plane.client.get(CONFIGMAPS, "of-unknown-kind", "default")
    assert await plane.client.get(NODES, "upward")


async def test_a_lease_goes_with_its_node(plane: Any) -> None:
    await booted(plane)
    node = await plane.client.get(NODES, "node-1")
    lease = {
        "apiVersion": "coordination.k8s.io/v1",
        "kind": "Lease",
        "metadata": {"name": "node-1", "namespace": "kube-node-lease", "ownerReferences": [owned_by(node)]},
    }
    await plane.client.create(LEASES, lease)
    await plane.client.delete(NODES, "node-1")
    await vanished(plane, LEASES, "node-1", "kube-node-lease")


async def test_what_every_namespace_has_comes_back(plane: Any) -> None:
    from podnet.controlplane.api.resources import SERVICEACCOUNTS

    await booted(plane)
    await plane.until(lambda: _account(plane))
    account = await plane.client.get(SERVICEACCOUNTS, "default", "default")
    await plane.client.delete(SERVICEACCOUNTS, "default", "default")

    async def another() -> Any:
        found = (await plane.client.list(SERVICEACCOUNTS, "default")).items
        return found and found[0]["metadata"]["uid"] != account["metadata"]["uid"]

    await plane.until(another)

    async def true_certificate() -> Any:
        found = (await plane.client.list(CONFIGMAPS, "default", field_selector="metadata.name=kube-root-ca.crt")).items
        return found and found[0]["data"] == {"ca.crt": "-----BEGIN CERTIFICATE-----\n"}

    await plane.until(true_certificate)
    await plane.client.patch(CONFIGMAPS, "kube-root-ca.crt", "default", {"data": {"ca.crt": "forged", "more": "x"}})
    await plane.until(true_certificate)


async def test_an_eviction_is_called_off_when_the_taint_goes(plane: Any) -> None:
    from podnet.controlplane.api.resources import EVENTS

    await booted(plane)
    await plane.until(lambda: _account(plane))
    toleration = {"key": "maintenance", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 3600}
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "patient", "namespace": "default"},
        "spec": {"containers": [{"name": "c", "image": "nginx"}], "tolerations": [toleration]},
    }
    await plane.client.create(PODS, pod)
    await running(plane, count=1)
    taint = {"key": "maintenance", "effect": "NoExecute"}
    await plane.client.patch(NODES, "node-1", "", {"spec": {"taints": [taint]}})
    hasty = {**pod, "metadata": {"name": "hasty", "namespace": "default"}}
    hasty["spec"] = {**pod["spec"], "nodeName": "node-1", "tolerations": []}
    await plane.client.create(PODS, hasty)
    await vanished(plane, PODS, "hasty", "default")
    await plane.client.patch(NODES, "node-1", "", {"spec": {"taints": None}})

    async def told() -> Any:
        events = (await plane.client.list(EVENTS, "default", field_selector="reason=TaintManagerEviction")).items
        return {event["message"] for event in events} == {
            "Marking for deletion Pod default/hasty",
            "Cancelling deletion of Pod default/patient",
        }

    await plane.until(told)
    assert await plane.client.get(PODS, "patient", "default")
