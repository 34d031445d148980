"""The CronJob controller: starts Jobs when their time comes, as `plan` says, and keeps no more of them than asked for."""

from __future__ import annotations

import contextlib
from datetime import UTC, tzinfo
from typing import Literal
from zoneinfo import ZoneInfo

from podnet.controlplane.api import meta
from podnet.controlplane.api.errors import StatusError
from podnet.controlplane.api.resources import CRONJOBS, JOBS
from podnet.controlplane.api.types import Object
from podnet.controlplane.client.reconcile import DONE, Controller, Result
from podnet.controlplane.client.workqueue import WorkQueue
from podnet.controlplane.controllers.context import ControllerContext, handling
from podnet.controlplane.controllers.cronjob.plan import Plan, plan_cron_job, with_started
from podnet.controlplane.controllers.cronjob.schedule import Schedule, ScheduleError, parse_schedule
from podnet.controlplane.controllers.podowner import by_controller_uid, is_namespace_terminating

WORKERS = 5


class CronJobController:
    """Keeps every CronJob on time."""

    def __init__(self, context: ControllerContext) -> None:
        self._context = context
        self._recorder = context.recorder.named("cronjob-controller")
        self._client = context.client
        self._cron_jobs = context.informers.of(CRONJOBS)
        self._jobs = context.informers.of(JOBS)
        self._jobs.add_indexer("controller-uid", by_controller_uid)
        self._queue = WorkQueue()

    async def run(self) -> None:
        """Reconcile until cancelled."""
        with handling((self._cron_jobs, self._on_cron_job), (self._jobs, self._on_job)):
            await self._context.informers.wait_synced(self._cron_jobs, self._jobs)
            await Controller("cronjob", self._queue, self.reconcile, workers=WORKERS).run()

    def _on_cron_job(self, key: str, _old: Object | None, _new: Object | None) -> None:
        self._queue.add(key)

    def _on_job(self, _key: str, old: Object | None, new: Object | None) -> None:
        for job in (old, new):
            reference = meta.controller_of(job) if job is not None else None
            if reference is not None and reference.get("kind") == "CronJob":
                self._queue.add(f"{meta.namespace(job or {})}/{reference['name']}")

    async def reconcile(self, key: str) -> Result:
        """One CronJob: history, the Job that is due, status, and when to come again."""
        cron_job = self._cron_jobs.get(key)
        if cron_job is None:
            return DONE
        timing = self._timing(cron_job)
        if timing is None:
            return DONE
        jobs = self._jobs.by_index("controller-uid", meta.uid(cron_job))
        plan = plan_cron_job(cron_job, jobs, *timing, self._context.clock())
        for kind, reason, message in plan.events:
            event_type: Literal["Normal", "Warning"] = "Warning" if kind == "Warning" else "Normal"
            self._recorder.event(cron_job, event_type, reason, message)
        for job in [*plan.stop, *plan.forget]:
            await self._delete(cron_job, job)
        status = await self._start(cron_job, plan)
        if status != (cron_job.get("status") or {}):
            await self._client.update(CRONJOBS, {**cron_job, "status": status}, subresource="status")
        # A hair late rather than a hair early, when nothing would be due yet.
        return Result(None if plan.recheck_s is None else plan.recheck_s + 0.1)

    def _timing(self, cron_job: Object) -> tuple[Schedule, tzinfo] | None:
        """The schedule and its zone; None, and an event, when either cannot be read: a change of the object helps."""
        text = cron_job["spec"]["schedule"]
        try:
            schedule = parse_schedule(text)
        except ScheduleError as error:
            message = f'unparseable schedule: "{text}" : {error}'
            self._recorder.event(cron_job, "Warning", "UnparseableSchedule", message)
            return None
        name = cron_job["spec"].get("timeZone") or schedule.zone_name
        try:
            return schedule, ZoneInfo(name) if name else UTC
        except (KeyError, ValueError, OSError):  # unknown, absolute or outside, a directory
            message = f'invalid timeZone: "{name}" : unknown time zone {name}'
            self._recorder.event(cron_job, "Warning", "UnknownTimeZone", message)
            return None

    async def _start(self, cron_job: Object, plan: Plan) -> Object:
        if plan.start is None or plan.scheduled_at is None:
            return plan.status
        name = meta.name(plan.start)
        try:
            job = await self._client.create(JOBS, plan.start)
        except StatusError as error:
            if is_namespace_terminating(error):
                return plan.status
            if not error.is_already_exists:
                self._recorder.event(cron_job, "Warning", "FailedCreate", f"Error creating job: {error.message}")
                raise
            job = await self._client.get(JOBS, name, meta.namespace(cron_job))
            if not meta.is_controlled_by(job, cron_job):
                return plan.status
        else:
            self._recorder.event(cron_job, "Normal", "SuccessfulCreate", f"Created job {name}")
        return with_started(plan.status, job, plan.scheduled_at)

    async def _delete(self, cron_job: Object, job: Object) -> None:
        with contextlib.suppress(StatusError):  # gone already, or the next pass finds it again
            await self._client.delete(
                JOBS, meta.name(job), meta.namespace(job), propagation="Background", uid=meta.uid(job)
            )
            self._recorder.event(cron_job, "Normal", "SuccessfulDelete", f"Deleted job {meta.name(job)}")
