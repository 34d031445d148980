"""One contract, three drivers: whatever holds here holds for the memory, the SQLite and the etcd store."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from pathlib import Path

import pytest

from podnet.controlplane.metrics import Registry
from podnet.controlplane.store import open_store
from podnet.controlplane.store.measured import MeasuredStore
from podnet.controlplane.store.sqlite import SQLiteStore
from podnet.controlplane.store.types import (
    CompactedError,
    Event,
    FutureRevisionError,
    KeyExistsError,
    RevisionMismatchError,
    Store,
    StoreClosedError,
    StoreOpenError,
)

PODS = "/registry/pods/"


@pytest.fixture(params=["memory", "sqlite", "sqlite-small-window", "measured", "etcd"])
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Store]:
    """A fresh store; the third kind forgets events from memory so soon that history comes from the disk."""
    if request.param == "sqlite-small-window":
        opened: Store = SQLiteStore(tmp_path / "store", window_events=2)
    elif request.param == "measured":
        opened = MeasuredStore(open_store("memory", ""), Registry())
    elif request.param == "etcd":
        opened = open_store("etcd", "", request.getfixturevalue("etcd"))
    else:
        opened = open_store(request.param, tmp_path / "store")
    await opened.revision()  # "from now on" is counted from the last answer of a store that is elsewhere
    yield opened
    await opened.close()


async def take(watch: AsyncIterator[list[Event]], count: int) -> list[Event]:
    """The next `count` events; fails instead of hanging."""
    events: list[Event] = []
    async with asyncio.timeout(5):
        while len(events) < count:
            events += await anext(watch)
    assert len(events) == count
    return events


async def refused_within(watch: AsyncIterator[list[Event]]) -> CompactedError:
    """The CompactedError the watch ends with."""
    async with asyncio.timeout(5):
        while True:
            try:
                await anext(watch)
            except CompactedError as error:
                return error


# --- revisions, compare-and-swap -------------------------------------------------------------------------------------


async def test_every_write_is_one_revision(store: Store) -> None:
    """Create, update and delete each count one; a refusal counts none."""
    first = await store.revision()
    created = await store.create("/a", b"1")
    updated = await store.update("/a", b"2", created.mod_revision)
    with pytest.raises(RevisionMismatchError):
        await store.update("/a", b"3", created.mod_revision)
    deleted = await store.delete("/a")
    assert [created.mod_revision, updated.mod_revision, deleted.mod_revision] == [first + 1, first + 2, first + 3]
    assert await store.revision() == first + 3
    assert first >= 1, "a resourceVersion of 0 means something else"


async def test_a_key_remembers_its_creation(store: Store) -> None:
    """create_revision stays through updates and starts anew after a deletion."""
    created = await store.create("/a", b"1")
    updated = await store.update("/a", b"2", created.mod_revision)
    assert updated.create_revision == created.create_revision == created.mod_revision
    assert await store.get("/a") == updated
    await store.delete("/a")
    again = await store.create("/a", b"3")
    assert again.create_revision == again.mod_revision > updated.mod_revision


async def test_create_refuses_a_taken_key(store: Store) -> None:
    """The error carries what stands there."""
    created = await store.create("/a", b"1")
    with pytest.raises(KeyExistsError) as raised:
        await store.create("/a", b"2")
    assert raised.value.current == created


@pytest.mark.parametrize("there", [True, False], ids=["changed", "gone"])
async def test_update_refuses_a_stale_revision(store: Store, there: bool) -> None:
    """The error carries what stands there now, None when nothing does."""
    created = await store.create("/a", b"1")
    now = await store.update("/a", b"2", created.mod_revision) if there else None
    if not there:
        await store.delete("/a")
    with pytest.raises(RevisionMismatchError) as raised:
        await store.update("/a", b"3", created.mod_revision)
    assert raised.value.current == now


async def test_update_does_not_create(store: Store) -> None:
    """Not even with mod revision 0."""
    with pytest.raises(RevisionMismatchError) as raised:
        await store.update("/a", b"1", 0)
    assert raised.value.current is None


async def test_delete_returns_the_last_value(store: Store) -> None:
    """With the revision of the deletion."""
    created = await store.create("/a", b"1")
    deleted = await store.delete("/a", created.mod_revision)
    assert (deleted.value, deleted.create_revision) == (b"1", created.create_revision)
    assert deleted.mod_revision == created.mod_revision + 1 == await store.revision()
    assert await store.get("/a") is None


async def test_delete_is_conditional(store: Store) -> None:
    """A stale revision and an absent key are refused."""
    created = await store.create("/a", b"1")
    now = await store.update("/a", b"2", created.mod_revision)
    with pytest.raises(RevisionMismatchError) as raised:
        await store.delete("/a", created.mod_revision)
    assert raised.value.current == now
    with pytest.raises(RevisionMismatchError) as raised:
        await store.delete("/b")
    assert raised.value.current is None


async def test_of_many_swaps_at_once_one_wins(store: Store) -> None:
    """Fifty updates from one revision: one success, forty-nine refusals that name the winner."""
    created = await store.create("/a", b"0")
    swaps = [store.update("/a", str(number).encode(), created.mod_revision) for number in range(50)]
    results = await asyncio.gather(*swaps, return_exceptions=True)
    winners = [result for result in results if not isinstance(result, BaseException)]
    assert len(winners) == 1
    for result in results:
        if isinstance(result, BaseException):
            assert isinstance(result, RevisionMismatchError)
            assert result.current == winners[0] == await store.get("/a")


async def test_read_modify_write_loses_nothing(store: Store) -> None:
    """Twenty counters on one key, each retrying on refusal, add up."""
    await store.create("/n", b"0")

    async def increment() -> None:
        for _ in range(10):
            while True:
                current = await store.get("/n")
                assert current is not None
                with suppress(RevisionMismatchError):
                    await store.update("/n", str(int(current.value) + 1).encode(), current.mod_revision)
                    break

    await asyncio.gather(*(increment() for _ in range(20)))
    final = await store.get("/n")
    assert final is not None
    assert int(final.value) == 200


# --- ranges ----------------------------------------------------------------------------------------------------------


async def test_range_is_in_byte_order(store: Store) -> None:
    """Byte order of UTF-8, not of any language."""
    names = ["b", "a", "B", "a/b", "a-b", "ä", "\U0001f600", "\uffee", "aa"]
    for name in names:
        await store.create(PODS + name, name.encode())
    found = await store.range(PODS)
    assert [kv.key for kv in found.kvs] == sorted((PODS + name for name in names), key=str.encode)
    assert found.remaining == 0


async def test_range_keeps_to_its_prefix(store: Store) -> None:
    """`/registry/pods/` is not `/registry/podtemplates/`, and `pod` is a prefix of both."""
    for key in ("/registry/pods/a", "/registry/podtemplates/a", "/registry/pods0", "/registry/pod"):
        await store.create(key, b"")
    assert [kv.key for kv in (await store.range(PODS)).kvs] == ["/registry/pods/a"]
    assert len((await store.range("/registry/pod")).kvs) == 4
    assert len((await store.range("")).kvs) == 4
    assert (await store.range("/nothing")).kvs == ()


async def test_range_pages(store: Store) -> None:
    """Limit, start and remaining fit together, at one revision, whatever happens in between."""
    for number in range(10):
        await store.create(f"{PODS}{number}", b"old")
    page = await store.range(PODS, limit=4)
    keys = [kv.key for kv in page.kvs]
    assert (len(page.kvs), page.remaining) == (4, 6)
    await store.delete(PODS + "5")
    await store.create(PODS + "55", b"new")
    current = await store.get(PODS + "7")
    assert current is not None
    await store.update(PODS + "7", b"new", current.mod_revision)
    revision, remaining = page.revision, page.remaining
    while remaining:
        page = await store.range(PODS, start=keys[-1] + "\0", limit=4, revision=revision)
        assert page.revision == revision
        assert page.remaining == remaining - len(page.kvs)
        remaining = page.remaining
        keys += [kv.key for kv in page.kvs]
        assert all(kv.value == b"old" for kv in page.kvs)
    assert keys == [f"{PODS}{number}" for number in range(10)]


async def test_reads_at_an_old_revision(store: Store) -> None:
    """Each revision shows what was there then."""
    history: list[tuple[int, dict[str, bytes]]] = [(await store.revision(), {})]
    state: dict[str, bytes] = {}

    async def did(action: Awaitable[object]) -> None:
        await action
        history.append((await store.revision(), dict(state)))

    for number in range(12):
        key = f"{PODS}{number % 3}"
        current = await store.get(key)
        value = str(number).encode()
        if current is None:
            state[key] = value
            await did(store.create(key, value))
        elif number % 4 == 3:
            del state[key]
            await did(store.delete(key))
        else:
            state[key] = value
            await did(store.update(key, value, current.mod_revision))
    for revision, then in history:
        found = await store.range(PODS, revision=revision)
        assert {kv.key: kv.value for kv in found.kvs} == then
        assert found.revision == revision
        assert all(kv.mod_revision <= revision for kv in found.kvs)
        for number in range(3):
            kv = await store.get(f"{PODS}{number}", revision)
            assert (None if kv is None else kv.value) == then.get(f"{PODS}{number}")


async def test_the_future_is_refused(store: Store) -> None:
    """Reading a revision that has not happened names both revisions."""
    now = await store.revision()
    with pytest.raises(FutureRevisionError) as raised:
        await store.get("/a", now + 5)
    assert (raised.value.requested, raised.value.current) == (now + 5, now)
    with pytest.raises(FutureRevisionError):
        await store.range("/", revision=now + 1)
    with pytest.raises(FutureRevisionError):
        await store.compact(now + 1)


# --- watches ---------------------------------------------------------------------------------------------------------


async def test_watch_tells_each_kind_of_change(store: Store) -> None:
    """The new state, the one before, and for a deletion the last value at the deletion's revision."""
    watch = store.watch(PODS, await store.revision() + 1)
    created = await store.create(PODS + "a", b"1")
    updated = await store.update(PODS + "a", b"2", created.mod_revision)
    deleted = await store.delete(PODS + "a")
    assert await take(watch, 3) == [
        Event(deleted=False, kv=created, prev=None),
        Event(deleted=False, kv=updated, prev=created),
        Event(deleted=True, kv=deleted, prev=updated),
    ]
    assert deleted.value == b"2"


