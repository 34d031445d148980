"""When is a cluster up? The readiness check that `podnet up` waits for, run in a forked child of the supervisor.

It lives in the control-plane node's namespaces and asks the API server as the administrator would: first /readyz, then
until every node of the spec is Ready and the `default` ServiceAccount exists (without it a pod is refused). It tells
its phases as JSON lines on a pipe. What is still missing at the deadline is said by name.
"""

from __future__ import annotations

import asyncio
import json
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from podnet.controlplane.api.errors import StatusError
from podnet.controlplane.api.resources import NODES, SERVICEACCOUNTS
from podnet.controlplane.api.types import Object
from podnet.controlplane.client.endpoint import Endpoint
from podnet.controlplane.client.rest import RestClient

POLL_S = 0.02
BOOT_TIMEOUT_S = 90.0


@dataclass(frozen=True, slots=True)
class BootCheck:
    """What to wait for."""

    endpoint: Endpoint
    nodes: tuple[str, ...]
    timeout_s: float = BOOT_TIMEOUT_S


def ready_nodes(nodes: list[Object]) -> set[str]:
    """Names of the nodes whose Ready condition is True."""
    return {
        node["metadata"]["name"]
        for node in nodes
        for condition in node.get("status", {}).get("conditions") or []
        if condition.get("type") == "Ready" and condition.get("status") == "True"
    }


def not_ready_reasons(nodes: list[Object], wanted: tuple[str, ...]) -> str:
    """One line on what each missing node says of itself."""
    by_name = {node["metadata"]["name"]: node for node in nodes}
    missing = [name for name in wanted if name not in ready_nodes(nodes)]
    texts = []
    for name in missing:
        conditions = by_name.get(name, {}).get("status", {}).get("conditions") or []
        message = next((c.get("message", "") for c in conditions if c.get("type") == "Ready"), "")
        texts.append(f"{name}: {message or 'has not registered'}")
    return "; ".join(texts)


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
        await _wait_nodes(client, check.nodes, deadline)
        report(phase="nodes", seconds=time.monotonic() - ready_at, detail=f"{len(check.nodes)} Ready")
        await _wait_service_account(client, deadline)
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


async def _wait_nodes(client: RestClient, wanted: tuple[str, ...], deadline: float) -> None:
    while True:
        nodes = (await client.list(NODES)).items
        if ready_nodes(nodes) >= set(wanted):
            return
        if time.monotonic() > deadline:
            raise TimeoutError(f"nodes are not Ready: {not_ready_reasons(nodes, wanted)}")
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


def last_log_line(path: Path) -> str:
    """The last line a component wrote, for a message about why it died."""
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    except OSError:
        return ""
    return lines[-1][:300] if lines else ""
