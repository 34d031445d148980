"""From the watch on this node's pods to their workers, and what is left over from another life.

One worker per pod UID. A pod that the API does not know (deleted while the agent was away) is made up from its sandbox's
configuration and ended like one that was deleted by force.
"""

from __future__ import annotations

from collections.abc import Callable

from podnet.controlplane.api.types import Object
from podnet.controlplane.kubelet import pod_spec
from podnet.controlplane.kubelet.admission import admit_pod
from podnet.controlplane.kubelet.pod_ending import GONE_GRACE_S, Ending
from podnet.controlplane.kubelet.pod_worker import PodWorker
from podnet.controlplane.kubelet.runtime_state import PodRuntimeState
from podnet.controlplane.kubelet.volumes.pod_volumes import remove_pod_directory
from podnet.controlplane.kubelet.worker_context import WorkerContext


class PodDispatch:
    """See the module. `node` gives the node object that admission looks at."""

    def __init__(self, context: WorkerContext, node: Callable[[], Object | None]) -> None:
        self._context = context
        self._node = node
        self._workers: dict[str, PodWorker] = {}

    @property
    def pods(self) -> list[Object]:
        """The pods of this node, with the newest status known."""
        return [worker.current_pod for worker in self._workers.values()]

    def find(self, namespace: str, name: str) -> PodWorker | None:
        """The worker of a pod by name; of two with one name the one that is not ending."""
        found = [
            worker
            for worker in self._workers.values()
            if pod_spec.name_of(worker.pod) == name and pod_spec.namespace_of(worker.pod) == namespace
        ]
        return min(found, key=lambda worker: worker.ending is not None) if found else None

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
        others = [w.pod for other, w in self._workers.items() if other != uid and w.ending is None]
        rejection = admit_pod(pod, node, others)
        if rejection is not None:
            context.recorder.event(pod, "Warning", rejection.reason, rejection.message.partition(": ")[2])
            worker.end(Ending(0, rejection.reason, rejection.message, failed=True))

    def _launch(self, pod: Object) -> PodWorker:
        worker = self._workers[pod_spec.uid(pod)] = PodWorker(self._context, pod)
        self._context.spawn(self._run(worker), f"pod {pod_spec.full_name(pod)}")
        return worker

    async def _run(self, worker: PodWorker) -> None:
        try:
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
