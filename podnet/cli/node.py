"""`podnet node ls, crash, restart, add, rm`: nodes fail, come back, join and leave while the cluster runs."""

from __future__ import annotations

import asyncio
import time
from typing import Annotated, Any

import typer

from podnet import launch
from podnet.cli.options import DEFAULT_CLUSTER, Cluster, Output, cluster_option
from podnet.cli.output import Format, fail, print_json, print_table, stderr, stdout
from podnet.client_session import admin_client
from podnet.controlplane.api.errors import StatusError
from podnet.controlplane.api.resources import NODES
from podnet.controlplane.api.types import Object
from podnet.directories import ClusterDirectories, cluster_directories

READY_S = 60.0
_POLL_S = 0.1
app = typer.Typer(no_args_is_help=True, help="Nodes: list, crash, restart, add, remove.")
Name = Annotated[str, typer.Argument(help="A node, e.g. worker-1.", metavar="NAME")]
NoWait = Annotated[bool, typer.Option("--no-wait", help="Do not wait until it is Ready.")]


def register(root: typer.Typer) -> None:
    """Add the verbs of this module."""
    app.command("ls")(list_nodes)
    app.command()(crash)
    app.command()(restart)
    app.command()(add)
    app.command("rm")(remove)
    root.add_typer(app, name="node")


def list_nodes(cluster: Cluster = DEFAULT_CLUSTER, output: Output = Format.TEXT) -> None:
    """List the nodes: whether the machine runs, and what the cluster thinks of it."""
    directories = cluster_directories(cluster)
    machines = launch.ask(directories, {"verb": "status"})["nodes"]
    seen = _seen_nodes(directories)
    rows = [{**machine, **_view(seen.get(machine["name"]))} for machine in machines]
    if output is Format.JSON:
        print_json(rows)
        return
    columns = ["name", "role", "state", "ready", "schedulable", "address", "switch", "podCIDR"]
    print_table(
        ["name", "role", "machine", "ready", "schedulable", "address", "switch", "pod cidr"],
        [[str(row["ip"] if column == "address" else row[column]) for column in columns] for row in rows],
    )


def _seen_nodes(directories: ClusterDirectories) -> dict[str, Object]:
    """The Node objects; none while the API server is down, which must not hide the machines."""

    async def run() -> dict[str, Object]:
        async with admin_client(directories) as client:
            return {node["metadata"]["name"]: node for node in (await client.list(NODES)).items}

    try:
        return asyncio.run(run())
    except launch.ClusterError as error:
        stderr.print(f"[yellow]podnet:[/] {error}")
        return {}


def _view(node: Object | None) -> dict[str, str]:
    if node is None:
        return {"ready": "Unknown", "schedulable": "-", "podCIDR": "-"}
    spec = node.get("spec") or {}
    return {
        "ready": str((_ready(node) or {}).get("status", "Unknown")),
        "schedulable": "no" if spec.get("unschedulable") else "yes",
        "podCIDR": str(spec.get("podCIDR") or "-"),
    }


def _ready(node: Object) -> dict[str, Any] | None:
    conditions = (node.get("status") or {}).get("conditions") or []
    return next((dict(c) for c in conditions if c.get("type") == "Ready"), None)


def crash(name: Name, cluster: Cluster = DEFAULT_CLUSTER, output: Output = Format.TEXT) -> None:
    """Cut a node's power: every process on it dies at once, its cable goes dead. Its disk stays."""
    began = time.monotonic()
    answer = _ask(cluster, {"action": "crash", "name": name})
    _show(answer, began, output, f"{name} is down: {answer['killed']} processes died")
    if output is Format.TEXT:
        where = cluster_option(cluster)
        watch = f"podnet kubectl{where} get nodes,pods -A -o wide -w"
        stdout.print(f"[dim]next:[/] {watch}    [dim]back:[/] podnet node restart{where} {name}")


def restart(
    name: Name, no_wait: NoWait = False, cluster: Cluster = DEFAULT_CLUSTER, output: Output = Format.TEXT
) -> None:
    """Bring a node back (one that runs loses its power first); return when it is Ready."""
    began = time.monotonic()
    since = time.time()
    answer = _ask(cluster, {"action": "restart", "name": name})
    if not no_wait:
        _wait_ready(cluster, name, since, output)
    _show(answer, began, output, f"{name} is back" if no_wait else f"{name} is back and Ready")


