"""When is a cluster up? The readiness check that `podnet up` waits for, run in a forked child of the supervisor.

It lives in the control-plane node's namespaces and asks the API server as the administrator would: first /readyz, then
until every node of the spec has said in this life of the cluster that it is Ready, and the `default` ServiceAccount exists
(without it a pod is refused). Then it creates the objects of the add-ons; what exists is left as its owner made it. Last it
waits for the cluster's DNS: until a pod of it is available, and a name is answered at the Service's address as a pod would
ask for it. It tells its phases as JSON lines on a pipe. What is still missing at the deadline is said by name.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from podnet.controlplane.api.errors import StatusError
from podnet.controlplane.api.resources import DEPLOYMENTS, NODES, PODS, SERVICEACCOUNTS
from podnet.controlplane.api.types import Object, Resource
from podnet.controlplane.client.endpoint import Endpoint
from podnet.controlplane.client.rest import RestClient
from podnet.dns import wire
from podnet.dns.message import A_, query

DNS_TIMEOUT_S = 0.2
DNS_PORT = 53
POLL_S = 0.02
BOOT_TIMEOUT_S = 90.0


@dataclass(frozen=True, slots=True)
class DNSCheck:
    """The Deployment to wait for, and what must then be answered where."""

    namespace: str
    deployment: str
    server: str
    name: str


@dataclass(frozen=True, slots=True)
class BootCheck:
    """What to wait for."""

    endpoint: Endpoint
    nodes: tuple[str, ...]
    since: str = ""  # when the room was made: a node that was Ready before is not Ready therefore
    addons: tuple[tuple[Resource, Object], ...] = ()
    dns: DNSCheck | None = None
    timeout_s: float = BOOT_TIMEOUT_S


def ready_nodes(nodes: list[Object], since: str = "") -> set[str]:
    """Names of the nodes whose Ready condition is True, and was said to be so not before `since`."""
    return {
        node["metadata"]["name"]
        for node in nodes
        if (condition := _ready_condition(node)).get("status") == "True" and _heartbeat(condition) >= since
    }


def not_ready_reasons(nodes: list[Object], wanted: tuple[str, ...], since: str = "") -> str:
    """One line on what each missing node says of itself."""
    by_name = {node["metadata"]["name"]: node for node in nodes}
    ready = ready_nodes(nodes, since)
    texts = []
    for name in wanted:
        condition = _ready_condition(by_name.get(name, {}))
        if condition and _heartbeat(condition) < since:
            texts.append(f"{name}: its node agent has not reported since the cluster was started")
        elif name not in ready:
            texts.append(f"{name}: {condition.get('message') or 'has not registered'}")
    return "; ".join(texts)


def _ready_condition(node: Object) -> Object:
    conditions = node.get("status", {}).get("conditions") or []
    return next((condition for condition in conditions if condition.get("type") == "Ready"), {})


def _heartbeat(condition: Object) -> str:
    return str(condition.get("lastHeartbeatTime") or "")


def run_boot_check(check: BootCheck, report_fd: int) -> None:
    """Report `{"phase", "seconds", "detail"}` lines and at last `{"done": true}`, with `error` when it failed."""
    os.set_blocking(report_fd, True)

    def report(**event: Any) -> None:
        os.write(report_fd, json.dumps(event).encode() + b"\n")

    try:
        asyncio.run(_check(check, report))
    except TimeoutError as err:
        report(done=True, error=str(err))
    except StatusError as err:
        report(done=True, error=f"the API server answers {err.code} {err.reason}: {err.message}")


async def _check(check: BootCheck, report: Any) -> None:
    began = time.monotonic()
    deadline = began + check.timeout_s
    client = RestClient(check.endpoint)
    try:
        await _wait_api(client, deadline)
        report(phase="control plane", seconds=time.monotonic() - began, detail="API server answers")
        ready_at = time.monotonic()
        await _wait_nodes(client, check, deadline)
        report(phase="nodes", seconds=time.monotonic() - ready_at, detail=f"{len(check.nodes)} Ready")
        # Not before: the pods of an add-on would all land on the one node that is there first.
        await _create_missing(client, check.addons)
        await _wait_service_account(client, deadline)
        if check.dns is not None:
            ready_at = time.monotonic()
            detail = await _wait_dns(client, check.dns, deadline)
            await _wait_name(check.dns, deadline)
            report(phase="dns", seconds=time.monotonic() - ready_at, detail=detail)
        report(done=True)
    finally:
        await client.close()


async def _wait_api(client: RestClient, deadline: float) -> None:
    while True:
        try:
            await client.list(NODES)
        except StatusError as err:
            if time.monotonic() > deadline:
                raise TimeoutError(f"the API server does not answer: {err.message}") from err
            await asyncio.sleep(POLL_S)
        else:
            return


async def _wait_nodes(client: RestClient, check: BootCheck, deadline: float) -> None:
    while True:
        nodes = (await client.list(NODES)).items
        if ready_nodes(nodes, check.since) >= set(check.nodes):
            return
        if time.monotonic() > deadline:
            raise TimeoutError(f"nodes are not Ready: {not_ready_reasons(nodes, check.nodes, check.since)}")
        await asyncio.sleep(POLL_S)


async def _wait_service_account(client: RestClient, deadline: float) -> None:
    while True:
        try:
            await client.get(SERVICEACCOUNTS, "default", "default")
        except StatusError as err:
            if time.monotonic() > deadline:
                raise TimeoutError(
                    "the default ServiceAccount does not appear: is kube-controller-manager running?"
                ) from err
            await asyncio.sleep(POLL_S)
        else:
            return


async def _create_missing(client: RestClient, objects: tuple[tuple[Resource, Object], ...]) -> None:
    for resource, obj in objects:
        try:
            await client.create(resource, obj)
        except StatusError as err:
            if not err.is_already_exists:
                raise


async def _wait_dns(client: RestClient, check: DNSCheck, deadline: float) -> str:
    """Wait until the Deployment is Available; how many of its pods are."""
    name = check.deployment
    while True:
        status = (await client.get(DEPLOYMENTS, name, check.namespace)).get("status") or {}
        if any(c["type"] == "Available" and c["status"] == "True" for c in status.get("conditions") or ()):
            return f"{name} {status.get('availableReplicas', 0)}/{status.get('replicas', 0)}"
        if time.monotonic() > deadline:
            pods = [pod for pod in (await client.list(PODS, check.namespace)).items if _is_of(pod, name)]
            raise TimeoutError(f"{name} is not Available: {pods_in_words(pods) or 'it has no pods'}")
        await asyncio.sleep(POLL_S)


async def _wait_name(check: DNSCheck, deadline: float) -> None:
    """Ask as a pod does, until there is an address: rules, endpoints and zone have then all arrived."""
    question = wire.encode(query(check.name, A_, id_=1))
    loop = asyncio.get_running_loop()
    while True:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.setblocking(False)
            try:
                sock.connect((check.server, DNS_PORT))
                sock.send(question)
                async with asyncio.timeout(DNS_TIMEOUT_S):
                    if wire.decode(await loop.sock_recv(sock, 4096)).answers:
                        return
            except (OSError, wire.WireError):
                pass  # refused while there are no endpoints, lost while there are no rules: TimeoutError is an OSError
        if time.monotonic() > deadline:
            raise TimeoutError(f"{check.server} does not answer for {check.name}")
        await asyncio.sleep(POLL_S)


def _is_of(pod: Object, deployment: str) -> bool:
    return str(pod["metadata"]["name"]).startswith(f"{deployment}-")


def pods_in_words(pods: list[Object]) -> str:
    """One line on what each pod waits for."""
    texts = []
    for pod in pods:
        status = pod.get("status") or {}
        states = [entry.get("state") or {} for entry in status.get("containerStatuses") or ()]
        reasons = [state["waiting"].get("reason", "") for state in states if "waiting" in state]
        not_ready = [c.get("message", "") for c in status.get("conditions") or () if c.get("status") == "False"]
        why = ", ".join(filter(None, reasons)) or next(filter(None, not_ready), "")
        texts.append(f"{pod['metadata']['name']} {status.get('phase', 'Unknown')}{': ' + why if why else ''}")
    return "; ".join(texts)


def last_log_line(path: Path) -> str:
    """The last line a component wrote that says something, for a message about why it died (the traceback of an
    exception group ends in a frame of `+---`)."""
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return ""
    panics = [line for line in lines[-200:] if line.startswith("panic: ")]  # a Go program's: its stack comes after it
    telling = (line.strip(" |+-") for line in reversed(panics or lines))
    return next((line[:300] for line in telling if line), "")
