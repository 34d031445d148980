"""Whole numbers in text that anybody may have written: annotations, ranges, schedules.

The rule: they are what Go's strconv.Atoi reads, decimal ASCII digits of 64 bits. `str.isdigit` alone also takes digits
that `int` refuses (a superscript two), and `int` refuses what is thousands of digits long.
"""

from __future__ import annotations

_DIGITS_MAX = 19
_MOST = 2**63 - 1


def natural(text: str | None) -> int | None:
    """The number, None for anything else; a sign is something else."""
    if not text or not text.isascii() or not text.isdigit():
        return None
    digits = text.lstrip("0") or "0"
    return int(digits) if len(digits) <= _DIGITS_MAX and int(digits) <= _MOST else None


def integer(text: str | None) -> int | None:
    """The number, which may be negative; None for anything else."""
    if text is None or not text.startswith("-"):
        return natural(text)
    size = natural(text[1:])
    return None if size is None else -size
