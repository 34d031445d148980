"""Load on a DNS server: dnsperf as fast as it is answered, a client of its own that takes times, and proof of the answers.

A figure of wrong answers is worth nothing. So what is asked is checked before it is measured (every address, nothing cut
off), every timed answer is checked in its header, and dnsperf's own count of response codes and mean answer size must be
those of right answers.
"""

from __future__ import annotations

import multiprocessing
import os
import re
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from podnet.dns import wire
from podnet.dns.message import A_, NOERROR, Edns, Message, query, rcode_name

SECONDS = 3
OUTSTANDING = 100
"""dnsperf's own default: so many queries are under way at once."""
BUFFER_KB = 1024
"""Of dnsperf's socket (the kernel gives what it allows): in the usual one, so many long answers at once find no room."""
START_TIMEOUT_S = 60.0
PROBE_PAUSE_S = 0.002
SAMPLE = 200
_EDNS = Edns(payload=4096)
_END_S = 5.0
_LIMIT_S = 60.0


class WrongAnswerError(Exception):
    """The server does not answer what it must: nothing to be measured."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A name and what its A records must be; `rcode` tells names that there are from those that there are not."""

    name: str
    addresses: frozenset[str] = frozenset()
    rcode: int = NOERROR


@dataclass(frozen=True, slots=True)
class Mix:
    """Questions that are asked round and round, all with one response code. `edns`: with room for long answers."""

    name: str
    asked: tuple[Asked, ...]
    edns: bool = False

    def query(self, asked: Asked) -> bytes:
        """One question as it is sent."""
        return wire.encode(query(asked.name, A_, id_=1, edns=_EDNS if self.edns else None))


@dataclass(frozen=True, slots=True)
class LoadResult:
    """What dnsperf and the client saw, and what the server's process weighed. `amiss`: queries lost, answered with another
    code, or cut short."""

    queries_per_s: float
    p50_ms: float
    p99_ms: float
    amiss: int
    memory_mb: float


def cores() -> tuple[int, int]:
    """(of the server, of the load): neither takes the other's time."""
    allowed = sorted(os.sched_getaffinity(0))
    return allowed[0], allowed[-1]


