"""Services, in both modes of kube-proxy: rules at the kernel (`proxy/bench.py`), and on a booted cluster, how fast a change
reaches every node (`service_changes.py`) and what a Service costs beside its endpoint (`service_paths.py`).
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterator
from typing import Any, cast

from podnet import launch
from podnet.bench import service_changes, service_paths
from podnet.bench.clusters import bench_cluster
from podnet.bench.programs import need_programs
from podnet.bench.rooms import run_in_room
from podnet.bench.rows import Row, Settings, attempt
from podnet.lab.session import LabSession
from podnet.proxy.bench import PROGRAMS, SIZES
from podnet.proxy.modes import MODES

GROUP = "services"
KERNEL_TIMEOUT_S = 300.0
SWITCH_S = 60.0


def services_rows(settings: Settings) -> Iterator[Row]:
    """All rows; the cluster comes after the kernel, so that neither disturbs the other."""
    yield from attempt(GROUP, "rules at the kernel", functools.partial(kernel_rows, settings))
    yield from attempt(GROUP, "Services of a booted cluster", functools.partial(_cluster_rows, settings))


def kernel_rows(settings: Settings) -> Iterator[Row]:
    """Measured in a room of their own, where an ordinary user may make namespaces, too."""
    sizes = settings.sizes or SIZES

    def work(say: Callable[[object], None]) -> None:
        from podnet.proxy.bench import measure

        for found in measure(sizes, note=lambda text: say({"note": text})):
            say({"row": dataclasses.asdict(found)})

    need_programs("ip", "nft")
    for said in run_in_room(work, "bench-services", KERNEL_TIMEOUT_S):
        message = cast("dict[str, Any]", said)
        if "note" in message:
            settings.note(f"services: {message['note']}")
        else:
            row = message["row"]
            yield Row(GROUP, **row, reference_measured=bool(row["reference"]))


def _cluster_rows(settings: Settings) -> Iterator[Row]:
    settings.note("services: booting a cluster")
    with bench_cluster() as lab:
        place = service_paths.prepare(lab)
        for mode in MODES:
            yield from attempt(GROUP, f"Services of a booted cluster, {mode}", functools.partial(
                mode_rows, settings, lab, place, mode))  # fmt: skip


def mode_rows(
    settings: Settings,
    lab: LabSession,
    place: service_paths.Place,
    mode: str,
    *,
    changes: int = service_changes.CHANGES,
    rounds: int = service_paths.ROUNDS,
    requests: int = service_paths.REQUESTS,
) -> Iterator[Row]:
    """The rows of one mode; the cluster is switched to it first."""
    need_programs(PROGRAMS[mode])
    settings.note(f"services: {mode} on a booted cluster, endpoint changes")
    switch_mode(lab, mode)
    yield from service_changes.change_rows(lab, place.server_ip, mode, changes)
    settings.note(f"services: {mode} on a booted cluster, requests")
    yield from service_paths.latency_rows(lab, place, mode, requests)
    settings.note(f"services: {mode} on a booted cluster, throughput")
    need_programs("iperf3")
    yield from service_paths.throughput_rows(lab, place, mode, rounds)


def switch_mode(lab: LabSession, mode: str) -> None:
    """Give every node this mode and wait until its rules are there."""
    launch.ask(lab.directories, {"verb": "proxy-mode", "mode": mode})
    files = [lab.paths.node(node.name).proxy_mode_file for node in lab.spec.nodes]
    lab.wait_until(
        lambda: all(file.is_file() and file.read_text(encoding="utf-8") == mode for file in files),
        f"rules of mode {mode} on every node",
        SWITCH_S,
    )
