"""Schemas: what a decoder refuses and how it says so, what it drops, and what merges by which key."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from podnet.controlplane.api import resources, schema


def deployment(**spec: Any) -> dict[str, Any]:
    """A Deployment with this spec."""
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d"}, "spec": spec}


def pod(**container: Any) -> dict[str, Any]:
    """A Pod with this container."""
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}, "spec": {"containers": [container]}}


GOOD_POD = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {"name": "p", "labels": {"a": "b"}, "creationTimestamp": "2026-01-01T00:00:00Z", "ownerReferences": []},
    "spec": {
        "containers": [
            {
                "name": "c",
                "image": "nginx",
                "ports": [{"containerPort": 80, "protocol": "TCP"}],
                "env": [{"name": "A", "value": "b"}, {"name": "B", "valueFrom": {"fieldRef": {"fieldPath": "x"}}}],
                "resources": {"limits": {"cpu": "100m", "memory": "64Mi"}, "requests": {"cpu": 1}},
                "livenessProbe": {"httpGet": {"path": "/", "port": "http"}, "periodSeconds": 1},
                "readinessProbe": {"tcpSocket": {"port": 80}},
            }
        ],
        "volumes": [{"name": "v", "emptyDir": {}}],
        "hostNetwork": False,
        "terminationGracePeriodSeconds": 0,
    },
    "status": {"phase": "Running", "startTime": "2026-01-01T00:00:00Z"},
}


def test_a_good_object_has_nothing_wrong() -> None:
    """Neither unknown fields nor types."""
    assert schema.strict_errors(GOOD_POD) == []
    assert schema.type_errors(GOOD_POD) == []
    assert schema.decode_error(GOOD_POD) is None


@pytest.mark.parametrize(
    ("obj", "message"),
    [
        (deployment(replicas="3"), "json: cannot unmarshal string into Go struct field DeploymentSpec.spec.replicas of type int32"),
        (deployment(replicas=1.5), "json: cannot unmarshal number 1.5 into Go struct field DeploymentSpec.spec.replicas of type int32"),
        (
            deployment(replicas=2**31),
            "json: cannot unmarshal number 2147483648 into Go struct field DeploymentSpec.spec.replicas of type int32",
        ),
        (deployment(paused="yes"), "json: cannot unmarshal string into Go struct field DeploymentSpec.spec.paused of type bool"),
        (deployment(template=[]), "json: cannot unmarshal array into Go struct field DeploymentSpec.spec.template of type v1.PodTemplateSpec"),
        (
            deployment(template={"spec": {"containers": {}}}),
            "json: cannot unmarshal object into Go struct field PodSpec.spec.template.spec.containers of type []v1.Container",
        ),
        (
            deployment(template={"spec": {"containers": [{"env": [{"name": "a", "value": 5}]}]}}),
            "json: cannot unmarshal number into Go struct field EnvVar.spec.template.spec.containers.env.value of type string",
        ),
        (
            deployment(selector={"matchLabels": {"a": True}}),
            "json: cannot unmarshal bool into Go struct field LabelSelector.spec.selector.matchLabels of type string",
        ),
        (deployment(selector={"matchLabels": []}), "json: cannot unmarshal array into Go struct field LabelSelector.spec.selector.matchLabels of type map[string]string"),
        (pod(ports=[{"containerPort": "80"}]), "json: cannot unmarshal string into Go struct field ContainerPort.spec.containers.ports.containerPort of type int32"),
        (pod(ports=[{"protocol": 6}]), "json: cannot unmarshal number into Go struct field ContainerPort.spec.containers.ports.protocol of type v1.Protocol"),
        (
            pod(resources={"limits": 5}),
            "json: cannot unmarshal number into Go struct field ResourceRequirements.spec.containers.resources.limits of type v1.ResourceList",
        ),
        (
            pod(securityContext={"capabilities": {"add": "NET_ADMIN"}}),
            "json: cannot unmarshal string into Go struct field Capabilities.spec.containers.securityContext.capabilities.add of type []v1.Capability",
        ),
        (
            pod(resources={"limits": {"cpu": "lots"}}),
            "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'",
        ),
        (pod(livenessProbe={"httpGet": {"port": True}}), "json: cannot unmarshal bool into Go value of type int32"),
        (
            {"apiVersion": "v1", "kind": "Pod", "metadata": {"creationTimestamp": "yesterday"}},
            'parsing time "yesterday" as "2006-01-02T15:04:05Z07:00": cannot parse "yesterday" as "2006"',
        ),
        (
            {"apiVersion": "v1", "kind": "Secret", "data": {"a": "not base64!"}},
            "illegal base64 data at input byte 3",
        ),
        ({"apiVersion": "v1", "kind": "Pod", "metadata": "x"}, "json: cannot unmarshal string into Go struct field Pod.metadata of type v1.ObjectMeta"),
    ],
)  # fmt: skip
def test_wrong_types_in_go_s_words(obj: dict[str, Any], message: str) -> None:
    """The first problem in document order, inside upstream's sentence."""
    assert str(schema.type_errors(obj)[0]) == message
    kind = obj["kind"]
    assert schema.decode_error(obj) == f'{kind} in version "v1" cannot be handled as a {kind}: {message}'


