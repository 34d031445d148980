"""The kernel's part of `podnet bench services`: loads, one-Service updates and first packets, mode beside mode.

`measure` works in network namespaces of its own and needs the right to make them (root, or uid 0 of a user namespace).
The references run in the same minute on the same rules: `nft -f` and `iptables-restore`, started as programs with the
very text that the backend hands over. Both modes are measured at one size before the next, and their rows stand together.
"""

from __future__ import annotations

import contextlib
import functools
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

from podnet.proxy.iptables import render as iptables_render
from podnet.proxy.iptables import ruleset as iptables_ruleset
from podnet.proxy.model import Endpoint, Model, NodeFacts, ServicePort
from podnet.proxy.modes import MODES, new_backend
from podnet.proxy.nftables import render as nftables_render
from podnet.proxy.nftables import ruleset as nftables_ruleset
from podnet.topology.kernel import Kernel, KernelError, SetLink
from podnet.topology.linux.kernel import LinuxKernel
from podnet.topology.linux.syscalls import create_netns, delete_netns, in_netns

SIZES = (100, 1000, 5000)
BUDGETS_MS = {100: 1.0, 1000: 5.0}
"""Of one nftables transaction that changes one Service, by the number of Services."""
UPDATES, FEW_UPDATES = 15, 5
CONNECTIONS = 200
PROGRAMS = {"nftables": "nft", "iptables": "iptables-restore"}
_FIRST_ADDRESS, _FIRST_POD, _SERVER = IPv4Address("10.96.0.10"), IPv4Address("10.244.4.1"), IPv4Address("10.244.0.2")
_SERVER_PORT = 8080
_PROGRAM_TIMEOUT_S = 60.0


@dataclass(frozen=True, slots=True)
class Measurement:
    """One figure, its budget, and the reference of the same run."""

    name: str
    value: float | None
    unit: str = "ms"
    budget: float | None = None
    reference: str = ""
    reference_value: float | None = None
    error: str = ""


@dataclass(frozen=True, slots=True)
class Figures:
    """What one mode needed at one size, in milliseconds; None where it has no such figure. `rounds`: how often the Service
    was changed and changed back."""

    load: float
    program_load: float | None
    update: float
    transaction: float | None
    program_update: float | None
    first_packet_us: float
    rounds: int


def rounds_of(mode: str, size: int) -> int:
    """How often to change one Service: iptables of thousands of Services takes its time for each."""
    return FEW_UPDATES if mode == "iptables" and size > 1000 else UPDATES


def measure(sizes: Sequence[int] = SIZES, note: Callable[[str], None] = lambda _text: None) -> Iterator[Measurement]:
    """All rows of all sizes; `note` is told what is under way."""
    with _node() as (path, _):
        bare = _first_packet_us(path, _SERVER, _SERVER_PORT)
    yield Measurement("first packet where there are no rules", bare, "us")
    for size in sizes:
        found: dict[str, Figures | str] = {}
        for mode in MODES:
            note(f"{mode}, {size} Services")
            found[mode] = _measure_mode(mode, size)
        yield from rows_of(size, found)


def _measure_mode(mode: str, size: int) -> Figures | str:
    """The figures, or why there are none."""
    program = PROGRAMS[mode]
    if shutil.which(program) is None:
        return f"{program} is not installed (sudo apt install {'nftables' if mode == 'nftables' else 'iptables'})"
    try:
        with _node() as (path, kernel):
            return _figures(mode, size, path, kernel)
    except (OSError, KernelError) as error:
        return f"{type(error).__name__}: {error}"


def rows_of(size: int, found: Mapping[str, Figures | str]) -> Iterator[Measurement]:
    """The rows of one size, what is the same in both modes side by side."""
    known = {mode: each for mode, each in found.items() if isinstance(each, Figures)}
    for mode, each in found.items():
        if isinstance(each, str):
            yield Measurement(f"{size} Services, {mode}", None, error=each)
    for mode, each in known.items():
        reference = _program_of(mode, each.program_load)
        yield Measurement(f"full load of {size} Services, {mode}", each.load, reference=reference,
                          reference_value=each.program_load)  # fmt: skip
    for mode, each in known.items():
        few = f", {each.rounds} rounds" if each.rounds < UPDATES else ""
        reference = _program_of(mode, each.program_update)
        yield Measurement(f"one of {size} Services changed, {mode}, model to kernel{few}", each.update,
                          reference=reference, reference_value=each.program_update)  # fmt: skip
        if each.transaction is not None:
            yield Measurement(f"one of {size} Services changed, {mode}, transaction alone", each.transaction, "ms",
                              BUDGETS_MS.get(size), reference, each.program_update)  # fmt: skip
    for mode, each in known.items():
        other = next((name for name in known if name != mode), "")
        yield Measurement(f"first packet to the last of {size} Services, {mode}", each.first_packet_us, "us",
                          reference=other, reference_value=known[other].first_packet_us if other else None)  # fmt: skip


def _program_of(mode: str, taken: float | None) -> str:
    """The reference in words. An ordinary user's program is refused what is too long for one transaction."""
    program = PROGRAMS[mode]
    return f"{program} of the same text" if taken is not None else f"{program} is refused the same text"


