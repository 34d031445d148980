"""From CRI's ContainerConfig to a ContainerSpec: pure, apart from refusing what could not work.

What is checked here is refused before anything exists, as CreateContainerError; what only the kernel knows (is the
program there?) is found out by the start.
"""

from __future__ import annotations

import posixpath
from collections.abc import Sequence
from pathlib import Path

from podnet.controlplane.kubelet.cri import ContainerConfig, Mount, RuntimeServiceError, SandboxConfig
from podnet.controlplane.kubelet.images.catalogue import CatalogueEntry
from podnet.controlplane.kubelet.images.layers import image_layers
from podnet.controlplane.kubelet.runtime.cgroup import plan_cgroup
from podnet.controlplane.kubelet.runtime.credentials import ALLOWED, capability_set
from podnet.controlplane.kubelet.runtime.layout import SandboxFiles
from podnet.controlplane.kubelet.runtime.spec import ContainerSpec, RootSpec, resolve_argv, resolve_env
from podnet.topology.cgroups import CgroupDirectory


def check_config(config: ContainerConfig) -> None:
    """RuntimeServiceError("CreateContainerError") for mounts and paths no container can have."""
    for mount in config.mounts:
        if not mount.container_path.startswith("/"):
            path = mount.container_path
            raise RuntimeServiceError("CreateContainerError", f'mount path "{path}" is not absolute')
        if not Path(mount.host_path).exists():
            message = (
                f'failed to generate container spec: failed to stat "{mount.host_path}": no such file or directory'
            )
            raise RuntimeServiceError("CreateContainerError", message)


def build_spec(
    sandbox: SandboxConfig,
    files: SandboxFiles,
    container_id: str,
    config: ContainerConfig,
    entry: CatalogueEntry,
    layers: Path,
    hostname: str,
    cgroups: Sequence[CgroupDirectory] = (),
    cgroup_prefix: str = "",
) -> ContainerSpec:
    """Everything the shim needs."""
    own = files.container(container_id)
    argv = resolve_argv(config, entry)
    if not argv:
        raise RuntimeServiceError("CreateContainerError", "no command specified")
    root = RootSpec(
        layers=tuple(str(layer) for layer in image_layers(layers, entry)),
        scratch=own.scratch,
        target=own.rootfs,
        mounts=tuple(Mount(posixpath.normpath(m.container_path), m.host_path, m.read_only) for m in config.mounts),
        read_only=config.read_only_rootfs,
        shm=files.shm,
        privileged=config.privileged,
        host_network=sandbox.host_network,
    )
    log_path = ""
    if config.log_path and sandbox.log_directory:
        log_path = posixpath.join(sandbox.log_directory, config.log_path)
    capabilities = ALLOWED if config.privileged else capability_set(config.cap_add, config.cap_drop)
    return ContainerSpec(
        id=container_id,
        name=config.name,
        argv=argv,
        env=resolve_env(config, entry, hostname),
        cwd=config.working_dir or entry.working_dir,
        root=root,
        log_path=log_path,
        tty=config.tty,
        stdin=config.stdin,
        stdin_once=config.stdin_once,
        uid=config.run_as_user,
        gid=config.run_as_group,
        groups=config.supplemental_groups,
        no_new_privs=config.no_new_privs,
        host_pid=sandbox.host_pid,
        share_pid=sandbox.share_process_namespace and not sandbox.host_pid,
        stop_signal=entry.stop_signal,
        capabilities=tuple(sorted(capabilities)),
        termination_log=own.termination_log if config.termination_message_path else "",
        termination_path=config.termination_message_path,
        hostname=own.hostname,
        cgroup=plan_cgroup(
            cgroups,
            f"{cgroup_prefix}{container_id[:16]}",
            memory_bytes=config.memory_limit_bytes,
            cpu_m=config.cpu_limit_m,
        ),
    )
