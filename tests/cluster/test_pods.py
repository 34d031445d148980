"""What a pod's containers live through, on a booted cluster: order, hooks, probes, limits, ends and their reasons.

All pods of `WORLD` are created at once and looked at one after the other, so that their waits overlap.
"""

from __future__ import annotations

import json
import time

import pytest
import yaml

WAIT_S = 60.0


def pod(name, containers, **spec):
    labels = spec.pop("labels", {"world": "yes"})
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": labels},
        "spec": {"terminationGracePeriodSeconds": 1, "containers": containers, **spec},
    }


def sh(script, name="c", **more):
    return {"name": name, "image": "busybox", "command": ["sh", "-c", script], **more}


SLEEP = "trap 'exit 0' TERM; sleep 1000 & wait"
SHARED = [{"name": "shared", "mountPath": "/shared"}]
WORLD = [
    pod("done", [sh("exit 0")], restartPolicy="Never"),
    pod("failed", [sh("echo out; exit 3")], restartPolicy="Never"),
    pod(
        "message-file",
        [sh("echo -n by file > /dev/termination-log; exit 4")],
        restartPolicy="Never",
    ),
    pod(
        "message-logs",
        [sh("echo last words; exit 5", terminationMessagePolicy="FallbackToLogsOnError")],
        restartPolicy="Never",
    ),
    pod("no-program", [{"name": "c", "image": "busybox", "command": ["/nowhere"]}], restartPolicy="Never"),
    pod("no-image", [{"name": "c", "image": "example.com/nobody/has:this"}]),
    pod("crashing", [sh("exit 1")]),
    pod("deadline", [sh(SLEEP)], activeDeadlineSeconds=2),
    pod(
        "order",
        [sh("echo main >> /shared/log; cat /shared/log; " + SLEEP, volumeMounts=SHARED)],
        initContainers=[
            sh("echo one >> /shared/log", "one", volumeMounts=SHARED),
            sh(
                "echo sidecar >> /shared/log; touch /shared/up; " + SLEEP,
                "sidecar",
                restartPolicy="Always",
                volumeMounts=SHARED,
                startupProbe={"exec": {"command": ["test", "-e", "/shared/up"]}, "periodSeconds": 1},
            ),
            sh("echo two >> /shared/log", "two", volumeMounts=SHARED),
        ],
        volumes=[{"name": "shared", "emptyDir": {}}],
    ),
    pod(
        "sidecar-job",
        [sh("exit 0")],
        initContainers=[sh(SLEEP, "sidecar", restartPolicy="Always")],
        restartPolicy="Never",
    ),
    pod(
        "localhost",
        [
            {"name": "server", "image": "nginx"},
            sh("until wget -q -O /dev/null http://127.0.0.1/; do sleep 0.1; done; echo reached; " + SLEEP, "client"),
        ],
    ),
    pod(
        "hooks",
        [
            sh(
                "trap 'echo term >> /shared/log; exit 0' TERM; sleep 1000 & wait",
                volumeMounts=SHARED,
                lifecycle={
                    "postStart": {"exec": {"command": ["sh", "-c", "echo started >> /shared/log"]}},
                    "preStop": {"exec": {"command": ["sh", "-c", "echo stopping >> /shared/log"]}},
                },
            )
        ],
        terminationGracePeriodSeconds=10,
        volumes=[{"name": "shared", "hostPath": {"path": "/run/podnet/hooks", "type": "DirectoryOrCreate"}}],
    ),
    pod(
        "http-hook",
        [{"name": "c", "image": "nginx", "lifecycle": {"postStart": {"httpGet": {"port": 80, "path": "/gone"}}}}],
    ),
    pod("sleep-hook", [sh(SLEEP, lifecycle={"preStop": {"sleep": {"seconds": 2}}})], terminationGracePeriodSeconds=10),
    pod(
        "unlive",
        [
            sh(
                SLEEP,
                livenessProbe={"exec": {"command": ["false"]}, "periodSeconds": 1, "failureThreshold": 1},
            )
        ],
    ),
    pod(
        "unstarted",
        [sh(SLEEP, startupProbe={"tcpSocket": {"port": 9}, "periodSeconds": 1, "failureThreshold": 1})],
    ),
    pod("unready", [sh(SLEEP, readinessProbe={"httpGet": {"port": 81}, "periodSeconds": 1})]),
    pod(
        "grpc",
        [
            {
                "name": "c",
                "image": "agnhost",
                "args": ["grpc-health-checking", "--port=5000"],
                "readinessProbe": {"grpc": {"port": 5000}, "periodSeconds": 1},
                "livenessProbe": {"grpc": {"port": 5000}, "periodSeconds": 1},
            }
        ],
    ),
    pod("gated", [sh(SLEEP)], readinessGates=[{"conditionType": "example.com/fed"}]),
    pod(
        "oom",
        [
            {
                "name": "c",
                "image": "python",
                "command": ["python3", "-c", "x = bytearray(256 << 20); print(len(x))"],
                "resources": {"limits": {"memory": "64Mi"}},
            }
        ],
        restartPolicy="Never",
    ),
    pod("slow", [sh("while :; do :; done", resources={"limits": {"cpu": "50m"}})]),
]


