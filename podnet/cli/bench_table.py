"""The rows of `podnet bench` as a person reads them: by group, as wide as the terminal, whole in a pipe.

    services                             FIGURE    BUDGET  HOLDS   RATIO  REFERENCE
      first packet to the last of 100…    22 us                    0.55  iptables 41 us

A narrow terminal gets the reference below the name. Nothing is ever cut off: what is long is folded between words. In a
pipe each row is one line, with its group, and nothing is folded.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Sequence
from itertools import groupby

from rich.markup import escape

from podnet.bench import Row
from podnet.cli.output import print_table, stdout

WIDE = 110
_GAP = "  "
_HEADINGS = ("FIGURE", "BUDGET", "HOLDS", "RATIO")
_HOLDS = {True: "yes", False: "NO", None: ""}
_STYLES = {True: "green", False: "bold red", None: ""}


def print_rows(rows: Sequence[Row]) -> None:
    """All rows, on standard output."""
    if not stdout.is_terminal:
        columns = ["group", "what", "figure", "budget", "holds", "ratio", "reference"]
        print_table(columns, [_plain(row) for row in rows])
        return
    for line in lines_of(rows, stdout.width):
        stdout.print(line)


def figure(value: float | None, unit: str) -> str:
    """Three digits that count, thousands with commas; what has no unit and is whole is a count (1.00 aside: a ratio).

    >>> figure(0.4567, "ms"), figure(127345.6, "/s"), figure(0.0, "")
    ('0.457 ms', '127,346/s', '0')
    """
    if value is None:
        return "-"
    size = abs(value)
    is_count = not unit and value.is_integer() and value != 1
    digits = 0 if size >= 100 or value == 0 or is_count else 1 if size >= 10 else 2 if size >= 1 else 3
    text = f"{value:,.{digits}f}"
    return f"{text}{unit}" if unit.startswith("/") else f"{text} {unit}".strip()


def _budget(row: Row) -> str:
    if row.budget is None:
        return ""
    unit = row.unit if row.unit.startswith("/") else f" {row.unit}"
    return f"{'<=' if row.at_most else '>='} {row.budget:,g}{unit}".rstrip()


def reference_of(row: Row) -> str:
    """What the figure stands beside."""
    if row.error:
        return f"not measured: {row.error}"
    if not row.reference:
        return ""
    value = f" {figure(row.reference_value, row.unit)}" if row.reference_value is not None and row.unit else ""
    return f"{row.reference}{value}" if row.reference_measured else f"{row.reference} (published)"


def _cells(row: Row) -> tuple[str, str, str, str]:
    ratio = f"{row.ratio:.2f}" if row.ratio is not None else ""
    return figure(row.value, row.unit), _budget(row), _HOLDS[row.within_budget], ratio


def _plain(row: Row) -> tuple[str, ...]:
    cells = (row.group, row.name, *_cells(row), reference_of(row))
    return tuple(cell or "-" for cell in cells)


def lines_of(rows: Sequence[Row], width: int) -> Iterable[str]:
    """The table as lines (rich's markup) of at most `width` columns, where that leaves room for words."""
    table = [_cells(row) for row in rows]
    widths = [max(len(heading), *(len(cells[i]) for cells in table)) for i, heading in enumerate(_HEADINGS)]
    fixed = sum(widths) + len(_GAP) * len(widths)
    wide = width >= WIDE
    room = max(width - fixed - (len(_GAP) if wide else 0), 24)
    name_width = min(room * 11 // 20, max(len(row.name) for row in rows) + 2) if wide else room
    for number, (group, members) in enumerate(groupby(zip(rows, table, strict=True), key=lambda pair: pair[0].group)):
        if number:
            yield ""
        headings = _GAP.join(heading.rjust(size) for heading, size in zip(_HEADINGS, widths, strict=True))
        last = f"{_GAP}REFERENCE" if wide else ""
        yield f"[bold]{group.ljust(name_width)}[/]{_GAP}[dim]{headings}{last}[/]"
        for row, cells in members:
            if wide:
                yield from _wide_row(row, cells, widths, name_width, room - name_width)
            else:
                yield from _narrow_row(row, cells, widths, name_width)


def _wide_row(
    row: Row, cells: Sequence[str], widths: Sequence[int], name_width: int, reference_width: int
) -> Iterable[str]:
    names = _fold(row.name, name_width)
    references = textwrap.wrap(reference_of(row), reference_width) or [""]
    for i in range(max(len(names), len(references))):
        name = names[i] if i < len(names) else ""
        middle = _middle(row, cells, widths) if i == 0 else " " * (sum(widths) + len(_GAP) * (len(widths) - 1))
        reference = references[i] if i < len(references) else ""
        style = "red" if row.error else "dim"
        end = f"{_GAP}[{style}]{escape(reference)}[/]" if reference else ""
        yield f"{escape(name.ljust(name_width))}{_GAP}{middle}{end}".rstrip()


def _narrow_row(row: Row, cells: Sequence[str], widths: Sequence[int], name_width: int) -> Iterable[str]:
    first, *more = _fold(row.name, name_width)
    yield f"{escape(first.ljust(name_width))}{_GAP}{_middle(row, cells, widths)}".rstrip()
    yield from (escape(line) for line in more)
    style = "red" if row.error else "dim"
    whole = name_width + len(_GAP) * len(widths) + sum(widths)
    for line in textwrap.wrap(reference_of(row), whole - 6):
        yield f"      [{style}]{escape(line)}[/]"


def _fold(name: str, width: int) -> list[str]:
    return textwrap.wrap(name, width, initial_indent="  ", subsequent_indent="    ")


def _middle(row: Row, cells: Sequence[str], widths: Sequence[int]) -> str:
    padded = [cell.rjust(size) for cell, size in zip(cells, widths, strict=True)]
    style = _STYLES[row.within_budget]
    if style:
        padded[2] = f"[{style}]{padded[2]}[/]"
    return _GAP.join(padded)


def progress_line(row: Row) -> str:
    """One line as soon as a figure is there."""
    if row.error:
        return f"[red]failed[/] {row.group}: {escape(row.name)}: {escape(row.error)}"
    return f"[dim]{row.group}[/] {escape(row.name)}: {figure(row.value, row.unit)}"


def summary(rows: Sequence[Row]) -> str:
    """How many budgets hold, and which do not."""
    held = [row for row in rows if row.within_budget is not None]
    missed = [row for row in held if not row.within_budget]
    failed = [row for row in rows if row.error]
    parts = [f"{len(held) - len(missed)} of {len(held)} budgets hold" if held else "no row has a budget"]
    parts += [f"missed: {escape(row.name)}, {figure(row.value, row.unit)} ({_budget(row)})" for row in missed]
    parts += [f"not measured: {escape(row.name if row.name != '-' else row.group)}" for row in failed]
    return "\n".join(parts)
