"""Pods on a node with a fake runtime: what the API shows and what the runtime was asked for."""

from __future__ import annotations

import asyncio
from typing import Any

from podnet.controlplane.api.resources import EVENTS, LEASES, NODES, PODS

SHELL = ["sh", "-c"]
SERVING = {
    "name": "app",
    "image": "busybox",
    "command": ["sleep", "infinity"],
    "ports": [{"containerPort": 80, "hostPort": 8080}],
}


def shell(script: str, name: str = "app", **more: Any) -> dict[str, Any]:
    return {"name": name, "image": "busybox", "command": [*SHELL, script], **more}


def state_of(pod: dict[str, Any], name: str = "app", key: str = "containerStatuses") -> dict[str, Any]:
    return next((c for c in pod["status"].get(key) or () if c["name"] == name), {"state": {}, "lastState": {}})


async def test_the_node_registers_itself_and_keeps_its_lease(node: Any) -> None:
    found = await node.client.get(NODES, "worker1")
    assert found["metadata"]["labels"]["kubernetes.io/hostname"] == "worker1"
    assert "node-role.kubernetes.io/worker" in found["metadata"]["labels"]
    assert {"type": "InternalIP", "address": "127.0.0.1"} in found["status"]["addresses"]
    assert found["status"]["nodeInfo"]["containerRuntimeVersion"] == "podnet://0.1.0"
    assert found["status"]["capacity"]["pods"] == "110"

    async def lease() -> Any:
        items = (await node.client.list(LEASES, "kube-node-lease")).items
        return items[0] if items else None

    held = await node.until(lease)
    assert held["spec"]["holderIdentity"] == "worker1"
    assert held["metadata"]["ownerReferences"][0]["uid"] == found["metadata"]["uid"]


async def test_a_pod_runs_and_is_deleted(node: Any) -> None:
    await node.create_pod()
    pod = await node.until_ready()
    status = pod["status"]
    assert status["phase"] == "Running"
    assert status["podIP"].startswith("10.244.1.")
    assert status["podIPs"] == [{"ip": status["podIP"]}]
    assert status["hostIP"] == "127.0.0.1"
    assert state_of(pod)["containerID"].startswith("podnet://")
    assert "running" in state_of(pod)["state"]
    await node.client.delete(PODS, "web", "default")
    await node.until_gone()
    assert await node.runtime.list_pod_sandboxes() == []
    assert not list(node.config.paths.pods_dir.iterdir())
    assert not list(node.config.paths.pod_logs_dir.iterdir())


async def test_a_completed_pod_succeeds_and_gives_its_network_back(node: Any) -> None:
    await node.create_pod(containers=[shell("exit 0")], restartPolicy="Never")
    pod = await node.until_phase("Succeeded")
    assert state_of(pod)["state"]["terminated"]["reason"] == "Completed"
    assert condition(pod, "Ready") == {"status": "False", "reason": "PodCompleted"}
    assert condition(pod, "Initialized")["status"] == "True"
    [sandbox] = await node.runtime.list_pod_sandboxes()
    assert sandbox.state.value == "SANDBOX_NOTREADY"


def condition(pod: dict[str, Any], kind: str) -> dict[str, str]:
    found = next((c for c in pod["status"].get("conditions") or () if c["type"] == kind), {})
    return {key: found[key] for key in ("status", "reason") if key in found}


async def test_a_failed_pod_says_so(node: Any) -> None:
    await node.create_pod(containers=[shell("exit 3")], restartPolicy="Never")
    pod = await node.until_phase("Failed")
    assert state_of(pod)["state"]["terminated"]["exitCode"] == 3
    assert state_of(pod)["state"]["terminated"]["reason"] == "Error"
    assert condition(pod, "ContainersReady") == {"status": "False", "reason": "PodFailed"}


