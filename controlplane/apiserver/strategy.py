"""What each resource does differently when it is written: generation, status isolation, unconditional updates.

The pure half of a registry: `prepare_create` and `prepare_update` turn what a client sent into what may be stored,
with nothing but the old object in hand. Source: pkg/registry/*/strategy.go of Kubernetes 1.32.
"""

from __future__ import annotations

from typing import Any

from podnet.controlplane.api.defaults import drop_type_fields
from podnet.controlplane.api.types import Object, Resource

_GENERATION = """
deployments.apps replicasets.apps daemonsets.apps statefulsets.apps replicationcontrollers jobs.batch cronjobs.batch
customresourcedefinitions.apiextensions.k8s.io networkpolicies.networking.k8s.io poddisruptionbudgets.policy
ingresses.networking.k8s.io ingressclasses.networking.k8s.io endpointslices.discovery.k8s.io
priorityclasses.scheduling.k8s.io validatingadmissionpolicies.admissionregistration.k8s.io
validatingadmissionpolicybindings.admissionregistration.k8s.io
validatingwebhookconfigurations.admissionregistration.k8s.io
mutatingwebhookconfigurations.admissionregistration.k8s.io flowschemas.flowcontrol.apiserver.k8s.io
prioritylevelconfigurations.flowcontrol.apiserver.k8s.io
"""
WITH_GENERATION = frozenset(_GENERATION.split())
"""Kinds whose metadata.generation counts changes of the desired state (Pod, Service, Node… have none in 1.32)."""

CREATE_ON_UPDATE = frozenset(
    [
        "leases.coordination.k8s.io",
        "events",
        "events.events.k8s.io",
        "endpoints",
        "limitranges",
        "services",
        "roles.rbac.authorization.k8s.io",
        "rolebindings.rbac.authorization.k8s.io",
        "clusterroles.rbac.authorization.k8s.io",
        "clusterrolebindings.rbac.authorization.k8s.io",
    ]
)
"""PUT of a name that is not there creates it."""

NEEDS_RESOURCE_VERSION = frozenset(
    [
        "leases.coordination.k8s.io",
        "poddisruptionbudgets.policy",
        "customresourcedefinitions.apiextensions.k8s.io",
        "apiservices.apiregistration.k8s.io",
        "runtimeclasses.node.k8s.io",
        "volumeattachments.storage.k8s.io",
        "csidrivers.storage.k8s.io",
        "csinodes.storage.k8s.io",
        "validatingwebhookconfigurations.admissionregistration.k8s.io",
        "mutatingwebhookconfigurations.admissionregistration.k8s.io",
        "validatingadmissionpolicies.admissionregistration.k8s.io",
        "validatingadmissionpolicybindings.admissionregistration.k8s.io",
    ]
)
"""PUT without resourceVersion is refused: an update must say what it has seen."""

RETURNS_DELETED_OBJECT = frozenset(
    [
        "pods",
        "podtemplates",
        "persistentvolumes",
        "persistentvolumeclaims",
        "resourcequotas",
        "serviceaccounts",
        "services",
        "storageclasses.storage.k8s.io",
        "volumeattachments.storage.k8s.io",
        "csinodes.storage.k8s.io",
    ]
)
"""An immediate DELETE answers with the object instead of a Status."""

KEEPS_STATUS_ON_CREATE = frozenset({"nodes", "apiservices.apiregistration.k8s.io"})
"""A kubelet registers its node with status filled in; the rest start with none."""

_INITIAL_STATUS: dict[str, dict[str, Any]] = {
    "namespaces": {"phase": "Active"},
    "persistentvolumes": {"phase": "Pending"},
    "persistentvolumeclaims": {"phase": "Pending"},
    "services": {"loadBalancer": {}},
    "deployments.apps": {},
    "replicasets.apps": {"replicas": 0},
    "replicationcontrollers": {"replicas": 0},
    "statefulsets.apps": {"replicas": 0, "availableReplicas": 0},
    "daemonsets.apps": {
        "currentNumberScheduled": 0,
        "numberMisscheduled": 0,
        "desiredNumberScheduled": 0,
        "numberReady": 0,
    },
    "ingresses.networking.k8s.io": {"loadBalancer": {}},
    "horizontalpodautoscalers.autoscaling": {"desiredReplicas": 0},
    "poddisruptionbudgets.policy": {
        "disruptionsAllowed": 0,
        "currentHealthy": 0,
        "desiredHealthy": 0,
        "expectedPods": 0,
    },
}

