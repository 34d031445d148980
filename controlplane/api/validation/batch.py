"""Jobs and CronJobs.

Source: Kubernetes API reference, "Job", "CronJob" (1.32) and the messages of a 1.32 server.
"""

from __future__ import annotations

import re
from functools import lru_cache
from zoneinfo import ZoneInfo

from podnet.controlplane.api import names, numbers, selectors
from podnet.controlplane.api.errors import Cause, StatusError, invalid_value, not_supported, required, too_long
from podnet.controlplane.api.types import Object
from podnet.controlplane.api.validation.gosyntax import label_selector, string_map
from podnet.controlplane.api.validation.job_policies import validate_failure_policy, validate_success_policy
from podnet.controlplane.api.validation.pods import validate_template
from podnet.controlplane.api.validation.selector import validate_label_selector
from podnet.controlplane.api.validation.values import (
    IMMUTABLE,
    JSONObject,
    immutable,
    non_negative,
    one_of,
    part,
    texts,
)

_COUNTS = (
    "parallelism",
    "completions",
    "activeDeadlineSeconds",
    "backoffLimit",
    "ttlSecondsAfterFinished",
    "backoffLimitPerIndex",
    "maxFailedIndexes",
)
_INDEXES_MAX = 100_000
_MANY_INDEXES_MAX = 10_000
_MANAGER_MAX = 63
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
    spec = part(obj, "spec")
    causes = _validate_generated(obj, spec) + _validate_job_spec(spec, "spec")
    selector, labels = spec.get("selector"), part(part(part(spec, "template"), "metadata"), "labels")
    if selector is None:
        causes.append(required("spec.selector"))
    else:
        causes += validate_label_selector(selector, "spec.selector")
        if not _matches(selector, labels):
            text = "`selector` does not match template `labels`"
            causes.append(invalid_value("spec.template.metadata.labels", string_map(labels or None), text))
    name, completions = part(obj, "metadata").get("name") or "", spec.get("completions") or 0
    if spec.get("completionMode") == "Indexed" and completions > 0:
        hostname = f"{name}-{completions - 1}"
        text = f"will not able to create pod with invalid DNS label: {hostname}"
        causes += [invalid_value("metadata.name", name, text)] if names.dns1123_label(hostname) else []
    return causes


def _matches(selector: JSONObject, labels: JSONObject) -> bool:
    try:
        return selectors.from_label_selector_object(selector).matches(labels)
    except StatusError:
        return True  # the selector's own causes say what is wrong


def _validate_generated(job: Object, spec: JSONObject) -> list[Cause]:
    """Unless it selects by hand, a Job's pods carry its own uid and name: a copy of another Job does not."""
    uid, name = part(job, "metadata").get("uid"), part(job, "metadata").get("name")
    if spec.get("manualSelector") or spec.get("selector") is None or not uid:
        return []
    labels = part(part(part(spec, "template"), "metadata"), "labels")
    wanted = {
        f"{prefix}{key}": value
        for prefix in ("", "batch.kubernetes.io/")
        for key, value in (("controller-uid", uid), ("job-name", name))
    }
    causes: list[Cause] = []
    for key, value in wanted.items():
        path, text = f"spec.template.metadata.labels[{key}]", f"must be '{value}'"
        if key not in labels:
            causes.append(required(path, text))
        elif labels[key] != value:
            causes.append(invalid_value(path, string_map(labels), text))
    selector = part(spec, "selector")
    if any(wanted.get(key) != value for key, value in part(selector, "matchLabels").items()):
        causes.append(invalid_value("spec.selector", label_selector(selector), "`selector` not auto-generated"))
    return causes


def _validate_job_spec(spec: JSONObject, path: str) -> list[Cause]:
    causes = [cause for name in _COUNTS for cause in non_negative(spec, name, path)]
    if spec.get("maxFailedIndexes") is not None and spec.get("backoffLimitPerIndex") is None:
        causes.append(required(f"{path}.backoffLimitPerIndex", "when maxFailedIndexes is specified"))
    causes += _validate_manager(spec.get("managedBy"), f"{path}.managedBy")
    causes += one_of(spec, "completionMode", path, ("NonIndexed", "Indexed"))
    causes += _validate_indexed(spec, path) if spec.get("completionMode") == "Indexed" else _validate_plain(spec, path)
    if spec.get("podFailurePolicy") is not None:
        causes += validate_failure_policy(spec, f"{path}.podFailurePolicy")
    if spec.get("successPolicy") is not None:
        causes += validate_success_policy(spec, f"{path}.successPolicy")
    policies = ("Failed",) if spec.get("podFailurePolicy") is not None else ("TerminatingOrFailed", "Failed")
    causes += one_of(spec, "podReplacementPolicy", path, policies)
    template = part(spec, "template")
    causes += validate_template(template, f"{path}.template")
    policy, where = part(template, "spec").get("restartPolicy") or "", f"{path}.template.spec.restartPolicy"
    if policy in {"", "Always"}:  # the default of pods, so nobody may have said it
        causes.append(required(where, 'valid values: "OnFailure", "Never"'))
    elif policy not in {"OnFailure", "Never"}:
        causes.append(not_supported(where, policy, ["OnFailure", "Never"]))
    elif policy == "OnFailure" and spec.get("podFailurePolicy") is not None:
        text = 'only "Never" is supported when podFailurePolicy is specified'
        causes.append(invalid_value(where, policy, text))
    return causes


