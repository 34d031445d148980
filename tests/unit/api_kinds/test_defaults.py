"""Static defaults, kind by kind: what goes in, and all that is there afterwards."""

from __future__ import annotations

import copy
from dataclasses import dataclass

import pytest

from podnet.controlplane.api import resources
from podnet.controlplane.api.defaults import apply_defaults, defaulted_kinds
from podnet.controlplane.api.defaults.volumes import pull_policy
from podnet.controlplane.api.types import Object

BOX: Object = {"name": "c", "image": "nginx:1.27"}
BOX_DEFAULTED: Object = {
    "name": "c",
    "image": "nginx:1.27",
    "imagePullPolicy": "IfNotPresent",
    "terminationMessagePath": "/dev/termination-log",
    "terminationMessagePolicy": "File",
    "resources": {},
}
SPEC_DEFAULTED: Object = {
    "containers": [BOX_DEFAULTED],
    "restartPolicy": "Always",
    "dnsPolicy": "ClusterFirst",
    "schedulerName": "default-scheduler",
    "terminationGracePeriodSeconds": 30,
    "securityContext": {},
}
TEMPLATE: Object = {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [BOX]}}
TEMPLATE_DEFAULTED: Object = {"metadata": {"labels": {"a": "b"}}, "spec": SPEC_DEFAULTED}
RBAC = "rbac.authorization.k8s.io"


@dataclass(frozen=True)
class Golden:
    """An object without its kind, and what it is with defaults."""

    id: str
    kind: str
    before: Object
    after: Object


