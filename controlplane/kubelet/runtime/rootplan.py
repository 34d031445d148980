"""What a container's root directory is made of, as a list of steps; `rootfs.apply_steps` carries them out.

This file decides; it never touches the kernel.

    tmpfs /                       gone with the container's mount namespace
    overlay /usr /etc /var        image layers over the machine's own; writes go to an upper directory of the container
    links   /bin /sbin /lib*      as on the machine (merged /usr), or bound read-only where they are directories
    /proc /sys /dev               new instances: the pod's processes, the pod's network devices, a few safe devices
    the pod's mounts              /etc/hosts, volumes, the service account's token, …

One overlay of `/` would be simpler, but a user namespace refuses it (mounts below it are locked), and an overlay can
not be told to leave out /home or /root. Sources: mount_namespaces(7), overlayfs.rst, runc's default spec.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from podnet.controlplane.kubelet.cri import Mount
from podnet.controlplane.kubelet.runtime.spec import RootSpec
from podnet.topology.linux import syscalls

ROOT_LIMIT = "1g"
DEVICES = ("null", "zero", "full", "random", "urandom", "tty")
OVERLAID = ("usr", "etc", "var")
_PLAIN_DIRECTORIES = ("home", "media", "mnt", "opt", "proc", "root", "run", "run/lock", "srv", "sys", "dev", "tmp")
_MODES = {"tmp": 0o1777, "root": 0o700, "run/lock": 0o1777}
_NO_DEVICES = syscalls.MS_NOSUID | syscalls.MS_NODEV
_NO_PROGRAMS = _NO_DEVICES | syscalls.MS_NOEXEC
_STANDARD_LINKS = (
    ("/dev/fd", "/proc/self/fd"),
    ("/dev/stdin", "/proc/self/fd/0"),
    ("/dev/stdout", "/proc/self/fd/1"),
    ("/dev/stderr", "/proc/self/fd/2"),
    ("/dev/ptmx", "pts/ptmx"),
)


@dataclass(frozen=True, slots=True)
class MakeDirectory:
    """Create a directory (parents too) unless it is there."""

    path: str
    mode: int = 0o755


@dataclass(frozen=True, slots=True)
class MakeLink:
    """Create a symbolic link."""

    path: str
    target: str


@dataclass(frozen=True, slots=True)
class CopyFile:
    """Copy a small file of an image, keeping its mode."""

    path: str
    source: str


@dataclass(frozen=True, slots=True)
class MountNew:
    """Mount a new file system. `fallback` is a directory bound instead where the kernel refuses; optional ones are
    left out then."""

    path: str
    fstype: str
    flags: int = 0
    data: str = ""
    optional: bool = False
    fallback: str = ""


@dataclass(frozen=True, slots=True)
class MountOverlay:
    """Merge `layers` (the uppermost first) under an upper directory inside `scratch`."""

    path: str
    layers: tuple[str, ...]
    scratch: str


@dataclass(frozen=True, slots=True)
class Bind:
    """Bind a file or directory of the node; the mount point is made when missing."""

    path: str
    source: str
    read_only: bool = False
    optional: bool = False


@dataclass(frozen=True, slots=True)
class MakeReadOnly:
    """Nobody writes below this mount any more."""

    path: str


@dataclass(frozen=True, slots=True)
class Protect:
    """Make a part of a mount read-only (by a bind of it onto itself)."""

    path: str


Step = MakeDirectory | MakeLink | CopyFile | MountNew | MountOverlay | Bind | MakeReadOnly | Protect


@dataclass(frozen=True, slots=True)
class Machine:
    """What the plan must know of the machine: its top-level links (`bin` → `usr/bin`) and directories, the layers'
    top-level files by path in the container, and directories outside /usr that the interpreter needs."""

    links: Mapping[str, str]
    directories: frozenset[str]
    interpreter: tuple[str, ...] = ()


def plan_root(spec: RootSpec, machine: Machine, extras: Mapping[str, str], own_files: tuple[Mount, ...]) -> list[Step]:
    """The steps, in order. `extras` are image files outside the overlaid directories (path → source); `own_files` are
    mounts which the runtime itself provides and a mount of the pod may replace."""
    steps: list[Step] = [MakeDirectory(f"/{name}", _MODES.get(name, 0o755)) for name in _PLAIN_DIRECTORIES]
    for name in OVERLAID:
        layers = (*(f"{layer}/{name}" for layer in spec.layers), f"/{name}")
        steps.append(MountOverlay(f"/{name}", layers, f"{spec.scratch}/{name}"))
    steps += _system_directories(machine)
    steps += [CopyFile(path, source) for path, source in sorted(extras.items())]
    steps += _kernel_file_systems(spec)
    wanted = {mount.container_path for mount in spec.mounts}
    mounts = [mount for mount in own_files if mount.container_path not in wanted]
    # A mount on /a must come before one on /a/b, or it would hide it.
    for mount in sorted([*mounts, *spec.mounts], key=lambda m: m.container_path.rstrip("/").count("/")):
        steps.append(Bind(mount.container_path, mount.host_path, mount.read_only))
    if spec.read_only:
        steps += [MakeReadOnly(f"/{name}") for name in OVERLAID]
        steps.append(MakeReadOnly("/"))
    return steps


def _system_directories(machine: Machine) -> list[Step]:
    """/bin, /sbin, /lib and its relatives: the same links as the machine's, or its directories."""
    steps: list[Step] = []
    steps += [MakeLink(f"/{name}", target) for name, target in sorted(machine.links.items())]
    steps += [Bind(f"/{name}", f"/{name}", read_only=True) for name in sorted(machine.directories)]
    steps += [Bind(path, path, read_only=True) for path in machine.interpreter]
    return steps


