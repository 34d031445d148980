"""The workloads: apps, ReplicationController, PodTemplate, batch, autoscaling and disruption budgets.

Source: Kubernetes API reference, "Workload Resources" (1.32) and the messages of a 1.32 server.
"""

from __future__ import annotations

import re
from typing import Any

from podnet.controlplane.api import names, numbers, selectors
from podnet.controlplane.api.errors import (
    Cause,
    StatusError,
    forbidden_field,
    invalid_value,
    not_supported,
    required,
)
from podnet.controlplane.api.types import Object
from podnet.controlplane.api.validation.gosyntax import int_or_string, label_selector, string_map
from podnet.controlplane.api.validation.gosyntax import strategy as go_strategy
from podnet.controlplane.api.validation.pods import validate_template
from podnet.controlplane.api.validation.selector import is_empty_selector, validate_label_selector
from podnet.controlplane.api.validation.values import (
    IMMUTABLE,
    JSONObject,
    non_negative,
    objects,
    one_of,
    part,
)

_PERCENT = re.compile(r"[0-9]+%", re.ASCII)
_PERCENT_TEXT = "a valid percent string must be a numeric string followed by an ending '%' (e.g. '1%',  or '93%', regex used for validation is '[0-9]+%')"
_MISMATCH = "`selector` does not match template `labels`"
_EMPTY = "empty selector is invalid for {}"


def _selector_and_template(obj: Object, kind: str) -> list[Cause]:
    """What ReplicaSets, Deployments, DaemonSets and StatefulSets ask of their selector and template alike."""
    spec = part(obj, "spec")
    causes: list[Cause] = []
    selector = spec.get("selector")
    if selector is None:
        causes.append(required("spec.selector"))
    else:
        causes += validate_label_selector(selector, "spec.selector")
        if is_empty_selector(selector):
            causes.append(invalid_value("spec.selector", label_selector(selector), _EMPTY.format(kind.lower())))
    template = part(spec, "template")
    labels = part(template, "metadata").get("labels") or {}
    if selector is None or not is_empty_selector(selector):
        try:
            matches = selectors.from_label_selector_object(selector).matches(labels)
        except StatusError:
            matches = True  # the selector's own causes say what is wrong
        if not matches:
            causes.append(invalid_value("spec.template.metadata.labels", string_map(labels or None), _MISMATCH))
    causes += validate_template(template, "spec.template")
    return causes + _always(part(template, "spec"), "spec.template.spec", kind)


def _always(spec: JSONObject, path: str, kind: str) -> list[Cause]:
    causes: list[Cause] = []
    policy = spec.get("restartPolicy") or ""
    if policy and policy != "Always" and policy in {"OnFailure", "Never"}:
        causes.append(not_supported(f"{path}.restartPolicy", policy, ["Always"]))
    if spec.get("activeDeadlineSeconds") is not None:
        # Deployments share this rule, and its text, with ReplicaSets.
        text = f"activeDeadlineSeconds in {kind.replace('Deployment', 'ReplicaSet')} is not Supported"
        causes.append(forbidden_field(f"{path}.activeDeadlineSeconds", text))
    return causes


def validate_replica_set(obj: Object) -> list[Cause]:
    """ReplicaSet."""
    spec = part(obj, "spec")
    causes = non_negative(spec, "replicas", "spec") + non_negative(spec, "minReadySeconds", "spec")
    return causes + _selector_and_template(obj, "Deployment")


def validate_replication_controller(obj: Object) -> list[Cause]:
    """ReplicationController: its selector is a plain map."""
    spec = part(obj, "spec")
    causes = non_negative(spec, "minReadySeconds", "spec")
    selector = spec.get("selector") or {}
    if not selector:
        causes.append(required("spec.selector"))
    causes += non_negative(spec, "replicas", "spec")
    template = spec.get("template")
    if not isinstance(template, dict):
        return [*causes, required("spec.template")]
    labels = part(template, "metadata").get("labels") or {}
    if any(labels.get(key) != value for key, value in selector.items()):
        causes.append(invalid_value("spec.template.metadata.labels", string_map(labels or None), _MISMATCH))
    causes += validate_template(template, "spec.template")
    return causes + _always(part(template, "spec"), "spec.template.spec", "ReplicationController")


