"""The runtime's protocol: the Container Runtime Interface in Python's words.

The kubelet decides, a runtime does. `runtime/` implements this with namespaces and real processes; tests of the
kubelet use `fake_runtime.py`, and both pass tests/contract/test_cri.py. Names, states and reasons are the CRI's
(k8s.io/cri-api/pkg/apis/runtime/v1/api.proto). All times are nanoseconds since the epoch, 0 = not yet.

A runtime keeps its state on disk and its sandboxes outlive it: a new runtime object over the same directories finds
the same sandboxes and containers, running ones still running.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Protocol


class SandboxState(Enum):
    """PodSandboxState."""

    READY = "SANDBOX_READY"
    NOTREADY = "SANDBOX_NOTREADY"


class ContainerState(Enum):
    """ContainerState."""

    CREATED = "CONTAINER_CREATED"
    RUNNING = "CONTAINER_RUNNING"
    EXITED = "CONTAINER_EXITED"
    UNKNOWN = "CONTAINER_UNKNOWN"


class RuntimeServiceError(Exception):
    """What a runtime refuses; `reason` is the kubelet's word for the pod's status (ErrImagePull, CreateContainerError,
    RunContainerError, FailedCreatePodSandBox, …)."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message


@dataclass(frozen=True, slots=True)
class PortMapping:
    """A hostPort; handed to CNI as runtimeConfig.portMappings."""

    container_port: int
    host_port: int
    protocol: str = "TCP"
    host_ip: str = ""


@dataclass(frozen=True, slots=True)
class SandboxConfig:
    """PodSandboxConfig."""

    pod_name: str
    pod_namespace: str
    pod_uid: str
    attempt: int = 0
    hostname: str = ""
    log_directory: str = ""
    host_network: bool = False
    host_pid: bool = False
    host_ipc: bool = False
    share_process_namespace: bool = False
    port_mappings: tuple[PortMapping, ...] = ()
    sysctls: Mapping[str, str] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Mount:
    """A bind mount into a container; the kubelet makes the host side."""

    container_path: str
    host_path: str
    read_only: bool = False


@dataclass(frozen=True, slots=True)
class ContainerConfig:
    """ContainerConfig. `command` replaces the image's entrypoint, `args` its arguments; `env` is already expanded.
    Capability and user fields follow SecurityContext (user namespaces map one id: other uids are refused there)."""

    name: str
    image: str
    attempt: int = 0
    command: tuple[str, ...] = ()
    args: tuple[str, ...] = ()
    working_dir: str = ""
    env: tuple[tuple[str, str], ...] = ()
    mounts: tuple[Mount, ...] = ()
    log_path: str = ""  # relative to the sandbox's log_directory
    stdin: bool = False
    stdin_once: bool = False
    tty: bool = False
    run_as_user: int | None = None
    run_as_group: int | None = None
    supplemental_groups: tuple[int, ...] = ()  # fsGroup among them
    read_only_rootfs: bool = False
    privileged: bool = False
    cap_add: tuple[str, ...] = ()  # securityContext.capabilities
    cap_drop: tuple[str, ...] = ()
    no_new_privs: bool = False  # allowPrivilegeEscalation: false
    termination_message_path: str = "/dev/termination-log"
    cpu_limit_m: int = 0
    memory_limit_bytes: int = 0
    labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class SandboxStatus:
    """PodSandboxStatus. `ips`: the first is the pod IP; empty for a host-network pod."""

    id: str
    config: SandboxConfig
    state: SandboxState
    created_at_ns: int
    ips: tuple[str, ...] = ()
    netns: str = ""


@dataclass(frozen=True, slots=True)
class ContainerStatus:
    """ContainerStatus. `reason` is Completed, Error or OOMKilled once exited; `pid` is as the room sees it."""

    id: str
    sandbox_id: str
    config: ContainerConfig
    state: ContainerState
    image_ref: str = ""
    created_at_ns: int = 0
    started_at_ns: int = 0
    finished_at_ns: int = 0
    exit_code: int = 0
    signal: int = 0
    reason: str = ""
    message: str = ""
    pid: int = 0
    log_path: str = ""  # absolute
    writable_layer: str = ""  # absolute; what the container has written to its root, as CRI's WritableLayer


@dataclass(frozen=True, slots=True)
class ExecResult:
    """ExecSyncResponse."""

    exit_code: int
    stdout: bytes
    stderr: bytes


@dataclass(frozen=True, slots=True)
class ExecProcess:
    """A started exec: its pid as the room sees it, and the near ends of its streams as file descriptors that the
    caller owns (-1: not asked for). With a tty, `stdin` and `stdout` are one pty master and stderr is -1."""

    id: str
    pid: int
    stdin: int
    stdout: int
    stderr: int


class RuntimeService(Protocol):
    """RuntimeService and the part of ImageService that a catalogue of programs can have. All names are CRI's."""

    async def version(self) -> tuple[str, str]:
        """(runtime name, version), e.g. ("podnet", "0.1.0")."""
        ...

    async def status(self) -> str:
        """Empty when the runtime and its network (a CNI configuration, CNI STATUS) are ready; else why not."""
        ...

    async def run_pod_sandbox(self, config: SandboxConfig) -> str:
        """Create namespaces, run CNI ADD, start the pause process; the sandbox ID. Nothing is left on failure."""
        ...

    async def stop_pod_sandbox(self, sandbox_id: str) -> None:
        """Kill what runs, run CNI DEL. Idempotent."""
        ...

    async def remove_pod_sandbox(self, sandbox_id: str) -> None:
        """Forget it and its containers. Idempotent."""
        ...

    async def list_pod_sandboxes(self) -> list[SandboxStatus]: ...

    async def pull_image(self, image: str) -> str:
        """The image reference a catalogue entry resolves to. RuntimeServiceError("ErrImagePull") when unknown."""
        ...

    async def list_images(self) -> list[str]: ...

    async def create_container(self, sandbox_id: str, config: ContainerConfig) -> str: ...

    async def start_container(self, container_id: str) -> None: ...

    async def stop_container(self, container_id: str, timeout_s: float) -> None:
        """SIGTERM, wait, SIGKILL. Returns when it has exited. Idempotent."""
        ...

    async def remove_container(self, container_id: str) -> None: ...

    async def list_containers(self) -> list[ContainerStatus]: ...

    async def container_status(self, container_id: str) -> ContainerStatus:
        """RuntimeServiceError("NotFound") when there is none."""
        ...

    async def exec_sync(self, container_id: str, command: tuple[str, ...], timeout_s: float) -> ExecResult:
        """Run a command in the container's namespaces. TimeoutError when it takes longer (it is killed)."""
        ...

    async def exec(
        self, container_id: str, command: tuple[str, ...], *, stdin: bool, stdout: bool, stderr: bool, tty: bool
    ) -> ExecProcess: ...

    async def wait_exec(self, process: ExecProcess) -> int:
        """The exit code (128+N for a signal)."""
        ...

    async def attach(self, container_id: str) -> ExecProcess:
        """The running container's own stdin (when asked for in its config) and a copy of its output from now on."""
        ...

    async def wait_change(self, timeout_s: float) -> bool:
        """Return True as soon as a container exits or a sandbox dies (PLEG by event), False at the timeout."""
        ...

    async def close(self) -> None:
        """Release sockets; sandboxes go on running."""
        ...
