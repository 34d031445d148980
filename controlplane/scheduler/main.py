"""The scheduler: watches pods and nodes, decides one pod at a time, binds many at once.

    pods without a node ──▶ SchedulingQueue ──▶ decide (pure, on the cache) ──▶ assume ──▶ POST …/binding
                                  ▲                    └── nowhere: park, condition PodScheduled=False, event
    nodes, pods with a node ──▶ SchedulerCache; what frees room wakes the parked

A decision does not wait for anything, so it sees one consistent picture.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import time
from collections.abc import Callable, Mapping

from podnet.controlplane.api import meta
from podnet.controlplane.api.errors import StatusError
from podnet.controlplane.api.resources import NAMESPACES, NODES, PODDISRUPTIONBUDGETS, PODS
from podnet.controlplane.api.timestamps import format_time
from podnet.controlplane.api.types import Object
from podnet.controlplane.client.events import EventRecorder
from podnet.controlplane.client.informer import InformerSet
from podnet.controlplane.client.reconcile import run_until_signal, supervise
from podnet.controlplane.client.types import Client
from podnet.controlplane.client.volume_binding import pod_claims
from podnet.controlplane.scheduler.cache import SchedulerCache
from podnet.controlplane.scheduler.config import SchedulerConfig
from podnet.controlplane.scheduler.decide import Placement, Unschedulable, decide
from podnet.controlplane.scheduler.queue import SchedulingQueue
from podnet.controlplane.scheduler.types import PodInfo, parse_pod
from podnet.controlplane.scheduler.volume_binder import VolumeBinder
from podnet.controlplane.scheduler.volumes import PodVolumes, VolumeBinding

log = logging.getLogger(__name__)

BINDINGS_IN_FLIGHT = 32


class Scheduler:
    """One scheduler over a client. `clock` gives seconds since the epoch, `choose(n)` breaks ties."""

    def __init__(
        self,
        client: Client,
        informers: InformerSet,
        recorder: EventRecorder,
        *,
        name: str = "default-scheduler",
        clock: Callable[[], float] = time.time,
        choose: Callable[[int], int] = random.randrange,
    ) -> None:
        self._client = client
        self._informers = informers
        self._recorder = recorder
        self._name = name
        self._clock = clock
        self._choose = choose
        self._pods = informers.of(PODS)
        self._nodes = informers.of(NODES)
        self._namespaces = informers.of(NAMESPACES)
        self._budgets = informers.of(PODDISRUPTIONBUDGETS)
        self._queue = SchedulingQueue()
        self._cache = SchedulerCache()
        self._wake = asyncio.Event()
        self._slots = asyncio.Semaphore(BINDINGS_IN_FLIGHT)
        self._volumes = VolumeBinder(client, informers, self._on_storage)

    async def run(self) -> None:
        """Schedule until cancelled."""
        # A crash starts `run` again: what was assumed or queued is read anew from the informers.
        self._queue, self._cache = SchedulingQueue(), SchedulerCache()
        with contextlib.ExitStack() as stack:
            stack.callback(self._nodes.add_handler(self._on_node))
            stack.callback(self._pods.add_handler(self._on_pod))
            stack.callback(self._namespaces.add_handler(self._on_namespace))
            stack.callback(self._volumes.listen())
            storage = (self._volumes.claims, self._volumes.volumes, self._volumes.classes)
            await self._informers.wait_synced(self._nodes, self._pods, self._namespaces, self._budgets, *storage)
            async with asyncio.TaskGroup() as group:
                while True:
                    await self._schedule_next(group)

    async def _schedule_next(self, group: asyncio.TaskGroup) -> None:
        now = self._now()
        pod = self._queue.pop(now)
        if pod is None:
            await self._wait(now)
            return
        await self._slots.acquire()
        nodes, volumes = self._cache.nodes(pod), self._volumes.snapshot()
        budgets = [*self._budgets.cache.values()]
        outcome = decide(pod, nodes, self._choose, self._namespace_labels, volumes, budgets)
        if isinstance(outcome, Placement):
            self._cache.assume(pod, outcome.node)
            self._queue.remove(pod.key)
            claims = PodVolumes(pod, (), volumes)
            binding = claims.plan(next(node for node in nodes if node.name == outcome.node))
            if binding is None or not (binding.static or binding.provision):
                group.create_task(self._bind(pod, outcome.node))
            else:
                self._volumes.assume(binding, outcome.node)
                group.create_task(self._bind_volumes(pod, claims.claims, binding, outcome.node))
        else:
            self._queue.park(pod, self._now())
            if outcome.preemption is not None:
                self._cache.nominate(pod, outcome.preemption.node)
            elif not outcome.ineligible:
                self._cache.withdraw(pod.key)
            group.create_task(self._settle_unschedulable(pod, outcome))

    async def _wait(self, now: float) -> None:
        """Until something happened, or a back-off is over."""
        due = self._queue.next_due()
        self._wake.clear()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(None if due is None else max(0.0, due - now)):
                await self._wake.wait()

    @staticmethod
    def _now() -> float:
        return asyncio.get_running_loop().time()

    def _namespace_labels(self, namespace: str) -> Mapping[str, str]:
        found = self._namespaces.get(namespace)
        return meta.labels(found) if found is not None else {}

    def _on_node(self, key: str, old: Object | None, new: Object | None) -> None:
        if new is None:
            self._cache.remove_node(key)
            return
        self._cache.set_node(new)
        if old is None or _schedulable_part(old) != _schedulable_part(new):
            self._changed()

    def _on_pod(self, key: str, old: Object | None, new: Object | None) -> None:
        if new is None or (new.get("status") or {}).get("phase") in {"Succeeded", "Failed"}:
            self._queue.remove(key)
            self._cache.remove_pod(key)
            self._volumes.wake()
            self._changed()
            return
        node = new["spec"].get("nodeName")
        if node:
            self._queue.remove(key)
            self._cache.set_pod(parse_pod(new), node)
            if old is None or not old["spec"].get("nodeName"):
                self._changed(_wants_company)
            elif meta.labels(old) != meta.labels(new) or meta.is_terminating(old) != meta.is_terminating(new):
                self._changed(_looks_at_pods)
        elif meta.is_terminating(new) or new["spec"].get("schedulerName", self._name) != self._name:
            self._queue.remove(key)
        elif not self._cache.is_assumed(key, meta.uid(new)):
            self._enqueue(new)

    def _on_namespace(self, _key: str, old: Object | None, new: Object | None) -> None:
        if old is not None and new is not None and meta.labels(old) != meta.labels(new):
            self._changed(_looks_at_pods)

    def _enqueue(self, pod: Object) -> None:
        if pod["spec"].get("schedulingGates"):
            self._queue.remove(meta.key(pod))
            return
        self._queue.add(parse_pod(pod), self._now())
        self._wake.set()

    def _changed(self, concerns: Callable[[PodInfo], bool] = lambda _pod: True) -> None:
        self._queue.move(self._now(), concerns)
        self._wake.set()

    def _on_storage(self) -> None:
        self._changed(_has_claims)

    async def _bind_volumes(self, pod: PodInfo, claims: list[str], binding: VolumeBinding, node: str) -> None:
        """The pod's claims first, then the pod. What waits for a provisioner holds up nobody else."""
        why = ""
        try:
            await self._volumes.write(binding, node)
        except StatusError as error:
            why = f"binding volumes: {error.message}"
        finally:
            self._slots.release()
        if not why:
            why = await self._volumes.wait_bound(
                claims, binding, node, lambda: self._cache.is_assumed(pod.key, pod.uid)
            )
        if why:
            self._volumes.forget(binding)
            self._give_up(pod, f'running PreBind plugin "VolumeBinding": {why}')
            return
        await self._slots.acquire()
        await self._bind(pod, node)

    async def _bind(self, pod: PodInfo, node: str) -> None:
        binding = {
            "apiVersion": "v1",
            "kind": "Binding",
            "metadata": {"name": meta.name(pod.obj), "namespace": pod.namespace, "uid": pod.uid},
            "target": {"apiVersion": "v1", "kind": "Node", "name": node},
        }
        try:
            await self._client.create(PODS, binding, subresource="binding", name=meta.name(pod.obj))
        except StatusError as error:
            self._give_up(pod, f"binding rejected: {error.message}")
        else:
            message = f"Successfully assigned {pod.key} to {node}"
            self._recorder.event(pod.obj, "Normal", "Scheduled", message)
        finally:
            self._slots.release()

    def _give_up(self, pod: PodInfo, message: str) -> None:
        """The pod did not get the node it was decided for: decide again."""
        self._cache.forget(pod)
        self._changed()
        current = self._pods.get(pod.key)
        # An unreachable server heals by itself, and the lost answer may even have been a yes; the cache tells.
        if current is not None and meta.uid(current) == pod.uid and not current["spec"].get("nodeName"):
            self._queue.retry(pod, self._now())
            self._recorder.event(pod.obj, "Warning", "FailedScheduling", message)

    async def _settle_unschedulable(self, pod: PodInfo, outcome: Unschedulable) -> None:
        """Say why the pod has no node, and make room if that is planned."""
        try:
            await self._report(pod, outcome)
            if outcome.preemption is not None:
                await asyncio.gather(
                    *(self._preempt(pod, victim, outcome.preemption.node) for victim in outcome.preemption.victims)
                )
        except StatusError as error:
            log.debug("%s: %s", pod.key, error.message)
        finally:
            self._slots.release()

    async def _report(self, pod: PodInfo, outcome: Unschedulable) -> None:
        """In its condition (when that is news) and as an event."""
        message, reason = outcome.message, "Unschedulable"
        self._recorder.event(pod.obj, "Warning", "FailedScheduling", message)
        known = meta.get_condition(pod.obj, "PodScheduled")
        before = str((pod.obj.get("status") or {}).get("nominatedNodeName") or "")
        nominated = before if outcome.ineligible else (outcome.preemption.node if outcome.preemption else "")
        if known is None or (known.get("reason"), known.get("message"), before) != (reason, message, nominated):
            condition = {
                "type": "PodScheduled",
                "status": "False",
                "reason": reason,
                "message": message,
                "lastProbeTime": None,
                "lastTransitionTime": (known or {}).get("lastTransitionTime") or format_time(self._clock()),
            }
            status: Object = {"conditions": [condition]}
            if nominated != before:
                status["nominatedNodeName"] = nominated or None
            await self._patch_status(pod, status)

    async def _preempt(self, pod: PodInfo, victim: PodInfo, node: str) -> None:
        condition = {
            "type": "DisruptionTarget",
            "status": "True",
            "reason": "PreemptionByScheduler",
            "message": f"{self._name}: preempting to accommodate a higher priority pod",
            "lastTransitionTime": format_time(self._clock()),
        }
        await self._patch_status(victim, {"conditions": [condition]})
        await self._client.delete(PODS, meta.name(victim.obj), victim.namespace, uid=victim.uid)
        self._recorder.event(victim.obj, "Normal", "Preempted", f"Preempted by pod {pod.uid} on node {node}")

    async def _patch_status(self, pod: PodInfo, status: Object) -> None:
        patch = {"metadata": {"uid": pod.uid}, "status": status}
        await self._client.patch(
            PODS, meta.name(pod.obj), pod.namespace, patch, patch_type="strategic", subresource="status"
        )