@contextmanager
def running(serve: Callable[..., None], *arguments: Any) -> Iterator[tuple[int, int]]:
    """(port, pid) of a server in a process of its own on one core: `serve(connection, …)` sends the port when it listens."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_serve, args=(serve, theirs, arguments), daemon=True)
    process.start()
    theirs.close()
    try:
        if not ours.poll(START_TIMEOUT_S):
            raise TimeoutError(f"the server did not start within {START_TIMEOUT_S:.0f} s")
        try:
            port = int(ours.recv())
        except EOFError as error:
            raise ChildProcessError("the server ended before it listened") from error
        yield port, process.pid or 0
    finally:
        process.terminate()
        process.join(_END_S)
        process.kill()
        process.join(_END_S)


def _serve(serve: Callable[..., None], connection: Connection, arguments: tuple[Any, ...]) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the one who started this, and ends it
    os.sched_setaffinity(0, {cores()[0]})
    serve(connection, *arguments)


def check_answers(port: int, mix: Mix, sample: int = SAMPLE) -> int:
    """Ask for names all over the mix, the last one included; the bytes of an answer (a mean). WrongAnswerError."""
    step = max(1, len(mix.asked) // sample)
    chosen = [*mix.asked[::step], mix.asked[-1]]
    size = 0
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.connect(("127.0.0.1", port))
        sock.settimeout(_END_S)
        for asked in chosen:
            sock.send(mix.query(asked))
            data = sock.recv(65535)
            _check(wire.decode(data), asked)
            size += len(data)
    return size // len(chosen)


def _check(got: Message, asked: Asked) -> None:
    if got.rcode != asked.rcode:
        raise WrongAnswerError(f"{asked.name}: {rcode_name(got.rcode)}, not {rcode_name(asked.rcode)}")
    if got.truncated:
        raise WrongAnswerError(f"{asked.name}: the answer is cut short")
    addresses = {str(getattr(each.data, "address", "")) for each in got.answers}
    if addresses != asked.addresses or len(got.answers) != len(asked.addresses):
        raise WrongAnswerError(f"{asked.name}: {len(got.answers)} records, not its {len(asked.addresses)} addresses")


def measure_load(port: int, pid: int, mix: Mix, *, seconds: float = SECONDS) -> LoadResult:
    """Ask for the mix round and round while a client of its own asks for its first name, one query after the other, and
    takes the times. The second before warms caches."""
    answer_size = check_answers(port, mix)
    with tempfile.TemporaryDirectory(prefix="podnet-bench-") as directory:
        path = Path(directory, "questions")
        path.write_text("".join(f"{asked.name} A\n" for asked in mix.asked), encoding="ascii")
        load = ["taskset", "-c", str(cores()[1]), "dnsperf", "-s", "127.0.0.1", "-p", str(port), "-d", str(path)]
        load += ["-q", str(OUTSTANDING), "-b", str(BUFFER_KB), *(["-e"] if mix.edns else []), "-l"]
        warm_s = min(1.0, seconds)
        subprocess.run([*load, str(warm_s)], check=True, capture_output=True, timeout=_LIMIT_S)
        with subprocess.Popen([*load, str(seconds)], stdout=subprocess.PIPE, text=True) as process:
            try:
                times, wrong = _round_trips(port, mix, seconds)
                text, _ = process.communicate(timeout=_LIMIT_S)
            except BaseException:
                process.kill()
                raise
    rate, amiss = read_dnsperf(text, mix.asked[0].rcode, answer_size)
    return LoadResult(rate, _percentile(times, 0.5), _percentile(times, 0.99), amiss + wrong, memory_mb(pid))


def read_dnsperf(text: str, rcode: int, answer_size: int) -> tuple[float, int]:
    r"""(queries a second, how many were lost or answered with another code). WrongAnswerError where the mean answer
    is much shorter than a right one is.

    >>> read_dnsperf("Queries lost: 2 (0%)\nResponse codes: NOERROR 7 (70%), SERVFAIL 3 (30%)\n"
    ...              "Average packet size: request 40, response 100\nQueries per second: 5.5\n", 0, 100)
    (5.5, 5)
    """
    rate = float(_figure(r"Queries per second:\s+([\d.]+)", text))
    amiss = int(_figure(r"Queries lost:\s+(\d+)", text))
    codes = _figure(r"Response codes:\s+(.*)", text)
    amiss += sum(int(n) for code, n in re.findall(r"([A-Z0-9]+) (\d+) \(", codes) if code != rcode_name(rcode))
    size = int(_figure(r"Average packet size:\s+request \d+, response (\d+)", text))
    if size < answer_size * 0.9:
        raise WrongAnswerError(f"dnsperf was given answers of {size} bytes, right ones have {answer_size}")
    return rate, amiss


def _figure(pattern: str, text: str) -> str:
    found = re.search(pattern, text)
    if found is None:
        raise ValueError(f"dnsperf says nothing of {pattern}: {text.strip()[-200:]}")
    return found[1]


def _round_trips(port: int, mix: Mix, seconds: float) -> tuple[list[float], int]:
    """Milliseconds of queries asked one by one, and how many answers were not the right ones."""
    asked = mix.asked[0]
    question = mix.query(asked)
    times, wrong = [], 0
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.connect(("127.0.0.1", port))
        sock.settimeout(1.0)
        end = time.monotonic() + seconds * 0.9
        while time.monotonic() < end:
            began = time.perf_counter()
            sock.send(question)
            try:
                wrong += not _is_right(sock.recv(65535), asked)
            except TimeoutError:
                wrong += 1  # and its time is counted as it was felt
            times.append((time.perf_counter() - began) * 1000)
            time.sleep(PROBE_PAUSE_S)
    return times, wrong


def _is_right(data: bytes, asked: Asked) -> bool:
    """By the header alone: a response that is not cut short, its code and the number of its answers."""
    return (
        len(data) >= 12
        and data[2] & 0x82 == 0x80
        and data[3] & 0x0F == asked.rcode
        and int.from_bytes(data[6:8]) == len(asked.addresses)
    )


def _percentile(values: list[float], share: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else 0.0


def memory_mb(pid: int) -> float:
    """Unique memory of a process: what its end would free."""
    text = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii")
    return sum(int(size) for size in re.findall(r"^Private_\w+:\s+(\d+) kB$", text, re.MULTILINE)) / 1024
