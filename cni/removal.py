"""Deleting links without waiting for the kernel's grace period.

RTM_DELLINK takes a link out of its namespace within a millisecond and then keeps its caller waiting some 20 ms for the
last readers to leave (an RCU barrier). Nobody needs to see that: a worker thread sits through it, and the DEL that asked
returns as soon as the link is gone from the namespace. Workers wait side by side and share barriers, which is what makes
a hundred deletions a fraction of a hundred times one.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Self

from podnet.topology.kernel import DeleteLink, Kernel, KernelError, Netns
from podnet.topology.linux.syscalls import in_netns

WORKERS = 16
_FIRST_LOOK_S = 0.0005
_LOOK_S_MAX = 0.016


def link_present(netns: Netns, name: str) -> bool:
    """Whether the namespace has a link of this name now."""
    try:
        with in_netns(netns):
            socket.if_nametoindex(name)
    except OSError:
        return False
    return True


class LinkRemover:
    """Deletes links of one namespace on worker threads. `close` waits for those under way."""

    def __init__(self, kernel: Kernel, netns: Netns = "", present: Callable[[Netns, str], bool] = link_present) -> None:
        self._kernel = kernel
        self._netns = netns
        self._present = present
        self._workers = ThreadPoolExecutor(WORKERS, thread_name_prefix="dellink")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Wait until every deletion has returned."""
        self._workers.shutdown()

    async def remove(self, names: Sequence[str]) -> None:
        """Return when none of the links is there any more. A link that never was counts as removed; KernelError when
        the kernel refuses."""
        for name in names:
            if self._present(self._netns, name):
                await self._remove_one(name)

    async def _remove_one(self, name: str) -> None:
        loop = asyncio.get_running_loop()
        future = loop.run_in_executor(self._workers, self._delete, name)
        wait_s = _FIRST_LOOK_S
        while not future.done():
            await asyncio.wait((future,), timeout=wait_s)
            if not self._present(self._netns, name):
                return
            wait_s = min(wait_s * 2, _LOOK_S_MAX)
        await future

    def _delete(self, name: str) -> None:
        try:
            self._kernel.apply(self._netns, [DeleteLink(name)])
        except KernelError as error:
            if not error.is_not_found:
                raise
