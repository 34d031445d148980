"""The pods of a Job: how one is made, and what its end means.

Pure. Source: kubernetes pkg/controller/job (indexed_job_utils.go, pod_failure_policy.go, job_controller.go).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from podnet.controlplane.api import meta, numbers
from podnet.controlplane.api.timestamps import parse_time
from podnet.controlplane.api.types import Object
from podnet.controlplane.controllers.deployment.revision import annotations_of
from podnet.controlplane.controllers.pods import is_terminal, phase_of

TRACKING = "batch.kubernetes.io/job-tracking"
"""The finalizer that keeps a finished pod until its Job has counted it."""
INDEX = "batch.kubernetes.io/job-completion-index"
INDEX_FAILURES = "batch.kubernetes.io/job-index-failure-count"
INDEX_IGNORED = "batch.kubernetes.io/job-index-ignored-failure-count"
MAX_HOSTNAME_LENGTH = 63


def is_indexed(job: Object) -> bool:
    """Its pods have numbers: completionMode Indexed."""
    return bool(job["spec"].get("completionMode") == "Indexed")


def index_of(pod: Object) -> int | None:
    """The completion index, None when the pod has none."""
    return numbers.natural(annotations_of(pod).get(INDEX))


def index_failures(pod: Object) -> int:
    """How often the pod's index had failed before this pod."""
    return numbers.natural(annotations_of(pod).get(INDEX_FAILURES)) or 0


def index_ignored(pod: Object) -> int:
    """How many failures of its index before this pod a policy said to ignore: they only make the next try wait."""
    return numbers.natural(annotations_of(pod).get(INDEX_IGNORED)) or 0


def replaces_only_failed(job: Object) -> bool:
    """A terminating pod is not replaced before it has really ended."""
    spec = job["spec"]
    return spec.get("podFailurePolicy") is not None or spec.get("podReplacementPolicy") == "Failed"


def has_failed(job: Object, pod: Object) -> bool:
    """Failed; or going without having ended, which counts as failed at once unless the Job wants to wait."""
    if phase_of(pod) == "Failed":
        return True
    return not replaces_only_failed(job) and meta.is_terminating(pod) and phase_of(pod) != "Succeeded"


def is_tracked(pod: Object) -> bool:
    """Not counted yet."""
    return meta.has_finalizer(pod, TRACKING)


def finished_at(pod: Object) -> float | None:
    """When the last container ended, or what comes closest."""
    stamps = [s.get("finishedAt") for s in _terminated(pod).values()]
    known = [parse_time(stamp) for stamp in stamps if stamp]
    if known:
        return max(known)
    condition = meta.get_condition(pod, "Ready") or {}
    stamp = condition.get("lastTransitionTime") or meta.metadata(pod).get("deletionTimestamp")
    return parse_time(stamp) if stamp else None


def _terminated(pod: Object) -> dict[str, dict[str, Any]]:
    """Container name -> how it ended."""
    status = pod.get("status") or {}
    found: dict[str, dict[str, Any]] = {}
    for field in ("initContainerStatuses", "containerStatuses"):
        for container in status.get(field) or ():
            ended = (container.get("state") or {}).get("terminated")
            if ended:
                found[str(container.get("name"))] = ended
    return found


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the pod failure policy says of a failed pod: Count, Ignore, FailIndex or FailJob, and the words for it."""

    action: str
    message: str = ""


def judge(job: Object, pod: Object) -> Verdict:
    """The action of the first rule that matches; without one the failure counts."""
    for number, rule in enumerate((job["spec"].get("podFailurePolicy") or {}).get("rules") or ()):
        for matched in (*_matching_exits(rule, pod), *_matching_conditions(rule, pod)):
            action = str(rule.get("action", "Count"))
            return Verdict(action, f"{matched} matching {action} rule at index {number}")
    return Verdict("Count")


def _matching_exits(rule: Mapping[str, Any], pod: Object) -> Iterator[str]:
    wanted = rule.get("onExitCodes")
    if not wanted:
        return
    for name, ended in _terminated(pod).items():
        code = int(ended.get("exitCode") or 0)
        if code == 0 or (wanted.get("containerName") and wanted["containerName"] != name):
            continue
        if (code in (wanted.get("values") or ())) == (wanted.get("operator") == "In"):
            yield f"Container {name} for pod {meta.key(pod)} failed with exit code {code}"


def _matching_conditions(rule: Mapping[str, Any], pod: Object) -> Iterator[str]:
    for pattern in rule.get("onPodConditions") or ():
        condition = meta.get_condition(pod, pattern["type"])
        if condition is not None and condition.get("status") == (pattern.get("status") or "True"):
            yield f"Pod {meta.key(pod)} has condition {pattern['type']}"


def total_restarts(pod: Object) -> int:
    """Restarts of all containers: with restartPolicy OnFailure they are what backoffLimit counts."""
    status = pod.get("status") or {}
    every = [*(status.get("initContainerStatuses") or ()), *(status.get("containerStatuses") or ())]
    return 0 if is_terminal(pod) else sum(int(container.get("restartCount") or 0) for container in every)


def desired_pod(job: Object, index: int | None, failures: int = 0, ignored: int = 0) -> Object:
    """The pod to create, of that index when the Job has indexes."""
    template = meta.deep_copy(job["spec"]["template"])
    metadata, spec = template.get("metadata") or {}, template["spec"]
    name = meta.name(job)
    labels, annotations = dict(metadata.get("labels") or {}), dict(metadata.get("annotations") or {})
    prefix = f"{name}-"
    if index is not None:
        labels[INDEX] = annotations[INDEX] = str(index)
        prefix = f"{name}-{index}-"
        spec.setdefault("hostname", f"{name}-{index}"[:MAX_HOSTNAME_LENGTH].rstrip("-."))
        if job["spec"].get("backoffLimitPerIndex") is not None:
            annotations[INDEX_FAILURES] = str(failures)
            if ignored:
                annotations[INDEX_IGNORED] = str(ignored)
        for container in (*(spec.get("initContainers") or ()), *spec["containers"]):
            _add_index_variable(container)
    pod_metadata: Object = {
        "generateName": prefix,
        "namespace": meta.namespace(job),
        "labels": labels,
        "finalizers": [*(metadata.get("finalizers") or ()), TRACKING],
        "ownerReferences": [meta.controller_reference(job)],
    }
    if annotations:
        pod_metadata["annotations"] = annotations
    return {"apiVersion": "v1", "kind": "Pod", "metadata": pod_metadata, "spec": spec}


def _add_index_variable(container: dict[str, Any]) -> None:
    variables = container.setdefault("env", [])
    if any(variable.get("name") == "JOB_COMPLETION_INDEX" for variable in variables):
        return
    source = {"fieldRef": {"apiVersion": "v1", "fieldPath": f"metadata.labels['{INDEX}']"}}
    variables.append({"name": "JOB_COMPLETION_INDEX", "valueFrom": source})
