"""The DNS rows of `podnet bench`: queries a second and their times, beside a bare loop in the same run.

`measure` runs every server in a process of its own on one core and dnsperf (Debian's) on the other. The reference is what
Python can do at most without a batch system call: receive, look up in a dictionary, send.
"""

from __future__ import annotations

import multiprocessing
import os
import shutil
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

from podnet.dns.bench_kubernetes import (
    HEADLESS,
    SERVER_CORE,
    START_TIMEOUT_S,
    bench_change,
    bench_names,
    measure_load,
    questions_of,
)

EXTERNAL_NAMES = 1000
SIZES = (100, 10_000)
BUDGET_QUERIES_PER_S = 45_000.0
BUDGET_P99_MS = 10.0


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
    measured: bool = False
    error: str = ""


def measure() -> list[Measurement]:
    """All rows; one with a reason where dnsperf is not installed or there is only one core."""
    missing = _missing()
    if missing:
        return [Measurement("queries a second", None, "/s", BUDGET_QUERIES_PER_S, at_most=False, error=missing)]
    bare = _bare()
    rows = [*_cluster_names(bare), *_external(bare)]
    rows += [Measurement(f"{size} Services: change to answer in the zone", bench_change(size), "ms") for size in SIZES]
    return rows


def _missing() -> str:
    if shutil.which("dnsperf") is None:
        return "dnsperf is not installed (apt-get install dnsperf)"
    if len(os.sched_getaffinity(0)) < 2:
        return "load and server need a core each"
    return ""


def _cluster_names(bare: float) -> Iterator[Measurement]:
    for size in SIZES:
        for mix, questions in questions_of(size).items():
            got = bench_names(size, questions, edns=mix == HEADLESS)
            has_budget = mix == "cluster names"
            name = f"{size} Services: {mix}"
            yield Measurement(
                f"{name}, one core",
                got.queries_per_s,
                "/s",
                BUDGET_QUERIES_PER_S if has_budget else None,
                at_most=False,
                reference="bare receive, look up, send" if has_budget else "",
                reference_value=bare if has_budget else None,
                measured=has_budget,
            )
            yield Measurement(f"{name}, p50 under full load", got.p50_ms, "ms")
            budget = BUDGET_P99_MS if has_budget else None
            yield Measurement(f"{name}, p99 under full load", got.p99_ms, "ms", budget)
            if has_budget:
                yield Measurement(f"{size} Services: memory of the server under load", got.memory_mb, "MB")


def _external(bare: float) -> Iterator[Measurement]:
    """Names of an upstream, out of the cache."""
    questions = [f"www{number}.example.com A" for number in range(EXTERNAL_NAMES)]
    with _process(_serve_external) as (port, pid):
        got = measure_load(port, pid, questions)
    name = f"{EXTERNAL_NAMES} cached external names"
    yield Measurement(
        f"{name}, one core", got.queries_per_s, "/s", None, at_most=False,
        reference="bare receive, look up, send", reference_value=bare, measured=True,
    )  # fmt: skip
    yield Measurement(f"{name}, p50 under full load", got.p50_ms, "ms")
    yield Measurement(f"{name}, p99 under full load", got.p99_ms, "ms")


def _bare() -> float:
    """Queries a second of the bare loop."""
    with _process(_serve_bare) as (port, pid):
        return measure_load(port, pid, [f"www{number}.example.com A" for number in range(EXTERNAL_NAMES)]).queries_per_s


@contextmanager
def _process(serve: Callable[[Connection], None]) -> Iterator[tuple[int, int]]:
    """(port, pid) of a server in a process of its own."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=serve, args=(theirs,), daemon=True)
    process.start()
    theirs.close()
    try:
        if not ours.poll(START_TIMEOUT_S):
            raise TimeoutError("the server does not start")
        yield ours.recv(), process.pid or 0
    finally:
        process.terminate()
        process.join()


def _serve_bare(connection: Connection) -> None:
    os.sched_setaffinity(0, {SERVER_CORE})
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


def _serve_external(connection: Connection) -> None:
    """A server with a cache before an upstream, which is a second server block of its own on another port."""
    import asyncio

    from podnet.dns.server import Server, open_sockets

    os.sched_setaffinity(0, {SERVER_CORE})
    ports = [_close(open_sockets("127.0.0.1", 0)) for _ in range(2)]
    text = f"""
    .:{ports[0]} {{
        bind 127.0.0.1
        errors
        cache 30
        forward . 127.0.0.1:{ports[1]}
        loadbalance
    }}
    .:{ports[1]} {{
        bind 127.0.0.1
        template IN A {{
            answer "{{{{ .Name }}}} 300 IN A 192.0.2.1"
        }}
    }}"""

    async def run() -> None:
        server = Server(text=text, environ={})
        task = asyncio.ensure_future(server.run())
        waiting = asyncio.ensure_future(server.started.wait())
        await asyncio.wait((task, waiting), return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            task.result()
        connection.send(ports[0])
        await task

    asyncio.run(run())


def _close(sockets: Any) -> int:
    """The port of a pair of sockets, free again."""
    port: int = sockets[0].getsockname()[1]
    for sock in sockets:
        sock.close()
    return port


def main() -> None:
    """`python -m podnet.dns.bench`: print the rows."""
    for row in measure():
        figure = row.error or f"{row.value:,.2f} {row.unit}"
        reference = f"   {row.reference}: {row.reference_value:,.0f}" if row.reference_value else ""
        print(f"{row.name:<60} {figure:>16}{reference}")


if __name__ == "__main__":
    main()
