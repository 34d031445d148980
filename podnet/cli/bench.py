"""`podnet bench`: measure, beside the references."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from podnet.cli.options import Output
from podnet.cli.output import Format, fail, print_json, print_table, stderr


def register(app: typer.Typer) -> None:
    """Add the verbs of this module."""
    app.command()(bench)


def bench(
    groups: Annotated[
        list[str] | None, typer.Argument(help="boot, scale, datapath, cni, api, dns, services (default: all).")
    ] = None,
    output: Output = Format.TEXT,
) -> None:
    """Measure speed and memory; every figure beside its budget and its reference."""
    from podnet.bench import GROUPS, Row, run_groups

    names = groups or list(GROUPS)
    unknown = [name for name in names if name not in GROUPS]
    if unknown:
        fail(f"no such group: {', '.join(unknown)}", f"groups: {', '.join(GROUPS)}", code=2)
    rows: list[Row] = []
    for row in run_groups(names):
        rows.append(row)
        if output is Format.TEXT:
            stderr.print(
                f"[dim]measured[/] {row.name}" if not row.error else f"[red]failed[/] {row.group}: {row.error}"
            )
    if output is Format.JSON:
        print_json([row.to_dict() for row in rows])
    else:
        print_table(["what", "figure", "budget", "holds", "reference", "ratio"], [_cells(row) for row in rows])
    if any(row.error for row in rows):
        sys.exit(1)


def _cells(row: object) -> tuple[str, ...]:
    from podnet.bench import Row

    if not isinstance(row, Row):
        raise TypeError(type(row))
    if row.error:
        return (row.group, row.error, "", "", "", "")
    figure = f"{row.value:.2f} {row.unit}".strip() if row.value is not None else "-"
    sign = "<=" if row.at_most else ">="
    budget = f"{sign} {row.budget:g} {row.unit}".strip() if row.budget is not None else "-"
    holds = {True: "yes", False: "NO", None: "-"}[row.within_budget]
    mark = "measured" if row.reference_measured else "published"
    value = f" {row.reference_value:.2f}" if row.reference_value is not None and row.reference_measured else ""
    reference = f"{row.reference}{value} ({mark})" if row.reference else "-"
    ratio = f"{row.ratio:.2f}" if row.ratio is not None else "-"
    return (row.name, figure, budget, holds, reference, ratio)
