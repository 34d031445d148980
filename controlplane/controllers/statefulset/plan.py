"""What a StatefulSet does next: which ordinals to create, which pods to delete, and what its status says.

This file decides; it never talks to the API server. The laws of OrderedReady: an ordinal is created only when all below
it are running and ready, one is taken away only when all above it are gone, and one pod at a time is. Of an update, in
both policies: from the highest ordinal down to the partition, one pod at a time, the next when this one is available.
Source: kubernetes pkg/controller/statefulset/stateful_set_control.go.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from podnet.controlplane.api import meta
from podnet.controlplane.api.types import Object
from podnet.controlplane.controllers.pods import is_available, is_ready, is_terminal, phase_of
from podnet.controlplane.controllers.replicaset.plan import BURST_REPLICAS
from podnet.controlplane.controllers.statefulset.pod import ordinal_of, revision_of


@dataclass(frozen=True, slots=True)
class View:
    """One StatefulSet at one moment. `current` and `update` are names of revisions; `pods` are all it owns."""

    stateful_set: Object
    pods: Sequence[Object]
    current: str
    update: str
    now: float

    @property
    def is_ordered(self) -> bool:
        """One after the other: podManagementPolicy OrderedReady."""
        return bool(self.stateful_set["spec"].get("podManagementPolicy", "OrderedReady") == "OrderedReady")

    @property
    def ordinals(self) -> range:
        """The ordinals it wants. There may be thousands of millions of them: not to be written out."""
        spec = self.stateful_set["spec"]
        start = int((spec.get("ordinals") or {}).get("start") or 0)
        return range(start, start + int(spec.get("replicas", 1)))

    @property
    def min_ready_s(self) -> int:
        """spec.minReadySeconds."""
        return int(self.stateful_set["spec"].get("minReadySeconds") or 0)

    def by_ordinal(self) -> dict[int, Object]:
        """The pods by number; a name without one is nobody's."""
        found = {ordinal_of(self.stateful_set, pod): pod for pod in self.pods}
        return {ordinal: pod for ordinal, pod in found.items() if ordinal is not None}

    def is_healthy(self, pod: Object) -> bool:
        """Running and ready, and not going."""
        return phase_of(pod) == "Running" and is_ready(pod) and not meta.is_terminating(pod)

    def is_available(self, pod: Object) -> bool:
        """Healthy for minReadySeconds."""
        return self.is_healthy(pod) and is_available(pod, self.min_ready_s, self.now)


@dataclass(frozen=True, slots=True)
class Step:
    """Create these ordinals (with the name of their revision), delete these pods. `recreate` are those of them that
    failed
    """

    create: tuple[tuple[int, str], ...] = ()
    delete: tuple[Object, ...] = ()
    recreate: tuple[Object, ...] = ()


def partition_of(stateful_set: Object) -> int:
    """From which ordinal on pods are updated; OnDelete leaves every living pod alone but makes new ones new."""
    strategy = stateful_set["spec"].get("updateStrategy") or {}
    if strategy.get("type", "RollingUpdate") != "RollingUpdate":
        return 0
    start = int((stateful_set["spec"].get("ordinals") or {}).get("start") or 0)
    return start + int((strategy.get("rollingUpdate") or {}).get("partition") or 0)


def plan_step(view: View) -> Step:
    """The next step: fill the ranks, then thin them, then update, each only when what came before is done."""
    if meta.is_terminating(view.stateful_set):
        return Step()
    pods = view.by_ordinal()
    filling, stop = _fill(view, pods)
    if stop:
        return filling
    thinning, stop = _thin(view, pods)
    if stop or filling.create or filling.delete or thinning.delete:
        return Step(filling.create, (*filling.delete, *thinning.delete), filling.recreate)
    return _update(view, pods)


