"""A pod's status as the API shows it: phase, conditions, addresses, container statuses.

Pure. `render_status` is a function of the pod, what the runtime knows, probe results, the waiting reasons which the
worker keeps (`ErrImagePull`, `CrashLoopBackOff`, …) and the clock. The status that stands gives transition times and
what others own in it. Source: kubelet's generateAPIPodStatus and getPhase; the pod lifecycle concept.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from podnet.controlplane.api.types import Object
from podnet.controlplane.kubelet import pod_spec
from podnet.controlplane.kubelet.container_status import ContainerFacts, render_container_status
from podnet.controlplane.kubelet.pod_actions import ProbeResults
from podnet.controlplane.kubelet.pod_conditions import KUBELET_CONDITIONS, render_conditions
from podnet.controlplane.kubelet.qos import qos_class
from podnet.controlplane.kubelet.runtime_state import PodRuntimeState
from podnet.controlplane.kubelet.termination_message import limit_messages
from podnet.controlplane.kubelet.timestamps import rfc3339


@dataclass(frozen=True, slots=True)
class StatusInput:
    """The arguments of one rendering. `waiting` maps a container's name to (reason, message); `ended` says that every
    process is gone for good (deletion, eviction, deadline, completion); `reason`/`message`/`failed` are a verdict over
    the whole pod such as DeadlineExceeded or a rejected admission."""

    pod: Object
    state: PodRuntimeState
    now_ns: int
    host_ip: str
    probes: Mapping[str, ProbeResults] = field(default_factory=dict)
    waiting: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    start_time: str = ""
    ended: bool = False
    failed: bool = False
    reason: str = ""
    message: str = ""


def render_status(given: StatusInput) -> dict[str, Any]:
    """The whole `status`, ready to be written."""
    pod = given.pod
    standing = pod.get("status") or {}
    init = _statuses(given, pod_spec.init_containers(pod), "initContainerStatuses")
    main = _statuses(given, pod_spec.containers(pod), "containerStatuses")
    ephemeral = _statuses(given, pod_spec.ephemeral_containers(pod), "ephemeralContainerStatuses")
    limit_messages([*init, *main, *ephemeral], sum(1 for _ in pod_spec.all_containers(pod)))
    phase = "Failed" if given.failed and given.ended else pod_phase(pod, init, main, ended=given.ended)
    if standing.get("phase") in {"Succeeded", "Failed"}:
        phase = standing["phase"]  # terminal phases are final
    status: dict[str, Any] = {"phase": phase}
    if given.reason or standing.get("reason"):
        status["reason"] = given.reason or standing["reason"]
    if given.message or standing.get("message"):
        status["message"] = given.message or standing["message"]
    status["conditions"] = render_conditions(
        pod, phase, init, main, sandbox_ready=_sandbox_ready(given), now=rfc3339(given.now_ns)
    )
    status["hostIP"] = given.host_ip
    status["hostIPs"] = [{"ip": given.host_ip}]
    ips = _pod_ips(given)
    if ips:
        status["podIP"] = ips[0]
        status["podIPs"] = [{"ip": ip} for ip in ips]
    status["startTime"] = standing.get("startTime") or given.start_time or rfc3339(given.now_ns)
    lists = {"initContainerStatuses": init, "containerStatuses": main, "ephemeralContainerStatuses": ephemeral}
    if given.ended and phase == "Failed" and not given.state.sandboxes:
        # A pod that was refused has no containers, and none is being created.
        lists = {key: value for key, value in lists.items() if standing.get(key)}
    status |= {key: value for key, value in lists.items() if value}
    status["qosClass"] = standing.get("qosClass") or qos_class(pod)
    return status


def merge_status(standing: Mapping[str, Any], mine: Mapping[str, Any]) -> dict[str, Any]:
    """The status to write over the one that stands: mine, with what belongs to others kept (their conditions, the
    scheduler's nomination)."""
    merged = dict(mine)
    for key in ("nominatedNodeName", "resourceClaimStatuses", "resize", "observedGeneration"):
        if key in standing and key not in merged:
            merged[key] = standing[key]
    own = {condition["type"] for condition in mine.get("conditions", ())}
    foreign = [
        condition
        for condition in standing.get("conditions") or ()
        if condition["type"] not in own and condition["type"] not in KUBELET_CONDITIONS
    ]
    merged["conditions"] = [*mine.get("conditions", ()), *foreign]
    if standing.get("phase") in {"Succeeded", "Failed"}:
        merged["phase"] = standing["phase"]
    return merged


def pod_phase(pod: Object, init: Sequence[Mapping[str, Any]], main: Sequence[Mapping[str, Any]], *, ended: bool) -> str:
    """Pending, Running, Succeeded or Failed, from the container statuses."""
    policy = pod_spec.restart_policy(pod)
    sidecars = {c["name"] for c in pod_spec.init_containers(pod) if pod_spec.is_restartable_init(c)}
    pending_init, failed_init, sidecar_runs = _count_init(init, sidecars)
    running = sum("running" in status["state"] for status in main)
    ends = [end for end in map(_end_of, main) if end is not None]
    waiting = len(main) - running - len(ends)
    if failed_init and (policy == "Never" or ended):
        return "Failed"
    if ended and not running:
        return _ended_phase(ends, len(main))
    if pending_init and not running and not ends:
        return "Pending"
    if waiting > 0:
        return "Pending"
    if running:
        return "Running"
    if sidecar_runs or policy == "Always":
        return "Running"
    if all(end == 0 for end in ends):
        return "Succeeded"
    return "Failed" if policy == "Never" else "Running"


def _ended_phase(ends: Sequence[int], total: int) -> str:
    # Whatever never ran did not succeed.
    return "Succeeded" if len(ends) == total and all(end == 0 for end in ends) else "Failed"


def _count_init(init: Sequence[Mapping[str, Any]], sidecars: set[str]) -> tuple[int, int, int]:
    pending = failed = sidecar_runs = 0
    for status in init:
        state = status["state"]
        if status["name"] in sidecars:
            sidecar_runs += "running" in state
            pending += not status.get("started")
        elif "terminated" in state:
            failed += state["terminated"]["exitCode"] != 0
            pending += state["terminated"]["exitCode"] != 0
        else:
            pending += 1
    return pending, failed, sidecar_runs


def _end_of(status: Mapping[str, Any]) -> int | None:
    """The exit code of a container that has ended, also of one that waits for its restart."""
    ended = status["state"].get("terminated")
    if ended is None and "waiting" in status["state"]:
        ended = status.get("lastState", {}).get("terminated")
    return None if ended is None else int(ended["exitCode"])


def _statuses(given: StatusInput, specs: Sequence[dict[str, Any]], key: str) -> list[dict[str, Any]]:
    standing = {entry["name"]: entry for entry in (given.pod.get("status") or {}).get(key) or ()}
    facts = ContainerFacts(
        pod=given.pod,
        is_init=key == "initContainerStatuses",
        ended=given.ended,
        now_ns=given.now_ns,
    )
    return [
        render_container_status(
            facts,
            spec,
            given.state.history(spec["name"]),
            standing.get(spec["name"]),
            given.waiting.get(spec["name"]),
            given.probes,
        )
        for spec in specs
    ]


def _sandbox_ready(given: StatusInput) -> bool:
    sandbox = given.state.ready_sandbox
    return sandbox is not None and (bool(sandbox.ips) or pod_spec.host_network(given.pod))


def _pod_ips(given: StatusInput) -> list[str]:
    if pod_spec.host_network(given.pod):
        return [given.host_ip] if given.state.sandboxes or _standing_ips(given) else []
    if given.state.ips:
        return list(given.state.ips)
    if given.ended or given.state.sandbox is not None:
        return _standing_ips(given)  # an ended pod still shows the address that it had
    return []


def _standing_ips(given: StatusInput) -> list[str]:
    return [entry["ip"] for entry in (given.pod.get("status") or {}).get("podIPs") or ()]
