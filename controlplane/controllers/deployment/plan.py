"""How a Deployment moves its replicas between ReplicaSets: the arithmetic of rolling updates and of scaling.

This file decides; it never talks to the API server. The law of a rolling update: the ReplicaSets together never want
more than replicas + maxSurge pods, and never take away a pod that would leave fewer than replicas - maxUnavailable
available. Source: kubernetes pkg/controller/deployment (rolling.go, recreate.go, sync.go).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from podnet.controlplane.api import meta
from podnet.controlplane.api.types import Object
from podnet.controlplane.controllers.deployment.revision import DESIRED_REPLICAS, MAX_REPLICAS, annotation_number
from podnet.controlplane.controllers.deployment.template import by_creation


@dataclass(frozen=True, slots=True)
class Resize:
    """Give `replica_set` a new size."""

    replica_set: Object
    replicas: int


def resolve_percent(value: int | str, total: int, *, round_up: bool) -> int:
    """`25%` of `total`, or the number itself."""
    if isinstance(value, str) and value.endswith("%"):
        share = int(value[:-1]) * total
        return -(-share // 100) if round_up else share // 100
    return int(value)


@dataclass(frozen=True, slots=True)
class Limits:
    """maxSurge and maxUnavailable as numbers of pods."""

    surge: int
    unavailable: int


def resolve_limits(deployment: Object) -> Limits:
    """Percentages are of spec.replicas, surge rounded up and unavailable down; both zero would stand still, so then one
    may be unavailable. Recreate has neither.
    """
    spec = deployment["spec"]
    strategy = spec.get("strategy") or {}
    if strategy.get("type", "RollingUpdate") != "RollingUpdate":
        return Limits(0, 0)
    rolling = strategy.get("rollingUpdate") or {}
    total = replicas_of(deployment)
    surge = resolve_percent(rolling.get("maxSurge", "25%"), total, round_up=True)
    unavailable = resolve_percent(rolling.get("maxUnavailable", "25%"), total, round_up=False)
    if surge == 0 and unavailable == 0:
        unavailable = 1
    return Limits(surge, min(unavailable, total))


def replicas_of(obj: Object) -> int:
    """spec.replicas, by default 1."""
    return int(obj["spec"].get("replicas", 1))


def available_of(replica_set: Object) -> int:
    """status.availableReplicas."""
    return int((replica_set.get("status") or {}).get("availableReplicas", 0))


def total_replicas(replica_sets: Sequence[Object]) -> int:
    """The sum of spec.replicas."""
    return sum(replicas_of(replica_set) for replica_set in replica_sets)


def new_size(deployment: Object, new: Object | None, everyone: Sequence[Object]) -> int:
    """How large the new ReplicaSet may be now; `everyone` includes it."""
    wanted = replicas_of(deployment)
    current = replicas_of(new) if new is not None else 0
    if (deployment["spec"].get("strategy") or {}).get("type", "RollingUpdate") != "RollingUpdate":
        return wanted
    room = wanted + resolve_limits(deployment).surge - total_replicas(everyone)
    if room <= 0:
        return current
    return current + min(room, wanted - current)


def plan_rolling(deployment: Object, new: Object, old: Sequence[Object]) -> list[Resize]:
    """The next step of a rolling update: grow the new, or else shrink the old; nothing when there is nothing to do."""
    current, wanted = replicas_of(new), replicas_of(deployment)
    size = wanted if current > wanted else new_size(deployment, new, [*old, new])
    if size != current:
        return [Resize(new, size)]
    return _plan_shrink(deployment, new, old)


def _plan_shrink(deployment: Object, new: Object, old: Sequence[Object]) -> list[Resize]:
    old_total = total_replicas(old)
    if old_total == 0:
        return []
    minimum = replicas_of(deployment) - resolve_limits(deployment).unavailable
    new_unavailable = replicas_of(new) - available_of(new)
    spare = old_total + replicas_of(new) - minimum - new_unavailable
    if spare <= 0:
        return []
    sizes = {meta.uid(replica_set): replicas_of(replica_set) for replica_set in old}
    ordered = by_creation(old)
    # First those pods that are not available anyway: taking them away hurts nobody.
    for replica_set in ordered:
        unhealthy = sizes[meta.uid(replica_set)] - available_of(replica_set)
        step = max(0, min(spare, unhealthy))
        sizes[meta.uid(replica_set)] -= step
        spare -= step
    # Then healthy ones, as far as the minimum holds.
    surplus = available_of(new) + sum(available_of(replica_set) for replica_set in old) - minimum
    for replica_set in ordered:
        step = max(0, min(surplus, sizes[meta.uid(replica_set)]))
        sizes[meta.uid(replica_set)] -= step
        surplus -= step
    return _changes(ordered, sizes)


def plan_recreate(new: Object | None, old: Sequence[Object], deployment: Object) -> list[Resize]:
    """Recreate: first the old to zero; the new grows when `new` is given, that is, when the old pods are gone."""
    shrink = [Resize(replica_set, 0) for replica_set in old if replicas_of(replica_set) > 0]
    if shrink or new is None or replicas_of(new) == replicas_of(deployment):
        return shrink
    return [Resize(new, replicas_of(deployment))]


def is_scaling(deployment: Object, replica_sets: Sequence[Object]) -> bool:
    """Somebody changed spec.replicas since the active ReplicaSets were sized."""
    active = [replica_set for replica_set in replica_sets if replicas_of(replica_set) > 0]
    noted = [annotation_number(replica_set, DESIRED_REPLICAS) for replica_set in active]
    return any(desired is not None and desired != replicas_of(deployment) for desired in noted)


def plan_scaling(deployment: Object, new: Object | None, old: Sequence[Object]) -> list[Resize]:
    """Scale without rolling: the only active one gets it all; in the middle of a rollout all share in proportion."""
    wanted = replicas_of(deployment)
    alone = _active_or_latest(new, old)
    if alone is not None:
        return [Resize(alone, wanted)] if replicas_of(alone) != wanted else []
    if new is not None and _is_saturated(deployment, new):
        return [Resize(replica_set, 0) for replica_set in by_creation(old) if replicas_of(replica_set) > 0]
    if (deployment["spec"].get("strategy") or {}).get("type", "RollingUpdate") != "RollingUpdate":
        return []
    return _plan_proportional(deployment, [*old, *([new] if new is not None else [])])


def _active_or_latest(new: Object | None, old: Sequence[Object]) -> Object | None:
    everyone = [*old, *([new] if new is not None else [])]
    active = [replica_set for replica_set in everyone if replicas_of(replica_set) > 0]
    if not active:
        if new is not None:
            return new
        return by_creation(old)[-1] if old else None
    return active[0] if len(active) == 1 else None


def _is_saturated(deployment: Object, new: Object) -> bool:
    wanted = replicas_of(deployment)
    return (
        replicas_of(new) == wanted
        and annotation_number(new, DESIRED_REPLICAS) == wanted
        and available_of(new) == wanted
    )


def _plan_proportional(deployment: Object, everyone: Sequence[Object]) -> list[Resize]:
    active = [replica_set for replica_set in everyone if replicas_of(replica_set) > 0]
    wanted, limits = replicas_of(deployment), resolve_limits(deployment)
    allowed = wanted + limits.surge if wanted > 0 else 0
    to_add = allowed - total_replicas(active)
    age = {meta.uid(replica_set): index for index, replica_set in enumerate(by_creation(active))}
    # Growing favours the newest of equal size, shrinking takes from the oldest first.
    sign = -1 if to_add > 0 else 1
    ordered = sorted(active, key=lambda rs: (-replicas_of(rs), sign * age[meta.uid(rs)]))
    sizes = {meta.uid(replica_set): replicas_of(replica_set) for replica_set in ordered}
    added = 0
    if to_add != 0:
        for replica_set in ordered:
            share = _share(deployment, replica_set, limits.surge)
            left = to_add - added
            step = 0 if left == 0 else (min(share, left) if to_add > 0 else max(share, left))
            sizes[meta.uid(replica_set)] += step
            added += step
        if ordered:  # rounding leaves a rest: the largest takes it
            largest = meta.uid(ordered[0])
            sizes[largest] = max(0, sizes[largest] + to_add - added)
    return _changes(ordered, sizes)


def _share(deployment: Object, replica_set: Object, surge: int) -> int:
    """By how much this one changes when all keep their proportion (negative: shrinks)."""
    current, wanted = replicas_of(replica_set), replicas_of(deployment)
    if wanted == 0:
        return -current
    before = annotation_number(replica_set, MAX_REPLICAS) or int((deployment.get("status") or {}).get("replicas", 0))
    if before <= 0:
        return 0
    # Half away from zero, as Go rounds.
    return math.floor(current * (wanted + surge) / before + 0.5) - current


def _changes(ordered: Sequence[Object], sizes: dict[str, int]) -> list[Resize]:
    return [
        Resize(replica_set, sizes[meta.uid(replica_set)])
        for replica_set in ordered
        if sizes[meta.uid(replica_set)] != replicas_of(replica_set)
    ]
