"""One container's control groups: planned by the runtime, made and removed by the shim, joined by the container's processes.

Plain strings and dicts, for the shim's sake: its memory is counted, a pod's. A container without limits has no group of its own.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Mapping
from typing import Any

from podnet.topology.cgroups import CgroupDirectory

CPU_PERIOD_US = 100_000
MIN_QUOTA_US = 1_000

Plan = dict[str, Any]


def plan_cgroup(directories: Iterable[CgroupDirectory], name: str, *, memory_bytes: int, cpu_m: int) -> Plan:
    """`directories` to make, `writes` into them in order, `oom`: the file that counts kills. Empty: nothing to limit. Pure.

    A write marked optional may be refused: swap is not accounted for everywhere.
    """
    made: list[str] = []
    writes: list[tuple[str, str, bool]] = []
    oom = ""
    for directory in directories:
        path = f"{directory.path}/{name}"
        mine: list[tuple[str, str, bool]] = []
        if memory_bytes and "memory" in directory.controllers:
            mine += _memory(path, directory.version, memory_bytes)
            oom = f"{path}/{'memory.events' if directory.version == 2 else 'memory.oom_control'}"
        if cpu_m and "cpu" in directory.controllers:
            mine += _cpu(path, directory.version, cpu_m)
        if mine:
            made.append(path)
            writes += mine
    return {"directories": made, "writes": writes, "oom": oom} if made else {}


def _memory(path: str, version: int, limit: int) -> list[tuple[str, str, bool]]:
    if version == 2:
        # As a kubelet: no swap, and the whole container goes when one of its processes must.
        return [
            (f"{path}/memory.max", str(limit), False),
            (f"{path}/memory.swap.max", "0", True),
            (f"{path}/memory.oom.group", "1", True),
        ]
    return [
        (f"{path}/memory.limit_in_bytes", str(limit), False),
        (f"{path}/memory.memsw.limit_in_bytes", str(limit), True),
    ]


def _cpu(path: str, version: int, cpu_m: int) -> list[tuple[str, str, bool]]:
    quota = max(cpu_m * CPU_PERIOD_US // 1000, MIN_QUOTA_US)
    if version == 2:
        return [(f"{path}/cpu.max", f"{quota} {CPU_PERIOD_US}", False)]
    return [
        (f"{path}/cpu.cfs_period_us", str(CPU_PERIOD_US), False),
        (f"{path}/cpu.cfs_quota_us", str(quota), False),
    ]


def make(plan: Mapping[str, Any]) -> str:
    """Make the groups; why not, "" when they stand."""
    try:
        for path in plan.get("directories", ()):
            os.makedirs(path, exist_ok=True)
        for path, value, optional in plan.get("writes", ()):
            try:
                _write(path, value)
            except OSError:
                if not optional:
                    raise
    except OSError as error:
        remove(plan)
        return f"unable to apply cgroup configuration: {error.filename or 'cgroup'}: {error.strerror}"
    return ""


def join(plan: Mapping[str, Any]) -> None:
    """Put the calling process, and what it forks, into the groups."""
    for path in plan.get("directories", ()):
        _write(f"{path}/cgroup.procs", "0")


def oom_killed(plan: Mapping[str, Any]) -> bool:
    """Whether the kernel killed a process there for want of memory."""
    try:
        with open(plan.get("oom") or os.devnull, encoding="ascii") as file:
            return any(line.startswith("oom_kill ") and line.split()[1] != "0" for line in file)
    except OSError:
        return False


def remove(plan: Mapping[str, Any]) -> None:
    """Remove the groups; one in which something is just ending is swept later (`cgroups.sweep`)."""
    for path in plan.get("directories", ()):
        with contextlib.suppress(OSError):
            os.rmdir(path)


def _write(path: str, value: str) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(descriptor, value.encode())
    except OSError as error:
        raise OSError(error.errno, error.strerror, path) from error
    finally:
        os.close(descriptor)
