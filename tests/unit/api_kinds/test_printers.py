"""Tables: the columns of every kind, and the cells, above all the STATUS of pods."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from podnet.controlplane.api import printers, resources
from podnet.controlplane.api.printers.custom import custom_printer
from podnet.controlplane.api.timestamps import format_time
from podnet.controlplane.api.types import Object, Resource

NOW = 1_750_000_000.0


def ago(seconds: float) -> str:
    return format_time(NOW - seconds)


def cells(resource: Resource, obj: Object) -> list:
    obj = {"metadata": {"name": "x", "creationTimestamp": ago(300)}, **obj}
    return printers.table(resource, [obj], now=NOW)["rows"][0]["cells"]


# --- pods ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Pod:
    """A pod's spec and status, and the READY, STATUS and RESTARTS it prints."""

    id: str
    ready: str
    status: str
    restarts: str = "0"
    spec: Object = field(default_factory=dict)
    state: Object = field(default_factory=dict)
    metadata: Object = field(default_factory=dict)


def box(name: str = "c", *, ready: bool = False, restarts: int = 0, last: str = "", **state: Object) -> Object:
    row: Object = {"name": name, "ready": ready, "restartCount": restarts, "state": dict(state)}
    if last:
        row["lastState"] = {"terminated": {"finishedAt": last, "exitCode": 1}}
    return row


RUN: Object = {"startedAt": ago(60)}
ONE: Object = {"containers": [{"name": "c"}]}
TWO: Object = {"containers": [{"name": "a"}, {"name": "b"}]}
INIT: Object = {"initContainers": [{"name": "i"}, {"name": "j"}], **ONE}
SIDE: Object = {"initContainers": [{"name": "i", "restartPolicy": "Always"}], **ONE}
DELETED: Object = {"metadata": {"name": "x", "deletionTimestamp": ago(5)}}
OK = {"type": "Ready", "status": "True"}

