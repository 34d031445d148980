"""Validation: one wrong thing at a time, and the exact path and message it is refused with."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from podnet.controlplane.api import errors, resources
from podnet.controlplane.api.validation import validate_create, validate_update

sys.path.insert(0, str(Path(__file__).parent))
from good_objects import BOX, DELETE, GOOD, good, refusals, resource_of

DNS = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end"
LABEL = "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end"


@pytest.mark.parametrize("kind", GOOD)
def test_good_objects_pass(kind):
    assert refusals(validate_create(good(kind), resource_of(kind))) == []


@pytest.mark.parametrize("kind", GOOD)
def test_an_update_that_changes_nothing_passes(kind):
    assert refusals(validate_update(good(kind), good(kind), resource_of(kind))) == []


@dataclass(frozen=True)
class Bad:
    """Changes to a good object, and how the only refusal begins."""

    id: str
    kind: str
    changes: dict[str, object]
    refusal: str


C = "spec.containers.0."
P = "spec.containers[0]."
TWO_INDEXES = {"spec.completionMode": "Indexed", "spec.completions": 2, "spec.parallelism": 2}
COPIED = {f"{prefix}{key}": value for prefix in ("", "batch.kubernetes.io/") for key, value in (("controller-uid", "u"), ("job-name", "x"))}  # fmt: skip


def rule(**fields):
    body = {"action": "Ignore", "onExitCodes": {"operator": "In", "values": [1]}, **fields}
    return {"spec.podFailurePolicy": {"rules": [{key: value for key, value in body.items() if value is not None}]}}


def exits(**fields):
    return rule(onExitCodes={"operator": "In", "values": [1], **fields})


def scope_selector(scope, operator, *values):
    row = {"scopeName": scope, "operator": operator, "values": list(values)}
    return {"spec.scopeSelector": {"matchExpressions": [row]}}


def success(*rules):
    return {**TWO_INDEXES, "spec.successPolicy": {"rules": list(rules)}}


BAD = [
    # metadata
    Bad("no-name", "v1/Pod", {"metadata.name": ""}, "metadata.name: Required value: name or generateName is required"),
    Bad("upper-case", "v1/Pod", {"metadata.name": "A"}, f'metadata.name: Invalid value: "A": {DNS}'),
    Bad("long-name", "v1/Pod", {"metadata.name": "a" * 254}, f'metadata.name: Invalid value: "{"a" * 254}": must be no more than 253 characters'),
    Bad("generate-name", "v1/Pod", {"metadata.generateName": "AB-"}, f'metadata.generateName: Invalid value: "AB-": {DNS}'),
    Bad("no-namespace", "v1/Pod", {"metadata.namespace": ""}, "metadata.namespace: Required value"),
    Bad("cluster-scoped-namespace", "v1/Node", {"metadata.namespace": "d"}, "metadata.namespace: Forbidden: not allowed on this type"),
    Bad("namespace-with-dot", "v1/Namespace", {"metadata.name": "a.b"}, 'metadata.name: Invalid value: "a.b": must not contain dots'),
    Bad("service-digit", "v1/Service", {"metadata.name": "1a"}, 'metadata.name: Invalid value: "1a": a DNS-1035 label must consist of'),
    Bad("role-slash", "rbac.authorization.k8s.io/v1/Role", {"metadata.name": "a/b"}, "metadata.name: Invalid value: \"a/b\": may not contain '/'"),
    Bad("label-key", "v1/Pod", {"metadata|labels": {"a b": "c"}}, 'metadata.labels: Invalid value: "a b": name part must consist of'),
    Bad("label-value", "v1/Pod", {"metadata.labels": {"a": "b c"}}, 'metadata.labels: Invalid value: "b c": a valid label must be an empty string'),
    Bad("annotation-key", "v1/Pod", {"metadata.annotations": {"/a": "b"}}, 'metadata.annotations: Invalid value: "/a": prefix part must be non-empty'),
    Bad("annotations-too-long", "v1/Pod", {"metadata.annotations": {"a": "b" * 262144}}, "metadata.annotations: Too long: may not be more than 262144 bytes"),
    Bad("owner-without-uid", "v1/Pod", {"metadata.ownerReferences": [{"apiVersion": "v1", "kind": "Pod", "name": "p"}]}, 'metadata.ownerReferences[0].uid: Invalid value: "": must not be empty'),
    Bad("two-controllers", "v1/Pod", {"metadata.ownerReferences": [{"apiVersion": "v1", "kind": "Pod", "name": n, "uid": "u", "controller": True} for n in "pq"]}, "metadata.ownerReferences: Invalid value: ["),
    Bad("finalizer", "v1/Pod", {"metadata.finalizers": ["foo"]}, 'metadata.finalizers[0]: Invalid value: "foo": name is neither a standard finalizer name nor is it fully qualified'),
    Bad("cronjob-name", "batch/v1/CronJob", {"metadata.name": "a" * 53}, f'metadata.name: Invalid value: "{"a" * 53}": must be no more than 52 characters'),
    # containers
    Bad("no-containers", "v1/Pod", {"spec.containers": []}, "spec.containers: Required value"),
    Bad("no-container-name", "v1/Pod", {C + "name": ""}, P + "name: Required value"),
    Bad("container-name", "v1/Pod", {C + "name": "A"}, f'{P}name: Invalid value: "A": {LABEL}'),
    Bad("same-name", "v1/Pod", {"spec.containers": [BOX, BOX]}, 'spec.containers[1].name: Duplicate value: "c"'),
    Bad("same-name-as-init", "v1/Pod", {"spec.initContainers": [BOX]}, 'spec.initContainers[0].name: Duplicate value: "c"'),
    Bad("no-image", "v1/Pod", {C + "image": ""}, P + "image: Required value"),
    Bad("image-space", "v1/Pod", {C + "image": "a "}, P + 'image: Invalid value: "a ": must not have leading or trailing whitespace'),
    Bad("pull-policy", "v1/Pod", {C + "imagePullPolicy": "Sometimes"}, P + 'imagePullPolicy: Unsupported value: "Sometimes": supported values: "Always", "IfNotPresent", "Never"'),
    Bad("message-policy", "v1/Pod", {C + "terminationMessagePolicy": "x"}, P + 'terminationMessagePolicy: Unsupported value: "x"'),
    Bad("restart-policy-of-container", "v1/Pod", {C + "restartPolicy": "Always"}, P + "restartPolicy: Forbidden: may not be set for non-init containers"),
    Bad("init-restart-policy", "v1/Pod", {"spec.initContainers": [{**BOX, "name": "i", "restartPolicy": "Never"}]}, 'spec.initContainers[0].restartPolicy: Unsupported value: "Never": supported values: "Always"'),
    Bad("init-probe", "v1/Pod", {"spec.initContainers": [{**BOX, "name": "i", "readinessProbe": {"tcpSocket": {"port": 1}}}]}, "spec.initContainers[0].readinessProbe: Forbidden: may not be set for init containers without restartPolicy=Always"),
    Bad("ephemeral-on-create", "v1/Pod", {"spec.ephemeralContainers": [{**BOX, "name": "e"}]}, "spec.ephemeralContainers: Forbidden: cannot be set on create"),
    # ports
    Bad("port-zero", "v1/Pod", {C + "ports": [{"containerPort": 0}]}, P + "ports[0].containerPort: Required value"),
    Bad("port-range", "v1/Pod", {C + "ports": [{"containerPort": 70000}]}, P + "ports[0].containerPort: Invalid value: 70000: must be between 1 and 65535, inclusive"),
    Bad("port-protocol", "v1/Pod", {C + "ports": [{"containerPort": 1, "protocol": "ICMP"}]}, P + 'ports[0].protocol: Unsupported value: "ICMP": supported values: "SCTP", "TCP", "UDP"'),
    Bad("port-name", "v1/Pod", {C + "ports": [{"containerPort": 1, "name": "much-too-long-name"}]}, P + 'ports[0].name: Invalid value: "much-too-long-name": must be no more than 15 characters'),
    Bad("port-name-twice", "v1/Pod", {C + "ports": [{"containerPort": 1, "name": "a"}, {"containerPort": 2, "name": "a"}]}, P + 'ports[1].name: Duplicate value: "a"'),
    Bad("host-port-twice", "v1/Pod", {C + "ports": [{"containerPort": 1, "hostPort": 9}, {"containerPort": 2, "hostPort": 9}]}, P + 'ports[1].hostPort: Duplicate value: "TCP//9"'),
    Bad("host-network-port", "v1/Pod", {"spec.hostNetwork": True, C + "ports": [{"containerPort": 1, "hostPort": 2}]}, P + "ports[0].containerPort: Invalid value: 1: must match `hostPort` when `hostNetwork` is true"),
    # env
    Bad("env-name", "v1/Pod", {C + "env": [{"value": "x"}]}, P + "env[0].name: Required value"),
    Bad("env-equals", "v1/Pod", {C + "env": [{"name": "a=b"}]}, P + 'env[0].name: Invalid value: "a=b": a valid environment variable name'),
    Bad("env-both", "v1/Pod", {C + "env": [{"name": "a", "value": "x", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}]}, P + 'env[0].valueFrom: Invalid value: "": may not be specified when `value` is not empty'),
    Bad("env-none", "v1/Pod", {C + "env": [{"name": "a", "valueFrom": {}}]}, P + 'env[0].valueFrom: Invalid value: "": must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef` or `secretKeyRef`'),
    Bad("env-field", "v1/Pod", {C + "env": [{"name": "a", "valueFrom": {"fieldRef": {"fieldPath": "spec.foo"}}}]}, P + 'env[0].valueFrom.fieldRef.fieldPath: Invalid value: "spec.foo": error converting fieldPath: field label not supported: spec.foo'),
    Bad("env-key", "v1/Pod", {C + "env": [{"name": "a", "valueFrom": {"configMapKeyRef": {"name": "c"}}}]}, P + "env[0].valueFrom.configMapKeyRef.key: Required value"),
    Bad("env-from-none", "v1/Pod", {C + "envFrom": [{}]}, P + 'envFrom[0]: Invalid value: "": must specify one of: `configMapRef` or `secretRef`'),
    # mounts and volumes
    Bad("mount-unknown", "v1/Pod", {C + "volumeMounts": [{"name": "w", "mountPath": "/w"}]}, P + 'volumeMounts[0].name: Not found: "w"'),
    Bad("mount-path", "v1/Pod", {C + "volumeMounts": [{"name": "v"}]}, P + "volumeMounts[0].mountPath: Required value"),
    Bad("mount-twice", "v1/Pod", {C + "volumeMounts": [{"name": "v", "mountPath": "/v"}, {"name": "v", "mountPath": "/v"}]}, P + 'volumeMounts[1].mountPath: Invalid value: "/v": must be unique'),
    Bad("sub-path", "v1/Pod", {C + "volumeMounts": [{"name": "v", "mountPath": "/v", "subPath": "../x"}]}, P + "volumeMounts[0].subPath: Invalid value: \"../x\": must not contain '..'"),
    Bad("volume-twice", "v1/Pod", {"spec.volumes": [{"name": "v"}, {"name": "v"}]}, 'spec.volumes[1].name: Duplicate value: "v"'),
    Bad("volume-two-types", "v1/Pod", {"spec.volumes": [{"name": "v", "emptyDir": {}, "hostPath": {"path": "/"}}]}, "spec.volumes[0].hostPath: Forbidden: may not specify more than 1 volume type"),
    Bad("host-path-empty", "v1/Pod", {"spec.volumes": [{"name": "v", "hostPath": {}}]}, "spec.volumes[0].hostPath.path: Required value"),
    Bad("secret-name", "v1/Pod", {"spec.volumes": [{"name": "v", "secret": {}}]}, "spec.volumes[0].secret.secretName: Required value"),
    Bad("mode", "v1/Pod", {"spec.volumes": [{"name": "v", "configMap": {"name": "c", "defaultMode": 512}}]}, "spec.volumes[0].configMap.defaultMode: Invalid value: 512: must be a number between 0 and 0777 (octal), both inclusive"),
    Bad("token-seconds", "v1/Pod", {"spec.volumes": [{"name": "v", "projected": {"sources": [{"serviceAccountToken": {"path": "t", "expirationSeconds": 5}}]}}]}, "spec.volumes[0].projected.sources[0].serviceAccountToken.expirationSeconds: Invalid value: 5: may not specify a duration less than 10 minutes"),
    # resources, probes, security
    Bad("request-over-limit", "v1/Pod", {C + "resources": {"limits": {"cpu": "100m"}, "requests": {"cpu": "1"}}}, P + 'resources.requests: Invalid value: "1": must be less than or equal to cpu limit of 100m'),
    Bad("negative", "v1/Pod", {C + "resources": {"requests": {"cpu": "-1"}}}, P + 'resources.requests[cpu]: Invalid value: "-1": must be greater than or equal to 0'),
    Bad("unknown-resource", "apps/v1/ReplicaSet", {"spec.template.spec.containers.0." + "resources": {"limits": {"gpu": "1"}}}, 'spec.template.spec.containers[0].resources.limits: Invalid value: "gpu": must be a standard resource for containers'),
    Bad("probe-none", "v1/Pod", {C + "livenessProbe": {}}, P + "livenessProbe: Required value: must specify a handler type"),
    Bad("probe-two", "v1/Pod", {C + "livenessProbe": {"exec": {"command": ["a"]}, "tcpSocket": {"port": 1}}}, P + "livenessProbe.tcpSocket: Forbidden: may not specify more than 1 handler type"),
    Bad("probe-command", "v1/Pod", {C + "livenessProbe": {"exec": {}}}, P + "livenessProbe.exec.command: Required value"),
    Bad("probe-port", "v1/Pod", {C + "livenessProbe": {"httpGet": {"port": 0}}}, P + "livenessProbe.httpGet.port: Invalid value: 0: must be between 1 and 65535, inclusive"),
    Bad("probe-success", "v1/Pod", {C + "livenessProbe": {"tcpSocket": {"port": 1}, "successThreshold": 2}}, P + "livenessProbe.successThreshold: Invalid value: 2: must be 1"),
    Bad("probe-negative", "v1/Pod", {C + "readinessProbe": {"tcpSocket": {"port": 1}, "periodSeconds": -1}}, P + "readinessProbe.periodSeconds: Invalid value: -1: must be greater than or equal to 0"),
    Bad("privileged", "v1/Pod", {C + "securityContext": {"privileged": True, "allowPrivilegeEscalation": False}}, P + "securityContext.allowPrivilegeEscalation: Invalid value: false: cannot set `allowPrivilegeEscalation` to false and `privileged` to true"),
    # pod spec
    Bad("restart-policy", "v1/Pod", {"spec.restartPolicy": "Maybe"}, 'spec.restartPolicy: Unsupported value: "Maybe": supported values: "Always", "Never", "OnFailure"'),
    Bad("dns-policy", "v1/Pod", {"spec.dnsPolicy": "x"}, 'spec.dnsPolicy: Unsupported value: "x"'),
    Bad("dns-none", "v1/Pod", {"spec.dnsPolicy": "None"}, "spec.dnsConfig: Required value: must provide `dnsConfig` when `dnsPolicy` is None"),
    Bad("dns-search", "v1/Pod", {"spec.dnsConfig": {"searches": [".", "_a._b.c_d.example.", "__a"]}}, "spec.dnsConfig.searches[2]: Invalid value: \"__a\": a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '_', '-' or '.'"),
    Bad("dns-servers", "v1/Pod", {"spec.dnsConfig": {"nameservers": ["10.0.0.1"] * 4}}, 'spec.dnsConfig.nameservers: Invalid value: []string{"10.0.0.1", "10.0.0.1", "10.0.0.1", "10.0.0.1"}: must not have more than 3 nameservers'),
    Bad("node-selector", "v1/Pod", {"spec.nodeSelector": {"a b": "c"}}, 'spec.nodeSelector: Invalid value: "a b": name part must consist of'),
    Bad("hostname", "v1/Pod", {"spec.hostname": "a.b"}, 'spec.hostname: Invalid value: "a.b": must not contain dots'),
    Bad("deadline", "v1/Pod", {"spec.activeDeadlineSeconds": 0}, "spec.activeDeadlineSeconds: Invalid value: 0: must be between 1 and 2147483647, inclusive"),
    Bad("host-alias", "v1/Pod", {"spec.hostAliases": [{"ip": "x", "hostnames": ["a"]}]}, 'spec.hostAliases[0].ip: Invalid value: "x": must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)'),
    Bad("toleration-effect", "v1/Pod", {"spec.tolerations": [{"key": "a", "operator": "Exists", "effect": "x"}]}, 'spec.tolerations[0].effect: Unsupported value: "x": supported values: "NoExecute", "NoSchedule", "PreferNoSchedule"'),
    Bad("toleration-keyless", "v1/Pod", {"spec.tolerations": [{"effect": "NoSchedule"}]}, 'spec.tolerations[0].operator: Invalid value: "": operator must be Exists when `key` is empty, which means \\"match all values and all keys\\"'.replace("\\", "")),
    Bad("toleration-seconds", "v1/Pod", {"spec.tolerations": [{"key": "a", "operator": "Exists", "effect": "NoSchedule", "tolerationSeconds": 1}]}, "spec.tolerations[0].effect: Invalid value: \"NoSchedule\": effect must be 'NoExecute' when `tolerationSeconds` is set"),
    Bad("node-affinity-terms", "v1/Pod", {"spec.affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {}}}}, "spec.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms: Required value: must have at least one node selector term"),
    Bad("affinity-operator", "v1/Pod", {"spec.affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [{"matchExpressions": [{"key": "a", "operator": "Is"}]}]}}}}, 'spec.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms[0].matchExpressions[0].operator: Invalid value: "Is": not a valid selector operator'),
    Bad("affinity-values", "v1/Pod", {"spec.affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [{"matchExpressions": [{"key": "a", "operator": "In"}]}]}}}}, "spec.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms[0].matchExpressions[0].values: Required value: must be specified when `operator` is 'In' or 'NotIn'"),
    Bad("pod-affinity-topology", "v1/Pod", {"spec.affinity": {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [{}]}}}, "spec.affinity.podAntiAffinity.requiredDuringSchedulingIgnoredDuringExecution[0].topologyKey: Required value: can not be empty"),
    Bad("spread-skew", "v1/Pod", {"spec.topologySpreadConstraints": [{"maxSkew": 0, "topologyKey": "z", "whenUnsatisfiable": "DoNotSchedule"}]}, "spec.topologySpreadConstraints[0].maxSkew: Invalid value: 0: must be greater than zero"),
    Bad("spread-action", "v1/Pod", {"spec.topologySpreadConstraints": [{"maxSkew": 1, "topologyKey": "z", "whenUnsatisfiable": "x"}]}, 'spec.topologySpreadConstraints[0].whenUnsatisfiable: Unsupported value: "x": supported values: "DoNotSchedule", "ScheduleAnyway"'),
    # workloads
    Bad("replicas", "apps/v1/Deployment", {"spec.replicas": -1}, "spec.replicas: Invalid value: -1: must be greater than or equal to 0"),
    Bad("selector-mismatch", "apps/v1/Deployment", {"spec.selector.matchLabels": {"a": "z"}}, 'spec.template.metadata.labels: Invalid value: map[string]string{"a":"b"}: `selector` does not match template `labels`'),
    Bad("selector-empty", "apps/v1/Deployment", {"spec.selector": {}}, "spec.selector: Invalid value: v1.LabelSelector{MatchLabels:map[string]string(nil), MatchExpressions:[]v1.LabelSelectorRequirement(nil)}: empty selector is invalid for deployment"),
    Bad("rs-selector-mismatch", "apps/v1/ReplicaSet", {"spec.selector.matchLabels": {"a": "z"}}, 'spec.template.metadata.labels: Invalid value: map[string]string{"a":"b"}: `selector` does not match template `labels`'),
    Bad("rc-selector-mismatch", "v1/ReplicationController", {"spec.selector": {"a": "z"}}, 'spec.template.metadata.labels: Invalid value: map[string]string{"a":"b"}: `selector` does not match template `labels`'),
    Bad("template-restart", "apps/v1/Deployment", {"spec.template.spec.restartPolicy": "Never"}, 'spec.template.spec.restartPolicy: Unsupported value: "Never": supported values: "Always"'),
    Bad("template-container", "apps/v1/Deployment", {"spec.template.spec.containers.0.image": ""}, "spec.template.spec.containers[0].image: Required value"),
    Bad("strategy-type", "apps/v1/Deployment", {"spec.strategy": {"type": "Blue"}}, 'spec.strategy: Unsupported value: apps.DeploymentStrategy{Type:"Blue", RollingUpdate:(*apps.RollingUpdateDeployment)(nil)}: supported values: "Recreate", "RollingUpdate"'),
    Bad("recreate-rolling", "apps/v1/Deployment", {"spec.strategy": {"type": "Recreate", "rollingUpdate": {}}}, "spec.strategy.rollingUpdate: Forbidden: may not be specified when strategy `type` is 'Recreate'"),
    Bad("both-zero", "apps/v1/Deployment", {"spec.strategy": {"rollingUpdate": {"maxUnavailable": 0, "maxSurge": "0%"}}}, 'spec.strategy.rollingUpdate.maxUnavailable: Invalid value: intstr.IntOrString{Type:0, IntVal:0, StrVal:""}: may not be 0 when `maxSurge` is 0'),
    Bad("percent", "apps/v1/Deployment", {"spec.strategy": {"rollingUpdate": {"maxSurge": "x%"}}}, 'spec.strategy.rollingUpdate.maxSurge: Invalid value: intstr.IntOrString{Type:1, IntVal:0, StrVal:"x%"}: a valid percent string must be a numeric string followed by an ending'),
    Bad("over-hundred", "apps/v1/Deployment", {"spec.strategy": {"rollingUpdate": {"maxUnavailable": "101%"}}}, 'spec.strategy.rollingUpdate.maxUnavailable: Invalid value: intstr.IntOrString{Type:1, IntVal:0, StrVal:"101%"}: must not be greater than 100%'),
    Bad("progress", "apps/v1/Deployment", {"spec.minReadySeconds": 600}, "spec.progressDeadlineSeconds: Invalid value: 600: must be greater than minReadySeconds"),
    Bad("ds-surge", "apps/v1/DaemonSet", {"spec.updateStrategy": {"rollingUpdate": {"maxSurge": 1}}}, 'spec.updateStrategy.rollingUpdate.maxSurge: Invalid value: intstr.IntOrString{Type:0, IntVal:1, StrVal:""}: may not be set when maxUnavailable is non-zero'),
    Bad("sts-policy", "apps/v1/StatefulSet", {"spec.podManagementPolicy": "x"}, "spec.podManagementPolicy: Invalid value: \"x\": must be 'OrderedReady' or 'Parallel'"),
    Bad("sts-strategy", "apps/v1/StatefulSet", {"spec.updateStrategy": {"type": "x"}}, 'spec.updateStrategy: Invalid value: apps.StatefulSetUpdateStrategy{Type:"x", RollingUpdate:(*apps.RollingUpdateStatefulSetStrategy)(nil)}: must be \'RollingUpdate\' or \'OnDelete\''),
    Bad("ds-deadline", "apps/v1/DaemonSet", {"spec.template.spec.activeDeadlineSeconds": 9}, "spec.template.spec.activeDeadlineSeconds: Forbidden: activeDeadlineSeconds in DaemonSet is not Supported"),
    Bad("deploy-deadline", "apps/v1/Deployment", {"spec.template.spec.activeDeadlineSeconds": 9}, "spec.template.spec.activeDeadlineSeconds: Forbidden: activeDeadlineSeconds in ReplicaSet is not Supported"),
    Bad("pdb-percent", "policy/v1/PodDisruptionBudget", {"spec.minAvailable": "half"}, 'spec.minAvailable: Invalid value: intstr.IntOrString{Type:1, IntVal:0, StrVal:"half"}: a valid percent string'),
    Bad("job-restart", "batch/v1/Job", {"spec.template.spec.restartPolicy": "Always"}, 'spec.template.spec.restartPolicy: Required value: valid values: "OnFailure", "Never"'),
    Bad("job-indexed", "batch/v1/Job", {"spec.completionMode": "Indexed", "spec.parallelism": 2}, "spec.completions: Required value: when completion mode is Indexed"),
    Bad("job-selector", "batch/v1/Job", {"spec.selector": {"matchLabels": {"a": "c"}}}, 'spec.template.metadata.labels: Invalid value: map[string]string{"a":"b"}: `selector` does not match template `labels`'),
    Bad("job-copied", "batch/v1/Job", {"metadata.uid": "u", "spec.template.metadata.labels": COPIED | {"a": "b"}}, "spec.selector: Invalid value: "),
    Bad("job-hostname", "batch/v1/Job", {"metadata.name": "a.b", **TWO_INDEXES}, 'metadata.name: Invalid value: "a.b": will not able to create pod with invalid DNS label: a.b-1'),
    Bad("job-per-index", "batch/v1/Job", {"spec.backoffLimitPerIndex": 1}, "spec.backoffLimitPerIndex: Invalid value: 1: requires indexed completion mode"),
    Bad("job-most", "batch/v1/Job", {**TWO_INDEXES, "spec.maxFailedIndexes": 1}, "spec.backoffLimitPerIndex: Required value: when maxFailedIndexes is specified"),
    Bad("job-more-than-all", "batch/v1/Job", {**TWO_INDEXES, "spec.backoffLimitPerIndex": 1, "spec.maxFailedIndexes": 3}, "spec.maxFailedIndexes: Invalid value: 3: must be less than or equal to completions"),
    Bad("job-many", "batch/v1/Job", {**TWO_INDEXES, "spec.backoffLimitPerIndex": 1, "spec.completions": 100_001}, "spec.maxFailedIndexes: Required value: must be specified when completions is above 100000"),
    Bad("job-manager", "batch/v1/Job", {"spec.managedBy": "me"}, 'spec.managedBy: Invalid value: "me": must be a domain-prefixed path (such as "acme.io/foo")'),
    Bad("job-replacement", "batch/v1/Job", {"spec.podFailurePolicy": {"rules": []}, "spec.podReplacementPolicy": "TerminatingOrFailed"}, 'spec.podReplacementPolicy: Unsupported value: "TerminatingOrFailed": supported values: "Failed"'),
    Bad("policy-restart", "batch/v1/Job", {"spec.podFailurePolicy": {"rules": []}, "spec.template.spec.restartPolicy": "OnFailure"}, 'spec.template.spec.restartPolicy: Invalid value: "OnFailure": only "Never" is supported'),
    Bad("policy-action", "batch/v1/Job", rule(action="x"), 'spec.podFailurePolicy.rules[0].action: Unsupported value: "x": supported values: "Count", "FailIndex", "FailJob", "Ignore"'),
    Bad("policy-no-action", "batch/v1/Job", rule(action=""), 'spec.podFailurePolicy.rules[0].action: Required value: valid values: ["Count" "FailIndex" "FailJob" "Ignore"]'),
    Bad("policy-index", "batch/v1/Job", rule(action="FailIndex"), 'spec.podFailurePolicy.rules[0].action: Invalid value: "FailIndex": requires the backoffLimitPerIndex to be set'),
    Bad("policy-nothing", "batch/v1/Job", rule(onExitCodes=None), "spec.podFailurePolicy.rules[0]: Invalid value: specifying one of OnExitCodes and OnPodConditions is required"),
    Bad("policy-both", "batch/v1/Job", rule(onPodConditions=[{"type": "A", "status": "True"}]), "spec.podFailurePolicy.rules[0]: Invalid value: specifying both OnExitCodes and OnPodConditions is not supported"),
    Bad("policy-status", "batch/v1/Job", rule(onExitCodes=None, onPodConditions=[{"type": "A", "status": "x"}]), 'spec.podFailurePolicy.rules[0].onPodConditions[0].status: Unsupported value: "x": supported values: "False", "True", "Unknown"'),
    Bad("exits-zero", "batch/v1/Job", exits(values=[0]), "spec.podFailurePolicy.rules[0].onExitCodes.values[0]: Invalid value: 0: must not be 0 for the In operator"),
    Bad("exits-none", "batch/v1/Job", exits(values=[]), "spec.podFailurePolicy.rules[0].onExitCodes.values: Invalid value: []: at least one value is required"),
    Bad("exits-twice", "batch/v1/Job", exits(values=[1, 1]), "spec.podFailurePolicy.rules[0].onExitCodes.values[1]: Duplicate value: 1"),
    Bad("exits-order", "batch/v1/Job", exits(values=[2, 1]), "spec.podFailurePolicy.rules[0].onExitCodes.values: Invalid value: [2,1]: must be ordered"),
    Bad("exits-container", "batch/v1/Job", exits(containerName="z"), 'spec.podFailurePolicy.rules[0].onExitCodes.containerName: Invalid value: "z": must be one of the container or initContainer names'),
    Bad("success-plain", "batch/v1/Job", {"spec.successPolicy": {"rules": [{"succeededCount": 1}]}}, "spec.successPolicy: Invalid value: "),
    Bad("success-no-rules", "batch/v1/Job", success(), "spec.successPolicy.rules: Required value: at least one rules must be specified"),
    Bad("exits-endless", "batch/v1/Job", exits(values=list(range(1, 300_001))), "spec.podFailurePolicy.rules[0].onExitCodes.values: Too many: 300000: must have at most 255 items"),
    Bad("success-empty", "batch/v1/Job", success({}), "spec.successPolicy.rules[0]: Required value: at least one of succeededCount or succeededIndexes must be specified"),
    Bad("success-large", "batch/v1/Job", success({"succeededIndexes": "0,2"}), 'spec.successPolicy.rules[0].succeededIndexes: Invalid value: "0,2": error parsing succeededIndexes: too large index: "2"'),
    Bad("success-endless", "batch/v1/Job", success({"succeededIndexes": "9" * 5000}), 'spec.successPolicy.rules[0].succeededIndexes: Invalid value: "999'),
    Bad("success-order", "batch/v1/Job", success({"succeededIndexes": "1,0"}), 'spec.successPolicy.rules[0].succeededIndexes: Invalid value: "1,0": error parsing succeededIndexes: non-increasing order, previous: 1, current: 0'),
    Bad("success-count", "batch/v1/Job", success({"succeededIndexes": "1", "succeededCount": 2}), "spec.successPolicy.rules[0].succeededCount: Invalid value: 2: must be less than or equal to 1 (the number of indexes"),
    Bad("cron-zone", "batch/v1/CronJob", {"spec.timeZone": "Mars/Olympus"}, 'spec.timeZone: Invalid value: "Mars/Olympus": unknown time zone Mars/Olympus'),
    Bad("cron-no-zone", "batch/v1/CronJob", {"spec.timeZone": ""}, 'spec.timeZone: Invalid value: "": timeZone must be nil or non-empty string'),
    Bad("cron-zone-outside", "batch/v1/CronJob", {"spec.timeZone": "../etc"}, 'spec.timeZone: Invalid value: "../etc": time: invalid location name'),
    Bad("cron-zone-in-schedule", "batch/v1/CronJob", {"spec.schedule": "TZ=Asia/Tokyo 0 0 * * *"}, 'spec.schedule: Invalid value: "TZ=Asia/Tokyo 0 0 * * *": cannot use TZ or CRON_TZ in schedule, use timeZone field instead'),
    Bad("cron-word", "batch/v1/CronJob", {"spec.schedule": "x * * * *"}, 'spec.schedule: Invalid value: "x * * * *": failed to parse int from x: strconv.Atoi: parsing "x": invalid syntax'),
    Bad("cron-selector", "batch/v1/CronJob", {"spec.jobTemplate.spec.selector": {"matchLabels": {}}}, "spec.jobTemplate.spec.selector: Invalid value: "),
    Bad("cron-odd-digit", "batch/v1/CronJob", {"spec.schedule": "\u00b2 * * * *"}, 'spec.schedule: Invalid value: "\u00b2 * * * *": failed to parse int from \u00b2: strconv.Atoi: parsing "\u00b2": invalid syntax'),
    Bad("cron-odd-step", "batch/v1/CronJob", {"spec.schedule": "*/\u00b2 * * * *"}, 'spec.schedule: Invalid value: "*/\u00b2 * * * *": failed to parse int from \u00b2'),
    Bad("cron-endless", "batch/v1/CronJob", {"spec.schedule": "9" * 5000 + " * * * *"}, 'spec.schedule: Invalid value: "999'),
    Bad("cron-fields", "batch/v1/CronJob", {"spec.schedule": "* * *"}, 'spec.schedule: Invalid value: "* * *": expected exactly 5 fields, found 3: [* * *]'),
    Bad("cron-range", "batch/v1/CronJob", {"spec.schedule": "60 * * * *"}, 'spec.schedule: Invalid value: "60 * * * *": end of range (60) above maximum (59): 60'),
    Bad("cron-policy", "batch/v1/CronJob", {"spec.concurrencyPolicy": "x"}, 'spec.concurrencyPolicy: Unsupported value: "x": supported values: "Allow", "Forbid", "Replace"'),
    Bad("hpa-max", "autoscaling/v2/HorizontalPodAutoscaler", {"spec.minReplicas": 3}, "spec.maxReplicas: Invalid value: 2: must be greater than or equal to `minReplicas`"),
    Bad("pdb-both", "policy/v1/PodDisruptionBudget", {"spec.maxUnavailable": 1}, 'spec: Invalid value: {"minAvailable":1,'),
    # services
    Bad("no-ports", "v1/Service", {"spec.ports": []}, "spec.ports: Required value"),
    Bad("svc-port", "v1/Service", {"spec.ports": [{"port": 0, "targetPort": 1}]}, "spec.ports[0].port: Invalid value: 0: must be between 1 and 65535, inclusive"),
    Bad("svc-protocol", "v1/Service", {"spec.ports": [{"port": 1, "protocol": "X"}]}, 'spec.ports[0].protocol: Unsupported value: "X": supported values: "SCTP", "TCP", "UDP"'),
    Bad("svc-port-name", "v1/Service", {"spec.ports": [{"port": 1, "name": "A"}]}, f'spec.ports[0].name: Invalid value: "A": {LABEL}'),
    Bad("svc-same-name", "v1/Service", {"spec.ports": [{"port": 1, "name": "a"}, {"port": 2, "name": "a"}]}, 'spec.ports[1].name: Duplicate value: "a"'),
    Bad("svc-same-port", "v1/Service", {"spec.ports": [{"port": 1, "name": "a"}, {"port": 1, "name": "b"}]}, 'spec.ports[1]: Duplicate value: {"protocol":"TCP","port":1}'),
    Bad("svc-node-port", "v1/Service", {"spec.ports": [{"port": 1, "nodePort": 30000}]}, "spec.ports[0].nodePort: Forbidden: may not be used when `type` is 'ClusterIP'"),
    Bad("svc-target-name", "v1/Service", {"spec.ports": [{"port": 1, "targetPort": "a--b"}]}, 'spec.ports[0].targetPort: Invalid value: "a--b": must not contain consecutive hyphens'),
    Bad("svc-type", "v1/Service", {"spec.type": "Magic"}, 'spec.type: Unsupported value: "Magic": supported values: "ClusterIP", "ExternalName", "LoadBalancer", "NodePort"'),
    Bad("svc-affinity", "v1/Service", {"spec.sessionAffinity": "x"}, 'spec.sessionAffinity: Unsupported value: "x": supported values: "ClientIP", "None"'),
    Bad("svc-affinity-seconds", "v1/Service", {"spec.sessionAffinity": "ClientIP", "spec.sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 90000}}}, "spec.sessionAffinityConfig.clientIP.timeoutSeconds: Invalid value: 90000: must be greater than 0 and less than 86400"),
    Bad("svc-external-ip", "v1/Service", {"spec.externalIPs": ["127.0.0.1"]}, 'spec.externalIPs[0]: Invalid value: "127.0.0.1": may not be in the loopback range (127.0.0.0/8, ::1/128)'),
    Bad("svc-external-ip-group", "v1/Service", {"spec.externalIPs": ["10.0.0.1", "224.0.0.5"]}, 'spec.externalIPs[1]: Invalid value: "224.0.0.5": may not be in the link-local multicast range (224.0.0.0/24, ff02::/10)'),
    Bad("svc-balancer-class", "v1/Service", {"spec.type": "LoadBalancer", "spec.loadBalancerClass": "a b"}, 'spec.loadBalancerClass: Invalid value: "a b": name part must consist of alphanumeric characters'),
    Bad("svc-ranges-netmask", "v1/Service", {"spec.type": "LoadBalancer", "spec.loadBalancerSourceRanges": ["10.0.0.0/255.0.0.0"]}, 'spec.loadBalancerSourceRanges[0]: Invalid value: "10.0.0.0/255.0.0.0": must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)'),
    Bad("svc-cluster-ip-scope", "v1/Service", {"spec.clusterIP": "fe80::1%eth0"}, 'spec.clusterIPs[0]: Invalid value: "fe80::1%eth0": must be a valid IP address'),
    Bad("svc-cluster-ip", "v1/Service", {"spec.clusterIP": "x"}, 'spec.clusterIPs[0]: Invalid value: "x": must be a valid IP address'),
    Bad("svc-cluster-ip-family", "v1/Service", {"spec.clusterIP": "10.0.0.1", "spec.ipFamilies": ["IPv6"]}, 'spec.clusterIPs[0]: Invalid value: "10.0.0.1": expected an IPv6 value as indicated by `ipFamilies[0]`'),
    Bad("svc-etp", "v1/Service", {"spec.externalTrafficPolicy": "Local"}, 'spec.externalTrafficPolicy: Invalid value: "Local": may only be set for externally-accessible services'),
    Bad("svc-distribution", "v1/Service", {"spec.trafficDistribution": "PreferFar"}, 'spec.trafficDistribution: Unsupported value: "PreferFar": supported values: "PreferClose"'),
    Bad("svc-distribution-empty", "v1/Service", {"spec.trafficDistribution": ""}, 'spec.trafficDistribution: Unsupported value: "": supported values: "PreferClose"'),
    Bad("svc-topology-modes", "v1/Service", {"metadata.annotations": {"service.kubernetes.io/topology-mode": "Auto", "service.kubernetes.io/topology-aware-hints": "Disabled"}}, 'metadata.annotations[service.kubernetes.io/topology-mode]: Invalid value: "Auto": must match annotations[service.kubernetes.io/topology-aware-hints] when both are specified'),
    Bad("svc-itp", "v1/Service", {"spec.internalTrafficPolicy": "x"}, 'spec.internalTrafficPolicy: Unsupported value: "x": supported values: "Cluster", "Local"'),
    Bad("svc-external-name", "v1/Service", {"spec": {"type": "ExternalName"}}, "spec.externalName: Required value"),
    Bad("svc-lb-headless", "v1/Service", {"spec.type": "LoadBalancer", "spec.clusterIP": "None"}, "spec.clusterIPs[0]: Invalid value: \"None\": may not be set to 'None' for LoadBalancer services"),
    Bad("svc-ranges", "v1/Service", {"spec.loadBalancerSourceRanges": ["10.0.0.0/8"]}, "spec.loadBalancerSourceRanges: Forbidden: may only be used when `type` is 'LoadBalancer'"),
    Bad("svc-two-unnamed", "v1/Service", {"spec.ports": [{"port": 1, "name": "a"}, {"port": 2}]}, "spec.ports[1].name: Required value"),
    # endpoints, slices, policies, ingress
    Bad("ep-ip", "v1/Endpoints", {"subsets.0.addresses.0.ip": "127.0.0.1"}, 'subsets[0].addresses[0].ip: Invalid value: "127.0.0.1": may not be in the loopback range (127.0.0.0/8, ::1/128)'),
    Bad("ep-empty", "v1/Endpoints", {"subsets.0.addresses": []}, "subsets[0]: Required value: must specify `addresses` or `notReadyAddresses`"),
    Bad("ep-port", "v1/Endpoints", {"subsets.0.ports": [{"port": 0}]}, "subsets[0].ports[0].port: Invalid value: 0: must be between 1 and 65535, inclusive"),
    Bad("slice-type", "discovery.k8s.io/v1/EndpointSlice", {"addressType": "", "endpoints": []}, "addressType: Required value"),
    Bad("ep-node-name", "v1/Endpoints", {"subsets.0.addresses.0.nodeName": "a b"}, 'subsets[0].addresses[0].nodeName: Invalid value: "a b": a lowercase RFC 1123 subdomain must consist of'),
    Bad("slice-hints-many", "discovery.k8s.io/v1/EndpointSlice", {"endpoints.0.hints": {"forZones": [{"name": f"z{n}"} for n in range(9)]}}, "endpoints[0].hints.forZones: Too many: 9: must have at most 8 items"),
    Bad("slice-hints-twice", "discovery.k8s.io/v1/EndpointSlice", {"endpoints.0.hints": {"forZones": [{"name": "a"}, {"name": "a"}]}}, 'endpoints[0].hints.forZones[1].name: Duplicate value: "a"'),
    Bad("slice-hints-value", "discovery.k8s.io/v1/EndpointSlice", {"endpoints.0.hints": {"forZones": [{"name": "a b"}]}}, 'endpoints[0].hints.forZones[0].name: Invalid value: "a b": a valid label must be'),
    Bad("slice-family", "discovery.k8s.io/v1/EndpointSlice", {"addressType": "IPv6"}, 'endpoints[0].addresses[0]: Invalid value: "10.0.0.1": must be a valid IPv6 address'),
    Bad("slice-address", "discovery.k8s.io/v1/EndpointSlice", {"endpoints.0.addresses": []}, "endpoints[0].addresses: Required value: must contain at least 1 address"),
    Bad("slice-port-twice", "discovery.k8s.io/v1/EndpointSlice", {"ports": [{"port": 1}, {"port": 2}]}, 'ports[1].name: Duplicate value: ""'),
    Bad("netpol-type", "networking.k8s.io/v1/NetworkPolicy", {"spec.policyTypes": ["x"]}, 'spec.policyTypes[0]: Unsupported value: "x": supported values: "Egress", "Ingress"'),
    Bad("netpol-peer", "networking.k8s.io/v1/NetworkPolicy", {"spec.ingress.0.from": [{}]}, "spec.ingress[0].from[0]: Required value: must specify a peer"),
    Bad("netpol-block-and-selector", "networking.k8s.io/v1/NetworkPolicy", {"spec.ingress.0.from": [{"podSelector": {}, "ipBlock": {"cidr": "10.0.0.0/8"}}]}, "spec.ingress[0].from[0]: Forbidden: may not specify both ipBlock and another peer"),
    Bad("netpol-except", "networking.k8s.io/v1/NetworkPolicy", {"spec.ingress.0.from": [{"ipBlock": {"cidr": "10.0.0.0/24", "except": ["10.0.1.0/25"]}}]}, 'spec.ingress[0].from[0].ipBlock.except[0]: Invalid value: "10.0.1.0/25": must be a strict subset of `cidr`'),
    Bad("netpol-cidr", "networking.k8s.io/v1/NetworkPolicy", {"spec.ingress.0.from": [{"ipBlock": {"cidr": "10.0.0.0"}}]}, 'spec.ingress[0].from[0].ipBlock.cidr: Invalid value: "10.0.0.0": must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)'),
    Bad("netpol-end-port", "networking.k8s.io/v1/NetworkPolicy", {"spec.ingress.0.ports": [{"port": 80, "endPort": 79}]}, "spec.ingress[0].ports[0].endPort: Invalid value: 79: must be greater than or equal to `port`"),
    Bad("ingress-empty", "networking.k8s.io/v1/Ingress", {"spec": {}}, "spec: Invalid value: []: either `defaultBackend` or `rules` must be specified"),
    Bad("ingress-path", "networking.k8s.io/v1/Ingress", {"spec.rules": [{"http": {"paths": [{"path": "x", "pathType": "Prefix", "backend": {"service": {"name": "s", "port": {"number": 1}}}}]}}]}, 'spec.rules[0].http.paths[0].path: Invalid value: "x": must be an absolute path'),
    Bad("ingress-path-type", "networking.k8s.io/v1/Ingress", {"spec.rules": [{"http": {"paths": [{"path": "/"}]}}]}, "spec.rules[0].http.paths[0].pathType: Required value: pathType must be specified"),
    # configuration, nodes and the rest
    Bad("cm-key", "v1/ConfigMap", {"data": {"a b": "c"}}, 'data[a b]: Invalid value: "a b": a valid config key must consist of alphanumeric characters'),
    Bad("cm-too-long", "v1/ConfigMap", {"data": {"a": "b" * (1 << 20), "c": "d"}}, "[]: Too long: may not be more than 1048576 bytes"),
    Bad("cm-both", "v1/ConfigMap", {"binaryData": {"a": ""}}, 'data[a]: Invalid value: "a": duplicate of key present in binaryData'),
    Bad("secret-key", "v1/Secret", {"data": {"..": ""}}, "data[..]: Invalid value: \"..\": must not be '..'"),
    Bad("secret-docker", "v1/Secret", {"type": "kubernetes.io/dockerconfigjson", "data": {".dockerconfigjson": "eA=="}}, "data[.dockerconfigjson]: Invalid value: \"<secret contents redacted>\": invalid character 'x' looking for beginning of value"),
    Bad("secret-docker-list", "v1/Secret", {"type": "kubernetes.io/dockercfg", "data": {".dockercfg": "W10="}}, 'data[.dockercfg]: Invalid value: "<secret contents redacted>": json: cannot unmarshal array into Go value of type map[string]interface {}'),
    Bad("secret-docker-none", "v1/Secret", {"type": "kubernetes.io/dockercfg", "data": {".dockercfg": ""}}, 'data[.dockercfg]: Invalid value: "<secret contents redacted>": unexpected end of JSON input'),
    Bad("secret-tls", "v1/Secret", {"type": "kubernetes.io/tls", "data": {"tls.crt": "eA=="}}, "data[tls.key]: Required value"),
    Bad("taint-effect", "v1/Node", {"spec.taints": [{"key": "a"}]}, "spec.taints[0].effect: Required value"),
    Bad("taint-unknown", "v1/Node", {"spec.taints": [{"key": "a", "effect": "x"}]}, 'spec.taints[0].effect: Unsupported value: "x": supported values: "NoExecute", "NoSchedule", "PreferNoSchedule"'),
    Bad("taint-twice", "v1/Node", {"spec.taints": [{"key": "a", "effect": "NoExecute"}] * 2}, "spec.taints[1]: taints must be unique by key and effect pair"),
    Bad("pod-cidr", "v1/Node", {"spec.podCIDR": "10.0.0.0"}, 'spec.podCIDRs[0]: Invalid value: "10.0.0.0": must be a valid CIDR value'),
    Bad("pod-cidrs", "v1/Node", {"spec": {"podCIDRs": ["10.0.0.0/24", "10.0.1.0/24"]}}, 'spec.podCIDRs: Invalid value: []string{"10.0.0.0/24", "10.0.1.0/24"}: must specify no more than one CIDR for each IP family'),
    Bad("event-namespace", "v1/Event", {"involvedObject.namespace": "other"}, 'involvedObject.namespace: Invalid value: "other": does not match event.namespace'),
    Bad("lease-duration", "coordination.k8s.io/v1/Lease", {"spec.leaseDurationSeconds": 0}, "spec.leaseDurationSeconds: Invalid value: 0: must be greater than 0"),
    Bad("quota-negative", "v1/ResourceQuota", {"spec.hard": {"pods": "-1"}}, 'spec.hard[pods]: Invalid value: "-1": must be greater than or equal to 0'),
    Bad("quota-name", "v1/ResourceQuota", {"spec.hard": {"odd": "1"}}, 'spec.hard[odd]: Invalid value: "odd": must be a standard resource for quota'),
    Bad("quota-half-a-pod", "v1/ResourceQuota", {"spec.hard": {"pods": "500m"}}, 'spec.hard[pods]: Invalid value: "500m": must be an integer'),
    Bad("quota-scope", "v1/ResourceQuota", {"spec.scopes": ["x"]}, "spec.scopes: Invalid value: "),
    Bad("quota-conflict", "v1/ResourceQuota", {"spec.scopes": ["BestEffort", "NotBestEffort"]}, 'spec.scopes: Invalid value: []string{"BestEffort", "NotBestEffort"}: conflicting scopes'),
    Bad("quota-scope-of-services", "v1/ResourceQuota", {"spec.hard": {"services": "1"}, "spec.scopes": ["Terminating"]}, 'spec.scopes: Invalid value: []string{"Terminating"}: unsupported scope applied to resource'),
    Bad("quota-selector-operator", "v1/ResourceQuota", scope_selector("BestEffort", "In", "a"), 'spec.scopeSelector.matchExpressions.operator: Invalid value: "In": must be '),
    Bad("quota-selector-values", "v1/ResourceQuota", scope_selector("PriorityClass", "In"), "spec.scopeSelector.matchExpressions.values: Required value: must be at least one value"),
    Bad("quota-selector-no-values", "v1/ResourceQuota", scope_selector("PriorityClass", "Exists", "a"), "spec.scopeSelector.matchExpressions.values: Invalid value: "),
    Bad("limit-type", "v1/LimitRange", {"spec.limits": [{"type": "Node"}]}, 'spec.limits[0].type: Invalid value: "Node": must be a standard limit type or fully qualified'),
    Bad("limit-claim", "v1/LimitRange", {"spec.limits": [{"type": "PersistentVolumeClaim"}]}, "spec.limits[0].limits: Required value: either minimum or maximum storage value is required"),
    Bad("limit-request-order", "v1/LimitRange", {"spec.limits": [{"type": "Container", "default": {"cpu": "1"}, "defaultRequest": {"cpu": "2"}}]}, 'spec.limits[0].defaultRequest[cpu]: Invalid value: "2": default request value 2 is greater than default limit value 1'),
    Bad("limit-ratio", "v1/LimitRange", {"spec.limits": [{"type": "Pod", "maxLimitRequestRatio": {"cpu": "500m"}}]}, 'spec.limits[0].maxLimitRequestRatio[cpu]: Invalid value: "500m": ratio 500m is less than 1'),
    Bad("limit-wide-ratio", "v1/LimitRange", {"spec.limits": [{"type": "Pod", "min": {"cpu": "1"}, "max": {"cpu": "2"}, "maxLimitRequestRatio": {"cpu": "3"}}]}, 'spec.limits[0].maxLimitRequestRatio[cpu]: Invalid value: "3": ratio 3 is greater than max/min = 2.000000'),
    Bad("limit-order", "v1/LimitRange", {"spec.limits": [{"type": "Pod", "min": {"cpu": "2"}, "max": {"cpu": "1"}}]}, 'spec.limits[0].min[cpu]: Invalid value: "2": min value 2 is greater than max value 1'),
    Bad("pvc-modes", "v1/PersistentVolumeClaim", {"spec.accessModes": []}, "spec.accessModes: Required value: at least 1 access mode is required"),
    Bad("pv-type", "v1/PersistentVolume", {"spec|hostPath": DELETE}, "spec: Required value: must specify a volume type"),
    Bad("sc-mode", "storage.k8s.io/v1/StorageClass", {"volumeBindingMode": "x"}, 'volumeBindingMode: Unsupported value: "x": supported values: "Immediate", "WaitForFirstConsumer"'),
    Bad("role-verbs", "rbac.authorization.k8s.io/v1/Role", {"rules.0.verbs": []}, "rules[0].verbs: Required value: verbs must contain at least one value"),
    Bad("binding-kind", "rbac.authorization.k8s.io/v1/RoleBinding", {"roleRef.kind": "x"}, 'roleRef.kind: Unsupported value: "x": supported values: "ClusterRole", "Role"'),
    Bad("binding-subject", "rbac.authorization.k8s.io/v1/RoleBinding", {"subjects": [{"kind": "x", "name": "u"}]}, 'subjects[0].kind: Unsupported value: "x": supported values: "Group", "ServiceAccount", "User"'),
    Bad("priority", "scheduling.k8s.io/v1/PriorityClass", {"value": 2_000_000_000}, "value: Forbidden: maximum allowed value of a user defined priority is 1000000000"),
    Bad("csr-usage", "certificates.k8s.io/v1/CertificateSigningRequest", {"spec.usages": []}, "spec.usages: Required value"),
    Bad("runtime", "node.k8s.io/v1/RuntimeClass", {"handler": "A"}, f'handler: Invalid value: "A": {LABEL}'),
    Bad("crd-name", "apiextensions.k8s.io/v1/CustomResourceDefinition", {"metadata.name": "x"}, 'metadata.name: Invalid value: "x": must be spec.names.plural+"."+spec.group'),
    Bad("sar-none", "authorization.k8s.io/v1/SelfSubjectAccessReview", {"spec": {}}, "spec.resourceAttributes: Invalid value: null: exactly one of nonResourceAttributes or resourceAttributes must be specified"),
    Bad("token-review", "authentication.k8s.io/v1/TokenReview", {"spec.token": ""}, "spec.token: Required value"),
]  # fmt: skip


@pytest.mark.parametrize("case", BAD, ids=lambda case: case.id)
def test_one_wrong_thing_has_one_refusal(case):
    found = refusals(validate_create(good(case.kind, case.changes), resource_of(case.kind)))
    assert len(found) == 1, found
    assert found[0].startswith(case.refusal)


def test_all_wrong_things_are_named_at_once():
    obj = good("v1/Pod", {"metadata.name": "A", C + "name": "", C + "image": "", "spec.restartPolicy": "x"})
    fields = [cause.field for cause in validate_create(obj, resources.PODS)]
    assert fields == ["metadata.name", "spec.containers[0].name", "spec.containers[0].image", "spec.restartPolicy"]
    status = errors.invalid("Pod", "A", validate_create(obj, resources.PODS)).to_status()
    assert status["message"].startswith('Pod "A" is invalid: [metadata.name: Invalid value: "A"')
    assert [cause["reason"] for cause in status["details"]["causes"]][1] == "FieldValueRequired"


def test_missing_selector_says_both_things():
    obj = good("apps/v1/Deployment", {"spec.selector": None})
    assert refusals(validate_create(obj, resources.DEPLOYMENTS)) == [
        "spec.selector: Required value",
        'spec.template.metadata.labels: Invalid value: map[string]string{"a":"b"}: `selector` does not match template `labels`',
    ]


@pytest.mark.parametrize("resource", resources.RESOURCES, ids=lambda r: f"{r.qualified_name}.{r.version}")
@pytest.mark.parametrize("junk", [None, [], "x", 7, {"containers": [None], "template": "x", "ports": {}}], ids=repr)
def test_objects_of_the_wrong_shape_never_raise(resource, junk):
    """The schema refuses them before; should one get through, it is judged, not crashed on."""
    obj = {"metadata": {"name": "x"}, "spec": junk, "status": junk, "data": junk, "subsets": junk, "rules": junk}
    assert isinstance(validate_create(obj, resource), list)
    assert isinstance(validate_update(obj, obj, resource), list)
