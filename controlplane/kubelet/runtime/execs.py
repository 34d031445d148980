"""The runtime's ends of an exec: pipes to give away, and collecting what a command printed."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Coroutine
from typing import Any

from podnet.controlplane.kubelet.cri import ExecProcess, ExecResult
from podnet.controlplane.kubelet.runtime import protocol

MAX_OUTPUT_BYTES = 16 * 1024 * 1024
DRAIN_S = 1.0
_READ_BYTES = 64 * 1024


def open_exec_streams(*, stdin: bool, stdout: bool, stderr: bool) -> tuple[dict[str, int], dict[str, int]]:
    """Pipes for the streams asked for: near ends and far ends by name."""
    near: dict[str, int] = {}
    far: dict[str, int] = {}
    if stdin:
        far["stdin"], near["stdin"] = os.pipe2(os.O_CLOEXEC)
    if stdout:
        near["stdout"], far["stdout"] = os.pipe2(os.O_CLOEXEC)
    if stderr:
        near["stderr"], far["stderr"] = os.pipe2(os.O_CLOEXEC)
    return near, far


async def collect_exec(process: ExecProcess, wait: Coroutine[Any, Any, int], timeout_s: float) -> ExecResult:
    """What a command printed and how it ended. A background child that keeps the pipes open is not waited for longer
    than a second. TimeoutError at the limit; the descriptors are closed in every case."""
    outputs = {process.stdout: bytearray(), process.stderr: bytearray()}
    readers = [asyncio.ensure_future(_read_all(descriptor, data)) for descriptor, data in outputs.items()]
    waiter = asyncio.ensure_future(wait)
    try:
        async with asyncio.timeout(timeout_s or None):
            code = await waiter
        await asyncio.wait(readers, timeout=DRAIN_S)
    finally:
        for task in (*readers, waiter):
            task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.gather(*readers, waiter, return_exceptions=True)
        protocol.close_all(list(outputs))
    return ExecResult(code, bytes(outputs[process.stdout]), bytes(outputs[process.stderr]))


async def _read_all(descriptor: int, into: bytearray) -> None:
    """Read to the end. What goes beyond the limit is read and dropped, so that the command is not blocked by it."""
    os.set_blocking(descriptor, False)
    loop = asyncio.get_running_loop()
    ended: asyncio.Future[None] = loop.create_future()

    def readable() -> None:
        try:
            data = os.read(descriptor, _READ_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        into.extend(data[: max(0, MAX_OUTPUT_BYTES - len(into))])
        if not data and not ended.done():
            ended.set_result(None)

    loop.add_reader(descriptor, readable)
    try:
        await ended
    finally:
        loop.remove_reader(descriptor)