PODS = [
    Pod("no-status", "0/1", "", spec=ONE),
    Pod("pending", "0/1", "Pending", spec=ONE, state={"phase": "Pending"}),
    Pod("reason-over-phase", "0/1", "Evicted", spec=ONE, state={"phase": "Failed", "reason": "Evicted"}),
    Pod("gated", "0/1", "SchedulingGated", spec=ONE, state={"phase": "Pending", "conditions": [{"type": "PodScheduled", "status": "False", "reason": "SchedulingGated"}]}),
    Pod("unschedulable", "0/1", "Pending", spec=ONE, state={"phase": "Pending", "conditions": [{"type": "PodScheduled", "status": "False", "reason": "Unschedulable"}]}),
    Pod("creating", "0/1", "ContainerCreating", spec=ONE, state={"phase": "Pending", "containerStatuses": [box(waiting={"reason": "ContainerCreating"})]}),
    Pod("err-image-pull", "0/1", "ErrImagePull", spec=ONE, state={"phase": "Pending", "containerStatuses": [box(waiting={"reason": "ErrImagePull"})]}),
    Pod("image-pull-back-off", "0/1", "ImagePullBackOff", spec=ONE, state={"phase": "Pending", "containerStatuses": [box(waiting={"reason": "ImagePullBackOff"})]}),
    Pod("crash-loop", "0/1", "CrashLoopBackOff", "4 (20s ago)", ONE, {"phase": "Running", "containerStatuses": [box(restarts=4, last=ago(20), waiting={"reason": "CrashLoopBackOff"})]}),
    Pod("running", "1/1", "Running", spec=ONE, state={"phase": "Running", "containerStatuses": [box(ready=True, running=RUN)]}),
    Pod("running-not-ready", "0/1", "Running", spec=ONE, state={"phase": "Running", "containerStatuses": [box(running=RUN)]}),
    Pod("ready-without-running", "0/1", "Running", spec=ONE, state={"phase": "Running", "containerStatuses": [box(ready=True)]}),
    Pod("restarted", "1/1", "Running", "2 (5m ago)", ONE, {"phase": "Running", "containerStatuses": [box(ready=True, restarts=2, last=ago(300), running=RUN)]}),
    Pod("restarted-unknown-when", "1/1", "Running", "2", ONE, {"phase": "Running", "containerStatuses": [box(ready=True, restarts=2, running=RUN)]}),
    Pod("newest-restart-counts", "2/2", "Running", "3 (30s ago)", TWO, {"phase": "Running", "containerStatuses": [box("a", ready=True, restarts=1, last=ago(30), running=RUN), box("b", ready=True, restarts=2, last=ago(500), running=RUN)]}),
    Pod("completed", "0/1", "Completed", spec=ONE, state={"phase": "Succeeded", "containerStatuses": [box(terminated={"reason": "Completed", "exitCode": 0})]}),
    Pod("error", "0/1", "Error", spec=ONE, state={"phase": "Failed", "containerStatuses": [box(terminated={"reason": "Error", "exitCode": 1})]}),
    Pod("oom", "0/1", "OOMKilled", spec=ONE, state={"phase": "Failed", "containerStatuses": [box(terminated={"reason": "OOMKilled", "exitCode": 137})]}),
    Pod("exit-code", "0/1", "ExitCode:7", spec=ONE, state={"phase": "Failed", "containerStatuses": [box(terminated={"exitCode": 7})]}),
    Pod("signal", "0/1", "Signal:9", spec=ONE, state={"phase": "Failed", "containerStatuses": [box(terminated={"exitCode": 137, "signal": 9})]}),
    Pod("first-container-wins", "0/2", "Error", spec=TWO, state={"phase": "Running", "containerStatuses": [box("a", terminated={"reason": "Error", "exitCode": 1}), box("b", waiting={"reason": "CrashLoopBackOff"})]}),
    Pod("one-completed-one-runs-ready", "1/2", "Running", spec=TWO, state={"phase": "Running", "conditions": [OK], "containerStatuses": [box("a", terminated={"reason": "Completed", "exitCode": 0}), box("b", ready=True, running=RUN)]}),
    Pod("one-completed-one-runs-not-ready", "1/2", "NotReady", spec=TWO, state={"phase": "Running", "containerStatuses": [box("a", terminated={"reason": "Completed", "exitCode": 0}), box("b", ready=True, running=RUN)]}),
    Pod("terminating", "1/1", "Terminating", spec=ONE, state={"phase": "Running", "containerStatuses": [box(ready=True, running=RUN)]}, metadata=DELETED),
    Pod("terminating-finished", "0/1", "Completed", spec=ONE, state={"phase": "Succeeded", "containerStatuses": [box(terminated={"reason": "Completed", "exitCode": 0})]}, metadata=DELETED),
    Pod("node-lost", "0/1", "Unknown", spec=ONE, state={"phase": "Running", "reason": "NodeLost"}, metadata=DELETED),
    Pod("init-running", "0/1", "Init:0/2", spec=INIT, state={"phase": "Pending", "initContainerStatuses": [box("i", running=RUN), box("j", waiting={"reason": "PodInitializing"})]}),
    Pod("init-second", "0/1", "Init:1/2", spec=INIT, state={"phase": "Pending", "initContainerStatuses": [box("i", terminated={"exitCode": 0, "reason": "Completed"}), box("j", waiting={"reason": "PodInitializing"})]}),
    Pod("init-error", "0/1", "Init:Error", spec=INIT, state={"phase": "Pending", "initContainerStatuses": [box("i", terminated={"exitCode": 1, "reason": "Error"}), box("j", waiting={"reason": "PodInitializing"})]}),
    Pod("init-exit-code", "0/1", "Init:ExitCode:3", spec=INIT, state={"phase": "Pending", "initContainerStatuses": [box("i", terminated={"exitCode": 3})]}),
    Pod("init-signal", "0/1", "Init:Signal:15", spec=INIT, state={"phase": "Pending", "initContainerStatuses": [box("i", terminated={"exitCode": 143, "signal": 15})]}),
    Pod("init-crash-loop", "0/1", "Init:CrashLoopBackOff", "3 (100s ago)", INIT, {"phase": "Pending", "initContainerStatuses": [box("i", restarts=3, last=ago(100), waiting={"reason": "CrashLoopBackOff"})]}),
    Pod("init-image", "0/1", "Init:ErrImagePull", spec=INIT, state={"phase": "Pending", "initContainerStatuses": [box("i", waiting={"reason": "ErrImagePull"})]}),
    Pod("initialising-hides-containers", "0/1", "Init:0/2", spec=INIT, state={"phase": "Pending", "initContainerStatuses": [box("i", running=RUN)], "containerStatuses": [box(waiting={"reason": "PodInitializing"})]}),
    Pod("initialized-then-pod-initializing", "0/1", "PodInitializing", spec=INIT, state={"phase": "Pending", "initContainerStatuses": [box("i", terminated={"exitCode": 0}), box("j", terminated={"exitCode": 0})], "containerStatuses": [box(waiting={"reason": "PodInitializing"})]}),
    Pod("init-restarts-forgotten-once-running", "1/1", "Running", "0", INIT, {"phase": "Running", "initContainerStatuses": [box("i", restarts=2, last=ago(60), terminated={"exitCode": 0}), box("j", terminated={"exitCode": 0})], "containerStatuses": [box(ready=True, running=RUN)]}),
    Pod("sidecar-running", "2/2", "Running", spec=SIDE, state={"phase": "Running", "initContainerStatuses": [{**box("i", ready=True, running=RUN), "started": True}], "containerStatuses": [box(ready=True, running=RUN)]}),
    Pod("sidecar-not-started", "0/2", "Init:0/1", spec=SIDE, state={"phase": "Pending", "initContainerStatuses": [box("i", running=RUN)]}),
    Pod("sidecar-restarts-count", "2/2", "Running", "3 (80s ago)", SIDE, {"phase": "Running", "initContainerStatuses": [{**box("i", ready=True, restarts=3, last=ago(80), running=RUN), "started": True}], "containerStatuses": [box(ready=True, running=RUN)]}),
]  # fmt: skip


