"""What a Job does next: which pods to create and delete, when it is over and why, and what its status says.

This file decides; it never talks to the API server. The order of one pass: count (`tally`), judge (`outcome`), and only
when nothing is decided, fill up to what may run at once.
Source: kubernetes pkg/controller/job/job_controller.go, backoff_utils.go; KEP-3329, 3850, 3998.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Any

from podnet.controlplane.api import meta
from podnet.controlplane.api.timestamps import format_time, parse_time
from podnet.controlplane.api.types import Object
from podnet.controlplane.client.backoff import Backoff
from podnet.controlplane.controllers.job.indexes import format_indexes
from podnet.controlplane.controllers.job.outcome import FINAL, Outcome, has_ended, judge_job
from podnet.controlplane.controllers.job.pod import (
    finished_at,
    has_failed,
    index_failures,
    index_ignored,
    index_of,
    is_indexed,
    is_tracked,
    judge,
    replaces_only_failed,
)
from podnet.controlplane.controllers.job.tally import Tally, completions_of, take_tally
from podnet.controlplane.controllers.pods import deletion_order, is_active, is_ready, is_terminal, phase_of
from podnet.controlplane.controllers.replicaset.plan import BURST_REPLICAS

POD_FAILURE = Backoff(base_s=10.0, max_s=600.0)
"""From the end of the last failed pod to the next attempt."""


@dataclass(frozen=True, slots=True)
class NewPod:
    """A pod to create: its index, if the Job has indexes, and how often that index has failed, as far as it counts and
    as far as a policy ignores it."""

    index: int | None = None
    failures: int = 0
    ignored: int = 0


@dataclass(slots=True)
class Plan:
    """One pass. First `status` is written, then the finalizers of `release` go; `withdraw` are deleted without counting
    as failed, `delete` (the Job being over) are deleted. `events` are (type, reason, message).
    """

    status: Object
    release: list[Object] = field(default_factory=list)
    create: list[NewPod] = field(default_factory=list)
    withdraw: list[Object] = field(default_factory=list)
    delete: list[Object] = field(default_factory=list)
    events: list[tuple[str, str, str]] = field(default_factory=list)
    recheck_s: float | None = None


def plan_job(job: Object, pods: Sequence[Object], now: float) -> Plan:
    """The next step for a Job and all the pods it owns."""
    if has_ended(job):
        return Plan(job.get("status") or {}, release=[pod for pod in pods if is_tracked(pod)])
    tally = take_tally(job, pods)
    failures = _failures_by_index(job, pods)
    _fail_indexes(job, tally, failures)
    plan = Plan(dict(job.get("status") or {}), release=tally.release)
    _suspend_or_resume(job, plan, now)
    active = [pod for pod in pods if is_active(pod)]
    outcome = judge_job(job, plan.status, tally, pods, now)
    if outcome is not None:
        plan.delete = active
        _conclude(plan, outcome, tally, pods, now)
    elif job["spec"].get("suspend"):
        plan.withdraw = active
    else:
        if job["spec"].get("backoffLimitPerIndex") is not None:
            plan.release = [pod for pod in tally.release if not _still_tells(pod, tally, active)]
        _fill(job, plan, tally, _Ranks(pods, active, failures, now))
        _watch_deadline(job, plan, now)
    _write_counts(job, plan, tally, pods, active)
    return plan


def _suspend_or_resume(job: Object, plan: Plan, now: float) -> None:
    status, conditions = plan.status, plan.status.get("conditions") or []
    was = any(c["type"] == "Suspended" and c["status"] == "True" for c in conditions)
    suspended = bool(job["spec"].get("suspend"))
    if suspended and not was:
        _set_condition(plan, "Suspended", "True", "JobSuspended", "Job suspended", now)
        plan.events.append(("Normal", "Suspended", "Job suspended"))
    elif was and not suspended:
        _set_condition(plan, "Suspended", "False", "JobResumed", "Job resumed", now)
        plan.events.append(("Normal", "Resumed", "Job resumed"))
        status["startTime"] = format_time(now)  # activeDeadlineSeconds begins anew
    if not suspended and not status.get("startTime"):
        status["startTime"] = format_time(now)


def _set_condition(plan: Plan, kind: str, status: str, reason: str, message: str, now: float) -> None:
    stamp = format_time(now)
    condition = {"type": kind, "status": status, "reason": reason, "message": message, "lastProbeTime": stamp}
    plan.status["conditions"] = meta.with_condition(plan.status.get("conditions"), condition, stamp)


def _conclude(plan: Plan, outcome: Outcome, tally: Tally, pods: Sequence[Object], now: float) -> None:
    """Say what is going to be, and, when every pod has ended and is counted, that it is."""
    conditions = plan.status.get("conditions") or []
    if not any(condition["type"] == outcome.target for condition in conditions):
        _set_condition(plan, outcome.target, "True", outcome.reason, outcome.message, now)
    if not tally.is_settled or any(not is_terminal(pod) for pod in pods):
        return
    _set_condition(plan, FINAL[outcome.target], "True", outcome.reason, outcome.message, now)
    if FINAL[outcome.target] == "Complete":
        plan.status["completionTime"] = format_time(now)
        plan.events.append(("Normal", "Completed", "Job completed"))
    else:
        plan.events.append(("Warning", outcome.reason, outcome.message))


@dataclass(frozen=True, slots=True)
class _Failures:
    """Of one index: those that count, those that are ignored, and when the last of them was."""

    counted: int = 0
    ignored: int = 0
    last_at: float = 0.0


def _failures_by_index(job: Object, pods: Sequence[Object]) -> dict[int, _Failures]:
    """Of every index that has failed, where the Job counts them apart; the pod that knows most of them tells."""
    if job["spec"].get("backoffLimitPerIndex") is None:
        return {}
    found: dict[int, _Failures] = {}
    for pod in pods:
        index = index_of(pod)
        if index is None or not has_failed(job, pod):
            continue
        ignored = phase_of(pod) == "Failed" and judge(job, pod).action == "Ignore"
        one = _Failures(index_failures(pod) + (not ignored), index_ignored(pod) + ignored, finished_at(pod) or 0.0)
        other = found.get(index, _Failures())
        most = max(one, other, key=lambda failures: failures.counted + failures.ignored)
        found[index] = replace(most, last_at=max(one.last_at, other.last_at))
    return found


def _fail_indexes(job: Object, tally: Tally, failures: Mapping[int, _Failures]) -> None:
    limit = job["spec"].get("backoffLimitPerIndex")
    if limit is not None:
        tally.failed_indexes |= {index for index, found in failures.items() if found.counted > int(limit)}
    tally.failed_indexes -= tally.completed


def _still_tells(pod: Object, tally: Tally, active: Sequence[Object]) -> bool:
    """A failed pod is all that knows how often its index has failed, until a successor carries the number on."""
    index = index_of(pod)
    if index is None or index in tally.completed or index in tally.failed_indexes or phase_of(pod) == "Succeeded":
        return False
    known = index_failures(pod) + index_ignored(pod)
    return not any(
        index_of(other) == index and index_failures(other) + index_ignored(other) > known for other in active
    )


@dataclass(frozen=True, slots=True)
class _Ranks:
    pods: Sequence[Object]
    active: Sequence[Object]
    failures: Mapping[int, _Failures]
    now: float


def _wanted(job: Object, tally: Tally, active: int) -> int:
    """How many pods should be active."""
    parallelism, completions = int(job["spec"].get("parallelism", 1)), completions_of(job)
    if completions is None:
        # A work queue: once one has succeeded the others only finish what they have.
        return min(active, parallelism) if tally.total_succeeded else parallelism
    return max(0, min(completions - tally.total_succeeded - len(tally.failed_indexes), parallelism))


def _fill(job: Object, plan: Plan, tally: Tally, ranks: _Ranks) -> None:
    surplus = _surplus_of_indexes(job, tally, ranks.active)
    keeping = [pod for pod in ranks.active if pod not in surplus]
    wanted = _wanted(job, tally, len(keeping))
    too_many = max(0, len(keeping) - wanted)
    neighbours = Counter(pod["spec"].get("nodeName", "") for pod in keeping)
    plan.withdraw = [*surplus, *deletion_order(keeping, neighbours, ranks.now)[:too_many]]
    missing = wanted - len(keeping)
    if replaces_only_failed(job):
        missing -= sum(1 for pod in ranks.pods if meta.is_terminating(pod) and not is_terminal(pod))
    if missing <= 0 or plan.withdraw:
        return
    missing = min(missing, BURST_REPLICAS)
    if ranks.failures or job["spec"].get("backoffLimitPerIndex") is not None:
        _create_by_index(job, plan, tally, ranks, missing)
        return
    wait_s = _wait_after_failures(ranks.pods, ranks.now)
    if wait_s > 0:
        plan.recheck_s = wait_s
    elif is_indexed(job):
        plan.create = [NewPod(index) for index in islice(_pending_indexes(job, tally, keeping), missing)]
    else:
        plan.create = [NewPod()] * missing


def _surplus_of_indexes(job: Object, tally: Tally, active: Sequence[Object]) -> list[Object]:
    """Pods of an Indexed Job that nobody needs: without an index, beyond the last, done already, or doubled."""
    if not is_indexed(job):
        return []
    seen: set[int | None] = {None, *tally.completed, *tally.failed_indexes}
    surplus = []
    for pod in active:
        index = index_of(pod)
        if index in seen or (index or 0) >= (completions_of(job) or 0):
            surplus.append(pod)
        seen.add(index)
    return surplus


def _taken_indexes(tally: Tally, active: Sequence[Object]) -> set[int | None]:
    return {*tally.completed, *tally.failed_indexes, *(index_of(pod) for pod in active)}


def _pending_indexes(job: Object, tally: Tally, active: Sequence[Object]) -> Iterator[int]:
    """From the lowest on, one by one: there may be thousands of millions of them, and few are wanted."""
    taken = _taken_indexes(tally, active)
    return (index for index in range(completions_of(job) or 0) if index not in taken)


def _create_by_index(job: Object, plan: Plan, tally: Tally, ranks: _Ranks, missing: int) -> None:
    """Each index waits for itself alone."""
    waits = {index: _wait_of_index(found, ranks.now) for index, found in ranks.failures.items()}
    ready = (index for index in _pending_indexes(job, tally, ranks.active) if waits.get(index, 0.0) <= 0)
    for index in islice(ready, missing):
        found = ranks.failures.get(index, _Failures())
        plan.create.append(NewPod(index, found.counted, found.ignored))
    taken, limit = _taken_indexes(tally, ranks.active), completions_of(job) or 0
    waiting = [wait_s for index, wait_s in waits.items() if wait_s > 0 and index < limit and index not in taken]
    plan.recheck_s = min(waiting) if waiting else None


def _wait_of_index(found: _Failures, now: float) -> float:
    """Seconds until an index that has failed so often is tried again; none left where this is not above zero."""
    return found.last_at + POD_FAILURE.delay_s(found.counted + found.ignored - 1) - now


def _wait_after_failures(pods: Sequence[Object], now: float) -> float:
    """How long the next pod waits for the failures since the last success, also for those that a policy ignores."""
    ended = [(finished_at(pod) or 0.0, phase_of(pod) == "Succeeded") for pod in pods if is_terminal(pod)]
    last_success = max((moment for moment, succeeded in ended if succeeded), default=0.0)
    failed = [moment for moment, succeeded in ended if not succeeded and moment >= last_success]
    return max(failed) + POD_FAILURE.delay_s(len(failed) - 1) - now if failed else 0.0


def _watch_deadline(job: Object, plan: Plan, now: float) -> None:
    deadline = job["spec"].get("activeDeadlineSeconds")
    if deadline is not None:
        left_s = parse_time(plan.status["startTime"]) + int(deadline) - now
        plan.recheck_s = left_s if plan.recheck_s is None else min(plan.recheck_s, left_s)


def _write_counts(job: Object, plan: Plan, tally: Tally, pods: Sequence[Object], active: Sequence[Object]) -> None:
    uncounted = {"succeeded": tally.uncounted_succeeded, "failed": tally.uncounted_failed}
    counts: dict[str, Any] = {"active": len(active), "succeeded": tally.succeeded, "failed": tally.failed}
    plan.status |= {
        **counts,
        "ready": sum(1 for pod in active if is_ready(pod)),
        "terminating": sum(1 for pod in pods if meta.is_terminating(pod) and not is_terminal(pod)),
        "uncountedTerminatedPods": {name: uids for name, uids in uncounted.items() if uids},
    }
    if is_indexed(job):
        counts["completedIndexes"] = plan.status["completedIndexes"] = format_indexes(tally.completed)
    if job["spec"].get("backoffLimitPerIndex") is not None:
        plan.status["failedIndexes"] = format_indexes(tally.failed_indexes)
    for name, value in counts.items():
        if not value:
            plan.status.pop(name, None)