def _kernel_file_systems(spec: RootSpec) -> list[Step]:
    """/proc, /sys and /dev."""
    steps: list[Step] = [
        MountNew("/proc", "proc", _NO_PROGRAMS, fallback="/proc" if spec.privileged else ""),
        *_protected_proc(privileged=spec.privileged),
        # A new sysfs shows the network devices of this network namespace; where the kernel refuses (another owner's
        # namespace: hostNetwork of the machine) the node's own is shown.
        MountNew("/sys", "sysfs", _NO_PROGRAMS | syscalls.MS_RDONLY, optional=True, fallback="/sys"),
        MountNew("/dev", "tmpfs", _NO_DEVICES, "mode=755,size=64k"),
    ]
    steps += [Bind(f"/dev/{name}", f"/dev/{name}", optional=name in ("full", "tty")) for name in DEVICES]
    if spec.privileged:
        steps.append(Bind("/dev/net/tun", "/dev/net/tun", optional=True))
    steps.append(MakeDirectory("/dev/pts"))
    steps.append(MountNew("/dev/pts", "devpts", syscalls.MS_NOSUID | syscalls.MS_NOEXEC, _DEVPTS))
    steps += [MakeLink(path, target) for path, target in _STANDARD_LINKS]
    steps.append(MakeDirectory("/dev/shm", 0o1777))
    if spec.shm:
        steps.append(Bind("/dev/shm", spec.shm))
    steps.append(MakeDirectory("/dev/mqueue"))
    steps.append(MountNew("/dev/mqueue", "mqueue", _NO_PROGRAMS, optional=True))
    return steps


def _protected_proc(*, privileged: bool) -> list[Step]:
    """What root could do harm with through /proc, as runc protects it. A privileged container may still set the
    sysctls of its own network namespace."""
    steps: list[Step] = [Protect(path) for path in ("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sysrq-trigger")]
    if privileged:
        return [*steps, *(Protect(f"/proc/sys/{name}") for name in ("abi", "debug", "dev", "fs", "kernel", "vm"))]
    masked = [Bind(f"/proc/{name}", "/dev/null", optional=True) for name in ("kcore", "keys", "timer_list")]
    return [*steps, Protect("/proc/sys"), *masked]


_DEVPTS = "newinstance,ptmxmode=0666,mode=0620"
