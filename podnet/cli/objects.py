"""`podnet apply, get, delete, logs`: the small client, for machines without kubectl.

The HTTP client is imported inside the verbs: it costs 0.2 s, which `podnet exec` should not pay.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from podnet.cli.options import DEFAULT_CLUSTER, Cluster, Namespace, Output
from podnet.cli.output import Format, fail, print_json, print_table, stdout
from podnet.directories import cluster_directories


def register(app: typer.Typer) -> None:
    """Add the verbs of this module."""
    app.command()(apply)
    app.command()(get)
    app.command()(delete)
    app.command()(logs)


def apply(
    file: Annotated[
        Path, typer.Option("--file", "-f", help="A manifest, or a directory of them; - for standard input.")
    ],
    cluster: Cluster = DEFAULT_CLUSTER,
    namespace: Namespace = "default",
) -> None:
    """Create or change objects from manifests."""
    from podnet import objects
    from podnet.client_session import admin_client

    if str(file) == "-":
        manifests = objects.parse_manifests(sys.stdin.read(), "standard input", namespace)
    else:
        manifests = objects.read_manifests(file, namespace)

    async def run() -> None:
        async with admin_client(cluster_directories(cluster)) as client:
            for manifest in manifests:
                print(f"{manifest.name} {await objects.apply(client, manifest)}")

    asyncio.run(run())


def _refuse_paths(*names: str) -> None:
    """A name becomes a part of a URL's path; what would be more than one part is no name (as kubectl says it)."""
    for name in names:
        if name in ("", ".", "..") or any(sign in name for sign in "/%"):
            fail(f"invalid resource name {name!r}: may not be empty, '.' or '..', nor contain '/' or '%'", code=2)


def get(
    kind: Annotated[str, typer.Argument(help="pods, deploy, nodes, …")],
    names: Annotated[list[str] | None, typer.Argument(help="Names; none for all.")] = None,
    selector: Annotated[str, typer.Option("--selector", "-l", help="A label selector.")] = "",
    every: Annotated[bool, typer.Option("--all-namespaces", "-A", help="In all namespaces.")] = False,
    cluster: Cluster = DEFAULT_CLUSTER,
    namespace: Namespace = "default",
    output: Output = Format.TEXT,
) -> None:
    """List objects as kubectl would."""
    from podnet import objects
    from podnet.client_session import admin_client

    resource = objects.find_resource(kind)
    _refuse_paths(namespace, *(names or ()))
    where = "" if every or not resource.namespaced else namespace

    async def run() -> None:
        async with admin_client(cluster_directories(cluster)) as client:
            if output is Format.JSON:
                if names and len(names) == 1:
                    print_json(await client.get(resource, names[0], where))
                    return
                items = (await client.list(resource, where, label_selector=selector)).items
                wanted = [o for o in items if not names or o["metadata"]["name"] in names]
                print_json({"kind": "List", "apiVersion": "v1", "metadata": {}, "items": wanted})
                return
            shown = await objects.get_table(client, resource, where, names or [], selector)
            _print(shown, with_namespace=every and resource.namespaced)

    asyncio.run(run())


def _print(shown: dict[str, Any], *, with_namespace: bool) -> None:
    if not shown["rows"]:
        stdout.print("No resources found")
        return
    keep = [i for i, column in enumerate(shown["columnDefinitions"]) if not column.get("priority")]
    heads = [shown["columnDefinitions"][i]["name"] for i in keep]
    rows = [[row["cells"][i] for i in keep] for row in shown["rows"]]
    if with_namespace:
        heads.insert(0, "namespace")
        for cells, row in zip(rows, shown["rows"], strict=True):
            cells.insert(0, row["object"]["metadata"]["namespace"])
    print_table(heads, rows)


def delete(
    kind: Annotated[str, typer.Argument(help="pod, deploy, …")],
    names: Annotated[list[str], typer.Argument(help="Names.")],
    now: Annotated[bool, typer.Option("--now", help="Grace period of one second.")] = False,
    cluster: Cluster = DEFAULT_CLUSTER,
    namespace: Namespace = "default",
) -> None:
    """Delete objects by name."""
    from podnet import objects
    from podnet.client_session import admin_client

    resource = objects.find_resource(kind)
    _refuse_paths(namespace, *names)

    async def run() -> None:
        async with admin_client(cluster_directories(cluster)) as client:
            for name in names:
                where = namespace if resource.namespaced else ""
                await client.delete(resource, name, where, grace_period_s=1 if now else None, propagation="Background")
                print(f'{resource.singular} "{name}" deleted')

    asyncio.run(run())


def logs(
    pod: Annotated[str, typer.Argument(help="Name of the pod.")],
    container: Annotated[str, typer.Option("--container", help="Container, when there are several.")] = "",
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on as it grows.")] = False,
    tail: Annotated[int, typer.Option(help="Only the last lines (-1: all).")] = -1,
    cluster: Cluster = DEFAULT_CLUSTER,
    namespace: Namespace = "default",
) -> None:
    """Print the log of a container."""
    import aiohttp

    from podnet.client_session import admin_endpoint

    pod = pod.removeprefix("pod/")
    _refuse_paths(namespace, pod)
    query = {"container": container} if container else {}
    if follow:
        query["follow"] = "true"
    if tail >= 0:
        query["tailLines"] = str(tail)

    async def run() -> None:
        import ssl

        endpoint = admin_endpoint(cluster_directories(cluster))
        context = ssl.create_default_context(cafile=str(endpoint.ca_file))
        context.load_cert_chain(str(endpoint.cert_file), str(endpoint.key_file))
        url = f"{endpoint.server}/api/v1/namespaces/{namespace}/pods/{pod}/log"
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=10)
        async with (
            aiohttp.ClientSession(timeout=timeout) as session,
            session.get(url, params=query, ssl=context) as answer,
        ):
            if answer.status != 200:
                status = await answer.json(content_type=None)
                fail(f"Error from server ({status.get('reason', answer.status)}): {status.get('message', '')}")
            async for chunk in answer.content.iter_any():
                sys.stdout.buffer.write(chunk)
                sys.stdout.flush()

    asyncio.run(run())
