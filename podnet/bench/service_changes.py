"""From an endpoint that the API server accepted to the first connection on every node that reaches it.

    bench ──create EndpointSlice N──▶ API server ──watch──▶ kube-proxy of each node ──▶ rules
    probe on each node: connects to Service N until it answers, notes when, goes on to N + 1

All read the machine's one monotonic clock.
"""

from __future__ import annotations

import asyncio
import functools
import sys
import time
from collections.abc import Iterator

from podnet.bench.clusters import in_background
from podnet.bench.rows import BenchError, Row, median, percentile
from podnet.bench.service_paths import ANSWER_PORT
from podnet.client_session import admin_client
from podnet.controlplane.api.resources import ENDPOINTSLICES, SERVICES
from podnet.lab.session import LabSession

CHANGES = 100
BETWEEN_S = 0.05
BUDGET_P99_MS = 250.0
TIMEOUT_S = 60.0
_MARGIN_S = 15.0

# Runs on every node: connects to one address after the other until it answers, and prints when that was. A short timeout: the
# kernel sends refusals to one place about once a second only, and what is not refused would wait for a second SYN.
_PROBE = """
import socket, sys, time
end = time.monotonic() + float(sys.argv[1])
for address in sys.argv[2:]:
    while True:
        if time.monotonic() > end:
            sys.exit(f"{address} did not answer in time")
        try:
            with socket.create_connection((address, 80), timeout=0.02):
                break
        except OSError:
            time.sleep(0.0005)
    print(time.monotonic(), flush=True)
"""


def change_rows(lab: LabSession, ip: str, mode: str, count: int = CHANGES) -> Iterator[Row]:
    """p50 and p99 of that many changes."""
    taken = measure_changes(lab, ip, mode, count)
    name = f"endpoint change to served on every node, {count} Services, {mode}"
    yield Row("services", f"{name}, p50", median(taken), "ms")
    yield Row("services", f"{name}, p99", percentile(taken, 0.99), "ms", BUDGET_P99_MS)


def measure_changes(lab: LabSession, ip: str, prefix: str, count: int) -> list[float]:
    """Milliseconds of each change until the slowest node had it. The Services are gone afterwards."""
    nodes = [node.name for node in lab.spec.nodes]
    addresses = asyncio.run(_create_services(lab, prefix, count))
    probes = [in_background(functools.partial(_probe, lab, node, addresses), f"probe {node}") for node in nodes]
    accepted = asyncio.run(_give_endpoints(lab, prefix, ip, count))
    answers = [probe.result(TIMEOUT_S + _MARGIN_S) for probe in probes]
    asyncio.run(_delete(lab, prefix, count))
    slowest = [max(found[number] for found in answers) for number in range(count)]
    # The watch may be faster than the client's own round trip.
    return [max(0.0, (there - made) * 1000) for made, there in zip(accepted, slowest, strict=True)]


def _probe(lab: LabSession, node: str, addresses: list[str]) -> list[float]:
    """When each address answered on a node."""
    argv = (sys.executable, "-c", _PROBE, str(TIMEOUT_S), *addresses)
    result = lab.run_in(f"node/{node}", *argv, timeout_s=TIMEOUT_S + _MARGIN_S)
    found = [float(line) for line in result.stdout.split()]
    if len(found) != len(addresses):
        raise BenchError(f"{node}: {result.stderr.strip() or 'the probe died'}")
    return found


def _name(prefix: str, number: int) -> str:
    return f"change-{prefix}-{number}"


async def _create_services(lab: LabSession, prefix: str, count: int) -> list[str]:
    """Services without endpoints; their addresses."""
    addresses = []
    async with asyncio.timeout(TIMEOUT_S), admin_client(lab.directories) as client:
        for number in range(count):
            meta = {"name": _name(prefix, number), "namespace": "default"}
            body = {"apiVersion": "v1", "kind": "Service", "metadata": meta, "spec": {"ports": [{"port": 80}]}}
            addresses.append(str((await client.create(SERVICES, body))["spec"]["clusterIP"]))
    return addresses


async def _give_endpoints(lab: LabSession, prefix: str, ip: str, count: int) -> list[float]:
    """One slice after the other; when each was accepted."""
    accepted = []
    async with asyncio.timeout(TIMEOUT_S), admin_client(lab.directories) as client:
        for number in range(count):
            name = _name(prefix, number)
            meta = {"name": name, "namespace": "default", "labels": {"kubernetes.io/service-name": name}}
            body = {
                "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "metadata": meta, "addressType": "IPv4",
                "ports": [{"port": ANSWER_PORT, "protocol": "TCP"}], "endpoints": [{"addresses": [ip]}],
            }  # fmt: skip
            await client.create(ENDPOINTSLICES, body)
            accepted.append(time.monotonic())
            await asyncio.sleep(BETWEEN_S)
    return accepted


async def _delete(lab: LabSession, prefix: str, count: int) -> None:
    async with asyncio.timeout(TIMEOUT_S), admin_client(lab.directories) as client:
        for number in range(count):
            for resource in (ENDPOINTSLICES, SERVICES):
                await client.delete(resource, _name(prefix, number), "default")
