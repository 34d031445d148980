"""`podnet etcd ctl, snapshot, restore`: the real etcd of a cluster whose store it is."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from podnet import launch
from podnet.cli.options import DEFAULT_CLUSTER, Cluster, cluster_option
from podnet.cli.output import fail, stdout
from podnet.directories import cluster_directories
from podnet.etcd import EtcdError, EtcdMember, etcdctl_environment, read_members
from podnet.etcd import restore as restore_members
from podnet.terminal import run_in_room
from podnet.topology.paths import ClusterPaths

PASS_ON = {"allow_extra_args": True, "ignore_unknown_options": True, "allow_interspersed_args": False}
app = typer.Typer(no_args_is_help=True, help="The etcd of a cluster with store.driver: etcd.")
Node = Annotated[str, typer.Option(help="The control-plane node to ask from (default: the first).")]


def register(root: typer.Typer) -> None:
    """Add the verbs of this module."""
    app.command("ctl", context_settings=PASS_ON)(ctl)
    app.command()(snapshot)
    app.command()(restore)
    root.add_typer(app, name="etcd")


def ctl(context: typer.Context, cluster: Cluster = DEFAULT_CLUSTER, node: Node = "") -> None:
    """Run the real etcdctl on a control-plane node: podnet etcd ctl endpoint status -w table."""
    words = context.args[1:] if context.args[:1] == ["--"] else context.args
    sys.exit(_etcdctl(cluster, node, words))


def snapshot(
    file: Annotated[Path, typer.Argument(help="Where to write it.")],
    cluster: Cluster = DEFAULT_CLUSTER,
    node: Node = "",
) -> None:
    """Save everything the store holds, at one revision, while the cluster runs."""
    path = file.absolute()
    if not path.parent.is_dir():
        fail(f"{file}: there is no directory {path.parent}")
    # One member is asked: a snapshot is what that member has.
    member = _member(_members(cluster), node)
    sys.exit(_etcdctl(cluster, member.name, ["snapshot", "save", str(path)], (member,)))


def restore(file: Annotated[Path, typer.Argument(help="A snapshot.")], cluster: Cluster = DEFAULT_CLUSTER) -> None:
    """Give a stopped cluster the state of a snapshot; the next `podnet up` begins there."""
    directories = cluster_directories(cluster)
    if not file.is_file():
        fail(f"{file}: no such file")
    members = _members(cluster)
    lock = directories.try_lock()
    if lock is None:
        fail(f"cluster {cluster} is running", f"podnet down -c {cluster}, then restore, then up")
    try:
        restore_members(members, file.absolute())
    except EtcdError as error:
        again = f"podnet etcd snapshot -c {cluster} FILE"
        fail(f"{file} was not restored: {error}", f"give it a file that was written by: {again}")
    finally:
        os.close(lock)
    names = ", ".join(member.name for member in members)
    stdout.print(f"restored {escape(str(file))} to {names}; begin there: podnet up{cluster_option(cluster)}")


def _etcdctl(cluster: str, node: str, words: list[str], asked: tuple[EtcdMember, ...] = ()) -> int:
    directories = cluster_directories(cluster)
    members = _members(cluster)
    paths = ClusterPaths(directories.state)
    request = {
        "verb": "exec",
        "target": f"node/{_member(members, node).name}",
        "argv": ["etcdctl", *words],
        "env": etcdctl_environment(asked or members, paths.pki_dir),
    }
    return run_in_room(directories, request, want_tty=False)


def _members(cluster: str) -> tuple[EtcdMember, ...]:
    directories = cluster_directories(cluster)
    members = read_members(ClusterPaths(directories.state))
    if not members:
        if not directories.state.is_dir():
            raise launch.ClusterError(f"there is no cluster {cluster}", "podnet ls shows those that are")
        fail(f"the store of cluster {cluster} is not etcd", "store: {driver: etcd} in its cluster.yaml")
    return members


def _member(members: tuple[EtcdMember, ...], node: str) -> EtcdMember:
    if not node:
        return members[0]
    found = next((member for member in members if member.name == node), None)
    if found is None:
        fail(f"no etcd member {node}", f"one of {', '.join(member.name for member in members)}", code=2)
    return found
