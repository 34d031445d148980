"""What controllers ask of a pod: is it active, ready, available, and which one goes first.

Pure: `now` (seconds since the epoch) is an argument. Source: kubernetes pkg/controller/controller_utils.go (ActivePods…),
pkg/api/v1/pod.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from functools import cmp_to_key

from podnet.controlplane.api import meta
from podnet.controlplane.api.timestamps import parse_time
from podnet.controlplane.api.types import Object

DELETION_COST = "controller.kubernetes.io/pod-deletion-cost"
_PHASE_ORDER = {"Pending": 0, "Unknown": 1, "Running": 2}


def phase_of(pod: Object) -> str:
    """`Pending` until someone says otherwise."""
    return str((pod.get("status") or {}).get("phase") or "Pending")


def is_terminal(pod: Object) -> bool:
    """Succeeded or Failed: it will not run again."""
    return phase_of(pod) in {"Succeeded", "Failed"}


def is_active(pod: Object) -> bool:
    """Counts towards the replicas that somebody wants."""
    return not is_terminal(pod) and not meta.is_terminating(pod)


def is_ready(pod: Object) -> bool:
    """The condition Ready is True."""
    return meta.condition_is_true(pod, "Ready")


def ready_since(pod: Object) -> float | None:
    """When the pod became Ready; None when it is not, or does not say."""
    condition = meta.get_condition(pod, "Ready")
    if condition is None or condition.get("status") != "True" or not condition.get("lastTransitionTime"):
        return None
    return parse_time(condition["lastTransitionTime"])


def available_at(pod: Object, min_ready_s: int) -> float | None:
    """From when on the pod counts as available; None while it is not Ready."""
    if not is_ready(pod):
        return None
    if min_ready_s == 0:
        return 0.0
    since = ready_since(pod)
    return None if since is None else since + min_ready_s


def is_available(pod: Object, min_ready_s: int, now: float) -> bool:
    """Ready for at least `min_ready_s`."""
    moment = available_at(pod, min_ready_s)
    return moment is not None and moment <= now


def next_available_s(pods: Iterable[Object], min_ready_s: int, now: float) -> float | None:
    """In how many seconds the next ready pod becomes available; None when none will."""
    moments = [available_at(pod, min_ready_s) for pod in pods]
    return min((moment - now for moment in moments if moment is not None and moment > now), default=None)


def max_restarts(pod: Object) -> int:
    """The restart count of the container that restarted most."""
    statuses = (pod.get("status") or {}).get("containerStatuses") or ()
    return max((int(status.get("restartCount", 0)) for status in statuses), default=0)


def _deletion_cost(pod: Object) -> int:
    try:
        return int((pod["metadata"].get("annotations") or {}).get(DELETION_COST, "0"))
    except ValueError:
        return 0


def _bucket(since: float, now: float) -> int:
    """The order of magnitude of an age, so that among pods of about one age chance (the uid) decides and not the
    creation order, which would empty one zone after the other.
    """
    age_ns = (now - since) * 1e9
    return int(math.log2(age_ns)) if age_ns >= 1 else -1


def _compare_age(one: float | None, other: float | None, first: Object, second: Object, now: float) -> int:
    if one is None or other is None:
        return (one is not None) - (other is not None)
    difference = _bucket(one, now) - _bucket(other, now)
    if difference:
        return difference
    return -1 if first["metadata"].get("uid", "") < second["metadata"].get("uid", "") else 1


def _created(pod: Object) -> float | None:
    stamp = pod["metadata"].get("creationTimestamp")
    return parse_time(stamp) if stamp else None


def deletion_order(pods: Sequence[Object], neighbours: Mapping[str, int], now: float) -> list[Object]:
    """The pods, those to delete first in front. `neighbours` counts, per node, the active pods of related owners.

    Unassigned before assigned; Pending before Unknown before Running; not ready before ready; lower deletion cost;
    more neighbours on the node; ready for a shorter time; more restarts; younger.
    """

    def compare(first: Object, second: Object) -> int:
        static = [
            _static_rank(first, neighbours),
            _static_rank(second, neighbours),
        ]
        if static[0] != static[1]:
            return -1 if static[0] < static[1] else 1
        if is_ready(first):
            one, other = ready_since(first), ready_since(second)
            if one != other:
                return _compare_age(one, other, first, second, now)
        restarts = max_restarts(second) - max_restarts(first)
        if restarts:
            return restarts
        one, other = _created(first), _created(second)
        return _compare_age(one, other, first, second, now) if one != other else 0

    return sorted(pods, key=cmp_to_key(compare))


def _static_rank(pod: Object, neighbours: Mapping[str, int]) -> tuple[bool, int, bool, int, int]:
    node = pod["spec"].get("nodeName", "")
    order = _PHASE_ORDER.get(phase_of(pod), 3)
    return bool(node), order, is_ready(pod), _deletion_cost(pod), -neighbours.get(node, 0)


def by_node_name(pod: Object) -> list[str]:
    """Index function: the node a pod is on."""
    name = pod["spec"].get("nodeName")
    return [name] if name else []
