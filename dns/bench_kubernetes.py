"""How fast cluster names are answered: the default cluster Corefile over a zone from memory, one core, asked by dnsperf.

The server runs in a process of its own on core 0, dnsperf on core 1, so that neither takes the other's time. Nothing is
faked but the API server: plugins, chain, sockets and fast path are those of a coredns pod.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import re
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

from podnet.dns import wire
from podnet.dns.addon import default_corefile
from podnet.dns.message import A_, query
from podnet.dns.plugins import kubernetes as plugin
from podnet.dns.records.edit import apply_changes, build_zone
from podnet.dns.records.types import Change, Options
from podnet.dns.records.zone import Zone

SECONDS = 3
NAMESPACES = 100
ENDPOINTS = 100
SERVER_CORE, LOAD_CORE = 0, 1
START_TIMEOUT_S = 30.0
PROBE_PAUSE_S = 0.002
OUTSTANDING = 100
"""dnsperf's own default: so many queries are under way at once."""


@dataclass(frozen=True, slots=True)
class NamesResult:
    """What dnsperf saw, and what the server's process weighed."""

    queries_per_s: float
    p50_ms: float
    p99_ms: float
    lost: int
    memory_mb: float


def cluster_changes(services: int) -> Iterator[Change]:
    """That many Services in a hundred namespaces, and a headless one with a hundred endpoints."""
    for number in range(NAMESPACES):
        name = f"ns{number}"
        yield Change("Namespace", "", name, {"metadata": {"name": name}})
    for number in range(services):
        yield service_change(number, f"10.{100 + (number >> 16)}.{number >> 8 & 255}.{number & 255}")
    metadata = {"name": "many", "namespace": "ns0"}
    yield Change(
        "Service", "ns0", "many", {"metadata": metadata, "spec": {"clusterIP": "None", "clusterIPs": ["None"]}}
    )
    endpoints = [{"addresses": [f"10.244.1.{number + 1}"]} for number in range(ENDPOINTS)]
    labels = {"kubernetes.io/service-name": "many"}
    body = {"metadata": {**metadata, "labels": labels}, "endpoints": endpoints, "ports": [{"name": "http", "port": 80}]}
    yield Change("EndpointSlice", "ns0", "many", body)


def service_change(number: int, address: str) -> Change:
    """One Service."""
    namespace, name = f"ns{number % NAMESPACES}", f"svc-{number}"
    spec = {"clusterIP": address, "clusterIPs": [address], "ports": [{"name": "http", "port": 80}]}
    return Change("Service", namespace, name, {"metadata": {"name": name, "namespace": namespace}, "spec": spec})


class _MemoryFeed:
    """A feed that has its zone already."""

    def __init__(self, zone: Zone) -> None:
        self._zone = zone

    async def start(self, _spawn: object, publish: Callable[[Zone, Zone | None], None], _timeout_s: float) -> None:
        publish(self._zone, None)

    async def stop(self) -> None:
        """Nothing to close."""


