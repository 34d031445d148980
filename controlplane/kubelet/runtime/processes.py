"""What /proc says about processes: is a remembered pid still the same one, and who lives in a mount namespace."""

from __future__ import annotations

import contextlib
import os
import signal


def process_start_time(pid: int) -> int:
    """Field 22 of /proc/PID/stat, clock ticks since boot; 0 when there is no such process. A pid and its start time
    together name a process for good."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            data = file.read()
    except OSError:
        return 0
    return int(data[data.rindex(b")") + 2 :].split()[19])


def is_alive(pid: int, start_time: int) -> bool:
    """Whether that very process still runs."""
    return pid > 0 and start_time > 0 and process_start_time(pid) == start_time


def drops_signal(pid: int, number: int) -> bool:
    """Whether the kernel would drop a signal to this process: it is PID 1 of its namespace and has no handler (yet).
    Blocked is not awaited: a shell blocks everything while it forks. False when there is no such process."""
    try:
        with open(f"/proc/{pid}/status", encoding="ascii", errors="replace") as file:
            fields = dict(line.split(":", 1) for line in file if ":" in line)
    except OSError:
        return False
    return fields.get("NSpid", "").split()[-1:] == ["1"] and not int(fields.get("SigCgt", "0"), 16) >> (number - 1) & 1


def mount_namespace(pid: int) -> int:
    """The inode of a process's mount namespace; 0 when it has none any more."""
    try:
        return os.stat(f"/proc/{pid}/ns/mnt").st_ino
    except OSError:
        return 0


def kill_in_mount_namespace(inode: int) -> None:
    """Kill whoever is left in a container's mount namespace: needed where its PID namespace is shared, so that its
    end does not end them."""
    if not inode:
        return
    for entry in os.scandir("/proc"):
        if entry.name.isdigit() and mount_namespace(int(entry.name)) == inode:
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(entry.name), signal.SIGKILL)
