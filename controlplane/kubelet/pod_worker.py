"""One pod's life on this node: a task that compares what should be with what is, acts, and says what became of it.

    sync ──(deleted, vanished, rejected, deadline, all containers done)──► end: preStop, SIGTERM, SIGKILL, sandbox,
     ▲ │                                                                    volumes, last status, then either
     └─┘ woken by the watch, the runtime, a probe, a timer                  delete from the API, or stay as a record

Level-triggered: whatever wakes it, it looks at everything again; killed anywhere and started over the same runtime, it
goes on. Decisions are `plan_pod`'s and `render_status`'s; this file applies them.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from dataclasses import dataclass, replace
from typing import Any

from podnet.controlplane.api.errors import StatusError
from podnet.controlplane.api.resources import CONFIGMAPS, SECRETS
from podnet.controlplane.api.types import Object
from podnet.controlplane.kubelet import pod_spec
from podnet.controlplane.kubelet.backoff import BackoffEntry, next_entry
from podnet.controlplane.kubelet.config_cache import Reference
from podnet.controlplane.kubelet.container_config import sandbox_config
from podnet.controlplane.kubelet.container_starter import HOOK_FAILED, ContainerStarter, StartRequest, field_path
from podnet.controlplane.kubelet.cri import RuntimeServiceError
from podnet.controlplane.kubelet.downward import ConfigError, PodFacts
from podnet.controlplane.kubelet.env import config_references
from podnet.controlplane.kubelet.lane import wait_unbroken
from podnet.controlplane.kubelet.pod_actions import (
    ContainerKill,
    ContainerStart,
    PodActions,
    PodView,
    StartFailure,
    plan_garbage,
    plan_pod,
)
from podnet.controlplane.kubelet.pod_ending import Ending, PodEnder
from podnet.controlplane.kubelet.pod_killer import PodKiller
from podnet.controlplane.kubelet.pod_status import StatusInput, render_status
from podnet.controlplane.kubelet.probes.pod_probes import PodProbes, ProbeHost
from podnet.controlplane.kubelet.probes.state import parse_probe
from podnet.controlplane.kubelet.runtime_state import PodRuntimeState
from podnet.controlplane.kubelet.termination_message import with_log_messages
from podnet.controlplane.kubelet.timestamps import SECOND_NS, parse_rfc3339, rfc3339
from podnet.controlplane.kubelet.volumes.pod_volumes import PodVolumes, VolumeError
from podnet.controlplane.kubelet.waiting import (
    SHOW_FAILURE_NS,
    Waiting,
    after_failure,
    is_config_failure,
    waiting_reasons,
)
from podnet.controlplane.kubelet.worker_context import WorkerContext

log = logging.getLogger(__name__)

ROUNDS_MAX = 32
"""Decisions in one sync; a pod has fewer steps to its full stature, and whatever is left waits for the next wake."""
RETRY_MIN_NS, RETRY_MAX_NS = SECOND_NS // 2, 10 * SECOND_NS


@dataclass(slots=True)
class _Memory:
    """What a worker remembers between two syncs; all of it may be lost."""

    backoffs: dict[str, BackoffEntry]
    failures: dict[str, StartFailure]
    said: set[tuple[str, str]]
    retry_ns: int = RETRY_MIN_NS
    start_time: str = ""


class PodWorker:
    """See the module. `pod` is the newest version seen; `finished` when nothing of it is left on the node."""

    def __init__(self, context: WorkerContext, pod: Object) -> None:
        self.pod = pod
        self.uid = pod_spec.uid(pod)
        self.finished = False
        self.ending: Ending | None = None
        self.killer = PodKiller(context)
        self.volumes = PodVolumes(context.client, context.configs, context.config.paths.pods_dir, self.uid)
        host = ProbeHost(
            context.runtime, context.config.node_ip, context.spawn, context.clock, self.wake, self._unhealthy
        )
        self.probes = PodProbes(host)
        self._context = context
        self._starter = ContainerStarter(context)
        self._ender = PodEnder(context, self)
        self._memory = _Memory({}, {}, set())
        self._woken = asyncio.Event()
        self._changed = asyncio.Event()
        self._sync_task: asyncio.Task[int] | None = None
        self._configs_changed = False
        self._waiting: dict[str, Waiting] = {}

    # What others tell the worker.

    def update(self, pod: Object) -> None:
        """A new version of the pod."""
        self.pod = pod
        if pod_spec.is_deleting(pod):
            self.end(Ending(pod_spec.grace_period_s(pod)))
        self.wake()

    def end(self, ending: Ending) -> None:
        """Begin to end the pod, or hasten an end that has begun. The first reason stands, the shortest time counts."""
        if self.ending is None:
            self.ending = ending
            if self._sync_task is not None:
                self._sync_task.cancel()
        else:
            shortest = min(self.ending.grace_s, ending.grace_s)
            self.ending = replace(self.ending, grace_s=shortest, vanished=self.ending.vanished or ending.vanished)
        self.wake()

    def configs_changed(self) -> None:
        """A ConfigMap or Secret that the pod refers to has changed."""
        self._configs_changed = True
        self.wake()

    def wake(self) -> None:
        """Look again."""
        self._woken.set()
        self._changed.set()
        self._changed = asyncio.Event()

    async def wait_woken(self) -> None:
        """Return when something has changed since the last look."""
        await self._woken.wait()
        self._woken.clear()

    async def wait_state_changed(self) -> None:
        """Return when the runtime's state of the pod may have changed; for those who watch over the worker's shoulder."""
        await self._changed.wait()

    def waiting_reason(self, name: str) -> str:
        """Why a container that has never run does not."""
        waiting = self._waiting.get(name)
        if waiting is not None:
            return waiting.reason
        return "PodInitializing" if pod_spec.init_containers(self.pod) else "ContainerCreating"

    # The loop.

    async def run(self) -> None:
        """Until the pod is gone."""
        context = self._context
        while not self.finished:
            self._woken.clear()
            due_ns = await self._step_guarded()
            if self.finished or self._woken.is_set():
                continue
            resync_ns = context.clock() + int(context.config.sync_frequency_s * SECOND_NS)
            wait_s = (min(due_ns or resync_ns, resync_ns) - context.clock()) / SECOND_NS
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(max(wait_s, 0.001)):
                    await self._woken.wait()

    async def _step_guarded(self) -> int:
        """One step; when the next is due (0: only when woken)."""
        try:
            due_ns = await self._step()
        except (StatusError, RuntimeServiceError, ConfigError, OSError) as error:
            log.info("pod %s: %s", pod_spec.full_name(self.pod), error)
        except Exception:
            log.exception("pod %s: sync failed", pod_spec.full_name(self.pod))
        else:
            return due_ns
        return self._next_retry_ns()

    def _next_retry_ns(self) -> int:
        """When to try again what has just failed; longer each time until a sync goes well."""
        memory = self._memory
        due_ns = self._context.clock() + memory.retry_ns
        memory.retry_ns = min(memory.retry_ns * 2, RETRY_MAX_NS)
        return due_ns

    async def _step(self) -> int:
        if self.ending is not None:
            return await self._ender.step(self.ending)
        self._sync_task = asyncio.create_task(self._sync(), name=f"sync {pod_spec.full_name(self.pod)}")
        try:
            return await self._sync_task
        except asyncio.CancelledError:
            current = asyncio.current_task()
            if self.ending is None or (current is not None and current.cancelling()):
                raise
            return self._context.clock()
        finally:
            self._sync_task = None

    # One sync.

    async def _sync(self) -> int:
        context, memory = self._context, self._memory
        pod = self.current_pod
        self._drop_config_failures()
        overdue = self._deadline_ns(pod)
        if overdue and context.clock() >= overdue:
            message = "Pod was active on the node longer than the specified deadline"
            context.recorder.event(pod, "Normal", "DeadlineExceeded", message)
            self.end(Ending(pod_spec.grace_period_s(pod), "DeadlineExceeded", message, failed=True))
            return 0
        retry_ns = 0
        for _ in range(ROUNDS_MAX):
            pod, state = self.current_pod, self.state
            self.probes.sync(pod, state)
            actions = self._plan(pod, state)
            self._note_waits(pod, actions)
            self.publish(state)
            if actions.kill_pod and not actions.create_sandbox:
                self.end(Ending(pod_spec.grace_period_s(pod), completed=True))
                return 0
            if not (actions.create_sandbox or actions.kill or actions.start):
                await self._keep_volumes(pod)
                memory.retry_ns = RETRY_MIN_NS
                break
            if not await self._apply(pod, state, actions):
                retry_ns = self._next_retry_ns()
                break
            await context.cache.refresh()
        await self._collect_garbage(self.state)
        return self._next_due_ns(self.current_pod, retry_ns)

    @property
    def current_pod(self) -> Object:
        """The pod with the newest status, be it from the watch or from our own write."""
        return self._context.statuses.current(self.pod)

    @property
    def state(self) -> PodRuntimeState:
        """What the runtime knows of it."""
        return with_log_messages(self.pod, self._context.cache.get(self.uid))

    def _plan(self, pod: Object, state: PodRuntimeState) -> PodActions:
        memory = self._memory
        return plan_pod(
            PodView(pod, state, self._context.clock(), self.probes.results, memory.backoffs, memory.failures)
        )

    def publish(self, state: PodRuntimeState, *, ended: bool = False) -> dict[str, Any]:
        """Render the status and hand it to the writer."""
        context, memory, ending = self._context, self._memory, self.ending
        pod = self.current_pod
        memory.start_time = memory.start_time or rfc3339(context.clock())
        status = render_status(
            StatusInput(
                pod=pod,
                state=state,
                now_ns=context.clock(),
                host_ip=context.config.node_ip,
                probes=self.probes.results,
                waiting={name: (waiting.reason, waiting.message) for name, waiting in self._waiting.items()},
                start_time=memory.start_time,
                ended=ended,
                failed=ending is not None and ending.failed,
                reason=ending.reason if ending is not None else "",
                message=ending.message if ending is not None else "",
            )
        )
        context.statuses.put(pod, status)
        return status

    async def _apply(self, pod: Object, state: PodRuntimeState, actions: PodActions) -> bool:
        """Do it; False when it failed in a way that wants a retry later."""
        for kill in actions.kill:
            await self._kill(pod, state, kill)
        if not (actions.create_sandbox or actions.start):
            return True
        volumes = await self._set_up_volumes(pod)
        if volumes is None:
            return False
        if actions.create_sandbox:
            return await self._create_sandbox(pod, state, actions.attempt)
        for start in actions.start:
            await self._start(pod, state, start, volumes)
        return True

    async def _kill(self, pod: Object, state: PodRuntimeState, kill: ContainerKill) -> None:
        status = next((c for c in state.containers if c.id == kill.id), None)
        if status is None:
            return
        grace_s: float = pod_spec.grace_period_s(pod)
        spec = pod_spec.container_named(pod, kill.name) or {}
        probe = None
        if kill.reason == "Liveness":
            probe = parse_probe(spec, "liveness")
        elif kill.reason == "Startup":
            probe = parse_probe(spec, "startup")
        if probe is not None and probe.grace_period_s is not None:
            grace_s = float(probe.grace_period_s)
        await self.killer.kill_container(pod, status, grace_s, kill.message)

    async def _set_up_volumes(self, pod: Object) -> dict[str, Any] | None:
        context = self._context
        maps, secrets = config_references(pod)
        namespace = pod_spec.namespace_of(pod)
        references = {Reference(CONFIGMAPS, namespace, name) for name in maps}
        references |= {Reference(SECRETS, namespace, name) for name in secrets}
        await self.volumes.acquire(pod, references)
        facts = PodFacts(pod, context.config.node_ip, self.state.ips, context.allocatable)
        try:
            return dict(await self.volumes.set_up(facts, context.clock(), context.node_labels))
        except VolumeError as error:
            context.recorder.event(pod, "Warning", "FailedMount", str(error))
            return None

    async def _keep_volumes(self, pod: Object) -> None:
        """Updates arrive in the files of a pod that runs; a failure there is an event, no more."""
        if self.state.running:
            await self._set_up_volumes(pod)

    async def _create_sandbox(self, pod: Object, state: PodRuntimeState, attempt: int) -> bool:
        context = self._context
        if context.network_problem and not pod_spec.host_network(pod):
            message = f"network is not ready: {context.network_problem}"
            context.recorder.event(pod, "Warning", "NetworkNotReady", message)
            return False
        if attempt:
            message = "Pod sandbox changed, it will be killed and re-created."
            context.recorder.event(pod, "Normal", "SandboxChanged", message)
        for old in state.sandboxes:
            await context.runtime.stop_pod_sandbox(old.id)
        try:
            config = sandbox_config(pod, attempt, context.names)
            await wait_unbroken(context.runtime.run_pod_sandbox(config))
        except (RuntimeServiceError, ConfigError) as error:
            context.recorder.event(pod, "Warning", "FailedCreatePodSandBox", f"Failed to create pod sandbox: {error}")
            return False
        # What could not be made in the old sandbox may be tried at once in the new one.
        self._memory.failures.clear()
        return True

    async def _start(self, pod: Object, state: PodRuntimeState, start: ContainerStart, volumes: dict[str, Any]) -> None:
        memory, sandbox = self._memory, state.ready_sandbox
        container = pod_spec.container_named(pod, start.name)
        if sandbox is None or container is None:
            return
        served = memory.failures.pop(start.name, None)
        if start.failed_at_ns and served is None:
            entry = memory.backoffs.get(start.name)
            memory.backoffs[start.name] = next_entry(entry, start.failed_at_ns, self._context.clock())
        failure = await self._starter.start(StartRequest(pod, container, start, sandbox, volumes))
        if failure is None:
            return
        failed, entry_after = after_failure(failure, memory.backoffs.get(start.name))
        memory.failures[start.name] = failed
        if entry_after is not None:
            memory.backoffs[start.name] = entry_after
        if failure.reason == HOOK_FAILED:
            await self._context.cache.refresh()
            status = self.state.newest(start.name)
            if status is not None:
                await self.killer.kill_container(pod, status, pod_spec.grace_period_s(pod), "FailedPostStartHook")

    # Timers, events, leftovers.

    def _drop_config_failures(self) -> None:
        if self._configs_changed:
            self._configs_changed = False
            failures = self._memory.failures
            for name in [name for name, failure in failures.items() if is_config_failure(failure)]:
                del failures[name]

    def _note_waits(self, pod: Object, actions: PodActions) -> None:
        """Keep the waiting reasons, and tell each wait once."""
        memory = self._memory
        now_ns = self._context.clock()
        known = {container["name"] for container in pod_spec.all_containers(pod)}
        memory.failures = {name: failure for name, failure in memory.failures.items() if name in known}
        self._waiting = waiting_reasons(pod, actions.wait, memory.failures, now_ns)
        untils = {wait.name: str(wait.until_ns) for wait in actions.wait}
        for name, waiting in self._waiting.items():
            mark = (name, waiting.reason + untils.get(name, ""))
            if waiting.event and mark not in memory.said:
                memory.said.add(mark)
                path = field_path(pod, name)
                self._context.recorder.event(pod, "Warning", "BackOff", waiting.event, field_path=path)
                if waiting.reason == "ImagePullBackOff":
                    error = f"Error: {waiting.reason}"
                    self._context.recorder.event(pod, "Warning", "Failed", error, field_path=path)
        if len(memory.said) > 4 * len(known) + 16:
            memory.said = {mark for mark in memory.said if mark[0] in self._waiting}

    def _next_due_ns(self, pod: Object, retry_ns: int) -> int:
        now_ns = self._context.clock()
        deadline = self._deadline_ns(pod)
        if 0 < deadline <= now_ns:
            return now_ns + 1  # it passed during this very round, in which nobody looks at it again
        actions = self._plan(pod, self.state)
        dues = [retry_ns, deadline, self.volumes.refresh_at_ns()]
        dues += [wait.until_ns for wait in actions.wait]
        dues += [failure.at_ns + SHOW_FAILURE_NS for failure in self._memory.failures.values()]
        return min((due for due in dues if due > now_ns), default=0)

    def _deadline_ns(self, pod: Object) -> int:
        seconds = pod["spec"].get("activeDeadlineSeconds")
        begun = (pod.get("status") or {}).get("startTime") or self._memory.start_time
        if seconds is None or not begun:
            return 0
        return parse_rfc3339(begun) + int(seconds) * SECOND_NS

    async def _collect_garbage(self, state: PodRuntimeState) -> None:
        containers, sandboxes = plan_garbage(state)
        for container_id in containers:
            await self._context.runtime.remove_container(container_id)
        for sandbox_id in sandboxes:
            await self._context.runtime.stop_pod_sandbox(sandbox_id)
            await self._context.runtime.remove_pod_sandbox(sandbox_id)
        if containers or sandboxes:
            await self._context.cache.refresh()

    def _unhealthy(self, name: str, message: str) -> None:
        if self.ending is not None and " probe errored: " in message:
            return  # the container it asks has just been stopped
        path = field_path(self.pod, name)
        self._context.recorder.event(self.pod, "Warning", "Unhealthy", message, field_path=path)