def _validate_manager(name: str | None, path: str) -> list[Cause]:
    """Who runs the Job: a path that begins with a domain."""
    if name is None:
        return []
    domain, slash, rest = name.partition("/")
    if not name:
        causes = [required(path)]
    elif not slash or not domain or not rest:
        causes = [invalid_value(path, name, 'must be a domain-prefixed path (such as "acme.io/foo")')]
    else:
        causes = texts(path, domain, names.dns1123_subdomain(domain))
    return causes + ([too_long(path, _MANAGER_MAX)] if len(name) > _MANAGER_MAX else [])


def _validate_plain(spec: JSONObject, path: str) -> list[Cause]:
    return [
        invalid_value(f"{path}.{name}", spec[name], "requires indexed completion mode")
        for name in ("backoffLimitPerIndex", "maxFailedIndexes")
        if spec.get(name) is not None
    ]


def _validate_indexed(spec: JSONObject, path: str) -> list[Cause]:
    completions, most = spec.get("completions"), spec.get("maxFailedIndexes")
    parallelism = spec.get("parallelism") or 0
    causes: list[Cause] = []
    if completions is None:
        causes.append(required(f"{path}.completions", "when completion mode is Indexed"))
    if parallelism > _INDEXES_MAX:
        text = f"must be less than or equal to {_INDEXES_MAX} when completion mode is Indexed"
        causes.append(invalid_value(f"{path}.parallelism", parallelism, text))
    if most is not None and completions is not None and most > completions:
        causes.append(invalid_value(f"{path}.maxFailedIndexes", most, "must be less than or equal to completions"))
    if most is not None and most > _INDEXES_MAX:
        causes.append(invalid_value(f"{path}.maxFailedIndexes", most, f"must be less than or equal to {_INDEXES_MAX}"))
    if (completions or 0) > _INDEXES_MAX and spec.get("backoffLimitPerIndex") is not None:
        if most is None:
            text = f"must be specified when completions is above {_INDEXES_MAX}"
            causes.append(required(f"{path}.maxFailedIndexes", text))
        text = (
            f"must be less than or equal to {_MANY_INDEXES_MAX} when completions are above {_INDEXES_MAX} and used with "
            "backoff limit per index"
        )
        for name, value in (("parallelism", parallelism), ("maxFailedIndexes", most or 0)):
            causes += [invalid_value(f"{path}.{name}", value, text)] if value > _MANY_INDEXES_MAX else []
    return causes


def validate_job_update(new: Object, old: Object) -> list[Cause]:
    """What makes a Job this Job does not change; a suspended one that never ran may still be told where to run."""
    after, before = part(new, "spec"), part(old, "spec")
    causes = _validate_completions(after, before)
    causes += immutable(after, before, "selector", "spec")
    template, was = part(after, "template"), part(before, "template")
    if before.get("suspend") and not part(old, "status").get("startTime"):
        was = _with_directives_of(template, was)
    if template != was:
        causes.append(invalid_value("spec.template", template, IMMUTABLE))
    for name in ("completionMode", "podFailurePolicy", "backoffLimitPerIndex", "managedBy", "successPolicy"):
        causes += immutable(after, before, name, "spec")
    return causes


def _validate_completions(after: JSONObject, before: JSONObject) -> list[Cause]:
    """An Indexed Job may grow and shrink, its parallelism with it."""
    if after.get("completionMode") != "Indexed":
        return immutable(after, before, "completions", "spec")
    now, was = after.get("completions"), before.get("completions")
    if now == was or now is None or was is None or now == after.get("parallelism"):
        return []
    return [invalid_value("spec.completions", now, "can only be modified in tandem with spec.parallelism")]


def _with_directives_of(template: JSONObject, was: JSONObject) -> JSONObject:
    """The old template, with what the new one says about where its pods run: the rest must be the same."""
    spec, metadata = dict(part(was, "spec")), dict(part(was, "metadata"))
    for target, source, fields in (
        (spec, part(template, "spec"), ("nodeSelector", "tolerations", "schedulingGates")),
        (metadata, part(template, "metadata"), ("labels", "annotations")),
    ):
        for field in fields:
            _take(target, source, field)
    affinity = dict(part(spec, "affinity"))
    _take(affinity, part(part(template, "spec"), "affinity"), "nodeAffinity")
    if affinity or "affinity" in part(template, "spec"):
        spec["affinity"] = affinity
    else:
        spec.pop("affinity", None)
    out = {**was, "spec": spec, "metadata": metadata}
    if not metadata and "metadata" not in template:
        del out["metadata"]
    return out