def validate_deployment(obj: Object) -> list[Cause]:
    """Deployment."""
    spec = part(obj, "spec")
    causes = non_negative(spec, "replicas", "spec") + _selector_and_template(obj, "Deployment")
    causes += _validate_strategy(part(spec, "strategy"), "spec.strategy", ("Recreate", "RollingUpdate"))
    causes += non_negative(spec, "minReadySeconds", "spec") + non_negative(spec, "revisionHistoryLimit", "spec")
    deadline = spec.get("progressDeadlineSeconds")
    if deadline is not None:
        causes += non_negative(spec, "progressDeadlineSeconds", "spec")
        if deadline <= (spec.get("minReadySeconds") or 0):
            text = "must be greater than minReadySeconds"
            causes.append(invalid_value("spec.progressDeadlineSeconds", deadline, text))
    return causes


def _validate_strategy(strategy: JSONObject, path: str, allowed: tuple[str, ...]) -> list[Cause]:
    kind = strategy.get("type") or ""
    rolling = strategy.get("rollingUpdate")
    if kind == "Recreate" and rolling is not None:
        return [forbidden_field(f"{path}.rollingUpdate", "may not be specified when strategy `type` is 'Recreate'")]
    if kind not in allowed:
        shown = go_strategy(strategy, "DeploymentStrategy", "RollingUpdateDeployment")
        return [not_supported(path, shown, list(allowed))]
    if kind != "RollingUpdate":
        return []
    if rolling is None:
        return [required(f"{path}.rollingUpdate", "this should be defaulted and never be nil")]
    return _validate_rolling(part(strategy, "rollingUpdate"), f"{path}.rollingUpdate")


def _validate_rolling(rolling: JSONObject, path: str) -> list[Cause]:
    causes: list[Cause] = []
    unavailable, surge = rolling.get("maxUnavailable", 0), rolling.get("maxSurge", 0)
    causes += validate_int_or_percent(unavailable, f"{path}.maxUnavailable")
    causes += validate_int_or_percent(surge, f"{path}.maxSurge")
    if percent_value(unavailable) == 0 and percent_value(surge) == 0:
        text = "may not be 0 when `maxSurge` is 0"
        causes.append(invalid_value(f"{path}.maxUnavailable", int_or_string(unavailable), text))
    return causes + _not_more_than_all(unavailable, f"{path}.maxUnavailable")


def _not_more_than_all(value: Any, path: str) -> list[Cause]:
    if isinstance(value, str) and _PERCENT.fullmatch(value) and int(value[:-1]) > 100:
        return [invalid_value(path, int_or_string(value), "must not be greater than 100%")]
    return []


def validate_int_or_percent(value: Any, path: str) -> list[Cause]:
    """A number that is not negative, or a percentage."""
    if isinstance(value, str):
        return [] if _PERCENT.fullmatch(value) else [invalid_value(path, int_or_string(value), _PERCENT_TEXT)]
    if isinstance(value, int) and value < 0:
        return [invalid_value(path, value, "must be greater than or equal to 0")]
    return []


def percent_value(value: Any) -> int:
    """The number of a percentage or of a plain number."""
    if isinstance(value, str):
        return numbers.natural(value.removesuffix("%")) or 0
    return int(value or 0)


def validate_daemon_set(obj: Object) -> list[Cause]:
    """DaemonSet."""
    spec = part(obj, "spec")
    causes = _selector_and_template(obj, "DaemonSet")
    causes += non_negative(spec, "minReadySeconds", "spec") + non_negative(spec, "revisionHistoryLimit", "spec")
    strategy, path = part(spec, "updateStrategy"), "spec.updateStrategy"
    kind = strategy.get("type") or ""
    if kind not in {"RollingUpdate", "OnDelete"}:
        return [*causes, not_supported(f"{path}.type", kind, ["RollingUpdate", "OnDelete"])]
    if kind == "OnDelete":
        return causes
    rolling, path = part(strategy, "rollingUpdate"), f"{path}.rollingUpdate"
    if not rolling:
        return [*causes, required(path)]
    unavailable, surge = rolling.get("maxUnavailable", 0), rolling.get("maxSurge", 0)
    causes += validate_int_or_percent(unavailable, f"{path}.maxUnavailable")
    causes += validate_int_or_percent(surge, f"{path}.maxSurge")
    if percent_value(unavailable) and percent_value(surge):
        text = "may not be set when maxUnavailable is non-zero"
        causes.append(invalid_value(f"{path}.maxSurge", int_or_string(surge), text))
    if not percent_value(unavailable) and not percent_value(surge):
        causes.append(required(f"{path}.maxUnavailable", "cannot be 0 when maxSurge is 0"))
    return (
        causes
        + _not_more_than_all(unavailable, f"{path}.maxUnavailable")
        + _not_more_than_all(surge, f"{path}.maxSurge")
    )