def _schedulable_part(node: Object) -> tuple[object, ...]:
    """What filters look at: a heartbeat must not send every waiting pod round again."""
    spec, status = node.get("spec") or {}, node.get("status") or {}
    return spec.get("taints"), spec.get("unschedulable"), meta.labels(node), status.get("allocatable")


def _wants_company(pod: PodInfo) -> bool:
    """A pod that comes can only help those who want company, or count their kind."""
    return bool(pod.affinity.get("podAffinity") or pod.spec.get("topologySpreadConstraints"))


def _looks_at_pods(pod: PodInfo) -> bool:
    """A pod that has changed, or its namespace, can help those who avoid company too."""
    return _wants_company(pod) or bool(pod.affinity.get("podAntiAffinity"))


def _has_claims(pod: PodInfo) -> bool:
    """Storage that changes can only help those who want some."""
    return bool(pod_claims(pod.obj))


async def run_scheduler(client: Client, config: SchedulerConfig) -> None:
    """Informers, recorder and scheduler over one client, until cancelled."""
    informers = InformerSet(client)
    recorder = EventRecorder(client, config.scheduler_name)
    scheduler = Scheduler(client, informers, recorder, name=config.scheduler_name)
    async with asyncio.TaskGroup() as group:
        group.create_task(supervise("informers", informers.run), name="informers")
        group.create_task(supervise("events", recorder.run), name="events")
        group.create_task(supervise("scheduler", scheduler.run), name="scheduler")


def serve_scheduler(config: SchedulerConfig) -> None:
    """Run the scheduler in this process until SIGTERM."""
    import uvloop  # only a server process needs it

    from podnet.controlplane.client.rest import RestClient

    async def work() -> None:
        async with RestClient(config.endpoint) as client:
            await run_until_signal(lambda: run_scheduler(client, config))

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(work())
    log.info("scheduler stopped")
