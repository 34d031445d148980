"""What has to be done for one pod now: the kubelet's decision, as a value.

Pure: pod spec, runtime state, probe results, back-off entries and the clock in; a `PodActions` out. The worker applies
it and asks again; nothing is remembered between two decisions, so a kubelet may be killed anywhere.

    sandbox gone or dead ──► create it, then init containers one after another (a sidecar only has to be *started*),
    then all containers; a container that ended is started again by its restart policy once its back-off is over;
    a failed liveness or startup probe, or a changed image, kills it first.

Source: kubelet's computePodActions (pkg/kubelet/kuberuntime) as documented in the pod lifecycle and sidecar concepts.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from podnet.controlplane.api.types import Object
from podnet.controlplane.kubelet import pod_spec
from podnet.controlplane.kubelet.backoff import BackoffEntry, back_off_until
from podnet.controlplane.kubelet.cri import ContainerState, ContainerStatus, SandboxState
from podnet.controlplane.kubelet.runtime_state import PodRuntimeState

HASH_LABEL = "podnet.dev/container-hash"


@dataclass(frozen=True, slots=True)
class ProbeResults:
    """What the probes of one container instance say; None where it has no such probe or it never ran."""

    startup: bool | None = None
    liveness: bool | None = None
    readiness: bool | None = None


@dataclass(frozen=True, slots=True)
class StartFailure:
    """A container that could not be created or started: which attempt, when, the waiting reason, when to try again."""

    attempt: int
    at_ns: int
    reason: str
    message: str
    retry_at_ns: int = 0


@dataclass(frozen=True, slots=True)
class ContainerStart:
    """Start this container as its n-th attempt; `failed_at_ns` is when the previous instance ended (0: there is none)."""

    name: str
    attempt: int
    failed_at_ns: int = 0
    replaces: str = ""  # a created but never started container to remove first


@dataclass(frozen=True, slots=True)
class ContainerKill:
    """Stop this container; `reason` is "", Startup, Liveness or Changed, `message` the event's text."""

    id: str
    name: str
    message: str
    reason: str = ""


@dataclass(frozen=True, slots=True)
class ContainerWait:
    """A restart that has to wait until `until_ns`; `delay_ns` is what the message names."""

    name: str
    until_ns: int
    delay_ns: int


@dataclass(frozen=True, slots=True)
class PodActions:
    """Everything to do, in the order of the fields."""

    kill_pod: bool = False
    create_sandbox: bool = False
    attempt: int = 0
    kill: tuple[ContainerKill, ...] = ()
    start: tuple[ContainerStart, ...] = ()
    wait: tuple[ContainerWait, ...] = ()

    @property
    def is_empty(self) -> bool:
        """Nothing to do."""
        return self == PodActions()


@dataclass(frozen=True, slots=True)
class PodView:
    """The arguments of one decision. `probes` is keyed by container ID, the rest by container name."""

    pod: Object
    state: PodRuntimeState
    now_ns: int
    probes: Mapping[str, ProbeResults] = field(default_factory=dict)
    backoffs: Mapping[str, BackoffEntry] = field(default_factory=dict)
    failures: Mapping[str, StartFailure] = field(default_factory=dict)


@dataclass(slots=True)
class _Plan:
    kill: list[ContainerKill] = field(default_factory=list)
    start: list[ContainerStart] = field(default_factory=list)
    wait: list[ContainerWait] = field(default_factory=list)
    init_failed: bool = False


def is_started(
    container: Mapping[str, Any], status: ContainerStatus | None, probes: Mapping[str, ProbeResults]
) -> bool:
    """True when the instance runs and its startup probe, if it has one, has succeeded."""
    if status is None or status.state is not ContainerState.RUNNING:
        return False
    return "startupProbe" not in container or probes.get(status.id, ProbeResults()).startup is True


