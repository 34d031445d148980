"""The committed state: byte order, prefix ends, and watches that are cursors."""

from __future__ import annotations

import asyncio
import gc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from podnet.controlplane.store import decide
from podnet.controlplane.store.state import Keyspace, State, prefix_end
from podnet.controlplane.store.types import KeyValue

TEXT = st.text(alphabet=st.sampled_from(["a", "b", "/", "\u00e9", "\ud7ff", "\ue000", "\U0010ffff"]), max_size=4)


@pytest.mark.parametrize(
    ("prefix", "end"),
    [
        ("/a/", "/a0"),
        ("a", "b"),
        ("", None),
        ("\U0010ffff", None),
        ("a\U0010ffff", "b"),
        ("a\ud7ff", "a\ue000"),
    ],
)
def test_prefix_end(prefix: str, end: str | None) -> None:
    """The first key behind all that begin with the prefix; surrogates are stepped over."""
    assert prefix_end(prefix) == end


@given(st.lists(TEXT, unique=True), TEXT, TEXT, st.integers(0, 3))
def test_ranges_agree_with_looking_at_every_key(keys: list[str], prefix: str, start: str, limit: int) -> None:
    """For any keys, prefix, start and limit."""
    keyspace = Keyspace([KeyValue(key, b"", 1, 1) for key in keys])
    expected = [key for key in sorted(keys) if key.startswith(prefix) and key >= start]
    kvs, remaining = keyspace.range(prefix, start, limit)
    assert [kv.key for kv in kvs] == (expected[:limit] if limit else expected)
    assert remaining == len(expected) - len(kvs)


def put(state: State, key: str) -> None:
    """One more write."""
    current = state.keyspace.get(key)
    revision = state.revision + 1
    if current is None:
        state.commit([decide.create(None, key, b"", revision)])
    else:
        state.commit([decide.update(current, key, b"", current.mod_revision, revision)])


async def test_a_watch_nobody_holds_is_forgotten() -> None:
    """Leaving an `async for` behind costs nothing for ever."""
    state = State()
    watch = state.watch("/", 0)
    assert len(state._watches) == 1
    del watch
    gc.collect()
    assert len(state._watches) == 0


async def test_an_idle_watch_steps_over_what_is_not_its_own() -> None:
    """So it never has to read old history to find nothing, nor ends when that history is compacted."""
    state = State(window_max=2)
    watch = state.watch("/mine/", 0)
    for _ in range(50):
        put(state, "/other")
    state.compact(state.revision)
    put(state, "/mine/a")
    async with asyncio.timeout(1):
        assert [event.kv.key for event in await anext(watch)] == ["/mine/a"]


async def test_the_window_has_a_limit() -> None:
    """However much is written, memory holds at most twice the window."""
    state = State(window_max=10)
    for _ in range(500):
        put(state, "/a")
        assert len(state._window) <= 20
    assert state.holds(state.revision - 10)
    assert not state.holds(state.revision - 21)


async def test_aclose_ends_a_waiting_consumer() -> None:
    """As closing an async generator would."""
    state = State()
    watch = state.watch("/", 0)
    waiting = asyncio.ensure_future(anext(watch, None))
    await asyncio.sleep(0)
    await watch.aclose()
    assert await waiting is None
    assert len(state._watches) == 0
