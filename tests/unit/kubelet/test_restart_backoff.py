"""The restart back-off: 10 s doubling to 300 s, and forgotten after ten minutes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from podnet.controlplane.kubelet.backoff import (
    INITIAL_NS,
    MAX_NS,
    RESET_NS,
    BackoffEntry,
    back_off_until,
    go_duration,
    next_entry,
)

S = 1_000_000_000


def test_the_delays_of_a_crash_loop() -> None:
    entry, now, delays = None, 1000 * S, []
    for _ in range(8):
        delays.append(max(0, back_off_until(entry, now, now) - now) // S)
        now += delays[-1] * S
        entry = next_entry(entry, now, now)
    assert delays == [0, 10, 20, 40, 80, 160, 300, 300]


def test_ten_quiet_minutes_forget() -> None:
    entry = BackoffEntry(MAX_NS, 0)
    assert back_off_until(entry, RESET_NS, RESET_NS) == RESET_NS + MAX_NS
    assert back_off_until(entry, RESET_NS + 1, RESET_NS + 1) == 0
    assert next_entry(entry, RESET_NS + 1, RESET_NS + 1).delay_ns == INITIAL_NS


@given(st.lists(st.integers(0, 400), max_size=20))
def test_a_delay_stays_within_its_bounds(gaps: list[int]) -> None:
    entry, now = None, 0
    for gap in gaps:
        now += gap * S
        entry = next_entry(entry, now, now)
        assert INITIAL_NS <= entry.delay_ns <= MAX_NS


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0s"), (10, "10s"), (40, "40s"), (80, "1m20s"), (160, "2m40s"), (300, "5m0s"), (3661, "1h1m1s")],
    ids=str,
)
def test_go_duration(seconds: int, text: str) -> None:
    assert go_duration(seconds * S) == text
