"""Validation of updates: what may change, and the refusals of what may not."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from podnet.controlplane.api import resources
from podnet.controlplane.api.defaults import apply_defaults
from podnet.controlplane.api.defaults.service_type import drop_type_fields
from podnet.controlplane.api.validation import validate_update

sys.path.insert(0, str(Path(__file__).parent))
from good_objects import BOX, changed, good, refusals, resource_of


@dataclass(frozen=True)
class Update:
    """Changes to a stored object, and how the refusals begin; none when it is allowed."""

    id: str
    kind: str
    changes: dict[str, object]
    refusals: tuple[str, ...] = ()
    before: tuple[tuple[str, object], ...] = ()
    subresource: str = ""


C = "spec.containers.0."
P = "spec.containers[0]."
FORBIDDEN = "spec: Forbidden: pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)\n"
TOLERATION = {"key": "a", "operator": "Exists"}
UPDATES = [
    Update("name", "v1/Pod", {"metadata.name": "y"}, ('metadata.name: Invalid value: "y": field is immutable',)),
    Update("uid", "v1/Pod", {"metadata.uid": "2"}, ('metadata.uid: Invalid value: "2": field is immutable',), (("metadata.uid", "1"),)),
    Update("labels", "v1/Pod", {"metadata.labels": {"x": "y"}}),
    Update("bad-labels", "v1/Pod", {"metadata.labels": {"x": "/"}}, ('metadata.labels: Invalid value: "/": a valid label',)),
    Update("new-finalizer-while-deleted", "v1/Pod", {"metadata.finalizers": ["a/b"]}, ('metadata.finalizers: Forbidden: no new finalizers can be added if the object is being deleted, found new finalizers []string{"a/b"}',), (("metadata.deletionTimestamp", "2024-01-01T00:00:00Z"),)),
    Update("generation-back", "v1/Pod", {"metadata.generation": 1}, ("metadata.generation: Invalid value: 1: must not be decremented",), (("metadata.generation", 2),)),
    Update("image", "v1/Pod", {C + "image": "other"}),
    Update("no-image", "v1/Pod", {C + "image": ""}, (P + "image: Required value",)),
    Update("command", "v1/Pod", {C + "command": ["x"]}, (FORBIDDEN,)),
    Update("node", "v1/Pod", {"spec.nodeName": "n"}, (FORBIDDEN + '- nodeName: null\n+ nodeName: "n"',)),
    Update("one-more-container", "v1/Pod", {"spec.containers": [BOX, {**BOX, "name": "d"}]}, ("spec.containers: Forbidden: pod updates may not add or remove containers",)),
    Update("deadline-set", "v1/Pod", {"spec.activeDeadlineSeconds": 5}),
    Update("deadline-shorter", "v1/Pod", {"spec.activeDeadlineSeconds": 5}, (), (("spec.activeDeadlineSeconds", 6),)),
    Update("deadline-longer", "v1/Pod", {"spec.activeDeadlineSeconds": 7}, ("spec.activeDeadlineSeconds: Invalid value: 7: must be less than or equal to previous value",), (("spec.activeDeadlineSeconds", 6),)),
    Update("toleration-added", "v1/Pod", {"spec.tolerations": [TOLERATION]}),
    Update("toleration-removed", "v1/Pod", {"spec.tolerations": []}, ("spec.tolerations: Forbidden: existing toleration can not be modified except its tolerationSeconds",), (("spec.tolerations", [TOLERATION]),)),
    Update("grace", "v1/Pod", {"spec.terminationGracePeriodSeconds": 1}, (FORBIDDEN,)),
    Update("grace-was-negative", "v1/Pod", {"spec.terminationGracePeriodSeconds": 1}, (), (("spec.terminationGracePeriodSeconds", -1),)),
    Update("gate-removed", "v1/Pod", {"spec.schedulingGates": []}, (), (("spec.schedulingGates", [{"name": "a.b/c"}]),)),
    Update("gate-added", "v1/Pod", {"spec.schedulingGates": [{"name": "a.b/c"}]}, ("spec.schedulingGates: Forbidden: only deletion is allowed, but found new scheduling gate 'a.b/c'",)),
    Update("gated-selector", "v1/Pod", {"spec.nodeSelector": {"a": "b"}}, (), (("spec.schedulingGates", [{"name": "a.b/c"}]),)),
    Update("status", "v1/Pod", {"status": {"phase": "Running", "podIPs": [{"ip": "10.0.0.1"}]}}, subresource="status"),
    Update("status-ip", "v1/Pod", {"status": {"podIPs": [{"ip": "x"}]}}, ('status.podIPs[0].ip: Invalid value: "x"',), subresource="status"),
    Update("rises-from-the-dead", "v1/Pod", {"status": {"containerStatuses": [{"name": "c", "state": {"running": {}}}]}}, ("status.containerStatuses[0].state: Forbidden: may not be transitioned to non-terminated state",), (("spec.restartPolicy", "Never"), ("status", {"containerStatuses": [{"name": "c", "state": {"terminated": {"exitCode": 0}}}]})), "status"),
    Update("restarts-on-failure", "v1/Pod", {"status": {"containerStatuses": [{"name": "c", "state": {"running": {}}}]}}, (), (("spec.restartPolicy", "OnFailure"), ("status", {"containerStatuses": [{"name": "c", "state": {"terminated": {"exitCode": 1}}}]})), "status"),
    Update("ephemeral-added", "v1/Pod", {"spec.ephemeralContainers": [{**BOX, "name": "e", "imagePullPolicy": "Always", "terminationMessagePolicy": "File"}]}, subresource="ephemeralcontainers"),
    Update("ephemeral-removed", "v1/Pod", {"spec.ephemeralContainers": []}, ('spec.ephemeralContainers: Forbidden: existing ephemeral containers "e" may not be removed',), (("spec.ephemeralContainers", [{**BOX, "name": "e"}]),), "ephemeralcontainers"),
    Update("scale", "apps/v1/Deployment", {"spec.replicas": 5}),
    Update("deployment-selector", "apps/v1/Deployment", {"spec.selector": {"matchExpressions": [{"key": "a", "operator": "Exists"}]}}, ('spec.selector: Invalid value: v1.LabelSelector{MatchLabels:map[string]string(nil), MatchExpressions:[]v1.LabelSelectorRequirement{v1.LabelSelectorRequirement{Key:"a", Operator:"Exists", Values:[]string(nil)}}}: field is immutable',)),
    Update("replicaset-selector", "apps/v1/ReplicaSet", {"spec.selector": {"matchExpressions": [{"key": "a", "operator": "Exists"}]}}, ("spec.selector: Invalid value: ",)),
    Update("replicaset-counts", "apps/v1/ReplicaSet", {"status": {"replicas": 1, "readyReplicas": 2}}, ("status.readyReplicas: Invalid value: 2: cannot be greater than status.replicas",), subresource="status"),
    Update("statefulset-service", "apps/v1/StatefulSet", {"spec.serviceName": "x"}, ("spec: Forbidden: updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', 'updateStrategy'",)),
    Update("job-template", "batch/v1/Job", {"spec.template.spec.containers.0.image": "x"}, ("spec.template: Invalid value: ",)),
    Update("job-completions", "batch/v1/Job", {"spec.completions": 3}, ("spec.completions: Invalid value: 3: field is immutable",)),
    Update("job-elastic", "batch/v1/Job", {"spec.completions": 3, "spec.parallelism": 3}, before={"spec.completionMode": "Indexed", "spec.completions": 2, "spec.parallelism": 2}),
    Update("job-not-in-tandem", "batch/v1/Job", {"spec.completions": 3}, ("spec.completions: Invalid value: 3: can only be modified in tandem with spec.parallelism",), before={"spec.completionMode": "Indexed", "spec.completions": 2, "spec.parallelism": 2}),
    Update("job-asleep", "batch/v1/Job", {"spec.template.spec.nodeSelector": {"a": "b"}, "spec.template.metadata.annotations": {"a": "b"}}, before={"spec.suspend": True}),
    Update("job-asleep-image", "batch/v1/Job", {"spec.template.spec.containers.0.image": "x"}, ("spec.template: Invalid value: ",), before={"spec.suspend": True}),
    Update("cron-old-zone", "batch/v1/CronJob", {"spec.suspend": True}, before={"spec.timeZone": "Gone/Away"}),
    Update("cron-old-schedule", "batch/v1/CronJob", {"spec.suspend": True}, before={"spec.schedule": "TZ=Asia/Tokyo 0 0 * * *"}),
    Update("job-parallelism", "batch/v1/Job", {"spec.parallelism": 3}),
    Update("service-port", "v1/Service", {"spec.ports": [{"port": 81, "protocol": "TCP", "targetPort": 81}]}),
    Update("service-ip", "v1/Service", {"spec.clusterIP": "10.96.0.2", "spec.clusterIPs": ["10.96.0.2"]}, ('spec.clusterIPs[0]: Invalid value: []string{"10.96.0.2"}: may not change once set',), (("spec.clusterIP", "10.96.0.1"), ("spec.clusterIPs", ["10.96.0.1"]))),
    Update("service-to-external-name", "v1/Service", {"spec": {"type": "ExternalName", "externalName": "a.b", "sessionAffinity": "None"}}, (), (("spec.clusterIP", "10.96.0.1"), ("spec.clusterIPs", ["10.96.0.1"]))),
    Update("service-health-port", "v1/Service", {"spec.healthCheckNodePort": 30902}, ("spec.healthCheckNodePort: Forbidden: field is immutable",), (("spec", {"type": "LoadBalancer", "externalTrafficPolicy": "Local", "internalTrafficPolicy": "Cluster", "sessionAffinity": "None", "healthCheckNodePort": 30901, "ports": [{"port": 80, "targetPort": 80, "protocol": "TCP"}]}),)),
    Update("service-status", "v1/Service", {"status.loadBalancer.ingress": [{"ip": "203.0.113.1", "ipMode": "VIP"}, {"ip": "203.0.113.2", "ipMode": "Proxy"}, {"hostname": "a.example"}]}, (), (("spec.type", "LoadBalancer"),), subresource="status"),
    Update("service-status-of-no-balancer", "v1/Service", {"status.loadBalancer.ingress": [{"ip": "203.0.113.1", "ipMode": "VIP"}]}, ('status.loadBalancer.ingress: Forbidden: may only be used when `spec.type` is "LoadBalancer"',), subresource="status"),
    Update("service-status-mode", "v1/Service", {"status.loadBalancer.ingress": [{"ip": "203.0.113.1", "ipMode": "Foo"}, {"ip": "203.0.113.1"}, {"hostname": "a.example", "ipMode": "VIP"}]}, ('status.loadBalancer.ingress[0].ipMode: Unsupported value: "Foo": supported values: "Proxy", "VIP"', "status.loadBalancer.ingress[1].ipMode: Required value: must be specified when `ip` is set", "status.loadBalancer.ingress[2].ipMode: Forbidden: may not be specified when `ip` is not set"), (("spec.type", "LoadBalancer"),), subresource="status"),
    Update("service-status-host", "v1/Service", {"status.loadBalancer.ingress": [{"hostname": "1.2.3.4"}]}, ('status.loadBalancer.ingress[0].hostname: Invalid value: "1.2.3.4": must be a DNS name, not an IP address',), (("spec.type", "LoadBalancer"),), subresource="status"),
    Update("configmap-frozen", "v1/ConfigMap", {"data": {}}, ("data: Forbidden: field is immutable when `immutable` is set",), (("immutable", True),)),
    Update("configmap-thawed", "v1/ConfigMap", {"immutable": False}, ("immutable: Forbidden: field is immutable when `immutable` is set",), (("immutable", True),)),
    Update("secret-type", "v1/Secret", {"type": "a/b"}, ('type: Invalid value: "a/b": field is immutable',)),
    Update("node-cidr", "v1/Node", {"spec.podCIDR": "10.9.0.0/24", "spec.podCIDRs": ["10.9.0.0/24"]}, ('spec.podCIDRs: Forbidden: node updates may not change podCIDR except from "" to valid',)),
    Update("node-cidr-first", "v1/Node", {"spec.podCIDR": "10.9.0.0/24", "spec.podCIDRs": ["10.9.0.0/24"]}, (), (("spec", {}),)),
    Update("namespace-status", "v1/Namespace", {"status.phase": "Terminating"}, ("status.Phase: Invalid value: \"Terminating\": may only be 'Active' if `deletionTimestamp` is empty",), subresource="status"),
    Update("role-ref", "rbac.authorization.k8s.io/v1/RoleBinding", {"roleRef.name": "z"}, ("roleRef: Invalid value: ",)),
    Update("slice-type", "discovery.k8s.io/v1/EndpointSlice", {"addressType": "FQDN", "endpoints": []}, ('addressType: Invalid value: "FQDN": field is immutable',)),
    Update("quota-scopes", "v1/ResourceQuota", {"spec.scopes": ["BestEffort"]}, ("spec.scopes: Invalid value: ",)),
    Update("quota-hard", "v1/ResourceQuota", {"spec.hard": {"pods": "7"}}),
    Update("priority-value", "scheduling.k8s.io/v1/PriorityClass", {"value": 6}, ("value: Forbidden: may not be changed in an update.",)),
    Update("storage-class", "storage.k8s.io/v1/StorageClass", {"provisioner": "q"}, ("provisioner: Forbidden: updates to provisioner are forbidden.",)),
    Update("claim", "v1/PersistentVolumeClaim", {"spec.accessModes": ["ReadWriteMany"]}, ("spec: Forbidden: spec is immutable after creation except resources.requests",)),
    Update("crd-scope", "apiextensions.k8s.io/v1/CustomResourceDefinition", {"spec.scope": "Cluster"}, ('spec.scope: Invalid value: "Cluster": field is immutable',)),
]  # fmt: skip


@pytest.mark.parametrize("case", UPDATES, ids=lambda case: case.id)
def test_update(case):
    old = changed(good(case.kind), dict(case.before))
    new = changed(old, case.changes)
    found = refusals(validate_update(new, old, resource_of(case.kind), case.subresource))
    assert len(found) == len(case.refusals), found
    for text, start in zip(found, case.refusals, strict=True):
        assert text.startswith(start)


SERVICE_TYPES = ("ClusterIP", "NodePort", "LoadBalancer", "ExternalName")


@pytest.mark.parametrize("was", SERVICE_TYPES)
@pytest.mark.parametrize("now", SERVICE_TYPES)
def test_a_service_may_change_its_type_and_nothing_else(was, now):
    """What the old type left behind is dropped, and what remains is valid."""
    old = good("v1/Service", {"spec.type": was, "spec.externalName": "a.example"})
    if was != "ExternalName":
        old["spec"] |= {"clusterIP": "10.96.0.9", "clusterIPs": ["10.96.0.9"]}
    if was in {"NodePort", "LoadBalancer"}:
        old["spec"]["ports"][0]["nodePort"] = 30080
    if was == "LoadBalancer":
        old["spec"] |= {"externalTrafficPolicy": "Local", "healthCheckNodePort": 30900}
    new = apply_defaults(drop_type_fields(changed(old, {"spec.type": now}), old), resources.SERVICES)
    assert refusals(validate_update(new, old, resources.SERVICES)) == []


@pytest.mark.parametrize("now", SERVICE_TYPES)
def test_what_a_load_balancer_said_of_itself_goes_with_it(now):
    ingress = {"loadBalancer": {"ingress": [{"ip": "203.0.113.1", "ipMode": "VIP"}]}}
    old = good("v1/Service", {"spec.type": "LoadBalancer", "status": ingress})
    new = drop_type_fields(changed(old, {"spec.type": now}), old)
    assert new["status"] == (ingress if now == "LoadBalancer" else {"loadBalancer": {}})


def test_a_node_port_set_anew_is_refused():
    old = good("v1/Service", {"spec.type": "NodePort"})
    old["spec"]["ports"][0]["nodePort"] = 30080
    new = drop_type_fields(changed(old, {"spec.type": "ClusterIP", "spec.ports.0.nodePort": 30081}), old)
    found = refusals(validate_update(new, old, resources.SERVICES))
    assert found == ["spec.ports[0].nodePort: Forbidden: may not be used when `type` is 'ClusterIP'"]
