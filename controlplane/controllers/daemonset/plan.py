"""What a DaemonSet does next: one pod on every node it wants, replaced node by node when the template changes.

This file decides; it never talks to the API server. The law of a rolling update: never more than maxUnavailable wanted
nodes without an available pod because of us, never more than maxSurge nodes with a second pod.
Source: kubernetes pkg/controller/daemon (daemon_controller.go, update.go).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from podnet.controlplane.api import meta
from podnet.controlplane.api.types import Object
from podnet.controlplane.controllers.daemonset.placement import Wanted
from podnet.controlplane.controllers.deployment.plan import resolve_percent
from podnet.controlplane.controllers.history import REVISION_HASH
from podnet.controlplane.controllers.pods import is_available, is_ready, phase_of

Pods = Mapping[str, Sequence[Object]]
"""The DaemonSet's pods by node."""


@dataclass(slots=True)
class Step:
    """Create a pod on each of these nodes, delete these pods; `dead` are those of them that had finished."""

    create: list[str] = field(default_factory=list)
    delete: list[Object] = field(default_factory=list)
    dead: list[Object] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class View:
    """One DaemonSet at one moment: which nodes it wants, what is on them, and the revision that pods should have."""

    daemon_set: Object
    wanted: Mapping[str, Wanted]
    pods: Pods
    revision_hash: str
    now: float

    @property
    def min_ready_s(self) -> int:
        """spec.minReadySeconds."""
        return int(self.daemon_set["spec"].get("minReadySeconds") or 0)

    def is_new(self, pod: Object) -> bool:
        """Of the template's revision."""
        return meta.labels(pod).get(REVISION_HASH) == self.revision_hash

    def is_available(self, pod: Object) -> bool:
        """Ready for long enough."""
        return is_available(pod, self.min_ready_s, self.now)

    def wanted_nodes(self) -> list[str]:
        """The nodes that should have a pod, in order."""
        return sorted(name for name, wanted in self.wanted.items() if wanted.run)


@dataclass(frozen=True, slots=True)
class Limits:
    """maxSurge and maxUnavailable as numbers of nodes; percentages are rounded up."""

    surge: int
    unavailable: int


def resolve_limits(daemon_set: Object, nodes: int) -> Limits:
    """The limits of a DaemonSet that wants so many nodes."""
    rolling = (daemon_set["spec"].get("updateStrategy") or {}).get("rollingUpdate") or {}
    surge = resolve_percent(rolling.get("maxSurge", 0), nodes, round_up=True)
    unavailable = resolve_percent(rolling.get("maxUnavailable", 1), nodes, round_up=True)
    return Limits(surge, unavailable)


def is_rolling(daemon_set: Object) -> bool:
    """The strategy is RollingUpdate."""
    strategy = daemon_set["spec"].get("updateStrategy") or {}
    return bool(strategy.get("type", "RollingUpdate") == "RollingUpdate")


def plan_presence(view: View, may_retry: Callable[[str], bool]) -> Step:
    """One pod where one is wanted, none elsewhere. `may_retry(node)`: a failed pod there may be replaced already."""
    step = Step()
    surging = is_rolling(view.daemon_set) and resolve_limits(view.daemon_set, len(view.wanted_nodes())).surge > 0
    for node, wanted in sorted(view.wanted.items()):
        pods = view.pods.get(node, ())
        if not wanted.keep:
            step.delete += [pod for pod in pods if not meta.is_terminating(pod)]
            continue
        if wanted.run and not pods:
            step.create.append(node)
            continue
        running = []
        for pod in pods:
            if meta.is_terminating(pod):
                continue
            if phase_of(pod) == "Succeeded" or (phase_of(pod) == "Failed" and may_retry(node)):
                step.dead.append(pod)
                step.delete.append(pod)
            elif phase_of(pod) != "Failed":
                running.append(pod)
        step.delete += _surplus_surging(view, running) if surging else running[1:]
    # Pods meant for nodes that are gone and never placed: those that were placed are the pod collector's.
    for node, pods in view.pods.items():
        if node not in view.wanted:
            step.delete += [p for p in pods if not p["spec"].get("nodeName") and not meta.is_terminating(p)]
    return step


