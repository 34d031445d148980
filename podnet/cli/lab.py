"""`podnet lab ls, run, check, solve`: lessons with exercises, on a cluster of their own."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from podnet.cli.options import Output
from podnet.cli.output import Format, print_json, print_table, stdout
from podnet.directories import cluster_directories
from podnet.lab.checks import exit_code, run_checks
from podnet.lab.lesson import Lesson, result_rows, show_boot, show_result
from podnet.lab.session import LabSession
from podnet.lab.shelf import LabFolder, find_lab, find_labs
from podnet.launch import ClusterError

app = typer.Typer(no_args_is_help=True, help="Labs: predict, do, observe, and have it checked.")
Which = Annotated[str, typer.Argument(help="Its number or name: 2, 02, services.", metavar="LAB")]


def register(root: typer.Typer) -> None:
    """Add the verbs of this module."""
    app.command("ls")(list_)
    app.command()(run)
    app.command()(check)
    app.command()(solve)
    root.add_typer(app, name="lab")


def list_(output: Output = Format.TEXT) -> None:
    """List the labs."""
    rows = [(lab.number, lab.name, lesson.summary, str(lab.path)) for lab in find_labs() for lesson in [lab.lesson()]]
    if output is Format.JSON:
        print_json([dict(zip(("number", "name", "summary", "path"), row, strict=True)) for row in rows])
    else:
        print_table(["lab", "name", "what it is about"], [row[:3] for row in rows])


def run(
    lab: Which,
    demo: Annotated[bool, typer.Option("--demo", help="The whole walk, with the exercises solved, then down.")] = False,
) -> None:
    """Boot the lab's cluster with its exercises as you find them, and leave it running."""
    folder = find_lab(lab)
    lesson = folder.lesson()
    if demo:
        from podnet.lab.tour import main

        sys.exit(main(lesson, ["--name", f"{folder.cluster}-demo"]))
    record = cluster_directories(folder.cluster).record()
    if record is not None and record.running:
        again = f"podnet down -c {folder.cluster} --purge, then podnet lab run {folder.number}, to begin anew"
        raise ClusterError(
            f"lab {folder.number} is running already", f"podnet lab check {folder.number} to go on with it; {again}"
        )
    stdout.print(f"[bold]{escape(lesson.title)}[/]  {escape(lesson.summary)}\n")
    session = LabSession(lesson.cluster_spec(folder.cluster), keep=True, on_progress=show_boot)
    with session:
        steps = lesson(session, pcap=Path(f"lab-{folder.number}.pcapng"))
        steps.prepare()
        steps.begin()
    stdout.print(f"\n[green]It is yours.[/] Read {folder.path / 'README.md'}, then:")
    stdout.print(f"  export PODNET_CLUSTER={folder.cluster} KUBECONFIG={session.paths.kubeconfig}")
    stdout.print(f"  podnet lab check {folder.number}      [dim]are the exercises solved?[/]")
    stdout.print(f"  podnet lab solve {folder.number}      [dim]show me[/]")
    stdout.print(f"  podnet down -c {folder.cluster} --purge")


def check(lab: Which, output: Output = Format.TEXT) -> None:
    """Check the exercises in the running cluster: what was seen, and where to look."""
    folder, steps = _attached(lab)
    results = run_checks(steps.exercise_checks(), show_result if output is Format.TEXT else None)
    if output is Format.JSON:
        print_json({"lab": folder.path.name, "checks": result_rows(results)})
    else:
        stdout.print(f"\n{sum(r.status == 'pass' for r in results)} of {len(results)} checks passed")
    sys.exit(exit_code(results))


def solve(lab: Which) -> None:
    """Apply the solution to the running cluster."""
    folder, steps = _attached(lab)
    steps.apply(folder.path / "manifests")  # what the learner may have deleted
    steps.solve()
    stdout.print(f"\nLook at what changed, then: podnet lab check {folder.number}")


def _attached(lab: str) -> tuple[LabFolder, Lesson]:
    folder = find_lab(lab)
    lesson = folder.lesson()
    session = LabSession(lesson.cluster_spec(folder.cluster), attach=True)
    try:
        session.__enter__()
    except ClusterError as err:
        raise ClusterError(str(err), f"podnet lab run {folder.number}") from err
    return folder, lesson(session, pcap=Path(f"lab-{folder.number}.pcapng"))
