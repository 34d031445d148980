"""Sets of completion indexes in the form a Job's status has them: `1,3-5,7`.

Pure. Source: Kubernetes API reference, JobStatus.completedIndexes.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from itertools import pairwise

from podnet.controlplane.api import numbers


def parse_intervals(text: str | None, completions: int) -> list[tuple[int, int]]:
    """The runs (first, last) below `completions`; what cannot be read is left out. A run may be as long as a Job has
    completions, two thousand millions: it is never written out."""
    found: list[tuple[int, int]] = []
    for item in (text or "").split(","):
        first, dash, last = item.partition("-")
        low, high = numbers.natural(first), numbers.natural(last if dash else first)
        if low is not None and high is not None and low <= (end := min(high, completions - 1)):
            found.append((low, end))
    return found


def parse_indexes(text: str | None, completions: int) -> set[int]:
    """The indexes below `completions`, one by one: of a status, where each was a pod once."""
    return {index for low, high in parse_intervals(text, completions) for index in range(low, high + 1)}


def count_within(indexes: Iterable[int], intervals: Sequence[tuple[int, int]]) -> int:
    """How many of the indexes are in a run; the runs stand in order, as a Job must name them."""
    starts = [low for low, _ in intervals]
    runs = ((index, bisect_right(starts, index) - 1) for index in indexes)
    return sum(run >= 0 and index <= intervals[run][1] for index, run in runs)


def format_indexes(indexes: Iterable[int]) -> str:
    """The shortest text: runs of three and more (and pairs, as upstream) become ranges where they save something."""
    order = sorted(set(indexes))
    if not order:
        return ""
    starts = [order[0], *(after for before, after in pairwise(order) if after != before + 1)]
    ends = [*(before for before, after in pairwise(order) if after != before + 1), order[-1]]
    return ",".join(_run(start, end) for start, end in zip(starts, ends, strict=True))


def _run(start: int, end: int) -> str:
    if start == end:
        return str(start)
    return f"{start},{end}" if end == start + 1 else f"{start}-{end}"
