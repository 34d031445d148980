"""`podnet capture, doctor, link`: look at the network, and break it."""

from __future__ import annotations

import os
import sys
from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

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


def register(app: typer.Typer) -> None:
    """Add the verbs of this module."""
    app.command()(capture)
    app.command()(link)
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
    request = {
        "verb": "capture",
        "points": points,
        "namespace": namespace,
        "filter": capture_filter,
        "count": count,
        "seconds": seconds,
    }
    if str(write) != "-":
        try:
            target = os.open(write, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)
        except OSError as err:
            fail(f"{write}: {err.strerror}")
        os.dup2(target, 1)
    sys.exit(run_in_room(cluster_directories(cluster), request, want_tty=False))


def link(
    verb: Annotated[LinkVerb, typer.Argument(help="ls, down or up.")],
    ends: Annotated[list[str] | None, typer.Argument(help="The two ends, e.g. worker-1 s1.")] = None,
    cluster: Cluster = DEFAULT_CLUSTER,
    output: Output = Format.TEXT,
) -> None:
    """List the links of the underlay, cut one, mend it."""
    directories = cluster_directories(cluster)
    if verb is LinkVerb.LS:
        interfaces = launch.ask(directories, {"verb": "links"})["interfaces"]
        if output is Format.JSON:
            print_json(interfaces)
        elif interfaces:
            columns = list(interfaces[0])
            print_table(columns, [[row[column] for column in columns] for row in interfaces])
        return
    if not ends or len(ends) != 2:
        fail("a link has two ends: podnet link down worker-1 s1", code=2)
    launch.ask(directories, {"verb": "link", "a": ends[0], "b": ends[1], "up": verb is LinkVerb.UP})
    if output is Format.TEXT:
        stdout.print(f"link {ends[0]} - {ends[1]} is {verb.value}")


def doctor(output: Output = Format.TEXT) -> None:
    """Say what this machine offers, what follows from it, and how to mend what is missing."""
    from dataclasses import asdict

    from podnet.topology.doctor import run_doctor

    findings = run_doctor()
    if output is Format.JSON:
        print_json([asdict(finding) for finding in findings])
    else:
        colours = {"ok": "green", "warn": "yellow", "missing": "red"}
        for finding in findings:
            colour = colours[finding.status]
            stdout.print(f"[{colour}]{finding.status:<8}[/] {finding.name:<28} {finding.consequence}")
            if finding.fix:
                stdout.print(f"{'':<38}[dim]fix:[/] {finding.fix}")
    if any(finding.status == "missing" for finding in findings):
        sys.exit(1)