async def test_watch_replays_then_follows(store: Store) -> None:
    """From an old revision: exactly the events since, then new ones as they come."""
    writes = [await store.create(f"{PODS}{number}", b"") for number in range(9)]
    watch = store.watch(PODS, writes[4].mod_revision)
    assert [event.kv for event in await take(watch, 5)] == writes[4:]
    waiting = asyncio.ensure_future(take(watch, 1))
    await asyncio.sleep(0)
    assert not waiting.done()
    fresh = await store.create(PODS + "new", b"")
    assert [event.kv for event in await waiting] == [fresh]


async def test_watch_keeps_to_its_prefix(store: Store) -> None:
    """Other keys neither appear nor make a gap, also when only they change for a long time."""
    watch = store.watch(PODS, await store.revision() + 1)
    for number in range(40):
        await store.create(f"/registry/other/{number}", b"")
    mine = await store.create(PODS + "a", b"")
    assert [event.kv for event in await take(watch, 1)] == [mine]


async def test_watch_without_a_revision_begins_now(store: Store) -> None:
    """Revision 0 means from now on, counted from the call, not from the first step."""
    await store.create(PODS + "before", b"")
    watch = store.watch(PODS, 0)
    after = await store.create(PODS + "after", b"")
    assert [event.kv for event in await take(watch, 1)] == [after]


