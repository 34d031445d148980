"""The probes of one pod: a task per probe of each running container instance.

`sync` starts and ends the tasks; results live here by container ID and the worker is woken when one changes. A startup
probe holds the other two back.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from podnet.controlplane.api.types import Object
from podnet.controlplane.kubelet import pod_spec
from podnet.controlplane.kubelet.container_status import RUNTIME_SCHEME
from podnet.controlplane.kubelet.cri import ContainerState, ContainerStatus, RuntimeService
from podnet.controlplane.kubelet.pod_actions import ProbeResults
from podnet.controlplane.kubelet.probes.prober import ProbeAnswer, ProbeTarget, probe_once
from podnet.controlplane.kubelet.probes.state import (
    KINDS,
    ProbeKind,
    ProbeSpec,
    advance,
    first_probe_ns,
    initial_state,
    is_over,
    parse_probe,
)
from podnet.controlplane.kubelet.runtime_state import PodRuntimeState
from podnet.controlplane.kubelet.status_writer import Spawn
from podnet.controlplane.kubelet.timestamps import SECOND_NS

_TITLES: dict[ProbeKind, str] = {"startup": "Startup", "liveness": "Liveness", "readiness": "Readiness"}


@dataclass(slots=True)
class _Instance:
    results: ProbeResults
    started: asyncio.Event
    tasks: list[asyncio.Task[None]] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class ProbeHost:
    """What the probes of a pod need from its worker: `unhealthy(container name, message)` records the event; `node_ip`
    is where a host-network pod listens."""

    runtime: RuntimeService
    node_ip: str
    spawn: Spawn
    clock: Callable[[], int]
    wake: Callable[[], None]
    unhealthy: Callable[[str, str], None]


class PodProbes:
    """See the module."""

    def __init__(self, host: ProbeHost) -> None:
        self._host = host
        self._instances: dict[str, _Instance] = {}

    @property
    def results(self) -> dict[str, ProbeResults]:
        """By container ID."""
        return {container_id: instance.results for container_id, instance in self._instances.items()}

    def sync(self, pod: Object, state: PodRuntimeState) -> None:
        """Probe what runs, forget what does not."""
        running = {c.id: c for c in state.containers if c.state is ContainerState.RUNNING}
        for container_id in [known for known in self._instances if known not in running]:
            self._forget(container_id)
        for container_id, status in running.items():
            spec = pod_spec.container_named(pod, status.config.name)
            if container_id not in self._instances and spec is not None and _may_be_probed(pod, spec):
                self._begin(pod, spec, status, state)

    def stop(self, *, keep: frozenset[ProbeKind] = frozenset()) -> None:
        """End the probing; results stay, so that a terminating pod keeps the readiness that it had."""
        for instance in self._instances.values():
            for task in instance.tasks:
                if task.get_name().partition(" ")[0] not in keep:
                    task.cancel()

    def _forget(self, container_id: str) -> None:
        for task in self._instances.pop(container_id).tasks:
            task.cancel()

    def _begin(self, pod: Object, spec: dict[str, Any], status: ContainerStatus, state: PodRuntimeState) -> None:
        probes = {kind: probe for kind in KINDS if (probe := parse_probe(spec, kind)) is not None}
        results = ProbeResults(**{kind: initial_state(kind).result for kind in probes})
        standing = _standing(pod, status)
        if standing is not None:
            # The agent was restarted over a running container: what it last said holds until a probe says otherwise.
            if "readiness" in probes and standing.get("ready"):
                results = replace(results, readiness=True)
            if "startup" in probes and standing.get("started"):
                results = replace(results, startup=True)
        instance = self._instances[status.id] = _Instance(results, asyncio.Event())
        if results.startup is True or "startup" not in probes:
            instance.started.set()
        pod_ip = state.ips[0] if state.ips else self._host.node_ip
        target = ProbeTarget(status.id, spec, pod_ip)
        for kind, probe in probes.items():
            if kind == "startup" and instance.started.is_set():
                continue
            name = f"{kind} {pod_spec.full_name(pod)} {spec['name']}"
            instance.tasks.append(self._host.spawn(self._probe(instance, probe, target, status.started_at_ns), name))

    async def _probe(self, instance: _Instance, spec: ProbeSpec, target: ProbeTarget, started_at_ns: int) -> None:
        # Ended by cancel(): the group that owns the task must not see that as a failure.
        with contextlib.suppress(asyncio.CancelledError):
            if spec.kind != "startup":
                await instance.started.wait()
            await asyncio.sleep(max(0, first_probe_ns(spec, started_at_ns) - self._host.clock()) / SECOND_NS)
            await self._probe_forever(instance, spec, target)

    async def _probe_forever(self, instance: _Instance, spec: ProbeSpec, target: ProbeTarget) -> None:
        loop = asyncio.get_running_loop()
        state = replace(initial_state(spec.kind), result=getattr(instance.results, spec.kind))
        due = loop.time()
        while True:
            answer = await probe_once(self._host.runtime, spec, target)
            if not answer.success:
                self._say(spec, target, answer)
            if not answer.errored:
                state = advance(spec, state, success=answer.success)
            if state.result is not getattr(instance.results, spec.kind):
                instance.results = replace(instance.results, **{spec.kind: state.result})
                if spec.kind == "startup" and state.result:
                    instance.started.set()
                self._host.wake()
            if is_over(spec, state):
                return
            # A period is counted from probe to probe, however long the answer took.
            due = max(due + spec.period_s, loop.time())
            await asyncio.sleep(due - loop.time())

    def _say(self, spec: ProbeSpec, target: ProbeTarget, answer: ProbeAnswer) -> None:
        verb = "errored" if answer.errored else "failed"
        self._host.unhealthy(target.container["name"], f"{_TITLES[spec.kind]} probe {verb}: {answer.output}")


def _may_be_probed(pod: Object, spec: dict[str, Any]) -> bool:
    init = any(container["name"] == spec["name"] for container in pod_spec.init_containers(pod))
    return not init or pod_spec.is_restartable_init(spec)


def _standing(pod: Object, status: ContainerStatus) -> dict[str, Any] | None:
    """The API's entry for exactly this instance."""
    api = pod.get("status") or {}
    for key in ("containerStatuses", "initContainerStatuses"):
        for entry in api.get(key) or ():
            if entry.get("containerID") == RUNTIME_SCHEME + status.id:
                return dict(entry)
    return None
