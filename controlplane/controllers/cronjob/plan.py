"""What a CronJob does next: which Job to start, which old ones to forget, when to look again.

This file decides; it never talks to the API server. The law: one Job for one scheduled time (its name is made of it),
and of several missed times only the latest is made up for.
Source: kubernetes pkg/controller/cronjob (cronjob_controllerv2.go, utils.go).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, tzinfo

from podnet.controlplane.api import meta
from podnet.controlplane.api.timestamps import format_time, parse_time
from podnet.controlplane.api.types import Object
from podnet.controlplane.controllers.cronjob.schedule import Schedule
from podnet.controlplane.controllers.deployment.revision import annotations_of
from podnet.controlplane.controllers.job.outcome import ended_at, has_ended

SCHEDULED_AT = "batch.kubernetes.io/cronjob-scheduled-timestamp"
BY_HAND = "cronjob.kubernetes.io/instantiate"
"""The mark of `kubectl create job --from`: such a Job belongs to the CronJob, but is nobody's turn."""
MANY_MISSED = 100


@dataclass(slots=True)
class Plan:
    """One pass: `stop` are Jobs that Replace takes away, then `start` is created (it belongs to `scheduled_at`), then
    `forget` (finished Jobs beyond the limits) are deleted. `events` are (type, reason, message).
    """

    status: Object
    start: Object | None = None
    scheduled_at: float | None = None
    stop: list[Object] = field(default_factory=list)
    forget: list[Object] = field(default_factory=list)
    events: list[tuple[str, str, str]] = field(default_factory=list)
    recheck_s: float | None = None


def plan_cron_job(cron_job: Object, jobs: Sequence[Object], schedule: Schedule, zone: tzinfo, now: float) -> Plan:
    """The next step for a CronJob and the Jobs it owns."""
    plan = Plan(dict(cron_job.get("status") or {}))
    _note_ended(plan, jobs)
    plan.forget = excess_jobs(cron_job, jobs)
    if meta.is_terminating(cron_job) or cron_job["spec"].get("suspend"):
        return plan
    upcoming = schedule.next_after(now, zone)
    plan.recheck_s = None if upcoming is None else upcoming - now
    due, missed = latest_due(cron_job, schedule, zone, now)
    if missed > MANY_MISSED:
        message = (
            f"too many missed start times: {missed}. Set or decrease .spec.startingDeadlineSeconds or check clock skew"
        )
        plan.events.append(("Warning", "TooManyMissedTimes", message))
    if due is not None:
        _start(cron_job, jobs, plan, due, zone, now)
    return plan


def _note_ended(plan: Plan, jobs: Sequence[Object]) -> None:
    """Bring `active` and `lastSuccessfulTime` up to date with what the Jobs say."""
    listed = {reference.get("uid") for reference in plan.status.get("active") or ()}
    running = _running(jobs)
    for job in jobs:
        if not has_ended(job):
            if job not in running:
                message = f"Saw a job that the controller did not create or forgot: {meta.name(job)}"
                plan.events.append(("Warning", "UnexpectedJob", message))
            continue
        complete = meta.condition_is_true(job, "Complete")
        if meta.uid(job) in listed:
            said = "Complete" if complete else "Failed"
            message = f"Saw completed job: {meta.name(job)}, condition: {said}"
            plan.events.append(("Normal", "SawCompletedJob", message))
        at = ended_at(job)
        last = plan.status.get("lastSuccessfulTime")
        if complete and at is not None and (last is None or at > parse_time(last)):
            plan.status["lastSuccessfulTime"] = format_time(at)
    _set_active(plan, [_reference(job) for job in running])


def _running(jobs: Sequence[Object]) -> list[Object]:
    return [job for job in jobs if not has_ended(job) and BY_HAND not in annotations_of(job)]


def _reference(job: Object) -> Object:
    return {"apiVersion": "batch/v1", "kind": "Job", **_without_version(meta.object_reference(job))}


def _without_version(reference: Object) -> Object:
    # The version moves with every step of the Job; the reference is to the Job and not to a moment of it.
    return {key: value for key, value in reference.items() if key not in {"resourceVersion", "apiVersion", "kind"}}


def _set_active(plan: Plan, references: list[Object]) -> None:
    if references:
        plan.status["active"] = sorted(references, key=lambda reference: str(reference.get("name")))
    else:
        plan.status.pop("active", None)


