"""Where a pod's claims let it run, and what must be bound or made so that it can run there.

Pure. Bound claims tie the pod to the nodes that reach their volumes. Claims that wait for their first consumer are given,
node by node, the smallest free volume that fits or else to the provisioner of their class. Claims that bind at once have
to be bound before the pod is looked at.
Source: kubernetes pkg/scheduler/framework/plugins/{volumebinding,volumerestrictions}; reasons are upstream's.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from podnet.controlplane.api import meta
from podnet.controlplane.api.types import Object
from podnet.controlplane.client.volume_binding import (
    NO_PROVISIONER,
    SELECTED_NODE,
    annotations_of,
    class_of,
    find_volume,
    is_fully_bound,
    matches_allowed_topologies,
    matches_node,
    phase_of,
    pod_claims,
    requested,
    waits_for_consumer,
)
from podnet.controlplane.scheduler.types import NodeInfo, PodInfo

UNBOUND_IMMEDIATE = "pod has unbound immediate PersistentVolumeClaims"
NODE_CONFLICT = "node(s) had volume node affinity conflict"
NOTHING_TO_BIND = "node(s) didn't find available persistent volumes to bind"
NO_VOLUME = "node(s) unavailable due to one or more pvc(s) bound to non-existent pv(s)"
ONE_POD_ONLY = "node has pod using PersistentVolumeClaim with the same name and ReadWriteOncePod access mode"


@dataclass(frozen=True, slots=True)
class VolumeSnapshot:
    """Claims by `namespace/name`, the rest by name. `taken` and `selected` are the scheduler's own promises that the
    watch has not brought back yet: volume to claim, claim to node.
    """

    claims: Mapping[str, Object] = field(default_factory=dict)
    volumes: Mapping[str, Object] = field(default_factory=dict)
    classes: Mapping[str, Object] = field(default_factory=dict)
    taken: Mapping[str, str] = field(default_factory=dict)
    selected: Mapping[str, str] = field(default_factory=dict)


NO_VOLUMES = VolumeSnapshot()


def volume_snapshot(claims: Iterable[Object], volumes: Iterable[Object], classes: Iterable[Object]) -> VolumeSnapshot:
    """The storage of a cluster, for a decision outside the scheduler's own process (`explain`)."""
    return VolumeSnapshot(_by_key(claims), _by_key(volumes), _by_key(classes))


def _by_key(objects: Iterable[Object]) -> dict[str, Object]:
    return {meta.key(obj): obj for obj in objects}


@dataclass(frozen=True, slots=True)
class VolumeBinding:
    """For one node: (claim, volume) to be bound, and the claims for which a volume is to be made there."""

    static: tuple[tuple[Object, Object], ...] = ()
    provision: tuple[Object, ...] = ()


class PodVolumes:
    """The claims of one pod, looked up once per scheduling cycle and then asked per node. `refusal`: why no node will do
    until something about a claim changes.
    """

    def __init__(self, pod: PodInfo, nodes: Sequence[NodeInfo], snapshot: VolumeSnapshot) -> None:
        self._snapshot = snapshot
        self._bound: list[Object] = []
        self._delayed: list[Object] = []
        self._has_lost = False
        self.refusal = ""
        self.claims = [f"{pod.namespace}/{name}" for _, name, _ in pod_claims(pod.obj)]
        self.conflicts = False
        for _, name, ephemeral in pod_claims(pod.obj):
            self.refusal = self._sort(pod, name, ephemeral=ephemeral)
            if self.refusal:
                return
        self._delayed.sort(key=lambda claim: (requested(claim), meta.name(claim)))
        self.conflicts = _shares_single_claim(pod, self.claims, nodes, snapshot)

    def _sort(self, pod: PodInfo, name: str, *, ephemeral: bool) -> str:
        claim = self._snapshot.claims.get(f"{pod.namespace}/{name}")
        if claim is None:
            if ephemeral:
                return f'waiting for ephemeral volume controller to create the persistentvolumeclaim "{name}"'
            return f'persistentvolumeclaim "{name}" not found'
        if ephemeral and not meta.is_controlled_by(claim, pod.obj):
            return f"PVC {meta.key(claim)} was not created for pod {pod.key} (pod is not owner)"
        volume = claim["spec"].get("volumeName") or ""
        if phase_of(claim) == "Lost":
            return f'persistentvolumeclaim "{name}" bound to non-existent persistentvolume "{volume}"'
        if meta.is_terminating(claim):
            return f'persistentvolumeclaim "{name}" is being deleted'
        if is_fully_bound(claim):
            found = self._snapshot.volumes.get(volume)
            if found is None:
                self._has_lost = True
            else:
                self._bound.append(found)
        elif not volume and waits_for_consumer(self._snapshot.classes.get(class_of(claim))):
            self._delayed.append(claim)
        else:
            return UNBOUND_IMMEDIATE
        return ""

    def reasons(self, node: NodeInfo) -> tuple[str, ...]:
        """Why the pod's claims keep it from this node."""
        if self.refusal:
            return (self.refusal,)
        if self._has_lost:
            return (NO_VOLUME,)
        if not all(matches_node(volume, node.name, node.labels) for volume in self._bound):
            return (NODE_CONFLICT,)
        return () if self.plan(node) is not None else (NOTHING_TO_BIND,)

    def plan(self, node: NodeInfo) -> VolumeBinding | None:
        """What is to be bound and made for this node, None when its claims cannot all be served."""
        taken = set(self._snapshot.taken)
        static: list[tuple[Object, Object]] = []
        provision: list[Object] = []
        for claim in self._delayed:
            selected = annotations_of(claim).get(SELECTED_NODE) or self._snapshot.selected.get(meta.key(claim))
            if selected:
                if selected != node.name:
                    return None
                provision.append(claim)
                continue
            volumes = self._snapshot.volumes.values()
            volume = find_volume(claim, volumes, node=(node.name, node.labels), taken=taken)
            if volume is not None:
                static.append((claim, volume))
                taken.add(meta.name(volume))
            elif self._can_be_made(claim, node):
                provision.append(claim)
            else:
                return None
        return VolumeBinding(tuple(static), tuple(provision))

    def _can_be_made(self, claim: Object, node: NodeInfo) -> bool:
        storage_class = self._snapshot.classes.get(class_of(claim)) or {}
        provisioner = storage_class.get("provisioner") or NO_PROVISIONER
        return provisioner != NO_PROVISIONER and matches_allowed_topologies(storage_class, node.labels)


def _shares_single_claim(
    pod: PodInfo, claims: Sequence[str], nodes: Sequence[NodeInfo], snapshot: VolumeSnapshot
) -> bool:
    """Whether a claim that only one pod may use has one already."""
    single = {key for key in claims if "ReadWriteOncePod" in (snapshot.claims[key]["spec"].get("accessModes") or ())}
    return bool(single) and any(
        f"{other.namespace}/{name}" in single
        for node in nodes
        for other in node.pods.values()
        if other.key != pod.key
        for _, name, _ in pod_claims(other.obj)
    )
