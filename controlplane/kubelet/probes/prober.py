"""Asking a container once: exec, httpGet, tcpSocket or grpc.

Requests leave from the agent's own network namespace, the node's, as on a real node; that is why NetworkPolicy lets a
node's probes pass. Answers are (success, output); output is what the Unhealthy event shows.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from podnet.controlplane.kubelet.cri import RuntimeService, RuntimeServiceError
from podnet.controlplane.kubelet.probes.grpc import SERVING, check_health
from podnet.controlplane.kubelet.probes.http import ProbeConnectionError, dial_error, http_get, http_target
from podnet.controlplane.kubelet.probes.state import ProbeSpec

OUTPUT_MAX = 10 * 1024


@dataclass(frozen=True, slots=True)
class ProbeTarget:
    """The container that is asked."""

    container_id: str
    container: Mapping[str, Any]
    pod_ip: str


@dataclass(frozen=True, slots=True)
class ProbeAnswer:
    """`errored`: the question itself could not be asked (an unknown port name, a command that is not there); it changes
    no state."""

    success: bool
    output: str = ""
    errored: bool = False


def resolve_port(port: int | str, container: Mapping[str, Any]) -> int:
    """A port number, from a number or a container port's name; ValueError when there is none."""
    if isinstance(port, int):
        return port
    if port.isdigit():
        return int(port)
    for declared in container.get("ports") or ():
        if declared.get("name") == port:
            return int(declared["containerPort"])
    raise ValueError(f"couldn't find port: {port}")


async def probe_once(runtime: RuntimeService, spec: ProbeSpec, target: ProbeTarget) -> ProbeAnswer:
    """Ask, at most `timeoutSeconds` long."""
    handler = spec.handler
    try:
        if "exec" in handler:
            return await _exec(runtime, handler["exec"], target, spec.timeout_s)
        if "httpGet" in handler:
            return await _http(handler["httpGet"], target, spec.timeout_s)
        if "tcpSocket" in handler:
            action = handler["tcpSocket"]
            port = resolve_port(action["port"], target.container)
            return await _tcp(action.get("host") or target.pod_ip, port, spec.timeout_s)
        if "grpc" in handler:
            return await _grpc(handler["grpc"], target, spec.timeout_s)
    except ValueError as error:
        return ProbeAnswer(success=False, output=str(error), errored=True)
    return ProbeAnswer(success=False, output="missing probe handler", errored=True)


async def _exec(
    runtime: RuntimeService, action: Mapping[str, Any], target: ProbeTarget, timeout_s: float
) -> ProbeAnswer:
    command = tuple(str(word) for word in action.get("command") or ())
    try:
        result = await runtime.exec_sync(target.container_id, command, timeout_s)
    except TimeoutError:
        return ProbeAnswer(
            success=False, output=f'command timed out: "{" ".join(command)}" timed out after {timeout_s}s'
        )
    except RuntimeServiceError as error:
        return ProbeAnswer(success=False, output=error.message, errored=True)
    output = (result.stdout + result.stderr)[:OUTPUT_MAX].decode("utf-8", "replace")
    return ProbeAnswer(result.exit_code == 0, output)


async def _http(action: Mapping[str, Any], target: ProbeTarget, timeout_s: float) -> ProbeAnswer:
    where = http_target(action, resolve_port(action["port"], target.container), target.pod_ip)
    try:
        code, body = await http_get(where, timeout_s)
    except ProbeConnectionError as error:
        return ProbeAnswer(success=False, output=str(error))
    if 200 <= code < 400:
        return ProbeAnswer(success=True, output=body)
    return ProbeAnswer(success=False, output=f"HTTP probe failed with statuscode: {code}")


async def _tcp(host: str, port: int, timeout_s: float) -> ProbeAnswer:
    address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    try:
        async with asyncio.timeout(timeout_s):
            _, writer = await asyncio.open_connection(host, port)
    except OSError as error:  # TimeoutError is one of them
        return ProbeAnswer(success=False, output=dial_error(address, error))
    writer.close()
    return ProbeAnswer(success=True)


async def _grpc(action: Mapping[str, Any], target: ProbeTarget, timeout_s: float) -> ProbeAnswer:
    address = f"{target.pod_ip}:{action['port']}"
    service = action.get("service") or ""
    try:
        async with asyncio.timeout(timeout_s):
            status = await check_health(target.pod_ip, int(action["port"]), service)
    except TimeoutError:
        return ProbeAnswer(
            success=False,
            output=f'timeout: failed to connect service "{address}" within {timeout_s}s: context deadline exceeded',
        )
    except (OSError, EOFError):
        return ProbeAnswer(success=False, output=f'error: failed to connect service "{address}"')
    if status == SERVING:
        return ProbeAnswer(success=True, output="service healthy")
    if status is None:
        return ProbeAnswer(success=False, output=f'error: health rpc probe failed for service "{service}"')
    word = {0: "UNKNOWN", 2: "NOT_SERVING", 3: "SERVICE_UNKNOWN"}.get(status, str(status))
    return ProbeAnswer(success=False, output=f'service unhealthy (responded with "{word}")')
