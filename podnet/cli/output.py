"""How podnet speaks to a person and to a machine: one place for colour, JSON and the shape of a failure.

A failure is one line that begins with `podnet:` on standard error, and below it, where there is one, the fix. Colour
goes away by itself in a pipe and with NO_COLOR.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from enum import Enum
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


def print_json(value: Any) -> None:
    """One JSON document for a machine."""
    sys.stdout.write(json.dumps(value, indent=2, default=str) + "\n")


def print_table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """A table in kubectl's manner: no borders, upper-case headings, never cut off."""
    table = [[column.upper() for column in columns], *([str(cell) for cell in row] for row in rows)]
    widths = [max(len(line[i]) for line in table) for i in range(len(columns))]
    for line in table:
        print("   ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())
