"""The scheduler on the real registry: consistent placement, reasons, and what wakes a pod that waits."""

from __future__ import annotations

from collections import Counter
from typing import Any

from podnet.controlplane.api import meta
from podnet.controlplane.api.resources import EVENTS, NAMESPACES, NODES, PODS, SERVICEACCOUNTS


async def booted(plane: Any, nodes: int = 1, **status: Any) -> None:
    account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default", "namespace": "default"}}
    await plane.client.create(SERVICEACCOUNTS, account)
    for index in range(nodes):
        await plane.add_node(f"node-{index}", **status)
    plane.start_scheduler()


async def create(plane: Any, name: str, cpu: str = "100m", **spec: Any) -> None:
    container = {"name": "c", "image": "nginx", "resources": {"requests": {"cpu": cpu}}}
    body = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {"containers": [container], **spec},
    }
    await plane.client.create(PODS, body)


async def placed(plane: Any, name: str) -> str:
    async def check() -> Any:
        return (await plane.client.get(PODS, name, "default"))["spec"].get("nodeName")

    return await plane.until(check)


async def refused(plane: Any, name: str, text: str) -> str:
    async def check() -> Any:
        condition = meta.get_condition(await plane.client.get(PODS, name, "default"), "PodScheduled") or {}
        return condition if text in condition.get("message", "") else None

    condition = await plane.until(check)
    assert (condition["status"], condition["reason"]) == ("False", "Unschedulable")
    return condition["message"]


async def test_a_burst_fills_the_nodes_evenly_and_never_overfills(plane: Any) -> None:
    await booted(plane, nodes=5)
    # 4 cpu a node: forty pods of half a cpu are exactly what fits, the rest has to wait.
    for index in range(45):
        await create(plane, f"p{index}", "500m")

    async def settled() -> Any:
        pods = (await plane.client.list(PODS, "default")).items
        on = Counter(pod["spec"]["nodeName"] for pod in pods if pod["spec"].get("nodeName"))
        waiting = [pod for pod in pods if (meta.get_condition(pod, "PodScheduled") or {}).get("status") == "False"]
        return on if sum(on.values()) == 40 and len(waiting) == 5 else None

    assert set((await plane.until(settled)).values()) == {8}


async def test_why_not_is_in_the_condition_and_in_an_event(plane: Any) -> None:
    await booted(plane, nodes=2)
    await create(plane, "big", "5")
    expected = (
        "0/2 nodes are available: 2 Insufficient cpu. preemption: 0/2 nodes are available: "
        "2 Preemption is not helpful for scheduling."
    )
    assert await refused(plane, "big", "Insufficient") == expected

    async def told() -> Any:
        events = (await plane.client.list(EVENTS, "default")).items
        return [event for event in events if event["reason"] == "FailedScheduling"]

    (event,) = await plane.until(told)
    assert (event["type"], event["message"]) == ("Warning", expected)
    assert event["source"]["component"] == "default-scheduler"


async def test_a_waiting_pod_goes_to_the_node_that_comes(plane: Any) -> None:
    await booted(plane, nodes=0)
    await create(plane, "p")
    await refused(plane, "p", "no nodes available to schedule pods")
    await plane.add_node("late")
    assert await placed(plane, "p") == "late"


async def test_a_waiting_pod_takes_the_room_another_leaves(plane: Any) -> None:
    await booted(plane)
    await create(plane, "first", "3")
    await placed(plane, "first")
    await create(plane, "second", "3")
    await refused(plane, "second", "Insufficient cpu")
    await plane.client.delete(PODS, "first", "default", grace_period_s=0)
    assert await placed(plane, "second") == "node-0"


async def test_uncordon_wakes(plane: Any) -> None:
    await booted(plane)
    await plane.client.patch(NODES, "node-0", "", {"spec": {"unschedulable": True}})
    await create(plane, "p")
    await refused(plane, "p", "node(s) were unschedulable")
    await plane.client.patch(NODES, "node-0", "", {"spec": {"unschedulable": None}})
    assert await placed(plane, "p") == "node-0"


async def test_other_schedulers_pods_are_left_alone(plane: Any) -> None:
    await booted(plane)
    await create(plane, "theirs", schedulerName="somebody-else")
    await create(plane, "ours")
    await placed(plane, "ours")
    assert not (await plane.client.get(PODS, "theirs", "default"))["spec"].get("nodeName")