@pytest.fixture(scope="module")
def world(cluster):
    cluster.kubectl("create", "namespace", "pods")
    manifest = "\n---\n".join(yaml.safe_dump(one) for one in WORLD)
    cluster.kubectl("apply", "-n", "pods", "-f", "-", input=manifest)
    yield World(cluster)
    cluster.kubectl("delete", "namespace", "pods", "--wait=false")


class World:
    def __init__(self, cluster):
        self.cluster = cluster

    def kubectl(self, *words, **more):
        return self.cluster.kubectl("-n", "pods", *words, **more)

    def get(self, name):
        return json.loads(self.kubectl("get", "pod", name, "-o", "json").stdout)

    def until(self, name, condition, what):
        def look():
            found = self.get(name)
            return found if condition(found) else None

        return self.cluster.wait(look, f"pod {name}: {what}", WAIT_S)

    def ended(self, name):
        """(phase, the terminated state of its first container)."""
        found = self.until(name, lambda p: p["status"]["phase"] in ("Succeeded", "Failed"), "its end")
        return found["status"]["phase"], found["status"]["containerStatuses"][0]["state"]["terminated"]

    def waiting(self, name, reason):
        return self.until(
            name,
            lambda p: any(
                c["state"].get("waiting", {}).get("reason") == reason for c in p["status"].get("containerStatuses", ())
            ),
            reason,
        )["status"]["containerStatuses"][0]

    def events(self, name, reason):
        def look():
            found = self.kubectl(
                "get", "events", "--field-selector", f"involvedObject.name={name},reason={reason}", "-o", "json"
            )
            return json.loads(found.stdout)["items"]

        return self.cluster.wait(look, f"event {reason} of {name}", WAIT_S)


def is_ready(found):
    return any(c["type"] == "Ready" and c["status"] == "True" for c in found["status"].get("conditions", ()))


def test_ends_have_upstreams_reasons(world):
    phase, state = world.ended("done")
    assert (phase, state["reason"], state["exitCode"]) == ("Succeeded", "Completed", 0)
    phase, state = world.ended("failed")
    assert (phase, state["reason"], state["exitCode"]) == ("Failed", "Error", 3)
    phase, state = world.ended("no-program")
    assert (phase, state["reason"], state["exitCode"]) == ("Failed", "StartError", 128)
    assert "no such file or directory" in state["message"]


def test_termination_messages(world):
    assert world.ended("message-file")[1]["message"] == "by file"
    assert world.ended("message-logs")[1]["message"] == "last words\n"


def test_images_that_nobody_has(world):
    state = world.waiting("no-image", "ImagePullBackOff")
    assert "example.com/nobody/has:this" in state["state"]["waiting"]["message"]


