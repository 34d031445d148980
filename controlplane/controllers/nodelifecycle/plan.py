"""When a node counts as lost, and what is then written on it: conditions and taints.

Pure: times come as arguments. Heartbeats are compared with their own former value and timed by our clock, never by the
node's: clocks of nodes may be wrong.
Source: kubernetes pkg/controller/nodelifecycle/node_lifecycle_controller.go, well-known node taints.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from podnet.controlplane.api import meta
from podnet.controlplane.api.timestamps import format_time
from podnet.controlplane.api.types import Object

NOT_READY = "node.kubernetes.io/not-ready"
UNREACHABLE = "node.kubernetes.io/unreachable"
UNSCHEDULABLE = "node.kubernetes.io/unschedulable"
_BY_CONDITION: Mapping[str, Mapping[str, str]] = {
    "Ready": {"False": NOT_READY, "Unknown": UNREACHABLE},
    "MemoryPressure": {"True": "node.kubernetes.io/memory-pressure"},
    "DiskPressure": {"True": "node.kubernetes.io/disk-pressure"},
    "PIDPressure": {"True": "node.kubernetes.io/pid-pressure"},
    "NetworkUnavailable": {"True": "node.kubernetes.io/network-unavailable"},
}
_OURS = frozenset({UNSCHEDULABLE, *(key for keys in _BY_CONDITION.values() for key in keys.values())})
_KUBELET_CONDITIONS = ("Ready", "MemoryPressure", "DiskPressure", "PIDPressure")


UNHEALTHY_ZONE_THRESHOLD = 0.55
LARGE_CLUSTER_SIZE = 50
ZONE = "topology.kubernetes.io/zone"

Eviction = Literal["on", "hold", "off"]
"""`hold`: drive nobody else away; `off`: take back what was begun."""


def plan_eviction(nodes: Iterable[Object]) -> dict[str, Eviction]:
    """Per zone, whether lost nodes are to lose their pods.

    If no node at all is ready, the fault is rather with us: off. If most nodes of a zone (more than two) are lost at
    once in a small cluster, it is rather the network than the nodes: hold.
    """
    counts: dict[str, list[int]] = {}
    for node in nodes:
        zone = counts.setdefault(zone_of(node), [0, 0])
        zone[meta.condition_is_true(node, "Ready")] += 1
    if not any(ready for _, ready in counts.values()):
        return dict.fromkeys(counts, "off")
    plan: dict[str, Eviction] = {}
    for name, (lost, ready) in counts.items():
        mostly_lost = lost > 2 and ready > 0 and lost / (lost + ready) >= UNHEALTHY_ZONE_THRESHOLD
        plan[name] = "hold" if mostly_lost and lost + ready <= LARGE_CLUSTER_SIZE else "on"
    return plan


def zone_of(node: Object) -> str:
    """The node's zone; nodes that name none share one."""
    return meta.labels(node).get(ZONE, "")


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """The node's last sign of life, and when (by our clock) it came."""

    renew_time: str
    status_time: str
    seen: float


def observe_heartbeat(previous: Heartbeat | None, node: Object, lease: Object | None, now: float) -> Heartbeat:
    """`previous`, or a new one when the lease was renewed or the status posted since."""
    renew_time = str(((lease or {}).get("spec") or {}).get("renewTime") or "")
    ready = meta.get_condition(node, "Ready") or {}
    status_time = str(ready.get("lastHeartbeatTime") or "")
    if previous is not None and (previous.renew_time, previous.status_time) == (renew_time, status_time):
        return previous
    return Heartbeat(renew_time, status_time, now)


def unknown_conditions(node: Object, now: float) -> list[dict[str, Any]]:
    """The node's conditions once its kubelet fell silent."""
    conditions: list[dict[str, Any]] = [*((node.get("status") or {}).get("conditions") or ())]
    stamp = format_time(now)
    for kind in _KUBELET_CONDITIONS:
        current = meta.get_condition(node, kind)
        if current is None:
            created = meta.metadata(node).get("creationTimestamp") or stamp
            conditions.append(
                {
                    "type": kind,
                    "status": "Unknown",
                    "reason": "NodeStatusNeverUpdated",
                    "message": "Kubelet never posted node status.",
                    "lastHeartbeatTime": created,
                    "lastTransitionTime": stamp,
                }
            )
        elif current.get("status") != "Unknown":
            unknown = {
                **current,
                "status": "Unknown",
                "reason": "NodeStatusUnknown",
                "message": "Kubelet stopped posting node status.",
            }
            conditions = meta.with_condition(conditions, unknown, stamp)
    return conditions


def desired_taints(node: Object, now: float, eviction: Eviction = "on") -> list[dict[str, Any]]:
    """The node's taints: other people's as they are, ours as its conditions say."""
    spec = node.get("spec") or {}
    wanted: list[tuple[str, str]] = []
    for kind, keys in _BY_CONDITION.items():
        condition = meta.get_condition(node, kind)
        status = (condition or {}).get("status", "")
        if kind == "Ready" and condition is None:
            # A node that never said it is ready takes no pods yet.
            wanted.append((NOT_READY, "NoSchedule"))
        elif status in keys:
            wanted.append((keys[status], "NoSchedule"))
            if kind == "Ready":
                wanted.append((keys[status], "NoExecute"))
    if spec.get("unschedulable"):
        wanted.append((UNSCHEDULABLE, "NoSchedule"))
    taints: list[dict[str, Any]] = [*(spec.get("taints") or ())]
    if eviction != "on":
        begun = {(taint["key"], taint["effect"]) for taint in taints} if eviction == "hold" else set()
        wanted = [entry for entry in wanted if entry[1] != "NoExecute" or entry in begun]
    kept = [taint for taint in taints if not _is_ours(taint) or (taint["key"], taint["effect"]) in wanted]
    present = {(taint["key"], taint["effect"]) for taint in kept}
    stamp = format_time(now)
    new = [{"key": key, "effect": effect, "timeAdded": stamp} for key, effect in wanted if (key, effect) not in present]
    return [*kept, *new]


def _is_ours(taint: Mapping[str, Any]) -> bool:
    return taint["key"] in _OURS and taint["effect"] in {"NoSchedule", "NoExecute"}
