"""What the runtime knows: sandboxes and containers, in memory as CRI's statuses, rebuilt from the files on disk.

A file says what was true when it was written. Whether a pod still lives is asked of its shim alone: a RUNNING on disk
without a shim is an end nobody saw, exit code 137.
"""

from __future__ import annotations

import asyncio
import os
import socket
import time
from dataclasses import dataclass, field, replace
from typing import Any

from podnet.controlplane.kubelet.cri import (
    ContainerState,
    ContainerStatus,
    SandboxState,
    SandboxStatus,
)
from podnet.controlplane.kubelet.runtime.layout import (
    ContainerFiles,
    SandboxFiles,
    decode_container_config,
    decode_sandbox_config,
    read_json,
    write_json,
)

LOST_EXIT_CODE = 137


@dataclass(slots=True)
class KnownContainer:
    """One container."""

    files: ContainerFiles
    status: ContainerStatus
    exited: asyncio.Event = field(default_factory=asyncio.Event)

    def load(self) -> None:
        """Take over what its status.json says."""
        data = read_json(self.files.status) or {}
        known = {key: data[key] for key in _STATUS_FIELDS if key in data}
        state = ContainerState(data["state"]) if "state" in data else ContainerState.UNKNOWN
        self.status = replace(self.status, state=state, **known)
        if state is ContainerState.EXITED:
            self.exited.set()

    def lost(self) -> bool:
        """Its shim is dead: a running container is an exited one. True when that is news."""
        if self.status.state is not ContainerState.RUNNING:
            return False
        changes: dict[str, Any] = {
            "finished_at_ns": time.time_ns(),
            "exit_code": LOST_EXIT_CODE,
            "signal": 9,
            "reason": "Error",
            "message": "the pod's pause process died, and the container with it",
            "pid": 0,
        }
        self.status = replace(self.status, state=ContainerState.EXITED, **changes)
        data = read_json(self.files.status) or {}
        write_json(self.files.status, data | changes | {"state": ContainerState.EXITED.value})
        self.exited.set()
        return True


@dataclass(slots=True)
class KnownSandbox:
    """One sandbox. `events` is the open connection on which its shim reports; None: there is no living shim."""

    files: SandboxFiles
    status: SandboxStatus
    containers: dict[str, KnownContainer] = field(default_factory=dict)
    events: socket.socket | None = None
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    gone: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def ready(self) -> bool:
        """SANDBOX_READY."""
        return self.status.state is SandboxState.READY

    def not_ready(self) -> None:
        """From now on SANDBOX_NOTREADY."""
        self.status = replace(self.status, state=SandboxState.NOTREADY)


_STATUS_FIELDS = (
    "created_at_ns",
    "started_at_ns",
    "finished_at_ns",
    "exit_code",
    "signal",
    "reason",
    "message",
    "pid",
    "image_ref",
    "log_path",
)


def recover_sandbox(files: SandboxFiles) -> KnownSandbox | None:
    """The sandbox in a directory, its containers as their files say; None when there is no complete one."""
    data = read_json(files.config)
    if not isinstance(data, dict) or "config" not in data:
        return None
    network = read_json(files.network)
    ready = network is not None and not os.path.exists(files.stopped)
    config = decode_sandbox_config(data["config"])
    status = SandboxStatus(
        id=files.id,
        config=config,
        state=SandboxState.READY if ready else SandboxState.NOTREADY,
        created_at_ns=int(data.get("created_at_ns", 0)),
        ips=tuple((network or {}).get("ips", ())),
        netns="" if config.host_network else files.netns_pin,
    )
    sandbox = KnownSandbox(files, status)
    if os.path.isdir(files.containers):
        for container_id in sorted(os.listdir(files.containers)):
            container = recover_container(files, container_id)
            if container is not None:
                sandbox.containers[container_id] = container
    return sandbox


def recover_container(files: SandboxFiles, container_id: str) -> KnownContainer | None:
    """One container from its directory; None when its creation was cut short."""
    own = files.container(container_id)
    config = read_json(own.config)
    if not isinstance(config, dict) or not os.path.exists(own.status):
        return None
    status = ContainerStatus(
        id=container_id,
        sandbox_id=files.id,
        config=decode_container_config(config),
        state=ContainerState.UNKNOWN,
        writable_layer=own.scratch,
    )
    container = KnownContainer(own, status)
    container.load()
    return container
