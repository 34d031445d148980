"""kill -9 under load: a child writes from many tasks and tells each acknowledgement over a pipe; then it is killed.

After reopening, every acknowledged write is there, and the log has no gap, no double and no half of anything.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from podnet.controlplane.store.sqlite import SQLiteStore

# The child acknowledges with one write(2) of a short line: the pipe keeps it whole even when the child dies next.
WRITER = """
import asyncio, os, sys
from pathlib import Path
from podnet.controlplane.store.sqlite import SQLiteStore

async def write(store, name):
    key, number = f"/load/{name}", 0
    while True:
        value = f"{name}:{number}".encode().ljust(300, b".")
        if number % 10 == 9:
            done = await store.delete(key, kv.mod_revision)
            os.write(1, f"delete {done.mod_revision} {key} -\\n".encode())
        elif number % 10 == 0:
            kv = await store.create(key, value)
            os.write(1, f"put {kv.mod_revision} {key} {name}:{number}\\n".encode())
        else:
            kv = await store.update(key, value, kv.mod_revision)
            os.write(1, f"put {kv.mod_revision} {key} {name}:{number}\\n".encode())
        number += 1

async def main():
    store = SQLiteStore(Path(sys.argv[1]), synchronous=sys.argv[2])
    async def compact():
        while True:
            await asyncio.sleep(0.05)
            await store.compact(await store.revision())
    async with asyncio.TaskGroup() as tasks:
        for name in range(16):
            tasks.create_task(write(store, name))
        if sys.argv[3] == "compacting":
            tasks.create_task(compact())

asyncio.run(main())
"""


def kill_under_load(directory: Path, synchronous: str, compacting: str, seconds: float) -> list[str]:
    """What the child acknowledged until it was killed."""
    command = [sys.executable, "-c", WRITER, str(directory), synchronous, compacting]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as child:
        assert child.stdout is not None
        lines = [child.stdout.readline()]
        assert lines[0], child.stderr.read().decode() if child.stderr else "the child wrote nothing"
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            lines.append(child.stdout.readline())
        os.kill(child.pid, signal.SIGKILL)
        lines += child.stdout.readlines()
    assert child.returncode == -signal.SIGKILL
    return [line.decode() for line in lines if line.endswith(b"\n")]


@pytest.mark.parametrize("compacting", ["plain", "compacting"])
@pytest.mark.parametrize("synchronous", ["NORMAL", "FULL"])
def test_no_acknowledged_write_is_lost(tmp_path: Path, synchronous: str, compacting: str) -> None:
    """Three lives of one store, each ended by SIGKILL in the middle of its work."""
    # Each life begins where the last ended, so its keys may exist: give every life a directory level of its own.
    acknowledged = kill_under_load(tmp_path / "store", synchronous, compacting, 0.6)
    assert len(acknowledged) > 50, "the child was hardly writing"
    asyncio.run(check(tmp_path / "store", acknowledged))


def test_killed_again_and_again(tmp_path: Path) -> None:
    """Six early deaths, some of them before the first checkpoint: the store opens each time and only ever grows."""
    revision = 0
    for life in range(6):
        directory = tmp_path / "store"
        acknowledged = kill_under_load(directory, "NORMAL", "plain", 0.01 * life)
        newest = asyncio.run(check(directory, acknowledged))
        assert newest > revision
        revision = newest
        asyncio.run(empty(directory))


async def empty(directory: Path) -> None:
    """Delete all keys, so that the next life can create them."""
    store = SQLiteStore(directory)
    for kv in (await store.range("/load/")).kvs:
        await store.delete(kv.key)
    await store.close()


async def check(directory: Path, acknowledged: list[str]) -> int:
    """Compare what was acknowledged with what is there; returns the newest revision."""
    store = SQLiteStore(directory)
    try:
        revision = await store.revision()
        last: dict[str, tuple[int, str]] = {}
        revisions: list[int] = []
        for line in acknowledged:
            _, number, key, value = line.split()
            revisions.append(int(number))
            last[key] = max(last.get(key, (0, "")), (int(number), value))
        assert len(set(revisions)) == len(revisions), "two writes were given one revision"
        assert revision >= max(revisions), "an acknowledged write is gone"
        for key, (number, value) in last.items():
            kv = await store.get(key)
            if kv is not None and kv.mod_revision == number:
                assert kv.value.rstrip(b".").decode() == value
            elif value != "-":
                # A later write of the same key was stored but its acknowledgement did not get out: that is allowed.
                assert kv is None or kv.mod_revision > number
        await check_log(store, revision)
        return revision
    finally:
        await store.close()


async def check_log(store: SQLiteStore, revision: int) -> None:
    """Replay what history there is: no gap, each event's `prev` is the state before it, and the end is the state."""
    first = store._state.compacted or 2
    before = await store.range("/", revision=first) if store._state.compacted else None
    state = {kv.key: kv for kv in before.kvs} if before else {}
    expected = first + 1 if before else first
    watch = store.watch("/", expected)
    while expected <= revision:
        for event in await anext(watch):
            assert event.revision == expected
            assert event.prev == state.get(event.kv.key)
            if event.deleted:
                del state[event.kv.key]
            else:
                state[event.kv.key] = event.kv
            expected += 1
    assert [state[key] for key in sorted(state)] == list((await store.range("/")).kvs)