async def test_a_gate_holds_until_it_is_removed(plane: Any) -> None:
    await booted(plane)
    await create(plane, "gated", schedulingGates=[{"name": "example.com/wait"}])
    await create(plane, "free")
    await placed(plane, "free")
    assert not (await plane.client.get(PODS, "gated", "default"))["spec"].get("nodeName")
    await plane.client.patch(PODS, "gated", "default", {"spec": {"schedulingGates": None}})
    assert await placed(plane, "gated") == "node-0"


async def test_an_important_pod_takes_the_place_of_another(plane: Any) -> None:
    from podnet.controlplane.api.resources import PRIORITYCLASSES

    await booted(plane)
    important = {
        "apiVersion": "scheduling.k8s.io/v1",
        "kind": "PriorityClass",
        "metadata": {"name": "important"},
        "value": 1000,
    }
    await plane.client.create(PRIORITYCLASSES, important)
    for name in ("stays", "goes"):
        await create(plane, name, "2")
        await placed(plane, name)
    await plane.client.patch(PODS, "goes", "default", {"metadata": {"finalizers": ["example.com/slow"]}})
    await plane.client.patch(PODS, "stays", "default", {"metadata": {"finalizers": ["example.com/slow"]}})
    await create(plane, "vip", "2", priorityClassName="important")

    async def victim() -> Any:
        pods = (await plane.client.list(PODS, "default")).items
        return [pod for pod in pods if pod["metadata"].get("deletionTimestamp")]

    (leaving,) = await plane.until(victim)
    condition = meta.get_condition(leaving, "DisruptionTarget") or {}
    assert condition["reason"] == "PreemptionByScheduler"
    assert (await plane.client.get(PODS, "vip", "default"))["status"]["nominatedNodeName"] == "node-0"
    name = leaving["metadata"]["name"]
    await plane.client.patch(PODS, name, "default", {"metadata": {"finalizers": None}})
    await plane.client.delete(PODS, name, "default", grace_period_s=0)
    assert await placed(plane, "vip") == "node-0"


async def test_a_gated_pod_says_so_and_goes_when_its_gates_are_gone(plane: Any) -> None:
    await booted(plane)
    await create(plane, "gated", schedulingGates=[{"name": "example.com/wait"}])
    condition = meta.get_condition(await plane.client.get(PODS, "gated", "default"), "PodScheduled")
    assert condition is not None
    assert (condition["status"], condition["reason"]) == ("False", "SchedulingGated")
    assert condition["message"] == "Scheduling is blocked due to non-empty scheduling gates"
    await plane.client.patch(PODS, "gated", "default", {"spec": {"schedulingGates": None}})
    assert await placed(plane, "gated") == "node-0"


async def test_labels_that_change_wake_those_who_look_at_them(plane: Any) -> None:
    """A namespace that is selected now, and a neighbour that is none any more."""
    await booted(plane)
    term = {"topologyKey": "kubernetes.io/hostname", "labelSelector": {"matchLabels": {"app": "loud"}}}
    required = "requiredDuringSchedulingIgnoredDuringExecution"
    await plane.client.patch(NODES, "node-0", "", {"metadata": {"labels": {"kubernetes.io/hostname": "node-0"}}})
    await create(plane, "loud")
    assert await placed(plane, "loud") == "node-0"
    await plane.client.patch(PODS, "loud", "default", {"metadata": {"labels": {"app": "loud"}}})
    selects = {**term, "namespaceSelector": {"matchLabels": {"team": "x"}}}
    await create(plane, "friend", affinity={"podAffinity": {required: [selects]}})
    await create(plane, "shy", affinity={"podAntiAffinity": {required: [term]}})
    await refused(plane, "friend", "didn't match pod affinity rules")
    await refused(plane, "shy", "didn't match pod anti-affinity rules")
    await plane.client.patch(NAMESPACES, "default", "", {"metadata": {"labels": {"team": "x"}}})
    assert await placed(plane, "friend") == "node-0"
    await plane.client.patch(PODS, "loud", "default", {"metadata": {"labels": {"app": "calm"}}})
    assert await placed(plane, "shy") == "node-0"