def _surplus_surging(view: View, running: Sequence[Object]) -> list[Object]:
    """While surging, a node may have one pod of the new revision and one old; the old goes when the new can do its work."""
    new = [pod for pod in running if view.is_new(pod)]
    old = [pod for pod in running if not view.is_new(pod)]
    surplus = [*new[1:], *old[1:]]
    if new and old and (not is_ready(old[0]) or view.is_available(new[0])):
        surplus.append(old[0])
    return surplus


@dataclass(frozen=True, slots=True)
class _Pair:
    """The living pods of one node; `clear` when there is no more than one of each kind."""

    new: Object | None
    old: Object | None
    clear: bool


def _pair(view: View, node: str) -> _Pair:
    alive = [pod for pod in view.pods.get(node, ()) if not meta.is_terminating(pod)]
    new = [pod for pod in alive if view.is_new(pod)]
    old = [pod for pod in alive if not view.is_new(pod)]
    return _Pair(new[0] if new else None, old[0] if old else None, clear=len(new) <= 1 and len(old) <= 1)


def plan_rolling(view: View) -> Step:
    """The next nodes to move to the new revision."""
    nodes = view.wanted_nodes()
    limits = resolve_limits(view.daemon_set, len(nodes))
    pairs = {node: _pair(view, node) for node in nodes}
    return _roll_surging(view, pairs, limits.surge) if limits.surge else _roll(view, pairs, limits.unavailable)


def _roll(view: View, pairs: Mapping[str, _Pair], max_unavailable: int) -> Step:
    unavailable = 0
    at_once: list[Object] = []
    candidates: list[Object] = []
    for pair in pairs.values():
        if not pair.clear or (pair.new is None) == (pair.old is None):
            unavailable += 1  # nothing there, or more than is meant to be: `plan_presence` settles that
        elif pair.new is not None:
            unavailable += not view.is_available(pair.new)
        elif pair.old is not None and not view.is_available(pair.old):
            unavailable += 1
            at_once.append(pair.old)  # it is of no use to anybody: nothing is lost
        elif pair.old is not None:
            candidates.append(pair.old)
    return Step(delete=[*at_once, *candidates[: max(0, max_unavailable - unavailable)]])


def _roll_surging(view: View, pairs: Mapping[str, _Pair], max_surge: int) -> Step:
    surging = 0
    step = Step()
    candidates: list[str] = []
    for node, pair in pairs.items():
        if not pair.clear:
            surging += 1
        elif pair.old is not None and pair.new is None:
            (candidates if view.is_available(pair.old) else step.create).append(node)
        elif pair.old is not None and pair.new is not None:
            if view.is_available(pair.new):
                step.delete.append(pair.old)
            else:
                surging += 1
    step.create += candidates[: max(0, max_surge - surging)]
    return step


def desired_status(view: View) -> Object:
    """The counts over all nodes; those upstream leaves out when zero are left out. Of a node's pods the oldest counts:
    a surging rollout is not done while an old pod is there.
    """
    counts = dict.fromkeys(("desired", "current", "misscheduled", "ready", "updated", "available"), 0)
    for node, wanted in view.wanted.items():
        pods = view.pods.get(node, ())
        if not wanted.run:
            counts["misscheduled"] += bool(pods)
            continue
        counts["desired"] += 1
        if not pods:
            continue
        counts["current"] += 1
        counts["ready"] += is_ready(pods[0])
        counts["available"] += view.is_available(pods[0])
        counts["updated"] += view.is_new(pods[0])
    old = view.daemon_set.get("status") or {}
    status: Object = {
        "currentNumberScheduled": counts["current"],
        "numberMisscheduled": counts["misscheduled"],
        "desiredNumberScheduled": counts["desired"],
        "numberReady": counts["ready"],
        "observedGeneration": meta.generation(view.daemon_set),
    }
    optional = {
        "updatedNumberScheduled": counts["updated"],
        "numberAvailable": counts["available"],
        "numberUnavailable": counts["desired"] - counts["available"],
        "collisionCount": old.get("collisionCount"),
        "conditions": old.get("conditions"),
    }
    return status | {key: value for key, value in optional.items() if value}