_TEMPLATE_GENERATION = "deprecated.daemonset.template.generation"
_STATUS_MAY_RELABEL = frozenset({"pods", "nodes"})
_SYSTEM_METADATA = (
    "uid",
    "creationTimestamp",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
    "generation",
    "generateName",
    "selfLink",
)


def has_status(resource: Resource) -> bool:
    """Whether status is written through `/status` only."""
    return "status" in resource.subresources


def prepare_create(obj: Object, resource: Resource) -> None:
    """Drop what a client may not say at creation and begin the counters, in place."""
    name = resource.qualified_name
    if has_status(resource) and name not in KEEPS_STATUS_ON_CREATE:
        status = initial_status(obj, resource)
        if status is None:
            obj.pop("status", None)
        else:
            obj["status"] = status
    if name in WITH_GENERATION:
        obj["metadata"]["generation"] = 1
    else:
        obj["metadata"].pop("generation", None)
    if name == "jobs.batch":
        _select_by_uid(obj)
    if name == "daemonsets.apps":
        _set_template_generation(obj, 1)
    if name == "statefulsets.apps":
        _drop_max_unavailable(obj)
    if name == "namespaces":
        finalizers = obj.setdefault("spec", {}).setdefault("finalizers", [])
        if "kubernetes" not in finalizers:
            finalizers.append("kubernetes")


def _set_template_generation(daemon_set: Object, number: int) -> None:
    """A DaemonSet's template is counted apart, in an annotation that was a field once."""
    annotations = daemon_set["metadata"].setdefault("annotations", {}) or {}
    daemon_set["metadata"]["annotations"] = {**annotations, _TEMPLATE_GENERATION: str(number)}


def _drop_max_unavailable(stateful_set: Object) -> None:
    """Behind the gate MaxUnavailableStatefulSet, which is closed in 1.32: nobody is to find it kept and not obeyed."""
    strategy = (stateful_set.get("spec") or {}).get("updateStrategy")
    rolling = strategy.get("rollingUpdate") if isinstance(strategy, dict) else None
    if isinstance(rolling, dict):
        rolling.pop("maxUnavailable", None)


def _select_by_uid(job: Object) -> None:
    """A Job's pods are its own by its uid, unless its author selects by hand. What is there stays: that a copy of another
    Job has the other's uid is for validation to say."""
    spec, metadata = job.get("spec") or {}, job["metadata"]
    template = spec.get("template")
    if spec.get("manualSelector") or not isinstance(template, dict):
        return
    labels = template.setdefault("metadata", {}).setdefault("labels", {})
    for prefix in ("", "batch.kubernetes.io/"):
        labels.setdefault(f"{prefix}job-name", metadata["name"])
        labels.setdefault(f"{prefix}controller-uid", metadata["uid"])
    selector = spec.setdefault("selector", {})
    selector.setdefault("matchLabels", {}).setdefault("batch.kubernetes.io/controller-uid", metadata["uid"])


_GATED = {
    "type": "PodScheduled",
    "status": "False",
    "reason": "SchedulingGated",
    "message": "Scheduling is blocked due to non-empty scheduling gates",
    "lastProbeTime": None,
    "lastTransitionTime": None,
}


def initial_status(obj: Object, resource: Resource) -> dict[str, Any] | None:
    """The status an object is born with, None for no status field at all."""
    name = resource.qualified_name
    if name == "pods":
        status: dict[str, Any] = {"phase": "Pending", "qosClass": qos_class(obj.get("spec") or {})}
        if (obj.get("spec") or {}).get("schedulingGates"):
            status["conditions"] = [dict(_GATED)]
        return status
    initial = _INITIAL_STATUS.get(name)
    if name == "horizontalpodautoscalers.autoscaling" and resource.version == "v1":
        return {"currentReplicas": 0, "desiredReplicas": 0}
    return dict(initial) if initial is not None else ({} if name.endswith((".batch", ".k8s.io")) else None)