@pytest.mark.parametrize("case", PODS, ids=lambda case: case.id)
def test_pod_status(case):
    row = cells(resources.PODS, {"spec": case.spec, "status": case.state, **case.metadata})
    assert row[1:4] == [case.ready, case.status, case.restarts]


def test_pod_wide_cells():
    pod = {
        "spec": {
            "nodeName": "n1",
            "containers": [],
            "readinessGates": [{"conditionType": "a"}, {"conditionType": "b"}],
        },
        "status": {
            "podIP": "10.0.0.9",
            "podIPs": [{"ip": "10.0.0.1"}, {"ip": "fd00::1"}],
            "nominatedNodeName": "n2",
            "conditions": [{"type": "b", "status": "True"}],
        },
    }
    assert cells(resources.PODS, pod)[4:] == ["5m", "10.0.0.1", "n1", "n2", "1/2"]
    assert cells(resources.PODS, {"status": {"podIP": "10.0.0.9"}})[5:] == ["<none>"] * 4


@pytest.mark.parametrize(("phase", "reason"), [("Succeeded", "Succeeded"), ("Failed", "Failed")])
def test_finished_pods_have_row_conditions(phase, reason):
    row = printers.table(resources.PODS, [{"metadata": {}, "status": {"phase": phase}}], now=NOW)["rows"][0]
    assert [(c["type"], c["status"], c["reason"]) for c in row["conditions"]] == [("Completed", "True", reason)]


# --- other kinds -----------------------------------------------------------------------------------------------------

