"""Budgets: what they count, whom they keep from eviction and preemption; and what workloads' validation refuses."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from workload_room import WAIT_S, Room, budget, is_ready, seconds, template, workload


@pytest.fixture
def room(cluster, namespace):
    return Room(cluster, namespace)


# -- PodDisruptionBudget


def test_budgets_count_and_evictions_obey(room):
    room.apply(
        workload("Deployment", "web", replicas=3),
        workload("DaemonSet", "agent"),
        budget("web", "web", minAvailable="60%"),
        budget("agent", "agent", maxUnavailable=1),
    )
    room.rolled_out("deploy/web")

    def status(name):
        return room.get("pdb", name).get("status", {})

    room.wait(lambda: status("web").get("currentHealthy") == 3, "three are counted")
    found = status("web")
    # 60 % of three, rounded up.
    assert (found["desiredHealthy"], found["expectedPods"], found["disruptionsAllowed"]) == (2, 3, 1)
    assert [(c["type"], c["status"], c["reason"]) for c in found["conditions"]] == [
        ("DisruptionAllowed", "True", "SufficientPods")
    ]
    row = room.kubectl("get", "pdb", "web", "--no-headers").stdout.split()
    assert row[:4] == ["web", "60%", "N/A", "1"]
    # Nobody knows how many pods a DaemonSet wants: it has no scale.
    room.wait(lambda: room.condition("pdb", "agent", "DisruptionAllowed").get("reason") == "SyncFailed", "not counted")
    said = room.condition("pdb", "agent", "DisruptionAllowed")["message"]
    assert said == "daemonsets.apps does not implement the scale subresource"
    room.rolled_out("ds/agent")
    assert "TooManyRequests" in room.evict(next(iter(room.pods("agent")))).stderr
    first = min(room.pods("web"))
    # It is held back, to be looked at after its eviction.
    room.kubectl("patch", "pod", first, "--type=merge", "-p", '{"metadata":{"finalizers":["example.com/hold"]}}')
    assert room.evict(first).returncode == 0
    marked = {c["type"]: c for c in room.get("pod", first)["status"]["conditions"]}["DisruptionTarget"]
    assert (marked["status"], marked["reason"]) == ("True", "EvictionByEvictionAPI")
    assert marked["message"] == "Eviction API: evicting"
    room.kubectl("patch", "pod", first, "--type=merge", "-p", '{"metadata":{"finalizers":null}}')
    room.apply(budget("more", "web", maxUnavailable=3))
    room.wait(lambda: status("more").get("expectedPods"), "the second budget")
    room.wait(lambda: any(map(is_ready, room.pods("web").values())), "a pod that runs")
    ready = next(name for name, pod in room.pods("web").items() if is_ready(pod))
    twice = room.evict(ready)
    assert twice.returncode == 1
    text = "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support."
    assert text in twice.stderr
    assert "Internal error" not in twice.stderr


def test_who_is_not_healthy_may_go_when_the_policy_says_so(room):
    never = {"readinessProbe": {"exec": {"command": ["false"]}, "periodSeconds": 1}}
    room.apply(
        workload("Deployment", "sick", pod=template("sick", container=never), replicas=1),
        budget("sick", "sick", maxUnavailable=0),
    )
    room.wait(lambda: any(p["status"].get("phase") == "Running" for p in room.pods("sick").values()), "it runs")
    room.wait(lambda: room.get("pdb", "sick").get("status", {}).get("expectedPods") == 1, "it is counted")
    (name,) = room.pods("sick")
    refused = room.evict(name)
    assert refused.returncode == 1
    text = "Error from server (TooManyRequests): Cannot evict pod as it would violate the pod's disruption budget."
    assert text in refused.stderr
    room.patch("pdb", "sick", {"spec": {"unhealthyPodEvictionPolicy": "AlwaysAllow"}})
    assert room.evict(name).returncode == 0
    room.wait(lambda: name not in room.pods("sick"), "it went")


def test_a_drain_takes_who_is_unhealthy_while_the_others_are_enough(room):
    """unhealthyPodEvictionPolicy: IfHealthyBudget, which is what nobody has to say, and then AlwaysAllow."""
    probe = {"exec": {"command": ["test", "!", "-e", "/tmp/sick"]}, "periodSeconds": 1, "failureThreshold": 1}
    there = {"kubernetes.io/hostname": "worker-1"}
    pod = template("web", container={"readinessProbe": probe}, nodeSelector=there)
    room.apply(workload("Deployment", "web", pod=pod, replicas=3), budget("web", "web", minAvailable=2))
    room.rolled_out("deploy/web")

    def is_counted(healthy):
        found = room.get("pdb", "web")
        wanted = (healthy, found["metadata"]["generation"])
        status = found.get("status", {})
        return (status.get("currentHealthy"), status.get("observedGeneration")) == wanted

    def fall_sick(name):
        room.kubectl("exec", name, "--", "touch", "/tmp/sick")

    first, second, third = sorted(room.pods("web"))
    fall_sick(first)
    room.wait(lambda: is_counted(2), "one is unhealthy")
    assert "Cannot evict pod as it would violate" in room.evict(second).stderr
    assert room.condition("pdb", "web", "DisruptionAllowed")["reason"] == "InsufficientPods"
    assert room.evict(first).returncode == 0, "two are enough, and this one is none of them"
    room.wait(lambda: first not in room.pods("web") and is_counted(3), "its place is taken")
    healthy = next(name for name in room.pods("web") if name not in {second, third})
    for name in (second, third):
        fall_sick(name)
    room.wait(lambda: is_counted(1), "too few are healthy now")
    for name in (second, third, healthy):
        assert "Cannot evict pod as it would violate the pod's disruption budget." in room.evict(name).stderr
    room.patch("pdb", "web", {"spec": {"unhealthyPodEvictionPolicy": "AlwaysAllow"}})
    room.wait(lambda: is_counted(1), "the change is seen")
    try:
        refused = room.kubectl(
            "drain", "worker-1", "--ignore-daemonsets", "--pod-selector=app=web", "--timeout=2s", check=False
        )
        assert refused.returncode == 1
        told = (
            'error when evicting pods/"{}" -n "{}" (will retry after 5s): '
            "Cannot evict pod as it would violate the pod's disruption budget."
        )
        names = (second, third, healthy)
        assert [told.format(name, room.namespace) in refused.stderr for name in names] == [False, False, True]
        room.wait(lambda: set(room.pods("web")) & {*names} == {healthy}, "the unhealthy two went")
    finally:
        room.kubectl("uncordon", "worker-1")


def test_preemption_spares_who_is_under_a_budget(room):
    cluster = room.cluster
    cpu = int(cluster.kubectl_json("get", "node", "worker-1")["status"]["allocatable"]["cpu"]) * 1000
    share = {"resources": {"requests": {"cpu": f"{cpu * 2 // 5}m"}}}
    where = {"nodeSelector": {"kubernetes.io/hostname": "worker-1"}}

    def pod(name, **spec):
        body = template(name, container=share, **where, **spec)
        return {"apiVersion": "v1", "kind": "Pod", **body, "metadata": {"name": name, "labels": {"app": name}}}

    important = {"apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass", "metadata": {"name": "vip"}, "value": 9}
    try:
        room.apply(budget("kept", "kept", minAvailable=1), pod("older"))
        room.kubectl("wait", "pod/older", "--for=condition=Ready", f"--timeout={WAIT_S:.0f}s")
        began = seconds(room.get("pod", "older")["status"]["startTime"])
        room.wait(lambda: datetime.now(UTC).timestamp() >= began + 1.2, "another second begins")
        # Of two equals the younger one would have to go, were it not for its budget.
        room.apply(pod("kept"))
        room.kubectl("wait", "pod/kept", "--for=condition=Ready", f"--timeout={WAIT_S:.0f}s")
        room.wait(lambda: room.get("pdb", "kept").get("status", {}).get("currentHealthy") == 1, "the budget")
        room.apply(important, pod("high", priorityClassName="vip"))
        room.kubectl("wait", "pod/high", "--for=condition=Ready", f"--timeout={WAIT_S:.0f}s")
        assert {p["metadata"]["name"] for p in room.get("pods")["items"]} == {"kept", "high"}
    finally:
        cluster.kubectl("delete", "priorityclass", "vip", check=False)


# -- What is refused


def test_bad_specs_are_refused_in_upstreams_words(room):
    zero = {"rollingUpdate": {"maxSurge": 0, "maxUnavailable": 0}}
    other = {"matchLabels": {"app": "other"}}
    deadline = {"activeDeadlineSeconds": 5}
    cases = [
        (
            workload("Deployment", "a", selector=other),
            (
                'The Deployment "a" is invalid: spec.template.metadata.labels: Invalid value: '
                'map[string]string{"app":"a"}: `selector` does not match template `labels`'
            ),
        ),
        (
            workload("Deployment", "a", strategy=zero),
            (
                "spec.strategy.rollingUpdate.maxUnavailable: Invalid value: "
                'intstr.IntOrString{Type:0, IntVal:0, StrVal:""}: may not be 0 when `maxSurge` is 0'
            ),
        ),
        (
            workload("Deployment", "a", strategy={"type": "Recreate", "rollingUpdate": {"maxSurge": 1}}),
            "spec.strategy.rollingUpdate: Forbidden: may not be specified when strategy `type` is 'Recreate'",
        ),
        (
            workload("Deployment", "a", minReadySeconds=9, progressDeadlineSeconds=9),
            "spec.progressDeadlineSeconds: Invalid value: 9: must be greater than minReadySeconds",
        ),
        (
            workload("StatefulSet", "a", serviceName="a", podManagementPolicy="Random"),
            "spec.podManagementPolicy: Invalid value: \"Random\": must be 'OrderedReady' or 'Parallel'",
        ),
        (
            workload("DaemonSet", "a", updateStrategy={"rollingUpdate": {"maxSurge": 1, "maxUnavailable": 1}}),
            (
                "spec.updateStrategy.rollingUpdate.maxSurge: Invalid value: "
                'intstr.IntOrString{Type:0, IntVal:1, StrVal:""}: may not be set when maxUnavailable is non-zero'
            ),
        ),
        (
            workload("DaemonSet", "a", pod=template("a", **deadline)),
            "spec.template.spec.activeDeadlineSeconds: Forbidden: activeDeadlineSeconds in DaemonSet is not Supported",
        ),
        (budget("a", "a", minAvailable=1, maxUnavailable=1), "minAvailable and maxUnavailable cannot be both set"),
        (
            budget("a", "a", unhealthyPodEvictionPolicy="Maybe"),
            (
                'spec.unhealthyPodEvictionPolicy: Unsupported value: "Maybe": '
                'supported values: "AlwaysAllow", "IfHealthyBudget"'
            ),
        ),
    ]
    for body, text in cases:
        refused = room.apply(body, check=False)
        assert refused.returncode == 1
        assert text in refused.stderr
