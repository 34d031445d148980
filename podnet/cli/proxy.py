"""`podnet proxy mode`: whose rules carry the Services, and switching while the cluster runs."""

from __future__ import annotations

import time
from typing import Annotated

import typer

from podnet import launch
from podnet.cli.options import DEFAULT_CLUSTER, Cluster, Output
from podnet.cli.output import Format, fail, print_json, stdout
from podnet.directories import ClusterDirectories, cluster_directories
from podnet.topology.paths import ClusterPaths
from podnet.topology.spec.types import PROXY_MODES

SWITCH_S = 60.0
app = typer.Typer(no_args_is_help=True, help="The kube-proxy of the nodes.")


def register(root: typer.Typer) -> None:
    """Add the verbs of this module."""
    app.command()(mode)
    app.callback()(_proxy)  # with a callback, one command alone is still called by its name
    root.add_typer(app, name="proxy")


def _proxy() -> None:
    """The kube-proxy of the nodes."""


def mode(
    wanted: Annotated[str, typer.Argument(metavar="[MODE]", help="nftables, iptables or none; nothing: show it.")] = "",
    cluster: Cluster = DEFAULT_CLUSTER,
    output: Output = Format.TEXT,
) -> None:
    """Show the mode of kube-proxy, or switch every node to another; connections and pods live on."""
    directories = cluster_directories(cluster)
    if wanted and wanted not in PROXY_MODES:
        fail(f"unknown proxy mode {wanted!r}: use one of {', '.join(PROXY_MODES)}", code=2)
    began = time.monotonic()
    answer = launch.ask(directories, {"verb": "proxy-mode", "mode": wanted})
    nodes = [str(node) for node in answer["nodes"]]
    late = _wait_switched(directories, nodes, str(answer["mode"])) if wanted else []
    if late:
        fail(
            f"{', '.join(late)}: no rules of mode {wanted} within {SWITCH_S:.0f} s",
            f"podnet status -c {cluster}; the log of podnet-node/{late[0]} says why",
        )
    seconds = time.monotonic() - began
    if output is Format.JSON:
        print_json({"mode": answer["mode"], "nodes": nodes, "seconds": round(seconds, 3)})
    elif wanted:
        stdout.print(f"{len(nodes)} nodes in mode {answer['mode']} [dim]({seconds:.2f} s)[/]")
    else:
        stdout.print(str(answer["mode"]))


def _wait_switched(directories: ClusterDirectories, nodes: list[str], mode: str) -> list[str]:
    """The nodes that had not switched in time."""
    paths = ClusterPaths(directories.state)
    deadline = time.monotonic() + SWITCH_S
    while True:
        late = [name for name in nodes if _mode_of(paths, name) != mode]
        if not late or time.monotonic() > deadline:
            return late
        time.sleep(0.05)


def _mode_of(paths: ClusterPaths, node: str) -> str:
    try:
        return paths.node(node).proxy_mode_file.read_text(encoding="utf-8")
    except FileNotFoundError:
        return "none"