async def test_a_crashing_container_restarts_at_once_and_then_backs_off(node: Any) -> None:
    await node.create_pod(containers=[shell("exit 1")])
    pod = await node.until_pod(
        lambda pod: state_of(pod)["state"].get("waiting", {}).get("reason") == "CrashLoopBackOff"
    )
    uid = pod["metadata"]["uid"]
    waiting = state_of(pod)["state"]["waiting"]
    assert waiting["message"] == f"back-off 10s restarting failed container=app pod=web_default({uid})"
    assert state_of(pod)["restartCount"] == 1
    assert state_of(pod)["lastState"]["terminated"]["exitCode"] == 1
    assert pod["status"]["phase"] == "Running"
    await node.until_event("BackOff", f"Back-off restarting failed container app in pod web_default({uid})")


async def test_on_failure_restarts_failures_only(node: Any) -> None:
    await node.create_pod(containers=[shell("exit 0", "good"), shell("exit 1", "bad")], restartPolicy="OnFailure")
    pod = await node.until_pod(lambda pod: state_of(pod, "bad").get("restartCount", 0) >= 1)
    assert state_of(pod, "good")["restartCount"] == 0
    assert state_of(pod, "good")["state"]["terminated"]["reason"] == "Completed"


async def test_init_containers_run_in_order_before_the_rest(node: Any) -> None:
    await node.create_pod(
        initContainers=[shell("sleep 0.2; exit 0", "first"), shell("exit 0", "second")],
    )
    pod = await node.until_pod(lambda pod: condition(pod, "Initialized").get("reason") == "ContainersNotInitialized")
    assert pod["status"]["phase"] == "Pending"
    assert state_of(pod)["state"]["waiting"]["reason"] == "PodInitializing"
    pod = await node.until_ready()
    first, second = (state_of(pod, name, "initContainerStatuses") for name in ("first", "second"))
    assert first["ready"] is second["ready"] is True
    assert first["state"]["terminated"]["finishedAt"] <= second["state"]["terminated"]["startedAt"]


async def test_a_failing_init_container_of_a_never_pod_fails_it(node: Any) -> None:
    await node.create_pod(initContainers=[shell("exit 4", "init")], restartPolicy="Never")
    pod = await node.until_phase("Failed")
    assert state_of(pod, "init", "initContainerStatuses")["state"]["terminated"]["exitCode"] == 4
    assert condition(pod, "Initialized")["status"] == "False"


async def test_a_sidecar_runs_before_beside_and_after(node: Any) -> None:
    await node.create_pod(
        initContainers=[shell("sleep infinity", "sidecar", restartPolicy="Always"), shell("exit 0", "init")],
        containers=[shell("sleep 0.3; exit 0")],
        restartPolicy="Never",
    )
    pod = await node.until_pod(lambda pod: state_of(pod, "sidecar", "initContainerStatuses").get("started"))
    pod = await node.until_phase("Succeeded")
    assert "terminated" in state_of(pod, "sidecar", "initContainerStatuses")["state"]


async def test_an_unknown_image_waits_and_says_why(node: Any) -> None:
    await node.create_pod(containers=[{"name": "app", "image": "registry.example/nope:v1"}])
    pod = await node.until_pod(lambda pod: state_of(pod)["state"].get("waiting", {}).get("reason") == "ErrImagePull")
    assert pod["status"]["phase"] == "Pending"
    assert pod["status"]["podIP"]
    await node.until_event("Failed", 'Failed to pull image "registry.example/nope:v1"')
    assert "Error: ErrImagePull" in await node.events("Failed")


async def test_image_pull_policy_never(node: Any) -> None:
    await node.create_pod(containers=[{"name": "app", "image": "nope", "imagePullPolicy": "Never"}])
    pod = await node.until_pod(
        lambda pod: "waiting" in state_of(pod)["state"] and "message" in state_of(pod)["state"]["waiting"]
    )
    assert state_of(pod)["state"]["waiting"] == {
        "reason": "ErrImageNeverPull",
        "message": 'Container image "nope" is not present with pull policy of Never',
    }