GOLDENS = [
    Golden("pod", "v1/Pod", {"spec": {"containers": [BOX]}}, {"spec": {**SPEC_DEFAULTED, "enableServiceLinks": True}}),
    Golden("deployment", "apps/v1/Deployment", {"spec": {"template": TEMPLATE}}, {"spec": {"template": TEMPLATE_DEFAULTED, "replicas": 1, "revisionHistoryLimit": 10, "progressDeadlineSeconds": 600, "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": "25%", "maxSurge": "25%"}}}}),
    Golden("deployment-recreate", "apps/v1/Deployment", {"spec": {"replicas": 0, "strategy": {"type": "Recreate"}, "template": TEMPLATE}}, {"spec": {"template": TEMPLATE_DEFAULTED, "replicas": 0, "revisionHistoryLimit": 10, "progressDeadlineSeconds": 600, "strategy": {"type": "Recreate"}}}),
    Golden("deployment-half-strategy", "apps/v1/Deployment", {"spec": {"strategy": {"rollingUpdate": {"maxSurge": 2}}, "template": TEMPLATE}}, {"spec": {"template": TEMPLATE_DEFAULTED, "replicas": 1, "revisionHistoryLimit": 10, "progressDeadlineSeconds": 600, "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": "25%", "maxSurge": 2}}}}),
    Golden("replicaset", "apps/v1/ReplicaSet", {"spec": {"template": TEMPLATE}}, {"spec": {"template": TEMPLATE_DEFAULTED, "replicas": 1}}),
    Golden("replicationcontroller", "v1/ReplicationController", {"spec": {"template": TEMPLATE}}, {"metadata": {"labels": {"a": "b"}}, "spec": {"template": TEMPLATE_DEFAULTED, "replicas": 1, "selector": {"a": "b"}}}),
    Golden("daemonset", "apps/v1/DaemonSet", {"spec": {"template": TEMPLATE}}, {"spec": {"template": TEMPLATE_DEFAULTED, "revisionHistoryLimit": 10, "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 1, "maxSurge": 0}}}}),
    Golden("daemonset-ondelete", "apps/v1/DaemonSet", {"spec": {"template": TEMPLATE, "updateStrategy": {"type": "OnDelete"}}}, {"spec": {"template": TEMPLATE_DEFAULTED, "revisionHistoryLimit": 10, "updateStrategy": {"type": "OnDelete"}}}),
    Golden("statefulset", "apps/v1/StatefulSet", {"spec": {"template": TEMPLATE, "volumeClaimTemplates": [{"metadata": {"name": "v"}}]}}, {"spec": {"template": TEMPLATE_DEFAULTED, "replicas": 1, "revisionHistoryLimit": 10, "podManagementPolicy": "OrderedReady", "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"partition": 0}}, "persistentVolumeClaimRetentionPolicy": {"whenDeleted": "Retain", "whenScaled": "Retain"}, "volumeClaimTemplates": [{"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "v"}, "spec": {"volumeMode": "Filesystem", "resources": {}}, "status": {"phase": "Pending"}}]}}),
    Golden("podtemplate", "v1/PodTemplate", {"template": TEMPLATE}, {"template": TEMPLATE_DEFAULTED}),
    Golden("job", "batch/v1/Job", {"spec": {"template": TEMPLATE}}, {"metadata": {"labels": {"a": "b"}}, "spec": {"template": TEMPLATE_DEFAULTED, "completions": 1, "parallelism": 1, "backoffLimit": 6, "completionMode": "NonIndexed", "suspend": False, "podReplacementPolicy": "TerminatingOrFailed"}}),
    Golden("job-queue", "batch/v1/Job", {"metadata": {"labels": {"x": "y"}}, "spec": {"parallelism": 3, "template": TEMPLATE}}, {"metadata": {"labels": {"x": "y"}}, "spec": {"template": TEMPLATE_DEFAULTED, "parallelism": 3, "backoffLimit": 6, "completionMode": "NonIndexed", "suspend": False, "podReplacementPolicy": "TerminatingOrFailed"}}),
    Golden("cronjob", "batch/v1/CronJob", {"spec": {"jobTemplate": {"spec": {"template": TEMPLATE}}}}, {"spec": {"jobTemplate": {"metadata": {}, "spec": {"template": TEMPLATE_DEFAULTED}}, "concurrencyPolicy": "Allow", "suspend": False, "successfulJobsHistoryLimit": 3, "failedJobsHistoryLimit": 1}}),
    Golden("service", "v1/Service", {"spec": {"ports": [{"port": 80}, {"port": 53, "protocol": "UDP", "targetPort": "dns"}]}}, {"spec": {"ports": [{"port": 80, "protocol": "TCP", "targetPort": 80}, {"port": 53, "protocol": "UDP", "targetPort": "dns"}], "type": "ClusterIP", "sessionAffinity": "None", "internalTrafficPolicy": "Cluster"}}),
    Golden("service-affinity", "v1/Service", {"spec": {"sessionAffinity": "ClientIP"}}, {"spec": {"type": "ClusterIP", "sessionAffinity": "ClientIP", "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 10800}}, "internalTrafficPolicy": "Cluster"}}),
    Golden("service-nodeport", "v1/Service", {"spec": {"type": "NodePort"}}, {"spec": {"type": "NodePort", "sessionAffinity": "None", "externalTrafficPolicy": "Cluster", "internalTrafficPolicy": "Cluster"}}),
    Golden("service-loadbalancer", "v1/Service", {"spec": {"type": "LoadBalancer", "externalTrafficPolicy": "Local"}}, {"spec": {"type": "LoadBalancer", "sessionAffinity": "None", "externalTrafficPolicy": "Local", "internalTrafficPolicy": "Cluster", "allocateLoadBalancerNodePorts": True}}),
    Golden("service-externalname", "v1/Service", {"spec": {"type": "ExternalName", "externalName": "a.b"}}, {"spec": {"type": "ExternalName", "externalName": "a.b", "sessionAffinity": "None"}}),
    Golden("service-headless", "v1/Service", {"spec": {"clusterIP": "None", "selector": {"a": "b"}}}, {"spec": {"clusterIP": "None", "clusterIPs": ["None"], "selector": {"a": "b"}, "type": "ClusterIP", "sessionAffinity": "None", "internalTrafficPolicy": "Cluster"}}),
    Golden("service-headless-without-selector", "v1/Service", {"spec": {"clusterIP": "None"}}, {"spec": {"clusterIP": "None", "clusterIPs": ["None"], "type": "ClusterIP", "sessionAffinity": "None", "internalTrafficPolicy": "Cluster"}}),
    Golden("service-v6", "v1/Service", {"spec": {"clusterIP": "fd00::1"}}, {"spec": {"clusterIP": "fd00::1", "clusterIPs": ["fd00::1"], "type": "ClusterIP", "sessionAffinity": "None", "internalTrafficPolicy": "Cluster"}}),
    Golden("endpoints", "v1/Endpoints", {"subsets": [{"ports": [{"port": 1}]}]}, {"subsets": [{"ports": [{"port": 1, "protocol": "TCP"}]}]}),
    Golden("endpointslice", "discovery.k8s.io/v1/EndpointSlice", {"ports": [{"port": 1}, {"name": "x", "protocol": "UDP"}]}, {"ports": [{"port": 1, "name": "", "protocol": "TCP"}, {"name": "x", "protocol": "UDP"}]}),
    Golden("namespace", "v1/Namespace", {"metadata": {"name": "a"}}, {"metadata": {"name": "a", "labels": {"kubernetes.io/metadata.name": "a"}}, "status": {"phase": "Active"}}),
    Golden("namespace-lies-about-its-name", "v1/Namespace", {"metadata": {"name": "a", "labels": {"kubernetes.io/metadata.name": "b"}}}, {"metadata": {"name": "a", "labels": {"kubernetes.io/metadata.name": "a"}}, "status": {"phase": "Active"}}),
    Golden("node", "v1/Node", {"spec": {"podCIDR": "10.0.0.0/24"}, "status": {"capacity": {"cpu": "2", "memory": "1024Mi"}}}, {"spec": {"podCIDR": "10.0.0.0/24", "podCIDRs": ["10.0.0.0/24"]}, "status": {"capacity": {"cpu": "2", "memory": "1Gi"}, "allocatable": {"cpu": "2", "memory": "1Gi"}}}),
    Golden("secret", "v1/Secret", {"data": {"a": "eA==", "b": "eA=="}, "stringData": {"a": "y", "c": ""}}, {"type": "Opaque", "data": {"a": "eQ==", "b": "eA==", "c": ""}}),
    Golden("configmap", "v1/ConfigMap", {"data": {"a": "b"}}, {"data": {"a": "b"}}),
    Golden("limitrange", "v1/LimitRange", {"spec": {"limits": [{"type": "Container", "max": {"cpu": "1000m"}, "min": {"memory": "1Mi"}}, {"type": "Pod", "max": {"cpu": "2"}}]}}, {"spec": {"limits": [{"type": "Container", "max": {"cpu": "1"}, "min": {"memory": "1Mi"}, "default": {"cpu": "1"}, "defaultRequest": {"cpu": "1", "memory": "1Mi"}}, {"type": "Pod", "max": {"cpu": "2"}}]}}),
    Golden("quota", "v1/ResourceQuota", {"spec": {"hard": {"cpu": "0.5", "pods": 3}}}, {"spec": {"hard": {"cpu": "500m", "pods": "3"}}}),
    Golden("pv", "v1/PersistentVolume", {"spec": {"hostPath": {"path": "/x"}, "capacity": {"storage": "1024Mi"}}}, {"spec": {"hostPath": {"path": "/x", "type": ""}, "capacity": {"storage": "1Gi"}, "persistentVolumeReclaimPolicy": "Retain", "volumeMode": "Filesystem"}, "status": {"phase": "Pending"}}),
    Golden("pvc", "v1/PersistentVolumeClaim", {"spec": {}}, {"spec": {"volumeMode": "Filesystem", "resources": {}}, "status": {"phase": "Pending"}}),
    Golden("storageclass", "storage.k8s.io/v1/StorageClass", {"provisioner": "p"}, {"provisioner": "p", "reclaimPolicy": "Delete", "volumeBindingMode": "Immediate"}),
    Golden("csidriver", "storage.k8s.io/v1/CSIDriver", {}, {"spec": {"attachRequired": True, "podInfoOnMount": False, "storageCapacity": False, "requiresRepublish": False, "fsGroupPolicy": "ReadWriteOnceWithFSType", "seLinuxMount": False, "volumeLifecycleModes": ["Persistent"]}}),
    Golden("netpol", "networking.k8s.io/v1/NetworkPolicy", {"spec": {"ingress": [{"ports": [{"port": 80}]}]}}, {"spec": {"ingress": [{"ports": [{"port": 80, "protocol": "TCP"}]}], "policyTypes": ["Ingress"]}}),
    Golden("netpol-egress", "networking.k8s.io/v1/NetworkPolicy", {"spec": {"egress": [{}]}}, {"spec": {"egress": [{}], "policyTypes": ["Ingress", "Egress"]}}),
    Golden("netpol-empty-egress", "networking.k8s.io/v1/NetworkPolicy", {"spec": {"egress": []}}, {"spec": {"egress": [], "policyTypes": ["Ingress"]}}),
    Golden("ingressclass", "networking.k8s.io/v1/IngressClass", {"spec": {"parameters": {"kind": "K"}}}, {"spec": {"parameters": {"kind": "K", "scope": "Cluster"}}}),
    Golden("hpa", "autoscaling/v2/HorizontalPodAutoscaler", {"spec": {"maxReplicas": 3}}, {"spec": {"maxReplicas": 3, "minReplicas": 1, "metrics": [{"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 80}}}]}}),
    Golden("hpa-v1", "autoscaling/v1/HorizontalPodAutoscaler", {"spec": {"maxReplicas": 3}}, {"spec": {"maxReplicas": 3, "minReplicas": 1, "targetCPUUtilizationPercentage": 80}}),
    Golden("rolebinding", f"{RBAC}/v1/RoleBinding", {"roleRef": {"kind": "Role", "name": "r"}, "subjects": [{"kind": "User", "name": "u"}, {"kind": "ServiceAccount", "name": "s"}]}, {"roleRef": {"kind": "Role", "name": "r", "apiGroup": RBAC}, "subjects": [{"kind": "User", "name": "u", "apiGroup": RBAC}, {"kind": "ServiceAccount", "name": "s"}]}),
    Golden("priorityclass", "scheduling.k8s.io/v1/PriorityClass", {"value": 1}, {"value": 1, "preemptionPolicy": "PreemptLowerPriority"}),
    Golden("webhook", "admissionregistration.k8s.io/v1/MutatingWebhookConfiguration", {"webhooks": [{"name": "a", "clientConfig": {"service": {"name": "s"}}, "rules": [{}]}]}, {"webhooks": [{"name": "a", "clientConfig": {"service": {"name": "s", "port": 443}}, "rules": [{"scope": "*"}], "failurePolicy": "Fail", "matchPolicy": "Equivalent", "timeoutSeconds": 10, "namespaceSelector": {}, "objectSelector": {}, "reinvocationPolicy": "Never"}]}),
    Golden("flowschema", "flowcontrol.apiserver.k8s.io/v1/FlowSchema", {"spec": {}}, {"spec": {"matchingPrecedence": 1000}}),
    Golden("prioritylevel", "flowcontrol.apiserver.k8s.io/v1/PriorityLevelConfiguration", {"spec": {"limited": {"limitResponse": {"queuing": {}}}}}, {"spec": {"limited": {"nominalConcurrencyShares": 30, "lendablePercent": 0, "limitResponse": {"queuing": {"queues": 64, "handSize": 8, "queueLengthLimit": 50}}}}}),
    Golden("crd", "apiextensions.k8s.io/v1/CustomResourceDefinition", {"spec": {"names": {"kind": "Foo"}}}, {"spec": {"names": {"kind": "Foo", "singular": "foo", "listKind": "FooList"}, "conversion": {"strategy": "None"}}}),
    Golden("lease", "coordination.k8s.io/v1/Lease", {"spec": {}}, {"spec": {}}),
]  # fmt: skip


def resource_of(kind: str):
    version, _, name = kind.rpartition("/")
    return resources.by_kind(version, name)


@pytest.mark.parametrize("case", GOLDENS, ids=lambda case: case.id)
def test_golden(case):
    obj = apply_defaults({"kind": case.kind.rpartition("/")[2], **copy.deepcopy(case.before)}, resource_of(case.kind))
    assert obj == {"kind": case.kind.rpartition("/")[2], **case.after}
    assert apply_defaults(copy.deepcopy(obj), resource_of(case.kind)) == obj


def test_every_defaulted_kind_has_a_golden():
    shown = {tuple(case.kind.rsplit("/", 1)) for case in GOLDENS}
    others = {"CSIStorageCapacity", "TokenRequest", "ClusterRoleBinding", "ValidatingWebhookConfiguration"}
    others |= {"ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding", "APIService"}
    assert {kind for kind in defaulted_kinds() if kind not in shown and kind[1] not in others} == set()


@dataclass(frozen=True)
class Part:
    """A piece of a pod's spec and what becomes of it."""

    id: str
    before: Object
    after: Object


def _box(**fields: object) -> Object:
    return {"containers": [{**BOX, **fields}]}


def _boxed(**fields: object) -> Object:
    return {"containers": [{**BOX_DEFAULTED, **fields}]}


PROBE = {"timeoutSeconds": 1, "periodSeconds": 10, "successThreshold": 1, "failureThreshold": 3}
PARTS = [
    Part("port", _box(ports=[{"containerPort": 80}]), _boxed(ports=[{"containerPort": 80, "protocol": "TCP"}])),
    Part("requests-from-limits", _box(resources={"limits": {"cpu": "0.5", "memory": "1024Mi"}}), _boxed(resources={"limits": {"cpu": "500m", "memory": "1Gi"}, "requests": {"cpu": "500m", "memory": "1Gi"}})),
    Part("own-request-stays", _box(resources={"limits": {"cpu": 1}, "requests": {"cpu": "100m"}}), _boxed(resources={"limits": {"cpu": "1"}, "requests": {"cpu": "100m"}})),
    Part("http-probe", _box(livenessProbe={"httpGet": {"port": 80}}), _boxed(livenessProbe={"httpGet": {"port": 80, "path": "/", "scheme": "HTTP"}, **PROBE})),
    Part("probe-zero-is-unset", _box(readinessProbe={"tcpSocket": {"port": 80}, "periodSeconds": 0, "timeoutSeconds": 5}), _boxed(readinessProbe={"tcpSocket": {"port": 80}, **PROBE, "timeoutSeconds": 5})),
    Part("grpc-probe", _box(startupProbe={"grpc": {"port": 80}}), _boxed(startupProbe={"grpc": {"port": 80, "service": ""}, **PROBE})),
    Part("lifecycle", _box(lifecycle={"preStop": {"httpGet": {"port": 80}}}), _boxed(lifecycle={"preStop": {"httpGet": {"port": 80, "path": "/", "scheme": "HTTP"}}})),
    Part("field-ref", _box(env=[{"name": "A", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}}]), _boxed(env=[{"name": "A", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP", "apiVersion": "v1"}}}])),
    Part("resource-ref", _box(env=[{"name": "A", "valueFrom": {"resourceFieldRef": {"resource": "limits.cpu"}}}]), _boxed(env=[{"name": "A", "valueFrom": {"resourceFieldRef": {"resource": "limits.cpu", "divisor": "0"}}}])),
    Part("latest", _box(image="nginx"), _boxed(image="nginx", imagePullPolicy="Always")),
    Part("volume-without-source", {"volumes": [{"name": "v"}]}, {"volumes": [{"name": "v", "emptyDir": {}}]}),
    Part("host-path", {"volumes": [{"name": "v", "hostPath": {"path": "/"}}]}, {"volumes": [{"name": "v", "hostPath": {"path": "/", "type": ""}}]}),
    Part("config-map", {"volumes": [{"name": "v", "configMap": {"name": "c"}}]}, {"volumes": [{"name": "v", "configMap": {"name": "c", "defaultMode": 420}}]}),
    Part("secret", {"volumes": [{"name": "v", "secret": {"secretName": "c", "defaultMode": 0}}]}, {"volumes": [{"name": "v", "secret": {"secretName": "c", "defaultMode": 0}}]}),
    Part("projected", {"volumes": [{"name": "v", "projected": {"sources": [{"serviceAccountToken": {"path": "t"}}, {"downwardAPI": {"items": [{"path": "n", "fieldRef": {"fieldPath": "metadata.name"}}]}}]}}]}, {"volumes": [{"name": "v", "projected": {"defaultMode": 420, "sources": [{"serviceAccountToken": {"path": "t", "expirationSeconds": 3600}}, {"downwardAPI": {"items": [{"path": "n", "fieldRef": {"fieldPath": "metadata.name", "apiVersion": "v1"}}]}}]}}]}),
    Part("account", {"serviceAccountName": "a"}, {"serviceAccountName": "a", "serviceAccount": "a"}),
    Part("old-account", {"serviceAccount": "a"}, {"serviceAccountName": "a", "serviceAccount": "a"}),
    Part("host-ports", {"hostNetwork": True, **_box(ports=[{"containerPort": 80}])}, {"hostNetwork": True, **_boxed(ports=[{"containerPort": 80, "hostPort": 80, "protocol": "TCP"}])}),
    Part("init-container", {"initContainers": [BOX]}, {"initContainers": [BOX_DEFAULTED]}),
    Part("ephemeral-container", {"ephemeralContainers": [BOX]}, {"ephemeralContainers": [BOX_DEFAULTED]}),
    Part("null-is-absent", {"restartPolicy": None, "securityContext": None, "volumes": None}, {"restartPolicy": "Always", "securityContext": {}, "volumes": None}),
    Part("kept", {"restartPolicy": "Never", "dnsPolicy": "None", "terminationGracePeriodSeconds": 0, "enableServiceLinks": False}, {"restartPolicy": "Never", "dnsPolicy": "None", "terminationGracePeriodSeconds": 0, "enableServiceLinks": False}),
]  # fmt: skip


@pytest.mark.parametrize("case", PARTS, ids=lambda case: case.id)
def test_pod_part(case):
    spec = apply_defaults({"spec": copy.deepcopy(case.before)}, resources.PODS)["spec"]
    assert {name: spec[name] for name in case.after} == case.after


def test_templates_get_no_host_ports_and_no_requests():
    box = {**BOX, "ports": [{"containerPort": 80}], "resources": {"limits": {"cpu": "1"}}}
    obj = apply_defaults(
        {"spec": {"template": {"spec": {"hostNetwork": True, "containers": [box]}}}}, resources.REPLICASETS
    )
    spec = obj["spec"]["template"]["spec"]
    assert spec["containers"][0]["ports"] == [{"containerPort": 80, "protocol": "TCP"}]
    assert spec["containers"][0]["resources"] == {"limits": {"cpu": "1"}}
    assert "enableServiceLinks" not in spec


@pytest.mark.parametrize(
    ("image", "policy"),
    [
        ("nginx", "Always"),
        ("nginx:latest", "Always"),
        ("nginx:1.27", "IfNotPresent"),
        ("registry:5000/nginx", "Always"),
        ("registry:5000/nginx:1", "IfNotPresent"),
        ("nginx@sha256:" + "0" * 64, "IfNotPresent"),
        ("nginx:latest@sha256:" + "0" * 64, "Always"),
        ("registry.k8s.io/e2e-test-images/agnhost:2.47", "IfNotPresent"),
    ],
)
def test_pull_policy(image, policy):
    assert pull_policy(image) == policy


def test_behaviour_of_an_autoscaler_is_filled_where_it_is_given():
    obj = apply_defaults(
        {"spec": {"maxReplicas": 2, "behavior": {"scaleDown": {"selectPolicy": "Min"}}}},
        resources.HORIZONTALPODAUTOSCALERS,
    )
    down, up = obj["spec"]["behavior"]["scaleDown"], obj["spec"]["behavior"]["scaleUp"]
    assert down == {"selectPolicy": "Min", "policies": [{"type": "Percent", "value": 100, "periodSeconds": 15}]}
    assert up["stabilizationWindowSeconds"] == 0
    assert [policy["type"] for policy in up["policies"]] == ["Pods", "Percent"]
