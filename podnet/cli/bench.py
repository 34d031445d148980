"""`podnet bench`: measure, beside the references."""

from __future__ import annotations

import contextlib
import signal
import sys
from collections.abc import Iterator, Sequence
from types import FrameType
from typing import TYPE_CHECKING, Annotated

import typer

from podnet.cli.options import Output
from podnet.cli.output import Format, fail, print_json, stderr
from podnet.interrupts import SIGNALS, Interrupted

if TYPE_CHECKING:
    from podnet.bench import Row


def register(app: typer.Typer) -> None:
    """Add the verbs of this module."""
    app.command()(bench)


def bench(
    groups: Annotated[
        list[str] | None,
        typer.Argument(help="boot, scale, datapath, cni, api, dns, services (default: all).", metavar="[GROUP]..."),
    ] = None,
    sizes: Annotated[
        str,
        typer.Option(
            "--sizes",
            metavar="N,...",
            help="Numbers of Services for dns (default 100,10000) and services (default 100,1000,5000).",
        ),
    ] = "",
    output: Output = Format.TEXT,
) -> None:
    """Measure speed and memory; every figure beside its budget and its reference.

    Groups: boot (up, down, leftovers), scale (100 pods on 10 nodes, memory),
    datapath (pod to pod beside the same path by hand), cni, api, dns, services
    (rules and requests in both modes). Without one: all, some six minutes.

    What a group boots is its own and gone afterwards, also after Ctrl-C.
    A reference is measured in the same run unless it says "published"; the
    ratio is the figure over the reference.

    Exit code 1: something could not be measured. A budget that does not hold
    is no failure: it is a figure, and the last lines name it.
    """
    from podnet.bench import GROUPS, SIZED_GROUPS, Settings, parse_sizes, run_groups

    names = list(dict.fromkeys(groups or GROUPS))
    unknown = [name for name in names if name not in GROUPS]
    if unknown:
        fail(f"no such group: {', '.join(unknown)}", f"groups: {', '.join(GROUPS)}", code=2)
    numbers: tuple[int, ...] = ()
    if sizes:
        if not set(names) & set(SIZED_GROUPS):
            fail(f"--sizes is for {' and '.join(SIZED_GROUPS)}, not for {', '.join(names)}", code=2)
        try:
            numbers = parse_sizes(sizes)
        except ValueError as err:
            fail(f"--sizes {sizes}: {err}", "for example: --sizes 100,1000", code=2)
    progress = _Progress(lines=output is Format.TEXT)
    rows: list[Row] = []
    stopped = 0
    try:
        with _one_interrupt(), contextlib.closing(run_groups(names, Settings(numbers, progress.note))) as found:
            for row in found:
                rows.append(row)
                progress.measured(row)
    except Interrupted as err:
        stopped = err.exit_code
    except KeyboardInterrupt as err:
        stopped = 128 + (err.args[0] if err.args else signal.SIGINT)
    progress.end()
    _print(rows, output)
    if stopped:
        so_far = "the figures up to then are above, " if rows else ""
        fail(f"interrupted: {so_far}what had been started is taken down", code=stopped)
    if any(row.error for row in rows):
        sys.exit(1)


def _print(rows: Sequence[Row], output: Format) -> None:
    from podnet.cli.bench_table import print_rows, summary

    if output is Format.JSON:
        print_json([row.to_dict() for row in rows])
    elif rows:
        print_rows(rows)
        stderr.print(summary(rows))


class _Progress:
    """What is under way, on a line of its own on a terminal, and each figure as it comes."""

    def __init__(self, *, lines: bool) -> None:
        self._lines = lines
        self._shows = stderr.is_terminal
        self._shown = False

    def note(self, text: str) -> None:
        """Say what is being measured now."""
        if self._shows:
            self.end()
            stderr.file.write(f"  … {text}"[: stderr.width - 1])
            stderr.file.flush()
            self._shown = True

    def measured(self, row: Row) -> None:
        """Say what has been."""
        from podnet.cli.bench_table import progress_line

        if self._lines or row.error:
            self.end()
            stderr.print(progress_line(row))

    def end(self) -> None:
        """Take the line away."""
        if self._shown:
            stderr.file.write("\r\x1b[K")
            self._shown = False


@contextlib.contextmanager
def _one_interrupt() -> Iterator[None]:
    """Ctrl-C, SIGTERM and a closed terminal end the bench; a second one does not disturb the tidying up that the first has
    begun. (A KeyboardInterrupt, since an event loop lets that through.)"""
    before = {number: signal.getsignal(number) for number in SIGNALS}

    def stop(number: int, _frame: FrameType | None) -> None:
        for each in SIGNALS:
            signal.signal(each, signal.SIG_IGN)
        raise KeyboardInterrupt(number)

    try:
        for number, handler in before.items():
            if handler is not signal.SIG_IGN:
                signal.signal(number, stop)
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