def test_type_errors_come_with_their_paths() -> None:
    """In document order, lists indexed."""
    obj = deployment(
        replicas="x", template={"spec": {"containers": [{"name": "a"}, {"name": 1}], "nodeSelector": {"a": 1}}}
    )
    assert [problem.path for problem in schema.type_errors(obj)] == [
        "spec.replicas",
        "spec.template.spec.containers[1].name",
        "spec.template.spec.nodeSelector.a",
    ]


def test_unknown_fields_are_named_with_their_paths() -> None:
    """In document order, lists indexed, maps by key."""
    obj = pod(name="c", foo=1, ports=[{"containerPort": 80, "bar": 2}])
    obj["spec"]["Containers"] = []
    obj["extra"] = {}
    obj["metadata"]["label"] = {}
    assert schema.strict_errors(obj) == [
        'unknown field "metadata.label"',
        'unknown field "spec.containers[0].foo"',
        'unknown field "spec.containers[0].ports[0].bar"',
        'unknown field "spec.Containers"',
        'unknown field "extra"',
    ]


def test_unknown_fields_have_a_limit() -> None:
    """A hostile body does not make a message of megabytes."""
    obj = pod(**{f"x{number}": 1 for number in range(1000)})
    assert len(schema.strict_errors(obj)) == 100


def test_free_form_parts_accept_anything() -> None:
    """FieldsV1, RawExtension and JSON in CRDs are not looked into."""
    obj = {
        "apiVersion": "apps/v1",
        "kind": "ControllerRevision",
        "metadata": {"name": "r", "managedFields": [{"manager": "m", "fieldsV1": {"f:spec": {".": {}, "f:x": {}}}}]},
        "data": {"spec": {"anything": [1, None, {"a": {}}]}},
        "revision": 1,
    }
    assert schema.strict_errors(obj) == []
    assert schema.prune_unknown(obj) is obj


def test_custom_resources_check_their_metadata_only() -> None:
    """They have no schema here; their CRD's is another room's job."""
    obj = {
        "apiVersion": "example.com/v1",
        "kind": "Widget",
        "metadata": {"name": "w", "lables": {}},
        "spec": {"any": 1},
    }
    assert schema.definition("example.com/v1", "Widget") is None
    assert schema.node("example.com/v1", "Widget") is None
    assert schema.strict_errors(obj) == ['unknown field "metadata.lables"']
    assert schema.prune_unknown(obj) == {**obj, "metadata": {"name": "w"}}
    obj["metadata"] = {"labels": {"a": 1}}
    assert schema.decode_error(obj) == (
        'Widget in version "v1" cannot be handled as a Widget: json: cannot unmarshal number into Go struct field '
        "ObjectMeta.metadata.labels of type string"
    )


@pytest.mark.parametrize(
    "obj", [{}, {"kind": 5, "apiVersion": "v1"}, {"kind": None}, {"apiVersion": [], "kind": "Pod"}]
)
def test_objects_without_a_kind_do_not_break_the_checks(obj: dict[str, Any]) -> None:
    """A wrong kind is a type error like any other."""
    problems = schema.type_errors(obj)
    assert len(problems) == sum(
        name in obj and obj[name] is not None and not isinstance(obj[name], str) for name in ("kind", "apiVersion")
    )
    assert schema.prune_unknown(obj) is not None


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (pod(name="c", foo=1), pod(name="c")),
        (pod(name="c", image=None, resources={"limits": {"cpu": "0.5", "memory": "1024Mi"}}), pod(name="c", resources={"limits": {"cpu": "500m", "memory": "1Gi"}})),
        (pod(name="c", args=[], env=None, command=[None]), pod(name="c", command=[""])),
        (pod(name="c", resources={"requests": {"cpu": 2}}), pod(name="c", resources={"requests": {"cpu": "2"}})),
        (pod(name="c", securityContext={}), pod(name="c", securityContext={})),
        (deployment(replicas=0, paused=False), deployment(replicas=0, paused=False)),
        (
            {"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4", "endpoints": [], "ports": []},
            {"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4", "endpoints": []},
        ),
        (
            {"apiVersion": "v1", "kind": "Pod", "metadata": {"creationTimestamp": "2026-01-01T01:00:00.5+01:00"}},
            {"apiVersion": "v1", "kind": "Pod", "metadata": {"creationTimestamp": "2026-01-01T00:00:00Z"}},
        ),
        ({"apiVersion": "v1", "kind": "ConfigMap", "data": {"a": None}}, {"apiVersion": "v1", "kind": "ConfigMap", "data": {"a": ""}}),
    ],
)  # fmt: skip
def test_what_a_go_server_holds(before: dict[str, Any], after: dict[str, Any]) -> None:
    """Unknown fields, nulls and empty optional lists go; quantities and times become canonical; the argument stays."""
    kept = copy.deepcopy(before)
    assert schema.prune_unknown(before) == after
    assert before == kept


