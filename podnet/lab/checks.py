"""Checks of a lab: each has a name, passes or fails, and says what it saw and where to look.

A check is a function that returns what it saw, or raises CheckFailed with a hint. Checks run in order; one that needs
another is not run after that one failed, so that the first failure is the one to look at.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from podnet.controlplane.api.errors import StatusError
from podnet.launch import ClusterError


class CheckFailed(Exception):
    """What was seen instead, and where to look."""

    def __init__(self, seen: str, look_at: str = "") -> None:
        super().__init__(seen)
        self.look_at = look_at


@dataclass(frozen=True, slots=True)
class Check:
    """`run` returns what it saw; `needs` names checks that must have passed."""

    name: str
    run: Callable[[], str]
    needs: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class CheckResult:
    """`status`: pass, fail or skip (because of a failure before it)."""

    name: str
    status: str
    seen: str = ""
    look_at: str = ""


def run_checks(checks: Sequence[Check], show: Callable[[CheckResult], None] | None = None) -> list[CheckResult]:
    """Run every check and show each result as it comes."""
    results: list[CheckResult] = []
    for check in checks:
        result = _run_one(check, results)
        results.append(result)
        if show is not None:
            show(result)
    return results


def _run_one(check: Check, before: list[CheckResult]) -> CheckResult:
    blocked = [r.name for r in before if r.name in check.needs and r.status != "pass"]
    if blocked:
        return CheckResult(check.name, "skip", f"not run: {', '.join(blocked)} did not pass")
    try:
        return CheckResult(check.name, "pass", check.run())
    except CheckFailed as failure:
        return CheckResult(check.name, "fail", str(failure), failure.look_at)
    except (ClusterError, StatusError) as error:  # a pod that was deleted, a program that is not there: seen, too
        return CheckResult(check.name, "fail", str(error), "podnet kubectl get all; podnet status")
    except (LookupError, TypeError) as error:
        seen = f"something the check needs is not there yet: {type(error).__name__} {error}"
        return CheckResult(check.name, "fail", seen, "podnet kubectl get pods -o wide")


def exit_code(results: Sequence[CheckResult]) -> int:
    """0 all passed, 1 something did not, 2 nothing was checked."""
    if not results:
        return 2
    return 0 if all(result.status == "pass" for result in results) else 1