def services(size: int, behind: int = 2) -> Model:
    """A model of so many Services, all with the server that answers as their only or last endpoint."""
    ports = []
    for number in range(size):
        others = tuple(Endpoint(_FIRST_POD + (number * behind + each) % 50_000, 8080) for each in range(behind))
        endpoints = (Endpoint(_SERVER, _SERVER_PORT),) if number == size - 1 else others
        ports.append(
            ServicePort("default", f"web-{number:05d}", "http", "TCP", _FIRST_ADDRESS + number, 80,
                        cluster_endpoints=endpoints, serving=endpoints, has_endpoints=True)
        )  # fmt: skip
    node = NodeFacts("bench", (IPv4Address("192.168.100.11"),), IPv4Network("10.244.0.0/16"))
    return Model(node, tuple(ports))


def _figures(mode: str, size: int, path: str, kernel: Kernel) -> Figures:
    whole, rounds = services(size), rounds_of(mode, size)
    middle = size // 2
    other = (Endpoint(_FIRST_POD + middle, _SERVER_PORT + 1),)
    one = replace(whole.ports[middle], cluster_endpoints=other, serving=other)
    changed = Model(whole.node, (*whole.ports[:middle], one, *whole.ports[middle + 1 :]))
    full_text, there, back = _texts(mode, whole, changed)
    with _node() as (elsewhere, _):
        program_load = _run_program(mode, elsewhere, full_text)
        changes = [_run_program(mode, elsewhere, text) for _ in range(max(1, rounds // 3)) for text in (there, back)]
    backend = new_backend(mode, kernel, path)
    load = _ms(functools.partial(backend.sync, whole))
    updates = [_ms(functools.partial(backend.sync, model)) for _ in range(rounds) for model in (changed, whole)]
    written: list[float] = []
    if mode == "nftables":
        written = [_ms(functools.partial(kernel.nft, path, text)) for _ in range(rounds) for text in (there, back)]
    first = _first_packet_us(path, _FIRST_ADDRESS + size - 1, 80)
    return Figures(load, program_load, _median(updates) or 0.0, _median(written), _median(changes), first, rounds)


def _texts(mode: str, whole: Model, changed: Model) -> tuple[str, str, str]:
    """What is handed to the kernel: all, one change, and the change back."""
    if mode == "nftables":
        have, want = nftables_render.compile_ruleset(whole), nftables_render.compile_ruleset(changed)
        changes = nftables_ruleset.diff_ruleset(have, want), nftables_ruleset.diff_ruleset(want, have)
        return nftables_ruleset.render_full(have), changes[0].update, changes[1].update
    old, new = iptables_render.compile_ruleset(whole), iptables_render.compile_ruleset(changed)
    there, back = iptables_ruleset.render_changes(old, new), iptables_ruleset.render_changes(new, old)
    return iptables_ruleset.render_full(old, {}), there, back


def _run_program(mode: str, path: str, text: str) -> float | None:
    """Milliseconds; None where the program refuses (an ordinary user's transaction that is too long)."""
    argv = ["nft", "-f", "-"] if mode == "nftables" else ["iptables-restore", "--noflush", "-w", "5"]
    started = time.perf_counter()
    with in_netns(path):
        process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    with process:
        try:
            process.communicate(text.encode(), timeout=_PROGRAM_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            return None
    return None if process.returncode else (time.perf_counter() - started) * 1000


def _first_packet_us(path: str, address: IPv4Address, port: int) -> float:
    """From `connect` until it is connected, each time anew: to the last Service, every rule before it is asked. Median."""
    with in_netns(path):
        server = socket.create_server(("", _SERVER_PORT), backlog=16)
    taken = []
    with server:
        server.settimeout(5.0)
        for _ in range(CONNECTIONS):
            with in_netns(path):
                client = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
            client.settimeout(5.0)
            with client:
                started = time.perf_counter()
                client.connect((str(address), port))
                taken.append((time.perf_counter() - started) * 1e6)
                server.accept()[0].close()
    return _median(taken) or 0.0


@contextlib.contextmanager
def _node() -> Iterator[tuple[str, Kernel]]:
    """A namespace in which 10.244.0.2 answers and the Service range leads to the rules."""
    with tempfile.TemporaryDirectory(prefix="podnet-bench-") as directory:
        path, kernel = str(Path(directory) / "node"), LinuxKernel()
        create_netns(path)
        try:
            kernel.apply(path, [SetLink("lo", up=True)])
            for words in ("address add 10.244.0.1/32", f"address add {_SERVER}/32", "route add 10.96.0.0/12"):
                source = ["src", "10.244.0.1"] if words.startswith("route") else []
                with in_netns(path):
                    subprocess.run(["ip", *words.split(), "dev", "lo", *source], check=True)
            yield path, kernel
        finally:
            kernel.forget(path)
            kernel.close()
            delete_netns(path)


def _ms(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return (time.perf_counter() - started) * 1000


def _median(values: Sequence[float | None]) -> float | None:
    known = sorted(value for value in values if value is not None)
    return known[(len(known) - 1) // 2] if known else None
