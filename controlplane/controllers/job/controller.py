"""The Job controller: counts, judges and fills as `plan` says; deletes Jobs whose time to live is over."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from typing import Literal

from podnet.controlplane.api import meta
from podnet.controlplane.api.errors import StatusError
from podnet.controlplane.api.resources import JOBS, PODS
from podnet.controlplane.api.types import Object
from podnet.controlplane.client.informer import Handler, Informer
from podnet.controlplane.client.reconcile import DONE, Result
from podnet.controlplane.controllers.context import ControllerContext
from podnet.controlplane.controllers.job.outcome import ended_at
from podnet.controlplane.controllers.job.plan import Plan, plan_job
from podnet.controlplane.controllers.job.pod import TRACKING, desired_pod, is_tracked
from podnet.controlplane.controllers.podowner import PodOwner

MANAGED_BY = "kubernetes.io/job-controller"
JOB_NAME = "batch.kubernetes.io/job-name"


class JobController(PodOwner):
    """Runs every Job to its end."""

    def __init__(self, context: ControllerContext) -> None:
        super().__init__(context, JOBS, "job-controller")

    def more_handlers(self) -> Sequence[tuple[Informer, Handler]]:
        """Pods that wait to be counted by a Job that is gone."""
        return [(self.pods, self._on_tracked)]

    def _on_tracked(self, _key: str, _old: Object | None, new: Object | None) -> None:
        if new is not None and is_tracked(new):
            self.queue.add(f"{meta.namespace(new)}/{_job_name(new)}")

    async def reconcile(self, key: str) -> Result:
        """One Job: count, judge, fill; or, when it is gone, let go of what waits for it."""
        job = self.owners.get(key)
        await self._release_orphans(key, job)
        if job is None:
            self.expectations.forget(key)
            return DONE
        if job["spec"].get("managedBy") not in {None, MANAGED_BY}:
            return DONE
        if meta.is_terminating(job):
            # Deleted in the foreground it waits for its pods, which must not wait for it.
            await self._release(pod for pod in self.pods.by_index("controller-uid", meta.uid(job)) if is_tracked(pod))
            return DONE
        ended = ended_at(job)
        ttl = job["spec"].get("ttlSecondsAfterFinished")
        now = self.context.clock()
        trusted = self.expectations.satisfied(key, now)
        plan = plan_job(job, await self.claim_pods(job), now)
        if ended is not None and ttl is not None and ended + int(ttl) <= now:
            await self.client.delete(
                JOBS, meta.name(job), meta.namespace(job), propagation="Foreground", uid=meta.uid(job)
            )
            return DONE
        await self._take(key, job, plan, trusted=trusted)
        if ended is not None:
            return Result(None if ttl is None else ended + int(ttl) - now)
        return Result(plan.recheck_s)

    async def _take(self, key: str, job: Object, plan: Plan, *, trusted: bool) -> None:
        # The status first: a finalizer that goes before its pod is counted would lose the pod.
        await self.write_status(job, plan.status)
        for kind, reason, message in plan.events:
            event_type: Literal["Normal", "Warning"] = "Warning" if kind == "Warning" else "Normal"
            self.recorder.event(job, event_type, reason, message)
        await self._release(plan.release)
        if not trusted:
            return
        await self._release(plan.withdraw)
        refused = await self.delete_pods(key, job, [*plan.withdraw, *plan.delete])
        bodies = [desired_pod(job, new.index, new.failures, new.ignored) for new in plan.create]
        refused = await self.create_pods(key, job, bodies) or refused
        if refused is not None:
            raise refused

    async def _release(self, pods: Iterable[Object]) -> None:
        await asyncio.gather(*(self._release_one(pod) for pod in pods))

    async def _release_one(self, pod: Object) -> None:
        patch = {"metadata": {"$deleteFromPrimitiveList/finalizers": [TRACKING], "uid": meta.uid(pod)}}
        try:
            await self.client.patch(PODS, meta.name(pod), meta.namespace(pod), patch, patch_type="strategic")
        except StatusError as error:
            if not error.is_not_found and not error.is_conflict:
                raise

    async def _release_orphans(self, key: str, job: Object | None) -> None:
        """Pods of a Job that is gone, or that were orphaned, wait for nobody."""
        namespace, name = meta.split_key(key)
        uid = meta.uid(job) if job is not None else ""
        orphans = [
            pod
            for pod in self.pods.list(namespace)
            if is_tracked(pod) and _job_name(pod) == name and (meta.controller_of(pod) or {}).get("uid") != uid
        ]
        if not orphans:
            return
        try:
            uid = meta.uid(await self.client.get(JOBS, name, namespace))
        except StatusError as error:
            if not error.is_not_found:
                raise
            uid = ""
        await self._release(pod for pod in orphans if (meta.controller_of(pod) or {}).get("uid") != uid)


def _job_name(pod: Object) -> str:
    reference = meta.controller_of(pod)
    return str(reference["name"]) if reference is not None else meta.labels(pod).get(JOB_NAME, "")
