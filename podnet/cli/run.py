"""`podnet exec, ping, curl, kubectl`: run something inside a running cluster."""

from __future__ import annotations

import os
import shutil
import sys
from typing import Annotated

import typer

from podnet import addresses
from podnet.cli.options import DEFAULT_CLUSTER, Cluster, Namespace
from podnet.cli.output import fail
from podnet.directories import cluster_directories
from podnet.kubectl import KubectlMissingError, find_kubectl
from podnet.targets import parse_target
from podnet.terminal import run_in_room
from podnet.topology.paths import ClusterPaths

PASS_ON = {"allow_extra_args": True, "ignore_unknown_options": True, "allow_interspersed_args": False}


def register(app: typer.Typer) -> None:
    """Add the verbs of this module."""
    app.command("exec", context_settings=PASS_ON)(exec_)
    app.command(context_settings=PASS_ON)(ping)
    app.command(context_settings=PASS_ON)(curl)
    app.command(context_settings={**PASS_ON, "help_option_names": []})(kubectl)


def exec_(
    context: typer.Context,
    target: Annotated[str, typer.Argument(help="pod/NAME, pod/NAMESPACE/NAME, node/NAME, host/NAME or switch/NAME.")],
    cluster: Cluster = DEFAULT_CLUSTER,
    namespace: Namespace = "default",
    container: Annotated[str, typer.Option("--container", help="Container of the pod (default: its first).")] = "",
    terminal: Annotated[
        bool | None, typer.Option("--tty/--no-tty", "-t/-T", help="A terminal (default: when this is one).")
    ] = None,
) -> None:
    """Run a command in the namespaces of a pod, node or host: podnet exec pod/a -- ip addr."""
    argv = _command(context.args) or ["sh"]
    parse_target(target)
    is_terminal = sys.stdin.isatty() and sys.stdout.isatty()
    if terminal and not sys.stdin.isatty():
        fail("--tty needs a terminal on standard input", "leave it out", code=2)
    env = {"TERM": os.environ["TERM"]} if os.environ.get("TERM") else {}
    request = {
        "verb": "exec",
        "target": target,
        "namespace": namespace,
        "container": container,
        "argv": argv,
        "env": env,
    }
    want_tty = is_terminal if terminal is None else terminal
    sys.exit(run_in_room(cluster_directories(cluster), request, want_tty=want_tty))


def ping(
    context: typer.Context,
    source: Annotated[str, typer.Argument(help="Where from: pod/a, node/worker-1, host/client.")],
    destination: Annotated[str, typer.Argument(help="Where to: a target, an address or a name.")],
    cluster: Cluster = DEFAULT_CLUSTER,
    namespace: Namespace = "default",
) -> None:
    """Ping from one place to another, by object name. Options after them go to ping (default: -c 3)."""
    directories = cluster_directories(cluster)
    address = addresses.address_of(directories, destination, namespace)
    options = _command(context.args) or ["-c", "3", "-i", "0.2"]
    _exec_in(cluster, namespace, source, ["ping", *options, address])


def curl(
    context: typer.Context,
    source: Annotated[str, typer.Argument(help="Where from: pod/a, node/worker-1, host/client.")],
    url: Annotated[str, typer.Argument(help="A URL; its host may be a target, as in http://pod/b:8080/.")],
    cluster: Cluster = DEFAULT_CLUSTER,
    namespace: Namespace = "default",
) -> None:
    """Fetch a URL from inside a pod, node or host. Options after it go to curl."""
    directories = cluster_directories(cluster)
    url = addresses.resolve_url(directories, url, namespace)
    _exec_in(cluster, namespace, source, ["curl", "-sS", "--max-time", "10", *_command(context.args), url])


def kubectl(context: typer.Context) -> None:
    """Run the real kubectl against a cluster (PODNET_CLUSTER, or -c NAME as the first words)."""
    words = list(context.args)
    cluster = os.environ.get("PODNET_CLUSTER", DEFAULT_CLUSTER)
    if len(words) >= 2 and words[0] in ("-c", "--cluster"):
        cluster, words = words[1], words[2:]
    path = ClusterPaths(cluster_directories(cluster).state).kubeconfig
    if not path.exists():
        fail(f"cluster {cluster!r} has no kubeconfig yet", f"podnet up -c {cluster}")
    try:
        program = find_kubectl()
    except KubectlMissingError as err:
        fail(str(err), err.fix)
    os.execve(program, [program, *words], {**os.environ, "KUBECONFIG": str(path)})


def _exec_in(cluster: str, namespace: str, source: str, argv: list[str]) -> None:
    request = {"verb": "exec", "target": source, "namespace": namespace, "argv": argv}
    parse_target(source)
    sys.exit(run_in_room(cluster_directories(cluster), request, want_tty=False))


def _command(words: list[str]) -> list[str]:
    return words[1:] if words[:1] == ["--"] else list(words)


def has_kubectl() -> bool:
    """Is there a kubectl at all?"""
    return shutil.which("kubectl") is not None
