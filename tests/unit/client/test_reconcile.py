"""The reconcile loop: back-off on failure, requeue on request, and loops that are started again."""

from __future__ import annotations

import asyncio
import logging

import pytest

from podnet.controlplane.api.errors import conflict, internal_error
from podnet.controlplane.client.backoff import Backoff
from podnet.controlplane.client.reconcile import Controller, Result, supervise
from podnet.controlplane.client.workqueue import WorkQueue

FAST = Backoff(0.001, 0.01)


async def test_a_key_that_fails_comes_again_until_it_succeeds() -> None:
    queue, seen = WorkQueue(backoff=FAST), []

    async def reconcile(key: str) -> None:
        seen.append(key)
        if len(seen) < 4:
            raise conflict("pods", key)
        queue.shut_down()

    queue.add("a")
    await asyncio.wait_for(Controller("test", queue, reconcile, workers=2).run(), 2)
    assert seen == ["a"] * 4
    assert queue.failures("a") == 0


async def test_requeue_after_comes_again() -> None:
    queue, times = WorkQueue(), []
    loop = asyncio.get_running_loop()

    async def reconcile(_key: str) -> Result:
        times.append(loop.time())
        if len(times) == 2:
            queue.shut_down()
        return Result(0.02)

    queue.add("a")
    await asyncio.wait_for(Controller("test", queue, reconcile).run(), 2)
    assert times[1] - times[0] >= 0.019


async def test_one_key_is_never_reconciled_twice_at_once() -> None:
    queue, running, most, runs = WorkQueue(), 0, 0, 0

    async def reconcile(key: str) -> None:
        nonlocal running, most, runs
        running += 1
        most = max(most, running)
        queue.add(key)
        await asyncio.sleep(0)
        running -= 1
        runs += 1
        if runs >= 10:
            queue.shut_down()

    queue.add("a")
    await asyncio.wait_for(Controller("test", queue, reconcile, workers=4).run(), 2)
    assert most == 1


@pytest.mark.parametrize(
    ("error", "logged"),
    [(conflict("pods", "a"), False), (internal_error("x"), True), (ValueError("x"), True)],
    ids=["conflict", "server error", "bug"],
)
async def test_what_is_worth_a_line(error: Exception, logged: bool, caplog: pytest.LogCaptureFixture) -> None:
    queue = WorkQueue(backoff=FAST)

    async def reconcile(_key: str) -> None:
        raise error

    with caplog.at_level(logging.WARNING):
        await Controller("test", queue, reconcile).process("a")
    assert bool(caplog.records) is logged
    assert queue.failures("a") == 1


async def test_supervise_starts_a_crashed_loop_again(caplog: pytest.LogCaptureFixture) -> None:
    runs = 0
    enough = asyncio.Event()

    async def loop() -> None:
        nonlocal runs
        runs += 1
        if runs == 3:
            enough.set()
            await asyncio.Event().wait()
        async with asyncio.TaskGroup() as group:
            group.create_task(_crash())

    task = asyncio.create_task(supervise("test", loop, backoff=FAST))
    await asyncio.wait_for(enough.wait(), 2)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert sum("test ended" in record.message for record in caplog.records) == 2


async def _crash() -> None:
    raise RuntimeError("no")