def test_restarts_back_off(world):
    status = world.waiting("crashing", "CrashLoopBackOff")
    assert status["lastState"]["terminated"]["exitCode"] == 1
    assert (
        "back-off 10s" in status["state"]["waiting"]["message"]
        or "back-off 20s" in status["state"]["waiting"]["message"]
    )
    assert status["restartCount"] >= 1


def test_a_deadline_ends_a_pod(world):
    found = world.until("deadline", lambda p: p["status"]["phase"] == "Failed", "its deadline")
    assert found["status"]["reason"] == "DeadlineExceeded"


def test_init_containers_and_sidecars_go_in_order(world):
    world.until("order", is_ready, "Ready")
    assert world.kubectl("logs", "order", "-c", "c").stdout.split() == ["one", "sidecar", "two", "main"]
    found = world.until("sidecar-job", lambda p: p["status"]["phase"] == "Succeeded", "its end")
    assert "terminated" in found["status"]["initContainerStatuses"][0]["state"]


def test_containers_of_a_pod_talk_over_localhost(world):
    world.until("localhost", is_ready, "Ready")
    world.cluster.wait(
        lambda: "reached" in world.kubectl("logs", "localhost", "-c", "client").stdout, "the answer", WAIT_S
    )


def test_hooks_come_before_the_signal(world):
    found = world.until("hooks", is_ready, "Ready")
    node = found["spec"]["nodeName"]
    world.kubectl("delete", "pod", "hooks", "--wait=true", f"--timeout={WAIT_S:.0f}s")
    seen = world.cluster.exec(f"node/{node}", "cat", "/run/podnet/hooks/log").stdout.split()
    assert seen == ["started", "stopping", "term"]


def test_a_hook_that_fails_is_told(world):
    assert "failed" in world.events("http-hook", "FailedPostStartHook")[0]["message"]


def test_a_sleeping_hook_holds_the_end(world):
    world.until("sleep-hook", is_ready, "Ready")
    began = time.monotonic()
    world.kubectl("delete", "pod", "sleep-hook", f"--timeout={WAIT_S:.0f}s")
    assert time.monotonic() - began >= 2


def test_probes(world):
    restarted = world.until("unlive", lambda p: p["status"]["containerStatuses"][0]["restartCount"] >= 1, "a restart")
    assert restarted
    assert world.events("unlive", "Unhealthy")
    world.until("unstarted", lambda p: p["status"]["containerStatuses"][0]["restartCount"] >= 1, "a restart")
    world.until("grpc", is_ready, "Ready")
    unready = world.until("unready", lambda p: p["status"]["phase"] == "Running", "running")
    assert not is_ready(unready)
    assert "Readiness probe failed" in world.events("unready", "Unhealthy")[0]["message"]


def test_a_readiness_gate_waits_for_its_condition(world):
    found = world.until(
        "gated",
        lambda p: any(
            c["type"] == "ContainersReady" and c["status"] == "True" for c in p["status"].get("conditions", ())
        ),
        "its containers",
    )
    assert not is_ready(found)
    patch = {"status": {"conditions": [{"type": "example.com/fed", "status": "True"}]}}
    world.kubectl("patch", "pod", "gated", "--subresource=status", "-p", json.dumps(patch))
    world.until("gated", is_ready, "Ready")


def limits_problem(cluster) -> str:
    """What the nodes say of limits; empty where they are enforced."""
    conditions = cluster.kubectl_json("get", "node", "worker-1")["status"]["conditions"]
    return next((c["message"] for c in conditions if c["type"] == "ResourceLimitsUnenforced"), "")


