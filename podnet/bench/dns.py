"""Cluster DNS: under load, next to a bare receive-look up-send loop in the same run; and in a booted cluster, from a Service
that is created to the first lookup that finds it, at the right address.
"""

from __future__ import annotations

import asyncio
import functools
import sys
import time
from collections.abc import Iterator

from podnet.bench.clusters import bench_cluster, in_background
from podnet.bench.rows import BenchError, Row, Settings, attempt, median, percentile
from podnet.client_session import admin_client
from podnet.controlplane.api.resources import SERVICES
from podnet.dns.addon import NAMESPACE, SERVICE
from podnet.lab.session import LabSession

ROUNDS = 100
BETWEEN_S = 0.05
TIMEOUT_S = 60.0
CHANGE = "create of a Service sent to its name answered, in a cluster"

# Runs on a node: asks for one name after the other until it is there, and prints when that was. The clock is the machine's.
_PROBE = """
import socket, sys, time
end = time.monotonic() + float(sys.argv[1])
server, *names = sys.argv[2:]
for name in names:
    labels = b"".join(bytes((len(each),)) + each.encode() for each in name.split("."))
    question = bytes((0, 1, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0)) + labels + bytes((0, 0, 1, 0, 1))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.connect((server, 53))
        sock.settimeout(1.0)
        found = False
        while not found:
            if time.monotonic() > end:
                sys.exit(f"{name} was not answered in time")
            sock.send(question)
            try:
                answer = sock.recv(4096)
                found = answer[7] > 0
            except TimeoutError:
                continue
            if not found:
                time.sleep(0.0005)
    print(time.monotonic(), socket.inet_ntoa(answer[-4:]), flush=True)
"""


def dns_rows(settings: Settings) -> Iterator[Row]:
    """The room `dns` measures its server; what is added here needs a cluster."""
    yield from attempt("dns", "a server under load", functools.partial(_server_rows, settings))
    yield from attempt("dns", CHANGE, functools.partial(_change_rows, settings))


def _server_rows(settings: Settings) -> Iterator[Row]:
    from podnet.dns.bench import SIZES, measure

    for m in measure(settings.sizes or SIZES, note=lambda text: settings.note(f"dns: {text}")):
        known = m.reference_value is not None
        yield Row(
            "dns", m.name, m.value, m.unit, m.budget, m.at_most, m.reference, m.reference_value, known, m.error
        )  # fmt: skip


def _change_rows(settings: Settings) -> Iterator[Row]:
    """From a create as it is sent until kube-dns has the name, asked on a node through the Service. (The watch is faster than
    the API server's answer to the create: from that, there would often be nothing to measure.)"""
    settings.note("dns: booting a cluster")
    with bench_cluster() as lab:
        settings.note("dns: changes on a booted cluster")
        taken = measure_changes(lab)
    yield Row("dns", f"{CHANGE}, p50", median(taken), "ms")
    yield Row("dns", f"{CHANGE}, p99", percentile(taken, 0.99), "ms")


def measure_changes(lab: LabSession, rounds: int = ROUNDS) -> list[float]:
    """Milliseconds, one for each Service."""
    names = [f"change-{number}" for number in range(rounds)]
    server = str(lab.get("service", SERVICE, NAMESPACE)["spec"]["clusterIP"])
    wanted = [f"{name}.default.svc.{lab.spec.cluster_domain}" for name in names]

    def probe() -> list[tuple[float, str]]:
        words = (sys.executable, "-c", _PROBE, str(TIMEOUT_S), server, *wanted)
        result = lab.run_in("node/worker-1", *words, timeout_s=TIMEOUT_S + 15.0)
        answered = [(float(when), ip) for when, ip in (line.split() for line in result.stdout.splitlines())]
        if len(answered) != rounds:
            raise BenchError(f"{len(answered)} of {rounds} names were answered: {result.stderr.strip()}")
        return answered

    probing = in_background(probe, "dns-probe")
    created = asyncio.run(_create(lab, names))
    answered = probing.result(TIMEOUT_S + 30.0)
    if [ip for _, ip in answered] != [ip for _, ip in created]:
        raise BenchError("a name was answered with an address that is not its Service's")
    return [(there - sent) * 1000 for (sent, _), (there, _) in zip(created, answered, strict=True)]


async def _create(lab: LabSession, names: list[str]) -> list[tuple[float, str]]:
    """Create Services one by one; when each was sent, and its address."""
    created = []
    async with asyncio.timeout(TIMEOUT_S), admin_client(lab.directories) as client:
        for name in names:
            metadata = {"name": name, "namespace": "default"}
            body = {"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": {"ports": [{"port": 80}]}}
            sent = time.monotonic()
            made = await client.create(SERVICES, body)
            created.append((sent, str(made["spec"]["clusterIP"])))
            await asyncio.sleep(BETWEEN_S)
    return created
