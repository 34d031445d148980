"""Cron expressions: five fields, names, ranges, steps, the @ words and `@every`; and when they come next.

Pure: the time zone is an argument. A day matches when both its fields match, or either where neither is `*`. Around a
change of the clocks the search moves in real time: a time that is skipped does not come, one that comes twice may
come twice. Source: crontab(5), the documentation of the cron library Kubernetes uses (robfig/cron v3).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo

_MACROS = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_DAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
_BOUNDS = ((0, 59), (0, 23), (1, 31), (1, 12), (0, 6))
_PART = re.compile(r"([0-9.]+)(h|ms|us|ns|m|s)", re.ASCII)
_SECONDS = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 1e-3, "us": 1e-6, "ns": 1e-9}
_HORIZON = timedelta(days=366 * 5)
"""A date that does not come within five years (30 February) never comes."""


class ScheduleError(ValueError):
    """The expression cannot be read; the message says why."""


@dataclass(frozen=True, slots=True)
class Schedule:
    """The values each field allows; `any_day` and `any_weekday` say which of the two was `*`. `every_s` stands for
    `@every` and makes the rest meaningless. `zone_name` is a leading `TZ=`.
    """

    minutes: frozenset[int] = frozenset()
    hours: frozenset[int] = frozenset()
    days: frozenset[int] = frozenset()
    months: frozenset[int] = frozenset()
    weekdays: frozenset[int] = frozenset()
    any_day: bool = True
    any_weekday: bool = True
    every_s: int = 0
    zone_name: str = ""

    def next_after(self, after: float, zone: tzinfo = UTC) -> float | None:
        """The first time strictly after `after` (seconds since the epoch); None when there is none in five years."""
        if self.every_s:
            return float(int(after) + self.every_s)
        return self._search(after, zone)

    def _search(self, after: float, zone: tzinfo) -> float | None:
        moment = datetime.fromtimestamp(int(after // 60) * 60 + 60, UTC)
        limit = moment + _HORIZON
        while moment <= limit:
            local = moment.astimezone(zone)
            if local.month not in self.months:
                moment = _forward(moment, local, _month_after(local))
            elif not self._day_matches(local):
                moment = _forward(moment, local, local.replace(hour=0, minute=0) + timedelta(days=1))
            elif local.hour not in self.hours:
                moment += timedelta(minutes=60 - local.minute)
            elif local.minute not in self.minutes:
                moment += timedelta(minutes=1)
            else:
                return moment.timestamp()
        return None

    def _day_matches(self, local: datetime) -> bool:
        day, weekday = local.day in self.days, (local.weekday() + 1) % 7 in self.weekdays
        return (day and weekday) if self.any_day or self.any_weekday else (day or weekday)


def _month_after(local: datetime) -> datetime:
    first = local.replace(day=1, hour=0, minute=0)
    return first.replace(year=local.year + 1, month=1) if local.month == 12 else first.replace(month=local.month + 1)


def _forward(moment: datetime, local: datetime, wall: datetime) -> datetime:
    """The moment of a later wall-clock time; never back, where clocks were changed at midnight."""
    target = wall.astimezone(UTC)
    # A midnight that does not exist lands before itself: one hour on it is there.
    if target.astimezone(local.tzinfo).date() < wall.date():
        target += timedelta(hours=1)
    return target if target > moment else moment + timedelta(minutes=1)


def parse_schedule(text: str) -> Schedule:
    """The schedule of an expression. Raises ScheduleError."""
    zone = ""
    if text.startswith(("TZ=", "CRON_TZ=")):
        head, _, text = text.partition(" ")
        zone = head.partition("=")[2]
    text = text.strip()
    if text.startswith("@every "):
        return Schedule(every_s=_duration_s(text.removeprefix("@every ")), zone_name=zone)
    fields = _MACROS.get(text, text).split()
    if len(fields) != 5:
        raise ScheduleError(f"expected exactly 5 fields, found {len(fields)}: [{' '.join(fields)}]")
    minutes, hours, days, months, weekdays = (_field(field, number) for number, field in enumerate(fields))
    return Schedule(
        minutes,
        hours,
        days,
        months,
        weekdays,
        any_day=_is_any(fields[2]),
        any_weekday=_is_any(fields[4]),
        zone_name=zone,
    )


def _is_any(field: str) -> bool:
    return any(item in {"*", "?", "*/1", "?/1"} for item in field.split(","))


def _duration_s(text: str) -> int:
    parts = _PART.findall(text)
    if not parts or "".join(number + unit for number, unit in parts) != text:
        raise ScheduleError(f"failed to parse duration @every {text}")
    try:
        return max(1, int(sum(float(number) * _SECONDS[unit] for number, unit in parts)))
    except ValueError as error:
        raise ScheduleError(f"failed to parse duration @every {text}") from error


def _field(text: str, number: int) -> frozenset[int]:
    return frozenset(value for item in text.split(",") for value in _item(item, number))


def _item(item: str, number: int) -> range:
    low, high = _BOUNDS[number]
    span, slash, step_text = item.partition("/")
    step = _number(step_text, number) if slash else 1
    if span in {"*", "?"}:
        first, last = low, high
    else:
        begin, dash, end = span.partition("-")
        first = _number(begin, number)
        # `5/15` begins at 5 and goes on to the end.
        last = _number(end, number) if dash else (high if slash else first)
    if first < low:
        raise ScheduleError(f"beginning of range ({first}) below minimum ({low}): {item}")
    if last > high:
        raise ScheduleError(f"end of range ({last}) above maximum ({high}): {item}")
    if first > last:
        raise ScheduleError(f"beginning of range ({first}) beyond end of range ({last}): {item}")
    if step == 0:
        raise ScheduleError(f"step of range should be a positive number: {item}")
    return range(first, last + 1, step)


def _number(text: str, field: int) -> int:
    word = text.lower()
    if field == 3 and word in _MONTHS:
        return _MONTHS.index(word) + 1
    if field == 4 and word in _DAYS:
        return _DAYS.index(word)
    if not (text.isascii() and text.isdigit()):
        raise ScheduleError(f"failed to parse int from {text}")
    return int(text)
