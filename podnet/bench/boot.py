"""How long until a cluster is up and runs a Deployment, how long until it is down, and what a SIGKILL leaves."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

from podnet import room
from podnet.bench.clusters import apply, bench_cluster, deployment, fresh_name, podnet
from podnet.bench.rows import BenchError, Row, Settings, median
from podnet.directories import cluster_directories
from podnet.lab.session import LabSession

RUNS = 3
SERVICE = """
---
apiVersion: v1
kind: Service
metadata: {name: app}
spec:
  selector: {app: app}
  ports: [{port: 80}]
"""


def boot_rows(settings: Settings) -> Iterator[Row]:
    """Whole-process figures, of `podnet up` and `podnet down` as a user types them."""
    ups, running, downs = [], [], []
    for number in range(RUNS):
        settings.note(f"boot: run {number + 1} of {RUNS}")
        name = fresh_name()
        began = time.monotonic()
        with bench_cluster(name, started=True) as lab:
            podnet("up", "-c", name)
            ups.append(time.monotonic() - began)
            apply(lab, deployment("app", 1, "busybox") + SERVICE)
            lab.wait_ready("deployment", "app")
            _wait_resolves(lab)
            running.append(time.monotonic() - began)
            began = time.monotonic()
            podnet("down", "-c", name)
            downs.append(time.monotonic() - began)
    published = "k3d 19.9 s; kind 33.0, minikube 50.8"
    yield Row("boot", "podnet up, default cluster, to Ready", median(ups), "s")
    name = "podnet up to a Deployment that runs and resolves its name"
    yield Row("boot", name, median(running), "s", 5.0, True, published, 19.94)
    yield Row("boot", "podnet down", median(downs), "s", 1.0)
    settings.note("boot: SIGKILL of PID 1")
    left = _left_after_sigkill()
    yield Row("boot", "processes and interfaces left after SIGKILL of PID 1", float(left), "", 0.0)


def _wait_resolves(lab: LabSession) -> None:
    target = f"pod/{lab.list('pods', selector='app=app')[0]['metadata']['name']}"
    name = "app.default.svc.cluster.local"
    lab.wait_until(lambda: lab.run_in(target, "getent", "hosts", name).exit_code == 0, "DNS answers")


def _left_after_sigkill() -> int:
    name = fresh_name()
    with bench_cluster(name):
        record = cluster_directories(name).record()
        if record is None:
            raise BenchError("the cluster wrote no record")
        before = set(os.listdir("/sys/class/net"))
        namespace = os.stat(f"/proc/{record.pid}/ns/pid").st_ino
        room.kill_room(record.pid, record.start_time)
        deadline = time.monotonic() + 5
        while (left := _processes_in(namespace)) and time.monotonic() < deadline:
            time.sleep(0.01)
        return len(left) + len(set(os.listdir("/sys/class/net")) - before)


def _processes_in(namespace: int) -> list[str]:
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                if os.stat(entry / "ns" / "pid").st_ino == namespace:
                    found.append(entry.name)
            except OSError:
                continue
    return found
