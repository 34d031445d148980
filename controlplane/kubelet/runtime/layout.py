"""Where the runtime keeps a sandbox and its containers, and how their records are written.

    <sandboxes_dir>/<sandbox id>/
        config.json     the SandboxConfig and the moment of creation          (runtime, once)
        network.json    addresses CNI ADD gave                                (runtime, once)
        stopped         there once StopPodSandbox is through: NOTREADY        (runtime)
        sandbox.json    pause and container pids, env, cwd: for `podnet exec` (shim, kept current)
        shim.log        what the shim had to complain about
        containers/<container id>/
            config.json     the ContainerConfig                               (runtime, once)
            spec.json       the resolved ContainerSpec, as an OCI config.json (runtime, once)
            status.json     state, times, exit code                           (runtime: CREATED; then the shim)
            termination-log, hostname, fs/ (overlay uppers), rootfs/ (where the root is put together)
    <run>/shim/<first 16 of the id>.sock, <run>/shm/<id>/, <netns_dir>/<id>

Every file is replaced whole (write, rename): a kill -9 at any moment leaves the old or the new one. Paths are plain strings: a shim that never touches pathlib, dataclasses' helpers
and the like stays half a megabyte smaller. Nothing is synced
to the disk, because no process described here survives a machine that loses its page cache.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, fields
from typing import Any

from podnet.controlplane.kubelet.cri import ContainerConfig, Mount, PortMapping, SandboxConfig
from podnet.topology.paths import NodePaths


@dataclass(frozen=True, slots=True)
class SandboxFiles:
    """The files of one sandbox."""

    id: str
    directory: str
    socket: str
    netns_pin: str
    shm: str

    @classmethod
    def of(cls, paths: NodePaths, sandbox_id: str) -> SandboxFiles:
        """The files of this sandbox on this node."""
        return cls(
            id=sandbox_id,
            directory=f"{paths.sandboxes_dir}/{sandbox_id}",
            socket=f"{paths.run}/shim/{sandbox_id[:16]}.sock",
            netns_pin=f"{paths.netns_dir}/{sandbox_id}",
            shm=f"{paths.run}/shm/{sandbox_id}",
        )

    @property
    def config(self) -> str:
        return f"{self.directory}/config.json"

    @property
    def network(self) -> str:
        return f"{self.directory}/network.json"

    @property
    def stopped(self) -> str:
        return f"{self.directory}/stopped"

    @property
    def record(self) -> str:
        return f"{self.directory}/sandbox.json"

    @property
    def shim_log(self) -> str:
        return f"{self.directory}/shim.log"

    @property
    def containers(self) -> str:
        return f"{self.directory}/containers"

    def container(self, container_id: str) -> ContainerFiles:
        """The files of one of its containers."""
        return ContainerFiles(container_id, f"{self.containers}/{container_id}")


@dataclass(frozen=True, slots=True)
class ContainerFiles:
    """The files of one container."""

    id: str
    directory: str

    @property
    def config(self) -> str:
        return f"{self.directory}/config.json"

    @property
    def spec(self) -> str:
        return f"{self.directory}/spec.json"

    @property
    def status(self) -> str:
        return f"{self.directory}/status.json"

    @property
    def termination_log(self) -> str:
        return f"{self.directory}/termination-log"

    @property
    def hostname(self) -> str:
        return f"{self.directory}/hostname"

    @property
    def scratch(self) -> str:
        return f"{self.directory}/fs"

    @property
    def rootfs(self) -> str:
        return f"{self.directory}/rootfs"


def write_json(path: str, value: Any) -> None:
    """Replace a file by this value, whole or not at all; readable by its owner only (environments hold secrets)."""
    temporary = f"{path}.{os.getpid()}"
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        data = json.dumps(value).encode()
        while data:
            data = data[os.write(descriptor, data) :]
    finally:
        os.close(descriptor)
    os.rename(temporary, path)


def read_json(path: str) -> Any:
    """The value in a file; None when there is none or it is not JSON (a file from before a power cut)."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        data = b""
        while piece := os.read(descriptor, 1 << 20):
            data += piece
    finally:
        os.close(descriptor)
    try:
        return json.loads(data)
    except ValueError:
        return None


def encode(record: Any) -> dict[str, Any]:
    """A frozen dataclass of the runtime as JSON."""
    return asdict(record)


def decode_sandbox_config(data: dict[str, Any]) -> SandboxConfig:
    """The inverse of `encode` for a SandboxConfig."""
    ports = tuple(PortMapping(**port) for port in data.get("port_mappings", ()))
    return SandboxConfig(**_known(SandboxConfig, data) | {"port_mappings": ports})


def decode_container_config(data: dict[str, Any]) -> ContainerConfig:
    """The inverse of `encode` for a ContainerConfig."""
    known = _known(ContainerConfig, data)
    known["mounts"] = tuple(Mount(**mount) for mount in data.get("mounts", ()))
    return ContainerConfig(**_tuples(known, env=True))


def _known(cls: Any, data: dict[str, Any]) -> dict[str, Any]:
    """Only the fields this version has: a record of another version must not stop a kubelet from starting."""
    names = {field.name for field in fields(cls)}
    return {key: value for key, value in data.items() if key in names}


def _tuples(known: dict[str, Any], *, env: bool) -> dict[str, Any]:
    """JSON has lists; the records have tuples, so that equal ones compare equal."""
    out = {key: tuple(value) if isinstance(value, list) else value for key, value in known.items()}
    if env:
        out["env"] = tuple((name, value) for name, value in known.get("env", ()))
    return out
