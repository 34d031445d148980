"""plan_pod: a pod, what the runtime has, and what follows from it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest

from podnet.controlplane.kubelet.backoff import BackoffEntry
from podnet.controlplane.kubelet.cri import (
    ContainerConfig,
    ContainerState,
    ContainerStatus,
    SandboxConfig,
    SandboxState,
    SandboxStatus,
)
from podnet.controlplane.kubelet.pod_actions import (
    HASH_LABEL,
    PodActions,
    PodView,
    ProbeResults,
    StartFailure,
    plan_garbage,
    plan_pod,
    termination_order,
)
from podnet.controlplane.kubelet.pod_spec import container_hash
from podnet.controlplane.kubelet.runtime_state import PodRuntimeState

S = 1_000_000_000
NOW = 1000 * S
SPEC = SandboxConfig("web", "default", "u1")


def sandbox(attempt: int = 0, *, ready: bool = True, ips: tuple[str, ...] = ("10.244.1.2",)) -> SandboxStatus:
    config = SandboxConfig("web", "default", "u1", attempt)
    state = SandboxState.READY if ready else SandboxState.NOTREADY
    return SandboxStatus(f"s{attempt}", config, state, attempt, ips if ready else ())


def run(name: str, attempt: int = 0, box: int = 0, image: str = "busybox") -> ContainerStatus:
    labels = {HASH_LABEL: container_hash({"name": name, "image": image})}
    config = ContainerConfig(name, image, attempt, labels=labels)
    return ContainerStatus(
        f"{name}{attempt}",
        f"s{box}",
        config,
        ContainerState.RUNNING,
        created_at_ns=NOW - 9 * S,
        started_at_ns=NOW - 8 * S,
    )


def ended(name: str, code: int = 0, attempt: int = 0, box: int = 0, ago_s: int = 1) -> ContainerStatus:
    return ContainerStatus(
        f"{name}{attempt}",
        f"s{box}",
        ContainerConfig(name, "busybox", attempt),
        ContainerState.EXITED,
        created_at_ns=NOW - 9 * S,
        started_at_ns=NOW - 8 * S,
        finished_at_ns=NOW - ago_s * S,
        exit_code=code,
    )


def created(name: str) -> ContainerStatus:
    return ContainerStatus(
        f"{name}0", "s0", ContainerConfig(name, "busybox"), ContainerState.CREATED, created_at_ns=NOW
    )


def pod(
    *names: str, init: tuple[str, ...] = (), sidecars: tuple[str, ...] = (), policy: str = "Always", **spec: Any
) -> Any:
    inits = [
        {"name": name, "image": "busybox", **({"restartPolicy": "Always"} if name in sidecars else {})}
        for name in (*init,)
    ]
    return {
        "metadata": {"name": "web", "namespace": "default", "uid": "u1"},
        "spec": {
            "restartPolicy": policy,
            "initContainers": inits,
            "containers": [{"name": name, "image": "busybox"} for name in names or ("app",)],
            **spec,
        },
    }


@dataclass(frozen=True)
class Case:
    id: str
    pod: Any
    have: tuple[Any, ...] = ()
    starts: tuple[tuple[str, int], ...] = ()
    kills: tuple[str, ...] = ()
    waits: tuple[str, ...] = ()
    create: bool = False
    kill_pod: bool = False
    probes: dict[str, ProbeResults] = field(default_factory=dict)
    backoffs: dict[str, BackoffEntry] = field(default_factory=dict)
    failures: dict[str, StartFailure] = field(default_factory=dict)


TWO = ("app", "log")
CASES = [
    Case("nothing-yet", pod(), create=True),
    Case("sandbox-stands", pod(), (sandbox(),), starts=(("app", 0),)),
    Case("sandbox-stands-two-containers", pod(*TWO), (sandbox(),), starts=(("app", 0), ("log", 0))),
    Case("all-run", pod(*TWO), (sandbox(), run("app"), run("log"))),
    Case("one-of-two-missing", pod(*TWO), (sandbox(), run("app")), starts=(("log", 0),)),
    Case("sandbox-dead", pod(), (sandbox(ready=False), ended("app", 137)), create=True),
    Case("sandbox-lost-its-address", pod(), (sandbox(ips=()),), create=True),
    Case("host-network-needs-no-address", pod(hostNetwork=True), (sandbox(ips=()),), starts=(("app", 0),)),
    Case(
        "new-sandbox-restarts-the-count",
        pod(),
        (sandbox(1), sandbox(ready=False), ended("app", 137)),
        starts=(("app", 1),),
    ),
    Case("created-never-started", pod(), (sandbox(), created("app")), starts=(("app", 0),)),
    # restart policies
    Case("always-after-success", pod(), (sandbox(), ended("app", 0)), starts=(("app", 1),)),
    Case("always-after-failure", pod(), (sandbox(), ended("app", 1)), starts=(("app", 1),)),
    Case("on-failure-after-failure", pod(policy="OnFailure"), (sandbox(), ended("app", 1)), starts=(("app", 1),)),
    Case("on-failure-after-success", pod(policy="OnFailure"), (sandbox(), ended("app", 0)), kill_pod=True),
    Case("never-after-failure", pod(policy="Never"), (sandbox(), ended("app", 1)), kill_pod=True),
    Case("never-one-still-runs", pod(*TWO, policy="Never"), (sandbox(), ended("app", 1), run("log"))),
    Case("never-with-a-dead-sandbox", pod(policy="Never"), (sandbox(ready=False), ended("app", 137)), kill_pod=True),
    Case(
        "on-failure-succeeded-with-a-dead-sandbox",
        pod(policy="OnFailure"),
        (sandbox(ready=False), ended("app", 0)),
        kill_pod=True,
    ),
    Case(
        "on-failure-failed-with-a-dead-sandbox",
        pod(policy="OnFailure"),
        (sandbox(ready=False), ended("app", 1)),
        create=True,
    ),
    # back-off
    Case(
        "backs-off",
        pod(),
        (sandbox(), ended("app", 1, ago_s=3)),
        waits=("app",),
        backoffs={"app": BackoffEntry(10 * S, NOW - 20 * S)},
    ),
    Case(
        "back-off-over",
        pod(),
        (sandbox(), ended("app", 1, ago_s=11)),
        starts=(("app", 1),),
        backoffs={"app": BackoffEntry(10 * S, NOW - 20 * S)},
    ),
    Case(
        "waits-after-a-failed-start",
        pod(),
        (sandbox(),),
        waits=("app",),
        failures={"app": StartFailure(0, NOW - S, "ErrImagePull", "", NOW + 9 * S)},
    ),
    Case(
        "tries-a-failed-start-again",
        pod(),
        (sandbox(),),
        starts=(("app", 0),),
        failures={"app": StartFailure(0, NOW - 20 * S, "ErrImagePull", "", NOW - S)},
    ),
    # init containers
    Case("first-init", pod(init=("one", "two")), (sandbox(),), starts=(("one", 0),)),
    Case("init-runs", pod(init=("one", "two")), (sandbox(), run("one"))),
    Case("second-init", pod(init=("one", "two")), (sandbox(), ended("one")), starts=(("two", 0),)),
    Case("init-done", pod(init=("one", "two")), (sandbox(), ended("one"), ended("two")), starts=(("app", 0),)),
    Case("init-failed-always", pod(init=("one",)), (sandbox(), ended("one", 1)), starts=(("one", 1),)),
    Case("init-failed-never", pod(init=("one",), policy="Never"), (sandbox(), ended("one", 1)), kill_pod=True),
    Case("init-again-in-a-new-sandbox", pod(init=("one",)), (sandbox(1), ended("one", box=0)), starts=(("one", 1),)),
    Case("init-history-does-not-matter", pod(init=("one",)), (sandbox(), run("app"))),
    # sidecars
    Case("sidecar-first", pod(init=("side", "one"), sidecars=("side",)), (sandbox(),), starts=(("side", 0),)),
    Case(
        "init-beside-a-sidecar",
        pod(init=("side", "one"), sidecars=("side",)),
        (sandbox(), run("side")),
        starts=(("one", 0),),
    ),
    Case(
        "sidecar-restarts-beside-the-app",
        pod(init=("side",), sidecars=("side",), policy="Never"),
        (sandbox(), ended("side", 0), run("app")),
        starts=(("side", 1),),
    ),
    Case(
        "sidecars-alone-do-not-keep-a-pod",
        pod(init=("side",), sidecars=("side",), policy="Never"),
        (sandbox(), run("side"), ended("app", 0)),
        kill_pod=True,
    ),
    # probes and changes
    Case(
        "liveness-failed",
        pod(),
        (sandbox(), run("app")),
        kills=("Container app failed liveness probe, will be restarted",),
        waits=("app",),
        probes={"app0": ProbeResults(liveness=False)},
    ),
    Case(
        "startup-failed",
        pod(),
        (sandbox(), run("app")),
        kills=("Container app failed startup probe, will be restarted",),
        waits=("app",),
        probes={"app0": ProbeResults(startup=False)},
    ),
    Case(
        "readiness-failed-is-no-reason", pod(), (sandbox(), run("app")), probes={"app0": ProbeResults(readiness=False)}
    ),
    Case("another-instance-failed", pod(), (sandbox(), run("app", 1)), probes={"app0": ProbeResults(liveness=False)}),
    Case(
        "image-changed",
        pod(),
        (sandbox(), run("app", image="alpine")),
        kills=("Container app definition changed, will be restarted",),
        waits=("app",),
    ),
    Case(
        "ephemeral-container",
        pod(ephemeralContainers=[{"name": "debug", "image": "busybox"}]),
        (sandbox(), run("app")),
        starts=(("debug", 0),),
    ),
    Case(
        "ephemeral-containers-never-restart",
        pod(ephemeralContainers=[{"name": "debug", "image": "busybox"}]),
        (sandbox(), run("app"), ended("debug", 1)),
    ),
]


def state(have: tuple[Any, ...]) -> PodRuntimeState:
    boxes = tuple(entry for entry in have if isinstance(entry, SandboxStatus))
    return PodRuntimeState(boxes, tuple(entry for entry in have if isinstance(entry, ContainerStatus)))


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_plan(case: Case) -> None:
    actions = plan_pod(PodView(case.pod, state(case.have), NOW, case.probes, case.backoffs, case.failures))
    assert tuple((start.name, start.attempt) for start in actions.start) == case.starts
    assert tuple(kill.message for kill in actions.kill) == case.kills
    assert tuple(wait.name for wait in actions.wait) == case.waits
    assert (actions.create_sandbox, actions.kill_pod) == (case.create, case.kill_pod)


def test_the_attempt_of_a_new_sandbox() -> None:
    assert plan_pod(PodView(pod(), PodRuntimeState(), NOW)).attempt == 0
    again = plan_pod(PodView(pod(), state((sandbox(4, ready=False), ended("app", 137, box=4))), NOW))
    assert again == PodActions(create_sandbox=True, attempt=5)


def test_a_created_container_is_replaced_under_its_attempt() -> None:
    [start] = plan_pod(PodView(pod(), state((sandbox(), created("app"))), NOW)).start
    assert (start.replaces, start.attempt) == ("app0", 0)


def test_a_dead_init_container_with_a_startup_probe_of_a_sidecar_pending() -> None:
    spec = pod(init=("side", "one"), sidecars=("side",))
    spec["spec"]["initContainers"][0]["startupProbe"] = {"exec": {"command": ["true"]}}
    have = state((sandbox(), run("side")))
    assert plan_pod(PodView(spec, have, NOW)).start == ()
    started = {"side0": ProbeResults(startup=True)}
    assert [s.name for s in plan_pod(PodView(spec, have, NOW, started)).start] == ["one"]


def test_garbage_keeps_the_newest_and_one_before() -> None:
    have = state(
        (sandbox(1), sandbox(ready=False), *(ended("app", 1, attempt, box=min(attempt, 1)) for attempt in range(4)))
    )
    containers, boxes = plan_garbage(have)
    assert sorted(containers) == ["app0", "app1"]
    assert boxes == ["s0"]


def test_an_old_sandbox_stays_while_a_kept_container_is_in_it() -> None:
    have = state((sandbox(1), sandbox(ready=False), ended("app", 1, 0, box=0), run("app", 1, box=1)))
    assert plan_garbage(have) == ([], [])


def test_sidecars_end_last_and_backwards() -> None:
    spec = pod("app", "log", init=("a", "b"), sidecars=("a", "b"))
    have = state((sandbox(), run("a"), run("b"), run("app"), run("log")))
    waves = [[status.config.name for status in wave] for wave in termination_order(spec, have)]
    assert waves == [["app", "log"], ["b"], ["a"]]
