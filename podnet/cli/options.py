"""Options that many verbs share, said once."""

from __future__ import annotations

import os
from typing import Annotated

import typer

from podnet.cli.output import Format

Cluster = Annotated[
    str, typer.Option("--cluster", "-c", envvar="PODNET_CLUSTER", help="Name of the cluster.", metavar="NAME")
]
Output = Annotated[Format, typer.Option("--output", "-o", help="text for people, json for machines.")]
Namespace = Annotated[str, typer.Option("--namespace", "-n", help="Namespace of a pod that is named without one.")]

DEFAULT_CLUSTER = "default"


def cluster_option(name: str) -> str:
    """` -c NAME` for a command line to copy; nothing where the same cluster is meant without it."""
    meant = os.environ.get("PODNET_CLUSTER") or DEFAULT_CLUSTER
    return "" if name == meant else f" -c {name}"