def excess_jobs(cron_job: Object, jobs: Sequence[Object]) -> list[Object]:
    """The finished Jobs beyond the history limits, oldest first."""
    spec = cron_job["spec"]
    limits = {"Complete": spec.get("successfulJobsHistoryLimit", 3), "Failed": spec.get("failedJobsHistoryLimit", 1)}
    excess: list[Object] = []
    for kind, limit in limits.items():
        ended = [job for job in jobs if meta.condition_is_true(job, kind) and not meta.is_terminating(job)]
        ended.sort(key=lambda job: ((job.get("status") or {}).get("startTime") or "", meta.name(job)))
        excess += ended[: max(0, len(ended) - int(limit))]
    return excess


def latest_due(cron_job: Object, schedule: Schedule, zone: tzinfo, now: float) -> tuple[float | None, int]:
    """The latest scheduled time that has come and was not acted upon, and how many have come since the last action."""
    last = (cron_job.get("status") or {}).get("lastScheduleTime")
    earliest = parse_time(last or cron_job["metadata"]["creationTimestamp"])
    deadline = cron_job["spec"].get("startingDeadlineSeconds")
    if deadline is not None:
        earliest = max(earliest, now - int(deadline))
    if schedule.every_s:
        count = int((now - earliest) // schedule.every_s)
        return (earliest + count * schedule.every_s, count) if count > 0 else (None, 0)
    due, missed = None, 0
    moment = schedule.next_after(earliest, zone)
    while moment is not None and moment <= now:
        due, missed = moment, missed + 1
        if missed > MANY_MISSED:
            return _latest_of_many(schedule, zone, moment, now), missed
        moment = schedule.next_after(moment, zone)
    return due, missed


def _latest_of_many(schedule: Schedule, zone: tzinfo, known: float, now: float) -> float:
    """The last scheduled time up to `now`, found by halving: counting years of minutes would take too long."""
    low, high = known, now
    while True:
        middle = low + (high - low) / 2
        found = schedule.next_after(middle, zone)
        if found is not None and found <= now:
            low = found
        elif high - low <= 60:
            return low
        else:
            high = middle


def _start(cron_job: Object, jobs: Sequence[Object], plan: Plan, due: float, zone: tzinfo, now: float) -> None:
    spec = cron_job["spec"]
    deadline = spec.get("startingDeadlineSeconds")
    if deadline is not None and due + int(deadline) < now:
        message = f"Missed scheduled time to start a job: {format_time(due)}"
        plan.events.append(("Warning", "MissSchedule", message))
        return
    if any(meta.name(job) == job_name(cron_job, due) for job in jobs):
        plan.status["lastScheduleTime"] = format_time(due)
        return
    running = _running(jobs)
    if running and spec.get("concurrencyPolicy") == "Forbid":
        message = "Not starting job because prior execution is running and concurrency policy is Forbid"
        plan.events.append(("Normal", "JobAlreadyActive", message))
        return
    if spec.get("concurrencyPolicy") == "Replace":
        plan.stop = running
        _set_active(plan, [])
    plan.start, plan.scheduled_at = desired_job(cron_job, due, zone), due


def job_name(cron_job: Object, due: float) -> str:
    """One name for one scheduled time: `backup-29396160`, the time in minutes."""
    return f"{meta.name(cron_job)}-{int(due) // 60}" if int(due) % 60 == 0 else f"{meta.name(cron_job)}-{int(due)}"


def desired_job(cron_job: Object, due: float, zone: tzinfo) -> Object:
    """The Job of a scheduled time."""
    template = meta.deep_copy(cron_job["spec"]["jobTemplate"])
    when = datetime.fromtimestamp(due, zone).isoformat().replace("+00:00", "Z")
    metadata: Object = {
        "name": job_name(cron_job, due),
        "namespace": meta.namespace(cron_job),
        "annotations": {**annotations_of(template), SCHEDULED_AT: when},
        "ownerReferences": [meta.controller_reference(cron_job)],
    }
    if meta.labels(template):
        metadata["labels"] = dict(meta.labels(template))
    return {"apiVersion": "batch/v1", "kind": "Job", "metadata": metadata, "spec": template["spec"]}


def with_started(status: Object, job: Object, due: float) -> Object:
    """The status once a Job has been started for a scheduled time."""
    others = [reference for reference in status.get("active") or () if reference.get("uid") != meta.uid(job)]
    active = sorted([*others, _reference(job)], key=lambda reference: str(reference.get("name")))
    return {**status, "active": active, "lastScheduleTime": format_time(due)}