TEMPLATE = {
    "metadata": {"labels": {"a": "b"}},
    "spec": {"containers": [{"name": "x", "image": "i"}, {"name": "y", "image": "j"}]},
}
SEL = {"matchLabels": {"b": "2", "a": "1"}, "matchExpressions": [{"key": "c", "operator": "In", "values": ["e", "d"]}]}
METRIC = {"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 80}}}


@dataclass(frozen=True)
class Row:
    """An object and its cells after the name; None in `cells` stands for the age of five minutes."""

    id: str
    resource: Resource
    obj: Object
    cells: tuple


class _Registry:
    """`R.PODS` is the resource with that plural, whichever of them the registry names itself."""

    def __getattr__(self, plural: str) -> Resource:
        named = getattr(resources, plural, None)
        return named or next(row for row in resources.RESOURCES if row.plural == plural.lower())


R = _Registry()
ROWS = [
    Row("deployment", R.DEPLOYMENTS, {"spec": {"replicas": 3, "selector": SEL, "template": TEMPLATE}, "status": {"readyReplicas": 1, "updatedReplicas": 2, "availableReplicas": 1}}, ("1/3", 2, 1, None, "x,y", "i,j", "a=1,b=2,c in (d,e)")),
    Row("deployment-fresh", R.DEPLOYMENTS, {"spec": {"replicas": 0}}, ("0/0", 0, 0, None, "", "", "<none>")),
    Row("replicaset", R.REPLICASETS, {"spec": {"replicas": 2, "selector": SEL, "template": TEMPLATE}, "status": {"replicas": 2, "readyReplicas": 1}}, (2, 2, 1, None, "x,y", "i,j", "a=1,b=2,c in (d,e)")),
    Row("replicationcontroller", R.REPLICATIONCONTROLLERS, {"spec": {"replicas": 2, "selector": {"b": "2", "a": "1"}}}, (2, 0, 0, None, "", "", "a=1,b=2")),
    Row("daemonset", R.DAEMONSETS, {"spec": {"selector": {"matchLabels": {"a": "b"}}, "template": {"spec": {"nodeSelector": {"k": "v"}}}}, "status": {"desiredNumberScheduled": 3, "currentNumberScheduled": 2, "numberReady": 1, "updatedNumberScheduled": 2, "numberAvailable": 1}}, (3, 2, 1, 2, 1, "k=v", None, "", "", "a=b")),
    Row("statefulset", R.STATEFULSETS, {"spec": {"replicas": 2, "template": TEMPLATE}, "status": {"readyReplicas": 2}}, ("2/2", None, "x,y", "i,j")),
    Row("podtemplate", R.PODTEMPLATES, {"template": TEMPLATE}, ("x,y", "i,j", "a=b")),
    Row("revision", R.CONTROLLERREVISIONS, {"metadata": {"name": "x", "creationTimestamp": ago(300), "ownerReferences": [{"apiVersion": "apps/v1", "kind": "DaemonSet", "name": "d", "controller": True}]}, "revision": 3}, ("daemonset.apps/d", 3, None)),
    Row("revision-orphan", R.CONTROLLERREVISIONS, {"revision": 1}, ("<none>", 1, None)),
    Row("job-running", R.JOBS, {"spec": {"completions": 3}, "status": {"startTime": ago(90)}}, ("Running", "0/3", "90s", None, "", "", "<none>")),
    Row("job-complete", R.JOBS, {"spec": {"completions": 1}, "status": {"startTime": ago(90), "completionTime": ago(80), "succeeded": 1, "conditions": [{"type": "Complete", "status": "True"}]}}, ("Complete", "1/1", "10s", None, "", "", "<none>")),
    Row("job-failed", R.JOBS, {"spec": {"completions": 1}, "status": {"conditions": [{"type": "Failed", "status": "True"}]}}, ("Failed", "0/1", "", None, "", "", "<none>")),
    Row("job-suspended", R.JOBS, {"spec": {"completions": 1}, "status": {"conditions": [{"type": "Suspended", "status": "True"}]}}, ("Suspended", "0/1", "", None, "", "", "<none>")),
    Row("job-failure-target", R.JOBS, {"spec": {"completions": 1}, "status": {"conditions": [{"type": "FailureTarget", "status": "True"}]}}, ("FailureTarget", "0/1", "", None, "", "", "<none>")),
    Row("job-work-queue", R.JOBS, {"spec": {"parallelism": 4}, "status": {"succeeded": 0}}, ("Running", "0/1 of 4", "", None, "", "", "<none>")),
    Row("job-no-counts", R.JOBS, {"spec": {"parallelism": 1}}, ("Running", "0/1", "", None, "", "", "<none>")),
    Row("cronjob", R.CRONJOBS, {"spec": {"schedule": "@daily", "suspend": False, "jobTemplate": {"spec": {"template": TEMPLATE}}}, "status": {"active": [{}], "lastScheduleTime": ago(60)}}, ("@daily", "<none>", "False", 1, "60s", None, "x,y", "i,j", "<none>")),
    Row("cronjob-never", R.CRONJOBS, {"spec": {"schedule": "@daily", "timeZone": "Europe/Berlin"}}, ("@daily", "Europe/Berlin", "<unset>", 0, "<none>", None, "", "", "<none>")),
    Row("pdb", R.PODDISRUPTIONBUDGETS, {"spec": {"minAvailable": 0}, "status": {"disruptionsAllowed": 2}}, ("0", "N/A", 2, None)),
    Row("hpa", R.HORIZONTALPODAUTOSCALERS, {"spec": {"scaleTargetRef": {"kind": "Deployment", "name": "w"}, "minReplicas": 1, "maxReplicas": 5, "metrics": [METRIC]}, "status": {"currentReplicas": 2, "currentMetrics": [{"type": "Resource", "resource": {"name": "cpu", "current": {"averageUtilization": 40}}}]}}, ("Deployment/w", "cpu: 40%/80%", "1", 5, 2, None)),
    Row("hpa-unknown", R.HORIZONTALPODAUTOSCALERS, {"spec": {"maxReplicas": 5, "metrics": [METRIC]}}, ("/", "cpu: <unknown>/80%", "<unset>", 5, 0, None)),
    Row("hpa-many", R.HORIZONTALPODAUTOSCALERS, {"spec": {"maxReplicas": 5, "metrics": [METRIC, METRIC, METRIC]}}, ("/", "cpu: <unknown>/80%, cpu: <unknown>/80% + 1 more...", "<unset>", 5, 0, None)),
    Row("hpa-v1", R.HORIZONTALPODAUTOSCALERS_V1, {"spec": {"maxReplicas": 5, "targetCPUUtilizationPercentage": 70}, "status": {"currentCPUUtilizationPercentage": 7}}, ("/", "cpu: 7%/70%", "<unset>", 5, 0, None)),
    Row("hpa-none", R.HORIZONTALPODAUTOSCALERS, {"spec": {"maxReplicas": 5}}, ("/", "<none>", "<unset>", 5, 0, None)),
    Row("hpa-pods", R.HORIZONTALPODAUTOSCALERS, {"spec": {"maxReplicas": 5, "metrics": [{"type": "Pods", "pods": {"target": {"averageValue": "10"}}}, {"type": "External", "external": {"target": {"averageValue": "3"}}}]}}, ("/", "<unknown>/10, <unknown>/3 (avg)", "<unset>", 5, 0, None)),
    Row("service", R.SERVICES, {"spec": {"type": "ClusterIP", "clusterIP": "10.96.0.1", "clusterIPs": ["10.96.0.1"], "ports": [{"port": 80, "protocol": "TCP"}, {"port": 53, "protocol": "UDP"}], "selector": {"a": "b"}}}, ("ClusterIP", "10.96.0.1", "<none>", "80/TCP,53/UDP", None, "a=b")),
    Row("service-headless", R.SERVICES, {"spec": {"type": "ClusterIP", "clusterIPs": ["None"]}}, ("ClusterIP", "None", "<none>", "<none>", None, "<none>")),
    Row("service-without-ips", R.SERVICES, {"spec": {"type": "ClusterIP", "clusterIP": "10.96.0.1"}}, ("ClusterIP", "<none>", "<none>", "<none>", None, "<none>")),
    Row("service-nodeport", R.SERVICES, {"spec": {"type": "NodePort", "clusterIPs": ["10.96.0.1"], "externalIPs": ["1.2.3.4", "1.2.3.5"], "ports": [{"port": 80, "nodePort": 30080, "protocol": "TCP"}]}}, ("NodePort", "10.96.0.1", "1.2.3.4,1.2.3.5", "80:30080/TCP", None, "<none>")),
    Row("service-lb-pending", R.SERVICES, {"spec": {"type": "LoadBalancer", "clusterIPs": ["10.96.0.1"]}}, ("LoadBalancer", "10.96.0.1", "<pending>", "<none>", None, "<none>")),
    Row("service-lb", R.SERVICES, {"spec": {"type": "LoadBalancer", "clusterIPs": ["10.96.0.1"], "externalIPs": ["9.9.9.9"]}, "status": {"loadBalancer": {"ingress": [{"ip": "2.2.2.2"}, {"hostname": "a.example"}, {"ip": "1.1.1.1"}]}}}, ("LoadBalancer", "10.96.0.1", "1.1.1.1,2.2.2.2,a.example,9.9.9.9", "<none>", None, "<none>")),
    Row("service-external", R.SERVICES, {"spec": {"type": "ExternalName", "externalName": "a.example"}}, ("ExternalName", "<none>", "a.example", "<none>", None, "<none>")),
    Row("endpoints-none", R.ENDPOINTS, {}, ("<none>", None)),
    Row("endpoints", R.ENDPOINTS, {"subsets": [{"addresses": [{"ip": "10.0.0.1"}, {"ip": "fd00::1"}], "ports": [{"port": 80}, {"port": 81}]}]}, ("10.0.0.1:80,[fd00::1]:80,10.0.0.1:81 + 1 more...", None)),
    Row("endpoints-portless", R.ENDPOINTS, {"subsets": [{"addresses": [{"ip": "10.0.0.1"}]}]}, ("10.0.0.1", None)),
    Row("endpoints-not-ready", R.ENDPOINTS, {"subsets": [{"notReadyAddresses": [{"ip": "10.0.0.1"}], "ports": [{"port": 80}]}]}, ("", None)),
    Row("slice", R.ENDPOINTSLICES, {"addressType": "IPv4", "ports": [{"name": "http", "port": 80}], "endpoints": [{"addresses": ["10.0.0.1"]}, {"addresses": ["10.0.0.2"], "conditions": {"ready": False}}]}, ("IPv4", "80", "10.0.0.1,10.0.0.2", None)),
    Row("slice-empty", R.ENDPOINTSLICES, {"addressType": "IPv4"}, ("IPv4", "<unset>", "<unset>", None)),
    Row("slice-many", R.ENDPOINTSLICES, {"addressType": "IPv4", "ports": [{"name": "x"}, {}], "endpoints": [{"addresses": [f"10.0.0.{n}"]} for n in range(5)]}, ("IPv4", "x,*", "10.0.0.0,10.0.0.1,10.0.0.2 + 2 more...", None)),
    Row("ingress", R.INGRESSES, {"spec": {"ingressClassName": "n", "rules": [{"host": f"h{n}"} for n in range(4)], "tls": [{}]}, "status": {"loadBalancer": {"ingress": [{"ip": "1.1.1.1"}]}}}, ("n", "h0,h1,h2 + 1 more...", "1.1.1.1", "80, 443", None)),
    Row("ingress-plain", R.INGRESSES, {"spec": {"rules": [{}]}}, ("<none>", "*", "", "80", None)),
    Row("ingressclass", R.INGRESSCLASSES, {"spec": {"controller": "a/b", "parameters": {"apiGroup": "g.io", "kind": "P", "name": "p"}}}, ("a/b", "P.g.io/p", None)),
    Row("netpol", R.NETWORKPOLICIES, {"spec": {"podSelector": {}}}, ("<none>", None)),
    Row("netpol-labels", R.NETWORKPOLICIES, {"spec": {"podSelector": {"matchExpressions": [{"key": "a", "operator": "DoesNotExist"}]}}}, ("!a", None)),
    Row("node", R.NODES, {"metadata": {"name": "x", "creationTimestamp": ago(300), "labels": {"node-role.kubernetes.io/control-plane": "", "kubernetes.io/role": "edge"}}, "spec": {"unschedulable": True}, "status": {"conditions": [{"type": "Ready", "status": "True"}], "addresses": [{"type": "InternalIP", "address": "192.168.100.1"}], "nodeInfo": {"kubeletVersion": "v1.32.0", "osImage": "Debian"}}}, ("Ready,SchedulingDisabled", "control-plane,edge", None, "v1.32.0", "192.168.100.1", "<none>", "Debian", "<unknown>", "<unknown>")),
    Row("node-not-ready", R.NODES, {"status": {"conditions": [{"type": "Ready", "status": "Unknown"}]}}, ("NotReady", "<none>", None, "", "<none>", "<none>", "<unknown>", "<unknown>", "<unknown>")),
    Row("node-new", R.NODES, {}, ("Unknown", "<none>", None, "", "<none>", "<none>", "<unknown>", "<unknown>", "<unknown>")),
    Row("namespace", R.NAMESPACES, {"status": {"phase": "Active"}}, ("Active", None)),
    Row("configmap", R.CONFIGMAPS, {"data": {"a": "b"}, "binaryData": {"c": "", "d": ""}}, (3, None)),
    Row("secret", R.SECRETS, {"type": "Opaque", "data": {"a": ""}}, ("Opaque", 1, None)),
    Row("serviceaccount", R.SERVICEACCOUNTS, {}, (0, None)),
    Row("quota", R.RESOURCEQUOTAS, {"status": {"hard": {"pods": "2", "limits.cpu": "1", "cpu": "500m"}, "used": {"pods": "1"}}}, (None, "cpu: 0/500m, pods: 1/2", "limits.cpu: 0/1")),
    Row("limitrange", R.LIMITRANGES, {}, (ago(300),)),
    Row("lease", R.LEASES, {"spec": {"holderIdentity": "n1"}}, ("n1", None)),
    Row("priorityclass", R.PRIORITYCLASSES, {"value": 5, "preemptionPolicy": "Never"}, (5, False, None, "Never")),
    Row("runtimeclass", R.RUNTIMECLASSES, {"handler": "h"}, ("h", None)),
    Row("role", R.ROLES, {}, (ago(300),)),
    Row("rolebinding", R.ROLEBINDINGS, {"roleRef": {"kind": "Role", "name": "r"}, "subjects": [{"kind": "User", "name": "u"}, {"kind": "User", "name": "v"}, {"kind": "Group", "name": "g"}, {"kind": "ServiceAccount", "namespace": "n", "name": "s"}]}, ("Role/r", None, "u, v", "g", "n/s")),
    Row("csr", R.CERTIFICATESIGNINGREQUESTS, {"spec": {"signerName": "s/n", "username": "u", "expirationSeconds": 86400}, "status": {"certificate": "x", "conditions": [{"type": "Approved", "status": "True"}]}}, (None, "s/n", "u", "24h", "Approved,Issued")),
    Row("csr-pending", R.CERTIFICATESIGNINGREQUESTS, {"spec": {"username": "u"}}, (None, "<none>", "u", "<none>", "Pending")),
    Row("csr-denied", R.CERTIFICATESIGNINGREQUESTS, {"spec": {}, "status": {"conditions": [{"type": "Denied", "status": "True"}, {"type": "Failed", "status": "True"}]}}, (None, "<none>", "", "<none>", "Denied,Failed")),
    Row("pv", R.PERSISTENTVOLUMES, {"spec": {"capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteMany", "ReadWriteOnce"], "persistentVolumeReclaimPolicy": "Retain", "claimRef": {"namespace": "n", "name": "c"}, "storageClassName": "s", "volumeMode": "Filesystem"}, "status": {"phase": "Bound"}}, ("1Gi", "RWO,RWX", "Retain", "Bound", "n/c", "s", "<unset>", "", None, "Filesystem")),
    Row("pvc-bound", R.PERSISTENTVOLUMECLAIMS, {"spec": {"volumeName": "v", "storageClassName": "s"}, "status": {"phase": "Bound", "capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOncePod"]}}, ("Bound", "v", "1Gi", "RWOP", "s", "<unset>", None, "<unset>")),
    Row("pvc-pending", R.PERSISTENTVOLUMECLAIMS, {"spec": {}, "status": {"phase": "Pending", "capacity": {"storage": "1Gi"}}}, ("Pending", "", "", "", "", "<unset>", None, "<unset>")),
    Row("csidriver", R.CSIDRIVERS, {"spec": {"tokenRequests": [{"audience": "a"}]}}, (True, False, False, "a", False, "<none>", None)),
    Row("csinode", R.CSINODES, {"spec": {"drivers": [{}, {}]}}, (2, None)),
    Row("csicapacity", R.CSISTORAGECAPACITIES, {"storageClassName": "s"}, ("s", "<unset>")),
    Row("attachment", R.VOLUMEATTACHMENTS, {"spec": {"attacher": "a", "source": {"persistentVolumeName": "p"}, "nodeName": "n"}, "status": {"attached": True}}, ("a", "p", "n", True, None)),
    Row("webhooks", R.VALIDATINGWEBHOOKCONFIGURATIONS, {"webhooks": [{}]}, (1, None)),
    Row("vap", R.VALIDATINGADMISSIONPOLICIES, {"spec": {"validations": [{}], "paramKind": {"apiVersion": "v1", "kind": "ConfigMap"}}}, (1, "v1/ConfigMap", None)),
    Row("vapb", R.VALIDATINGADMISSIONPOLICYBINDINGS, {"spec": {"policyName": "p", "paramRef": {"name": "n"}}}, ("p", "*/n", None)),
    Row("flowschema", R.FLOWSCHEMAS, {"spec": {"priorityLevelConfiguration": {"name": "l"}, "matchingPrecedence": 5}}, ("l", 5, "<none>", None, "?")),
    Row("prioritylevel", R.PRIORITYLEVELCONFIGURATIONS, {"spec": {"type": "Limited", "limited": {"nominalConcurrencyShares": 5, "limitResponse": {"queuing": {"queues": 64, "handSize": 8, "queueLengthLimit": 50}}}}}, ("Limited", 5, 64, 8, 50, None)),
    Row("prioritylevel-exempt", R.PRIORITYLEVELCONFIGURATIONS, {"spec": {"type": "Exempt"}}, ("Exempt", "<none>", "<none>", "<none>", "<none>", None)),
    Row("componentstatus", R.COMPONENTSTATUSES, {"conditions": [{"type": "Healthy", "status": "True", "message": "ok"}]}, ("Healthy", "ok", "")),
    Row("apiservice-local", R.APISERVICES, {"spec": {}, "status": {"conditions": [{"type": "Available", "status": "True"}]}}, ("Local", "True", None)),
    Row("apiservice-remote", R.APISERVICES, {"spec": {"service": {"namespace": "n", "name": "s"}}, "status": {"conditions": [{"type": "Available", "status": "False", "reason": "Missing"}]}}, ("n/s", "False (Missing)", None)),
]  # fmt: skip


