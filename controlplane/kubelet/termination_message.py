"""terminationMessagePolicy: FallbackToLogsOnError, and how much all of a pod's messages may say.

A runtime hands over what a container wrote to its termination message path. When that is empty, the container failed,
and the policy asks for it, the end of its log is the message: at most 80 lines or 2048 bytes. All messages of a pod
together have 12 KiB, the same share for each of its containers.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

from podnet.controlplane.api.types import Object
from podnet.controlplane.kubelet import pod_spec
from podnet.controlplane.kubelet.cri import ContainerState, ContainerStatus
from podnet.controlplane.kubelet.logs.format import parse_line
from podnet.controlplane.kubelet.runtime_state import PodRuntimeState

LINES_MAX = 80
BYTES_MAX = 2048
POD_BYTES_MAX = 12 * 1024


def limit_messages(statuses: Iterable[dict[str, Any]], containers: int) -> None:
    """Cut every termination message to its container's share of the pod's, in place."""
    share = POD_BYTES_MAX // max(1, containers)
    for status in statuses:
        for key in ("state", "lastState"):
            ended = (status.get(key) or {}).get("terminated") or {}
            text = str(ended.get("message") or "").encode()
            if len(text) > share:
                status[key] = {"terminated": {**ended, "message": text[:share].decode("utf-8", "ignore")}}


def with_log_messages(pod: Object, state: PodRuntimeState) -> PodRuntimeState:
    """The state with such messages filled in."""
    asking = {
        container["name"]
        for container in pod_spec.all_containers(pod)
        if container.get("terminationMessagePolicy") == "FallbackToLogsOnError"
    }
    if not asking:
        return state
    return replace(state, containers=tuple(_filled(c) if c.config.name in asking else c for c in state.containers))


def _filled(status: ContainerStatus) -> ContainerStatus:
    failed = status.state is ContainerState.EXITED and status.exit_code != 0
    if not failed or status.message or not status.log_path:
        return status
    return replace(status, message=log_tail(Path(status.log_path)))


def log_tail(path: Path) -> str:
    """The end of a CRI log file, without its time stamps; "" when there is none."""
    try:
        with path.open("rb") as log:
            size = log.seek(0, 2)
            log.seek(max(0, size - 4 * BYTES_MAX))
            lines = log.read().splitlines()
    except OSError:
        return ""
    entries = [entry for line in lines[-LINES_MAX:] if (entry := parse_line(line)) is not None]
    text = b"".join(entry.content + (b"" if entry.partial else b"\n") for entry in entries)
    return text[-BYTES_MAX:].decode("utf-8", "replace")