def test_pruning_what_is_clean_copies_nothing() -> None:
    """The very same object comes back."""
    clean = schema.prune_unknown(GOOD_POD)
    assert schema.prune_unknown(clean) is clean


@pytest.mark.parametrize(
    ("api_version", "kind", "path", "merge_key", "map_keys"),
    [
        ("v1", "Pod", ("spec", "containers"), "name", ("name",)),
        ("v1", "Pod", ("spec", "containers", "ports"), "containerPort", ("containerPort", "protocol")),
        ("v1", "Pod", ("spec", "containers", "env"), "name", ("name",)),
        ("v1", "Pod", ("spec", "containers", "volumeMounts"), "mountPath", ("mountPath",)),
        ("v1", "Pod", ("spec", "tolerations"), None, ()),
        ("v1", "Pod", ("spec", "containers", "args"), None, ()),
        ("v1", "Pod", ("metadata", "ownerReferences"), "uid", ("uid",)),
        ("v1", "Service", ("spec", "ports"), "port", ("port", "protocol")),
        ("apps/v1", "Deployment", ("spec", "template", "spec", "volumes"), "name", ("name",)),
        ("apps/v1", "Deployment", ("spec", "nothing"), None, ()),
        ("example.com/v1", "Widget", ("spec",), None, ()),
    ],
)
def test_merge_keys(
    api_version: str, kind: str, path: tuple[str, ...], merge_key: str | None, map_keys: tuple[str, ...]
) -> None:
    """For strategic merge and for apply."""
    assert schema.merge_key(api_version, kind, *path) == merge_key
    assert schema.list_map_keys(api_version, kind, *path) == map_keys


def test_recursive_schemas_end() -> None:
    """JSONSchemaProps contains itself."""
    inner: dict[str, Any] = {"type": "object", "bogus": 1}
    for _ in range(20):
        inner = {"type": "object", "properties": {"p": inner}}
    obj = {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "spec": {"versions": [{"name": "v1", "schema": {"openAPIV3Schema": inner}}]},
    }
    [message] = schema.strict_errors(obj)
    assert message.endswith('.properties.p.bogus"')


SCALARS = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8)
)
JSON = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3)
)
NAMES = st.sampled_from(
    ["metadata", "spec", "status", "containers", "name", "ports", "replicas", "template", "labels", "data"]
)
OBJECTS = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=2) | st.dictionaries(NAMES, inner, max_size=4), max_leaves=20
)


@settings(deadline=None)
@given(st.sampled_from(resources.RESOURCES), st.dictionaries(NAMES, JSON | OBJECTS, max_size=4))
def test_checks_agree_with_each_other(resource: resources.Resource, body: dict[str, Any]) -> None:
    """Whatever comes in: nothing raises; no problem means accepted; what is pruned has no unknown field and is stable."""
    obj = {"apiVersion": resource.api_version, "kind": resource.kind, **body}
    before = copy.deepcopy(obj)
    types, unknown = schema.type_errors(obj), schema.strict_errors(obj)
    node = schema.node(resource.api_version, resource.kind)
    assert node is not None
    assert node.accepts(obj) is (not types and not unknown)
    pruned = schema.prune_unknown(obj)
    assert schema.strict_errors(pruned) == []
    if not types:
        assert schema.type_errors(pruned) == []
        assert schema.prune_unknown(pruned) == pruned
    assert obj == before


def test_a_schema_nested_without_end_is_refused() -> None:
    """A CRD whose schema is deeper than the interpreter goes is an answer, not a crash."""
    inner: dict[str, Any] = {"type": "object"}
    for _ in range(1000):
        inner = {"type": "object", "properties": {"p": inner}}
    versions = [{"name": "v1", "schema": {"openAPIV3Schema": inner}}]
    obj = {"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "spec": {"versions": versions}}
    message = schema.decode_error(obj)
    assert message is not None
    assert message.endswith("cannot be handled as a CustomResourceDefinition: exceeded max depth")
