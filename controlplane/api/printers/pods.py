"""The table of Pods, whose STATUS is worked out from phase, conditions and every container's state.

Source: k8s.io/kubernetes pkg/printers/internalversion (the rules of 1.32, restated).
"""

from __future__ import annotations

from typing import Any

from podnet.controlplane.api import timestamps
from podnet.controlplane.api.printers.cells import NONE, Printer, age, is_true, items, name, part, printer, terminating
from podnet.controlplane.api.types import Object


def _cells(pod: Object, now: float) -> list[Any]:
    restarts, restarted_at, ready, reason = pod_summary(pod)
    text = str(restarts)
    if restarts and restarted_at:
        text = f"{restarts} ({timestamps.age(restarted_at, now)} ago)"
    ips = items(pod, "status", "podIPs")
    return [
        name(pod),
        f"{ready}/{len(items(pod, 'spec', 'containers')) + len(_sidecars(pod))}",
        reason,
        text,
        age(pod, now),
        (ips[0].get("ip") if ips else "") or NONE,
        part(pod, "spec").get("nodeName") or NONE,
        part(pod, "status").get("nominatedNodeName") or NONE,
        _readiness_gates(pod),
    ]


def _readiness_gates(pod: Object) -> str:
    gates = items(pod, "spec", "readinessGates")
    return f"{sum(is_true(pod, gate.get('conditionType', '')) for gate in gates)}/{len(gates)}" if gates else NONE


def _sidecars(pod: Object) -> set[str]:
    """The names of the init containers that keep running."""
    rows = items(pod, "spec", "initContainers")
    return {row.get("name") or "" for row in rows if row.get("restartPolicy") == "Always"}


def pod_summary(pod: Object) -> tuple[int, str, int, str]:
    """(restarts, time of the last one, ready containers, reason): what READY, STATUS and RESTARTS say."""
    status = part(pod, "status")
    reason = status.get("reason") or status.get("phase") or ""
    for row in items(pod, "status", "conditions"):
        if row.get("type") == "PodScheduled" and row.get("reason") == "SchedulingGated":
            reason = "SchedulingGated"
    init = _initializing(pod)
    restarts, restarted_at, ready = init.restarts, init.restarted_at, init.ready
    reason = init.reason or reason
    if not init.reason or is_true(pod, "Initialized"):
        restarts, restarted_at = init.sidecar_restarts, init.sidecar_restarted_at
        running = False
        for row in reversed(items(pod, "status", "containerStatuses")):
            restarts += row.get("restartCount") or 0
            restarted_at = max(restarted_at, _last_finished(row))
            stopped = _stopped(row)
            if stopped:
                reason = stopped
            elif row.get("ready") and part(row, "state").get("running") is not None:
                running = True
                ready += 1
        if reason == "Completed" and running:
            reason = "Running" if is_true(pod, "Ready") else "NotReady"
    if terminating(pod):
        if status.get("reason") == "NodeLost":
            reason = "Unknown"
        elif status.get("phase") not in {"Succeeded", "Failed"}:
            reason = "Terminating"
    return restarts, restarted_at, ready, reason


class _Init:
    """What the init containers add up to; `reason` is empty once all are done (or are running sidecars)."""

    __slots__ = ("ready", "reason", "restarted_at", "restarts", "sidecar_restarted_at", "sidecar_restarts")

    def __init__(self) -> None:
        self.restarts = self.sidecar_restarts = self.ready = 0
        self.restarted_at = self.sidecar_restarted_at = self.reason = ""


def _initializing(pod: Object) -> _Init:
    out = _Init()
    sidecars = _sidecars(pod)
    total = len(items(pod, "spec", "initContainers"))
    for index, row in enumerate(items(pod, "status", "initContainerStatuses")):
        restarts, finished = row.get("restartCount") or 0, _last_finished(row)
        out.restarts += restarts
        out.restarted_at = max(out.restarted_at, finished)
        sidecar = row.get("name") in sidecars
        if sidecar:
            out.sidecar_restarts += restarts
            out.sidecar_restarted_at = max(out.sidecar_restarted_at, finished)
        terminated, waiting = part(row, "state").get("terminated"), part(row, "state", "waiting")
        if terminated is not None and not terminated.get("exitCode"):
            continue
        if sidecar and row.get("started"):
            out.ready += bool(row.get("ready"))
            continue
        if terminated is not None:
            out.reason = "Init:" + (terminated.get("reason") or _exit_text(terminated))
        elif waiting.get("reason") and waiting["reason"] != "PodInitializing":
            out.reason = "Init:" + waiting["reason"]
        else:
            out.reason = f"Init:{index}/{total}"
        break
    return out


def _last_finished(status: dict[str, Any]) -> str:
    return part(status, "lastState", "terminated").get("finishedAt") or ""


def _stopped(status: dict[str, Any]) -> str:
    """Why a container does not run, "" when it says nothing."""
    state = part(status, "state")
    reason = part(state, "waiting").get("reason")
    if reason:
        return str(reason)
    terminated = state.get("terminated")
    if terminated is None:
        return ""
    return terminated.get("reason") or _exit_text(terminated)


def _exit_text(terminated: dict[str, Any]) -> str:
    signal = terminated.get("signal")
    return f"Signal:{signal}" if signal else f"ExitCode:{terminated.get('exitCode') or 0}"


_FINISHED = {
    "Succeeded": "The pod has completed successfully.",
    "Failed": "The pod failed.",
}


def _conditions(pod: Object) -> list[dict[str, str]]:
    """The row conditions of a finished pod, by which kubectl may grey it."""
    phase = part(pod, "status").get("phase") or ""
    if phase not in _FINISHED:
        return []
    return [{"type": "Completed", "status": "True", "reason": phase, "message": _FINISHED[phase]}]


PRINTERS: dict[str, Printer] = {
    "pods": printer(
        "Name, Ready, Status, Restarts, Age, +IP, +Node, +Nominated Node, +Readiness Gates", _cells, _conditions
    ),
}
