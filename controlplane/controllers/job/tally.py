"""How a Job counts its pods so that none is ever lost or counted twice, whatever dies in between.

    pod ends ──▶ uid into status.uncountedTerminatedPods ──▶ finalizer off the pod ──▶ uid out, counter up by one
              (one status write)                       (pod may go now)        (one status write)

Pure. Each arrow may be interrupted and repeated. The law: succeeded plus uncounted succeeded never falls.
Source: KEP-2307 (Job tracking without lingering pods), kubernetes pkg/controller/job.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from podnet.controlplane.api import meta
from podnet.controlplane.api.types import Object
from podnet.controlplane.controllers.job.indexes import parse_indexes
from podnet.controlplane.controllers.job.pod import has_failed, index_of, is_indexed, is_tracked, judge
from podnet.controlplane.controllers.pods import phase_of


@dataclass(slots=True)
class Tally:
    """The counts of a Job. `release` are the pods whose finalizer may go once this tally is written; `fail_job` is the
    message of the pod failure policy that ends it all.
    """

    succeeded: int = 0
    failed: int = 0
    uncounted_succeeded: list[str] = field(default_factory=list)
    uncounted_failed: list[str] = field(default_factory=list)
    completed: set[int] = field(default_factory=set)
    failed_indexes: set[int] = field(default_factory=set)
    release: list[Object] = field(default_factory=list)
    fail_job: str = ""

    @property
    def total_succeeded(self) -> int:
        """Counted and to be counted."""
        return self.succeeded + len(self.uncounted_succeeded)

    @property
    def total_failed(self) -> int:
        """Counted and to be counted."""
        return self.failed + len(self.uncounted_failed)

    @property
    def is_settled(self) -> bool:
        """Nothing waits to be counted."""
        return not (self.uncounted_succeeded or self.uncounted_failed)


def completions_of(job: Object) -> int | None:
    """spec.completions, None for a work queue."""
    value = job["spec"].get("completions")
    return None if value is None else int(value)


def take_tally(job: Object, pods: Sequence[Object]) -> Tally:
    """The tally after these pods (all that the Job owns)."""
    status = job.get("status") or {}
    waiting = status.get("uncountedTerminatedPods") or {}
    tally = Tally(int(status.get("succeeded") or 0), int(status.get("failed") or 0))
    limit = completions_of(job) or 0
    if is_indexed(job):
        tally.completed = parse_indexes(status.get("completedIndexes"), limit)
        tally.failed_indexes = parse_indexes(status.get("failedIndexes"), limit)
    tracked = {meta.uid(pod) for pod in pods if is_tracked(pod)}
    _carry_over(job, tally, waiting, tracked)
    for pod in pods:
        if is_tracked(pod):
            _count(job, pod, tally, limit)
    if is_indexed(job):
        tally.succeeded, tally.uncounted_succeeded = len(tally.completed), []
    return tally


def _carry_over(job: Object, tally: Tally, waiting: Object, tracked: set[str]) -> None:
    """What waited and has lost its finalizer is counted; what still has it waits on."""
    for uid in waiting.get("succeeded") or ():
        if uid in tracked:
            tally.uncounted_succeeded.append(uid)
        elif not is_indexed(job):
            tally.succeeded += 1
    for uid in waiting.get("failed") or ():
        if uid in tracked:
            tally.uncounted_failed.append(uid)
        else:
            tally.failed += 1


def _count(job: Object, pod: Object, tally: Tally, limit: int) -> None:
    uid, index = meta.uid(pod), index_of(pod)
    if phase_of(pod) == "Succeeded":
        if is_indexed(job):
            # An index counts once, however many pods say so; its set is its own protection against double counting.
            if index is not None and index < limit:
                tally.completed.add(index)
        elif uid not in tally.uncounted_succeeded:
            tally.uncounted_succeeded.append(uid)
        tally.release.append(pod)
    elif has_failed(job, pod):
        verdict = judge(job, pod) if phase_of(pod) == "Failed" else None
        if verdict is not None and verdict.action == "FailJob" and not tally.fail_job:
            tally.fail_job = verdict.message
        if verdict is not None and verdict.action == "FailIndex" and index is not None:
            tally.failed_indexes.add(index)
        ignored = verdict is not None and verdict.action == "Ignore"
        if not ignored and uid not in tally.uncounted_failed:
            tally.uncounted_failed.append(uid)
        tally.release.append(pod)
