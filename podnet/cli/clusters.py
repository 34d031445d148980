"""`podnet up, down, ls, status, clean, kubeconfig`: clusters come and go."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from podnet import launch
from podnet.cli.options import DEFAULT_CLUSTER, Cluster, Output
from podnet.cli.output import Format, fail, print_json, print_table, stdout
from podnet.directories import cluster_directories, known_clusters
from podnet.topology.paths import ClusterPaths
from podnet.topology.spec import ClusterSpec, default_cluster_spec, load_cluster_spec

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
        Path | None, typer.Option("--file", "-f", help="A cluster.yaml; without it, as last time, else the default.")
    ] = None,
    nodes: Annotated[int | None, typer.Option(help="Number of workers of the default cluster.", min=0, max=250)] = None,
    internet: Annotated[bool, typer.Option("--internet", help="Add an outside host with names and a page.")] = False,
    cluster: Annotated[str, typer.Option("--cluster", "-c", envvar="PODNET_CLUSTER", help="Name.")] = "",
    api_port: Annotated[int, typer.Option(help="Port of the API server on 127.0.0.1 (0: any).", min=0, max=65535)] = 0,
    output: Output = Format.TEXT,
) -> None:
    """Boot a cluster; return when its nodes are Ready."""
    spec = _spec(file, nodes, cluster, internet=internet)
    phases: list[dict[str, Any]] = []
    text = output is Format.TEXT

    def show(event: dict[str, Any]) -> None:
        if text and not phases:  # not before: an `up` that is refused says why, and nothing else
            counts = f"{len(spec.nodes)} nodes on {len(spec.switches)} switch(es)"
            stdout.print(f"Booting cluster [bold]{spec.name}[/]: {counts}")
        phases.append(event)
        if text:
            detail = f"  [dim]{event['detail']}[/]" if event.get("detail") else ""
            stdout.print(f"  {event['phase']:<14} {event['seconds']:6.2f} s{detail}")

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
    stdout.print(f"[green]Ready[/] in {running.seconds:.2f} s")
    stdout.print(f"kubeconfig: {running.kubeconfig}")
    stdout.print(f"[dim]next:[/] podnet kubectl get nodes    [dim]or:[/] export KUBECONFIG={running.kubeconfig}")


def _spec(file: Path | None, nodes: int | None, cluster: str, *, internet: bool) -> ClusterSpec:
    if file is not None and nodes is not None:
        fail("--file and --nodes exclude each other", "give the nodes in the file", code=2)
    if file is not None and internet:
        fail("--file and --internet exclude each other", "give a host the role internet in the file", code=2)
    if file is None and nodes is None and not internet:
        stored = ClusterPaths(cluster_directories(cluster or DEFAULT_CLUSTER).state).spec_file
        if stored.exists():  # it has been up before: the same again, with the nodes that came and went
            file = stored
    if file is None:
        return default_cluster_spec(
            cluster or DEFAULT_CLUSTER, workers=2 if nodes is None else nodes, internet=internet
        )
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as err:
        fail(f"{file}: {getattr(err, 'strerror', None) or 'is not UTF-8 text'}", code=1)
    spec = load_cluster_spec(text, str(file))
    return spec if not cluster else replace(spec, name=cluster)


def down(
    cluster: Cluster = DEFAULT_CLUSTER,
    every: Annotated[bool, typer.Option("--all", help="Every running cluster.")] = False,
    purge: Annotated[bool, typer.Option(help="Forget its objects, certificates and logs too.")] = False,
) -> None:
    """Stop a cluster. Its state is kept for the next `up`, unless --purge."""
    names = [d.name for d in known_clusters() if (r := d.record()) and r.running] if every else [cluster]
    for name in names:
        began = time.monotonic()
        if launch.down(name, purge=purge):
            stdout.print(f"cluster [bold]{name}[/] is down ({time.monotonic() - began:.2f} s)")
        elif not every and not purge:
            fail(f"cluster {name!r} is not running", "podnet ls shows what runs")


def list_clusters(output: Output = Format.TEXT) -> None:
    """List clusters, running or not."""
    rows = []
    for directories in known_clusters():
        record = directories.record()
        running = record is not None and record.running
        rows.append(
            {
                "name": directories.name,
                "state": "running" if running else "stopped",
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
        fail(f"cluster {cluster!r} has no kubeconfig yet", f"podnet up --cluster {cluster}")
    print(json.dumps({"kubeconfig": str(path)}) if output is Format.JSON else path)
