"""When a Job is over, and why.

Pure. A verdict is written twice: first as a target (FailureTarget, SuccessCriteriaMet) while pods still end, then for
good (Failed, Complete). Once the target is there it stays, whatever happens to the counts.
Source: kubernetes pkg/controller/job/job_controller.go, success_policy.go; KEP-3998.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from podnet.controlplane.api import meta
from podnet.controlplane.api.timestamps import parse_time
from podnet.controlplane.api.types import Object
from podnet.controlplane.controllers.job.indexes import count_within, parse_intervals
from podnet.controlplane.controllers.job.pod import is_indexed, total_restarts
from podnet.controlplane.controllers.job.tally import Tally, completions_of
from podnet.controlplane.controllers.pods import is_terminal

FINAL = {"FailureTarget": "Failed", "SuccessCriteriaMet": "Complete"}
"""What a target becomes when all pods have ended."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """The condition to set first (`target`) with its reason and message."""

    target: str
    reason: str
    message: str


_COMPLETE = Outcome("SuccessCriteriaMet", "CompletionsReached", "Reached expected number of succeeded pods")


def has_ended(job: Object) -> bool:
    """Complete or Failed."""
    return any(meta.condition_is_true(job, kind) for kind in FINAL.values())


def ended_at(job: Object) -> float | None:
    """When it became Complete or Failed."""
    for kind in FINAL.values():
        condition = meta.get_condition(job, kind)
        if condition is not None and condition.get("status") == "True":
            return parse_time(condition["lastTransitionTime"])
    return None


def judge_job(job: Object, status: Object, tally: Tally, pods: Sequence[Object], now: float) -> Outcome | None:
    """The outcome, None while there is none. `status` is the one being written."""
    for condition in status.get("conditions") or ():
        if condition["type"] in FINAL and condition["status"] == "True":
            return Outcome(condition["type"], condition.get("reason", ""), condition.get("message", ""))
    return _failure(job, status, tally, pods, now) or _success_by_policy(job, tally) or _completion(job, tally, pods)


def _failed(reason: str, message: str) -> Outcome:
    return Outcome("FailureTarget", reason, message)


def _failure(job: Object, status: Object, tally: Tally, pods: Sequence[Object], now: float) -> Outcome | None:
    spec = job["spec"]
    if tally.fail_job:
        return _failed("PodFailurePolicy", tally.fail_job)
    limit = int(spec.get("backoffLimit", 6))
    if tally.total_failed > limit or _restarts_exceed(job, pods, limit):
        return _failed("BackoffLimitExceeded", "Job has reached the specified backoff limit")
    deadline, started = spec.get("activeDeadlineSeconds"), status.get("startTime")
    if deadline is not None and started and not spec.get("suspend") and now - parse_time(started) >= int(deadline):
        return _failed("DeadlineExceeded", "Job was active longer than specified deadline")
    if is_indexed(job) and tally.failed_indexes:
        most = spec.get("maxFailedIndexes")
        if most is not None and len(tally.failed_indexes) > int(most):
            message = "Job has exceeded the specified maximal number of failed indexes"
            return _failed("MaxFailedIndexesExceeded", message)
        if len(tally.failed_indexes | tally.completed) >= (completions_of(job) or 0):
            return _failed("FailedIndexes", "Job has failed indexes")
    return None


def _restarts_exceed(job: Object, pods: Sequence[Object], limit: int) -> bool:
    """With restartPolicy OnFailure containers fail without their pods: their restarts count."""
    if job["spec"]["template"]["spec"].get("restartPolicy") != "OnFailure":
        return False
    restarts = sum(total_restarts(pod) for pod in pods)
    return restarts > 0 if limit == 0 else restarts >= limit


def _success_by_policy(job: Object, tally: Tally) -> Outcome | None:
    limit = completions_of(job) or 0
    for number, rule in enumerate((job["spec"].get("successPolicy") or {}).get("rules") or ()):
        done, wanted = len(tally.completed), int(rule.get("succeededCount") or 0)
        if rule.get("succeededIndexes") is not None:
            named = parse_intervals(rule["succeededIndexes"], limit)
            done = count_within(tally.completed, named)
            wanted = wanted or sum(high - low + 1 for low, high in named)
        if wanted and done >= wanted:
            return Outcome("SuccessCriteriaMet", "SuccessPolicy", f"Matched rules at index {number}")
    return None


def _completion(job: Object, tally: Tally, pods: Sequence[Object]) -> Outcome | None:
    completions = completions_of(job)
    if completions is not None:
        return _COMPLETE if tally.total_succeeded >= completions else None
    working = any(not is_terminal(pod) for pod in pods)
    return _COMPLETE if tally.total_succeeded and not working else None