async def test_a_command_that_is_not_there(node: Any) -> None:
    await node.create_pod(containers=[{"name": "app", "image": "busybox", "command": ["nope"]}])
    pod = await node.until_pod(
        lambda pod: state_of(pod)["state"].get("waiting", {}).get("reason") == "RunContainerError"
    )
    assert 'exec: "nope": executable file not found' in state_of(pod)["state"]["waiting"]["message"]
    await node.until_event("Failed", 'exec: "nope"')


async def test_a_sandbox_that_cannot_be_made_is_tried_again(node: Any) -> None:
    from podnet.controlplane.kubelet.cri import RuntimeServiceError

    node.runtime.sandbox_errors.append(RuntimeServiceError("FailedCreatePodSandBox", "no addresses left"))
    await node.create_pod()
    message = await node.until_event("FailedCreatePodSandBox")
    assert message == "Failed to create pod sandbox: no addresses left"
    await node.until_ready()


async def test_a_dead_sandbox_is_made_again_with_its_containers(node: Any) -> None:
    await node.create_pod()
    before = await node.until_ready()
    [sandbox] = await node.runtime.list_pod_sandboxes()
    node.runtime.kill_sandbox(sandbox.id)
    pod = await node.until_pod(lambda pod: state_of(pod)["restartCount"] == 1 and "running" in state_of(pod)["state"])
    assert pod["status"]["podIP"] != before["status"]["podIP"]
    assert pod["status"]["podIPs"] == [{"ip": pod["status"]["podIP"]}]
    assert state_of(pod)["lastState"]["terminated"]["exitCode"] == 137
    await node.until_event("SandboxChanged", "Pod sandbox changed, it will be killed and re-created.")


async def test_a_changed_image_restarts_the_container(node: Any) -> None:
    await node.create_pod()
    await node.until_ready()
    patch = {"spec": {"containers": [{"name": "app", "image": "alpine"}]}}
    await node.client.patch(PODS, "web", "default", patch, patch_type="strategic")
    pod = await node.until_pod(lambda pod: state_of(pod).get("image") == "alpine" and state_of(pod)["ready"])
    assert state_of(pod)["restartCount"] == 1
    assert "Container app definition changed, will be restarted" in await node.events("Killing")


async def test_the_node_is_not_ready_while_its_network_is_not(node: Any) -> None:
    node.runtime.problem = "cni plugin not initialized"

    async def ready() -> dict[str, str]:
        found = await node.client.get(NODES, "worker1")
        return next(c for c in found["status"]["conditions"] if c["type"] == "Ready")

    async def is_not_ready() -> bool:
        return (await ready())["status"] == "False"

    await node.until(is_not_ready)
    assert (await ready())["reason"] == "KubeletNotReady"
    assert (await ready())["message"] == "container runtime network not ready: cni plugin not initialized"
    await node.create_pod()
    await node.until_event("NetworkNotReady", "network is not ready: cni plugin not initialized")
    await node.create_pod("host", hostNetwork=True)
    await node.until_ready("host")
    node.runtime.problem = ""
    await node.until_ready()


async def test_a_node_deleted_by_hand_registers_again(node: Any) -> None:
    await node.client.delete(NODES, "worker1")

    async def back() -> bool:
        return bool((await node.client.list(NODES)).items)

    await node.until(back)


async def test_a_pod_that_does_not_fit_is_rejected(node: Any) -> None:
    resources = {"requests": {"cpu": "10000"}}
    await node.create_pod(containers=[{"name": "app", "image": "busybox", "resources": resources}])
    pod = await node.until_phase("Failed")
    assert pod["status"]["reason"] == "OutOfcpu"
    assert pod["status"]["message"].startswith(
        "Pod was rejected: Node didn't have enough resource: cpu, requested: 10000000"
    )
    assert await node.runtime.list_pod_sandboxes() == []


