"""Cluster DNS: under load, next to a bare receive-look up-send loop in the same run; and in a booted cluster, from a Service
that was created to the first lookup that finds it.
"""

from __future__ import annotations

import asyncio
import shutil
import sys
import threading
import time

from podnet.bench.clusters import bench_cluster
from podnet.bench.rows import Row, median
from podnet.client_session import admin_client
from podnet.controlplane.api.resources import SERVICES
from podnet.dns.addon import NAMESPACE, SERVICE
from podnet.lab.session import LabSession

ROUNDS = 40
BETWEEN_S = 0.05

# Runs on a node: asks for one name after the other until it is there, and prints when that was. The clock is the machine's.
_PROBE = """
import socket, sys, time
server, *names = sys.argv[1:]
for name in names:
    labels = b"".join(bytes((len(each),)) + each.encode() for each in name.split("."))
    question = bytes((0, 1, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0)) + labels + bytes((0, 0, 1, 0, 1))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.connect((server, 53))
        sock.settimeout(1.0)
        found = False
        while not found:
            sock.send(question)
            try:
                found = sock.recv(4096)[7] > 0
            except TimeoutError:
                continue
            if not found:
                time.sleep(0.0005)
    print(time.monotonic(), flush=True)
"""


def dns_rows() -> list[Row]:
    """The room `dns` measures its server; what is added here needs a cluster."""
    from podnet.dns.bench import measure

    rows = [
        Row(
            "dns",
            m.name,
            m.value,
            m.unit,
            m.budget,
            m.at_most,
            m.reference,
            m.reference_value,
            m.reference_value is not None,
            m.error,
        )
        for m in measure()
    ]
    return [*rows, *_change_rows()]


def _change_rows() -> list[Row]:
    """From the API server's answer to a create until kube-dns has the name, asked on a node through the Service."""
    name = "Service created to its name answered, in a cluster"
    if shutil.which("kubectl") is None:
        return [Row("dns", name, None, "ms", error="kubectl is not on PATH")]
    with bench_cluster() as lab:
        taken = sorted(measure_changes(lab))
    return [
        Row("dns", f"{name}, median", median(taken), "ms"),
        Row("dns", f"{name}, slowest of {len(taken)}", taken[-1], "ms"),
    ]


def measure_changes(lab: LabSession, rounds: int = ROUNDS) -> list[float]:
    """Milliseconds, one for each Service."""
    names = [f"change-{number}" for number in range(rounds)]
    server = str(lab.get("service", SERVICE, NAMESPACE)["spec"]["clusterIP"])
    domain = lab.spec.cluster_domain
    wanted = [f"{name}.default.svc.{domain}" for name in names]
    answered: list[float] = []

    def probe() -> None:
        result = lab.run_in("node/worker-1", sys.executable, "-c", _PROBE, server, *wanted, timeout_s=120.0)
        answered.extend(float(line) for line in result.stdout.split())

    thread = threading.Thread(target=probe, name="dns-probe")
    thread.start()
    try:
        created = asyncio.run(_create(lab, names))
    finally:
        thread.join()
    if len(answered) != rounds:
        raise RuntimeError(f"{len(answered)} of {rounds} names were answered")
    # An answer may come before the create has: the watch is faster than the client's own round trip.
    return [max(0.0, (there - made) * 1000) for made, there in zip(created, answered, strict=True)]


async def _create(lab: LabSession, names: list[str]) -> list[float]:
    """Create Services one by one; when each was accepted."""
    created = []
    async with admin_client(lab.directories) as client:
        for name in names:
            spec = {"ports": [{"port": 80}]}
            metadata = {"name": name, "namespace": "default"}
            await client.create(SERVICES, {"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": spec})
            created.append(time.monotonic())
            await asyncio.sleep(BETWEEN_S)
    return created