@pytest.mark.parametrize("case", ROWS, ids=lambda case: case.id)
def test_cells(case):
    expected = ["x", *("5m" if cell is None else cell for cell in case.cells)]
    assert cells(case.resource, case.obj) == expected


def test_default_storage_class_says_so():
    annotated = {
        "metadata": {"name": "s", "annotations": {"storageclass.kubernetes.io/is-default-class": "true"}},
        "provisioner": "p",
    }
    assert cells(R.STORAGECLASSES, annotated) == ["s (default)", "p", "Delete", "Immediate", False, "<unknown>"]


EVENT = {
    "type": "Normal",
    "reason": "Pulled",
    "involvedObject": {"kind": "Pod", "name": "a", "fieldPath": "spec"},
    "message": " m\n",
}
EVENTS = {
    "plain": ({**EVENT, "source": {"component": "kubelet", "host": "n1"}, "firstTimestamp": ago(60), "lastTimestamp": ago(10), "count": 3}, ["10s", "Normal", "Pulled", "pod/a", "spec", "kubelet, n1", "m", "60s", 3, "x"]),
    "no-host": ({**EVENT, "source": {"component": "scheduler"}, "firstTimestamp": ago(60), "lastTimestamp": ago(10)}, ["10s", "Normal", "Pulled", "pod/a", "spec", "scheduler", "m", "60s", 1, "x"]),
    "event-time": ({**EVENT, "eventTime": ago(50).replace("Z", ".000000Z"), "reportingComponent": "s", "reportingInstance": "s-1"}, ["50s", "Normal", "Pulled", "pod/a", "spec", "s, s-1", "m", "50s", 1, "x"]),
    "series": ({**EVENT, "eventTime": ago(50), "series": {"count": 9, "lastObservedTime": ago(5)}}, ["5s", "Normal", "Pulled", "pod/a", "spec", "", "m", "50s", 9, "x"]),
    "timeless": (EVENT, ["<unknown>", "Normal", "Pulled", "pod/a", "spec", "", "m", "<unknown>", 1, "x"]),
    "v1": ({"type": "Warning", "reason": "R", "regarding": {"kind": "Node", "name": "n"}, "note": "m", "eventTime": ago(9), "reportingController": "c", "reportingInstance": "i"}, ["9s", "Warning", "R", "node/n", "", "c, i", "m", "9s", 1, "x"]),
}  # fmt: skip


