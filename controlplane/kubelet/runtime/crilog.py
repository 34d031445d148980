"""Container output in the CRI's log format, and the file it is kept in.

    2026-01-02T03:04:05.678901234Z stdout F a whole line
    2026-01-02T03:04:05.678901234Z stderr P a part of a line longer than 16 KiB

`LineSplitter` is pure; `LogFile` writes. A file that grows beyond the limit is renamed with the time in its name, as a
kubelet does when it rotates, and the oldest are removed.
Source: Kubernetes design proposal "kubelet CRI logging"; containerd internal/cri/io/logger.go.
"""

from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path

MAX_LINE_BYTES = 16 * 1024
MAX_FILE_BYTES = 10 * 1024 * 1024
MAX_FILES = 5


def format_time(now_ns: int) -> str:
    """RFC 3339 with nanoseconds, UTC."""
    seconds, nanoseconds = divmod(now_ns, 1_000_000_000)
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(seconds))}.{nanoseconds:09d}Z"


class LineSplitter:
    """Bytes of one stream in, log entries out."""

    def __init__(self, stream: str) -> None:
        self._stream = stream.encode()
        self._rest = b""

    def feed(self, data: bytes, stamp: str) -> bytes:
        """The entries these bytes complete; an unfinished line waits for more."""
        head = stamp.encode() + b" " + self._stream
        whole = b"%s F " % head
        part = b"%s P " % head
        *lines, self._rest = (self._rest + data).split(b"\n")
        out: list[bytes] = []
        for line in lines:
            while len(line) > MAX_LINE_BYTES:
                out += (part, line[:MAX_LINE_BYTES], b"\n")
                line = line[MAX_LINE_BYTES:]
            out += (whole, line, b"\n")
        while len(self._rest) >= MAX_LINE_BYTES:
            out += (part, self._rest[:MAX_LINE_BYTES], b"\n")
            self._rest = self._rest[MAX_LINE_BYTES:]
        return b"".join(out)

    def finish(self, stamp: str) -> bytes:
        """The last line, when the stream ended without a newline."""
        rest, self._rest = self._rest, b""
        return b"%s %s F %s\n" % (stamp.encode(), self._stream, rest) if rest else b""


class LogFile:
    """The log of one container, appended to and rotated. Without a path everything is dropped. A disk that refuses
    loses log lines, never the container."""

    def __init__(self, path: str, max_bytes: int = MAX_FILE_BYTES, max_files: int = MAX_FILES) -> None:
        self._path = Path(path) if path else None
        self._max_bytes = max_bytes
        self._max_files = max_files
        self._descriptor = -1
        self._size = 0
        self._open()

    def write(self, entries: bytes) -> None:
        """Append whole entries."""
        if self._descriptor < 0 or not entries:
            return
        with contextlib.suppress(OSError):
            self._size += os.write(self._descriptor, entries)
        if self._size >= self._max_bytes:
            self._rotate()

    def close(self) -> None:
        """Release the file."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def _open(self) -> None:
        if self._path is None:
            return
        with contextlib.suppress(OSError):
            self._path.parent.mkdir(parents=True, exist_ok=True)
            flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
            self._descriptor = os.open(self._path, flags, 0o640)
            self._size = os.fstat(self._descriptor).st_size

    def _rotate(self) -> None:
        assert self._path is not None
        self.close()
        stamp = time.strftime("%Y%m%d-%H%M%S", time.gmtime()) + f".{time.time_ns() % 1_000_000_000:09d}"
        with contextlib.suppress(OSError):
            self._path.rename(f"{self._path}.{stamp}")
            old = sorted(self._path.parent.glob(f"{self._path.name}.*"))
            for path in old[: max(0, len(old) - (self._max_files - 1))]:
                path.unlink()
        self._open()
