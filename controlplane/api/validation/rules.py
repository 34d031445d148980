"""Which validators a kind has: one row a kind.

A kind without a row has its metadata checked, and its types by the schema; no more is known to be wrong about it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from podnet.controlplane.api import names
from podnet.controlplane.api.errors import Cause
from podnet.controlplane.api.types import Object
from podnet.controlplane.api.validation import (
    access,
    addresses,
    batch,
    cluster,
    network,
    pods,
    quota,
    services,
    storage,
    workloads,
)
from podnet.controlplane.api.validation.metadata import NameRule

Create = Callable[[Object], list[Cause]]
Update = Callable[[Object, Object], list[Cause]]


@dataclass(frozen=True, slots=True)
class Rules:
    """The validators of one kind.

    `create` checks an object by itself, and also what an update leads to unless `update_replaces_create`: then `update`
    checks all. `subresources` holds the checks of `/status` and the like."""

    create: Create | None = None
    update: Update | None = None
    name: NameRule = names.dns1123_subdomain
    update_replaces_create: bool = False
    no_metadata: bool = False
    subresources: Mapping[str, Update] = field(default_factory=dict)


def _any_name(_: str) -> list[str]:
    """Kinds whose own rule says what their name must be."""
    return []


def _review(create: Create | None = None) -> Rules:
    """A kind that is answered, never stored: its metadata says nothing."""
    return Rules(create, no_metadata=True)


_COUNTS: Mapping[str, Update] = {"status": workloads.validate_counts}
_RBAC = "rbac.authorization.k8s.io/v1"
_ADMISSION = "admissionregistration.k8s.io/v1"

RULES: dict[tuple[str, str], Rules] = {
    ("v1", "Pod"): Rules(
        pods.validate_pod,
        pods.validate_pod_update,
        update_replaces_create=True,
        subresources={
            "status": pods.validate_pod_status_update,
            "ephemeralcontainers": pods.validate_ephemeral_update,
        },
    ),
    ("v1", "PodTemplate"): Rules(workloads.validate_pod_template),
    ("v1", "ReplicationController"): Rules(workloads.validate_replication_controller, subresources=_COUNTS),
    ("v1", "Service"): Rules(
        services.validate_service,
        services.validate_service_update,
        names.dns1035_label,
        subresources={"status": services.validate_service_status},
    ),
    ("v1", "Endpoints"): Rules(network.validate_endpoints),
    ("v1", "Namespace"): Rules(name=names.dns1123_label, subresources={"status": cluster.validate_namespace_status}),
    ("v1", "Node"): Rules(
        cluster.validate_node, cluster.validate_node_update, subresources={"status": cluster.validate_node_status}
    ),
    ("v1", "ConfigMap"): Rules(cluster.validate_config_map, cluster.validate_frozen),
    ("v1", "Secret"): Rules(cluster.validate_secret, cluster.validate_secret_update),
    ("v1", "ServiceAccount"): Rules(),
    ("v1", "Event"): Rules(cluster.validate_event),
    ("v1", "Binding"): Rules(cluster.validate_binding),
    ("v1", "LimitRange"): Rules(quota.validate_limit_range),
    ("v1", "ResourceQuota"): Rules(quota.validate_quota, quota.validate_quota_update),
    ("v1", "PersistentVolume"): Rules(storage.validate_volume, storage.validate_volume_update),
    ("v1", "PersistentVolumeClaim"): Rules(storage.validate_claim, storage.validate_claim_update),
    ("apps/v1", "Deployment"): Rules(
        workloads.validate_deployment, workloads.validate_selector_update, subresources=_COUNTS
    ),
    ("apps/v1", "ReplicaSet"): Rules(
        workloads.validate_replica_set, workloads.validate_selector_update, subresources=_COUNTS
    ),
    ("apps/v1", "DaemonSet"): Rules(workloads.validate_daemon_set, workloads.validate_selector_update),
    ("apps/v1", "StatefulSet"): Rules(workloads.validate_stateful_set, workloads.validate_stateful_set_update),
    ("apps/v1", "ControllerRevision"): Rules(workloads.validate_revision, workloads.validate_revision_update),
    ("batch/v1", "Job"): Rules(batch.validate_job, batch.validate_job_update),
    ("batch/v1", "CronJob"): Rules(
        batch.validate_cron_job,
        batch.validate_cron_job_update,
        name=workloads.cron_job_name,
        update_replaces_create=True,
    ),
    ("autoscaling/v1", "HorizontalPodAutoscaler"): Rules(workloads.validate_autoscaler),
    ("autoscaling/v2", "HorizontalPodAutoscaler"): Rules(workloads.validate_autoscaler),
    ("autoscaling/v1", "Scale"): Rules(workloads.validate_scale),
    ("policy/v1", "PodDisruptionBudget"): Rules(workloads.validate_budget),
    ("networking.k8s.io/v1", "NetworkPolicy"): Rules(network.validate_network_policy),
    ("networking.k8s.io/v1", "Ingress"): Rules(network.validate_ingress),
    ("networking.k8s.io/v1", "IngressClass"): Rules(
        network.validate_ingress_class, network.validate_ingress_class_update
    ),
    ("networking.k8s.io/v1beta1", "IPAddress"): Rules(
        addresses.validate_ip_address, addresses.validate_ip_address_update, addresses.ip_address_name
    ),
    ("networking.k8s.io/v1beta1", "ServiceCIDR"): Rules(
        addresses.validate_service_cidr, addresses.validate_service_cidr_update
    ),
    ("discovery.k8s.io/v1", "EndpointSlice"): Rules(
        network.validate_endpoint_slice, network.validate_endpoint_slice_update
    ),
    ("coordination.k8s.io/v1", "Lease"): Rules(cluster.validate_lease),
    ("events.k8s.io/v1", "Event"): Rules(cluster.validate_event_v1),
    ("scheduling.k8s.io/v1", "PriorityClass"): Rules(
        cluster.validate_priority_class, cluster.validate_priority_class_update
    ),
    ("node.k8s.io/v1", "RuntimeClass"): Rules(cluster.validate_runtime_class, cluster.validate_runtime_class_update),
    ("storage.k8s.io/v1", "StorageClass"): Rules(storage.validate_storage_class, storage.validate_storage_class_update),
    ("storage.k8s.io/v1", "CSIDriver"): Rules(storage.validate_csi_driver),
    ("storage.k8s.io/v1", "CSINode"): Rules(storage.validate_csi_node),
    ("storage.k8s.io/v1", "CSIStorageCapacity"): Rules(storage.validate_csi_capacity),
    ("storage.k8s.io/v1", "VolumeAttachment"): Rules(storage.validate_attachment, storage.validate_attachment_update),
    (_RBAC, "Role"): Rules(access.validate_role, name=names.path_segment),
    (_RBAC, "ClusterRole"): Rules(access.validate_cluster_role, name=names.path_segment),
    (_RBAC, "RoleBinding"): Rules(access.validate_role_binding, access.validate_role_ref_update, names.path_segment),
    (_RBAC, "ClusterRoleBinding"): Rules(
        access.validate_cluster_role_binding, access.validate_role_ref_update, names.path_segment
    ),
    ("certificates.k8s.io/v1", "CertificateSigningRequest"): Rules(
        access.validate_signing_request, access.validate_signing_request_update
    ),
    ("authentication.k8s.io/v1", "TokenRequest"): _review(access.validate_token_request),
    ("authentication.k8s.io/v1", "TokenReview"): _review(access.validate_token_review),
    ("authentication.k8s.io/v1", "SelfSubjectReview"): _review(),
    ("authorization.k8s.io/v1", "SubjectAccessReview"): _review(access.validate_access_review),
    ("authorization.k8s.io/v1", "LocalSubjectAccessReview"): _review(access.validate_access_review),
    ("authorization.k8s.io/v1", "SelfSubjectAccessReview"): _review(access.validate_self_access_review),
    ("authorization.k8s.io/v1", "SelfSubjectRulesReview"): _review(),
    (_ADMISSION, "ValidatingWebhookConfiguration"): Rules(access.validate_webhooks),
    (_ADMISSION, "MutatingWebhookConfiguration"): Rules(access.validate_webhooks),
    (_ADMISSION, "ValidatingAdmissionPolicy"): Rules(access.validate_admission_policy),
    (_ADMISSION, "ValidatingAdmissionPolicyBinding"): Rules(access.validate_admission_policy_binding),
    ("flowcontrol.apiserver.k8s.io/v1", "FlowSchema"): Rules(access.validate_flow_schema),
    ("flowcontrol.apiserver.k8s.io/v1", "PriorityLevelConfiguration"): Rules(access.validate_priority_level),
    ("apiextensions.k8s.io/v1", "CustomResourceDefinition"): Rules(
        access.validate_definition, access.validate_definition_update, _any_name
    ),
    ("apiregistration.k8s.io/v1", "APIService"): Rules(access.validate_api_service, name=_any_name),
}
