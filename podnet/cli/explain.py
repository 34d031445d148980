"""`podnet explain svc/NAME | pod/NAME`: the rules of a Service on a node, in words; the scheduler's reasons for a pod.

Here is what reads: objects from the API server, rules by a program in the node, connections from the supervisor. What is
made of it is decided in `proxy/explain/` and `controlplane/scheduler/report.py`.
"""

from __future__ import annotations

import asyncio
import sys
from dataclasses import asdict
from typing import Annotated, Any

import typer

from podnet import launch
from podnet.cli.conntrack import tracked
from podnet.cli.options import DEFAULT_CLUSTER, Cluster, Output, cluster_option
from podnet.cli.output import Format, fail, print_json, stdout
from podnet.client_session import admin_client
from podnet.collect import collect
from podnet.controlplane.api.errors import StatusError
from podnet.controlplane.api.resources import (
    ENDPOINTSLICES,
    NAMESPACES,
    NODES,
    PERSISTENTVOLUMECLAIMS,
    PERSISTENTVOLUMES,
    PODS,
    SERVICES,
    STORAGECLASSES,
)
from podnet.controlplane.api.types import Object, Resource
from podnet.controlplane.client.rest import RestClient
from podnet.controlplane.scheduler.report import ClusterObjects, render_report, report_pod
from podnet.directories import ClusterDirectories, cluster_directories
from podnet.launch import ClusterError
from podnet.proxy.explain.service import Material, explain_service
from podnet.proxy.explain.text import render_text
from podnet.topology.paths import ClusterPaths

KINDS = {
    **dict.fromkeys(("svc", "service", "services"), "service"),
    **dict.fromkeys(("po", "pod", "pods"), "pod"),
}
LISTINGS = {
    "nftables": ("nft", "list", "table", "ip", "kube-proxy"),
    "iptables": ("iptables-save", "-c"),
}


def register(app: typer.Typer) -> None:
    """Add the verb of this module."""
    app.command()(explain)


def explain(
    target: Annotated[str, typer.Argument(metavar="svc/NAME|pod/NAME", help="A Service, or a pod.")],
    node: Annotated[str, typer.Option(help="The node whose rules to read; without it the first worker.")] = "",
    namespace: Annotated[str, typer.Option("--namespace", "-n", help="Namespace of the Service or pod.")] = "default",
    cluster: Cluster = DEFAULT_CLUSTER,
    output: Output = Format.TEXT,
) -> None:
    """Explain a Service's rules on a node (with counters and connections), or what the scheduler says of a pod."""
    kind, namespace, name = _parse(target, namespace)
    directories = cluster_directories(cluster)
    if kind == "pod":
        if node:
            fail(
                "--node is for Services: a pod is explained for every node",
                f"podnet explain{cluster_option(cluster)} {target}",
                code=2,
            )
        _explain_pod(directories, namespace, name, output)
        return
    _explain_service(directories, namespace, name, node, output)


def _parse(target: str, namespace: str) -> tuple[str, str, str]:
    """Kind, namespace and name."""
    words = target.split("/")
    kind = KINDS.get(words[0].lower(), "")
    if not kind or len(words) not in (2, 3) or not all(words):
        fail(f"{target!r} cannot be explained: write svc/NAME, svc/NAMESPACE/NAME or pod/NAME", code=2)
    return kind, words[1] if len(words) == 3 else namespace, words[-1]


async def _get(client: RestClient, resource: Resource, namespace: str, name: str) -> Object:
    """One object; the usual mistakes get an answer that helps."""
    try:
        return await client.get(resource, name, namespace)
    except StatusError as err:
        if not err.is_not_found:
            raise
        there = sorted(obj["metadata"]["name"] for obj in (await client.list(resource, namespace)).items)
        names = (
            f"there are {', '.join(there[:10])}" + (", ..." if len(there) > 10 else "") if there else "there is none"
        )
        kind = resource.kind if resource.kind == "Service" else resource.singular
        raise ClusterError(
            f"no {kind} {name!r} in namespace {namespace!r}: {names}", "another namespace is named with -n"
        ) from err


