"""A hundred pods on ten nodes: how long until all are Ready, and what nodes and pods cost in memory."""

from __future__ import annotations

import functools
import time
from collections.abc import Iterator
from pathlib import Path

from podnet.bench.clusters import apply, bench_cluster, deployment
from podnet.bench.rows import BenchError, Row, Settings, attempt, median
from podnet.lab.session import LabSession

NODES, PODS = 10, 100
KUBECTL = "kubectl get pods, beyond kubectl version --client"


def scale_rows(settings: Settings) -> Iterator[Row]:
    """Memory is unique memory: Private_Clean + Private_Dirty of smaps_rollup, what would be freed by its end."""
    settings.note(f"scale: booting a cluster of {NODES + 1} nodes")
    with bench_cluster(workers=NODES) as lab:
        settings.note(f"scale: {PODS} pods")
        began = time.monotonic()
        apply(lab, deployment("scale", PODS))
        lab.wait_ready("deployment", "scale", timeout_s=180)
        seconds = time.monotonic() - began
        name = f"{PODS} pods on {NODES} nodes, apply to all Ready"
        yield Row("scale", name, seconds, "s", 10.0, True, "SLO: 20 pods/s", PODS / 20)
        agents, pauses = _memory(lab)
        k3s = "k3s agent"
        yield Row("scale", "node agent, unique memory (median)", median(agents), "MB", 15.0, True, k3s, 275.0)
        yield Row("scale", "pause pod, unique memory (median)", median(pauses), "MB", 3.0)
        yield from attempt("scale", KUBECTL, functools.partial(_kubectl_rows, lab))


def _memory(lab: LabSession) -> tuple[list[float], list[float]]:
    """Unique megabytes of every node agent and of every pod (all processes of a pod added up)."""
    record = lab.directories.record()
    if record is None:
        raise BenchError("the cluster is gone")
    titles = _room_processes(record.pid)
    agents = [mb for title, mb in titles if title.startswith("podnet-node")]
    pauses = [mb for title, mb in titles if title.startswith("podnet-pause")]
    others = sum(mb for title, mb in titles if title.startswith("/pause") or title == "pause")
    extra = others / len(pauses) if pauses else 0.0
    return agents, [mb + extra for mb in pauses]


def _room_processes(pid: int) -> list[tuple[str, float]]:
    """(title, unique MB) of every process that descends from PID 1 of a room."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            except (OSError, IndexError, ValueError):
                continue
            children.setdefault(parent, []).append(int(entry.name))
    found, queue = [], [pid]
    while queue:
        current = queue.pop()
        queue += children.get(current, [])
        try:
            title = Path(f"/proc/{current}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
            found.append((title, _unique_mb(current)))
        except OSError:
            continue
    return found


def _unique_mb(pid: int) -> float:
    kilobytes = 0
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith(("Private_Clean:", "Private_Dirty:")):
            kilobytes += int(line.split()[1])
    return kilobytes / 1024


def _kubectl_rows(lab: LabSession) -> Iterator[Row]:
    """Milliseconds that `kubectl get pods` takes beyond a kubectl that asks nobody, pair by pair."""
    lab.kubectl("get", "pods", "-o", "name")  # fill the discovery cache
    pairs = []
    for _ in range(10):
        began = time.monotonic()
        lab.kubectl("get", "pods", "pod-that-is-not-there", "--ignore-not-found")
        asked = time.monotonic()
        lab.kubectl("version", "--client")
        pairs.append(((asked - began) - (time.monotonic() - asked)) * 1000)
    yield Row("scale", KUBECTL, median(pairs), "ms", 10.0)
