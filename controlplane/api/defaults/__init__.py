"""Static defaulting: the fields a writer left out get the values upstream gives them, kind by kind.

Rule: pure, and idempotent: `apply_defaults` on its own result changes nothing. What depends on other objects (the service
account, a priority, an address, a node port) is admission's or the allocators' work, in the API server.
Source: Kubernetes API reference 1.32.
"""

from __future__ import annotations

from collections.abc import Callable

from podnet.controlplane.api.defaults import cluster, network, pods, storage, workloads
from podnet.controlplane.api.defaults.fill import JSONObject
from podnet.controlplane.api.defaults.service_type import drop_type_fields
from podnet.controlplane.api.types import Object, Resource

__all__ = ["apply_defaults", "defaulted_kinds", "drop_type_fields"]

_DEFAULTS: dict[tuple[str, str], Callable[[JSONObject], None]] = {
    ("v1", "Pod"): pods.default_pod,
    ("v1", "PodTemplate"): workloads.default_pod_template,
    ("v1", "ReplicationController"): workloads.default_replication_controller,
    ("v1", "Service"): network.default_service,
    ("v1", "Endpoints"): network.default_endpoints,
    ("v1", "Namespace"): cluster.default_namespace,
    ("v1", "Node"): cluster.default_node,
    ("v1", "Secret"): cluster.default_secret,
    ("v1", "LimitRange"): cluster.default_limit_range,
    ("v1", "ResourceQuota"): cluster.default_resource_quota,
    ("v1", "PersistentVolume"): storage.default_volume_object,
    ("v1", "PersistentVolumeClaim"): storage.default_claim,
    ("apps/v1", "Deployment"): workloads.default_deployment,
    ("apps/v1", "ReplicaSet"): workloads.default_replica_set,
    ("apps/v1", "DaemonSet"): workloads.default_daemon_set,
    ("apps/v1", "StatefulSet"): workloads.default_stateful_set,
    ("batch/v1", "Job"): workloads.default_job,
    ("batch/v1", "CronJob"): workloads.default_cron_job,
    ("autoscaling/v2", "HorizontalPodAutoscaler"): workloads.default_autoscaler,
    ("autoscaling/v1", "HorizontalPodAutoscaler"): workloads.default_autoscaler_v1,
    ("networking.k8s.io/v1", "NetworkPolicy"): network.default_network_policy,
    ("networking.k8s.io/v1", "IngressClass"): network.default_ingress_class,
    ("discovery.k8s.io/v1", "EndpointSlice"): network.default_endpoint_slice,
    ("storage.k8s.io/v1", "StorageClass"): storage.default_storage_class,
    ("storage.k8s.io/v1", "CSIDriver"): storage.default_csi_driver,
    ("storage.k8s.io/v1", "CSIStorageCapacity"): storage.default_csi_storage_capacity,
    ("rbac.authorization.k8s.io/v1", "RoleBinding"): cluster.default_binding,
    ("rbac.authorization.k8s.io/v1", "ClusterRoleBinding"): cluster.default_binding,
    ("scheduling.k8s.io/v1", "PriorityClass"): cluster.default_priority_class,
    ("authentication.k8s.io/v1", "TokenRequest"): cluster.default_token_request,
    ("admissionregistration.k8s.io/v1", "ValidatingWebhookConfiguration"): cluster.default_webhooks,
    ("admissionregistration.k8s.io/v1", "MutatingWebhookConfiguration"): cluster.default_webhooks,
    ("admissionregistration.k8s.io/v1", "ValidatingAdmissionPolicy"): cluster.default_admission_policy,
    ("admissionregistration.k8s.io/v1", "ValidatingAdmissionPolicyBinding"): cluster.default_admission_policy_binding,
    ("flowcontrol.apiserver.k8s.io/v1", "FlowSchema"): cluster.default_flow_schema,
    ("flowcontrol.apiserver.k8s.io/v1", "PriorityLevelConfiguration"): cluster.default_priority_level,
    ("apiextensions.k8s.io/v1", "CustomResourceDefinition"): cluster.default_definition,
    ("apiregistration.k8s.io/v1", "APIService"): cluster.default_api_service,
}


def apply_defaults(obj: Object, resource: Resource) -> Object:
    """Fill `obj` in place and return it. A kind without defaults comes back as it is."""
    apply = _DEFAULTS.get((resource.api_version, resource.kind))
    if apply is not None:
        apply(obj)
    return obj


def defaulted_kinds() -> list[tuple[str, str]]:
    """(apiVersion, kind) of every kind that has defaults."""
    return sorted(_DEFAULTS)
