"""A lesson: a walk through something that works, and exercises that do not work yet.

labs/NN-name/   README.md     goal, predict, do, observe, explain
                cluster.yaml  the cluster it needs; none: the default one
                manifests/    what the walk and the exercises stand on
                starter/      the exercises as the learner finds them: every one of their checks fails
                solution/     the same as solved: every check passes
                lab.py        a subclass of Lesson

    lab.py                    boot, walk, exercises as solved, checks, down
    podnet lab run NN         boot, manifests, starter; then the learner works with podnet and kubectl
    podnet lab check NN       the exercises' checks against that cluster
    podnet lab solve NN       apply the solution

A check says what was seen and where to look, never the answer.
"""

from __future__ import annotations

import inspect
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

from rich.console import Console
from rich.markup import escape

from podnet.lab.checks import Check, CheckResult
from podnet.lab.session import LabSession
from podnet.topology.spec import ClusterSpec, default_cluster_spec, load_cluster_spec

STARTER, SOLUTION = "starter", "solution"
console = Console(highlight=False, soft_wrap=True)


class Lesson:
    """What labs have in common; a lab overrides the steps it has. Steps print what they do and keep what they saw."""

    title: ClassVar[str]
    summary: ClassVar[str]

    def __init__(self, session: LabSession, *, pcap: Path) -> None:
        self.session = session
        self.pcap = pcap
        self.phases: list[tuple[str, float]] = []

    # --- what a lab says -----------------------------------------------------------------------------------------

    def prepare(self) -> None:
        """Apply what everything stands on, and wait for it."""
        with self.phase("Apply the manifests"):
            self.apply(self.folder() / "manifests")

    def walk(self) -> None:
        """The tour."""

    def walk_checks(self) -> list[Check]:
        """What the tour should have shown."""
        return []

    def begin(self) -> None:
        """The exercises as the learner finds them. What is not a manifest is done here."""
        with self.phase("The exercises, as you find them"):
            self.apply(self.folder() / STARTER)

    def solve(self) -> None:
        """The exercises as solved, on top of what `begin` left, and until it has taken effect."""
        with self.phase("The exercises, solved"):
            self.apply(self.folder() / SOLUTION)

    def exercise_checks(self) -> list[Check]:
        """Whether the exercises are solved, from the running cluster alone: somebody else may have solved them."""
        return []

    # --- what labs use -------------------------------------------------------------------------------------------

    @classmethod
    def folder(cls) -> Path:
        """The lab's directory."""
        return Path(inspect.getfile(cls)).resolve().parent

    @classmethod
    def cluster_spec(cls, name: str) -> ClusterSpec:
        """The lab's cluster under a name."""
        path = cls.folder() / "cluster.yaml"
        if not path.exists():
            return default_cluster_spec(name, workers=2)
        return replace(load_cluster_spec(path.read_text(encoding="utf-8"), str(path)), name=name)

    @contextmanager
    def phase(self, title: str) -> Iterator[None]:
        """A heading, and the time that it took for the end."""
        console.print(f"\n[bold]{title}[/]")
        began = time.monotonic()
        yield
        self.phases.append((title, time.monotonic() - began))

    def apply(self, path: Path) -> None:
        """Apply a manifest or a directory of them, and show what a learner would have typed."""
        command = "kubectl apply -f" if self.session.kubectl_path else "podnet apply -f"
        console.print(f"$ {command} {path.relative_to(self.folder().parent)}", style="dim")
        console.print(escape(self.session.apply(path).rstrip()))

    def kubectl(self, *words: str) -> str:
        """Run kubectl, showing the command."""
        console.print(f"$ kubectl {escape(' '.join(words))}", style="dim")
        return self.session.kubectl(*words)

    def tell(self, text: str, *, style: str = "") -> None:
        """A line of what was seen, as it is (no markup)."""
        console.print(f"  {escape(text)}", style=style)


def show_result(result: CheckResult) -> None:
    """One line a check, and where to look when it failed."""
    mark = {"pass": "[green]pass[/]", "fail": "[red]FAIL[/]", "skip": "[yellow]skip[/]"}[result.status]
    console.print(f"  {mark}  {escape(result.name)}  [dim]{escape(result.seen)}[/]")
    if result.look_at:
        console.print(f"        look at: {escape(result.look_at)}")


def show_boot(event: dict[str, object]) -> None:
    """One line a phase of booting."""
    console.print(f"  {event['phase']:<16} {event['seconds']:6.2f} s  [dim]{escape(str(event.get('detail', '')))}[/]")


def result_rows(results: list[CheckResult]) -> list[dict[str, str]]:
    """For machines."""
    return [{"name": r.name, "status": r.status, "seen": r.seen, "lookAt": r.look_at} for r in results]