def test_limits_are_enforced_or_said_not_to_be(world):
    problem = limits_problem(world.cluster)
    findings = json.loads(world.cluster.podnet("doctor", "-o", "json", check=False).stdout)
    finding = next(f for f in findings if f["name"] == "control groups")
    assert (finding["status"] == "ok") == (not problem), (finding, problem)
    phase, state = world.ended("oom")
    if "memory" in problem:
        assert phase == "Succeeded"
    else:
        assert (phase, state["reason"], state["exitCode"]) == ("Failed", "OOMKilled", 137)
    found = world.until("slow", lambda p: p["status"]["phase"] == "Running", "running")
    if "cpu" not in problem:
        directories = json.loads((world.cluster.state / "cgroups.json").read_text())
        path = next(d["path"] for d in directories if "cpu" in d["controllers"])
        name = found["status"]["containerStatuses"][0]["containerID"].removeprefix("podnet://")[:16]
        with open(f"{path}/{found['spec']['nodeName']}_{name}/cpu.stat") as file:
            counts = dict(line.split() for line in file)
        assert int(counts["nr_throttled"]) > 0


def test_a_pod_of_higher_priority_takes_the_place_of_another(cluster, namespace):
    low = {"apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass", "metadata": {"name": "low"}, "value": 1}
    high = {**low, "metadata": {"name": "high"}, "value": 1000}
    cpu = int(cluster.kubectl_json("get", "node", "worker-1")["status"]["allocatable"]["cpu"])
    want = {"requests": {"cpu": f"{cpu * 1000 - 400}m"}}
    place = {"nodeSelector": {"kubernetes.io/hostname": "worker-1"}}
    victim = pod("victim", [sh(SLEEP, resources=want)], priorityClassName="low", **place)
    winner = pod("winner", [sh(SLEEP, resources=want)], priorityClassName="high", **place)
    try:
        for one in (low, high, {**victim, "metadata": {"name": "victim", "namespace": namespace}}):
            cluster.apply(json.dumps(one))
        cluster.kubectl("-n", namespace, "wait", "pod/victim", "--for=condition=Ready", f"--timeout={WAIT_S:.0f}s")
        cluster.apply(json.dumps({**winner, "metadata": {"name": "winner", "namespace": namespace}}))
        cluster.kubectl("-n", namespace, "wait", "pod/winner", "--for=condition=Ready", f"--timeout={WAIT_S:.0f}s")
        left = cluster.kubectl("-n", namespace, "get", "pods", "-o", "name").stdout.split()
        assert left == ["pod/winner"]
    finally:
        cluster.kubectl("delete", "priorityclass", "low", "high", check=False)


def test_a_static_pod_is_its_files_alone(cluster):
    directory = cluster.state / "nodes" / "worker-2" / "manifests"
    manifest = yaml.safe_dump(pod("fixed", [{"name": "c", "image": "nginx"}]))

    def mirror():
        found = cluster.kubectl("get", "pod", "fixed-worker-2", "-o", "json", check=False)
        return json.loads(found.stdout) if found.returncode == 0 else None

    def running(other_than=""):
        found = mirror()
        return found if found and is_ready(found) and found["metadata"]["uid"] != other_than else None

    (directory / "fixed.yaml").write_text(manifest)
    try:
        first = cluster.wait(running, "the static pod", WAIT_S)
        annotations = first["metadata"]["annotations"]
        assert annotations["kubernetes.io/config.source"] == "file"
        assert annotations["kubernetes.io/config.mirror"] == annotations["kubernetes.io/config.hash"]
        cluster.kubectl("delete", "pod", "fixed-worker-2")
        second = cluster.wait(lambda: running(first["metadata"]["uid"]), "a new mirror", WAIT_S)
        same = [p["status"]["containerStatuses"][0]["containerID"] for p in (first, second)]
        assert same[0] == same[1], "deleting the mirror must not touch the containers"
        (directory / "fixed.yaml").write_text(manifest.replace("nginx", "httpd"))
        cluster.wait(
            lambda: (found := running()) and found["status"]["containerStatuses"][0]["image"] == "httpd",
            "the changed file",
            WAIT_S,
        )
    finally:
        (directory / "fixed.yaml").unlink()
    cluster.wait(lambda: mirror() is None, "its end", WAIT_S)
