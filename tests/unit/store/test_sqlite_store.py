"""What only the SQLite driver does: last, lock, refuse what it cannot read, and survive a disk that is full."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from podnet.controlplane.store import sqlite, sqlite_file
from podnet.controlplane.store.sqlite import SQLiteStore
from podnet.controlplane.store.types import CompactedError, StoreOpenError, StoreWriteError


async def test_what_was_written_is_there_after_reopening(tmp_path: Path) -> None:
    """State, revisions, history and the compaction revision."""
    store = SQLiteStore(tmp_path)
    created = await store.create("/a", b"1")
    updated = await store.update("/a", b"2", created.mod_revision)
    await store.create("/b", b"")
    deleted = await store.delete("/b")
    await store.compact(updated.mod_revision)
    await store.close()

    store = SQLiteStore(tmp_path)
    assert await store.revision() == deleted.mod_revision
    assert await store.get("/a") == updated
    assert await store.get("/b") is None
    with pytest.raises(CompactedError):
        await store.get("/a", created.mod_revision)
    events = await anext(store.watch("/", updated.mod_revision))
    assert [(event.kv.key, event.deleted) for event in events] == [("/a", False), ("/b", False), ("/b", True)]
    assert events[0].prev == created
    assert (await store.create("/c", b"")).mod_revision == deleted.mod_revision + 1
    await store.close()


async def test_only_the_owner_may_read_the_files(tmp_path: Path) -> None:
    """Secrets are in them, whatever the umask."""
    before = os.umask(0)
    try:
        store = SQLiteStore(tmp_path / "store")
        await store.create("/a", b"secret")
        for path in (tmp_path / "store").iterdir():
            assert stat.S_IMODE(path.stat().st_mode) == 0o600, path.name
        assert stat.S_IMODE((tmp_path / "store").stat().st_mode) == 0o700
        await store.close()
    finally:
        os.umask(before)


async def test_a_second_opener_is_turned_away(tmp_path: Path) -> None:
    """In this process and in another; the message names the holder; after close it is free."""
    store = SQLiteStore(tmp_path)
    with pytest.raises(StoreOpenError, match=rf"in use by another process \(pid {os.getpid()}\)"):
        SQLiteStore(tmp_path)
    script = (
        "import sys, pathlib\n"
        "from podnet.controlplane.store.sqlite import SQLiteStore\n"
        "try:\n    SQLiteStore(pathlib.Path(sys.argv[1]))\n"
        "except Exception as error:\n    print(type(error).__name__, error)\n"
    )
    command = [sys.executable, "-c", script, str(tmp_path)]
    refused = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, check=True)
    assert "StoreOpenError" in refused.stdout
    assert f"(pid {os.getpid()})" in refused.stdout
    await store.create("/still", b"works")
    await store.close()
    await SQLiteStore(tmp_path).close()


def _garbage(path: Path) -> None:
    path.write_bytes(b"this is no database, " * 1000)


def _overwritten_pages(path: Path) -> None:
    with path.open("r+b") as file:
        file.seek(4096)
        file.write(b"\xff" * 3 * 4096)


def _truncated(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


@pytest.mark.parametrize("damage", [_garbage, _overwritten_pages, _truncated])
async def test_a_corrupt_file_is_refused(tmp_path: Path, damage: object) -> None:
    """With a sentence that names the file and what to do; the file is left as it is and the lock is free again."""
    store = SQLiteStore(tmp_path)
    for number in range(200):
        await store.create(f"/{number}", os.urandom(500))
    await store.close()
    path = tmp_path / sqlite_file.FILE_NAME
    damage(path)
    bytes_before = path.read_bytes()
    for _ in range(2):
        with pytest.raises(
            StoreOpenError, match=r"is corrupt: .*; move it away or put a good copy in its place"
        ) as error:
            SQLiteStore(tmp_path)
        assert str(path) in str(error.value)
    assert path.read_bytes() == bytes_before


async def test_other_formats_and_programs_are_refused(tmp_path: Path) -> None:
    """A newer podnet's file, and an SQLite file that is none of ours."""
    store = SQLiteStore(tmp_path)
    await store.create("/a", b"")
    await store.close()
    with sqlite3.connect(tmp_path / sqlite_file.FILE_NAME) as connection:
        connection.execute("PRAGMA user_version = 99")
    connection.close()
    with pytest.raises(StoreOpenError, match="has format 99, this podnet reads format 1"):
        SQLiteStore(tmp_path)

    (tmp_path / "other").mkdir()
    with sqlite3.connect(tmp_path / "other" / sqlite_file.FILE_NAME) as connection:
        connection.execute("CREATE TABLE bookmarks (url TEXT)")
    connection.close()
    with pytest.raises(StoreOpenError, match="of another program"):
        SQLiteStore(tmp_path / "other")


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    """One clear line, not a traceback of OSError."""
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreOpenError, match=f"cannot open store {tmp_path}/file/store: "):
        SQLiteStore(tmp_path / "file" / "store")


