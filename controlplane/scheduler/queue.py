"""The scheduling queue: pods to try now, pods that wait out a back-off, pods that wait for the cluster to change.

    add ──▶ active ──pop()──▶ tried ──unschedulable──▶ parked ──something changed──▶ backing off ──time──▶ active

Pure over `now` (monotonic seconds). Active pods leave by priority, then by age. A pod's back-off starts at 0.1 s
and doubles up to 10 s; a parked pod is tried again after five minutes even if nothing changed.
Source: kubernetes pkg/scheduler/backend/queue/scheduling_queue.go.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from dataclasses import dataclass

from podnet.controlplane.client.backoff import Backoff
from podnet.controlplane.scheduler.types import PodInfo

POD_BACKOFF = Backoff(base_s=0.1, max_s=10.0)
"""Upstream starts at 1 s (podInitialBackoffSeconds); a cluster that boots in three has not that much to lose."""
PARKED_MAX_S = 300.0


@dataclass(slots=True)
class _Entry:
    pod: PodInfo
    added: float
    attempts: int = 0
    state: str = "active"
    since: float = 0.0
    ticket: int = 0


class SchedulingQueue:
    """See the module's picture. Keys are `namespace/name`."""

    def __init__(self) -> None:
        self._entries: dict[str, _Entry] = {}
        self._active: list[tuple[int, float, int, str]] = []
        self._backing_off: list[tuple[float, int, str]] = []
        self._ticket = 0

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, key: str) -> bool:
        return key in self._entries

    def add(self, pod: PodInfo, now: float) -> None:
        """A pod that wants a node; a known one is replaced, and tried again if its spec changed."""
        entry = self._entries.get(pod.key)
        if entry is None or entry.pod.uid != pod.uid:
            entry = self._entries[pod.key] = _Entry(pod, now)
            self._activate(entry)
            return
        changed = entry.pod.obj["spec"] != pod.obj["spec"] or entry.pod.labels != pod.labels
        entry.pod = pod
        if changed and entry.state == "parked":
            self._retry(entry, now)

    def remove(self, key: str) -> None:
        """The pod has a node, or is gone."""
        self._entries.pop(key, None)

    def pop(self, now: float) -> PodInfo | None:
        """The next pod to try, None when none is due. It stays known until `remove` or `park`."""
        self._advance(now)
        while self._active:
            _, _, ticket, key = heapq.heappop(self._active)
            entry = self._entries.get(key)
            if entry is not None and entry.ticket == ticket and entry.state == "active":
                entry.state = "tried"
                entry.attempts += 1
                return entry.pod
        return None

    def park(self, pod: PodInfo, now: float) -> None:
        """No node will do: wait for a change."""
        entry = self._entries.get(pod.key)
        if entry is not None and entry.state == "tried":
            entry.state, entry.since = "parked", now

    def retry(self, pod: PodInfo, now: float) -> None:
        """The attempt failed for another reason (the binding was refused): try again after the back-off."""
        entry = self._entries.get(pod.key)
        if entry is None:
            entry = self._entries[pod.key] = _Entry(pod, now, attempts=1)
        entry.since = now
        self._retry(entry, now)

    def move(self, now: float, concerns: Callable[[PodInfo], bool] = lambda _pod: True) -> None:
        """The cluster changed in favour of the pods it `concerns`: those that are parked get another try."""
        for entry in self._entries.values():
            if entry.state == "parked" and concerns(entry.pod):
                self._retry(entry, now)

    def next_due(self) -> float | None:
        """When `pop` may next have something that it has not now; None when only a change can bring it."""
        dues = [self._backing_off[0][0]] if self._backing_off else []
        dues += [entry.since + PARKED_MAX_S for entry in self._entries.values() if entry.state == "parked"]
        return min(dues) if dues else None

    def _advance(self, now: float) -> None:
        for entry in self._entries.values():
            if entry.state == "parked" and entry.since + PARKED_MAX_S <= now:
                self._activate(entry)
        while self._backing_off and self._backing_off[0][0] <= now:
            _, ticket, key = heapq.heappop(self._backing_off)
            due = self._entries.get(key)
            if due is not None and due.ticket == ticket and due.state == "backing off":
                self._activate(due)

    def _retry(self, entry: _Entry, now: float) -> None:
        due = entry.since + POD_BACKOFF.delay_s(max(0, entry.attempts - 1))
        if due <= now:
            self._activate(entry)
            return
        entry.state = "backing off"
        entry.ticket = self._next_ticket()
        heapq.heappush(self._backing_off, (due, entry.ticket, entry.pod.key))

    def _activate(self, entry: _Entry) -> None:
        entry.state = "active"
        entry.ticket = self._next_ticket()
        heapq.heappush(self._active, (-entry.pod.priority, entry.added, entry.ticket, entry.pod.key))

    def _next_ticket(self) -> int:
        self._ticket += 1
        return self._ticket
