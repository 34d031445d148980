"""Facts about the machine that a node reports. All nodes of a cluster are one machine: they differ by name."""

from __future__ import annotations

import os
import platform
import uuid
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Machine:
    """As NodeSystemInfo and capacity need them."""

    cpus: int
    memory_bytes: int
    storage_bytes: int
    kernel_version: str
    os_image: str
    architecture: str
    machine_id: str
    boot_id: str
    hosts: str
    resolv_conf: str


def observe_machine(state_dir: Path, resolv_conf: Path = Path("/etc/resolv.conf")) -> Machine:
    """Read /proc and /etc; `resolv_conf` may be a file of the node's own."""
    directory = next((path for path in (state_dir, *state_dir.parents) if path.exists()), Path("/"))
    disk = os.statvfs(directory)
    return Machine(
        cpus=len(os.sched_getaffinity(0)),
        memory_bytes=os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"),
        storage_bytes=disk.f_blocks * disk.f_frsize,
        kernel_version=platform.release(),
        os_image=_os_image(),
        architecture={"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine()),
        machine_id=_read("/etc/machine-id").strip(),
        boot_id=_read("/proc/sys/kernel/random/boot_id").strip(),
        hosts=_read("/etc/hosts"),
        resolv_conf=_read(str(resolv_conf)),
    )


def node_machine_id(machine_id: str, node: str) -> str:
    """A machine ID of the node's own, always the same: 32 hexadecimal digits."""
    return uuid.uuid5(uuid.NAMESPACE_DNS, f"{node}.{machine_id}").hex


def _os_image() -> str:
    for line in _read("/etc/os-release").splitlines():
        key, _, value = line.partition("=")
        if key == "PRETTY_NAME":
            return value.strip('"')
    return "Linux"


def _read(path: str) -> str:
    try:
        return Path(path).read_text(errors="replace")
    except OSError:
        return ""