def prepare_update(new: Object, old: Object, resource: Resource, subresource: str) -> None:
    """Carry over from `old` what this path may not change, and count the generation, in place."""
    _keep_system_metadata(new, old)
    if subresource in {"status", "approval"}:
        _keep_all_but_status(new, old, resource)
    elif has_status(resource) and subresource != "binding":
        _restore(new, old, "status")
    if resource.qualified_name == "pods":
        _keep_ephemeral_containers_apart(new, old, subresource)
    if resource.qualified_name == "services" and not subresource:
        drop_type_fields(new, old)
    if resource.qualified_name == "namespaces" and subresource != "finalize":
        _restore_namespace_finalizers(new, old)
    if resource.qualified_name == "daemonsets.apps":
        before = int((old["metadata"].get("annotations") or {}).get(_TEMPLATE_GENERATION) or 0)
        same = (new.get("spec") or {}).get("template") == (old.get("spec") or {}).get("template")
        _set_template_generation(new, before if same else before + 1)
    if resource.qualified_name == "statefulsets.apps" and not subresource:
        _drop_max_unavailable(new)
    if resource.qualified_name in WITH_GENERATION and desired_state(new) != desired_state(old):
        new["metadata"]["generation"] = int(old["metadata"].get("generation") or 0) + 1


def desired_state(obj: Object) -> dict[str, Any]:
    """What generation counts changes of: everything but metadata and status."""
    return {key: value for key, value in obj.items() if key not in {"metadata", "status", "apiVersion", "kind"}}


def _keep_system_metadata(new: Object, old: Object) -> None:
    for field in _SYSTEM_METADATA:
        if field in old["metadata"]:
            new["metadata"][field] = old["metadata"][field]
        else:
            new["metadata"].pop(field, None)
    new["metadata"].pop("managedFields", None)


def _keep_all_but_status(new: Object, old: Object, resource: Resource) -> None:
    for field in [key for key in new if key not in {"metadata", "status", "apiVersion", "kind"}]:
        if field not in old:
            del new[field]
    for field, value in old.items():
        if field not in {"metadata", "status"}:
            new[field] = value
    kept = {"annotations"} | ({"labels"} if resource.qualified_name in _STATUS_MAY_RELABEL else set())
    for field in ("labels", "annotations", "finalizers", "ownerReferences"):
        if field not in kept:
            _restore(new["metadata"], old["metadata"], field)


def _restore(new: dict[str, Any], old: dict[str, Any], field: str) -> None:
    if field in old:
        new[field] = old[field]
    else:
        new.pop(field, None)


def _restore_namespace_finalizers(new: Object, old: Object) -> None:
    finalizers = (old.get("spec") or {}).get("finalizers")
    spec = new.get("spec")
    if not isinstance(spec, dict):
        spec = new["spec"] = {}
    if finalizers is None:
        spec.pop("finalizers", None)
    else:
        spec["finalizers"] = finalizers


def _keep_ephemeral_containers_apart(new: Object, old: Object, subresource: str) -> None:
    """`/ephemeralcontainers` changes these and nothing else, every other path anything but these."""
    if subresource == "ephemeralcontainers":
        containers = (new.get("spec") or {}).get("ephemeralContainers")
        new["spec"] = {**old["spec"], "ephemeralContainers": containers}
        if containers is None:
            del new["spec"]["ephemeralContainers"]
    elif isinstance(new.get("spec"), dict):
        _restore(new["spec"], old["spec"], "ephemeralContainers")


def qos_class(spec: dict[str, Any]) -> str:
    """Guaranteed, Burstable or BestEffort, from the containers' cpu and memory (kubelet's qos.GetPodQOS)."""
    containers = [*(spec.get("initContainers") or []), *(spec.get("containers") or [])]
    any_set, guaranteed = False, True
    for container in containers:
        resources = container.get("resources") or {}
        requests, limits = resources.get("requests") or {}, resources.get("limits") or {}
        for name in ("cpu", "memory"):
            request, limit = requests.get(name), limits.get(name)
            any_set = any_set or _positive(request) or _positive(limit)
            if not _positive(limit) or (request is not None and str(request) != str(limit)):
                guaranteed = False
    if not any_set:
        return "BestEffort"
    return "Guaranteed" if guaranteed else "Burstable"


def _positive(quantity: object) -> bool:
    return quantity is not None and str(quantity).strip("0.") not in {"", "m"}