async def test_a_full_disk_refuses_writes_and_heals(tmp_path: Path) -> None:
    """Nothing refused is visible, before or after reopening; once there is room, writing goes on without a gap."""
    store = SQLiteStore(tmp_path)
    first = await store.create("/first", b"")
    pages = store._connection.execute("PRAGMA page_count").fetchone()[0]
    store._connection.execute(f"PRAGMA max_page_count = {pages + 3}")
    results = await asyncio.gather(
        *(store.create(f"/big/{number}", b"x" * 3000) for number in range(30)), return_exceptions=True
    )
    failed = [number for number, result in enumerate(results) if isinstance(result, StoreWriteError)]
    assert failed, "the disk was not full"
    assert all(not isinstance(result, BaseException) or isinstance(result, StoreWriteError) for result in results)
    assert "full" in str(results[failed[0]])
    for number in failed:
        assert await store.get(f"/big/{number}") is None
    assert await store.revision() == first.mod_revision + len(results) - len(failed)

    store._connection.execute("PRAGMA max_page_count = 1000000")
    revision = await store.revision()
    for number in failed:
        revision += 1
        assert (await store.create(f"/big/{number}", b"now")).mod_revision == revision
    await store.close()
    store = SQLiteStore(tmp_path)
    assert (await store.range("/big/")).kvs.__len__() == 30
    assert await store.revision() == revision
    await store.close()


async def test_dependent_writes_fail_with_the_write_they_stand_on(tmp_path: Path) -> None:
    """An update decided on a create that never reached the disk must not succeed."""
    store = SQLiteStore(tmp_path)
    pages = store._connection.execute("PRAGMA page_count").fetchone()[0]
    store._connection.execute(f"PRAGMA max_page_count = {pages}")
    tasks = [asyncio.ensure_future(store.create("/a", b"x" * 50_000))]
    await asyncio.sleep(0)  # decided and queued, not yet answered
    tasks.append(asyncio.ensure_future(store.create("/a", b"second")))
    store_results = await asyncio.gather(*tasks, return_exceptions=True)
    assert isinstance(store_results[0], StoreWriteError)
    # The second waited for the first one's fate instead of being told of a key that never was.
    assert not isinstance(store_results[1], BaseException) or isinstance(store_results[1], StoreWriteError)
    await store.close()


async def test_giving_up_on_a_write_does_not_undo_it(tmp_path: Path) -> None:
    """A cancelled caller leaves a whole write behind, and the store healthy."""
    store = SQLiteStore(tmp_path)
    task = asyncio.ensure_future(store.create("/a", b"1"))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    second = await store.create("/b", b"2")
    found = await store.get("/a")
    assert found is not None
    assert found.mod_revision == second.mod_revision - 1
    await store.close()


async def test_close_waits_for_what_is_on_its_way(tmp_path: Path) -> None:
    """Writes begun before close are answered, and there afterwards."""
    store = SQLiteStore(tmp_path)
    writes = [asyncio.ensure_future(store.create(f"/{number}", b"")) for number in range(100)]
    await asyncio.sleep(0)
    await store.close()
    results = await asyncio.gather(*writes)
    assert len(results) == 100
    store = SQLiteStore(tmp_path)
    assert len((await store.range("/")).kvs) == 100
    await store.close()


async def test_compaction_really_frees_rows(tmp_path: Path) -> None:
    """Of a key written a thousand times, two rows stay: the state, and the state before it."""
    store = SQLiteStore(tmp_path)
    current = await store.create("/a", b"0")
    for number in range(999):
        current = await store.update("/a", str(number).encode(), current.mod_revision)
    await store.compact(current.mod_revision)
    assert store._connection.execute("SELECT count(*) FROM log").fetchone()[0] == 2
    await store.close()


async def test_a_key_that_is_no_text_harms_nobody(tmp_path: Path) -> None:
    """The caller is told; the writer goes on."""
    store = SQLiteStore(tmp_path)
    with pytest.raises(ValueError, match="surrogates not allowed"):
        await store.create("/bad\ud800", b"")
    assert (await store.create("/good", b"")).mod_revision == await store.revision()
    await store.close()


async def test_writers_wait_when_too_much_is_on_its_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The queue to the disk has a limit; nothing is refused or lost because of it."""
    monkeypatch.setattr(sqlite, "PENDING_WRITES_MAX", 4)
    store = SQLiteStore(tmp_path)
    most = 0

    async def create(number: int) -> None:
        nonlocal most
        task = asyncio.ensure_future(store.create(f"/{number}", b""))
        await asyncio.sleep(0)
        most = max(most, store._next_revision - store._state.revision - 1)
        await task

    await asyncio.gather(*map(create, range(60)))
    assert most <= 5
    assert len((await store.range("/")).kvs) == 60
    await store.close()


async def test_a_failed_batch_does_not_stop_the_next(tmp_path: Path) -> None:
    """Two failures in a row, with writes queued behind each, then health: revisions go on without a gap."""
    store = SQLiteStore(tmp_path)
    pages = store._connection.execute("PRAGMA page_count").fetchone()[0]
    for _ in range(2):
        store._connection.execute(f"PRAGMA max_page_count = {pages}")
        writes = [store.create(f"/{number}", b"x" * 20_000) for number in range(5)]
        results = await asyncio.gather(*writes, return_exceptions=True)
        assert all(isinstance(result, StoreWriteError) for result in results)
        assert await store.revision() == 1
    store._connection.execute("PRAGMA max_page_count = 100000")
    revisions = [(await store.create(f"/{number}", b"")).mod_revision for number in range(5)]
    assert revisions == [2, 3, 4, 5, 6]
    await store.close()
