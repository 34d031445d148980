"""The scheduler's picture of the cluster: nodes, the pods on them, and the pods it has just put there.

Pure. A pod is *assumed* on its node from the decision on, so that the next decision counts it without waiting for the
watch to bring it back; the echo confirms it, a refused binding forgets it. A node that is deleted while pods are still on
it stays known by their sums, but is offered to nobody.
"""

from __future__ import annotations

from podnet.controlplane.api import meta
from podnet.controlplane.api.types import Object
from podnet.controlplane.scheduler.preemption import copy_node
from podnet.controlplane.scheduler.types import NodeInfo, PodInfo, parse_node


class SchedulerCache:
    """Nodes by name; see the module's rule."""

    def __init__(self) -> None:
        self._nodes: dict[str, NodeInfo] = {}
        self._gone: set[str] = set()
        self._where: dict[str, str] = {}
        self._assumed: dict[str, str] = {}
        self._nominated: dict[str, tuple[PodInfo, str]] = {}

    def nodes(self, pod: PodInfo | None = None) -> list[NodeInfo]:
        """What a decision is made on: for `pod`, the room that was cleared for others as important is taken."""
        found = [node for name, node in self._nodes.items() if name not in self._gone]
        reserved: dict[str, list[PodInfo]] = {}
        for other, name in self._nominated.values():
            if pod is not None and other.key != pod.key and other.priority >= pod.priority:
                reserved.setdefault(name, []).append(other)
        return [copy_node(node, also=reserved[node.name]) if node.name in reserved else node for node in found]

    def nominate(self, pod: PodInfo, node: str) -> None:
        """Victims on `node` make room for `pod`: keep it free of less important ones."""
        self._nominated[pod.key] = (pod, node)

    def withdraw(self, key: str) -> None:
        """The pod waits for no room any more."""
        self._nominated.pop(key, None)

    def set_node(self, node: Object) -> None:
        """A node appeared or changed."""
        name = meta.name(node)
        info = self._nodes.get(name)
        if info is None:
            self._nodes[name] = parse_node(node)
        else:
            info.set_node(node)
        self._gone.discard(name)

    def remove_node(self, name: str) -> None:
        """A node is gone."""
        if name not in self._nodes:
            return
        if self._nodes[name].pods:
            self._gone.add(name)
        else:
            del self._nodes[name]

    def assume(self, pod: PodInfo, node: str) -> None:
        """Count `pod` on `node` before the server says so."""
        self.withdraw(pod.key)
        self._place(pod, node)
        self._assumed[pod.key] = pod.uid

    def forget(self, pod: PodInfo) -> None:
        """The binding was refused: the assumption was wrong."""
        if self._assumed.get(pod.key) == pod.uid:
            self.remove_pod(pod.key)

    def is_assumed(self, key: str, uid: str) -> bool:
        """Whether this very pod is placed and only waits for its echo."""
        return self._assumed.get(key) == uid

    def set_pod(self, pod: PodInfo, node: str) -> None:
        """The server says that `pod` is on `node`."""
        self.withdraw(pod.key)
        self._assumed.pop(pod.key, None)
        self._place(pod, node)

    def remove_pod(self, key: str) -> None:
        """The pod is gone, or needs its resources no more."""
        self.withdraw(key)
        self._assumed.pop(key, None)
        name = self._where.pop(key, None)
        if name is None:
            return
        node = self._nodes[name]
        node.remove_pod(key)
        if name in self._gone and not node.pods:
            del self._nodes[name]
            self._gone.discard(name)

    def _place(self, pod: PodInfo, node: str) -> None:
        if self._where.get(pod.key) not in {None, node}:
            self.remove_pod(pod.key)
        info = self._nodes.get(node)
        if info is None:
            # The pod came before its node: keep the sums, offer the node only when it is there.
            info = self._nodes[node] = parse_node({"metadata": {"name": node}})
            self._gone.add(node)
        info.add_pod(pod)
        self._where[pod.key] = node
