"""What a Service costs beside its endpoint: throughput of one TCP stream, and the time of a request, from a pod to one on
another node.

Both ways are gone turn and turn about, and every second time the other one first: the figures compared stood side by side
on the same machine.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from podnet.bench import iperf
from podnet.bench.clusters import apply, pod
from podnet.bench.programs import missing_programs
from podnet.bench.rows import BenchError, Row, median, median_ratio
from podnet.lab.session import LabSession

ROUNDS = 7
REQUESTS = 300
BUDGET_RATIO = 0.95
ANSWER_PORT = 18080
CLIENT, SERVER = "bench-client", "bench-server"

_ANSWER = f"""
import socket
with socket.create_server(("", {ANSWER_PORT}), backlog=512) as door:
    while True:
        with door.accept()[0] as connection:
            try:
                if connection.recv(16):
                    connection.sendall(b"x")
            except OSError:
                pass
"""

_SERVICE = f"""---
apiVersion: v1
kind: Service
metadata: {{name: {SERVER}}}
spec:
  selector: {{app: {SERVER}}}
  ports:
  - {{name: answer, port: {ANSWER_PORT}}}
  - {{name: iperf, port: {iperf.PORT}}}
"""

# Microseconds of one request to each place, from connect to the answer; a connection each, so that rules are asked each time.
_REQUESTS = """
import socket, sys, time
count, port, *places = sys.argv[1:]
for number in range(int(count)):
    taken = {}
    for place in places if number % 2 else reversed(places):
        started = time.perf_counter()
        with socket.create_connection((place, int(port)), timeout=5.0) as connection:
            connection.sendall(b"?")
            if connection.recv(16) != b"x":
                sys.exit(f"{place} gave a wrong answer")
        taken[place] = (time.perf_counter() - started) * 1e6
    print(*(taken[place] for place in places))
"""


@dataclass(frozen=True, slots=True)
class Place:
    """Where the requests go: the Service, and its one endpoint."""

    service_ip: str
    server_ip: str


def prepare(lab: LabSession) -> Place:
    """Two pods on two nodes and a Service; back when it answers."""
    containers = {"answer": ["python3", "-c", _ANSWER]}
    if not missing_programs("iperf3"):
        containers["iperf"] = ["iperf3", "-s"]
    apply(
        lab, pod(CLIENT, "worker-1", {"main": ["sleep", "infinity"]}) + pod(SERVER, "worker-2", containers) + _SERVICE
    )
    for name in (CLIENT, SERVER):
        lab.wait_ready("pod", name)
    place = Place(str(lab.get("service", SERVER)["spec"]["clusterIP"]), lab.pod_ip(SERVER))
    lab.wait_until(lambda: _ask(lab, place, 1)[1] == 0, "the Service answers")
    if "iperf" in containers:
        iperf.wait_serves(lab, f"pod/{SERVER}")
    return place


def latency_rows(lab: LabSession, place: Place, mode: str, requests: int = REQUESTS) -> Iterator[Row]:
    """A connection, a byte there and a byte back."""
    text, exit_code, said = _ask(lab, place, requests)
    pairs = [line.split() for line in text.splitlines()]
    if exit_code or len(pairs) != requests:
        raise BenchError(f"requests to the Service failed: {said.strip() or exit_code}")
    through, direct = ([float(pair[side]) for pair in pairs] for side in (0, 1))
    name = f"connect and one answer through a Service, {mode}, median of {requests}"
    yield Row("services", name, median(through), "us", None, True, "direct to the pod", median(direct), True)


def _ask(lab: LabSession, place: Place, requests: int) -> tuple[str, int, str]:
    words = ("python3", "-c", _REQUESTS, str(requests), str(ANSWER_PORT), place.service_ip, place.server_ip)
    result = lab.run_in(f"pod/{CLIENT}", *words)
    return result.stdout, result.exit_code, result.stderr


def throughput_rows(lab: LabSession, place: Place, mode: str, rounds: int = ROUNDS) -> Iterator[Row]:
    """Gb/s of one stream, and what is compared with the budget: the median of the ratios of neighbouring runs."""
    through: list[float] = []
    direct: list[float] = []
    for number in range(rounds):
        runs = [(place.service_ip, through), (place.server_ip, direct)]
        for address, figures in runs if number % 2 else reversed(runs):
            figures.append(iperf.through(lab, f"pod/{CLIENT}", address))
    name = f"TCP through a Service to another node, {mode}"
    reference = "direct to the pod"
    yield Row("services", name, median(through), "Gb/s", None, False, reference, median(direct), True)
    name = f"Service / direct throughput, {mode}, median of {rounds} pairs"
    yield Row("services", name, median_ratio(through, direct), "", BUDGET_RATIO, False, "direct", 1.0, True)