def sandbox_changed(pod: Object, state: PodRuntimeState) -> tuple[bool, int]:
    """(a new sandbox is needed, its attempt number)."""
    sandbox = state.sandbox
    if sandbox is None:
        return True, 0
    lost_address = not pod_spec.host_network(pod) and not sandbox.ips
    if sandbox.state is not SandboxState.READY or lost_address:
        return True, sandbox.config.attempt + 1
    return False, sandbox.config.attempt


def plan_pod(view: PodView) -> PodActions:
    """Decide."""
    pod, state = view.pod, view.state
    changed, attempt = sandbox_changed(pod, state)
    if changed:
        return _plan_new_sandbox(view, attempt)
    plan = _Plan()
    for container in pod_spec.ephemeral_containers(pod):
        if state.newest(container["name"]) is None:
            _start(view, container["name"], plan)
    initialized = _plan_init(view, plan)
    if plan.init_failed:
        return PodActions(kill_pod=True, attempt=attempt)
    if not initialized:
        return PodActions(False, False, attempt, tuple(plan.kill), tuple(plan.start), tuple(plan.wait))
    kept = sum(_plan_container(view, container, plan) for container in pod_spec.containers(pod))
    planned = {start.name for start in plan.start} | {wait.name for wait in plan.wait}
    if kept == 0 and not any(container["name"] in planned for container in pod_spec.containers(pod)):
        return PodActions(kill_pod=True, attempt=attempt)
    return PodActions(False, False, attempt, tuple(plan.kill), tuple(plan.start), tuple(plan.wait))


def plan_garbage(state: PodRuntimeState) -> tuple[list[str], list[str]]:
    """(container IDs, sandbox IDs) to remove: of each container the newest instance and one dead predecessor stay (for
    `kubectl logs --previous`); an old sandbox goes once none of what stays lives in it."""
    kept: set[str] = set()
    dead: list[str] = []
    for name in {container.config.name for container in state.containers}:
        history = state.history(name)
        kept.update(container.id for container in history[:2])
        dead += [container.id for container in history[2:] if container.state is ContainerState.EXITED]
    homes = {container.sandbox_id for container in state.containers if container.id in kept}
    old = [
        sandbox.id
        for sandbox in state.sandboxes[1:]
        if sandbox.id not in homes and sandbox.state is SandboxState.NOTREADY
    ]
    return dead, old


def termination_order(pod: Object, state: PodRuntimeState) -> list[list[ContainerStatus]]:
    """Running containers in the waves in which they are stopped: everything but sidecars at once, then the sidecars one
    by one, the last to start first."""
    sidecars = [c["name"] for c in pod_spec.init_containers(pod) if pod_spec.is_restartable_init(c)]
    first = [container for container in state.running if container.config.name not in sidecars]
    waves = [first] if first else []
    for name in reversed(sidecars):
        wave = [container for container in state.running if container.config.name == name]
        if wave:
            waves.append(wave)
    return waves


def _plan_new_sandbox(view: PodView, attempt: int) -> PodActions:
    pod, state = view.pod, view.state
    policy = pod_spec.restart_policy(pod)
    main = [state.newest(container["name"]) for container in pod_spec.containers(pod)]
    ran = any(status is not None for status in main)
    if ran and all(not pod_spec.should_restart(policy, _as_dead(status)) for status in main):
        # Everything has ended for good: a sandbox would be created only to be killed.
        return PodActions(kill_pod=True, attempt=attempt)
    if policy == "Never" and attempt != 0 and state.containers:
        return PodActions(kill_pod=True, attempt=attempt)
    return PodActions(kill_pod=bool(state.sandboxes and state.running), create_sandbox=True, attempt=attempt)


def _as_dead(status: ContainerStatus | None) -> ContainerStatus | None:
    # A container that the runtime still calls running died with its sandbox: let the policy see it as a failure.
    if status is None or status.state is ContainerState.EXITED:
        return status
    return None


