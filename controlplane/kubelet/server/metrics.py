"""The kubelet's `/metrics`: what runs on this node, under upstream's names, and this process's own figures.

Everything is looked up when somebody scrapes. Source: pkg/kubelet/metrics of Kubernetes 1.32.
"""

from __future__ import annotations

from collections import Counter

from podnet.controlplane.kubelet.cri import ContainerState, RuntimeService, SandboxState
from podnet.controlplane.metrics import Registry
from podnet.controlplane.process_metrics import add_process_metrics

_STATES = {state: state.value.removeprefix("CONTAINER_").lower() for state in ContainerState}


class KubeletMetrics:
    """The figures of one kubelet."""

    def __init__(self, node_name: str, runtime: RuntimeService) -> None:
        self._runtime = runtime
        self._metrics = metrics = Registry()
        add_process_metrics(metrics)
        metrics.gauge("kubelet_node_name", "The node's name. The count is always 1.", ("node",)).set(1, node_name)
        self._desired = metrics.gauge(
            "kubelet_desired_pods", "The number of pods the kubelet is being instructed to run."
        )
        self._pods = metrics.gauge("kubelet_running_pods", "Number of pods that have a running pod sandbox")
        self._containers = metrics.gauge(
            "kubelet_running_containers", "Number of containers currently running", ("container_state",)
        )

    async def expose(self, desired: int) -> str:
        """Everything as text; `desired` is how many pods this node shall have."""
        sandboxes, containers = await self._runtime.list_pod_sandboxes(), await self._runtime.list_containers()
        self._desired.set(desired)
        self._pods.set(sum(sandbox.state is SandboxState.READY for sandbox in sandboxes))
        states = Counter(_STATES[container.state] for container in containers)
        for state in _STATES.values():
            self._containers.set(states[state], state)
        return self._metrics.expose()