def _serve(services: int, connection: Connection) -> None:
    from podnet.dns.server import Server

    os.sched_setaffinity(0, {SERVER_CORE})
    options = Options(pods="insecure", ttl_s=30)
    zone = build_zone(options, cluster_changes(services), 1)
    # The API server is the one thing that is not there.
    setattr(plugin, "ApiFeed", lambda _options, _environ: _MemoryFeed(zone))  # noqa: B010 - mypy forbids the other way
    # Ports that a second server on this machine may have are left out; so is `loop`, which asks for itself.
    lines = default_corefile().replace(".:53 ", ". ").splitlines()
    left_out = ("health", "lameduck", "ready", "prometheus", "loop", "reload", "forward", "max_concurrent")
    text = "\n".join([*lines[:1], "    bind 127.0.0.1", *_without(lines[1:], left_out)])

    async def run() -> None:
        server = Server(text=text, environ={}, port=0)
        task = asyncio.ensure_future(server.run())
        waiting = asyncio.ensure_future(server.started.wait())
        await asyncio.wait((task, waiting), return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            task.result()
        connection.send(server.addresses[0][1])
        await task

    asyncio.run(run())


def _without(lines: list[str], names: tuple[str, ...]) -> list[str]:
    """The lines of a block without some directives and their own blocks."""
    kept, inside = [], False
    for line in lines:
        word = line.split()[0] if line.split() else ""
        if inside:
            inside = word != "}"
        elif word in names:
            inside = line.rstrip().endswith("{")
        else:
            kept.append(line)
    return kept


@contextmanager
def _running(services: int) -> Iterator[tuple[int, int]]:
    """(port, pid) of a server in a process of its own."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_serve, args=(services, theirs), daemon=True)
    process.start()
    theirs.close()
    try:
        if not ours.poll(START_TIMEOUT_S):
            raise TimeoutError("the server does not start")
        yield ours.recv(), process.pid or 0
    finally:
        process.terminate()
        process.join()


def bench_names(services: int, questions: list[str], *, seconds: int = SECONDS, edns: bool = False) -> NamesResult:
    """Ask for `questions` (`name TYPE`) round and round, as fast as they are answered; a client of its own asks one
    query after the other meanwhile and takes the times."""
    with _running(services) as (port, pid):
        return measure_load(port, pid, questions, seconds=seconds, edns=edns)


def measure_load(
    port: int, pid: int, questions: list[str], *, seconds: int = SECONDS, edns: bool = False
) -> NamesResult:
    """The same for any server on loopback; the first name is the one whose round trips are timed. `edns`: the client takes
    long answers over UDP."""
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory, "questions")
        path.write_text("\n".join(questions) + "\n", encoding="ascii")
        load = ["taskset", "-c", str(LOAD_CORE), "dnsperf", "-s", "127.0.0.1", "-p", str(port), "-d", str(path)]
        load += ["-q", str(OUTSTANDING), *(["-e"] if edns else []), "-l"]
        subprocess.run([*load, "1"], check=True, capture_output=True, timeout=60)
        with subprocess.Popen([*load, str(seconds)], stdout=subprocess.PIPE, text=True) as process:
            times = _round_trips(port, questions[0].split()[0], seconds)
            text, _ = process.communicate(timeout=60)
    rate = float(_figure(r"Queries per second:\s+([\d.]+)", text))
    lost = int(_figure(r"Queries lost:\s+(\d+)", text))
    return NamesResult(rate, _percentile(times, 0.5), _percentile(times, 0.99), lost, _memory_mb(pid))


def _round_trips(port: int, name: str, seconds: float) -> list[float]:
    """Milliseconds of queries asked one by one."""
    question = wire.encode(query(name, A_, id_=1))
    times = []
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.connect(("127.0.0.1", port))
        sock.settimeout(1.0)
        end = time.monotonic() + seconds - 0.2
        while time.monotonic() < end:
            began = time.perf_counter()
            sock.send(question)
            try:
                sock.recv(65535)
            except TimeoutError:
                pass  # counted as it was felt
            times.append((time.perf_counter() - began) * 1000)
            time.sleep(PROBE_PAUSE_S)
    return times


def _figure(pattern: str, text: str) -> str:
    found = re.search(pattern, text)
    if found is None:
        raise ValueError(f"dnsperf says nothing of {pattern}")
    return found[1]


def _percentile(values: list[float], share: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else 0.0


def _memory_mb(pid: int) -> float:
    text = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii")
    return sum(int(size) for size in re.findall(r"^Private_\w+:\s+(\d+) kB$", text, re.MULTILINE)) / 1024


def bench_change(services: int, *, rounds: int = 200) -> float:
    """Milliseconds from a changed Service to the zone that answers with it (the median)."""
    zone = build_zone(Options(), cluster_changes(services), 1)
    taken = []
    for number in range(rounds):
        change = service_change(number, f"10.200.{number >> 8}.{number & 255}")
        began = time.perf_counter()
        zone = apply_changes(zone, [change], number)
        answer = zone.lookup((change.name, change.namespace, "svc"), A_)
        taken.append((time.perf_counter() - began) * 1000)
        assert answer.records[0].value.startswith("10.200.")
    return sorted(taken)[len(taken) // 2]


HEADLESS = f"headless, {ENDPOINTS} endpoints"
"""Asked with EDNS: without it a hundred addresses would be cut to what 512 bytes hold."""


def questions_of(services: int) -> dict[str, list[str]]:
    """The query mixes by name."""
    names = [f"svc-{number}.ns{number % NAMESPACES}.svc.cluster.local A" for number in range(services)]
    return {
        "cluster names": names,
        HEADLESS: ["many.ns0.svc.cluster.local A"],
        "NXDOMAIN": [f"www.example{number}.com.ns0.svc.cluster.local A" for number in range(1000)],
    }


def main() -> None:
    """`python -m podnet.dns.bench_kubernetes`: all mixes with 100 and with 10,000 Services."""
    for services in (100, 10_000):
        for mix, questions in questions_of(services).items():
            got = bench_names(services, questions, edns=mix == HEADLESS)
            print(
                f"{services:>6} Services  {mix:<24} {got.queries_per_s:>9.0f}/s  p50 {got.p50_ms:.2f} ms"
                f"  p99 {got.p99_ms:.2f} ms  lost {got.lost}  {got.memory_mb:.0f} MB"
            )
        print(f"{services:>6} Services  change to answer         {bench_change(services):>9.3f} ms")


if __name__ == "__main__":
    main()