def _fill(view: View, pods: dict[int, Object]) -> tuple[Step, bool]:
    """Create what is missing, lowest first; True when the ordered policy has to wait here."""
    create: list[tuple[int, str]] = []
    recreate: list[Object] = []
    for ordinal in view.ordinals:
        pod = pods.get(ordinal)
        if pod is None:
            create.append((ordinal, view.current if ordinal < partition_of(view.stateful_set) else view.update))
        elif is_terminal(pod) and not meta.is_terminating(pod):
            recreate.append(pod)
        if view.is_ordered and (pod is None or not view.is_available(pod)):
            return Step(tuple(create), tuple(recreate), tuple(recreate)), True
        if len(create) == BURST_REPLICAS:
            break  # the first of them that is seen brings the next step
    return Step(tuple(create), tuple(recreate), tuple(recreate)), False


def condemned_pods(view: View) -> list[Object]:
    """The pods that scaling takes away, highest ordinal first."""
    pods = view.by_ordinal()
    return [pods[ordinal] for ordinal in sorted(pods, reverse=True) if ordinal not in view.ordinals]


def _thin(view: View, pods: dict[int, Object]) -> tuple[Step, bool]:
    """Take away what is too much, highest first; ordered, one by one, and not while another pod is unhealthy."""
    condemned = condemned_pods(view)
    if not view.is_ordered:
        return Step(delete=tuple(pod for pod in condemned if not meta.is_terminating(pod))), False
    if not condemned:
        return Step(), False
    first = condemned[0]
    if meta.is_terminating(first):
        return Step(), True
    wanted = [pods[ordinal] for ordinal in sorted(pods) if ordinal in view.ordinals]
    unhealthy = [pod for pod in [*wanted, *reversed(condemned)] if not view.is_available(pod)]
    # An unhealthy pod may itself be taken away, but only if nothing below it is unhealthy too. One that has ended never
    # becomes healthy: of two such, upstream waits for ever.
    if unhealthy and first is not unhealthy[0] and not view.is_available(first) and not is_terminal(first):
        return Step(), True
    return Step(delete=(first,)), True


def _update(view: View, pods: dict[int, Object]) -> Step:
    strategy = view.stateful_set["spec"].get("updateStrategy") or {}
    if strategy.get("type", "RollingUpdate") != "RollingUpdate":
        return Step()
    for ordinal in reversed(view.ordinals):
        pod = pods.get(ordinal)
        if ordinal < partition_of(view.stateful_set) or pod is None:
            return Step()
        if revision_of(pod) != view.update and not meta.is_terminating(pod):
            return Step(delete=(pod,))
        if not view.is_available(pod):
            return Step()
    return Step()


def desired_status(view: View) -> Object:
    """The counts; a finished update makes the update revision the current one."""
    spec, old = view.stateful_set["spec"], view.stateful_set.get("status") or {}
    pods = view.by_ordinal().values()
    staying = [pod for pod in pods if not meta.is_terminating(pod)]
    ready = [pod for pod in pods if phase_of(pod) == "Running" and is_ready(pod)]
    available = sum(1 for pod in ready if is_available(pod, view.min_ready_s, view.now))
    updated = sum(1 for pod in staying if revision_of(pod) == view.update)
    current = sum(1 for pod in staying if revision_of(pod) == view.current)
    revision = view.current
    rolling = (spec.get("updateStrategy") or {}).get("type", "RollingUpdate") == "RollingUpdate"
    if rolling and updated == len(view.ordinals) == len(pods) == len(ready):
        current, revision = updated, view.update
    status: Object = {
        "observedGeneration": meta.generation(view.stateful_set),
        "replicas": len(pods),
        "availableReplicas": available,
        "currentRevision": revision,
        "updateRevision": view.update,
        "collisionCount": int(old.get("collisionCount") or 0),
    }
    counts = {"readyReplicas": len(ready), "currentReplicas": current, "updatedReplicas": updated}
    return status | {key: value for key, value in counts.items() if value}
