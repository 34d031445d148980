"""Container logs: the CRI's line format, selection, following, rotation."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from podnet.controlplane.kubelet.logs.format import LogEntry, parse_line
from podnet.controlplane.kubelet.logs.reader import LogOptions, parse_options, read_log, select_entries
from podnet.controlplane.kubelet.termination_message import log_tail
from podnet.controlplane.kubelet.timestamps import parse_rfc3339, rfc3339, rfc3339_micro, rfc3339_nano


def line(second: int, text: str, tag: str = "F", stream: str = "stdout") -> bytes:
    return f"2026-11-21T01:02:{second:02d}.000000001Z {stream} {tag} {text}\n".encode()


LINES = [line(1, "one"), line(2, "two", stream="stderr"), line(3, "three")]
PIECES = [line(1, "one"), line(2, "tw", "P"), line(2, "o"), line(3, "three")]


async def read(path: Path, options: LogOptions) -> bytes:
    return b"".join([chunk async for chunk in read_log(path, options, lambda: False)])


def test_parse_line() -> None:
    assert parse_line(line(1, "a b  c")) == LogEntry("2026-11-21T01:02:01.000000001Z", "stdout", False, b"a b  c")
    assert parse_line(b"2026-11-21T01:02:01Z stderr P x") == LogEntry("2026-11-21T01:02:01Z", "stderr", True, b"x")
    assert parse_line(b"2026-11-21T01:02:01Z stdout F ") == LogEntry("2026-11-21T01:02:01Z", "stdout", False, b"")
    for torn in (b"", b"2026", b"2026-11-21T01:02:01Z stdo", b"junk junk junk junk"):
        assert parse_line(torn) is None


@pytest.mark.parametrize(
    ("lines", "options", "expected"),
    [
        pytest.param(LINES, LogOptions(), b"one\ntwo\nthree\n", id="all"),
        pytest.param(LINES, LogOptions(tail_lines=2), b"two\nthree\n", id="tail"),
        pytest.param(LINES, LogOptions(tail_lines=0), b"", id="tail-none"),
        pytest.param(LINES, LogOptions(tail_lines=9), b"one\ntwo\nthree\n", id="tail-more-than-there-is"),
        pytest.param(LINES, LogOptions(since_ns=parse_rfc3339("2026-11-21T01:02:02Z")), b"two\nthree\n", id="since"),
        pytest.param(
            LINES, LogOptions(since_ns=parse_rfc3339("2026-11-21T01:02:03Z"), tail_lines=5), b"three\n", id="since-tail"
        ),
        pytest.param(LINES, LogOptions(limit_bytes=6), b"one\ntw", id="limit"),
        pytest.param(PIECES, LogOptions(), b"one\ntwo\nthree\n", id="pieces"),
        pytest.param(PIECES, LogOptions(tail_lines=2), b"two\nthree\n", id="tail-of-pieces"),
        pytest.param(
            PIECES[1:3],
            LogOptions(timestamps=True),
            b"2026-11-21T01:02:02.000000001Z two\n",
            id="one-timestamp-a-line",
        ),
        pytest.param([*LINES, b"2026-11-21T01:02:04.0Z stdout F tor"], LogOptions(), b"one\ntwo\nthree\n", id="torn"),
        pytest.param([], LogOptions(), b"", id="empty"),
    ],
)
async def test_read(tmp_path: Path, lines: list[bytes], options: LogOptions, expected: bytes) -> None:
    path = tmp_path / "0.log"
    path.write_bytes(b"".join(lines))
    assert await read(path, options) == expected


async def test_a_log_that_is_not_there_is_empty(tmp_path: Path) -> None:
    assert await read(tmp_path / "no" / "0.log", LogOptions(follow=True)) == b""


async def test_rotated_files_come_first(tmp_path: Path) -> None:
    (tmp_path / "0.log.20261121-010203").write_bytes(line(1, "oldest"))
    (tmp_path / "0.log.20261121-010204").write_bytes(line(2, "older"))
    path = tmp_path / "0.log"
    path.write_bytes(line(3, "new"))
    assert await read(path, LogOptions()) == b"oldest\nolder\nnew\n"
    assert await read(path, LogOptions(tail_lines=2)) == b"older\nnew\n"


async def test_a_large_log_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "0.log"
    text = "x" * 500
    path.write_bytes(b"".join(line(n % 60, f"{n}{text}") for n in range(2000)))
    assert (await read(path, LogOptions())).count(b"\n") == 2000
    assert (await read(path, LogOptions(tail_lines=1))).startswith(b"1999")


async def test_follow_sees_additions_a_rotation_and_the_end(tmp_path: Path) -> None:
    path = tmp_path / "0.log"
    path.write_bytes(line(1, "one"))
    running = True
    got: list[bytes] = []

    async def follow() -> None:
        async for chunk in read_log(path, LogOptions(follow=True), lambda: running):
            got.append(chunk)  # noqa: PERF401 - watched while it grows

    task = asyncio.create_task(follow())

    async def until(text: bytes) -> None:
        async with asyncio.timeout(5):
            while text not in b"".join(got):
                await asyncio.sleep(0.01)

    await until(b"one\n")
    with path.open("ab") as log:
        log.write(line(2, "two")[:20])
        log.flush()
        await asyncio.sleep(0.15)
        log.write(line(2, "two")[20:])
    await until(b"two\n")
    path.rename(tmp_path / "0.log.1")
    path.write_bytes(line(3, "three"))
    await until(b"three\n")
    with path.open("ab") as log:
        log.write(line(4, "last"))
    running = False
    await asyncio.wait_for(task, 5)
    assert b"".join(got) == b"one\ntwo\nthree\nlast\n"


def test_options() -> None:
    options = parse_options({"follow": "true", "timestamps": "1", "tailLines": "5", "sinceSeconds": "3"}, 10 * 10**9)
    assert options == LogOptions(True, True, 7 * 10**9, 5, None)
    assert parse_options({"sinceTime": "1970-01-01T00:00:05Z", "limitBytes": "9"}, 0).since_ns == 5 * 10**9
    with pytest.raises(ValueError, match="at most one of"):
        parse_options({"sinceTime": "1970-01-01T00:00:05Z", "sinceSeconds": "1"}, 0)


@given(st.lists(st.tuples(st.booleans(), st.sampled_from(["stdout", "stderr"])), max_size=30), st.integers(0, 10))
def test_a_tail_is_a_tail(shape: list[tuple[bool, str]], tail: int) -> None:
    entries = [LogEntry(str(n), stream, partial, b"x") for n, (partial, stream) in enumerate(shape)]
    kept = [*select_entries(entries, LogOptions(tail_lines=tail))]
    whole = [*select_entries(entries, LogOptions())]
    assert whole == entries
    assert sum(not entry.partial for entry in kept) <= tail
    assert set(kept) <= set(entries)


@given(st.integers(0, 4 * 10**18))
def test_times_keep_their_nanoseconds(at_ns: int) -> None:
    assert parse_rfc3339(rfc3339_nano(at_ns)) == at_ns
    assert parse_rfc3339(rfc3339(at_ns)) == at_ns // 10**9 * 10**9
    assert parse_rfc3339(rfc3339_micro(at_ns)) == at_ns // 1000 * 1000


@pytest.mark.parametrize("text", ["", "now", "2026-11-21", "2026-11-21T01:02:03", "2026-13-41T01:02:03Z"])
def test_what_is_no_time(text: str) -> None:
    with pytest.raises(ValueError):
        parse_rfc3339(text)


def test_time_zones() -> None:
    assert parse_rfc3339("2026-11-21T02:02:03+01:00") == parse_rfc3339("2026-11-21T01:02:03Z")
    assert parse_rfc3339("2026-11-20T20:02:03.5-05:00") == parse_rfc3339("2026-11-21T01:02:03.5Z")


def test_the_end_of_a_log_as_termination_message(tmp_path: Path) -> None:
    path = tmp_path / "0.log"
    path.write_bytes(b"".join(line(n % 60, f"line {n}") for n in range(200)))
    text = log_tail(path)
    assert text.endswith("line 198\nline 199\n")
    assert text.count("\n") == 80
    path.write_bytes(line(1, "y" * 5000))
    assert len(log_tail(path)) == 2048
    assert log_tail(tmp_path / "no.log") == ""
