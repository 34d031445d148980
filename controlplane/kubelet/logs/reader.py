"""Reading a container's log as `kubectl logs` asks for it.

Selection (since, tail) is pure over a list of entries; following reads what is appended until the container has ended
and the file is at its end. A rotated log is `N.log.<time>` (oldest first) and then `N.log`.
"""

from __future__ import annotations

import asyncio
import os
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from podnet.controlplane.kubelet.logs.format import LogEntry, parse_line
from podnet.controlplane.kubelet.timestamps import SECOND_NS, parse_rfc3339

POLL_S = 0.1
CHUNK = 64 * 1024


@dataclass(frozen=True, slots=True)
class LogOptions:
    """PodLogOptions; `since_ns` is 0 or a moment, `tail_lines` and `limit_bytes` are None for "all"."""

    follow: bool = False
    timestamps: bool = False
    since_ns: int = 0
    tail_lines: int | None = None
    limit_bytes: int | None = None


def parse_options(query: dict[str, str], now_ns: int) -> LogOptions:
    """From a query string; ValueError with a message for the user."""
    since_ns = 0
    if query.get("sinceSeconds") and query.get("sinceTime"):
        raise ValueError("at most one of `sinceTime` or `sinceSeconds` may be specified")
    if query.get("sinceSeconds"):
        seconds = _number(query, "sinceSeconds")
        if seconds is not None and seconds < 1:
            raise ValueError("sinceSeconds: Invalid value: must be greater than 0")
        since_ns = now_ns - (seconds or 0) * SECOND_NS
    elif query.get("sinceTime"):
        since_ns = parse_rfc3339(query["sinceTime"])
    tail, limit = _number(query, "tailLines"), _number(query, "limitBytes")
    if tail is not None and tail < 0:
        raise ValueError(f"tailLines: Invalid value: {tail}: must be greater than or equal to 0")
    if limit is not None and limit < 1:
        raise ValueError(f"limitBytes: Invalid value: {limit}: must be greater than 0")
    return LogOptions(_truth(query, "follow"), _truth(query, "timestamps"), since_ns, tail, limit)


def _number(query: dict[str, str], key: str) -> int | None:
    if not query.get(key):
        return None
    try:
        return int(query[key])
    except ValueError:
        raise ValueError(f"{key}: Invalid value: {query[key]!r}: must be a number") from None


def _truth(query: dict[str, str], key: str) -> bool:
    return query.get(key, "").lower() in {"true", "1", "t"}


def log_files(path: Path) -> list[Path]:
    """The files of one container instance, oldest first."""
    rotated = sorted(path.parent.glob(path.name + ".*")) if path.parent.is_dir() else []
    return [file for file in rotated if not file.name.endswith((".gz", ".tmp"))] + ([path] if path.exists() else [])


def select_entries(entries: Iterable[LogEntry], options: LogOptions) -> Iterator[LogEntry]:
    """What `since` and `tail` leave; a tail counts whole lines, however many pieces each has."""
    if options.since_ns:
        entries = (entry for entry in entries if _at(entry) >= options.since_ns)
    if options.tail_lines is None:
        yield from entries
        return
    lines: deque[list[LogEntry]] = deque(maxlen=options.tail_lines)
    open_line: dict[str, list[LogEntry]] = {}
    for entry in entries:
        line = open_line.get(entry.stream)
        if line is None:
            line = []
            lines.append(line)
        line.append(entry)
        if entry.partial:
            open_line[entry.stream] = line
        else:
            open_line.pop(entry.stream, None)
    for line in lines:
        yield from line


def _at(entry: LogEntry) -> int:
    try:
        return parse_rfc3339(entry.timestamp)
    except ValueError:
        return 0


class _Renderer:
    """Turns entries into output, joins pieces, and stops at the limit."""

    def __init__(self, options: LogOptions) -> None:
        self._timestamps = options.timestamps
        self._left = options.limit_bytes
        self._open: set[str] = set()
        self.full = False

    def render(self, entries: Iterable[LogEntry]) -> bytes:
        pieces: list[bytes] = []
        for entry in entries:
            if self.full:
                break
            piece = entry.render(timestamps=self._timestamps, continues=entry.stream in self._open)
            (self._open.add if entry.partial else self._open.discard)(entry.stream)
            if self._left is not None:
                piece = piece[: self._left]
                self._left -= len(piece)
                self.full = self._left == 0
            pieces.append(piece)
        return b"".join(pieces)


async def read_log(path: Path, options: LogOptions, is_running: Callable[[], bool]) -> AsyncIterator[bytes]:
    """The log as chunks. With `follow`, until `is_running()` is False and everything is read."""
    renderer = _Renderer(options)
    tail = _Tail(path)
    batch: list[LogEntry] = []
    size = 0
    for entry in select_entries(_entries(log_files(path), tail), options):
        batch.append(entry)
        size += len(entry.content)
        if size >= CHUNK:
            yield renderer.render(batch)
            batch, size = [], 0
            await asyncio.sleep(0)
        if renderer.full:
            return
    if batch:
        yield renderer.render(batch)
    while options.follow and not renderer.full:
        # Ask before reading: what the container wrote before it ended is in the file by then.
        running = is_running()
        entries = [entry for entry in tail.read() if not options.since_ns or _at(entry) >= options.since_ns]
        if entries:
            yield renderer.render(entries)
        elif not running:
            return
        else:
            await asyncio.sleep(POLL_S)


def _entries(files: list[Path], tail: _Tail) -> Iterator[LogEntry]:
    for file in files[:-1] if files and files[-1] == tail.path else files:
        with file.open("rb") as log:
            for line in log:
                entry = parse_line(line)
                if entry is not None:
                    yield entry
    while entries := tail.read():
        yield from entries


class _Tail:
    """The growing file: reads whole lines as they come, survives its rotation and its late birth."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._descriptor = -1
        self._rest = b""

    def read(self) -> list[LogEntry]:
        """The lines that were added since, at most a chunk of them."""
        if self._descriptor < 0 and not self._open():
            return []
        data = os.read(self._descriptor, CHUNK)
        if not data and self._is_rotated():
            os.close(self._descriptor)
            self._descriptor = -1
            return self.read() if self._open() else []
        *lines, self._rest = (self._rest + data).split(b"\n")
        entries = [entry for line in lines if (entry := parse_line(line)) is not None]
        return entries or (self.read() if data else [])

    def _open(self) -> bool:
        try:
            self._descriptor = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return False
        return True

    def _is_rotated(self) -> bool:
        try:
            new = os.stat(self.path)
        except OSError:
            return False
        old = os.fstat(self._descriptor)
        return (old.st_dev, old.st_ino) != (new.st_dev, new.st_ino)

    def __del__(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
