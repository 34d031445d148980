"""Expectations: what a controller has asked for and has not yet seen in its cache.

A ReplicaSet that created three pods must not count its cache before the three have arrived, or it would create them
twice. Each write is announced here first, each echo is noted; until both sides meet (or time is up, for an echo that
will never come) the owner is not to be synced. Deletions are remembered by key, so that one pod's deletion seen twice
does not pass for two. Pure; source: kubernetes pkg/controller/controller_utils.go.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

TIMEOUT_S = 300.0
"""Upstream's ExpectationsTimeout."""


@dataclass(slots=True)
class _Expected:
    since: float
    adds: int = 0
    deletes: set[str] = field(default_factory=set)


class Expectations:
    """Outstanding creations and deletions per owner key; `now` is an argument."""

    def __init__(self) -> None:
        self._expected: dict[str, _Expected] = {}

    def expect_creations(self, owner: str, count: int, now: float) -> None:
        """`count` creations are about to be sent."""
        entry = self._expected.setdefault(owner, _Expected(now))
        entry.since = now
        entry.adds += count

    def expect_deletions(self, owner: str, keys: Iterable[str], now: float) -> None:
        """These objects are about to be deleted."""
        entry = self._expected.setdefault(owner, _Expected(now))
        entry.since = now
        entry.deletes.update(keys)

    def creation_observed(self, owner: str, count: int = 1) -> None:
        """A creation came back through the watch, or failed and never will."""
        entry = self._expected.get(owner)
        if entry is not None:
            entry.adds -= count

    def deletion_observed(self, owner: str, key: str) -> None:
        """A deletion came back, or failed."""
        entry = self._expected.get(owner)
        if entry is not None:
            entry.deletes.discard(key)

    def satisfied(self, owner: str, now: float) -> bool:
        """True when the cache may be trusted for `owner`."""
        entry = self._expected.get(owner)
        if entry is None or (entry.adds <= 0 and not entry.deletes):
            self._expected.pop(owner, None)
            return True
        return now - entry.since > TIMEOUT_S

    def forget(self, owner: str) -> None:
        """The owner is gone."""
        self._expected.pop(owner, None)
