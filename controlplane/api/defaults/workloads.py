"""Defaults of the workloads: apps, batch, ReplicationController, PodTemplate and autoscaling.

Source: Kubernetes API reference, "Workload Resources" (1.32).
"""

from __future__ import annotations

import copy
from typing import Any

from podnet.controlplane.api.defaults.fill import JSONObject, canonical_quantity, child, each, fill, fill_empty, present
from podnet.controlplane.api.defaults.pods import default_template
from podnet.controlplane.api.defaults.storage import default_claim

_HISTORY = 10
_MAX_INT32 = 2**31 - 1


def default_deployment(obj: JSONObject) -> None:
    """Deployment: one replica, rolling by quarters."""
    spec = child(obj, "spec")
    fill(spec, replicas=1, revisionHistoryLimit=_HISTORY, progressDeadlineSeconds=600)
    strategy = child(spec, "strategy")
    fill_empty(strategy, type="RollingUpdate")
    if strategy["type"] == "RollingUpdate":
        fill(child(strategy, "rollingUpdate"), maxUnavailable="25%", maxSurge="25%")
    default_template(spec)


def default_daemon_set(obj: JSONObject) -> None:
    """DaemonSet: one pod away at a time."""
    spec = child(obj, "spec")
    fill(spec, revisionHistoryLimit=_HISTORY)
    strategy = child(spec, "updateStrategy")
    fill_empty(strategy, type="RollingUpdate")
    if strategy["type"] == "RollingUpdate":
        fill(child(strategy, "rollingUpdate"), maxUnavailable=1, maxSurge=0)
    default_template(spec)


def default_stateful_set(obj: JSONObject) -> None:
    """StatefulSet: in order, and claims stay."""
    spec = child(obj, "spec")
    fill_empty(spec, podManagementPolicy="OrderedReady")
    strategy = child(spec, "updateStrategy")
    fill_empty(strategy, type="RollingUpdate")
    if strategy["type"] == "RollingUpdate":
        fill(child(strategy, "rollingUpdate"), partition=0)
    fill_empty(child(spec, "persistentVolumeClaimRetentionPolicy"), whenDeleted="Retain", whenScaled="Retain")
    fill(spec, replicas=1, revisionHistoryLimit=_HISTORY)
    for claim in each(spec, "volumeClaimTemplates"):
        fill_empty(claim, apiVersion="v1", kind="PersistentVolumeClaim")
        default_claim(claim)
    default_template(spec)


def default_replica_set(obj: JSONObject) -> None:
    """ReplicaSet: one replica."""
    spec = child(obj, "spec")
    fill(spec, replicas=1)
    default_template(spec)


def default_replication_controller(obj: JSONObject) -> None:
    """ReplicationController: labels and selector are the template's where they are not given."""
    spec = child(obj, "spec")
    labels = (present(present(spec, "template") or {}, "metadata") or {}).get("labels")
    if labels:
        fill_empty(spec, selector=dict(labels))
        fill_empty(child(obj, "metadata"), labels=dict(labels))
    fill(spec, replicas=1)
    if spec.get("template") is not None:
        default_template(spec)


def default_pod_template(obj: JSONObject) -> None:
    """PodTemplate."""
    default_template(obj)


def default_job(obj: JSONObject) -> None:
    """Job: one pod, run once; its labels are the template's where it has none."""
    spec = child(obj, "spec")
    if spec.get("completions") is None and spec.get("parallelism") is None:
        spec["completions"] = 1
    per_index = spec.get("backoffLimitPerIndex") is not None
    fill(spec, parallelism=1, backoffLimit=_MAX_INT32 if per_index else 6, completionMode="NonIndexed", suspend=False)
    fill(spec, podReplacementPolicy="Failed" if spec.get("podFailurePolicy") is not None else "TerminatingOrFailed")
    labels = (present(present(spec, "template") or {}, "metadata") or {}).get("labels")
    if labels:
        fill_empty(child(obj, "metadata"), labels=dict(labels))
    _default_job_template(spec)


def _default_job_template(spec: JSONObject) -> None:
    for rule in each(present(spec, "podFailurePolicy") or {}, "rules"):
        for pattern in each(rule, "onPodConditions"):
            fill_empty(pattern, status="True")
    default_template(spec)


def default_cron_job(obj: JSONObject) -> None:
    """CronJob; the Job's own defaults are filled when a Job is made of the template."""
    spec = child(obj, "spec")
    fill_empty(spec, concurrencyPolicy="Allow")
    fill(spec, suspend=False, successfulJobsHistoryLimit=3, failedJobsHistoryLimit=1)
    template = child(spec, "jobTemplate")
    child(template, "metadata")
    _default_job_template(child(template, "spec"))


_CPU_AT_80: JSONObject = {
    "type": "Resource",
    "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 80}},
}
_FAST: list[JSONObject] = [
    {"type": "Pods", "value": 4, "periodSeconds": 15},
    {"type": "Percent", "value": 100, "periodSeconds": 15},
]


def default_autoscaler(obj: JSONObject) -> None:
    """HorizontalPodAutoscaler v2."""
    spec = child(obj, "spec")
    fill(spec, minReplicas=1)
    fill_empty(spec, metrics=[copy.deepcopy(_CPU_AT_80)])
    for metric in each(spec, "metrics"):
        for source in metric.values():
            if isinstance(source, dict):
                for name in ("value", "averageValue"):
                    canonical_quantity(present(source, "target") or {}, name)
    behavior = present(spec, "behavior")
    if behavior is not None:
        _default_scaling(behavior, "scaleUp", _FAST, stabilizationWindowSeconds=0)
        _default_scaling(behavior, "scaleDown", _FAST[1:])


def _default_scaling(behavior: JSONObject, name: str, policies: list[JSONObject], **more: Any) -> None:
    rules = child(behavior, name)
    fill(rules, **more, selectPolicy="Max", policies=copy.deepcopy(policies))


def default_autoscaler_v1(obj: JSONObject) -> None:
    """HorizontalPodAutoscaler v1: its only metric is the CPU."""
    fill(child(obj, "spec"), minReplicas=1, targetCPUUtilizationPercentage=80)
