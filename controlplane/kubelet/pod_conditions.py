"""The conditions of a pod that are the kubelet's own.

Pure. Reasons and messages are upstream's; a condition keeps its lastTransitionTime while its status stays the same.
Source: kubelet's pkg/kubelet/status/generate.go; KEP-3085 (PodReadyToStartContainers).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from podnet.controlplane.api.types import Object
from podnet.controlplane.kubelet import pod_spec

KUBELET_CONDITIONS = ("PodReadyToStartContainers", "Initialized", "Ready", "ContainersReady", "PodScheduled")

_Verdict = tuple[bool, str, str]


def render_conditions(
    pod: Object,
    phase: str,
    init: Sequence[Mapping[str, Any]],
    main: Sequence[Mapping[str, Any]],
    *,
    sandbox_ready: bool,
    now: str,
) -> list[dict[str, Any]]:
    """All five, in upstream's order."""
    standing = {entry["type"]: entry for entry in (pod.get("status") or {}).get("conditions") or ()}
    sidecars = {c["name"] for c in pod_spec.init_containers(pod) if pod_spec.is_restartable_init(c)}
    containers_ready = _containers_ready(phase, init, main, sidecars)
    verdicts: dict[str, _Verdict] = {
        "PodReadyToStartContainers": (sandbox_ready, "", ""),
        "Initialized": _initialized(phase, init, sidecars, main_running=any("running" in s["state"] for s in main)),
        "Ready": _ready(pod, containers_ready, standing),
        "ContainersReady": containers_ready,
        "PodScheduled": (True, "", ""),
    }
    return [_condition(kind, verdicts[kind], standing.get(kind), now) for kind in KUBELET_CONDITIONS]


def _condition(kind: str, verdict: _Verdict, standing: Mapping[str, Any] | None, now: str) -> dict[str, Any]:
    is_true, reason, message = verdict
    status = "True" if is_true else "False"
    same = standing is not None and standing.get("status") == status and standing.get("lastTransitionTime")
    condition: dict[str, Any] = {
        "type": kind,
        "status": status,
        "lastProbeTime": None,
        "lastTransitionTime": standing["lastTransitionTime"] if same and standing is not None else now,
    }
    if reason:
        condition["reason"] = reason
    if message:
        condition["message"] = message
    return condition


def _initialized(phase: str, init: Sequence[Mapping[str, Any]], sidecars: set[str], *, main_running: bool) -> _Verdict:
    if phase == "Succeeded":
        return True, "PodCompleted", ""
    if main_running:
        return True, "", ""
    incomplete = [
        status["name"]
        for status in init
        if not (status.get("started") if status["name"] in sidecars else status.get("ready"))
    ]
    if incomplete:
        return False, "ContainersNotInitialized", f"containers with incomplete status: [{' '.join(incomplete)}]"
    return True, "", ""


def _containers_ready(
    phase: str, init: Sequence[Mapping[str, Any]], main: Sequence[Mapping[str, Any]], sidecars: set[str]
) -> _Verdict:
    if phase == "Succeeded":
        return False, "PodCompleted", ""
    if phase == "Failed":
        return False, "PodFailed", ""
    counted = [status for status in init if status["name"] in sidecars] + list(main)
    unready = [status["name"] for status in counted if not status["ready"]]
    if unready:
        return False, "ContainersNotReady", f"containers with unready status: [{' '.join(unready)}]"
    return True, "", ""


def _ready(pod: Object, containers_ready: _Verdict, standing: Mapping[str, Mapping[str, Any]]) -> _Verdict:
    if not containers_ready[0]:
        return containers_ready
    unmet: list[str] = []
    for gate in pod["spec"].get("readinessGates") or ():
        kind = gate["conditionType"]
        condition = standing.get(kind)
        if condition is None:
            unmet.append(f'corresponding condition of pod readiness gate "{kind}" does not exist.')
        elif condition.get("status") != "True":
            unmet.append(f'the status of pod readiness gate "{kind}" is not "True", but {condition.get("status", "")}')
    if unmet:
        return False, "ReadinessGatesNotReady", ", ".join(unmet)
    return True, "", ""
