"""What a DELETE, or the loss of the last finalizer, does to an object: remove it, or mark it and keep it.

Pure: the decision is a value, the registry carries it out. Finalizers are only set here (`foregroundDeletion`,
`orphan`); the garbage collector acts on them. Source: apiserver pkg/registry/rest/delete.go and
pkg/registry/generic/registry/store.go, pod and namespace strategies.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from podnet.controlplane.api.errors import bad_request
from podnet.controlplane.api.timestamps import format_time, parse_time
from podnet.controlplane.api.types import Object, Resource
from podnet.controlplane.apiserver.options import DeleteOptions
from podnet.controlplane.apiserver.strategy import WITH_GENERATION

FOREGROUND = "foregroundDeletion"
ORPHAN = "orphan"
DEFAULT_GRACE_PERIOD_S = 30
_LONGEST_S = 100 * 365 * 86400
"""Beyond it a deletionTimestamp would leave the calendar."""
ORPHANS_BY_DEFAULT = frozenset({"jobs.batch"})
JOB_WARNING = (
    "child pods are preserved by default when jobs are deleted; set propagationPolicy=Background to remove them or set "
    "propagationPolicy=Orphan to suppress this warning"
)


@dataclass(frozen=True, slots=True)
class DeletePlan:
    """`remove`: take the object out of the store. Else `keep` is what to store instead, None to leave it as it is."""

    remove: bool
    keep: Object | None = None


def plan_deletion(obj: Object, resource: Resource, options: DeleteOptions, now: float) -> DeletePlan:
    """Decide a DELETE of `obj` (a private copy, changed and returned in the plan)."""
    if options.grace_period_s is not None and options.grace_period_s < 0:
        options.grace_period_s = 1  # upstream reads any negative period as the shortest graceful one
    metadata = obj["metadata"]
    before = dict(metadata)
    _set_propagation(metadata, resource, options)
    grace = grace_period_s(obj, resource, options)
    if is_namespace_with_contents(obj, resource):
        return _plan_namespace(obj, now, before)
    if metadata.get("deletionTimestamp"):
        return _plan_again(obj, before, grace, now)
    if not grace and not metadata.get("finalizers"):
        return DeletePlan(remove=True)
    metadata["deletionTimestamp"] = format_time(now + min(grace, _LONGEST_S))
    metadata["deletionGracePeriodSeconds"] = grace
    if resource.qualified_name in WITH_GENERATION:
        metadata["generation"] = int(metadata.get("generation") or 0) + 1
    return DeletePlan(remove=False, keep=obj)


def _plan_namespace(obj: Object, now: float, before: dict[str, Any]) -> DeletePlan:
    metadata = obj["metadata"]
    if metadata.get("deletionTimestamp"):
        return DeletePlan(remove=False, keep=obj if metadata != before else None)
    metadata["deletionTimestamp"] = format_time(now)
    obj.setdefault("status", {})["phase"] = "Terminating"
    return DeletePlan(remove=False, keep=obj)


def _plan_again(obj: Object, before: dict[str, Any], grace: int, now: float) -> DeletePlan:
    """A second DELETE may shorten the period, or say anew what happens to dependents; never lengthen it."""
    metadata = obj["metadata"]
    current = metadata.get("deletionGracePeriodSeconds")
    if current is not None and grace < int(current):
        if grace == 0 and not metadata.get("finalizers"):
            return DeletePlan(remove=True)
        started = parse_time(metadata["deletionTimestamp"]) - int(current)
        metadata["deletionTimestamp"] = format_time(max(started + min(grace, _LONGEST_S), now) if grace else now)
        metadata["deletionGracePeriodSeconds"] = grace
    elif not metadata.get("finalizers") and not current:
        return DeletePlan(remove=True)
    return DeletePlan(remove=False, keep=obj if metadata != before else None)


def grace_period_s(obj: Object, resource: Resource, options: DeleteOptions) -> int:
    """Seconds a pod is given; 0 for everything else, for pods that have no kubelet yet and for finished ones."""
    if resource.qualified_name != "pods":
        return 0
    spec, status = obj.get("spec") or {}, obj.get("status") or {}
    period = options.grace_period_s
    if period is None:
        period = spec.get("terminationGracePeriodSeconds")
        period = DEFAULT_GRACE_PERIOD_S if period is None else max(int(period), 1 if int(period) < 0 else 0)
    if not spec.get("nodeName") or status.get("phase") in {"Succeeded", "Failed"}:
        return 0
    return int(period)


def is_namespace_with_contents(obj: Object, resource: Resource) -> bool:
    """A namespace that its controller has not emptied yet."""
    return resource.qualified_name == "namespaces" and bool((obj.get("spec") or {}).get("finalizers"))


def is_finished(obj: Object, resource: Resource) -> bool:
    """Whether an update has taken the last thing that kept a deleted object."""
    metadata = obj["metadata"]
    if not metadata.get("deletionTimestamp") or metadata.get("finalizers"):
        return False
    if is_namespace_with_contents(obj, resource):
        return False
    return not metadata.get("deletionGracePeriodSeconds")


def _set_propagation(metadata: dict[str, Any], resource: Resource, options: DeleteOptions) -> None:
    finalizers = [name for name in metadata.get("finalizers") or [] if name not in {FOREGROUND, ORPHAN}]
    policy = options.propagation
    if not policy:
        present = set(metadata.get("finalizers") or [])
        if FOREGROUND in present or ORPHAN in present:
            return
        if resource.qualified_name in ORPHANS_BY_DEFAULT:
            policy = "Orphan"
            if JOB_WARNING not in options.warnings:
                options.warnings.append(JOB_WARNING)
    if policy == "Foreground":
        finalizers.append(FOREGROUND)
    elif policy == "Orphan":
        finalizers.append(ORPHAN)
    elif policy not in {"", "Background"}:
        raise bad_request(f'invalid propagationPolicy "{policy}": must be one of Background, Foreground, Orphan')
    if finalizers:
        metadata["finalizers"] = finalizers
    else:
        metadata.pop("finalizers", None)
