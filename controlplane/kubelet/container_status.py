"""One entry of containerStatuses.

Pure. A container is waiting, running or terminated; one that ended and will start again is *waiting* with its end in
`lastState` as soon as the worker has a reason for the wait. Source: kubelet's convertToAPIContainerStatuses.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from podnet.controlplane.api.types import Object
from podnet.controlplane.kubelet import pod_spec
from podnet.controlplane.kubelet.cri import ContainerState, ContainerStatus
from podnet.controlplane.kubelet.pod_actions import ProbeResults, is_started
from podnet.controlplane.kubelet.timestamps import rfc3339

RUNTIME_SCHEME = "podnet://"
UNKNOWN_EXIT_CODE = 137


@dataclass(frozen=True, slots=True)
class ContainerFacts:
    """What holds for every container of the list."""

    pod: Object
    is_init: bool
    ended: bool
    now_ns: int


def render_container_status(
    facts: ContainerFacts,
    spec: dict[str, Any],
    history: Sequence[ContainerStatus],
    standing: Mapping[str, Any] | None,
    waiting: tuple[str, str] | None,
    probes: Mapping[str, ProbeResults],
) -> dict[str, Any]:
    """The status of one container; `history` is newest first, `standing` what the API holds now."""
    newest = history[0] if history else None
    if newest is None:
        return _never_seen(facts, spec, standing, waiting)
    status: dict[str, Any] = {
        "name": spec["name"],
        "state": _state(newest, facts),
        "lastState": {},
        "ready": False,
        "restartCount": newest.config.attempt,
        "image": newest.config.image or spec.get("image", ""),
        "imageID": newest.image_ref,
        "containerID": RUNTIME_SCHEME + newest.id,
    }
    previous = next((c for c in history[1:] if c.state is ContainerState.EXITED), None)
    if previous is not None:
        status["lastState"] = {"terminated": render_terminated(previous)}
    elif standing and standing.get("lastState") and newest.config.attempt:
        status["lastState"] = standing["lastState"]
    if waiting is not None and not facts.ended and _starts_again(facts.pod, spec, newest):
        if "terminated" in status["state"]:
            status["lastState"] = {"terminated": status["state"]["terminated"]}
        status["state"] = {"waiting": _waiting(*waiting)}
    started = is_started(spec, newest, probes)
    status["started"] = started
    status["ready"] = _is_ready(facts, spec, newest, probes, started=started)
    mounts = _volume_mounts(spec)
    if mounts:
        status["volumeMounts"] = mounts
    return status


def _starts_again(pod: Object, spec: dict[str, Any], newest: ContainerStatus) -> bool:
    """Whether there is something to wait for: what has ended for good shows its end."""
    policy = "Always" if pod_spec.is_restartable_init(spec) else pod_spec.restart_policy(pod)
    return pod_spec.should_restart(policy, newest)


def render_terminated(container: ContainerStatus) -> dict[str, Any]:
    """ContainerStateTerminated."""
    terminated: dict[str, Any] = {"exitCode": container.exit_code}
    if container.signal:
        terminated["signal"] = int(container.signal)
    terminated["reason"] = container.reason or ("Completed" if container.exit_code == 0 else "Error")
    if container.message:
        terminated["message"] = container.message
    started_ns = container.started_at_ns or container.created_at_ns
    terminated["startedAt"] = rfc3339(started_ns) if started_ns else None
    terminated["finishedAt"] = rfc3339(container.finished_at_ns) if container.finished_at_ns else None
    terminated["containerID"] = RUNTIME_SCHEME + container.id
    return terminated


def _state(container: ContainerStatus, facts: ContainerFacts) -> dict[str, Any]:
    if container.state is ContainerState.RUNNING:
        return {"running": {"startedAt": rfc3339(container.started_at_ns)}}
    if container.state is ContainerState.EXITED:
        return {"terminated": render_terminated(container)}
    if container.state is ContainerState.UNKNOWN:
        return {
            "terminated": {
                "exitCode": UNKNOWN_EXIT_CODE,
                "reason": "ContainerStatusUnknown",
                "message": "The container could not be located when the pod was terminated",
                "startedAt": None,
                "finishedAt": None,
            }
        }
    return {"waiting": _waiting(_default_waiting(facts), "")}


def _never_seen(
    facts: ContainerFacts,
    spec: dict[str, Any],
    standing: Mapping[str, Any] | None,
    waiting: tuple[str, str] | None,
) -> dict[str, Any]:
    """No instance in the runtime: it has not been made yet, or it was lost or removed after it ran."""
    if standing is not None and (facts.ended or standing.get("containerID")):
        kept = dict(standing)
        kept["ready"] = kept["started"] = False
        if "terminated" not in kept["state"]:
            if not kept.get("containerID"):
                return kept
            lost = {
                "terminated": {
                    "exitCode": UNKNOWN_EXIT_CODE,
                    "reason": "ContainerStatusUnknown",
                    "message": "The container could not be located when the pod was terminated",
                    "startedAt": None,
                    "finishedAt": None,
                }
            }
            if facts.ended:
                kept["state"] = lost
            else:
                kept["lastState"], kept["state"] = lost, {"waiting": _waiting(*(waiting or ("ContainerCreating", "")))}
        return kept
    reason, message = waiting or (_default_waiting(facts), "")
    status: dict[str, Any] = {
        "name": spec["name"],
        "state": {"waiting": _waiting(reason, message)},
        "lastState": {},
        "ready": False,
        "restartCount": 0,
        "image": spec.get("image", ""),
        "imageID": "",
        "started": False,
    }
    mounts = _volume_mounts(spec)
    if mounts:
        status["volumeMounts"] = mounts
    return status


def _default_waiting(facts: ContainerFacts) -> str:
    return "PodInitializing" if pod_spec.init_containers(facts.pod) else "ContainerCreating"


def _waiting(reason: str, message: str) -> dict[str, str]:
    return {"reason": reason, "message": message} if message else {"reason": reason}


def _is_ready(
    facts: ContainerFacts,
    spec: dict[str, Any],
    newest: ContainerStatus,
    probes: Mapping[str, ProbeResults],
    *,
    started: bool,
) -> bool:
    if facts.is_init and not pod_spec.is_restartable_init(spec):
        # An ordinary init container is "ready" once it has completed.
        return newest.state is ContainerState.EXITED and newest.exit_code == 0
    if newest.state is not ContainerState.RUNNING or not started or _is_ephemeral(facts.pod, spec):
        return False
    return "readinessProbe" not in spec or probes.get(newest.id, ProbeResults()).readiness is True


def _is_ephemeral(pod: Object, spec: Mapping[str, Any]) -> bool:
    return any(container["name"] == spec["name"] for container in pod_spec.ephemeral_containers(pod))


def _volume_mounts(spec: Mapping[str, Any]) -> list[dict[str, Any]]:
    mounts: list[dict[str, Any]] = []
    for mount in spec.get("volumeMounts") or ():
        shown: dict[str, Any] = {"name": mount["name"], "mountPath": mount["mountPath"]}
        if mount.get("readOnly"):
            shown["readOnly"] = True
            shown["recursiveReadOnly"] = "Disabled"
        mounts.append(shown)
    return mounts
