"""Asking a container to stop when it can hear it.

The kernel drops a signal to PID 1 that has no handler for it, so one sent while a program is still starting is lost.
"""

from __future__ import annotations

import asyncio
import contextlib

from podnet.controlplane.kubelet.runtime.inventory import KnownContainer
from podnet.controlplane.kubelet.runtime.processes import drops_signal

POLL_S, POLL_MAX_S = 0.01, 0.5


async def wait_receptive(container: KnownContainer, number: int) -> None:
    """Until the container's main process has a handler for this signal, or has ended."""
    pause_s = POLL_S
    while not container.exited.is_set() and drops_signal(container.status.pid, number):
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(pause_s):
                await container.exited.wait()
        pause_s = min(pause_s * 1.5, POLL_MAX_S)
