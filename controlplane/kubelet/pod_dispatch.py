"""From the watch on this node's pods to their workers, and what is left over from another life.

One worker per pod UID. A pod that the API does not know (deleted while the agent was away) is made up from its sandbox's
configuration and ended like one that was deleted by force.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from podnet.controlplane.api.errors import StatusError
from podnet.controlplane.api.types import Object
from podnet.controlplane.client.backoff import RECONNECT
from podnet.controlplane.kubelet import pod_spec
from podnet.controlplane.kubelet.admission import Rejection, admit_pod
from podnet.controlplane.kubelet.pod_ending import GONE_GRACE_S, Ending
from podnet.controlplane.kubelet.pod_worker import PodWorker
from podnet.controlplane.kubelet.runtime_state import PodRuntimeState
from podnet.controlplane.kubelet.volumes.pod_volumes import remove_pod_directory
from podnet.controlplane.kubelet.worker_context import WorkerContext


class PodDispatch:
    """See the module. `node` gives the node object that admission looks at, as last seen; `read_node` asks for it anew.

    The scheduler may know a label or the end of a taint before this node does: what the last seen node refuses is
    refused only if the newest one refuses it too. Until then its worker waits.
    """

    def __init__(
        self,
        context: WorkerContext,
        node: Callable[[], Object | None],
        read_node: Callable[[], Awaitable[Object]],
    ) -> None:
        self._context = context
        self._node = node
        self._read_node = read_node
        self._workers: dict[str, PodWorker] = {}
        self._doubtful: set[str] = set()

    @property
    def pods(self) -> list[Object]:
        """The pods of this node, with the newest status known."""
        return [worker.current_pod for worker in self._workers.values()]

    @property
    def living(self) -> list[PodWorker]:
        """The workers of pods that are not ending."""
        return [worker for worker in self._workers.values() if worker.ending is None]

    def find(self, namespace: str, name: str) -> PodWorker | None:
        """The worker of a pod by name; of two with one name the one that is not ending."""
        found = [
            worker
            for worker in self._workers.values()
            if pod_spec.name_of(worker.pod) == name and pod_spec.namespace_of(worker.pod) == namespace
        ]
        return min(found, key=lambda worker: worker.ending is not None) if found else None

    def has(self, namespace: str, name: str) -> bool:
        """Whether a pod of this name is here, be it ending."""
        return self.find(namespace, name) is not None

    def end_static(self, pod: Object) -> None:
        """The file of a static pod is gone: it ends with the time that its spec gives it."""
        worker = self._workers.get(pod_spec.uid(pod))
        if worker is not None:
            worker.end(Ending(pod_spec.grace_period_s(pod), vanished=True))

    def on_pod(self, _key: str, old: Object | None, new: Object | None) -> None:
        """The informer's handler."""
        if new is None:
            if old is not None:
                self._vanished(pod_spec.uid(old))
            return
        self._context.statuses.observe(new)
        worker = self._workers.get(pod_spec.uid(new))
        if worker is not None:
            worker.update(new)
        else:
            self._adopt(new)

    def wake(self, uid: str) -> None:
        """The runtime's state of a pod has changed."""
        worker = self._workers.get(uid)
        if worker is not None:
            worker.wake()

    def wake_all(self) -> None:
        """Something that concerns every pod has changed (the network, the Services)."""
        for worker in self._workers.values():
            worker.wake()

    def configs_changed(self, uid: str) -> None:
        """An object that a pod refers to has changed."""
        worker = self._workers.get(uid)
        if worker is not None:
            worker.configs_changed()

    def collect_orphans(self) -> None:
        """End what the runtime runs for pods that nobody knows, and remove directories of such pods. Call it when the
        first list of pods has been dispatched."""
        context = self._context
        for uid in context.cache.uids - set(self._workers):
            worker = self._launch(_pod_of_sandbox(uid, context.cache.get(uid)))
            worker.end(Ending(GONE_GRACE_S, vanished=True))
        directory = context.config.paths.pods_dir
        for entry in directory.iterdir() if directory.is_dir() else ():
            if entry.name not in self._workers:
                remove_pod_directory(entry)

    def _adopt(self, pod: Object) -> None:
        context, uid = self._context, pod_spec.uid(pod)
        worker = self._launch(pod)
        if pod_spec.is_deleting(pod):
            worker.end(Ending(pod_spec.grace_period_s(pod)))
            return
        if pod_spec.is_terminal(pod):
            worker.end(Ending(pod_spec.grace_period_s(pod), completed=True))
            return
        node = self._node()
        known = bool((pod.get("status") or {}).get("startTime")) or uid in context.cache.uids
        if known or node is None:
            return  # it was admitted in another life of this agent
        if self._rejection(worker, node) is not None:
            self._doubtful.add(uid)

    def _rejection(self, worker: PodWorker, node: Object) -> Rejection | None:
        others = [
            other.pod
            for uid, other in self._workers.items()
            if other is not worker and other.ending is None and uid not in self._doubtful
        ]
        return admit_pod(worker.pod, node, others)

    async def _judge(self, worker: PodWorker) -> None:
        """Let a doubtful pod in, or have it end."""
        failures = 0
        while worker.ending is None:
            try:
                node = await self._read_node()
            except StatusError:
                await asyncio.sleep(RECONNECT.delay_s(failures))
                failures += 1
                continue
            rejection = self._rejection(worker, node)
            if rejection is not None:
                message = rejection.message.partition(": ")[2]
                self._context.recorder.event(worker.pod, "Warning", rejection.reason, message)
                worker.end(Ending(0, rejection.reason, rejection.message, failed=True))
            return

    def _launch(self, pod: Object) -> PodWorker:
        worker = self._workers[pod_spec.uid(pod)] = PodWorker(self._context, pod)
        self._context.spawn(self._run(worker), f"pod {pod_spec.full_name(pod)}")
        return worker

    async def _run(self, worker: PodWorker) -> None:
        try:
            if worker.uid in self._doubtful:
                try:
                    await self._judge(worker)
                finally:
                    self._doubtful.discard(worker.uid)
            await worker.run()
        finally:
            self._workers.pop(worker.uid, None)

    def _vanished(self, uid: str) -> None:
        worker = self._workers.get(uid)
        if worker is not None:
            worker.end(Ending(GONE_GRACE_S, vanished=True))


def _pod_of_sandbox(uid: str, state: PodRuntimeState) -> Object:
    config = state.sandboxes[0].config
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": config.pod_name, "namespace": config.pod_namespace, "uid": uid},
        "spec": {"containers": [], "hostNetwork": config.host_network},
        "status": {},
    }
