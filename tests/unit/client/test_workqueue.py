"""The work queue: laws of the core, and waiting, timers and back-off around it."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from podnet.controlplane.client.backoff import Backoff
from podnet.controlplane.client.workqueue import QueueCore, QueueShutDownError, WorkQueue

KEYS = st.sampled_from("abcd")
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("add"), KEYS),
        st.tuples(st.just("later"), KEYS, st.integers(0, 20)),
        st.tuples(st.just("take")),
        st.tuples(st.just("done"), st.integers(0, 3)),
        st.tuples(st.just("advance"), st.integers(0, 10)),
    ),
    max_size=60,
)


@given(STEPS)
def test_no_key_is_lost_or_handed_out_twice_at_once(steps: list[tuple]) -> None:
    core, now = QueueCore(), 0
    wanted: set[str] = set()  # asked for and not handed out since
    delayed: dict[str, int] = {}
    processing: list[str] = []
    for step in steps:
        if step[0] == "add":
            core.add(step[1])
            wanted.add(step[1])
        elif step[0] == "later":
            core.add_at(step[1], now + step[2])
            delayed[step[1]] = min(delayed.get(step[1], now + step[2]), now + step[2])
        elif step[0] == "advance":
            now += step[1]
            core.advance(now)
            for key in [key for key, due in delayed.items() if due <= now]:
                wanted.add(key)
                del delayed[key]
        elif step[0] == "take":
            key = core.take()
            if key is None:
                assert wanted <= set(processing)
            else:
                assert key not in processing
                assert key in wanted
                wanted.discard(key)
                processing.append(key)
        elif processing:
            core.done(processing.pop(step[1] % len(processing)))
        assert core.next_due() == (min(delayed.values()) if delayed else None)
    for key in processing:
        core.done(key)
    core.advance(now + 100)
    drained = set()
    while (key := core.take()) is not None:
        assert key not in drained
        drained.add(key)
        core.done(key)
    assert drained == wanted | set(delayed)
    assert core.is_idle


def test_keys_leave_in_the_order_they_came() -> None:
    core = QueueCore()
    for key in ("a", "b", "a", "c"):
        core.add(key)
    assert [core.take(), core.take(), core.take(), core.take()] == ["a", "b", "c", None]


def test_a_key_added_while_processed_comes_again_at_the_end() -> None:
    core = QueueCore()
    core.add("a")
    assert core.take() == "a"
    core.add("a")
    core.add("b")
    assert core.take() == "b"
    assert core.take() is None
    core.done("a")
    assert core.take() == "a"


def test_the_earlier_of_two_times_wins() -> None:
    core = QueueCore()
    core.add_at("a", 10)
    core.add_at("a", 5)
    core.add_at("a", 7)
    core.advance(5)
    assert core.take() == "a"
    core.done("a")
    core.advance(20)
    assert core.take() is None


def test_shut_down_refuses_new_keys_and_drains_the_old() -> None:
    core = QueueCore()
    core.add("a")
    core.add_at("b", 1)
    core.shut_down()
    core.add("c")
    core.advance(5)
    assert [core.take(), core.take()] == ["a", None]


async def test_get_waits_for_a_key() -> None:
    queue = WorkQueue()
    waiting = asyncio.create_task(queue.get())
    await asyncio.sleep(0)
    assert not waiting.done()
    queue.add("a")
    assert await waiting == "a"


async def test_every_waiting_worker_gets_a_key_of_its_own() -> None:
    queue = WorkQueue()
    workers = [asyncio.create_task(queue.get()) for _ in range(3)]
    await asyncio.sleep(0)
    for key in "abc":
        queue.add(key)
    assert sorted(await asyncio.gather(*workers)) == ["a", "b", "c"]


async def test_a_cancelled_worker_passes_its_wake_up_on() -> None:
    queue = WorkQueue()
    first, second = (asyncio.create_task(queue.get()) for _ in range(2))
    await asyncio.sleep(0)
    queue.add("a")
    first.cancel()
    assert await asyncio.wait_for(second, 1) == "a"
    with pytest.raises(asyncio.CancelledError):
        await first


async def test_add_after_comes_after() -> None:
    queue = WorkQueue()
    loop = asyncio.get_running_loop()
    begin = loop.time()
    queue.add_after("late", 0.05)
    queue.add_after("soon", 0.01)
    assert await queue.get() == "soon"
    assert await queue.get() == "late"
    assert loop.time() - begin >= 0.045


async def test_back_off_doubles_per_key_until_forgotten() -> None:
    queue = WorkQueue(backoff=Backoff(base_s=0.001, max_s=1.0))
    for failures in range(3):
        assert queue.failures("a") == failures
        queue.add_rate_limited("a")
        assert await queue.get() == "a"
        queue.done("a")
    queue.forget("a")
    assert queue.failures("a") == 0
    assert queue.is_idle


async def test_shut_down_wakes_waiting_workers() -> None:
    queue = WorkQueue()
    workers = [asyncio.create_task(queue.get()) for _ in range(2)]
    await asyncio.sleep(0)
    queue.add_after("never", 0.001)
    queue.shut_down()
    for worker in workers:
        with pytest.raises(QueueShutDownError):
            await worker


@pytest.mark.parametrize(
    ("failures", "random", "expected"),
    [(0, 0.0, 0.005), (1, 0.0, 0.01), (3, 0.0, 0.04), (100, 0.0, 1.0), (10_000, 0.0, 1.0), (0, 0.5, 0.006)],
    ids=["base", "doubled", "thrice doubled", "capped", "capped far out", "jitter"],
)
def test_backoff(failures: int, random: float, expected: float) -> None:
    assert Backoff(0.005, 1.0, jitter=0.4).delay_s(failures, random) == pytest.approx(expected)