def _list(client: RestClient, resource: Resource, namespace: str = "") -> Any:
    async def items() -> list[Object]:
        return (await client.list(resource, namespace)).items

    return items()


# --- Services ---------------------------------------------------------------------------------------------------


def _explain_service(directories: ClusterDirectories, namespace: str, name: str, node: str, output: Format) -> None:
    names, chosen = _choose_node(directories, node)

    async def read() -> tuple[Object, Object, list[Object], list[Object]]:
        async with admin_client(directories) as client:
            service = await _get(client, SERVICES, namespace, name)
            found = await asyncio.gather(
                client.get(NODES, chosen), _list(client, ENDPOINTSLICES, namespace), _list(client, PODS, namespace)
            )
            return service, *found

    service, node_object, slices, pods = asyncio.run(read())
    mode = _mode(directories, chosen)
    material = Material(
        service,
        node_object,
        mode,
        listing=_listing(directories, chosen, mode),
        slices=slices,
        pods=pods,
        flows=tracked(directories.name, f"node/{chosen}"),
    )
    found = explain_service(material)
    if output is Format.JSON:
        print_json(asdict(found))
        return
    for line in render_text(found, _width(), [each for each in names if each != chosen]):
        print(line)


def _choose_node(directories: ClusterDirectories, wanted: str) -> tuple[list[str], str]:
    """The names of all nodes, and the one to ask: without a wish the first worker that runs."""
    nodes = launch.ask(directories, {"verb": "status"})["nodes"]
    names = [str(each["name"]) for each in nodes]
    running = [each for each in nodes if each["pid"]]
    first = next((each for each in running if each["role"] == "worker"), running[0] if running else nodes[0])
    chosen = wanted or str(first["name"])
    if chosen not in names:
        fail(f"there is no node {chosen!r}: nodes are {', '.join(names)}")
    if not any(each["name"] == chosen for each in running):
        fail(f"node {chosen} is down, and its rules with it", f"podnet node restart {chosen} -c {directories.name}")
    return names, chosen


def _mode(directories: ClusterDirectories, node: str) -> str:
    """The mode of the node itself: while a cluster is being switched it may not be the cluster's yet."""
    try:
        return ClusterPaths(directories.state).node(node).proxy_mode_file.read_text(encoding="utf-8").strip()
    except FileNotFoundError:
        return "none"


def _listing(directories: ClusterDirectories, node: str, mode: str) -> str:
    """The node's rules; "" where it has none."""
    if mode not in LISTINGS:
        return ""
    result = collect(directories, f"node/{node}", *LISTINGS[mode])
    if result.exit_code and "No such file" not in result.stderr:
        raise ClusterError(f"node/{node}: {' '.join(LISTINGS[mode])}: {result.stderr.strip()}")
    return result.stdout


def _width() -> int | None:
    """Columns of the terminal; None for a pipe."""
    return stdout.width if sys.stdout.isatty() else None


# --- pods -------------------------------------------------------------------------------------------------------


def _explain_pod(directories: ClusterDirectories, namespace: str, name: str, output: Format) -> None:
    async def read() -> tuple[Object, ClusterObjects]:
        async with admin_client(directories) as client:
            pod = await _get(client, PODS, namespace, name)
            resources = (NODES, PODS, NAMESPACES, PERSISTENTVOLUMECLAIMS, PERSISTENTVOLUMES, STORAGECLASSES)
            found = await asyncio.gather(*(_list(client, resource) for resource in resources))
            return pod, ClusterObjects(*found)

    pod, objects = asyncio.run(read())
    report = report_pod(pod, objects)
    if output is Format.JSON:
        print_json(asdict(report))
        return
    for line in render_report(report):
        print(line)
