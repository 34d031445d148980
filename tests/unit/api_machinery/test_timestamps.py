"""Times as text and ages as kubectl prints them."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from podnet.controlplane.api import timestamps


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-5, "<invalid>"), (-2, "<invalid>"), (-1.5, "0s"), (0, "0s"), (1.9, "1s"), (59, "59s"), (119, "119s"),
        (120, "2m"), (200, "3m20s"), (599, "9m59s"), (600, "10m"), (3600, "60m"), (10799, "179m"), (10800, "3h"),
        (11100, "3h5m"), (28799, "7h59m"), (28800, "8h"), (172799, "47h"), (172800, "2d"), (176400, "2d1h"),
        (691199, "7d23h"), (691200, "8d"), (63071999, "729d"), (63072000, "2y"), (63158400, "2y1d"),
        (252288000, "8y"), (300000000, "9y"),
    ],
)  # fmt: skip
def test_human_duration(seconds: float, text: str) -> None:
    """Two units while they say something, one afterwards."""
    assert timestamps.human_duration(seconds) == text


def test_age() -> None:
    """Of a timestamp, of none, of nonsense."""
    assert timestamps.age("2026-01-01T00:00:00Z", timestamps.parse_time("2026-01-01T00:05:00Z")) == "5m"
    assert timestamps.age(None, 0) == "<unknown>"
    assert timestamps.age("", 0) == "<unknown>"
    assert timestamps.age("yesterday", 0) == "<invalid>"


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("1970-01-01T00:00:00Z", 0),
        ("2026-11-21T01:02:03Z", 1795222923),
        ("2026-11-21T02:02:03+01:00", 1795222923),
        ("2026-11-20T19:32:03-05:30", 1795222923),
        ("2026-11-21T01:02:03.5Z", 1795222923.5),
    ],
)
def test_parse(text: str, seconds: float) -> None:
    """Any zone, any fraction."""
    assert timestamps.parse_time(text) == seconds


@pytest.mark.parametrize(
    "text",
    ["", "now", "2026-11-21", "2026-11-21 01:02:03Z", "2026-13-01T00:00:00Z", "2026-02-30T00:00:00Z", "2026-11-21T25:00:00Z",
     "2026-11-21T01:02:03", "2026-11-21T01:02:03+25:00", "2026-11-21T01:02:03Z\n", "2026-11-21t01:02:03z"],
)  # fmt: skip
def test_refusals(text: str) -> None:
    """What is no RFC 3339 time."""
    assert not timestamps.is_time(text)
    with pytest.raises(ValueError, match=r"."):
        timestamps.parse_time(text)


def test_micro_time_has_six_decimals() -> None:
    """Neither fewer nor more, as Go's layout demands."""
    assert timestamps.format_micro_time(1795222923.25) == "2026-11-21T01:02:03.250000Z"
    assert timestamps.is_micro_time("2026-11-21T01:02:03.250000Z")
    assert not timestamps.is_micro_time("2026-11-21T01:02:03.25Z")
    assert not timestamps.is_micro_time("2026-11-21T01:02:03Z")


@given(st.integers(0, 4_000_000_000))
def test_format_and_parse_are_inverse(seconds: int) -> None:
    """For whole seconds, and to the microsecond for MicroTime."""
    assert timestamps.parse_time(timestamps.format_time(seconds)) == seconds
    assert timestamps.parse_time(timestamps.format_micro_time(seconds + 0.5)) == seconds + 0.5
    assert timestamps.format_time(seconds + 0.999) == timestamps.format_time(seconds)


@given(st.floats(0, 1e10))
def test_every_age_is_numbers_with_units(seconds: float) -> None:
    """Whatever the moment: digits and units in turn, never empty."""
    assert re.fullmatch(r"(\d+[smhdy]){1,2}", timestamps.human_duration(seconds))
