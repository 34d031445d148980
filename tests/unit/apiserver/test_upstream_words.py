"""The wire: what a 1.32 server says, word for word, where people and programs read it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import orjson
import pytest

sys.path.insert(0, str(Path(__file__).parent))
from http_fixtures import NS, Wire

MAPS = f"{NS}/configmaps"
MERGE, STRATEGIC = "application/merge-patch+json", "application/strategic-merge-patch+json"
JSON_PATCH, APPLY = "application/json-patch+json", "application/apply-patch+yaml"
UNRECOGNIZED = (
    "the object provided is unrecognized (must be of type ConfigMap): couldn't get version/kind; json parse error: "
)
TYPE_META = r'struct { APIVersion string "json:\"apiVersion,omitempty\""; Kind string "json:\"kind,omitempty\"" }'


def config_map(name: str = "a", **metadata: Any) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, **metadata}, "data": {"k": "v"}}


# -- bodies


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        (b"", "unexpected end of JSON input (<empty>)"),
        (b"xxx", "invalid character 'x' looking for beginning of value (787878)"),
        (b'{"kind": "Con', 'unexpected end of JSON input ({"kind": "Con)'),
        (b"{kind: 1}", "invalid character 'k' looking for beginning of object key string ({kind: 1})"),
        (b'{"a" 1}', "invalid character '1' after object key ({\"a\" 1})"),
        (b'{"a":1 "b"}', 'invalid character \'"\' after object key:value pair ({"a":1 "b"})'),
        (b'{"a":[1 2]}', "invalid character '2' after array element ({\"a\":[1 2]})"),
        (b'{"a":"]\\"[",}', 'invalid character \'}\' looking for beginning of object key string ({"a":"]\\"[",})'),
        (b"{} {}", "invalid character '{' after top-level value ({} {})"),
        (b'{"a":"\n"}', 'invalid character \'\\n\' in string literal ({"a":"\n"})'),
        (b'{"a":"\\x"}', 'invalid character \'x\' in string escape code ({"a":"\\x"})'),
        (b"[]", f"json: cannot unmarshal array into Go value of type {TYPE_META} (5b5d)"),
        (
            b'"' + b"x" * 40 + b'"',
            f"json: cannot unmarshal string into Go value of type {TYPE_META} (22{'78' * 29} ...)",
        ),
    ],
    ids=str,
)
async def test_bodies_that_are_no_objects(wire: Wire, body: bytes, problem: str) -> None:
    answer = await wire("POST", MAPS, body)
    assert (answer.status, answer.message) == (400, UNRECOGNIZED + problem)


async def test_a_put_says_its_name(wire: Wire) -> None:
    await wire("POST", MAPS, config_map())
    answer = await wire("PUT", f"{MAPS}/a", {"data": {"k": "w"}})
    why = "the name of the object (a based on URL) was undeterminable: name must be provided"
    assert (answer.status, answer.message) == (400, why)


@pytest.mark.parametrize(("namespace", "status"), [("default", 201), ("other", 400)])
async def test_the_default_namespace_is_forgiven_where_there_is_none(wire: Wire, namespace: str, status: int) -> None:
    """Many manifests of cluster roles say it."""
    role = {"metadata": {"name": "a", "namespace": namespace}, "rules": []}
    answer = await wire("POST", "/apis/rbac.authorization.k8s.io/v1/clusterroles", role)
    assert answer.status == status
    assert status != 201 or "namespace" not in answer.json["metadata"]


async def test_what_is_too_large_for_a_config_map(wire: Wire) -> None:
    answer = await wire("POST", MAPS, {"metadata": {"name": "a"}, "data": {"k": "x" * (1 << 20 | 1)}})
    assert answer.message == 'ConfigMap "a" is invalid: []: Too long: may not be more than 1048576 bytes'


# -- names that are taken, owners that stand twice, versions that must be said


async def test_a_name_whose_object_is_going(wire: Wire) -> None:
    await wire("POST", MAPS, config_map(finalizers=["x.io/y"]))
    taken = await wire("POST", MAPS, config_map())
    assert taken.message == 'configmaps "a" already exists'
    await wire("DELETE", f"{MAPS}/a")
    for query in ("", "?dryRun=All"):
        going = await wire("POST", MAPS + query, config_map())
        assert (going.status, going.json["reason"]) == (409, "AlreadyExists")
        assert going.message == 'object is being deleted: configmaps "a" already exists'


async def test_owners_that_stand_twice(wire: Wire) -> None:
    owner = {"apiVersion": "v1", "kind": "Pod", "name": "p", "uid": "u"}
    made = await wire("POST", MAPS, config_map(ownerReferences=[owner, owner, {**owner, "uid": "w"}]))
    assert made.json["metadata"]["ownerReferences"] == [owner, {**owner, "uid": "w"}]
    assert made.warnings == [
        (
            '299 - ".metadata.ownerReferences contains duplicate entries; API server dedups owner references in 1.20+, and may '
            'reject such requests as early as 1.24; please fix your requests; duplicate UID(s) observed: u"'
        )
    ]
    patch = {"metadata": {"ownerReferences": [owner, owner]}}
    patched = await wire("PATCH", f"{MAPS}/a", patch, MERGE)
    assert patched.json["metadata"]["ownerReferences"] == [owner]
    assert "after mutating admission happens" in patched.warnings[0]


async def test_kinds_that_must_say_their_version(wire: Wire) -> None:
    """Storage speaks of the plural here, where validation speaks of the kind."""
    leases = "/apis/coordination.k8s.io/v1/namespaces/default/leases"
    lease = {"metadata": {"name": "a"}, "spec": {"holderIdentity": "x"}}
    await wire("POST", leases, lease)
    answer = await wire("PUT", f"{leases}/a", lease)
    why = "metadata.resourceVersion: Invalid value: 0x0: must be specified for an update"
    assert (answer.status, answer.message) == (422, f'leases.coordination.k8s.io "a" is invalid: {why}')


# -- selectors


@pytest.mark.parametrize(
    ("path", "message"),
    [
        (
            f"{MAPS}?fieldSelector=foo%3Dbar",
            '"foo" is not a known field selector: only "metadata.name", "metadata.namespace"',
        ),
        (f"{NS}/pods?fieldSelector=foo%3Dbar", "field label not supported: foo"),
        ("/apis/batch/v1/jobs?fieldSelector=foo%3Dbar", 'field label "foo" not supported for batchv1.Job'),
        ("/api/v1/nodes?fieldSelector=metadata.namespace%3Da", "field label not supported: metadata.namespace"),
        (
            "/api/v1/namespaces?watch=1&fieldSelector=metadata.namespace%3Da",
            "field label not supported: metadata.namespace",
        ),
    ],
)
async def test_fields_nobody_can_select_by(wire: Wire, path: str, message: str) -> None:
    answer = await wire("GET", path)
    assert (answer.status, answer.message) == (400, message)


@pytest.mark.parametrize(
    ("path", "names"),
    [
        ("/api/v1/watch/configmaps", {"a", "b"}),
        ("/api/v1/watch/namespaces/default/configmaps", {"a", "b"}),
        ("/api/v1/watch/namespaces/default/configmaps/a", {"a"}),
        ("/api/v1/watch/namespaces/other/configmaps", set()),
    ],
)
async def test_the_old_watch_urls(wire: Wire, path: str, names: set[str]) -> None:
    for name in ("a", "b"):
        await wire("POST", MAPS, config_map(name))
    answer = await wire("GET", f"{path}?timeoutSeconds=1")
    seen = {orjson.loads(line)["object"]["metadata"]["name"] for line in answer.body.splitlines()}
    assert (answer.status, seen & {"a", "b"}) == (200, names)
    assert (await wire("POST", path, {})).status == 404


# -- patches


@pytest.mark.parametrize(
    ("operations", "why"),
    [
        ([{"op": "test", "path": "/data/k", "value": "x"}], "testing value /data/k failed: test failed"),
        ([{"op": "frob", "path": "/data/k"}], "Unexpected kind: frob"),
        ([{"op": "replace", "path": "/data/nope", "value": "x"}], "replace operation does not apply"),
    ],
)
async def test_a_json_patch_that_does_not_apply(wire: Wire, operations: list[Any], why: str) -> None:
    """Upstream's one sentence, and the reason where it is in nobody's way."""
    await wire("POST", MAPS, config_map())
    answer = await wire("PATCH", f"{MAPS}/a", operations, JSON_PATCH)
    assert (answer.status, answer.json["reason"], answer.json["details"]) == (422, "Invalid", {})
    assert answer.message == "the server rejected our request due to an error in our request"
    assert why in answer.warnings[0]


async def test_too_many_operations(wire: Wire) -> None:
    await wire("POST", MAPS, config_map())
    operations = [{"op": "test", "path": "/data/k", "value": "v"}] * 10_001
    answer = await wire("PATCH", f"{MAPS}/a", operations, JSON_PATCH)
    why = "Request entity too large: The allowed maximum operations in a JSON patch is 10000, got 10001"
    assert (answer.status, answer.message) == (413, why)


DEPLOYMENTS = "/apis/apps/v1/namespaces/default/deployments"


@pytest.mark.parametrize(
    ("patch", "why"),
    [
        ({"spec": {"replicas": "two"}}, "unrecognized type: int32"),
        ({"spec": {"replicas": 1.5}}, "cannot convert float64 to int32"),
        ({"spec": {"paused": "yes"}}, "unrecognized type: bool"),
        ({"spec": {"template": {"spec": {"nodeSelector": {"a": 1}}}}}, "cannot convert int64 to string"),
        ({"spec": {"template": {"spec": {"restartPolicy": 1}}}}, "cannot convert int64 to v1.RestartPolicy"),
        ({"spec": {"template": {"spec": {"nodeName": True}}}}, "unrecognized type: string"),
        ({"metadata": {"labels": "x"}}, "cannot restore map from string"),
        ({"spec": {"template": {"spec": {"volumes": {"a": 1}}}}}, "cannot restore slice from map"),
        ({"spec": {"strategy": 5}}, "cannot restore struct from: int64"),
        (
            {"spec": {"strategy": {"rollingUpdate": {"maxSurge": []}}}},
            "json: cannot unmarshal array into Go value of type int32",
        ),
    ],
    ids=str,
)
async def test_strategic_patches_to_a_wrong_type(wire: Wire, patch: Any, why: str) -> None:
    template = {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}}
    spec = {"selector": {"matchLabels": {"a": "b"}}, "template": template}
    await wire("POST", DEPLOYMENTS, {"metadata": {"name": "a"}, "spec": spec})
    answer = await wire("PATCH", f"{DEPLOYMENTS}/a", patch, STRATEGIC)
    assert (answer.status, answer.message.rpartition('": ')[2]) == (422, why)
    assert answer.message.startswith(' "" is invalid: patch: Invalid value: "map[')


async def test_merge_patches_to_a_wrong_type(wire: Wire) -> None:
    """JSON is read again here, and its decoder speaks for itself."""
    await wire("POST", MAPS, config_map())
    answer = await wire("PATCH", f"{MAPS}/a", {"data": {"k": 1}}, MERGE)
    assert answer.status == 422
    assert answer.message.endswith(
        '}": json: cannot unmarshal number into Go struct field ConfigMap.data of type string'
    )


async def test_the_selector_of_a_deployment_comes_last(wire: Wire) -> None:
    template = {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}}
    spec = {"selector": {"matchLabels": {"a": "b"}}, "template": template}
    await wire("POST", DEPLOYMENTS, {"metadata": {"name": "a"}, "spec": spec})
    answer = await wire("PATCH", f"{DEPLOYMENTS}/a", {"spec": {"selector": {"matchLabels": {"a": "z"}}}}, MERGE)
    fields = [cause["field"] for cause in answer.json["details"]["causes"]]
    assert fields == ["spec.template.metadata.labels", "spec.selector"]


async def test_a_list_that_is_refused_is_shown_as_go_does(wire: Wire) -> None:
    await wire("POST", f"{NS}/services", {"metadata": {"name": "a"}, "spec": {"ports": [{"port": 80}]}})
    patch = {"spec": {"clusterIP": "10.96.77.7"}}
    answer = await wire("PATCH", f"{NS}/services/a", patch, STRATEGIC)
    why = 'spec.clusterIPs[0]: Invalid value: []string{"10.96.77.7"}: may not change once set'
    assert (answer.status, answer.message) == (422, f'Service "a" is invalid: {why}')


# -- server-side apply


@pytest.mark.parametrize(
    ("path", "body", "why"),
    [
        (f"{MAPS}/a", {"data": {"a": 5}}, ".data.a: expected string, got &value.valueUnstructured{Value:5}"),
        (f"{MAPS}/a", {"immutable": "x"}, ".immutable: expected boolean, got &{x}"),
        (f"{MAPS}/a", {"data": [1]}, ".data: expected map, got &{[1]}"),
        (f"{MAPS}/a", {"nope": 1}, ".nope: field not declared in schema"),
        (
            f"{MAPS}/a",
            {"nope": 1, "data": {"a": {"b": "c"}}},
            (
                "errors:\n  .nope: field not declared in schema\n"
                '  .data.a: expected string, got &value.valueUnstructured{Value:map[string]interface {}{"b":"c"}}'
            ),
        ),
        (
            f"{NS}/pods/a",
            {"spec": {"containers": [{"name": "c", "ports": [{"containerPort": "80"}]}], "priority": "x"}},
            (
                "errors:\n"
                '  .spec.containers[name="c"].ports[containerPort="80",protocol="TCP"].containerPort: '
                "expected numeric (int or float), got string\n"
                "  .spec.priority: expected numeric (int or float), got string"
            ),
        ),
        (
            f"{NS}/pods/a",
            {"spec": {"containers": {"name": "c"}}},
            ".spec.containers: expected list, got &{map[name:c]}",
        ),
    ],
    ids=str,
)
async def test_applies_that_do_not_fit_the_schema(wire: Wire, path: str, body: Any, why: str) -> None:
    kind = "Pod" if "/pods/" in path else "ConfigMap"
    applied = {"apiVersion": "v1", "kind": kind, "metadata": {"name": "a"}, **body}
    answer = await wire("PATCH", f"{path}?fieldManager=me", applied, APPLY)
    said = f"failed to create typed patch object (/a; v1, Kind={kind}): {why}"
    assert (answer.status, answer.message) == (400, said)


async def test_a_manager_nobody_can_print(wire: Wire) -> None:
    answer = await wire("POST", f"{MAPS}?fieldManager=a%01", config_map())
    why = 'fieldManager: Invalid value: "a\\u0001": invalid character U+0001 (at position 1)'
    assert (answer.status, answer.message) == (422, f'CreateOptions.meta.k8s.io "" is invalid: {why}')


# -- answers


async def test_details_leave_out_what_they_do_not_know(wire: Wire) -> None:
    invalid = await wire("POST", MAPS, {})
    assert "name" not in invalid.json["details"]
    for method, path in (("POST", f"{MAPS}/a"), ("GET", "/api/v1/foos")):
        assert (await wire(method, path)).json["details"] == {}


async def test_include_object_is_for_tables(wire: Wire) -> None:
    await wire("POST", MAPS, config_map())
    assert (await wire("GET", f"{MAPS}/a?includeObject=Foo")).status == 200
    answer = await wire("GET", f"{MAPS}?includeObject=Foo", Accept="application/json;as=Table;v=v1;g=meta.k8s.io")
    why = "includeObject: Invalid value: \"Foo\": must be 'Metadata', 'Object', 'None', or empty"
    assert (answer.status, answer.message) == (400, f"Unable to convert to Table as requested: {why}")


# -- warnings


def pod_spec(**spec: Any) -> dict[str, Any]:
    return {"containers": [{"name": "c", "image": "i"}], **spec}


def container(**fields: Any) -> dict[str, Any]:
    return pod_spec(containers=[{"name": "c", "image": "i", **fields}])


@pytest.mark.parametrize(
    ("spec", "remark"),
    [
        (
            pod_spec(nodeSelector={"beta.kubernetes.io/os": "linux"}),
            'spec.nodeSelector[beta.kubernetes.io/os]: deprecated since v1.14; use "kubernetes.io/os" instead',
        ),
        (
            container(ports=[{"containerPort": 80}, {"containerPort": 80, "name": "b"}]),
            "spec.containers[0].ports[1]: duplicate port definition with spec.containers[0].ports[0]",
        ),
        (
            container(ports=[{"containerPort": 80}, {"containerPort": 80, "hostPort": 8080}]),
            "spec.containers[0].ports[1]: overlapping port definition with spec.containers[0].ports[0]",
        ),
        (
            container(env=[{"name": "A", "value": "1"}, {"name": "A", "value": "2"}]),
            'spec.containers[0].env[1]: hides previous definition of "A", which may be dropped when using apply',
        ),
        (container(env=[{"name": "A", "value": "1"}, {"name": "A", "value": "$(A)2"}]), None),
        (
            container(resources={"limits": {"memory": "100m"}, "requests": {"memory": "0"}}),
            'spec.containers[0].resources.limits[memory]: fractional byte value "100m" is invalid, must be an integer',
        ),
        (
            pod_spec(
                topologySpreadConstraints=[{"maxSkew": 1, "topologyKey": "a", "whenUnsatisfiable": "DoNotSchedule"}]
            ),
            "spec.topologySpreadConstraints[0].labelSelector: a null labelSelector results in matching no pod",
        ),
        (
            pod_spec(
                affinity={"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [{"topologyKey": "a"}]}}
            ),
            (
                "spec.affinity.podAntiAffinity.requiredDuringSchedulingIgnoredDuringExecution[0].labelSelector: "
                "a null labelSelector results in matching no pod"
            ),
        ),
        (
            pod_spec(imagePullSecrets=[{"name": "s"}, {"name": "s"}]),
            'spec.imagePullSecrets[1].name: duplicate name "s"',
        ),
        (
            pod_spec(terminationGracePeriodSeconds=-5),
            "spec.terminationGracePeriodSeconds: must be >= 0; negative values are invalid and will be treated as 1",
        ),
        (pod_spec(), None),
    ],
    ids=str,
)
async def test_remarks_about_pods_and_templates(wire: Wire, spec: dict[str, Any], remark: str | None) -> None:
    await wire("POST", f"{NS}/serviceaccounts", {"metadata": {"name": "default"}})
    pod = await wire("POST", f"{NS}/pods?dryRun=All", {"metadata": {"name": "p"}, "spec": spec})
    said = [warning.replace('\\"', '"') for warning in pod.warnings]
    assert (pod.status, said) == (201, [f'299 - "{remark}"'] if remark else [])
    if spec.get("terminationGracePeriodSeconds"):
        return
    template = {"metadata": {"labels": {"a": "b"}}, "spec": spec}
    body = {"metadata": {"name": "d"}, "spec": {"selector": {"matchLabels": {"a": "b"}}, "template": template}}
    made = await wire("POST", DEPLOYMENTS, body)
    below = remark.replace("spec.", "spec.template.spec.") if remark else ""
    assert [warning.replace('\\"', '"') for warning in made.warnings] == ([f'299 - "{below}"'] if remark else [])
    scaled = await wire("PATCH", f"{DEPLOYMENTS}/d", {"spec": {"replicas": 3}}, MERGE)
    assert scaled.warnings == made.warnings
    labelled = await wire("PATCH", f"{DEPLOYMENTS}/d", {"metadata": {"labels": {"x": "y"}}}, MERGE)
    assert labelled.warnings == []


@pytest.mark.parametrize(
    ("path", "kind", "metadata", "spec", "remark"),
    [
        (f"{NS}/services", "Service", {}, {"clusterIP": "None", "sessionAffinity": "ClientIP", "ports": [{"port": 80}]},
         "spec.SessionAffinity is ignored for headless services"),
        (f"{NS}/services", "Service", {}, {"type": "ExternalName", "externalName": "a.b", "externalIPs": ["1.2.3.4"]},
         'spec.externalIPs is ignored when spec.type is "ExternalName"'),
        (f"{NS}/services", "Service", {"annotations": {"service.kubernetes.io/topology-aware-hints": "auto"}},
         {"ports": [{"port": 80}]},
         ("annotation service.kubernetes.io/topology-aware-hints is deprecated, please use "
         "service.kubernetes.io/topology-mode instead")),
        ("/apis/networking.k8s.io/v1/namespaces/default/ingresses", "Ingress",
         {"annotations": {"kubernetes.io/ingress.class": "nginx"}},
         {"defaultBackend": {"service": {"name": "s", "port": {"number": 80}}}},
         "annotation \"kubernetes.io/ingress.class\" is deprecated, please use 'spec.ingressClassName' instead"),
        (f"{NS}/pods", "Pod", {"name": "a.b"}, pod_spec(),
         ("metadata.name: this is used in the Pod's hostname, which can result in surprising behavior; a DNS label is "
         "recommended: [must not contain dots]")),
    ],
    ids=["headless", "external name", "hints", "ingress class", "name"],
)  # fmt: skip
async def test_other_remarks(wire: Wire, path: str, kind: str, metadata: Any, spec: Any, remark: str) -> None:
    await wire("POST", f"{NS}/serviceaccounts", {"metadata": {"name": "default"}})
    body = {"kind": kind, "metadata": {"name": "a", **metadata}, "spec": spec}
    made = await wire("POST", path, body)
    assert made.status == 201, made.body
    assert [warning.replace('\\"', '"') for warning in made.warnings] == [f'299 - "{remark}"']
