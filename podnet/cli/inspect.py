"""`podnet capture, doctor, link`: look at the network, and break it."""

from __future__ import annotations

import math
import os
import re
import sys
from enum import Enum
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from podnet import launch
from podnet.cli.options import DEFAULT_CLUSTER, Cluster, Namespace, Output
from podnet.cli.output import Format, fail, print_json, print_table, stdout
from podnet.directories import cluster_directories
from podnet.targets import parse_point
from podnet.terminal import run_in_room


class LinkVerb(str, Enum):
    """What to do with a link."""

    LS = "ls"
    DOWN = "down"
    UP = "up"
    SET = "set"


def register(app: typer.Typer) -> None:
    """Add the verbs of this module."""
    app.command()(capture)
    app.command()(link)
    app.command()(points)
    app.command()(flows)
    app.command()(doctor)


def capture(
    points: Annotated[
        list[str], typer.Argument(help="pod/a, node/worker-1:cni0, node/worker-1:flannel.1, switch/s1, …")
    ],
    write: Annotated[Path, typer.Option("--write", "-w", help="The pcapng file; - for standard output.")],
    capture_filter: Annotated[str, typer.Option("--filter", "-f", help="A pcap filter, e.g. 'udp port 8472'.")] = "",
    count: Annotated[int, typer.Option(help="Stop after so many packets.", min=0)] = 0,
    seconds: Annotated[float, typer.Option(help="Stop after so many seconds.", min=0)] = 0.0,
    cluster: Cluster = DEFAULT_CLUSTER,
    namespace: Namespace = "default",
) -> None:
    """Capture at several points at once into one pcapng file, one interface block a point; stop with Ctrl-C."""
    for point in points:
        parse_point(point)
    if not math.isfinite(seconds):
        fail(f"{seconds} is no number of seconds", "leave --seconds away and stop with Ctrl-C", code=2)
    request = {
        "verb": "capture",
        "points": points,
        "namespace": namespace,
        "filter": capture_filter,
        "count": count,
        "seconds": seconds,
    }
    directories = cluster_directories(cluster)
    if str(write) == "-":
        sys.exit(run_in_room(directories, request, want_tty=False))
    launch.ask(directories, {"verb": "links"})  # a cluster that is not there empties no file
    made = not write.exists()
    try:
        target = os.open(write, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as err:
        fail(f"{write}: {err.strerror}")
    os.dup2(target, 1)
    try:
        sys.exit(run_in_room(directories, request, want_tty=False))
    finally:
        if made and os.fstat(target).st_size == 0:  # it was refused: a point that is not there, a filter that is none
            write.unlink(missing_ok=True)


def link(
    verb: Annotated[LinkVerb, typer.Argument(help="ls, down, up or set.")],
    ends: Annotated[list[str] | None, typer.Argument(help="The two ends, e.g. worker-1 s1.")] = None,
    rate: Annotated[str, typer.Option(help="With set: a rate such as 10Mbit; 0 removes the limit.")] = "",
    delay: Annotated[float | None, typer.Option(help="With set: milliseconds (needs netem).", min=0)] = None,
    loss: Annotated[float | None, typer.Option(help="With set: percent.", min=0, max=100)] = None,
    cluster: Cluster = DEFAULT_CLUSTER,
    output: Output = Format.TEXT,
) -> None:
    """List the links of the underlay, cut one, mend it, shape it."""
    directories = cluster_directories(cluster)
    if verb is LinkVerb.LS:
        _show_links(launch.ask(directories, {"verb": "links"})["links"], output)
        return
    if not ends or len(ends) != 2:
        fail("a link has two ends: podnet link down worker-1 s1", code=2)
    change: dict[str, object] = {}
    if verb is LinkVerb.SET:
        change = {"delayMs": delay, "lossPercent": loss, "rateBitS": parse_rate(rate) if rate else None}
        if all(value is None for value in change.values()):
            fail("nothing to set", "give --rate, --delay or --loss", code=2)
    else:
        change = {"up": verb is LinkVerb.UP}
    answer = launch.ask(directories, {"verb": "link", "a": ends[0], "b": ends[1], **change})
    _show_links([answer["link"]], output)


def _show_links(links: list[dict[str, object]], output: Format) -> None:
    if output is Format.JSON:
        print_json(links)
        return
    columns = ["a", "b", "state", "rate", "delay", "loss"]
    rows = [
        (
            row["a"],
            row["b"],
            "up" if row["up"] else "DOWN",
            f"{row['rate_bit_s']} bit/s" if row["rate_bit_s"] else "-",
            f"{row['delay_ms']} ms" if row["delay_ms"] else "-",
            f"{row['loss_percent']} %" if row["loss_percent"] else "-",
        )
        for row in links
    ]
    print_table(columns, rows)


_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9}


def parse_rate(text: str) -> int:
    """`10Mbit`, `1g`, `64kbit`, `0`: bits a second.

    >>> parse_rate("10Mbit")
    10000000
    """
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([kmg]?)(?:bit)?(?:/s)?", text.strip().lower())
    if not found:
        fail(f"{text!r} is no rate", "write 10Mbit, 1Gbit or 0", code=2)
    number = float(found[1]) * _UNITS[found[2]]
    if 0 < number < 1:
        fail(f"{text!r} is less than one bit a second", "write 10Mbit, 1Gbit or 0", code=2)
    return int(number)


def points(cluster: Cluster = DEFAULT_CLUSTER, output: Output = Format.TEXT) -> None:
    """List the interfaces that can be captured, besides those of pods (pod/NAME)."""
    found = launch.ask(cluster_directories(cluster), {"verb": "points"})["points"]
    if output is Format.JSON:
        print_json(found)
        return
    rows = [(row["point"], row["kind"] or "-", "up" if row["up"] else "down", row["alias"] or "-") for row in found]
    print_table(["point", "kind", "state", "alias"], rows)


def flows(
    switch: Annotated[str, typer.Argument(help="A switch; none for all.")] = "",
    cluster: Cluster = DEFAULT_CLUSTER,
    output: Output = Format.TEXT,
) -> None:
    """Show the flows that the controller installed in OpenFlow switches, with their counters."""
    found = launch.ask(cluster_directories(cluster), {"verb": "flows", "switch": switch})["flows"]
    if output is Format.JSON:
        print_json(found)
        return
    if not found:
        stdout.print("no flows: there is no switch of kind openflow")
        return
    columns = ["switch", "priority", "match", "actions", "packets", "bytes"]
    print_table(columns, [[row[column] for column in columns] for row in found])


def doctor(output: Output = Format.TEXT) -> None:
    """Say what this machine offers, what follows from it, and how to mend what is missing."""
    from podnet.topology.doctor import run_doctor

    findings = run_doctor()
    if output is Format.JSON:
        print_json([finding.to_dict() for finding in findings])
    else:
        colours = {"ok": "green", "warn": "yellow", "missing": "red"}
        for finding in findings:
            colour = colours[finding.status]
            said = escape(finding.consequence or finding.found)
            stdout.print(f"[{colour}]{finding.status:<8}[/] {finding.name:<28} {said}")
            if finding.fix:
                stdout.print(f"{'':<38}[dim]fix:[/] {escape(finding.fix)}")
    if any(finding.status == "missing" for finding in findings):
        sys.exit(1)
