"""Times as the API writes them, and ages as kubectl prints them.

`Time` is RFC 3339 in UTC with whole seconds, `MicroTime` has exactly six decimals. Nothing here asks for the clock: the
moment is always an argument, as seconds since the epoch.
Source: apimachinery pkg/apis/meta/v1 (Time, MicroTime), pkg/util/duration (HumanDuration).
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_RFC3339 = re.compile(r"(\d{4})-(\d\d)-(\d\d)T(\d\d):(\d\d):(\d\d)(?:[.,](\d+))?(?:Z|([+-])(\d\d):(\d\d))", re.ASCII)
_MICRO = re.compile(r".{19}\.\d{6}(?:Z|[+-]\d\d:\d\d)", re.ASCII)


def format_time(seconds: float) -> str:
    """`2026-11-21T01:02:03Z` (the fraction is cut off)."""
    return (_EPOCH + timedelta(seconds=int(seconds // 1))).strftime("%Y-%m-%dT%H:%M:%SZ")


def format_micro_time(seconds: float) -> str:
    """`2026-11-21T01:02:03.000004Z`."""
    return (_EPOCH + timedelta(microseconds=round(seconds * 1e6))).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def parse_time(text: str) -> float:
    """Seconds since the epoch of an RFC 3339 time. Raises ValueError."""
    match = _RFC3339.fullmatch(text)
    if match is None:
        raise ValueError(f"not an RFC 3339 time: {text!r}")
    year, month, day, hour, minute, second, fraction, sign, offset_hours, offset_minutes = match.groups()
    moment = datetime(int(year), int(month), int(day), int(hour), int(minute), int(second), tzinfo=UTC)
    seconds = (moment - _EPOCH) / timedelta(seconds=1)
    if fraction:
        seconds += float(f"0.{fraction}")
    if sign:
        if int(offset_hours) > 23 or int(offset_minutes) > 59:
            raise ValueError(f"time zone offset out of range: {text!r}")
        offset = int(offset_hours) * 3600 + int(offset_minutes) * 60
        seconds -= offset if sign == "+" else -offset
    return seconds


def is_time(text: str) -> bool:
    """Whether `text` is an RFC 3339 time."""
    try:
        parse_time(text)
    except ValueError:
        return False
    return True


def is_micro_time(text: str) -> bool:
    """Whether `text` is a MicroTime: RFC 3339 with exactly six decimals."""
    return _MICRO.fullmatch(text) is not None and is_time(text)


def parse_error(text: str, *, micro: bool = False) -> str:
    """Go's words for a time it cannot read."""
    layout = "2006-01-02T15:04:05.000000Z07:00" if micro else "2006-01-02T15:04:05Z07:00"
    return f'parsing time "{text}" as "{layout}": cannot parse "{text}" as "2006"'


def human_duration(seconds: float) -> str:
    """An age as kubectl prints it: `59s`, `3m20s`, `25h`, `2d3h`, `400d`, `3y`."""
    if seconds <= -2:
        return "<invalid>"
    if seconds < 0:
        return "0s"
    whole = int(seconds)
    minutes, hours, days = whole // 60, whole // 3600, whole // 86400
    if whole < 120:
        return f"{whole}s"
    if minutes < 10:
        return _two(minutes, "m", whole % 60, "s")
    if hours < 3:
        return f"{minutes}m"
    if hours < 8:
        return _two(hours, "h", minutes % 60, "m")
    if hours < 48:
        return f"{hours}h"
    if days < 8:
        return _two(days, "d", hours % 24, "h")
    if days < 365 * 2:
        return f"{days}d"
    if days < 365 * 8:
        return _two(days // 365, "y", days % 365, "d")
    return f"{days // 365}y"


def _two(first: int, first_unit: str, second: int, second_unit: str) -> str:
    return f"{first}{first_unit}{second}{second_unit}" if second else f"{first}{first_unit}"


def age(timestamp: str | None, now: float) -> str:
    """The AGE cell of an object created at `timestamp`: `<unknown>` when there is none."""
    if not timestamp:
        return "<unknown>"
    try:
        return human_duration(now - parse_time(timestamp))
    except ValueError:
        return "<invalid>"
