"""Restart back-off: 10 s, doubling to 300 s, forgotten after ten quiet minutes.

Pure. As client-go's flowcontrol.Backoff with the kubelet's constants (pkg/kubelet/kubelet.go: backOffPeriod 10 s,
MaxContainerBackOff 300 s): the first restart is immediate, because there is no entry yet; each restart makes the next
one wait.
"""

from __future__ import annotations

from dataclasses import dataclass

from podnet.controlplane.kubelet.timestamps import SECOND_NS

INITIAL_NS = 10 * SECOND_NS
MAX_NS = 300 * SECOND_NS
RESET_NS = 2 * MAX_NS


@dataclass(frozen=True, slots=True)
class BackoffEntry:
    """How long the next wait is, and when it was last raised."""

    delay_ns: int
    updated_at_ns: int


def _is_expired(entry: BackoffEntry, event_ns: int) -> bool:
    return event_ns - entry.updated_at_ns > RESET_NS


def next_entry(entry: BackoffEntry | None, event_ns: int, now_ns: int) -> BackoffEntry:
    """The entry after one more failure that happened at `event_ns` (a container's finishedAt)."""
    if entry is None or _is_expired(entry, event_ns):
        return BackoffEntry(INITIAL_NS, now_ns)
    return BackoffEntry(min(entry.delay_ns * 2, MAX_NS), now_ns)


def back_off_until(entry: BackoffEntry | None, event_ns: int, now_ns: int) -> int:
    """When the wait that began at `event_ns` is over; 0 when there is nothing to wait for at `now_ns`."""
    if entry is None or _is_expired(entry, event_ns):
        return 0
    until = event_ns + entry.delay_ns
    return until if now_ns < until else 0


def go_duration(duration_ns: int) -> str:
    """A whole number of seconds as Go's Duration prints it: `10s`, `2m40s`, `5m0s`."""
    seconds = duration_ns // SECOND_NS
    if seconds < 60:
        return f"{seconds}s"
    minutes, seconds = divmod(seconds, 60)
    if minutes < 60:
        return f"{minutes}m{seconds}s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h{minutes}m{seconds}s"