def _plan_init(view: PodView, plan: _Plan) -> bool:
    """Plan the init containers; True when the main ones may run."""
    pod, state = view.pod, view.state
    # Once a main container was started in this sandbox, ordinary init containers are history and sidecars no longer
    # hold anything up; they are only kept alive.
    initialized = any(state.current(container["name"]) is not None for container in pod_spec.containers(pod))
    for container in pod_spec.init_containers(pod):
        status = state.current(container["name"])
        if pod_spec.is_restartable_init(container):
            kept = _plan_container(view, container, plan, policy="Always")
            started = kept == 1 and is_started(container, status, view.probes)
            if not started and not initialized:
                return False
            continue
        if initialized:
            continue
        if not _plan_ordinary_init(view, container["name"], status, plan):
            return False
    return True


def _plan_ordinary_init(view: PodView, name: str, status: ContainerStatus | None, plan: _Plan) -> bool:
    """True when it has completed."""
    if status is not None and status.state is ContainerState.RUNNING:
        return False
    if status is not None and status.state is ContainerState.EXITED:
        if status.exit_code == 0:
            return True
        if pod_spec.restart_policy(view.pod) == "Never":
            plan.init_failed = True
            return False
    _start(view, name, plan)
    return False


def _plan_container(view: PodView, container: dict[str, Any], plan: _Plan, policy: str = "") -> int:
    """1 when the container is running and stays."""
    name = container["name"]
    policy = policy or pod_spec.restart_policy(view.pod)
    status = view.state.newest(name)
    if status is None or status.state is not ContainerState.RUNNING:
        if status is not None and status.state is ContainerState.UNKNOWN:
            plan.kill.append(
                ContainerKill(status.id, name, f"Container {name} is in unknown state, try killing it before restart")
            )
        elif pod_spec.should_restart(policy, status):
            _start(view, name, plan)
        return 0
    kill = _reason_to_kill(view, container, status)
    if kill is None:
        return 1
    plan.kill.append(kill)
    if policy == "Never" and kill.reason != "Changed":
        return 0
    # It is started by the next decision, which sees it exited and applies the back-off. Until then the pod is kept.
    plan.wait.append(ContainerWait(name, view.now_ns, 0))
    return 0


def _reason_to_kill(view: PodView, container: dict[str, Any], status: ContainerStatus) -> ContainerKill | None:
    name = container["name"]
    recorded = status.config.labels.get(HASH_LABEL)
    if recorded is not None and recorded != pod_spec.container_hash(container):
        return ContainerKill(status.id, name, f"Container {name} definition changed, will be restarted", "Changed")
    results = view.probes.get(status.id, ProbeResults())
    if results.liveness is False:
        return ContainerKill(status.id, name, f"Container {name} failed liveness probe, will be restarted", "Liveness")
    if results.startup is False:
        return ContainerKill(status.id, name, f"Container {name} failed startup probe, will be restarted", "Startup")
    return None


def _start(view: PodView, name: str, plan: _Plan) -> None:
    status, failure = view.state.newest(name), view.failures.get(name)
    ended_ns = 0
    replaces = ""
    attempt = 0
    if status is not None:
        if status.state is ContainerState.CREATED:
            replaces, attempt = status.id, status.config.attempt
        else:
            # A container that died with its sandbox may have no finish time: it has ended, but nobody knows when.
            ended_ns = status.finished_at_ns or status.started_at_ns or status.created_at_ns
            attempt = status.config.attempt + 1
    if failure is not None and view.now_ns < failure.retry_at_ns:
        plan.wait.append(ContainerWait(name, failure.retry_at_ns, failure.retry_at_ns - failure.at_ns))
        return
    entry = view.backoffs.get(name)
    # A failed start has served its wait above; a container that ran and ended serves it here.
    until_ns = back_off_until(entry, ended_ns, view.now_ns) if ended_ns and failure is None else 0
    if until_ns and entry is not None:
        plan.wait.append(ContainerWait(name, until_ns, entry.delay_ns))
    else:
        plan.start.append(ContainerStart(name, attempt, ended_ns, replaces))
