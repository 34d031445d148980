"""Put a container's root directory together and make it the root: the edge of `rootplan`.

Runs in the child that becomes the container, in a mount namespace of its own, so that nothing has to be undone: when
the last process of the namespace is gone, so is every mount. By system calls it takes about three milliseconds.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import stat
import sys
from collections.abc import Iterable

from podnet.controlplane.kubelet.cri import Mount
from podnet.controlplane.kubelet.images.layers import programs_source
from podnet.controlplane.kubelet.runtime.overlays import graft, grafted_below, make_read_only, mount_overlay
from podnet.controlplane.kubelet.runtime.rootplan import (
    OVERLAID,
    Bind,
    CopyFile,
    Machine,
    MakeDirectory,
    MakeLink,
    MakeReadOnly,
    MountNew,
    MountOverlay,
    Protect,
    Step,
    plan_root,
)
from podnet.controlplane.kubelet.runtime.spec import ContainerSpec
from podnet.topology.linux import syscalls

_MAX_LINKS = 40


class RootError(Exception):
    """A step failed: which, and why."""


def enter_root(spec: ContainerSpec) -> None:
    """Leave the node's mounts for a new mount namespace whose root is the container's."""
    syscalls.unshare(syscalls.CLONE_NEWNS)
    syscalls.mount("", "/", flags=syscalls.MS_REC | syscalls.MS_PRIVATE)
    root = spec.root.target
    os.umask(0o022)
    syscalls.mount("podnet", root, "tmpfs", syscalls.MS_NOSUID | syscalls.MS_NODEV, "mode=755,size=1g")
    own = [Mount("/etc/hostname", spec.hostname)] if spec.hostname else []
    if spec.termination_log:
        own.append(Mount(spec.termination_path, spec.termination_log))
    source, place = programs_source()
    own.append(Mount(place, source, read_only=True))
    steps = plan_root(spec.root, observe_machine(), image_extras(spec.root.layers), tuple(own))
    apply_steps(root, steps)
    os.chdir(root)
    syscalls.pivot_root(".", ".")
    syscalls.umount(".", syscalls.MNT_DETACH)
    os.chdir("/")


def observe_machine() -> Machine:
    """The machine's top-level system directories, and where this interpreter lives when that is not /usr."""
    links: dict[str, str] = {}
    directories: set[str] = set()
    for entry in os.scandir("/"):
        if entry.name not in ("bin", "sbin") and not entry.name.startswith("lib"):
            continue
        if entry.is_symlink():
            links[entry.name] = os.readlink(entry.path)
        elif entry.is_dir():
            directories.add(entry.name)
    directories.discard("lost+found")
    prefix = os.path.realpath(sys.base_prefix)
    interpreter = () if prefix == "/usr" or prefix.startswith("/usr/") else (prefix,)
    return Machine(links, frozenset(directories), interpreter)


def image_extras(layers: Iterable[str]) -> dict[str, str]:
    """Files of image layers outside /usr, /etc and /var: path in the container → file."""
    extras: dict[str, str] = {}
    for layer in layers:
        for top in os.scandir(layer):
            if top.name in OVERLAID:
                continue
            if not top.is_dir(follow_symlinks=False):
                extras.setdefault(f"/{top.name}", top.path)
                continue
            for directory, _, files in os.walk(top.path):
                for path in (directory, *(os.path.join(directory, file) for file in files)):
                    extras.setdefault(path[len(layer.rstrip("/")) :], path)
    return extras


def apply_steps(root: str, steps: Iterable[Step]) -> None:
    """Carry the steps out below `root`. RootError names the step that failed."""
    for step in steps:
        try:
            _apply(root, step)
        except OSError as error:
            raise RootError(f"mount {step.path}: {error.strerror or error}") from error


def _apply(root: str, step: Step) -> None:
    match step:
        case MakeDirectory(path, mode):
            target = resolve_in_root(root, path)
            os.makedirs(target, 0o755, exist_ok=True)
            os.chmod(target, mode)
        case MakeLink(path, target):
            os.symlink(target, root + path)
        case CopyFile(path, source):
            target = resolve_in_root(root, path)
            if os.path.isdir(source):
                os.makedirs(target, exist_ok=True)
            else:
                shutil.copy(source, target, follow_symlinks=False)
        case MountNew():
            _mount_new(root, step)
        case MountOverlay(path, layers, scratch):
            os.makedirs(root + path, exist_ok=True)
            _overlay(root + path, layers, scratch)
        case Bind():
            _bind_step(root, step)
        case Protect(path):
            if os.path.lexists(root + path):
                syscalls.mount(root + path, root + path, flags=syscalls.MS_BIND | syscalls.MS_REC)
                make_read_only(root + path)
        case MakeReadOnly(path):
            for place in (root + path, *grafted_below(root + path)):
                make_read_only(place)


def _mount_new(root: str, step: MountNew) -> None:
    target = root + step.path
    os.makedirs(target, exist_ok=True)
    try:
        syscalls.mount(step.fstype, target, step.fstype, step.flags, step.data)
    except OSError:
        if step.fallback:
            syscalls.mount(step.fallback, target, flags=syscalls.MS_BIND | syscalls.MS_REC)
        elif not step.optional:
            raise


def _overlay(target: str, layers: tuple[str, ...], scratch: str) -> None:
    """Mount an overlay; its upper on the state directory's file system, on a tmpfs where that one can not be an upper
    (it is an overlay or a network file system, or lies in the lower), and piecewise where the lower has locked mounts
    below it. The kernel has an error number of its own for each of these, so any refusal leads to the next way."""
    lowers = tuple(layer for layer in layers if os.path.isdir(layer))
    os.makedirs(scratch, exist_ok=True)
    with contextlib.suppress(OSError):
        mount_overlay(target, lowers, scratch)
        return
    syscalls.mount("podnet", scratch, "tmpfs", data="mode=755,size=1g")
    with contextlib.suppress(OSError):
        mount_overlay(target, lowers, scratch)
        return
    graft(target, lowers, scratch)


def _bind_step(root: str, step: Bind) -> None:
    try:
        info = os.stat(step.source)
    except FileNotFoundError:
        if step.optional:
            return
        raise
    target = resolve_in_root(root, step.path)
    if step.path.startswith("/proc/") and not os.path.lexists(target):
        return  # this kernel has no such file
    if stat.S_ISDIR(info.st_mode):
        os.makedirs(target, exist_ok=True)
    elif not os.path.lexists(target):
        os.makedirs(os.path.dirname(target), exist_ok=True)
        os.close(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o644))
    flags = syscalls.MS_BIND | (syscalls.MS_REC if stat.S_ISDIR(info.st_mode) else 0)
    try:
        syscalls.mount(step.source, target, flags=flags)
    except OSError:
        if step.optional:
            return
        raise
    if step.read_only:
        make_read_only(target)


def resolve_in_root(root: str, path: str) -> str:
    """Follow symbolic links as a process with that root would (`/var/run` → `/run`), so that a mount never lands
    outside. The last part need not exist."""
    done = ""
    todo = [part for part in path.split("/") if part]
    links = 0
    while todo:
        part = todo.pop(0)
        if part == ".":
            continue
        if part == "..":
            done = done.rpartition("/")[0]
            continue
        here = f"{root}{done}/{part}"
        target = None
        with contextlib.suppress(OSError):
            target = os.readlink(here)
        if target is None:
            done = f"{done}/{part}"
            continue
        links += 1
        if links > _MAX_LINKS:
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)
        if target.startswith("/"):
            done = ""
        todo = [piece for piece in target.split("/") if piece] + todo
    return root + (done or "/")
