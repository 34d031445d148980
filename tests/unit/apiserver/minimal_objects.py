"""The smallest object of every stored kind that a 1.32 server accepts."""

from __future__ import annotations

from typing import Any

from podnet.controlplane.api.resources import RESOURCES
from podnet.controlplane.api.types import Object, Resource

_TEMPLATE = {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}}
_SELECTOR = {"matchLabels": {"a": "b"}}
_JOB = {"template": {"spec": {"restartPolicy": "Never", "containers": [{"name": "c", "image": "i"}]}}}
_TIME = "2026-01-01T00:00:00Z"
_REVIEW = {"clientConfig": {"url": "https://x.y/"}, "sideEffects": "None", "admissionReviewVersions": ["v1"]}

_BODIES: dict[str, dict[str, Any]] = {
    "configmaps": {"data": {"a": "b"}},
    "endpoints": {"subsets": [{"addresses": [{"ip": "10.1.1.1"}], "ports": [{"port": 80}]}]},
    "events": {"involvedObject": {"kind": "Pod", "namespace": "default", "name": "p"}, "reason": "R", "message": "m"},
    "limitranges": {"spec": {"limits": [{"type": "Container", "default": {"cpu": "1"}}]}},
    "namespaces": {},
    "nodes": {"spec": {}},
    "persistentvolumeclaims": {
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}
    },
    "persistentvolumes": {
        "spec": {"capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"], "hostPath": {"path": "/x"}}
    },
    "pods": {"spec": {"containers": [{"name": "c", "image": "i"}]}},
    "podtemplates": {"template": _TEMPLATE},
    "replicationcontrollers": {"spec": {"selector": {"a": "b"}, "template": _TEMPLATE}},
    "resourcequotas": {"spec": {"hard": {"configmaps": "100"}}},
    "secrets": {"data": {"a": "Yg=="}},
    "serviceaccounts": {},
    "services": {"spec": {"ports": [{"port": 80}]}},
    "apiservices.apiregistration.k8s.io": {
        "spec": {
            "group": "x.y",
            "version": "v9",
            "groupPriorityMinimum": 100,
            "versionPriority": 10,
            "service": {"namespace": "default", "name": "s"},
            "insecureSkipTLSVerify": True,
        }
    },
    "controllerrevisions.apps": {"revision": 1, "data": {"spec": {}}},
    "daemonsets.apps": {"spec": {"selector": _SELECTOR, "template": _TEMPLATE}},
    "deployments.apps": {"spec": {"selector": _SELECTOR, "template": _TEMPLATE}},
    "replicasets.apps": {"spec": {"selector": _SELECTOR, "template": _TEMPLATE}},
    "statefulsets.apps": {"spec": {"selector": _SELECTOR, "template": _TEMPLATE, "serviceName": "s"}},
    "events.events.k8s.io": {
        "eventTime": "2026-01-01T00:00:00.000000Z",
        "reportingController": "x.y/z",
        "reportingInstance": "i",
        "action": "A",
        "reason": "R",
        "type": "Normal",
        "regarding": {"kind": "Pod", "namespace": "default", "name": "p"},
    },
    "horizontalpodautoscalers.autoscaling": {
        "spec": {"maxReplicas": 3, "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "d"}}
    },
    "cronjobs.batch": {"spec": {"schedule": "* * * * *", "jobTemplate": {"spec": _JOB}}},
    "jobs.batch": {"spec": _JOB},
    "certificatesigningrequests.certificates.k8s.io": {
        "spec": {
            "request": "LS0tLS1CRUdJTiBDRVJUSUZJQ0FURSBSRVFVRVNULS0tLS0=",
            "signerName": "x.y/z",
            "usages": ["client auth"],
        }
    },
    "ingressclasses.networking.k8s.io": {"spec": {"controller": "x.y/z"}},
    "ingresses.networking.k8s.io": {"spec": {"defaultBackend": {"service": {"name": "s", "port": {"number": 80}}}}},
    "ipaddresses.networking.k8s.io": {"spec": {"parentRef": {"resource": "services", "name": "s"}}},
    "servicecidrs.networking.k8s.io": {"spec": {"cidrs": ["10.97.0.0/24"]}},
    "networkpolicies.networking.k8s.io": {"spec": {"podSelector": {}}},
    "poddisruptionbudgets.policy": {"spec": {"minAvailable": 1, "selector": _SELECTOR}},
    "clusterrolebindings.rbac.authorization.k8s.io": {
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "r"},
        "subjects": [{"kind": "Group", "apiGroup": "rbac.authorization.k8s.io", "name": "g"}],
    },
    "clusterroles.rbac.authorization.k8s.io": {"rules": [{"verbs": ["get"], "apiGroups": [""], "resources": ["pods"]}]},
    "rolebindings.rbac.authorization.k8s.io": {
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "r"},
        "subjects": [],
    },
    "roles.rbac.authorization.k8s.io": {"rules": [{"verbs": ["get"], "apiGroups": [""], "resources": ["pods"]}]},
    "csidrivers.storage.k8s.io": {"spec": {}},
    "csinodes.storage.k8s.io": {"spec": {"drivers": []}},
    "csistoragecapacities.storage.k8s.io": {"storageClassName": "s"},
    "storageclasses.storage.k8s.io": {"provisioner": "x.y/z"},
    "volumeattachments.storage.k8s.io": {
        "spec": {"attacher": "x.y", "nodeName": "n", "source": {"persistentVolumeName": "p"}}
    },
    "mutatingwebhookconfigurations.admissionregistration.k8s.io": {"webhooks": [{"name": "a.b.c", **_REVIEW}]},
    "validatingwebhookconfigurations.admissionregistration.k8s.io": {"webhooks": [{"name": "a.b.c", **_REVIEW}]},
    "validatingadmissionpolicies.admissionregistration.k8s.io": {
        "spec": {
            "validations": [{"expression": "true"}],
            "matchConstraints": {
                "resourceRules": [
                    {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"]}
                ]
            },
        }
    },
    "validatingadmissionpolicybindings.admissionregistration.k8s.io": {
        "spec": {"policyName": "p", "validationActions": ["Deny"]}
    },
    "customresourcedefinitions.apiextensions.k8s.io": {
        "spec": {
            "group": "x.y",
            "scope": "Namespaced",
            "names": {"plural": "foos", "kind": "Foo"},
            "versions": [
                {"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": {"type": "object"}}}
            ],
        }
    },
    "priorityclasses.scheduling.k8s.io": {"value": 10},
    "leases.coordination.k8s.io": {"spec": {"holderIdentity": "h"}},
    "runtimeclasses.node.k8s.io": {"handler": "h"},
    "endpointslices.discovery.k8s.io": {"addressType": "IPv4", "endpoints": []},
    "flowschemas.flowcontrol.apiserver.k8s.io": {"spec": {"priorityLevelConfiguration": {"name": "p"}}},
    "prioritylevelconfigurations.flowcontrol.apiserver.k8s.io": {
        "spec": {"type": "Limited", "limited": {"limitResponse": {"type": "Reject"}}}
    },
}
_NAMES = {
    "ipaddresses.networking.k8s.io": "10.97.0.1",
    "apiservices.apiregistration.k8s.io": "v9.x.y",
    "customresourcedefinitions.apiextensions.k8s.io": "foos.x.y",
}

STORED = [r for r in RESOURCES if "update" in r.verbs]
"""Every resource with objects of its own (reviews and bindings have none)."""


def minimal(resource: Resource, name: str = "") -> Object:
    """The smallest object of a resource, in namespace `default` where it has one."""
    metadata: dict[str, Any] = {"name": name or _NAMES.get(resource.qualified_name, "x")}
    if resource.namespaced:
        metadata["namespace"] = "default"
    return {
        "apiVersion": resource.api_version,
        "kind": resource.kind,
        "metadata": metadata,
        **_BODIES[resource.qualified_name],
    }


def identify(resource: Resource) -> str:
    """A test id."""
    return f"{resource.qualified_name}-{resource.version}"