@pytest.mark.parametrize("case", EVENTS.values(), ids=EVENTS.keys())
@pytest.mark.parametrize("resource", [R.EVENTS, R.EVENTS_V1], ids=["core", "events.k8s.io"])
def test_events(resource, case):
    obj, expected = case
    assert cells(resource, obj) == expected


# --- the table itself ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("resource", resources.RESOURCES, ids=lambda r: f"{r.qualified_name}.{r.version}")
def test_every_kind_prints_an_empty_object(resource):
    table = printers.table(resource, [{}, {"metadata": None, "spec": None, "status": None}], now=NOW)
    names = [column["name"] for column in table["columnDefinitions"]]
    assert "Name" in names
    for row in table["rows"]:
        assert len(row["cells"]) == len(names)


@pytest.mark.parametrize("resource", resources.RESOURCES, ids=lambda r: f"{r.qualified_name}.{r.version}")
def test_column_definitions_are_complete(resource):
    for column in printers.table_columns(resource):
        assert set(column) == {"name", "type", "format", "description", "priority"}
        assert column["priority"] in {0, 1}
        assert column["type"] in {"string", "integer", "boolean", "date"}


def test_table_shape_and_row_objects():
    obj = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a", "namespace": "d"}, "data": {}}
    meta = {"resourceVersion": "7", "continue": "c", "remainingItemCount": 2}
    table = printers.table(R.CONFIGMAPS, [obj], now=NOW, include_object="Metadata", list_meta=meta)
    assert (table["kind"], table["apiVersion"], table["metadata"]) == ("Table", "meta.k8s.io/v1", meta)
    partial = {"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": obj["metadata"]}
    assert table["rows"][0]["object"] == partial
    assert printers.table(R.CONFIGMAPS, [obj], now=NOW, include_object="Object")["rows"][0]["object"] == obj
    assert printers.table(R.CONFIGMAPS, [obj], now=NOW, include_object="None")["rows"][0]["object"] is None
    assert printers.table(R.CONFIGMAPS, [obj], now=NOW, columns=False)["columnDefinitions"] == []


