"""The kernel's part of `podnet bench services`: loads, one-Service updates and first packets, mode beside mode.

`measure` works in network namespaces of its own and needs the right to make them (root, or uid 0 of a user namespace).
The references run in the same minute on the same rules: `nft -f` and `iptables-restore`, started as programs with the
very text that the backend hands over.
"""

from __future__ import annotations

import contextlib
import functools
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

from podnet.proxy.iptables import render as iptables_render
from podnet.proxy.iptables import ruleset as iptables_ruleset
from podnet.proxy.model import Endpoint, Model, NodeFacts, ServicePort
from podnet.proxy.modes import MODES, new_backend
from podnet.proxy.nftables import render as nftables_render
from podnet.proxy.nftables import ruleset as nftables_ruleset
from podnet.topology.kernel import Kernel, SetLink
from podnet.topology.linux.kernel import LinuxKernel
from podnet.topology.linux.syscalls import create_netns, delete_netns, in_netns

SIZES = (100, 1000, 5000)
BUDGETS_MS = {("nftables", 100): 1.0, ("nftables", 1000): 5.0}
UPDATES = 15
CONNECTIONS = 200
_FIRST_ADDRESS, _FIRST_POD, _SERVER = IPv4Address("10.96.0.10"), IPv4Address("10.244.4.1"), IPv4Address("10.244.0.2")
_PROGRAMS = {"nftables": "nft", "iptables": "iptables-restore"}


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


def measure(sizes: Sequence[int] = SIZES) -> Iterator[Measurement]:
    """All rows of all sizes, both modes at one size after each other."""
    for size in sizes:
        first_packets: dict[str, float] = {}
        for mode in MODES:
            if shutil.which(_PROGRAMS[mode]) is None:
                yield Measurement(f"{mode}, {size} Services", None, error=f"{_PROGRAMS[mode]} is not installed")
                continue
            with _node() as (path, kernel):
                yield from _loads(mode, size, path, kernel)
                first_packets[mode] = _first_packet_us(path, size)
        for mode, figure in first_packets.items():
            other = next((each for each in MODES if each != mode), "")
            yield Measurement(f"first packet to the last of {size} Services, {mode}", figure, "us",
                              reference=other, reference_value=first_packets.get(other))  # fmt: skip


def services(size: int, behind: int = 2) -> Model:
    """A model of so many Services, all with the server that answers as their only or last endpoint."""
    ports = []
    for number in range(size):
        others = tuple(Endpoint(_FIRST_POD + (number * behind + each) % 50_000, 8080) for each in range(behind))
        endpoints = (Endpoint(_SERVER, 8080),) if number == size - 1 else others
        ports.append(
            ServicePort("default", f"web-{number:05d}", "http", "TCP", _FIRST_ADDRESS + number, 80,
                        cluster_endpoints=endpoints, serving=endpoints, has_endpoints=True)
        )  # fmt: skip
    node = NodeFacts("bench", (IPv4Address("192.168.100.11"),), IPv4Network("10.244.0.0/16"))
    return Model(node, tuple(ports))


def _loads(mode: str, size: int, path: str, kernel: Kernel) -> Iterator[Measurement]:
    program = _PROGRAMS[mode]
    whole = services(size)
    middle = size // 2
    one = services(size, 1).ports[middle]
    changed = Model(whole.node, (*whole.ports[:middle], one, *whole.ports[middle + 1 :]))
    full_text, there, back = _texts(mode, whole, changed)
    with _node() as (elsewhere, _):
        reference_load = _run_program(mode, elsewhere, full_text)
        taken = [_run_program(mode, elsewhere, text) for _ in range(UPDATES // 3) for text in (there, back)]
    backend = new_backend(mode, kernel, path)
    yield Measurement(f"full load of {size} Services, {mode}", _ms(lambda: backend.sync(whole)), "ms", None,
                      f"{program} of the same text", reference_load)  # fmt: skip
    updates = [_ms(functools.partial(backend.sync, model)) for _ in range(UPDATES) for model in (changed, whole)]
    yield Measurement(f"one of {size} Services changed, {mode}, from model to kernel", _median(updates), "ms", None,
                      f"{program} of the same text", _median(taken))  # fmt: skip
    if mode == "nftables":
        written = [_ms(functools.partial(kernel.nft, path, text)) for _ in range(UPDATES) for text in (there, back)]
        yield Measurement(f"one of {size} Services changed, nftables transaction alone", _median(written), "ms",
                          BUDGETS_MS.get((mode, size)), f"{program} of the same text", _median(taken))  # fmt: skip


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
    process.communicate(text.encode())
    return None if process.returncode else (time.perf_counter() - started) * 1000


def _first_packet_us(path: str, size: int) -> float:
    """From `connect` to the last Service until it is connected: every rule before it has been asked. Median."""
    with in_netns(path):
        server = socket.create_server(("", 8080), backlog=16)
    last = str(_FIRST_ADDRESS + size - 1)
    taken = []
    with server:
        for _ in range(CONNECTIONS):
            with in_netns(path):
                client = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
            client.settimeout(5.0)
            with client:
                started = time.perf_counter()
                client.connect((last, 80))
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
