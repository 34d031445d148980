"""One line of a CRI log file: `2026-11-21T01:02:03.123456789Z stdout F the text`.

Pure. The tag is F for a full line, P for a piece of a longer one. Source: the CRI logging design
(kubelet-cri-logging.md).
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class LogEntry:
    """A line or a piece of one; `timestamp` as it stands in the file."""

    timestamp: str
    stream: str
    partial: bool
    content: bytes

    def render(self, *, timestamps: bool, continues: bool) -> bytes:
        """As `kubectl logs` shows it; `continues`: the piece before it was the beginning of this line."""
        head = f"{self.timestamp} ".encode() if timestamps and not continues else b""
        return head + self.content + (b"" if self.partial else b"\n")


def parse_line(line: bytes) -> LogEntry | None:
    """None for what is no log line (a torn write)."""
    parts = line.rstrip(b"\n").split(b" ", 3)
    if len(parts) < 3 or parts[1] not in {b"stdout", b"stderr"}:
        return None
    tags = parts[2].split(b":")
    return LogEntry(
        parts[0].decode("ascii", "replace"),
        parts[1].decode(),
        partial=tags[0] == b"P",
        content=parts[3] if len(parts) == 4 else b"",
    )
