"""render_status: phases, conditions and container statuses as tables."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest

from podnet.controlplane.kubelet.cri import (
    ContainerConfig,
    ContainerState,
    ContainerStatus,
    SandboxConfig,
    SandboxState,
    SandboxStatus,
)
from podnet.controlplane.kubelet.pod_actions import ProbeResults
from podnet.controlplane.kubelet.pod_status import StatusInput, merge_status, render_status
from podnet.controlplane.kubelet.runtime_state import PodRuntimeState

S = 1_000_000_000
NOW = 1_000_000 * S
BOX = SandboxStatus("s0", SandboxConfig("web", "default", "u1"), SandboxState.READY, NOW, ("10.244.1.2",))


def pod(policy: str = "Always", init: int = 0, names: tuple[str, ...] = ("app",), **status: Any) -> Any:
    return {
        "metadata": {"name": "web", "namespace": "default", "uid": "u1"},
        "spec": {
            "restartPolicy": policy,
            "initContainers": [{"name": f"init{n}", "image": "busybox"} for n in range(init)],
            "containers": [{"name": name, "image": "busybox"} for name in names],
        },
        "status": status,
    }


def run(name: str = "app", attempt: int = 0) -> ContainerStatus:
    return ContainerStatus(
        f"{name}{attempt}",
        "s0",
        ContainerConfig(name, "busybox", attempt),
        ContainerState.RUNNING,
        image_ref="podnet.dev/busybox",
        created_at_ns=NOW - 9 * S,
        started_at_ns=NOW - 8 * S,
    )


def ended(name: str = "app", code: int = 0, attempt: int = 0, signal: int = 0, message: str = "") -> ContainerStatus:
    return ContainerStatus(
        f"{name}{attempt}",
        "s0",
        ContainerConfig(name, "busybox", attempt),
        ContainerState.EXITED,
        created_at_ns=NOW - 9 * S,
        started_at_ns=NOW - 8 * S,
        finished_at_ns=NOW - S,
        exit_code=code,
        signal=signal,
        message=message,
    )


def render(spec: Any, *containers: ContainerStatus, **more: Any) -> dict[str, Any]:
    boxes = more.pop("sandboxes", (BOX,))
    return render_status(StatusInput(spec, PodRuntimeState(boxes, containers), NOW, "192.168.100.11", **more))


def conditions(status: dict[str, Any]) -> dict[str, tuple[str, str]]:
    return {c["type"]: (c["status"], c.get("reason", "")) for c in status["conditions"]}


@dataclass(frozen=True)
class Phase:
    id: str
    policy: str
    containers: tuple[ContainerStatus, ...]
    phase: str
    ended: bool = False
    init: int = 0
    names: tuple[str, ...] = ("app",)


TWO = ("app", "log")
PHASES = [
    Phase("nothing-started", "Always", (), "Pending"),
    Phase("runs", "Always", (run(),), "Running"),
    Phase("one-of-two-started", "Always", (run(),), "Pending", names=TWO),
    Phase("always-between-restarts", "Always", (ended(code=1),), "Running"),
    Phase("on-failure-between-restarts", "OnFailure", (ended(code=1),), "Running"),
    Phase("on-failure-done", "OnFailure", (ended(),), "Succeeded"),
    Phase("never-done", "Never", (ended(),), "Succeeded"),
    Phase("never-failed", "Never", (ended(code=1),), "Failed"),
    Phase("never-one-failed-one-runs", "Never", (ended(code=1), run("log")), "Running", names=TWO),
    Phase("never-one-failed-one-done", "Never", (ended(code=1), ended("log")), "Failed", names=TWO),
    Phase("deleted-cleanly", "Always", (ended(),), "Succeeded", ended=True),
    Phase("deleted-by-signal", "Always", (ended(code=143),), "Failed", ended=True),
    Phase("deleted-before-it-started", "Always", (), "Failed", ended=True),
    Phase("init-runs", "Always", (run("init0"),), "Pending", init=1),
    Phase("init-done-app-not-yet", "Always", (ended("init0"),), "Pending", init=1),
    Phase("init-failed-never", "Never", (ended("init0", 1),), "Failed", init=1),
    Phase("init-failed-always", "Always", (ended("init0", 1),), "Pending", init=1),
    Phase("init-and-app", "Always", (ended("init0"), run()), "Running", init=1),
]


@pytest.mark.parametrize("case", PHASES, ids=lambda case: case.id)
def test_phase(case: Phase) -> None:
    status = render(pod(case.policy, case.init, case.names), *case.containers, ended=case.ended)
    assert status["phase"] == case.phase


@pytest.mark.parametrize("phase", ["Succeeded", "Failed"])
def test_a_terminal_phase_stands(phase: str) -> None:
    assert render(pod(phase=phase), run())["phase"] == phase
    assert merge_status({"phase": phase}, {"phase": "Running", "conditions": []})["phase"] == phase


def test_a_verdict_fails_the_pod_once_it_has_ended() -> None:
    verdict = {"failed": True, "reason": "DeadlineExceeded", "message": "too long"}
    assert render(pod(), run(), **verdict)["phase"] == "Running"
    status = render(pod(), ended(), ended=True, **verdict)
    assert (status["phase"], status["reason"], status["message"]) == ("Failed", "DeadlineExceeded", "too long")


def test_a_pod_that_is_being_made() -> None:
    status = render(pod(), sandboxes=())
    assert status["containerStatuses"][0]["state"] == {"waiting": {"reason": "ContainerCreating"}}
    assert "podIP" not in status
    assert status["hostIPs"] == [{"ip": "192.168.100.11"}]
    assert conditions(status) == {
        "PodReadyToStartContainers": ("False", ""),
        "Initialized": ("True", ""),
        "Ready": ("False", "ContainersNotReady"),
        "ContainersReady": ("False", "ContainersNotReady"),
        "PodScheduled": ("True", ""),
    }


def test_the_conditions_of_a_running_pod() -> None:
    status = render(pod(), run())
    assert set(conditions(status).values()) == {("True", "")}
    assert status["podIPs"] == [{"ip": "10.244.1.2"}]


def test_unready_and_uninitialized_are_named() -> None:
    status = render(pod(init=2, names=TWO), ended("init0"), run("init1"))
    by_type = {c["type"]: c for c in status["conditions"]}
    assert by_type["Initialized"]["message"] == "containers with incomplete status: [init1]"
    assert by_type["Ready"]["message"] == "containers with unready status: [app log]"
    waiting = [c["state"]["waiting"]["reason"] for c in status["containerStatuses"]]
    assert waiting == ["PodInitializing", "PodInitializing"]


def test_transition_times_change_with_the_status_only() -> None:
    old = [
        {"type": "Ready", "status": "True", "lastTransitionTime": "2020-01-01T00:00:00Z"},
        {"type": "ContainersReady", "status": "False", "lastTransitionTime": "2020-01-01T00:00:00Z"},
    ]
    times = {c["type"]: c["lastTransitionTime"] for c in render(pod(conditions=old), run())["conditions"]}
    assert times["Ready"] == "2020-01-01T00:00:00Z"
    assert times["ContainersReady"] == "1970-01-12T13:46:40Z"


def test_a_running_container() -> None:
    [entry] = render(pod(), run(attempt=2), ended(code=3, attempt=1))["containerStatuses"]
    assert entry == {
        "name": "app",
        "state": {"running": {"startedAt": "1970-01-12T13:46:32Z"}},
        "lastState": {
            "terminated": {
                "exitCode": 3,
                "reason": "Error",
                "startedAt": "1970-01-12T13:46:32Z",
                "finishedAt": "1970-01-12T13:46:39Z",
                "containerID": "podnet://app1",
            }
        },
        "ready": True,
        "restartCount": 2,
        "image": "busybox",
        "imageID": "podnet.dev/busybox",
        "containerID": "podnet://app2",
        "started": True,
    }


def test_a_container_that_waits_for_its_restart() -> None:
    waiting = {"app": ("CrashLoopBackOff", "back-off 10s")}
    [entry] = render(pod(), ended(code=137, signal=9, message="out"), waiting=waiting)["containerStatuses"]
    assert entry["state"] == {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 10s"}}
    assert entry["lastState"]["terminated"]["signal"] == 9
    assert entry["lastState"]["terminated"]["message"] == "out"
    assert (entry["ready"], entry["started"]) == (False, False)


@pytest.mark.parametrize(
    ("spec", "results", "started", "ready"),
    [
        pytest.param({}, None, True, True, id="no-probes"),
        pytest.param({"readinessProbe": {}}, ProbeResults(readiness=False), True, False, id="not-ready"),
        pytest.param({"readinessProbe": {}}, ProbeResults(readiness=True), True, True, id="ready"),
        pytest.param({"readinessProbe": {}}, None, True, False, id="not-asked-yet"),
        pytest.param({"startupProbe": {}}, ProbeResults(), False, False, id="starting"),
        pytest.param({"startupProbe": {}}, ProbeResults(startup=True), True, True, id="started"),
        pytest.param(
            {"startupProbe": {}, "readinessProbe": {}},
            ProbeResults(startup=True, readiness=False),
            True,
            False,
            id="started-not-ready",
        ),
    ],
)
def test_probes_decide_started_and_ready(spec: Any, results: Any, started: bool, ready: bool) -> None:
    given = pod()
    given["spec"]["containers"][0].update(spec)
    probes = {} if results is None else {"app0": results}
    [entry] = render(given, run(), probes=probes)["containerStatuses"]
    assert (entry["started"], entry["ready"]) == (started, ready)


def test_a_lost_container_is_unknown() -> None:
    standing = render(pod(), run())["containerStatuses"]
    [entry] = render(pod(containerStatuses=standing), sandboxes=(), ended=True)["containerStatuses"]
    assert entry["state"]["terminated"]["reason"] == "ContainerStatusUnknown"
    assert entry["state"]["terminated"]["exitCode"] == 137


def test_what_ended_and_was_removed_keeps_its_end() -> None:
    standing = render(pod("Never"), ended(code=3), ended=True)
    again = render(pod("Never", **standing), sandboxes=(), ended=True)
    assert again["containerStatuses"] == standing["containerStatuses"]
    assert again["phase"] == "Failed"
    assert again["podIP"] == "10.244.1.2"


def test_merge_keeps_what_belongs_to_others() -> None:
    gate = {"type": "example.com/gate", "status": "True"}
    standing = {"nominatedNodeName": "n2", "conditions": [gate, {"type": "Ready", "status": "False"}]}
    merged = merge_status(standing, render(pod(), run()))
    assert merged["nominatedNodeName"] == "n2"
    assert gate in merged["conditions"]
    assert [c["status"] for c in merged["conditions"] if c["type"] == "Ready"] == ["True"]


def test_host_network_shows_the_node() -> None:
    spec = pod()
    spec["spec"]["hostNetwork"] = True
    box = SandboxStatus("s0", SandboxConfig("web", "default", "u1", host_network=True), SandboxState.READY, NOW)
    status = render(spec, run(), sandboxes=(box,))
    assert status["podIP"] == "192.168.100.11"
    assert conditions(status)["Ready"] == ("True", "")


@pytest.mark.parametrize(("count", "share"), [(1, 6000), (4, 3072)])
def test_messages_share_what_a_pod_may_say(count: int, share: int) -> None:
    names = tuple(f"c{number}" for number in range(count))
    state = PodRuntimeState((BOX,), tuple(ended(name, 1, message="x" * 6000) for name in names))
    status = render_status(StatusInput(pod("Never", names=names), state, NOW, "192.168.100.11"))
    assert [len(entry["state"]["terminated"]["message"]) for entry in status["containerStatuses"]] == [share] * count