def _take(target: JSONObject, source: JSONObject, field: str) -> None:
    if field in source:
        target[field] = source[field]
    else:
        target.pop(field, None)


def validate_cron_job(obj: Object) -> list[Cause]:
    """CronJob."""
    return _validate_cron_job(part(obj, "spec"), None)


def validate_cron_job_update(new: Object, old: Object) -> list[Cause]:
    """What stands there already may stay: a zone that this machine has forgotten, a zone in the schedule."""
    return _validate_cron_job(part(new, "spec"), part(old, "spec"))


def _validate_cron_job(spec: JSONObject, old: JSONObject | None) -> list[Cause]:
    causes: list[Cause] = []
    schedule, zone = spec.get("schedule") or "", spec.get("timeZone")
    if not schedule:
        causes.append(required("spec.schedule"))
    else:
        causes += validate_schedule(schedule, "spec.schedule")
    if "TZ" in schedule and "TZ" not in ((old or {}).get("schedule") or ""):
        text = "cannot use TZ or CRON_TZ in schedule, use timeZone field instead"
        causes.append(invalid_value("spec.schedule", schedule, text))
    elif "TZ" in schedule and zone is not None:
        text = "cannot use both timeZone field and TZ or CRON_TZ in schedule"
        causes.append(invalid_value("spec.schedule", schedule, text))
    if zone is not None and (old is None or old.get("timeZone") != zone):
        causes += [invalid_value("spec.timeZone", zone, problem) for problem in zone_problems(zone)]
    causes += non_negative(spec, "startingDeadlineSeconds", "spec")
    causes += one_of(spec, "concurrencyPolicy", "spec", ("Allow", "Forbid", "Replace"), must=True)
    for name in ("successfulJobsHistoryLimit", "failedJobsHistoryLimit"):
        causes += non_negative(spec, name, "spec")
    template = part(part(spec, "jobTemplate"), "spec")
    causes += _validate_job_spec(template, "spec.jobTemplate.spec")
    if template.get("selector") is not None:
        text = "`selector` will be auto-generated"
        causes.append(invalid_value("spec.jobTemplate.spec.selector", label_selector(template["selector"]), text))
    if template.get("manualSelector"):
        causes.append(not_supported("spec.jobTemplate.spec.manualSelector", value=True, supported=["nil", "false"]))
    return causes


@lru_cache(maxsize=512)
def zone_problems(zone: str) -> tuple[str, ...]:
    """What is wrong with the name of a time zone. The zones of the world are a table that Python brings or finds on the
    machine, and does not change while a process runs."""
    if not zone:
        return ("timeZone must be nil or non-empty string",)
    problems: tuple[str, ...] = ()
    if zone.lower() == "local":
        problems = ("timeZone must be an explicit time zone as defined in https://www.iana.org/time-zones",)
    try:
        ZoneInfo(zone)
    except (KeyError, ValueError, OSError):  # unknown, absolute or outside, a directory
        outside = zone.startswith(("/", "\\")) or ".." in zone
        return (*problems, "time: invalid location name" if outside else f"unknown time zone {zone}")
    return problems


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


def _no_number(text: str) -> str:
    return f'failed to parse int from {text}: strconv.Atoi: parsing "{text}": invalid syntax'


def _cron_problem(field: str, bounds: tuple[int, int], words: tuple[str, ...]) -> str:
    """What is wrong with one field of a cron expression, "" when nothing is."""
    low, high = bounds
    for item in field.split(","):
        span, slash, step = item.partition("/")
        if slash and not numbers.natural(step):
            return f"step of range should be a positive number: {item}" if step == "0" else _no_number(step)
        if span in {"*", "?"}:
            continue
        first, dash, last = span.partition("-")
        limits: list[int] = []
        for text in (first, last) if dash else (first,):
            number = _cron_number(text, words)
            if number is None:
                return _no_number(text)
            limits.append(number)
        if limits[0] < low:
            return f"beginning of range ({limits[0]}) below minimum ({low}): {item}"
        if limits[-1] > high:
            return f"end of range ({limits[-1]}) above maximum ({high}): {item}"
        if limits[0] > limits[-1]:
            return f"beginning of range ({limits[0]}) beyond end of range ({limits[-1]}): {item}"
    return ""


def _cron_number(text: str, words: tuple[str, ...]) -> int | None:
    """A number, or the name of a month (from one) or of a weekday (from zero)."""
    if text.lower() in words:
        return words.index(text.lower()) + (1 if words[0] == "jan" else 0)
    return numbers.natural(text)