async def test_two_pods_of_one_host_port(node: Any) -> None:
    ports = [{"containerPort": 80, "hostPort": 8080}]
    await node.create_pod("one", containers=[{"name": "app", "image": "busybox", "ports": ports}])
    await node.until_ready("one")
    await node.create_pod("two", containers=[{"name": "app", "image": "busybox", "ports": ports}])
    pod = await node.until_phase("Failed", "two")
    assert pod["status"]["reason"] == "NodePorts"
    assert (await node.pod("one"))["status"]["phase"] == "Running"


async def test_the_events_of_a_plain_pod(node: Any) -> None:
    await node.create_pod()
    await node.until_event("Started")
    assert len(await node.events("Pulled")) == 1
    assert await node.events("Created") == ["Created container: app"]
    assert await node.events("Started") == ["Started container app"]


async def test_a_host_network_pod_has_its_nodes_address(node: Any) -> None:
    await node.create_pod(hostNetwork=True)
    pod = await node.until_ready()
    assert pod["status"]["podIP"] == pod["status"]["hostIP"] == "127.0.0.1"
    [sandbox] = await node.runtime.list_pod_sandboxes()
    assert sandbox.config.hostname == "worker1"
    hosts = (node.config.paths.pods_dir / pod["metadata"]["uid"] / "etc-hosts").read_text()
    assert hosts.startswith("# Kubernetes-managed hosts file (host network).\n")


async def test_readiness_gates_hold_the_ready_condition(node: Any) -> None:
    await node.create_pod(readinessGates=[{"conditionType": "example.com/gate"}])
    pod = await node.until_pod(lambda pod: condition(pod, "ContainersReady").get("status") == "True")
    assert condition(pod, "Ready") == {"status": "False", "reason": "ReadinessGatesNotReady"}
    patch = {"status": {"conditions": [{"type": "example.com/gate", "status": "True"}]}}
    await node.client.patch(PODS, "web", "default", patch, patch_type="strategic", subresource="status")
    pod = await node.until_ready()
    assert condition(pod, "example.com/gate")["status"] == "True"


async def test_retries_of_a_mount_that_fails_grow_longer(node: Any) -> None:
    await node.create_pod(volumes=[{"name": "v", "secret": {"secretName": "nope"}}])
    await node.until_event("FailedMount", 'secret "nope" not found')
    await asyncio.sleep(2.2)
    tries = next(e["count"] for e in (await node.client.list(EVENTS)).items if e["reason"] == "FailedMount")
    assert 2 <= tries <= 6


async def test_a_crowd_of_pods_comes_and_goes(node: Any) -> None:
    names = [f"pod-{n}" for n in range(30)]
    await asyncio.gather(*(node.create_pod(name) for name in names))
    for name in names:
        await node.until_ready(name, timeout_s=30)
    ips = {(await node.pod(name))["status"]["podIP"] for name in names}
    assert len(ips) == 30
    await asyncio.gather(*(node.client.delete(PODS, name, "default") for name in names))
    for name in names:
        await node.until_gone(name, timeout_s=30)
    assert await node.runtime.list_pod_sandboxes() == []


async def test_what_the_last_seen_node_refuses_is_asked_of_the_newest(node: Any) -> None:
    fast = {"nodeSelector": {"disk": "ssd"}}
    await node.create_pod("refused", **fast)
    pod = await node.until_phase("Failed", "refused")
    assert pod["status"]["reason"] == "NodeAffinity"
    assert "containerStatuses" not in pod["status"], "no container of a refused pod is being created"
    # A scheduler that has seen the label binds at once; the kubelet reports, and reads, every few seconds only.
    await node.client.patch(NODES, "worker1", "", {"metadata": {"labels": {"disk": "ssd"}}})
    await node.create_pod("one", containers=[SERVING], **fast)
    await node.create_pod("two", containers=[SERVING], **fast)
    await node.until_ready("one")
    assert (await node.until_phase("Failed", "two"))["status"]["reason"] == "NodePorts"
