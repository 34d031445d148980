"""A hundred pods on ten nodes: how long until all are Ready, and what nodes and pods cost in memory."""

from __future__ import annotations

import time
from pathlib import Path

from podnet import launch
from podnet.bench.clusters import bench_cluster, deployment
from podnet.bench.rows import Row, median
from podnet.lab.session import LabSession

NODES, PODS = 10, 100


def scale_rows() -> list[Row]:
    """Memory is unique memory: Private_Clean + Private_Dirty of smaps_rollup, what would be freed by its end."""
    with bench_cluster(workers=NODES) as lab:
        began = time.monotonic()
        lab.kubectl("apply", "-f", "-", stdin=deployment("scale", PODS))
        lab.wait_ready("deployment", "scale", timeout_s=180)
        seconds = time.monotonic() - began
        agents, pauses = _memory(lab)
        overhead = _kubectl_overhead(lab)
    return [
        Row(
            "scale",
            f"{PODS} pods on {NODES} nodes, apply to all Ready",
            seconds,
            "s",
            10.0,
            True,
            "SLO: 20 pods/s",
            5.0,
        ),
        Row(
            "scale",
            "node agent, unique memory (median)",
            median(agents),
            "MB",
            15.0,
            True,
            "k3s agent (published)",
            275.0,
        ),
        Row("scale", "pause pod, unique memory (median)", median(pauses), "MB", 3.0),
        Row("scale", "kubectl get pods, beyond kubectl version --client", overhead, "ms", 10.0),
    ]


def _memory(lab: LabSession) -> tuple[list[float], list[float]]:
    """Unique megabytes of every node agent and of every pod (all processes of a pod added up)."""
    record = lab.directories.record()
    if record is None:
        raise RuntimeError("the cluster is gone")
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


def _kubectl_overhead(lab: LabSession) -> float:
    """Milliseconds that `kubectl get pods` takes beyond a kubectl that asks nobody, pair by pair."""
    if lab.kubectl_path is None:
        raise launch.ClusterError("kubectl is not on PATH")
    lab.kubectl("get", "pods", "-o", "name")  # fill the discovery cache
    pairs = []
    for _ in range(10):
        began = time.monotonic()
        lab.kubectl("get", "pods", "pod-that-is-not-there", "--ignore-not-found")
        asked = time.monotonic()
        lab.kubectl("version", "--client")
        pairs.append(((asked - began) - (time.monotonic() - asked)) * 1000)
    return median(pairs)
