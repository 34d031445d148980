"""What the runtime knows about one pod, and the questions the kubelet asks of it.

Pure. Built from `RuntimeService.list_pod_sandboxes()` and `list_containers()`; as kubecontainer.PodStatus upstream.
A container's `config.attempt` is its restart count.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from podnet.controlplane.kubelet.cri import ContainerState, ContainerStatus, SandboxState, SandboxStatus


@dataclass(frozen=True, slots=True)
class PodRuntimeState:
    """One pod's sandboxes, newest first, and all their containers."""

    sandboxes: tuple[SandboxStatus, ...] = ()
    containers: tuple[ContainerStatus, ...] = ()

    @property
    def sandbox(self) -> SandboxStatus | None:
        """The newest sandbox."""
        return self.sandboxes[0] if self.sandboxes else None

    @property
    def ready_sandbox(self) -> SandboxStatus | None:
        """The newest sandbox when it is ready."""
        sandbox = self.sandbox
        return sandbox if sandbox is not None and sandbox.state is SandboxState.READY else None

    @property
    def ips(self) -> tuple[str, ...]:
        """The pod's addresses while its sandbox stands."""
        sandbox = self.ready_sandbox
        return sandbox.ips if sandbox is not None else ()

    def history(self, name: str) -> list[ContainerStatus]:
        """Every instance of a container, newest first."""
        found = [container for container in self.containers if container.config.name == name]
        return sorted(found, key=lambda c: (c.config.attempt, c.created_at_ns), reverse=True)

    def newest(self, name: str) -> ContainerStatus | None:
        """The newest instance of a container, in whichever sandbox."""
        history = self.history(name)
        return history[0] if history else None

    def current(self, name: str) -> ContainerStatus | None:
        """The newest instance in the newest sandbox."""
        sandbox = self.sandbox
        if sandbox is None:
            return None
        return next((c for c in self.history(name) if c.sandbox_id == sandbox.id), None)

    @property
    def running(self) -> tuple[ContainerStatus, ...]:
        """The containers whose process runs (or of which nobody can tell)."""
        alive = {ContainerState.RUNNING, ContainerState.UNKNOWN}
        return tuple(container for container in self.containers if container.state in alive)


def group_by_pod(
    sandboxes: Iterable[SandboxStatus], containers: Iterable[ContainerStatus]
) -> Mapping[str, PodRuntimeState]:
    """Both lists, cut up by pod UID."""
    pods: dict[str, tuple[list[SandboxStatus], list[ContainerStatus]]] = {}
    owner: dict[str, str] = {}
    for sandbox in sandboxes:
        owner[sandbox.id] = sandbox.config.pod_uid
        pods.setdefault(sandbox.config.pod_uid, ([], []))[0].append(sandbox)
    for container in containers:
        uid = owner.get(container.sandbox_id)
        if uid is not None:
            pods[uid][1].append(container)
    return {
        uid: PodRuntimeState(
            tuple(sorted(found, key=lambda s: (s.config.attempt, s.created_at_ns), reverse=True)), tuple(inside)
        )
        for uid, (found, inside) in pods.items()
    }
