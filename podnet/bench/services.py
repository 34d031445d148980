"""Services: rules at the kernel in both modes (`proxy/bench.py`), and in a booted cluster, from an endpoint that the API server
accepted to the first connection on every node that reaches it; and what a Service costs beside its endpoint.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
import os
import sys
import threading
import time
from typing import NoReturn

from podnet import room
from podnet.bench.clusters import bench_cluster
from podnet.bench.rows import Row, median
from podnet.client_session import admin_client
from podnet.controlplane.api.resources import ENDPOINTSLICES, SERVICES
from podnet.lab.session import LabSession
from podnet.launch import ClusterError

GROUP = "services"
CHANGES = 100
BETWEEN_S = 0.05
BUDGET_P99_MS = 250.0
PORT = 18080
REQUESTS = 300
TIMEOUT_S = 60.0

# Runs on the node that serves: a line for every connection, until its input ends.
_SERVER = """
import socket, threading
def serve():
    with socket.create_server(("", PORT), backlog=512) as door:
        while True:
            with door.accept()[0] as connection:
                if connection.recv(16):
                    connection.sendall(b"x")
threading.Thread(target=serve, daemon=True).start()
import time
time.sleep(SECONDS)
"""

# Runs on every node: connects to one address after the other until it answers, and prints when that was. A short timeout: the
# kernel sends refusals to one place about once a second only, and what is not refused would wait for a second SYN.
_PROBE = """
import socket, sys, time
end = time.monotonic() + float(sys.argv[1])
for address in sys.argv[2:]:
    while time.monotonic() < end:
        try:
            with socket.create_connection((address, 80), timeout=0.02):
                break
        except OSError:
            time.sleep(0.0005)
    print(time.monotonic(), flush=True)
"""

# Turn and turn about, so that both meet the same machine: microseconds of one request, first to the Service, then direct.
_REQUESTS = """
import socket, sys, time
count, *places = sys.argv[1:]
for _ in range(int(count)):
    for place in places:
        ip, port = place.rsplit(":", 1)
        started = time.perf_counter()
        with socket.create_connection((ip, int(port)), timeout=5.0) as connection:
            connection.sendall(b"?")
            connection.recv(16)
        print((time.perf_counter() - started) * 1e6, end=" ")
    print()
"""


def services_rows() -> list[Row]:
    """All rows; the cluster comes after the kernel, so that neither disturbs the other."""
    return [*_kernel_rows(), *_cluster_rows()]


def _kernel_rows() -> list[Row]:
    """Measured in a room of their own, where an ordinary user may make namespaces, too."""
    read_fd, write_fd = os.pipe()

    def main() -> NoReturn:
        from podnet.proxy.bench import measure

        os.close(read_fd)
        with os.fdopen(write_fd, "w") as out:
            for found in measure():
                print(json.dumps(dataclasses.asdict(found)), file=out, flush=True)
        os._exit(0)

    pid = room.start_room(main, "bench-services")
    start = room.process_start_time(pid)
    os.close(write_fd)
    try:
        with os.fdopen(read_fd) as lines:
            found = [json.loads(line) for line in lines]
    finally:
        room.kill_room(pid, start)
    return [Row(GROUP, **each, reference_measured=each["reference_value"] is not None) for each in found]


def _cluster_rows() -> list[Row]:
    with bench_cluster() as lab:
        taken, requests = measure_changes(lab)
    through, direct = ([pair[side] for pair in requests] for side in (0, 1))
    name = f"endpoint accepted to served on every node, {CHANGES} Services"
    return [
        Row(GROUP, f"{name}, p50", median(taken), "ms"),
        Row(GROUP, f"{name}, p99", sorted(taken)[int(len(taken) * 0.99) - 1], "ms", BUDGET_P99_MS),
        Row(GROUP, "request to a Service on another node", median(through), "us", None, True, "direct",
            median(direct), True),
    ]  # fmt: skip


def measure_changes(lab: LabSession) -> tuple[list[float], list[tuple[float, float]]]:
    """Milliseconds of each change until the slowest node had it, and microseconds of requests (Service, direct)."""
    nodes = [node["metadata"]["name"] for node in lab.list("nodes", "")]
    server, client = [name for name in nodes if "worker" in name][:2]
    status = lab.get("node", server, "")["status"]
    ip = next(each["address"] for each in status["addresses"] if each["type"] == "InternalIP")
    addresses = asyncio.run(_create_services(lab))
    script = _SERVER.replace("PORT", str(PORT)).replace("SECONDS", str(TIMEOUT_S))
    answers: dict[str, list[float]] = {}

    def serve() -> None:
        with contextlib.suppress(ClusterError):  # it ends with its cluster
            lab.run_in(
                f"node/{server}", "timeout", str(TIMEOUT_S), sys.executable, "-c", script, timeout_s=TIMEOUT_S + 5
            )

    def probe(name: str) -> None:
        argv = (sys.executable, "-c", _PROBE, str(TIMEOUT_S), *addresses)
        answers[name] = [float(line) for line in lab.run_in(f"node/{name}", *argv, timeout_s=90.0).stdout.split()]

    threading.Thread(target=serve, name="server", daemon=True).start()
    probes = [threading.Thread(target=probe, args=(name,), name=f"probe {name}") for name in nodes]
    for thread in probes:
        thread.start()
    try:
        accepted = asyncio.run(_give_endpoints(lab, ip))
    finally:
        for thread in probes:
            thread.join()
    if any(len(found) != CHANGES for found in answers.values()):
        raise RuntimeError("a node did not reach every Service in time")
    slowest = [max(found[number] for found in answers.values()) for number in range(CHANGES)]
    places = (f"{addresses[0]}:80", f"{ip}:{PORT}")
    text = lab.run_in(f"node/{client}", sys.executable, "-c", _REQUESTS, str(REQUESTS), *places).stdout
    pairs = [(float(first), float(second)) for first, second in (line.split() for line in text.splitlines())]
    # The watch may be faster than the client's own round trip.
    return [max(0.0, (there - made) * 1000) for made, there in zip(accepted, slowest, strict=True)], pairs


async def _create_services(lab: LabSession) -> list[str]:
    """Services without endpoints; their addresses."""
    addresses = []
    async with admin_client(lab.directories) as client:
        for number in range(CHANGES):
            meta = {"name": f"change-{number}", "namespace": "default"}
            body = {"apiVersion": "v1", "kind": "Service", "metadata": meta, "spec": {"ports": [{"port": 80}]}}
            addresses.append(str((await client.create(SERVICES, body))["spec"]["clusterIP"]))
    return addresses


async def _give_endpoints(lab: LabSession, ip: str) -> list[float]:
    """One slice after the other; when each was accepted."""
    accepted = []
    async with admin_client(lab.directories) as client:
        for number in range(CHANGES):
            name = f"change-{number}"
            meta = {"name": name, "namespace": "default", "labels": {"kubernetes.io/service-name": name}}
            body = {
                "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "metadata": meta, "addressType": "IPv4",
                "ports": [{"port": PORT, "protocol": "TCP"}], "endpoints": [{"addresses": [ip]}],
            }  # fmt: skip
            await client.create(ENDPOINTSLICES, body)
            accepted.append(time.monotonic())
            await asyncio.sleep(BETWEEN_S)
    return accepted