async def test_watch_may_wait_for_a_revision_to_come(store: Store) -> None:
    """Events before the revision are not told."""
    watch = store.watch(PODS, await store.revision() + 3)
    for number in range(4):
        await store.create(f"{PODS}{number}", b"")
    assert [event.kv.key for event in await take(watch, 2)] == [PODS + "2", PODS + "3"]


async def test_an_idle_consumer_misses_nothing(store: Store) -> None:
    """A watch that nobody reads for 3,000 events still tells all of them, in order, in bounded batches."""
    start = await store.revision() + 1
    watch = store.watch(PODS, start)
    current = await store.create(PODS + "a", b"0")
    for number in range(1, 3000):
        current = await store.update(PODS + "a", str(number).encode(), current.mod_revision)
    events: list[Event] = []
    async with asyncio.timeout(10):
        while len(events) < 3000:
            batch = await anext(watch)
            assert len(batch) <= 1000
            events += batch
    assert [event.revision for event in events] == list(range(start, start + 3000))
    assert [int(event.kv.value) for event in events] == list(range(3000))


async def test_consumers_of_every_speed_see_the_same(store: Store) -> None:
    """Readers that pause at random among concurrent writers: each gets every event once and in order."""
    start = await store.revision() + 1

    async def consume(pause: int) -> list[int]:
        seen: list[int] = []
        watch = store.watch(PODS, start)
        while len(seen) < 200:
            seen += [event.revision for event in await anext(watch)]
            for _ in range(pause):
                await asyncio.sleep(0)
        return seen

    async def produce(writer: int) -> None:
        for number in range(20):
            await store.create(f"{PODS}{writer}-{number}", b"")

    async with asyncio.timeout(10):
        results = await asyncio.gather(*map(consume, (0, 1, 7, 50)), *map(produce, range(10)))
    assert all(seen == list(range(start, start + 200)) for seen in results[:4])


async def test_a_cancelled_step_loses_no_event(store: Store) -> None:
    """Giving up waiting, as wait_for does, leaves the watch where it was."""
    watch = store.watch(PODS, 0)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(anext(watch), 0.01)
    created = await store.create(PODS + "a", b"")
    assert [event.kv for event in await take(watch, 1)] == [created]


