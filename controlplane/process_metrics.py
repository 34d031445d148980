"""The `process_*` metrics that every Prometheus client library has, read from /proc when somebody scrapes.

Names and meaning: https://prometheus.io/docs/instrumenting/writing_clientlibs/#process-metrics.
"""

from __future__ import annotations

import os
import platform
import resource
from collections.abc import Callable
from pathlib import Path

from podnet.controlplane.metrics import Registry

_PROC = Path("/proc")


def add_process_metrics(metrics: Registry, proc: Path = _PROC) -> Callable[[], None]:
    """Have this process's own figures in every scrape of `metrics`; the result takes them away again."""
    cpu = metrics.counter("process_cpu_seconds_total", "Total user and system CPU time spent in seconds.")
    resident = metrics.gauge("process_resident_memory_bytes", "Resident memory size in bytes.")
    virtual = metrics.gauge("process_virtual_memory_bytes", "Virtual memory size in bytes.")
    started = metrics.gauge("process_start_time_seconds", "Start time of the process since unix epoch in seconds.")
    files = metrics.gauge("process_open_fds", "Number of open file descriptors.")
    most_files = metrics.gauge("process_max_fds", "Maximum number of open file descriptors.")
    metrics.gauge("python_info", "Python platform information.", ("implementation", "version")).set(
        1, platform.python_implementation(), platform.python_version()
    )

    def read() -> None:
        fields = stat_fields((proc / "self" / "stat").read_text())
        ticks = os.sysconf("SC_CLK_TCK")
        cpu.values[()] = (int(fields[11]) + int(fields[12])) / ticks
        started.set(boot_time((proc / "stat").read_text()) + int(fields[19]) / ticks)
        virtual.set(int(fields[20]))
        resident.set(int(fields[21]) * os.sysconf("SC_PAGE_SIZE"))
        files.set(len(os.listdir(proc / "self" / "fd")) - 1)  # the listing itself had one open
        limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        most_files.set(float("inf") if limit == resource.RLIM_INFINITY else limit)

    return metrics.collect(read)


def stat_fields(text: str) -> list[str]:
    """The fields of /proc/self/stat after the command, which may hold spaces and parentheses (the first is `state`)."""
    return text[text.rindex(")") + 1 :].split()


def boot_time(text: str) -> int:
    """`btime` of /proc/stat: when the machine started, in seconds since the epoch."""
    return next((int(line.split()[1]) for line in text.splitlines() if line.startswith("btime ")), 0)