def add(
    name: Name,
    ip: Annotated[str, typer.Option(help="Address on the underlay (default: the next free one).")] = "",
    switch: Annotated[str, typer.Option(help="The switch to plug it into (default: the first).")] = "",
    label: Annotated[list[str] | None, typer.Option(help="KEY=VALUE; may be given more than once.")] = None,
    taint: Annotated[list[str] | None, typer.Option(help="KEY=VALUE:EFFECT or KEY:EFFECT, as kubectl taint.")] = None,
    no_wait: NoWait = False,
    cluster: Cluster = DEFAULT_CLUSTER,
    output: Output = Format.TEXT,
) -> None:
    """Plug in one more worker and let it join; return when it is Ready."""
    began = time.monotonic()
    since = time.time()
    request = {
        "action": "add",
        "name": name,
        "ip": ip,
        "switch": switch,
        "labels": dict(_label(text) for text in label or ()),
        "taints": [_taint(text) for text in taint or ()],
    }
    answer = _ask(cluster, request)
    if not no_wait:
        _wait_ready(cluster, name, since, output)
    _show(answer, began, output, f"{name} has joined at {answer['ip']} on {answer['switch']}")


def remove(name: Name, cluster: Cluster = DEFAULT_CLUSTER, output: Output = Format.TEXT) -> None:
    """Remove a worker for good: its power is cut, its Node deleted, its disk forgotten. Drain it first to be gentle."""
    began = time.monotonic()
    answer = _ask(cluster, {"action": "rm", "name": name})
    directories = cluster_directories(cluster)

    async def delete() -> None:
        async with admin_client(directories) as client:
            try:
                await client.delete(NODES, name)
            except StatusError as error:
                if not error.is_not_found:
                    raise

    try:
        asyncio.run(delete())
    except launch.ClusterError as error:
        fail(f"the machine is gone, but its Node object is not: {error}", f"kubectl delete node {name}")
    _show(answer, began, output, f"{name} is removed: {answer['killed']} processes ended, its Node is deleted")


def _ask(cluster: str, request: dict[str, Any]) -> dict[str, Any]:
    answer = launch.ask(cluster_directories(cluster), {"verb": "node", **request})
    answer.pop("done", None)
    return answer


def _show(answer: dict[str, Any], began: float, output: Format, text: str) -> None:
    seconds = time.monotonic() - began
    if output is Format.JSON:
        print_json({**answer, "seconds": round(seconds, 3)})
    else:
        stdout.print(f"{text} [dim]({seconds:.2f} s)[/]")


def _label(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not key or not equals:
        fail(f"{text!r} is no label", "write KEY=VALUE", code=2)
    return key, value


def _taint(text: str) -> dict[str, str]:
    what, colon, effect = text.rpartition(":")
    key, _, value = what.partition("=")
    if not colon or not key:
        fail(f"{text!r} is no taint", "write KEY=VALUE:NoSchedule", code=2)
    return {"key": key, "effect": effect, **({"value": value} if value else {})}


def _wait_ready(cluster: str, name: str, since: float, output: Format) -> None:
    """Until the node's new kubelet has said that it is Ready; tells what it waits for once a second."""
    directories = cluster_directories(cluster)
    deadline = time.monotonic() + READY_S

    async def run() -> str:
        said, next_word, next_look = "", time.monotonic() + 1.0, time.monotonic() + 1.0
        async with admin_client(directories) as client:
            while True:
                try:
                    node = await client.get(NODES, name)
                    reason = _not_ready_reason(node, since)
                except StatusError as error:
                    reason = f"it has not registered: {error.message}"
                if not reason or time.monotonic() > deadline:
                    return reason
                if time.monotonic() > next_look:
                    next_look = time.monotonic() + 1.0
                    if gone := _why_never(directories, name):
                        return gone
                if output is Format.TEXT and time.monotonic() > next_word and reason != said:
                    stdout.print(f"  [dim]waiting for {name}: {reason}[/]")
                    said, next_word = reason, time.monotonic() + 1.0
                await asyncio.sleep(_POLL_S)

    reason = asyncio.run(run())
    if reason:
        waited = READY_S - max(0.0, deadline - time.monotonic())
        fail(f"{name} is not Ready after {waited:.0f} s: {reason}", f"podnet status -c {cluster} names its log")


def _why_never(directories: ClusterDirectories, name: str) -> str:
    """What makes waiting vain: somebody else has crashed or removed the node meanwhile."""
    machine = next((m for m in launch.ask(directories, {"verb": "status"})["nodes"] if m["name"] == name), None)
    if machine is None:
        return "it was removed meanwhile"
    return "it was crashed meanwhile" if machine["state"] == "crashed" else ""


def _not_ready_reason(node: Object, since: float) -> str:
    from podnet.controlplane.api.timestamps import parse_time

    ready = _ready(node)
    if ready is None:
        return "it has not reported yet"
    if parse_time(str(ready.get("lastHeartbeatTime") or "1970-01-01T00:00:00Z")) < int(since):
        return "its new kubelet has not reported yet"
    return "" if ready.get("status") == "True" else str(ready.get("message") or ready.get("reason") or "not Ready")
