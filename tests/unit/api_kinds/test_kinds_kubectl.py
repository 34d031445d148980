"""The real kubectl reads this room's discovery and OpenAPI documents, and its protobuf bodies decode."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from podnet.controlplane.api.types import Object


@dataclass(frozen=True)
class Case:
    """One typed kubectl command and (part of) the object it must send."""

    id: str
    args: tuple[str, ...]
    expect: Object = field(default_factory=dict)
    kind: str = ""


CASES = [
    Case("namespace", ("create", "namespace", "a"), {"metadata": {"name": "a"}, "spec": {}, "status": {}}, "Namespace"),
    Case(
        "deployment",
        ("create", "deployment", "web", "--image=nginx:1.27", "--replicas=0", "--port=80"),
        {
            "metadata": {"name": "web", "labels": {"app": "web"}},
            "spec": {
                "replicas": 0,
                "selector": {"matchLabels": {"app": "web"}},
                "template": {
                    "metadata": {"labels": {"app": "web"}},
                    "spec": {
                        "containers": [
                            {"name": "nginx", "image": "nginx:1.27", "resources": {}, "ports": [{"containerPort": 80}]}
                        ]
                    },
                },
                "strategy": {},
            },
            "status": {},
        },
        "Deployment",
    ),
    Case(
        "configmap",
        ("create", "configmap", "c", "--from-literal=k=v", "--from-literal=empty="),
        {"metadata": {"name": "c"}, "data": {"k": "v", "empty": ""}},
        "ConfigMap",
    ),
    Case(
        "secret",
        ("create", "secret", "generic", "s", "--from-literal=k=v"),
        {"metadata": {"name": "s"}, "data": {"k": "dg=="}},
        "Secret",
    ),
    Case(
        "service-clusterip",
        ("create", "service", "clusterip", "w", "--tcp=80:8080"),
        {
            "metadata": {"name": "w", "labels": {"app": "w"}},
            "spec": {
                "ports": [{"name": "80-8080", "protocol": "TCP", "port": 80, "targetPort": 8080}],
                "selector": {"app": "w"},
                "type": "ClusterIP",
            },
            "status": {"loadBalancer": {}},
        },
        "Service",
    ),
    Case(
        "service-headless",
        ("create", "service", "clusterip", "w", "--clusterip=None"),
        {
            "metadata": {"name": "w", "labels": {"app": "w"}},
            "spec": {"clusterIP": "None", "selector": {"app": "w"}, "type": "ClusterIP"},
        },
        "Service",
    ),
    Case(
        "service-nodeport",
        ("create", "service", "nodeport", "w", "--tcp=80:http", "--node-port=30080"),
        {
            "spec": {
                "ports": [{"name": "80-http", "protocol": "TCP", "port": 80, "targetPort": "http", "nodePort": 30080}],
                "selector": {"app": "w"},
                "type": "NodePort",
            }
        },
        "Service",
    ),
    Case(
        "service-externalname",
        ("create", "service", "externalname", "e", "--external-name=a.example"),
        {"spec": {"selector": {"app": "e"}, "type": "ExternalName", "externalName": "a.example"}},
        "Service",
    ),
    Case(
        "job",
        ("create", "job", "j", "--image=busybox", "--", "echo", "", "x"),
        {
            "spec": {
                "template": {
                    "metadata": {},
                    "spec": {
                        "containers": [
                            {"name": "j", "image": "busybox", "command": ["echo", "", "x"], "resources": {}}
                        ],
                        "restartPolicy": "Never",
                    },
                }
            }
        },
        "Job",
    ),
    Case("cronjob", ("create", "cronjob", "cj", "--image=busybox", "--schedule=*/5 * * * *"), {}, "CronJob"),
    Case(
        "ingress",
        ("create", "ingress", "i", "--rule=a.example/*=svc:80", "--class=nginx"),
        {
            "spec": {
                "ingressClassName": "nginx",
                "rules": [
                    {
                        "host": "a.example",
                        "http": {
                            "paths": [
                                {
                                    "path": "/",
                                    "pathType": "Prefix",
                                    "backend": {"service": {"name": "svc", "port": {"number": 80}}},
                                }
                            ]
                        },
                    }
                ],
            }
        },
        "Ingress",
    ),
    Case("serviceaccount", ("create", "serviceaccount", "bot"), {"metadata": {"name": "bot"}}, "ServiceAccount"),
    Case(
        "role",
        ("create", "role", "r", "--verb=get,list", "--resource=pods"),
        {"rules": [{"verbs": ["get", "list"], "apiGroups": [""], "resources": ["pods"]}]},
        "Role",
    ),
    Case(
        "rolebinding",
        ("create", "rolebinding", "b", "--role=r", "--user=jane", "--serviceaccount=default:bot"),
        {"roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "r"}},
        "RoleBinding",
    ),
    Case("clusterrole", ("create", "clusterrole", "cr", "--verb=get", "--non-resource-url=/logs"), {}, "ClusterRole"),
    Case(
        "clusterrolebinding",
        ("create", "clusterrolebinding", "crb", "--clusterrole=cr", "--group=g"),
        {},
        "ClusterRoleBinding",
    ),
    Case(
        "quota",
        ("create", "quota", "q", "--hard=pods=2,cpu=500m"),
        {"spec": {"hard": {"pods": "2", "cpu": "500m"}}},
        "ResourceQuota",
    ),
    Case(
        "pdb",
        ("create", "pdb", "p", "--selector=a=b", "--min-available=50%"),
        {"spec": {"minAvailable": "50%", "selector": {"matchLabels": {"a": "b"}}}},
        "PodDisruptionBudget",
    ),
    Case(
        "priorityclass",
        ("create", "priorityclass", "pc", "--value=1000", "--description=d"),
        {"value": 1000, "description": "d", "preemptionPolicy": "PreemptLowerPriority"},
        "PriorityClass",
    ),
    Case(
        "token",
        ("create", "token", "bot", "--duration=10m", "--audience=x"),
        {"spec": {"audiences": ["x"], "expirationSeconds": 600}},
        "TokenRequest",
    ),
    Case(
        "can-i",
        ("auth", "can-i", "get", "pods"),
        {"spec": {"resourceAttributes": {"namespace": "default", "verb": "get", "resource": "pods"}}},
        "SelfSubjectAccessReview",
    ),
    Case("whoami", ("auth", "whoami"), {}, "SelfSubjectReview"),
]


def contains(actual: object, expected: object) -> bool:
    """Whether `actual` has everything `expected` has; lists are compared item by item."""
    if isinstance(expected, dict):
        return isinstance(actual, dict) and all(k in actual and contains(actual[k], v) for k, v in expected.items())
    if isinstance(expected, list):
        return isinstance(actual, list) and len(actual) == len(expected) and all(map(contains, actual, expected))
    return actual == expected


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
async def test_typed_commands_arrive(kubectl, case):
    _, out = await kubectl.run(*case.args)
    assert kubectl.requests, out
    request = kubectl.requests[0]
    obj = request.obj()
    assert obj["kind"] == case.kind
    assert contains(obj, case.expect), obj
    assert not obj.get("metadata", {}).get("creationTimestamp")


async def test_create_deployment_is_protobuf(kubectl):
    code, out = await kubectl.run("create", "deployment", "web", "--image=nginx")
    assert (code, out) == (0, "deployment.apps/web created\n")
    version = (await kubectl.run("version", "--client", "-o", "json"))[1]
    if '"minor": "32"' in version or '"minor": "33"' in version:
        assert kubectl.requests[0].content_type == "application/vnd.kubernetes.protobuf"


async def test_create_file_asks_openapi_and_posts_json(kubectl):
    manifest = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: c}\ndata: {a: b}\n"
    code, out = await kubectl.run("create", "-f", "-", stdin=manifest)
    assert (code, out) == (0, "configmap/c created\n")
    assert kubectl.requests[0].obj()["data"] == {"a": "b"}


async def test_apply_and_server_side_apply(kubectl):
    manifest = "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: c}\nspec: {replicas: 2}\n"
    code, out = await kubectl.run("apply", "-f", "-", stdin=manifest)
    assert (code, out) == (0, "deployment.apps/c created\n")
    code, out = await kubectl.run("apply", "--server-side", "-f", "-", stdin=manifest)
    assert (code, out) == (0, "deployment.apps/c serverside-applied\n")


async def test_apply_patches_strategically(kubectl):
    live = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "s", "namespace": "default", "resourceVersion": "1"},
        "spec": {"ports": [{"port": 80, "protocol": "TCP"}]},
    }
    kubectl.objects["/api/v1/namespaces/default/services/s"] = live
    manifest = "apiVersion: v1\nkind: Service\nmetadata: {name: s}\nspec: {ports: [{port: 81}]}\n"
    code, out = await kubectl.run("apply", "-f", "-", stdin=manifest)
    assert code == 0, out
    assert kubectl.requests[0].content_type == "application/strategic-merge-patch+json"


@dataclass(frozen=True)
class Explain:
    """What `kubectl explain` must print for a path."""

    path: str
    expect: tuple[str, ...]


EXPLAIN = [
    Explain("pods", ("KIND:       Pod", "VERSION:    v1", "spec\t<PodSpec>", "Pod is a collection of containers")),
    Explain("pod.spec.containers", ("<[]Container>", "image\t<string>", "name\t<string> -required-")),
    Explain("deployment.spec.strategy", ("GROUP:      apps", "rollingUpdate\t<RollingUpdateDeployment>")),
    Explain("svc.spec.ports.targetPort", ("FIELD: targetPort <IntOrString>", "Number or name of the port")),
    Explain("networkpolicies.spec", ("GROUP:      networking.k8s.io", "podSelector\t<LabelSelector> -required-")),
    Explain("crd.spec", ("versions\t<[]CustomResourceDefinitionVersion> -required-",)),
    Explain("hpa", ("VERSION:    v2",)),
    Explain("pods.metadata.creationTimestamp", ("<string>",)),
    Explain("pods.spec.containers.resources.limits", ("<map[string]Quantity>",)),
]


@pytest.mark.parametrize("case", EXPLAIN, ids=lambda case: case.path)
async def test_explain(kubectl, case):
    code, out = await kubectl.run("explain", case.path)
    assert code == 0, out
    for text in case.expect:
        assert text in out


async def test_explain_recursive_reaches_recursive_schemas(kubectl):
    code, out = await kubectl.run("explain", "crd", "--recursive")
    assert code == 0, out
    assert "openAPIV3Schema" in out


async def test_api_resources_lists_every_resource(kubectl):
    code, out = await kubectl.run("api-resources", "--no-headers")
    assert code == 0, out
    assert len(out.splitlines()) == 60  # autoscaling/v1 is shown through its preferred version
    assert any(line.split()[:3] == ["deployments", "deploy", "apps/v1"] for line in out.splitlines())


async def test_api_versions_lists_every_group(kubectl):
    code, out = await kubectl.run("api-versions")
    assert code == 0, out
    assert {"v1", "apps/v1", "autoscaling/v1", "autoscaling/v2", "events.k8s.io/v1"} <= set(out.split())


async def test_ambiguous_names_mean_what_they_mean_upstream(kubectl):
    await kubectl.run("get", "events")
    code, out = await kubectl.run("explain", "events")
    assert code == 0
    assert "GROUP" not in out
