"""The DNS rows of `podnet bench`: queries a second and their times, beside a bare loop in the same run.

`measure` runs every server in a process of its own on one core and dnsperf (Debian's) on the other. The reference is what
Python can do at most without a batch system call: receive, look up in a dictionary, send.
"""

from __future__ import annotations

import os
import shutil
import socket
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection

from podnet.dns.bench_kubernetes import CLUSTER_NAMES, EXTERNAL_NAMES, OUTSIDE, bench_change, mixes, serve_cluster
from podnet.dns.bench_load import SECONDS, Asked, LoadResult, Mix, measure_load, running

SIZES = (100, 10_000)
BUDGET_QUERIES_PER_S = 45_000.0
BUDGET_P99_MS = 10.0
BARE = "bare receive, look up, send"


@dataclass(frozen=True, slots=True)
class Measurement:
    """One figure, its budget, and its reference where that could be measured. `error` says why there is no figure."""

    name: str
    value: float | None
    unit: str
    budget: float | None = None
    at_most: bool = True
    reference: str = ""
    reference_value: float | None = None
    error: str = ""


def measure(
    sizes: Sequence[int] = SIZES, *, seconds: float = SECONDS, note: Callable[[str], None] = lambda _text: None
) -> Iterator[Measurement]:
    """All rows; one with a reason where dnsperf is not installed or there is only one core. `note` is told what is under
    way."""
    missing = _missing()
    if missing:
        yield Measurement("queries a second", None, "/s", BUDGET_QUERIES_PER_S, at_most=False, error=missing)
    else:
        note("a bare loop, for comparison")
        bare = _bare(seconds)
        for size in sizes:
            yield from _load_rows(size, bare, seconds, note)
    for size in sizes:
        note(f"changes, {size} Services")
        yield Measurement(f"{size} Services: change to answer in the zone, median", bench_change(size), "ms")


def _missing() -> str:
    absent = [name for name in ("dnsperf", "taskset") if shutil.which(name) is None]
    if absent:
        packages = {"dnsperf": "dnsperf", "taskset": "util-linux"}
        return f"not installed: {', '.join(absent)} (sudo apt install {' '.join(packages[name] for name in absent)})"
    if len(os.sched_getaffinity(0)) < 2:
        return "load and server need a core each, there is one"
    return ""


def _load_rows(size: int, bare: float, seconds: float, note: Callable[[str], None]) -> Iterator[Measurement]:
    """Every mix against one server, which lives as long as they do."""
    amiss = 0
    note(f"a server with {size} Services")
    with running(serve_cluster, size) as (port, pid):
        for mix in mixes(size):
            note(f"{size} Services, {mix.name}")
            got = measure_load(port, pid, mix, seconds=seconds)
            amiss += got.amiss
            yield from rows_of(f"{size} Services: {mix.name}", got, bare, has_budget=mix.name == CLUSTER_NAMES)
        yield Measurement(f"{size} Services: unique memory of the server after all that", got.memory_mb, "MB")
    yield Measurement(f"{size} Services: queries lost or answered amiss", float(amiss), "", 0.0)


def rows_of(name: str, got: LoadResult, bare: float, *, has_budget: bool) -> Iterator[Measurement]:
    """The three figures of one mix."""
    rate = BUDGET_QUERIES_PER_S if has_budget else None
    yield Measurement(f"{name}, one core", got.queries_per_s, "/s", rate, False, BARE, bare)
    yield Measurement(f"{name}, p50 under full load", got.p50_ms, "ms")
    yield Measurement(f"{name}, p99 under full load", got.p99_ms, "ms", BUDGET_P99_MS if has_budget else None)


def _bare(seconds: float) -> float:
    """Queries a second of the bare loop."""
    asked = tuple(Asked(f"www{number}.example.com", frozenset((OUTSIDE,))) for number in range(EXTERNAL_NAMES))
    with running(_serve_bare) as (port, pid):
        return measure_load(port, pid, Mix("bare", asked), seconds=seconds).queries_per_s


def _serve_bare(connection: Connection) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        connection.send(sock.getsockname()[1])
        answers: dict[bytes, bytes] = {}
        while True:
            data, peer = sock.recvfrom(4096)
            question = data[12:]
            answer = answers.get(question)
            if answer is None:
                record = b"\xc0\x0c\0\1\0\1\0\0\0\x1e\0\4\xc0\0\2\1"
                answer = answers[question] = b"\x85\0\0\1\0\1\0\0\0\0" + question + record
            sock.sendto(data[:2] + answer, peer)


def main() -> None:
    """`python -m podnet.dns.bench`: print the rows."""
    for row in measure():
        figure = row.error or f"{row.value:,.2f} {row.unit}"
        reference = f"   {row.reference}: {row.reference_value:,.0f}" if row.reference_value else ""
        print(f"{row.name:<70} {figure:>16}{reference}", flush=True)


if __name__ == "__main__":
    main()
