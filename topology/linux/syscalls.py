"""Namespace and mount system calls that Python 3.11 does not offer, through ctypes; OSError on failure.

`setns` and `unshare` act on the calling thread only, and a thread started meanwhile inherits the namespace: switch in
single-threaded code, or for the moment it takes to open a socket or start a child, and switch back (DESIGN trap 7).
Sources: setns(2), unshare(2), mount(2), pivot_root(2), prctl(2), sethostname(2).
"""

from __future__ import annotations

import contextlib
import ctypes
import os
from collections.abc import Iterator
from pathlib import Path

CLONE_NEWTIME = 0x00000080
CLONE_NEWNS = 0x00020000
CLONE_NEWCGROUP = 0x02000000
CLONE_NEWUTS = 0x04000000
CLONE_NEWIPC = 0x08000000
CLONE_NEWUSER = 0x10000000
CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000

MS_RDONLY = 0x1
MS_NOSUID = 0x2
MS_NODEV = 0x4
MS_NOEXEC = 0x8
MS_REMOUNT = 0x20
MS_NOATIME = 0x400
MS_BIND = 0x1000
MS_MOVE = 0x2000
MS_REC = 0x4000
MS_PRIVATE = 0x40000
MS_SLAVE = 0x80000

MNT_DETACH = 0x2

PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36
_SYS_PIVOT_ROOT = {"x86_64": 155, "aarch64": 41}

_libc = ctypes.CDLL(None, use_errno=True)


def _check(result: int, what: str) -> int:
    if result < 0:
        errno = ctypes.get_errno()
        raise OSError(errno, f"{what}: {os.strerror(errno)}")
    return result


def unshare(flags: int) -> None:
    """Move the calling thread into new namespaces (children only, for CLONE_NEWPID)."""
    _check(_libc.unshare(ctypes.c_int(flags)), "unshare")


def setns(fd: int, nstype: int = 0) -> None:
    """Move the calling thread into the namespace an open descriptor refers to."""
    _check(_libc.setns(ctypes.c_int(fd), ctypes.c_int(nstype)), "setns")


def mount(source: str, target: str | os.PathLike[str], fstype: str = "", flags: int = 0, data: str = "") -> None:
    """Mount something; `data` are the file system's own options."""
    result = _libc.mount(
        os.fsencode(source),
        os.fsencode(target),
        fstype.encode() or None,
        ctypes.c_ulong(flags),
        data.encode() or None,
    )
    _check(result, f"mount {source or fstype} on {os.fspath(target)}")


def umount(target: str | os.PathLike[str], flags: int = 0) -> None:
    """Take a mount away."""
    _check(_libc.umount2(os.fsencode(target), ctypes.c_int(flags)), f"umount {os.fspath(target)}")


def pivot_root(new_root: str, put_old: str) -> None:
    """Change the root mount; the C library does not wrap this one."""
    number = _SYS_PIVOT_ROOT[os.uname().machine]
    _check(_libc.syscall(number, os.fsencode(new_root), os.fsencode(put_old)), "pivot_root")


def sethostname(name: str) -> None:
    """Name the machine in this UTS namespace."""
    raw = name.encode()
    _check(_libc.sethostname(raw, ctypes.c_size_t(len(raw))), "sethostname")


def set_parent_death_signal(signal: int) -> None:
    """Ask for `signal` when the parent thread dies."""
    _check(_libc.prctl(PR_SET_PDEATHSIG, signal, 0, 0, 0), "prctl PR_SET_PDEATHSIG")


def set_child_subreaper() -> None:
    """Adopt orphaned descendants, as an init does."""
    _check(_libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0), "prctl PR_SET_CHILD_SUBREAPER")


def enter(pid: int, kinds: str = "net mnt uts ipc") -> None:
    """Enter namespaces of another process for good (`user` and `pid` too where named; pid: for children only)."""
    fds = [(kind, os.open(f"/proc/{pid}/ns/{kind}", os.O_RDONLY | os.O_CLOEXEC)) for kind in kinds.split()]
    try:
        for _, fd in fds:
            setns(fd)
    finally:
        for _, fd in fds:
            os.close(fd)


@contextlib.contextmanager
def in_netns(netns: str) -> Iterator[None]:
    """Run the block in another network namespace (a path; "" = stay) and come back. Holds for the calling thread."""
    if not netns:
        yield
        return
    here = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        there = os.open(netns, os.O_RDONLY | os.O_CLOEXEC)
        try:
            setns(there, CLONE_NEWNET)
        finally:
            os.close(there)
        try:
            yield
        finally:
            setns(here, CLONE_NEWNET)
    finally:
        os.close(here)


def create_netns(path: str | os.PathLike[str]) -> None:
    """Create a network namespace and pin it by a bind mount on `path` (as `ip netns add` does), loopback down."""
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).touch()
    here = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        unshare(CLONE_NEWNET)
        try:
            mount("/proc/thread-self/ns/net", path, flags=MS_BIND)
        finally:
            setns(here, CLONE_NEWNET)
    finally:
        os.close(here)


def delete_netns(path: str | os.PathLike[str]) -> None:
    """Unpin a namespace made by `create_netns`; nothing happens when it is gone already."""
    with contextlib.suppress(OSError):
        umount(path, MNT_DETACH)
    with contextlib.suppress(FileNotFoundError):
        Path(path).unlink()
