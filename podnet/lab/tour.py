"""`lab.py`: a lesson from boot to down, unattended. Exit code 0 all checks passed, 1 one did not, 2 none was there."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from rich.markup import escape

from podnet.lab.checks import CheckResult, exit_code, run_checks
from podnet.lab.lesson import Lesson, console, result_rows, show_boot, show_result
from podnet.lab.session import LabSession, require_scapy, to_json
from podnet.launch import ClusterError


def main(lesson: type[Lesson], argv: list[str] | None = None) -> int:
    """Read the options and run."""
    name = lesson.folder().name
    number = name.split("-", 1)[0]
    parser = argparse.ArgumentParser(description=f"{lesson.title}: {lesson.summary}")
    parser.add_argument("--keep", action="store_true", help="leave the cluster running at the end")
    parser.add_argument("--name", default=f"lab-{number}-{os.getpid()}", help="name of the cluster")
    only = parser.add_mutually_exclusive_group()
    only.add_argument("--walk", action="store_true", help="only the walk, without the exercises")
    only.add_argument("--starter", action="store_true", help="only the exercises, as you find them: their checks fail")
    only.add_argument("--solution", action="store_true", help="only the exercises, as solved")
    only.add_argument(
        "--prove", action="store_true", help="everything, and that the exercises fail before they are solved"
    )
    parser.add_argument("-w", "--write", type=Path, default=Path(f"lab-{number}.pcapng"), help="where captures go")
    parser.add_argument("--json", action="store_true", help="print the results as JSON at the end")
    options = parser.parse_args(argv)
    console.print(f"[bold]{escape(lesson.title)}[/]  {escape(lesson.summary)}")
    console.print("\n[bold]Boot[/]")
    session = LabSession(lesson.cluster_spec(options.name), keep=options.keep, on_progress=show_boot)
    if session.kubectl_path is None:
        console.print("[yellow]kubectl is not on PATH:[/] podnet's small client applies the manifests instead.")
        console.print("  get it: https://kubernetes.io/docs/tasks/tools/install-kubectl-linux/", style="dim")
    try:
        require_scapy()
        with session:
            return run_lesson(lesson(session, pcap=options.write), options)
    except ClusterError as err:
        console.print(f"[bold red]podnet:[/] {escape(str(err))}" + (f"\n  fix: {escape(err.fix)}" if err.fix else ""))
        return 1


def run_lesson(lesson: Lesson, options: argparse.Namespace) -> int:
    """The steps that were asked for, in a cluster that is there."""
    lesson.phases.append(("Boot", lesson.session.seconds_to_boot))
    walks = not (options.starter or options.solution)
    lesson.prepare()
    if walks:
        lesson.walk()
    found: list[CheckResult] = []
    if not options.walk:
        lesson.begin()
        if options.prove:
            console.print("\n[bold]Checks of the exercises as found: none may pass[/]")
            found = run_checks(lesson.exercise_checks(), show_result)
        if not options.starter:
            lesson.solve()
    console.print("\n[bold]Checks[/]")
    checks = (lesson.walk_checks() if walks else []) + ([] if options.walk else lesson.exercise_checks())
    results = run_checks(checks, show_result)
    results += [
        CheckResult(f"{each.name}, but not before it is solved", "fail", each.seen)
        for each in found
        if each.status == "pass"
    ]
    console.print("\n[bold]Where the time went[/]")
    for title, seconds in lesson.phases:
        console.print(f"  {seconds:6.2f} s  {escape(title)}")
    if options.json:
        print(to_json({"checks": result_rows(results), "found": result_rows(found), "phases": dict(lesson.phases)}))
    passed = sum(result.status == "pass" for result in results)
    console.print(f"\n{passed} of {len(results)} checks passed")
    if lesson.session.keep:
        console.print(f"The cluster stays up: podnet status --cluster {lesson.session.spec.name}")
    return exit_code(results)
