"""A valid object of every kind that is validated, and how to make one wrong."""

from __future__ import annotations

import copy

from podnet.controlplane.api import errors, resources
from podnet.controlplane.api.defaults import apply_defaults
from podnet.controlplane.api.types import Object, Resource

DELETE = object()


def resource_of(kind: str) -> Resource:
    version, _, name = kind.rpartition("/")
    found = resources.by_kind(version, name)
    assert found is not None
    return found


def changed(obj: Object, changes: dict[str, object]) -> Object:
    """A copy of `obj` with some paths set: `spec.containers.0.image`; DELETE removes."""
    obj = copy.deepcopy(obj)
    for path, value in changes.items():
        *parents, last = path.split("|" if "|" in path else ".")
        place: object = obj
        for step in parents:
            place = place[int(step)] if isinstance(place, list) else place.setdefault(step, {})
        key: object = int(last) if isinstance(place, list) else last
        if value is DELETE:
            del place[key]
        else:
            place[key] = value
    return obj


def refusals(causes: list[errors.Cause]) -> list[str]:
    return [f"{cause.field}: {cause.message}" for cause in causes]


BOX: Object = {"name": "c", "image": "nginx"}
META: Object = {"name": "x", "namespace": "d"}
POD: Object = {"metadata": META, "spec": {"containers": [BOX], "volumes": [{"name": "v", "emptyDir": {}}]}}
TEMPLATE: Object = {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [BOX]}}
WORKLOAD: Object = {"metadata": META, "spec": {"selector": {"matchLabels": {"a": "b"}}, "template": TEMPLATE}}
JOB_TEMPLATE: Object = {"spec": {"containers": [BOX], "restartPolicy": "Never"}}
GOOD: dict[str, Object] = {
    "v1/Pod": POD,
    "v1/PodTemplate": {"metadata": META, "template": TEMPLATE},
    "v1/ReplicationController": {"metadata": META, "spec": {"template": TEMPLATE}},
    "apps/v1/Deployment": WORKLOAD,
    "apps/v1/ReplicaSet": WORKLOAD,
    "apps/v1/DaemonSet": WORKLOAD,
    "apps/v1/StatefulSet": WORKLOAD,
    "apps/v1/ControllerRevision": {"metadata": META, "data": {}, "revision": 1},
    "batch/v1/Job": {"metadata": META, "spec": {"selector": {"matchLabels": {"a": "b"}}, "template": {**JOB_TEMPLATE, "metadata": {"labels": {"a": "b"}}}}},
    "batch/v1/CronJob": {"metadata": META, "spec": {"schedule": "*/5 * * * *", "jobTemplate": {"spec": {"template": JOB_TEMPLATE}}}},
    "v1/Service": {"metadata": META, "spec": {"ports": [{"port": 80}], "selector": {"a": "b"}}},
    "v1/Endpoints": {"metadata": META, "subsets": [{"addresses": [{"ip": "10.0.0.1"}], "ports": [{"port": 80}]}]},
    "discovery.k8s.io/v1/EndpointSlice": {"metadata": META, "addressType": "IPv4", "endpoints": [{"addresses": ["10.0.0.1"]}], "ports": [{"port": 80}]},
    "networking.k8s.io/v1/NetworkPolicy": {"metadata": META, "spec": {"podSelector": {}, "ingress": [{"from": [{"podSelector": {}}], "ports": [{"port": 80}]}]}},
    "networking.k8s.io/v1/Ingress": {"metadata": META, "spec": {"defaultBackend": {"service": {"name": "s", "port": {"number": 80}}}}},
    "networking.k8s.io/v1/IngressClass": {"metadata": {"name": "x"}, "spec": {"controller": "a.b/c"}},
    "v1/ConfigMap": {"metadata": META, "data": {"a": "b"}},
    "v1/Secret": {"metadata": META, "data": {"a": "eA=="}},
    "v1/Namespace": {"metadata": {"name": "x"}},
    "v1/Node": {"metadata": {"name": "x"}, "spec": {"podCIDR": "10.244.0.0/24"}},
    "v1/ServiceAccount": {"metadata": META},
    "v1/Event": {"metadata": META, "involvedObject": {"kind": "Pod", "namespace": "d", "name": "p"}},
    "coordination.k8s.io/v1/Lease": {"metadata": META, "spec": {"holderIdentity": "n", "leaseDurationSeconds": 40}},
    "v1/ResourceQuota": {"metadata": META, "spec": {"hard": {"pods": "2"}}},
    "v1/LimitRange": {"metadata": META, "spec": {"limits": [{"type": "Container", "max": {"cpu": "1"}}]}},
    "v1/PersistentVolume": {"metadata": {"name": "x"}, "spec": {"capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"], "hostPath": {"path": "/x"}}},
    "v1/PersistentVolumeClaim": {"metadata": META, "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}},
    "storage.k8s.io/v1/StorageClass": {"metadata": {"name": "x"}, "provisioner": "p"},
    "policy/v1/PodDisruptionBudget": {"metadata": META, "spec": {"minAvailable": 1, "selector": {"matchLabels": {"a": "b"}}}},
    "autoscaling/v2/HorizontalPodAutoscaler": {"metadata": META, "spec": {"scaleTargetRef": {"kind": "Deployment", "name": "d"}, "maxReplicas": 2}},
    "rbac.authorization.k8s.io/v1/Role": {"metadata": {**META, "name": "system:x"}, "rules": [{"verbs": ["get"], "apiGroups": [""], "resources": ["pods"]}]},
    "rbac.authorization.k8s.io/v1/ClusterRole": {"metadata": {"name": "x"}, "rules": [{"verbs": ["get"], "nonResourceURLs": ["/healthz"]}]},
    "rbac.authorization.k8s.io/v1/RoleBinding": {"metadata": META, "roleRef": {"kind": "Role", "name": "r"}, "subjects": [{"kind": "User", "name": "u"}]},
    "scheduling.k8s.io/v1/PriorityClass": {"metadata": {"name": "x"}, "value": 5},
    "certificates.k8s.io/v1/CertificateSigningRequest": {"metadata": {"name": "x"}, "spec": {"request": "eA==", "signerName": "a.b/c", "usages": ["client auth"]}},
    "node.k8s.io/v1/RuntimeClass": {"metadata": {"name": "x"}, "handler": "runc"},
    "apiextensions.k8s.io/v1/CustomResourceDefinition": {"metadata": {"name": "foos.a.b"}, "spec": {"group": "a.b", "scope": "Namespaced", "names": {"plural": "foos", "kind": "Foo"}, "versions": [{"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": {"type": "object"}}}]}},
    "apiregistration.k8s.io/v1/APIService": {"metadata": {"name": "v1.a.b"}, "spec": {"group": "a.b", "version": "v1", "groupPriorityMinimum": 100, "versionPriority": 10}},
    "authentication.k8s.io/v1/TokenReview": {"spec": {"token": "t"}},
    "authorization.k8s.io/v1/SelfSubjectAccessReview": {"spec": {"resourceAttributes": {"verb": "get"}}},
}  # fmt: skip


def good(kind: str, changes: dict[str, object] | None = None) -> Object:
    obj = changed({"apiVersion": kind.rpartition("/")[0], "kind": kind.rpartition("/")[2], **GOOD[kind]}, changes or {})
    return apply_defaults(obj, resource_of(kind))