def test_unknown_resources_use_the_default_convertor():
    crd = Resource("example.com", "v1", "widgets", "widget", "Widget", True, ("get",))
    obj = {"metadata": {"name": "w", "creationTimestamp": ago(5)}}
    table = printers.table(crd, [obj], now=NOW)
    assert [(c["name"], c["type"]) for c in table["columnDefinitions"]] == [("Name", "string"), ("Created At", "date")]
    assert table["rows"][0]["cells"] == ["w", ago(5)]


def test_scale_and_status_tables():
    scale = {
        "metadata": {"name": "w", "resourceVersion": "4", "creationTimestamp": ago(60)},
        "spec": {"replicas": 3},
        "status": {"replicas": 2},
    }
    table = printers.scale_table(scale, now=NOW)
    assert table["rows"][0]["cells"] == ["w", 3, 2, "60s"]
    assert table["metadata"] == {"resourceVersion": "4"}
    status = {"status": "Failure", "reason": "NotFound", "message": "no"}
    assert printers.status_table(status)["rows"][0]["cells"] == ["Failure", "NotFound", "no"]


@given(st.integers(0, 40), st.integers(1, 5))
def test_some_shows_the_first_and_counts_the_rest(count, most):
    from podnet.controlplane.api.printers.cells import some

    text = some([str(n) for n in range(count)], "<none>", most)
    if count == 0:
        assert text == "<none>"
    elif count > most:
        assert text.endswith(f" + {count - most} more...")
    else:
        assert text.count(",") == count - 1


