"""What a bench row is, and which groups of rows there are.

A row is a figure with its unit, the budget of the design, and a reference: the same thing done by somebody else, in the
same run on the same machine where that is possible (`measured`), else as published. Figures of a shared machine drift;
ratios of one run hold better. What cannot be measured is a row too, with the reason.
"""

from __future__ import annotations

import functools
import importlib
import math
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import TypeAlias, cast

from podnet.launch import ClusterError
from podnet.room import RoomError

MAX_SIZE = 10_000


class BenchError(Exception):
    """Why something cannot be measured, in one line, and what would mend it in another."""

    def __init__(self, message: str, fix: str = "") -> None:
        super().__init__(message)
        self.fix = fix


@dataclass(frozen=True, slots=True)
class Row:
    """One figure. `at_most`: smaller is better, and `budget` is the bound from that side. `error` says why a row has
    no figure."""

    group: str
    name: str
    value: float | None
    unit: str
    budget: float | None = None
    at_most: bool = True
    reference: str = ""
    reference_value: float | None = None
    reference_measured: bool = False
    error: str = ""

    @property
    def within_budget(self) -> bool | None:
        """Does it hold? None where there is no budget or no figure."""
        if self.value is None or self.budget is None:
            return None
        return self.value <= self.budget if self.at_most else self.value >= self.budget

    @property
    def ratio(self) -> float | None:
        """Value over reference."""
        if self.value is None or not self.reference_value:
            return None
        return self.value / self.reference_value

    def to_dict(self) -> dict[str, object]:
        """For `-o json`."""
        return {
            "group": self.group,
            "name": self.name,
            "value": self.value,
            "unit": self.unit,
            "budget": self.budget,
            "budgetIs": "at most" if self.at_most else "at least",
            "withinBudget": self.within_budget,
            "reference": self.reference,
            "referenceValue": self.reference_value,
            "referenceMeasured": self.reference_measured,
            "ratio": self.ratio,
            "error": self.error,
        }


def _silent(_text: str) -> None:
    """Nobody is told."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What a user may choose: `sizes`, numbers of Services (none: those of the group); `note` is told what is under
    way."""

    sizes: tuple[int, ...] = ()
    note: Callable[[str], None] = _silent


Rows: TypeAlias = Iterable[Row]


def median(values: Sequence[float]) -> float:
    """The middle value (lower of the two for an even count)."""
    return percentile(values, 0.5)


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that so large a share of all values does not exceed (nearest rank)."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def median_ratio(values: Sequence[float], references: Sequence[float]) -> float:
    """The median of ratios of runs that stood side by side: a machine slow for a while is slow for both."""
    return median([value / reference for value, reference in zip(values, references, strict=True)])


def parse_sizes(text: str) -> tuple[int, ...]:
    """`100,1000` as numbers, each once, in the order given. ValueError says what is wrong.

    >>> parse_sizes("100, 1000,100")
    (100, 1000)
    """
    sizes: list[int] = []
    for word in text.split(","):
        plain = word.strip()
        if not (plain.isascii() and plain.isdigit() and 1 <= int(plain) <= MAX_SIZE):
            raise ValueError(f"{plain or 'nothing'!r} is no number of Services from 1 to {MAX_SIZE}")
        if int(plain) not in sizes:
            sizes.append(int(plain))
    return tuple(sizes)


def _late(name: str) -> Callable[[Settings], Rows]:
    """`NAME_rows` of the module NAME, imported when it is wanted: what one group needs, others do not."""

    def rows(settings: Settings) -> Rows:
        module = importlib.import_module(f"podnet.bench.{name}")
        return cast("Rows", getattr(module, f"{name}_rows")(settings))

    return rows


GROUPS: dict[str, Callable[[Settings], Rows]] = {
    name: _late(name) for name in ("boot", "scale", "datapath", "cni", "api", "dns", "services")
}
SIZED_GROUPS = ("dns", "services")
"""Those that ask how many Services there are."""


def attempt(group: str, name: str, rows: Callable[[], Rows]) -> Generator[Row, None, None]:
    """These rows; when they fail, those up to there and one with the reason, so that the next part goes on."""
    try:
        yield from rows()
    except Exception as err:
        yield Row(group, name, None, "", error=_reason(err))


def _reason(err: Exception) -> str:
    if isinstance(err, (BenchError, ClusterError, RoomError)):
        return f"{err} ({err.fix})" if err.fix else str(err)
    return f"{type(err).__name__}: {err}"


def run_groups(names: Sequence[str], settings: Settings | None = None) -> Generator[Row, None, None]:
    """Run groups one after the other; one that fails gives a row with its reason, and the next goes on."""
    chosen = settings or Settings()
    for name in names:
        chosen.note(name)
        with closing(attempt(name, "-", functools.partial(GROUPS[name], chosen))) as rows:
            yield from rows