def validate_stateful_set(obj: Object) -> list[Cause]:
    """StatefulSet."""
    spec = part(obj, "spec")
    causes: list[Cause] = []
    policy = spec.get("podManagementPolicy") or ""
    if not policy:
        causes.append(required("spec.podManagementPolicy"))
    elif policy not in {"OrderedReady", "Parallel"}:
        causes.append(invalid_value("spec.podManagementPolicy", policy, "must be 'OrderedReady' or 'Parallel'"))
    strategy = part(spec, "updateStrategy")
    kind = strategy.get("type") or ""
    if not kind:
        causes.append(required("spec.updateStrategy"))
    elif kind == "OnDelete":
        if strategy.get("rollingUpdate") is not None:
            text = "only allowed for updateStrategy 'RollingUpdate'"
            causes.append(invalid_value("spec.updateStrategy.rollingUpdate", strategy["rollingUpdate"], text))
    elif kind == "RollingUpdate":
        path = "spec.updateStrategy.rollingUpdate"
        rolling = part(strategy, "rollingUpdate")
        causes += non_negative(rolling, "partition", path)
        causes += validate_int_or_percent(rolling.get("maxUnavailable"), f"{path}.maxUnavailable")
    else:
        text = "must be 'RollingUpdate' or 'OnDelete'"
        shown = go_strategy(strategy, "StatefulSetUpdateStrategy", "RollingUpdateStatefulSetStrategy")
        causes.append(invalid_value("spec.updateStrategy", shown, text))
    causes += non_negative(spec, "replicas", "spec") + non_negative(spec, "minReadySeconds", "spec")
    retention = part(spec, "persistentVolumeClaimRetentionPolicy")
    for field in ("whenDeleted", "whenScaled"):
        causes += one_of(retention, field, "spec.persistentVolumeClaimRetentionPolicy", ("Retain", "Delete"))
    causes += non_negative(part(spec, "ordinals"), "start", "spec.ordinals")
    return causes + _selector_and_template(_with_claim_volumes(obj), "StatefulSet")


def _with_claim_volumes(obj: Object) -> Object:
    """The StatefulSet with its template as the pods will have it: claim templates are volumes that may be mounted."""
    spec = part(obj, "spec")
    template = part(spec, "template")
    pod_spec = part(template, "spec")
    volumes = [volume for _, volume in objects(pod_spec, "volumes")]
    known = {volume.get("name") for volume in volumes}
    claims = [part(claim, "metadata").get("name") for _, claim in objects(spec, "volumeClaimTemplates")]
    added = [
        {"name": name, "persistentVolumeClaim": {"claimName": name}} for name in claims if name and name not in known
    ]
    if not added:
        return obj
    template = {**template, "spec": {**pod_spec, "volumes": [*volumes, *added]}}
    return {**obj, "spec": {**spec, "template": template}}


def validate_selector_update(new: Object, old: Object) -> list[Cause]:
    """The selector of a workload does not change."""
    after, before = part(new, "spec").get("selector"), part(old, "spec").get("selector")
    return [] if after == before else [invalid_value("spec.selector", label_selector(after or {}), IMMUTABLE)]


def validate_stateful_set_update(new: Object, old: Object) -> list[Cause]:
    """Only a few fields of a StatefulSet change."""
    free = {
        "replicas",
        "ordinals",
        "template",
        "updateStrategy",
        "persistentVolumeClaimRetentionPolicy",
        "minReadySeconds",
        "revisionHistoryLimit",
    }
    after, before = part(new, "spec"), part(old, "spec")
    if all(after.get(name) == before.get(name) for name in {*after, *before} - free):
        return []
    text = (
        "updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', 'updateStrategy', "
        "'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and 'minReadySeconds' are forbidden"
    )
    return [forbidden_field("spec", text)]


def validate_pod_template(obj: Object) -> list[Cause]:
    """PodTemplate."""
    return validate_template(part(obj, "template"), "template")


