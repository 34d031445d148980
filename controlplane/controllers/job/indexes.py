"""Sets of completion indexes in the form a Job's status has them: `1,3-5,7`.

Pure. Source: Kubernetes API reference, JobStatus.completedIndexes.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise


def parse_indexes(text: str | None, completions: int) -> set[int]:
    """The indexes below `completions`; what cannot be read is left out."""
    found: set[int] = set()
    for item in (text or "").split(","):
        first, dash, last = item.partition("-")
        if not first.isdigit() or (dash and not last.isdigit()):
            continue
        found.update(range(int(first), min(int(last or first) + 1, completions)))
    return {index for index in found if index < completions}


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
