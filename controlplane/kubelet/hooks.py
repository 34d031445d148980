"""Lifecycle hooks: postStart and preStop as exec, httpGet, tcpSocket (ignored, as upstream) or sleep.

A hook has no answer but success; HookError carries the event's text.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from podnet.controlplane.kubelet.cri import RuntimeService, RuntimeServiceError
from podnet.controlplane.kubelet.probes.http import ProbeConnectionError, http_get, http_target
from podnet.controlplane.kubelet.probes.prober import resolve_port

POST_START_TIMEOUT_S = 3600.0


class HookError(Exception):
    """The hook failed."""


async def run_hook(
    runtime: RuntimeService,
    handler: Mapping[str, Any],
    container: Mapping[str, Any],
    container_id: str,
    pod_ip: str,
    timeout_s: float,
) -> None:
    """Run one handler to its end; HookError when it fails, TimeoutError when it takes longer than `timeout_s`."""
    if "exec" in handler:
        await _exec(runtime, handler["exec"], container, container_id, timeout_s)
    elif "httpGet" in handler:
        action = handler["httpGet"]
        try:
            port = resolve_port(action["port"], container)
            code, _ = await http_get(http_target(action, port, pod_ip), timeout_s)
        except (ProbeConnectionError, ValueError) as error:
            raise HookError(str(error)) from error
        if not 200 <= code < 400:
            raise HookError(f"HTTP lifecycle hook ({action.get('path') or '/'}) failed with statuscode: {code}")
    elif "sleep" in handler:
        async with asyncio.timeout(timeout_s):
            await asyncio.sleep(float(handler["sleep"]["seconds"]))


async def _exec(
    runtime: RuntimeService,
    action: Mapping[str, Any],
    container: Mapping[str, Any],
    container_id: str,
    timeout_s: float,
) -> None:
    command = tuple(str(word) for word in action.get("command") or ())
    try:
        result = await runtime.exec_sync(container_id, command, timeout_s)
    except RuntimeServiceError as error:
        raise HookError(error.message) from error
    if result.exit_code:
        said = (result.stdout + result.stderr).decode("utf-8", "replace")
        raise HookError(
            f'Exec lifecycle hook ([{" ".join(command)}]) for Container "{container["name"]}" failed - error: '
            f"command '{' '.join(command)}' exited with {result.exit_code}: {said}, message: {said!r}"
        )
