"""`podnet up, down, ls, status, clean, kubeconfig`: clusters come and go."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape

from podnet import launch
from podnet.cli.options import DEFAULT_CLUSTER, Cluster, Output, cluster_option
from podnet.cli.output import Format, fail, print_json, print_table, read_text, stdout, unless_closed
from podnet.directories import cluster_directories, known_clusters
from podnet.topology.paths import ClusterPaths
from podnet.topology.spec import ClusterSpec, SpecError, default_cluster_spec, load_cluster_spec

_HOST_ROLES = {"client": "outside host", "internet": "the internet"}


def register(app: typer.Typer) -> None:
    """Add the verbs of this module."""
    app.command()(up)
    app.command()(down)
    app.command("ls")(list_clusters)
    app.command()(status)
    app.command()(clean)
    app.command()(kubeconfig)


def up(
    file: Annotated[
        Path | None,
        typer.Option(
            "--file", "-f", help="A cluster.yaml, - for standard input; without it, as last time, else the default."
        ),
    ] = None,
    nodes: Annotated[int | None, typer.Option(help="Number of workers of the default cluster.", min=0, max=250)] = None,
    internet: Annotated[bool, typer.Option("--internet", help="Add an outside host with names and a page.")] = False,
    cluster: Annotated[
        str | None,
        typer.Option("--cluster", "-c", envvar="PODNET_CLUSTER", help="Name of the cluster.", metavar="NAME"),
    ] = None,
    api_port: Annotated[int, typer.Option(help="Port of the API server on 127.0.0.1 (0: any).", min=0, max=65535)] = 0,
    output: Output = Format.TEXT,
) -> None:
    """Boot a cluster; return when its nodes are Ready."""
    spec = _spec(file, nodes, cluster, internet=internet)
    note = _note_of_change(spec)
    phases: list[dict[str, Any]] = []
    text = output is Format.TEXT

    def show(event: dict[str, Any]) -> None:
        if text and not phases:  # not before: an `up` that is refused says why, and nothing else
            counts = f"{len(spec.nodes)} nodes on {len(spec.switches)} switch(es)"
            unless_closed(f"Booting cluster [bold]{spec.name}[/]: {counts}")
            if note:
                unless_closed(f"  [yellow]note:[/] {note}")
        phases.append(event)
        if text:  # nobody reads on (`podnet up | head -1`): that is no reason to take the cluster down again
            detail = f"  [dim]{escape(event['detail'])}[/]" if event.get("detail") else ""
            unless_closed(f"  {event['phase']:<14} {event['seconds']:6.2f} s{detail}")

    running = launch.up(spec, show, api_port=api_port)
    if not text:
        print_json(
            {
                "cluster": running.name,
                "kubeconfig": str(running.kubeconfig),
                "apiServer": f"https://127.0.0.1:{running.api_port}",
                "seconds": round(running.seconds, 3),
                "phases": phases,
            }
        )
        return
    unless_closed(f"[green]Ready[/] in {running.seconds:.2f} s")
    unless_closed(f"kubeconfig: {running.kubeconfig}")
    again = f"podnet kubectl{cluster_option(running.name)} get nodes"
    unless_closed(f"[dim]next:[/] {again}    [dim]or:[/] export KUBECONFIG={running.kubeconfig}")


def _spec(file: Path | None, nodes: int | None, cluster: str | None, *, internet: bool) -> ClusterSpec:
    name = DEFAULT_CLUSTER if cluster is None else cluster
    directories = cluster_directories(name)  # whatever the file says: a bad name is refused first
    if file is not None and nodes is not None:
        fail("--file and --nodes exclude each other", "give the nodes in the file", code=2)
    if file is not None and internet:
        fail("--file and --internet exclude each other", "give a host the role internet in the file", code=2)
    if file is None and nodes is None and not internet:
        stored = ClusterPaths(directories.state).spec_file
        if stored.exists():  # it has been up before: the same again, with the nodes that came and went
            return replace(_stored_spec(stored, name), name=name)
    if file is None:
        return default_cluster_spec(name, workers=2 if nodes is None else nodes, internet=internet)
    spec = load_cluster_spec(read_text(file), str(file))
    return spec if cluster is None else replace(spec, name=cluster)


def _note_of_change(spec: ClusterSpec) -> str:
    """What somebody would miss who gives a cluster another store: its objects do not move."""
    stored = ClusterPaths(cluster_directories(spec.name).state).spec_file
    try:
        before = load_cluster_spec(stored.read_text(encoding="utf-8"), "").store.driver
    except (OSError, ValueError, SpecError):
        return ""
    now = spec.store.driver
    if before == now:
        return ""
    stay = (
        "were in memory" if before == "memory" else f"stay in {before} and are there again when it is the store again"
    )
    return f"the store was {before} and is {now} now, without the objects of before: they {stay}"


def _stored_spec(file: Path, name: str) -> ClusterSpec:
    """What the cluster was made of last time. Raises ClusterError with how to go on, whatever became of the file."""
    try:
        return load_cluster_spec(file.read_text(encoding="utf-8"), str(file))
    except SpecError as error:
        reason = str(error)
    except OSError as error:
        reason = f"{file}: {error.strerror}"
    except UnicodeDecodeError:
        reason = f"{file}: is not UTF-8 text"
    again = f"podnet up -c {name} -f FILE (or --nodes N) to say anew what it is made of"
    raise launch.ClusterError(reason, f"{again}, or podnet down -c {name} --purge to forget it")


def down(
    cluster: Cluster = DEFAULT_CLUSTER,
    every: Annotated[bool, typer.Option("--all", help="Every running cluster.")] = False,
    purge: Annotated[bool, typer.Option(help="Forget its objects, certificates and logs too.")] = False,
) -> None:
    """Stop a cluster. Its state is kept for the next `up`, unless --purge."""
    names = [d.name for d in known_clusters() if (r := d.record()) and r.running] if every else [cluster]
    for name in names:
        began = time.monotonic()
        directories = cluster_directories(name)
        known = directories.state.exists() or directories.runtime.exists()
        if launch.down(name, purge=purge):
            stdout.print(f"cluster [bold]{name}[/] is down ({time.monotonic() - began:.2f} s)")
        elif purge:
            stdout.print(
                f"cluster [bold]{name}[/] is forgotten" if known else f"there is no cluster {name!r} to forget"
            )
        elif not every:
            fail(f"cluster {name!r} is not running", "podnet ls shows what runs")


def list_clusters(output: Output = Format.TEXT) -> None:
    """List clusters, running or not. Of one that failed at its first boot only the logs are left."""
    rows = []
    for directories in known_clusters():
        record = directories.record()
        running = record is not None and record.running
        rows.append(
            {
                "name": directories.name,
                "state": "running" if running else "failed" if directories.is_new else "stopped",
                "pid": record.pid if record and running else None,
                "apiServer": f"https://127.0.0.1:{record.api_port}" if record and running else None,
                "kubeconfig": str(ClusterPaths(directories.state).kubeconfig),
            }
        )
    if output is Format.JSON:
        print_json(rows)
        return
    if not rows:
        stdout.print("no clusters; start one with: podnet up")
        return
    print_table(
        ["name", "state", "pid", "api server"],
        [(r["name"], r["state"], r["pid"] or "-", r["apiServer"] or "-") for r in rows],
    )


def status(cluster: Cluster = DEFAULT_CLUSTER, output: Output = Format.TEXT) -> None:
    """Show the health of every component of a running cluster."""
    answer = launch.ask(cluster_directories(cluster), {"verb": "status"})
    answer.pop("done", None)
    if output is Format.JSON:
        print_json(answer)
        return
    print_table(
        ["component", "state", "pid", "restarts", "up", "last exit"],
        [
            (c["name"], c["state"], c["pid"] or "-", c["restarts"], f"{c['uptimeSeconds']:.0f}s", c["lastExit"] or "-")
            for c in answer["components"]
        ],
    )
    stdout.print()
    rows = [(n["name"], n["role"], n["ip"], n["pid"]) for n in answer["nodes"]]
    rows += [(h["name"], _HOST_ROLES[h["role"]], h["ip"], h["pid"]) for h in answer["hosts"]]
    print_table(["machine", "role", "address", "pid"], rows)


def clean(output: Output = Format.TEXT) -> None:
    """Remove what dead clusters left (never touches a running one)."""
    removed = launch.clean()
    if output is Format.JSON:
        print_json({"removed": removed})
    else:
        stdout.print(f"removed leftovers of: {', '.join(removed)}" if removed else "nothing to clean")


def kubeconfig(cluster: Cluster = DEFAULT_CLUSTER, output: Output = Format.TEXT) -> None:
    """Print the path of the administrator's kubeconfig."""
    path = ClusterPaths(cluster_directories(cluster).state).kubeconfig
    if not path.exists():
        fail(f"cluster {cluster!r} has no kubeconfig yet", f"podnet up -c {cluster}")
    print(json.dumps({"kubeconfig": str(path)}) if output is Format.JSON else path)