# --- compaction, closing ---------------------------------------------------------------------------------------------


async def fill(store: Store, count: int = 10) -> list[int]:
    """`count` writes to one key; their revisions."""
    current = await store.create(PODS + "a", b"0")
    revisions = [current.mod_revision]
    for number in range(1, count):
        current = await store.update(PODS + "a", str(number).encode(), current.mod_revision)
        revisions.append(current.mod_revision)
    return revisions


async def test_compaction_forgets_the_past(store: Store) -> None:
    """What is older than the compaction is refused with both revisions; what is not stays readable."""
    revisions = await fill(store)
    at = revisions[5]
    await store.compact(at)
    for refused in (store.get(PODS + "a", at - 1), store.range(PODS, revision=revisions[0])):
        with pytest.raises(CompactedError) as raised:
            await refused
        assert raised.value.compacted == at
    for number in range(5, 10):
        found = await store.get(PODS + "a", revisions[number])
        assert found is not None
        assert int(found.value) == number
    assert [kv.value for kv in (await store.range(PODS, revision=at)).kvs] == [b"5"]


async def test_watch_before_the_compaction_is_refused(store: Store) -> None:
    """And from it on it works, with the state before each change."""
    revisions = await fill(store)
    await store.compact(revisions[5])
    assert (await refused_within(store.watch(PODS, revisions[4]))).compacted == revisions[5]
    events = await take(store.watch(PODS, revisions[5]), 5)
    assert [int(event.kv.value) for event in events] == [5, 6, 7, 8, 9]
    # What stood before the compaction revision itself is history, which etcd has forgotten.
    assert [event.prev is not None and int(event.prev.value) for event in events[1:]] == [5, 6, 7, 8]


async def test_a_consumer_behind_the_compaction_is_told(store: Store) -> None:
    """A watch that was fine when it began and then slept too long ends with CompactedError, not with a gap."""
    watch = store.watch(PODS, await store.revision() + 1)
    revisions = await fill(store, 20)
    await store.compact(revisions[10])
    assert (await refused_within(watch)).requested <= revisions[0]


async def test_compaction_keeps_untouched_keys(store: Store) -> None:
    """A key last written long before the compaction stays; one deleted before it is gone for good."""
    kept = await store.create(PODS + "kept", b"k")
    await store.create(PODS + "gone", b"g")
    await store.delete(PODS + "gone")
    revisions = await fill(store, 5)
    await store.compact(revisions[-1])
    assert await store.get(PODS + "kept") == kept
    assert await store.get(PODS + "kept", revisions[-1]) == kept
    assert [kv.key for kv in (await store.range(PODS, revision=revisions[-1])).kvs] == [PODS + "a", PODS + "kept"]
    watch = store.watch(PODS, revisions[-1] + 1)
    updated = await store.update(PODS + "kept", b"K", kept.mod_revision)
    assert await take(watch, 1) == [Event(deleted=False, kv=updated, prev=kept)]


async def test_compacting_twice_at_one_revision_is_refused(store: Store) -> None:
    """As etcd does; a later one is fine."""
    revisions = await fill(store)
    await store.compact(revisions[3])
    with pytest.raises(CompactedError):
        await store.compact(revisions[3])
    await store.compact(revisions[4])


async def test_close_ends_watches_and_refuses_the_rest(store: Store) -> None:
    """Those who wait are released; the next call is StoreClosedError."""
    watch = store.watch(PODS, 0)
    waiting = asyncio.ensure_future(anext(watch, None))
    await asyncio.sleep(0)
    await store.close()
    async with asyncio.timeout(5):
        assert await waiting is None
    refused: list[Callable[[], Awaitable[object]]] = [
        store.revision,
        lambda: store.get("/a"),
        lambda: store.range("/"),
        lambda: store.create("/a", b""),
        lambda: store.update("/a", b"", 1),
        lambda: store.delete("/a"),
        lambda: store.compact(1),
    ]
    for call in refused:
        with pytest.raises(StoreClosedError):
            await call()
    await store.close()


async def test_values_are_bytes_of_any_size(store: Store) -> None:
    """Empty, binary and a megabyte and a half (etcd's limit for a request)."""
    for number, value in enumerate((b"", bytes(range(256)), b"x" * 1_500_000)):
        await store.create(f"/v/{number}", value)
        found = await store.get(f"/v/{number}")
        assert found is not None
        assert found.value == value


def test_an_unknown_driver_is_named(tmp_path: Path) -> None:
    """With what there is instead."""
    with pytest.raises(StoreOpenError, match=r"unknown store driver 'mysql': use one of sqlite, memory, etcd"):
        open_store("mysql", tmp_path)
