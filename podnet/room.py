"""The machine room: namespaces of its own for one whole emulation, with one process, PID 1, at its heart.

    host ──fork──> intermediate ──unshare, fork──> PID 1 of the room (the supervisor)
                   tells its host pid, exits       private /proc, /sys, /run; loopback up

Everything a cluster makes lives in here, so that it ends with PID 1: killing it, even with SIGKILL, makes the kernel
kill every process of the PID namespace, and with the last process go the mounts, interfaces and namespaces. Root
unshares net, mnt, pid, uts and ipc; an ordinary user unshares a user namespace first, in which its own id is 0.

This file enters; it starts nothing and knows nothing of clusters. Sources: namespaces(7), user_namespaces(7),
pid_namespaces(7).
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import signal
import socket
import struct
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from podnet.topology.cgroups import CGROUP_MOUNTS, ROOM_CGROUPS
from podnet.topology.linux import syscalls

ROOM_NAMESPACES = (
    syscalls.CLONE_NEWNET | syscalls.CLONE_NEWNS | syscalls.CLONE_NEWPID | syscalls.CLONE_NEWUTS | syscalls.CLONE_NEWIPC
)

_SIOCGIFFLAGS = 0x8913
_SIOCSIFFLAGS = 0x8914
_IFF_UP = 0x1


class RoomError(Exception):
    """The room cannot be made; `fix` says what would help, in one line."""

    def __init__(self, message: str, fix: str = "") -> None:
        super().__init__(message)
        self.fix = fix


def start_room(main: Callable[[], NoReturn], hostname: str) -> int:
    """Start `main` as PID 1 of a new room and return its process id as the host sees it.

    Raises RoomError when the kernel refuses. The caller must be single-threaded (user namespaces, fork).
    """
    sys.stdout.flush()  # or the child would print it again
    sys.stderr.flush()
    report_read, report_write = os.pipe()
    intermediate = os.fork()
    if intermediate == 0:
        os.close(report_read)
        _be_intermediate(main, hostname, report_write)
    os.close(report_write)
    with os.fdopen(report_read, "rb") as report:
        answer = report.read()  # EOF once the room stands, or the intermediate has failed
    _, wait_status = os.waitpid(intermediate, 0)
    if wait_status == 0 and len(answer) == 4:
        return int(struct.unpack("I", answer)[0])
    text = answer[4:] if len(answer) > 4 and wait_status == 0 else answer
    raise _room_error(text.decode(errors="replace"))


def _be_intermediate(main: Callable[[], NoReturn], hostname: str, report: int) -> NoReturn:
    """Unshare, fork PID 1, report its pid, exit. What fails before is reported as text with a non-zero exit."""
    try:
        os.setsid()
        uid, gid = os.geteuid(), os.getegid()
        if uid == 0:
            syscalls.unshare(ROOM_NAMESPACES)
        else:
            syscalls.unshare(syscalls.CLONE_NEWUSER | ROOM_NAMESPACES)
            Path("/proc/self/setgroups").write_text("deny", encoding="ascii")
            Path("/proc/self/uid_map").write_text(f"0 {uid} 1", encoding="ascii")
            Path("/proc/self/gid_map").write_text(f"0 {gid} 1", encoding="ascii")
        pid = os.fork()
        if pid:
            os.write(report, struct.pack("I", pid))
            os._exit(0)
        _furnish(hostname)
    except BaseException as err:
        os.write(report, f"{type(err).__name__}: {err}".encode())
        os._exit(1)
    os.close(report)
    try:
        main()
    except BaseException:
        traceback.print_exc()
    os._exit(1)  # never back into the caller's stack: this is another process now


def _furnish(hostname: str) -> None:
    """Make the room fit to live in: no mount leaks out, /proc and /sys tell of this room, /run is empty and private."""
    syscalls.mount("", "/", flags=syscalls.MS_REC | syscalls.MS_PRIVATE)
    cgroups = _open_cgroups()
    syscalls.mount("proc", "/proc", "proc", syscalls.MS_NOSUID | syscalls.MS_NODEV | syscalls.MS_NOEXEC)
    syscalls.mount("sysfs", "/sys", "sysfs", syscalls.MS_NOSUID | syscalls.MS_NODEV | syscalls.MS_NOEXEC)
    syscalls.mount("tmpfs", "/run", "tmpfs", syscalls.MS_NOSUID | syscalls.MS_NODEV, "mode=755")
    for directory in ("netns", "podnet", "lock"):
        Path("/run", directory).mkdir()
    _show_cgroups(cgroups)
    syscalls.sethostname(hostname)
    set_loopback_up()
    os.chdir("/")
    os.umask(0o022)


def _open_cgroups() -> int:
    """The machine's control groups, before a new /sys hides them; -1: there are none."""
    try:
        return os.open(CGROUP_MOUNTS, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        return -1


def _show_cgroups(descriptor: int) -> None:
    """Show them under /run, where no node's own /sys hides them. Without them there are no limits, and that is said."""
    if descriptor < 0:
        return
    target = Path(ROOM_CGROUPS)
    target.mkdir()
    with contextlib.suppress(OSError):
        syscalls.mount(f"/proc/self/fd/{descriptor}", target, flags=syscalls.MS_BIND | syscalls.MS_REC)
    os.close(descriptor)


def set_loopback_up() -> None:
    """Bring `lo` up in the network namespace of the caller (SIOCSIFFLAGS; no netlink needed this early)."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        request = struct.pack("16sh14x", b"lo", 0)
        flags = struct.unpack("16sh14x", fcntl.ioctl(sock, _SIOCGIFFLAGS, request))[1]
        fcntl.ioctl(sock, _SIOCSIFFLAGS, struct.pack("16sh14x", b"lo", flags | _IFF_UP))


def _room_error(text: str) -> RoomError:
    """A reason that a user can act on, from what the intermediate said."""
    if os.geteuid() == 0:
        fix = "run it on a machine where root may unshare namespaces (not inside an unprivileged container)"
        return RoomError(f"the kernel refuses to make the room: {text or 'no answer'}", fix)
    fix = "podnet doctor names the setting; or run as root"
    if os.strerror(errno.ENOSPC) in text:
        fix = "sysctl -w user.max_user_namespaces=15000"
    elif Path("/proc/sys/kernel/apparmor_restrict_unprivileged_userns").exists():
        fix = "sudo sysctl -w kernel.apparmor_restrict_unprivileged_userns=0"
    elif Path("/proc/sys/kernel/unprivileged_userns_clone").exists():
        fix = "sudo sysctl -w kernel.unprivileged_userns_clone=1"
    return RoomError(f"the kernel refuses user namespaces to ordinary users: {text or 'no answer'}", fix)


# --- processes of the host, seen from outside ---------------------------------------------------------------------


def process_start_time(pid: int) -> int:
    """Clock ticks after boot at which a process began: with the pid, a name that is never reused. 0 = not running."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return 0
    fields = stat.rpartition(")")[2].split()
    return 0 if fields[0] == "Z" else int(fields[19])


def is_running(pid: int, start_time: int) -> bool:
    """Is this very process still there?"""
    return pid > 0 and start_time > 0 and process_start_time(pid) == start_time


def kill_room(pid: int, start_time: int) -> bool:
    """SIGKILL PID 1 of a room, hence all of it; False when it was gone already."""
    if not is_running(pid, start_time):
        return False
    os.kill(pid, signal.SIGKILL)
    return True