def validate_counts(new: Object, _: Object) -> list[Cause]:
    """The counters of a workload's status are not negative."""
    counters = (
        "replicas",
        "fullyLabeledReplicas",
        "readyReplicas",
        "availableReplicas",
        "updatedReplicas",
        "unavailableReplicas",
        "currentReplicas",
        "observedGeneration",
        "collisionCount",
    )
    status = part(new, "status")
    causes = [cause for name in counters for cause in non_negative(status, name, "status")]
    total = status.get("replicas") or 0
    for name in ("fullyLabeledReplicas", "readyReplicas", "availableReplicas", "updatedReplicas"):
        value = status.get(name) or 0
        if value > total:
            causes.append(invalid_value(f"status.{name}", value, "cannot be greater than status.replicas"))
    ready, available = status.get("readyReplicas") or 0, status.get("availableReplicas") or 0
    if available > ready:
        causes.append(invalid_value("status.availableReplicas", available, "cannot be greater than readyReplicas"))
    return causes


def validate_revision_update(new: Object, old: Object) -> list[Cause]:
    """The data of a ControllerRevision does not change."""
    if new.get("data") == old.get("data"):
        return []
    return [invalid_value("data", new.get("data"), IMMUTABLE)]


def validate_revision(obj: Object) -> list[Cause]:
    """ControllerRevision."""
    causes = [] if obj.get("data") is not None else [required("data", "data is mandatory")]
    if (obj.get("revision") or 0) < 0:
        causes.append(invalid_value("revision", obj["revision"], "must be greater than or equal to 0"))
    return causes


def cron_job_name(name: str) -> list[str]:
    """A CronJob's name leaves room for the eleven characters of its Jobs' names."""
    messages = names.dns1123_subdomain(name)
    return messages + (["must be no more than 52 characters"] if len(name) > 52 else [])


def validate_budget(obj: Object) -> list[Cause]:
    """PodDisruptionBudget."""
    spec = part(obj, "spec")
    low, high = spec.get("minAvailable"), spec.get("maxUnavailable")
    causes: list[Cause] = []
    if low is not None and high is not None:
        causes.append(invalid_value("spec", spec, "minAvailable and maxUnavailable cannot be both set"))
    for field, value in (("minAvailable", low), ("maxUnavailable", high)):
        causes += validate_int_or_percent(value, f"spec.{field}") + _not_more_than_all(value, f"spec.{field}")
    causes += validate_label_selector(spec.get("selector"), "spec.selector")
    return causes + one_of(spec, "unhealthyPodEvictionPolicy", "spec", ("AlwaysAllow", "IfHealthyBudget"))


def validate_scale(obj: Object) -> list[Cause]:
    """Scale."""
    return non_negative(part(obj, "spec"), "replicas", "spec")


def validate_autoscaler(obj: Object) -> list[Cause]:
    """HorizontalPodAutoscaler, both versions."""
    spec = part(obj, "spec")
    causes: list[Cause] = []
    low, high = spec.get("minReplicas"), spec.get("maxReplicas") or 0
    if low is not None and low < 1:
        causes.append(invalid_value("spec.minReplicas", low, "must be greater than or equal to 1"))
    if high < 1:
        causes.append(invalid_value("spec.maxReplicas", high, "must be greater than 0"))
    if low is not None and high < low:
        text = "must be greater than or equal to `minReplicas`"
        causes.append(invalid_value("spec.maxReplicas", high, text))
    target = part(spec, "scaleTargetRef")
    for field in ("kind", "name"):
        value = target.get(field) or ""
        if not value:
            causes.append(required(f"spec.scaleTargetRef.{field}"))
        else:
            causes += [invalid_value(f"spec.scaleTargetRef.{field}", value, m) for m in names.path_segment(value)]
    percent = spec.get("targetCPUUtilizationPercentage")
    if percent is not None and percent < 1:
        causes.append(invalid_value("spec.targetCPUUtilizationPercentage", percent, "must be greater than 0"))
    kinds = ("ContainerResource", "External", "Object", "Pods", "Resource")
    for index, metric in objects(spec, "metrics"):
        path = f"spec.metrics[{index}]"
        causes += one_of(metric, "type", path, kinds, must=True)
        source = part(metric, (metric.get("type") or " ")[0].lower() + (metric.get("type") or " ")[1:])
        if metric.get("type") in kinds and not source:
            field = metric["type"][0].lower() + metric["type"][1:]
            causes.append(required(f"{path}.{field}", "must populate information for the given metric source"))
    return causes
