"""`podnet conntrack NODE`: the connections that a node tracks, each as it was sent and as it is answered."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from podnet import launch
from podnet.cli.options import DEFAULT_CLUSTER, Cluster, Output
from podnet.cli.output import Format, print_json, print_table, stdout
from podnet.directories import cluster_directories


def register(app: typer.Typer) -> None:
    """Add the verb of this module."""
    app.command()(conntrack)


def conntrack(
    target: Annotated[str, typer.Argument(help="A node or host: NAME, node/NAME, host/NAME.")],
    to: Annotated[str, typer.Option(help="Only connections that were sent to this address.")] = "",
    cluster: Cluster = DEFAULT_CLUSTER,
    output: Output = Format.TEXT,
) -> None:
    """List the connections that a node tracks: where the client sent it, who answers, and what was translated."""
    found = tracked(cluster, target, to)
    if output is Format.JSON:
        print_json(found)
        return
    if not found:
        stdout.print("no connections" + (f" to {to}" if to else ""))
        return
    print_table(
        ["protocol", "state", "timeout", "client", "sent to", "answered by", "translated"],
        [
            (
                flow["protocol"],
                flow["state"],
                f"{flow['timeout_s']}s",
                _end(flow, "source"),
                _end(flow, "destination"),
                _end(flow, "reply_source"),
                translation(flow) or "-",
            )
            for flow in found
        ],
    )


def tracked(cluster: str, target: str, to: str = "") -> list[dict[str, Any]]:
    """The flows of a node or host, oldest timeout last."""
    answer = launch.ask(cluster_directories(cluster), {"verb": "conntrack", "target": target})
    flows = [flow for flow in answer["flows"] if not to or flow["destination"] == to]
    return sorted(flows, key=lambda flow: (flow["destination"], flow["destination_port"], -flow["timeout_s"]))


def translation(flow: dict[str, Any]) -> str:
    """What NAT did to it, in a word: DNAT, masquerade (SNAT), both or nothing."""
    words = []
    if _end(flow, "destination") != _end(flow, "reply_source"):
        words.append("DNAT")
    if flow["source"] != flow["reply_destination"]:
        words.append(f"SNAT to {flow['reply_destination']}")
    return ", ".join(words)


def _end(flow: dict[str, Any], which: str) -> str:
    return f"{flow[which]}:{flow[f'{which}_port']}"
