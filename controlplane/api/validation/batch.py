"""Jobs and CronJobs.

Source: Kubernetes API reference, "Job", "CronJob" (1.32) and the messages of a 1.32 server.
"""

from __future__ import annotations

import re

from podnet.controlplane.api.errors import Cause, forbidden_field, invalid_value, not_supported, required
from podnet.controlplane.api.types import Object
from podnet.controlplane.api.validation.pods import validate_template
from podnet.controlplane.api.validation.selector import validate_label_selector
from podnet.controlplane.api.validation.values import JSONObject, immutable, non_negative, one_of, part

_COUNTS = ("parallelism", "completions", "activeDeadlineSeconds", "backoffLimit", "ttlSecondsAfterFinished")
_MACROS = frozenset({"@yearly", "@annually", "@monthly", "@weekly", "@daily", "@midnight", "@hourly"})
_CRON_RANGES = ((0, 59), (0, 23), (1, 31), (1, 12), (0, 6))
_CRON_NAMES = (
    (),
    (),
    (),
    ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"),
    ("sun", "mon", "tue", "wed", "thu", "fri", "sat"),
)
_DURATION = re.compile(r"@every ([0-9]+(\.[0-9]+)?(h|m|s|ms|us|ns))+", re.ASCII)


def validate_job(obj: Object) -> list[Cause]:
    """Job."""
    return _validate_job_spec(part(obj, "spec"), "spec")


def _validate_job_spec(spec: JSONObject, path: str) -> list[Cause]:
    causes = [cause for name in _COUNTS for cause in non_negative(spec, name, path)]
    causes += validate_label_selector(spec.get("selector"), f"{path}.selector")
    causes += one_of(spec, "completionMode", path, ("NonIndexed", "Indexed"))
    if spec.get("completionMode") == "Indexed":
        if spec.get("completions") is None:
            causes.append(required(f"{path}.completions", "when completion mode is Indexed"))
        if (spec.get("parallelism") or 0) > 100_000:
            text = "must be less than or equal to 100000 when completion mode is Indexed"
            causes.append(invalid_value(f"{path}.parallelism", spec["parallelism"], text))
    elif spec.get("backoffLimitPerIndex") is not None:
        text = "requires indexed completion mode"
        causes.append(invalid_value(f"{path}.backoffLimitPerIndex", spec["backoffLimitPerIndex"], text))
    causes += one_of(spec, "podReplacementPolicy", path, ("TerminatingOrFailed", "Failed"))
    template = part(spec, "template")
    causes += validate_template(template, f"{path}.template")
    policy = part(template, "spec").get("restartPolicy") or ""
    if policy in {"", "Always"}:
        where = f"{path}.template.spec.restartPolicy"
        text = 'valid values: "OnFailure", "Never"'
        causes.append(required(where, text) if not policy else not_supported(where, policy, ["OnFailure", "Never"]))
    elif policy == "OnFailure" and spec.get("podFailurePolicy") is not None:
        text = 'only "Never" is supported when podFailurePolicy is specified'
        causes.append(invalid_value(f"{path}.template.spec.restartPolicy", policy, text))
    return causes


def validate_job_update(new: Object, old: Object) -> list[Cause]:
    """What makes a Job this Job does not change; a suspended one may still be told where to run."""
    after, before = part(new, "spec"), part(old, "spec")
    causes: list[Cause] = []
    for name in (
        "selector",
        "completionMode",
        "podFailurePolicy",
        "backoffLimitPerIndex",
        "managedBy",
        "successPolicy",
    ):
        causes += immutable(after, before, name, "spec")
    if after.get("completions") != before.get("completions"):
        elastic = (
            after.get("completionMode") == "Indexed"
            and after.get("completions") == after.get("parallelism")
            and after.get("completions") is not None
        )
        if not elastic:
            causes += immutable(after, before, "completions", "spec")
    if not (before.get("suspend") and not part(old, "status").get("startTime")):
        causes += immutable(after, before, "template", "spec")
    return causes


def validate_cron_job(obj: Object) -> list[Cause]:
    """CronJob."""
    spec = part(obj, "spec")
    causes: list[Cause] = []
    schedule = spec.get("schedule") or ""
    if not schedule:
        causes.append(required("spec.schedule"))
    else:
        causes += validate_schedule(schedule, "spec.schedule")
    zone = spec.get("timeZone")
    if "TZ" in schedule and zone:
        causes.append(
            invalid_value("spec.schedule", schedule, "cannot use both timeZone field and TZ or CRON_TZ in schedule")
        )
    if zone is not None and (not zone or zone.lower() == "local"):
        text = (
            "timeZone must be nil or non-empty string"
            if not zone
            else "timeZone must be an explicit time zone as defined in https://www.iana.org/time-zones"
        )
        causes.append(invalid_value("spec.timeZone", zone, text))
    causes += non_negative(spec, "startingDeadlineSeconds", "spec")
    causes += one_of(spec, "concurrencyPolicy", "spec", ("Allow", "Forbid", "Replace"), must=True)
    for name in ("successfulJobsHistoryLimit", "failedJobsHistoryLimit"):
        causes += non_negative(spec, name, "spec")
    template = part(part(spec, "jobTemplate"), "spec")
    if template.get("manualSelector"):
        causes.append(forbidden_field("spec.jobTemplate.spec.manualSelector", "may not be set to true"))
    return causes + _validate_job_spec(template, "spec.jobTemplate.spec")


def validate_schedule(schedule: str, path: str) -> list[Cause]:
    """A cron expression of five fields, or a macro."""
    if schedule.startswith(("TZ=", "CRON_TZ=")):
        schedule = schedule.partition(" ")[2].strip()
    if schedule in _MACROS or _DURATION.fullmatch(schedule):
        return []
    if schedule.startswith("@"):
        return [invalid_value(path, schedule, f"unrecognized descriptor: {schedule}")]
    fields = schedule.split()
    if len(fields) != 5:
        shown = " ".join(fields)
        text = f"expected exactly 5 fields, found {len(fields)}: [{shown}]"
        return [invalid_value(path, schedule, text)]
    for field, bounds, words in zip(fields, _CRON_RANGES, _CRON_NAMES, strict=True):
        problem = _cron_problem(field, bounds, words)
        if problem:
            return [invalid_value(path, schedule, problem)]
    return []


def _cron_problem(field: str, bounds: tuple[int, int], words: tuple[str, ...]) -> str:
    """What is wrong with one field of a cron expression, "" when nothing is."""
    low, high = bounds
    for item in field.split(","):
        span, slash, step = item.partition("/")
        if slash and (not step.isdigit() or int(step) == 0):
            return (
                f"step of range should be a positive number: {item}"
                if step == "0"
                else f"failed to parse int from {step}"
            )
        if span in {"*", "?"}:
            continue
        first, dash, last = span.partition("-")
        numbers = []
        for text in (first, last) if dash else (first,):
            if text.lower() in words:
                numbers.append(words.index(text.lower()) + (1 if words[0] == "jan" else 0))
            elif text.isdigit():
                numbers.append(int(text))
            else:
                return f"failed to parse int from {text}"
        if numbers[0] < low:
            return f"beginning of range ({numbers[0]}) below minimum ({low}): {item}"
        if numbers[-1] > high:
            return f"end of range ({numbers[-1]}) above maximum ({high}): {item}"
        if numbers[0] > numbers[-1]:
            return f"beginning of range ({numbers[0]}) beyond end of range ({numbers[-1]}): {item}"
    return ""
