"""What a shim needs to start one container: everything resolved, nothing left to decide (an OCI bundle's config.json).

The runtime computes it from the ContainerConfig and the catalogue's entry and writes it to spec.json; this file is
pure.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from podnet.controlplane.kubelet.cri import ContainerConfig, Mount, SandboxConfig
from podnet.controlplane.kubelet.images.catalogue import CatalogueEntry

DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@dataclass(frozen=True, slots=True)
class RootSpec:
    """What the container's root directory is made of. `layers` are directories of image files, the uppermost first;
    `scratch` takes the overlays' upper directories; `shm` is the pod's shared /dev/shm."""

    layers: tuple[str, ...]
    scratch: str
    target: str
    mounts: tuple[Mount, ...] = ()
    read_only: bool = False
    shm: str = ""
    privileged: bool = False
    host_network: bool = False


@dataclass(frozen=True, slots=True)
class ContainerSpec:
    """One container, ready to start. `uid` None means the user the runtime has (root of its namespace)."""

    id: str
    name: str
    argv: tuple[str, ...]
    env: tuple[tuple[str, str], ...]
    cwd: str
    root: RootSpec
    log_path: str = ""
    tty: bool = False
    stdin: bool = False
    stdin_once: bool = False
    uid: int | None = None
    gid: int | None = None
    groups: tuple[int, ...] = ()
    host_pid: bool = False
    share_pid: bool = False
    stop_signal: int = 15
    capabilities: tuple[str, ...] = ()
    no_new_privs: bool = False
    termination_log: str = ""
    termination_path: str = ""
    hostname: str = ""
    cgroup: Mapping[str, Any] = field(default_factory=dict)


def resolve_argv(config: ContainerConfig, entry: CatalogueEntry) -> tuple[str, ...]:
    """Kubernetes' rule: `command` replaces entrypoint and cmd, `args` replaces cmd only."""
    if config.command:
        return config.command + config.args
    return entry.entrypoint + (config.args or entry.cmd)


def resolve_env(config: ContainerConfig, entry: CatalogueEntry, hostname: str) -> tuple[tuple[str, str], ...]:
    """PATH and HOSTNAME first, then the image's variables, then the pod's; a later one of a name wins."""
    merged = {"PATH": DEFAULT_PATH, "HOSTNAME": hostname}
    merged.update(entry.env)
    merged.update(config.env)
    if config.tty:
        merged.setdefault("TERM", "xterm")
    if "HOME" not in merged:
        merged["HOME"] = "/root" if not config.run_as_user else "/"
    return tuple(merged.items())


def sandbox_hostname(config: SandboxConfig) -> str:
    """The pod's host name."""
    return pod_hostname(config.hostname, config.pod_name)


def pod_hostname(hostname: str, pod_name: str) -> str:
    """What the kubelet says, or the pod's name cut to what the kernel takes."""
    return (hostname or pod_name)[:63].rstrip("-.")


def decode_spec(data: Mapping[str, Any]) -> ContainerSpec:
    """The inverse of `layout.encode` for a ContainerSpec."""
    root = dict(data["root"])
    root["layers"] = tuple(root["layers"])
    root["mounts"] = tuple(Mount(**mount) for mount in root["mounts"])
    plain: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in data.items()}
    plain["root"] = RootSpec(**root)
    plain["env"] = tuple((name, value) for name, value in data["env"])
    return ContainerSpec(**plain)
