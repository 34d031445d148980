"""How podnet speaks to a person and to a machine: one place for colour, JSON and the shape of a failure.

A failure is one line that begins with `podnet:` on standard error, and below it, where there is one, the fix. Colour
goes away by itself in a pipe and with NO_COLOR.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Sequence
from enum import Enum
from pathlib import Path
from typing import Any, NoReturn

from rich.console import Console
from rich.markup import escape

stdout = Console(highlight=False, soft_wrap=True)
stderr = Console(stderr=True, highlight=False, soft_wrap=True)


class Format(str, Enum):
    """`-o`."""

    TEXT = "text"
    JSON = "json"


def fail(message: str, fix: str = "", code: int = 1) -> NoReturn:
    """Say what went wrong and how to mend it; leave with `code`."""
    stderr.print(f"[bold red]podnet:[/] {escape(message)}")
    if fix:
        stderr.print(f"  [dim]fix:[/] {escape(fix)}")
    sys.exit(code)


def unless_closed(text: str) -> None:
    """A line of progress. Whoever was reading may have left: then nothing is said, and what goes on goes on."""
    try:
        stdout.print(text)
    except (BrokenPipeError, SystemExit):  # rich makes the one of the other
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115  # for good
        stdout.file = sys.stdout


MAX_TEXT = 8 << 20


def read_text(file: Path) -> str:
    """A file that a user named, - for standard input; at most 8 MiB of it (it may be /dev/zero). Fails in one line."""
    try:
        if str(file) == "-":
            data = sys.stdin.buffer.read(MAX_TEXT + 1)
        else:
            # A FIFO that nobody writes to would hold open() for ever; one with a writer is read to its end.
            descriptor = os.open(file, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
            os.set_blocking(descriptor, True)
            with os.fdopen(descriptor, "rb") as stream:
                data = stream.read(MAX_TEXT + 1)
        if len(data) > MAX_TEXT:
            fail(f"{file}: larger than {MAX_TEXT >> 20} MiB")
        return data.decode()
    except OSError as err:
        fail(f"{file}: {err.strerror}")
    except UnicodeDecodeError:
        fail(f"{file}: is not UTF-8 text")


def print_json(value: Any) -> None:
    """One JSON document for a machine."""
    sys.stdout.write(json.dumps(value, indent=2, default=str) + "\n")


def print_table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """A table in kubectl's manner: no borders, upper-case headings, never cut off."""
    table = [[column.upper() for column in columns], *([str(cell) for cell in row] for row in rows)]
    widths = [max(len(line[i]) for line in table) for i in range(len(columns))]
    for line in table:
        print("   ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())
