"""Running the parts of a pod's work that must not be torn apart.

A worker's sync may be cancelled at any await when its pod is deleted; a call that creates something in the runtime must
nevertheless be seen to its end, or what it made would be lost.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


async def wait_unbroken(work: Coroutine[Any, Any, T]) -> T:
    """Await `work` to its end even when the caller is cancelled meanwhile; then the cancellation goes on."""
    task = asyncio.ensure_future(work)
    cancelled = False
    while not task.done():
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError:
            if task.cancelled():
                raise
            cancelled = True
        except Exception:
            if not cancelled:
                raise
    if cancelled:
        task.exception()  # whatever it was, the cancellation comes first
        raise asyncio.CancelledError
    return task.result()