# --- custom resources ------------------------------------------------------------------------------------------------

WIDGET = {
    "metadata": {"name": "w", "creationTimestamp": ago(300), "labels": {"a.b/c": "x"}},
    "spec": {"replicas": 3, "size": 1.5, "hosts": ["h1", "h2"], "on": False, "empty": None},
    "status": {
        "since": ago(30),
        "conditions": [{"type": "Ready", "status": "True"}, {"type": "Other", "status": "False"}],
    },
}
COLUMNS = [
    ("integer", ".spec.replicas", 3),
    ("string", ".spec.replicas", "3"),
    ("number", ".spec.size", 1.5),
    ("boolean", ".spec.on", False),
    ("string", ".spec.on", "false"),
    ("date", ".metadata.creationTimestamp", "5m"),
    ("date", ".status.since", "30s"),
    ("string", ".spec.hosts[0]", "h1"),
    ("string", ".spec.hosts[-1]", "h2"),
    ("string", ".spec.hosts[9]", None),
    ("string", ".spec.hosts[*]", "h1,h2"),
    ("string", ".spec.hosts", '["h1","h2"]'),
    ("string", '.status.conditions[?(@.type=="Ready")].status', "True"),
    ("string", ".status.conditions[?(@.type=='Gone')].status", None),
    ("string", r".metadata.labels.a\.b/c", "x"),
    ("string", ".metadata.labels['a.b/c']", "x"),
    ("string", "{.spec.replicas}", "3"),
    ("string", "spec.replicas", "3"),
    ("string", ".spec.missing.deeper", None),
    ("string", ".spec.empty", None),
    ("integer", ".spec.hosts", None),
    ("boolean", ".spec.replicas", None),
    ("string", ".spec[", None),
    ("string", "", None),
]


@pytest.mark.parametrize(("type_", "path", "expected"), COLUMNS, ids=[f"{t}:{p}" for t, p, _ in COLUMNS])
def test_custom_columns(type_, path, expected):
    how = custom_printer([{"name": "C", "type": type_, "jsonPath": path, "priority": 1}])
    table = printers.table(R.PODS, [WIDGET], now=NOW, how=how)
    assert table["rows"][0]["cells"] == ["w", expected]
    assert [(c["name"], c["type"], c["priority"]) for c in table["columnDefinitions"]] == [
        ("Name", "string", 0),
        ("C", type_, 1),
    ]


def test_custom_resources_without_columns_print_their_age():
    table = printers.table(R.PODS, [WIDGET], now=NOW, how=custom_printer(None))
    assert [column["name"] for column in table["columnDefinitions"]] == ["Name", "Age"]
    assert table["rows"][0]["cells"] == ["w", "5m"]
