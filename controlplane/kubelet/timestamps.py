"""Times as the API writes them, from nanoseconds since the epoch, and back.

Pure: the clock is an argument everywhere in this room; `time.time_ns()` is read at the edge only.
Source: metav1.Time (RFC 3339, seconds, UTC) and metav1.MicroTime.
"""

from __future__ import annotations

import calendar
from datetime import UTC, datetime, timedelta

SECOND_NS = 1_000_000_000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def rfc3339(at_ns: int) -> str:
    """`2026-11-21T01:36:31Z`, cut to the second as metav1.Time is."""
    return (_EPOCH + timedelta(seconds=at_ns // SECOND_NS)).strftime("%Y-%m-%dT%H:%M:%SZ")


def rfc3339_micro(at_ns: int) -> str:
    """`2026-11-21T01:36:31.000000Z`: leases and events."""
    moment = _EPOCH + timedelta(microseconds=at_ns // 1000)
    return moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def rfc3339_nano(at_ns: int) -> str:
    """`2026-11-21T01:36:31.123456789Z`: log lines."""
    seconds, rest = divmod(at_ns, SECOND_NS)
    return (_EPOCH + timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%S.") + f"{rest:09d}Z"


def parse_rfc3339(text: str) -> int:
    """Nanoseconds since the epoch; keeps all nine digits, which datetime would not. ValueError when it is no time."""
    text = text.strip()
    zone_at = max(text.rfind("+"), text.rfind("-", 11), text.upper().rfind("Z"))
    if zone_at < 19:
        raise ValueError(f"not an RFC 3339 time: {text!r}")
    clock, zone = text[:zone_at], text[zone_at:]
    whole, _, fraction = clock.partition(".")
    moment = datetime.strptime(whole.replace("t", "T"), "%Y-%m-%dT%H:%M:%S").replace(tzinfo=UTC)
    nanoseconds = calendar.timegm(moment.timetuple()) * SECOND_NS + int((fraction or "0").ljust(9, "0")[:9])
    if zone.upper() != "Z":
        sign = 1 if zone[0] == "+" else -1
        hours, _, minutes = zone[1:].partition(":")
        nanoseconds -= sign * (int(hours) * 3600 + int(minutes or "0") * 60) * SECOND_NS
    return nanoseconds
