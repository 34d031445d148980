"""Waiting for file descriptors without threads: pipes and pty masters of exec and attach."""

from __future__ import annotations

import asyncio
import errno
import os

READ_MAX = 32 * 1024


async def wait_readable(descriptor: int) -> None:
    """Until a read would not block."""
    loop = asyncio.get_running_loop()
    ready: asyncio.Future[None] = loop.create_future()
    loop.add_reader(descriptor, _resolve, ready)
    try:
        await ready
    finally:
        loop.remove_reader(descriptor)


async def wait_writable(descriptor: int) -> None:
    """Until a write would not block."""
    loop = asyncio.get_running_loop()
    ready: asyncio.Future[None] = loop.create_future()
    loop.add_writer(descriptor, _resolve, ready)
    try:
        await ready
    finally:
        loop.remove_writer(descriptor)


def _resolve(ready: asyncio.Future[None]) -> None:
    if not ready.done():
        ready.set_result(None)


async def read_some(descriptor: int) -> bytes:
    """The next bytes; empty at the end (which a pty master reports as EIO)."""
    while True:
        try:
            return os.read(descriptor, READ_MAX)
        except BlockingIOError:
            await wait_readable(descriptor)
        except OSError as error:
            if error.errno == errno.EIO:
                return b""
            raise


async def write_all(descriptor: int, data: bytes) -> bool:
    """Write it all, as fast as the reader takes it; False when there is no reader any more."""
    view = memoryview(data)
    while view:
        try:
            view = view[os.write(descriptor, view) :]
        except BlockingIOError:
            await wait_writable(descriptor)
        except OSError as error:
            if error.errno in {errno.EPIPE, errno.EIO}:
                return False
            raise
    return True
