"""The wire: methods, bodies, negotiation, documents, refusals."""

from __future__ import annotations

import asyncio
import gzip
import json
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import orjson
import pytest
import yaml

sys.path.insert(0, str(Path(__file__).parent))
from http_fixtures import Wire, serve
from minimal_objects import STORED, identify, minimal

from podnet.controlplane.api.resources import CONFIGMAPS
from podnet.controlplane.api.types import Resource
from podnet.controlplane.apiserver.registry import Registry

NS = "/api/v1/namespaces/default"
TABLE = (
    "application/json;as=Table;v=v1;g=meta.k8s.io,application/json;as=Table;v=v1beta1;g=meta.k8s.io,application/json"
)


@pytest.fixture
async def wire(registry: Registry) -> AsyncIterator[Wire]:
    async with serve(registry) as wire:
        yield wire


def config_map(name: str = "a", **data: str) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data}


def pod(name: str = "p", **spec: Any) -> dict[str, Any]:
    return {"metadata": {"name": name}, "spec": {"containers": [{"name": "c", "image": "i"}], **spec}}


async def test_create_read_change_delete(wire: Wire) -> None:
    made = await wire("POST", f"{NS}/configmaps", config_map(k="v"))
    assert made.status == 201
    assert list(made.json)[:3] == ["kind", "apiVersion", "metadata"]
    assert (await wire("GET", f"{NS}/configmaps/a")).json == made.json
    changed = await wire("PUT", f"{NS}/configmaps/a", {**made.json, "data": {"k": "w"}})
    assert (changed.status, changed.json["data"]) == (200, {"k": "w"})
    gone = await wire("DELETE", f"{NS}/configmaps/a")
    assert gone.status == 200
    assert gone.json == {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Success",
        "details": {"name": "a", "kind": "configmaps", "uid": made.json["metadata"]["uid"]},
    }
    assert (await wire("GET", f"{NS}/configmaps/a")).status == 404


@pytest.mark.parametrize("resource", STORED, ids=identify)
async def test_every_resource_in_every_shape(wire: Wire, resource: Resource) -> None:
    collection = resource.path + ("/namespaces/default" if resource.namespaced else "") + f"/{resource.plural}"
    obj = minimal(resource)
    made = await wire("POST", f"{collection}?fieldValidation=Strict", obj)
    assert made.status == 201, made.body
    item = f"{collection}/{obj['metadata']['name']}"
    for accept, kind in (
        ("application/json", resource.kind),
        (TABLE, "Table"),
        ("application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io", "PartialObjectMetadata"),
    ):
        assert (await wire("GET", item, Accept=accept)).json["kind"] == kind
        several = accept.replace("PartialObjectMetadata", "PartialObjectMetadataList")
        listed = (await wire("GET", collection, Accept=several)).json
        assert listed["kind"] == (kind if kind == "Table" else f"{kind}List")
        assert listed["metadata"]["resourceVersion"]
    table = (await wire("GET", collection, Accept=TABLE)).json
    assert all(len(row["cells"]) == len(table["columnDefinitions"]) for row in table["rows"])
    text = (await wire("GET", item, Accept="application/yaml")).body
    assert yaml.safe_load(text)["metadata"]["name"] == obj["metadata"]["name"]
    assert (await wire("GET", resource.path + f"/{resource.plural}")).json["items"]


@pytest.mark.parametrize("include", ["Metadata", "Object", "None"])
async def test_what_a_row_carries(wire: Wire, include: str) -> None:
    await wire("POST", f"{NS}/configmaps", config_map())
    table = (await wire("GET", f"{NS}/configmaps?includeObject={include}", Accept=TABLE)).json
    expected = {"Metadata": "PartialObjectMetadata", "Object": "ConfigMap", "None": None}[include]
    assert (table["rows"][0]["object"] or {}).get("kind") == expected


async def test_table_versions(wire: Wire) -> None:
    old = "application/json;as=Table;v=v1beta1;g=meta.k8s.io"
    assert (await wire("GET", f"{NS}/pods", Accept=old)).json["apiVersion"] == "meta.k8s.io/v1beta1"


@pytest.mark.parametrize(
    "accept",
    [
        "",
        "*/*",
        "application/*",
        "application/vnd.kubernetes.protobuf,application/json",
        "application/vnd.kubernetes.protobuf, */*",
        "application/json;as=Nonsense;v=v1;g=x, application/json",
    ],
)
async def test_accept_headers_that_end_in_json(wire: Wire, accept: str) -> None:
    answer = await wire("GET", f"{NS}/pods", Accept=accept)
    assert (answer.status, answer.json["kind"]) == (200, "PodList")


@pytest.mark.parametrize(
    "accept", ["text/html", "application/vnd.kubernetes.protobuf", "application/json;as=Foo;v=v1;g=meta.k8s.io"]
)
async def test_accept_headers_nobody_can_meet(wire: Wire, accept: str) -> None:
    answer = await wire("GET", f"{NS}/pods", Accept=accept)
    assert (answer.status, answer.json["reason"]) == (406, "NotAcceptable")


async def test_yaml_bodies(wire: Wire) -> None:
    text = b"metadata:\n  name: y\n  annotations: {at: 2024-01-01T00:00:00Z}\ndata: {a: 'b', 1: 'x'}\n"
    made = await wire("POST", f"{NS}/configmaps?fieldValidation=Strict", text, "application/yaml")
    assert made.status == 201, made.body
    assert made.json["data"] == {"a": "b", "1": "x"}
    assert made.json["metadata"]["annotations"] == {"at": "2024-01-01T00:00:00Z"}


def envelope(api_version: str, kind: str, message: bytes) -> bytes:
    """A protobuf body: magic, then runtime.Unknown."""

    def field(number: int, data: bytes) -> bytes:
        return bytes([number << 3 | 2, len(data)]) + data

    return b"k8s\0" + field(1, field(1, api_version.encode()) + field(2, kind.encode())) + field(2, message)


async def test_protobuf_bodies(wire: Wire) -> None:
    namespace = bytes([0x0A, 5, 0x0A, 3]) + b"foo"  # metadata { name: "foo" }
    content_type = "application/vnd.kubernetes.protobuf"
    made = await wire("POST", "/api/v1/namespaces", envelope("v1", "Namespace", namespace), content_type)
    assert made.status == 201, made.body
    assert made.json["metadata"]["name"] == "foo"
    assert made.headers["Content-Type"] == "application/json"


BROKEN = [
    (b"{", "application/json", "unexpected end of JSON input"),
    (b"", "application/json", "empty"),
    (b"[]", "application/json", "not a JSON object"),
    (b"null", "application/json", ""),
    (b'"x"', "application/json", "not a JSON object"),
    (b'{"a": nope}', "application/json", "json parse error"),
    (b"\xff\xfe", "application/json", "json parse error"),
    (b"[" * 100_000, "application/json", ""),
    (b'{"a":' * 5000 + b"1" + b"}" * 5000, "application/json", ""),
    (b"a: [", "application/yaml", "error converting YAML to JSON"),
    (b"a: b: c", "application/yaml", "error converting YAML to JSON"),
    (b"\xff\xfe\xff", "application/yaml", "UTF-8"),
    (b"a: &a [1]\nb: *c", "application/yaml", "error converting YAML to JSON"),
    (b"--- \na: b\n---\nc: d", "application/yaml", "error converting YAML to JSON"),
    (b"a: !!python/object:os.system {}", "application/yaml", "error converting YAML to JSON"),
    (b"a: .nan", "application/yaml", "no JSON form"),
    (b"a: !!binary aGk=", "application/yaml", "no JSON form"),
    (b"? [a]\n: b", "application/yaml", ""),
    (b"garbage", "application/vnd.kubernetes.protobuf", "protobuf"),
    (b"k8s\0\xff\xff\xff", "application/vnd.kubernetes.protobuf", ""),
    (b"k8s\0", "application/vnd.kubernetes.protobuf", ""),
]


@pytest.mark.parametrize(("body", "content_type", "words"), BROKEN, ids=range(len(BROKEN)))
async def test_broken_bodies_are_bad_requests(wire: Wire, body: bytes, content_type: str, words: str) -> None:
    for path in (f"{NS}/configmaps", f"{NS}/pods"):
        answer = await wire("POST", path, body, content_type)
        assert answer.status == 400, answer.body
        assert words in answer.message
        assert answer.json["kind"] == "Status"


async def test_a_yaml_bomb_is_refused(wire: Wire) -> None:
    lines = ["a0: &a0 [x,x,x,x,x,x,x,x,x,x]"]
    lines += [f"a{i}: &a{i} [{','.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 9)]
    answer = await wire("POST", f"{NS}/configmaps", "\n".join(lines).encode(), "application/yaml")
    assert (answer.status, "too many values" in answer.message) == (400, True)


async def test_a_body_that_is_too_large(wire: Wire) -> None:
    body = orjson.dumps(config_map(k="x" * (3 * 1024 * 1024)))
    answer = await wire("POST", f"{NS}/configmaps", body)
    assert (answer.status, answer.json["reason"]) == (413, "RequestEntityTooLarge")


@pytest.mark.parametrize("content_type", ["text/html", "application/xml", "application/x-www-form-urlencoded"])
async def test_unknown_body_types(wire: Wire, content_type: str) -> None:
    answer = await wire("POST", f"{NS}/configmaps", b"{}", content_type)
    assert (answer.status, answer.json["reason"]) == (415, "UnsupportedMediaType")
    assert "application/vnd.kubernetes.protobuf" in answer.message


@pytest.mark.parametrize("content_type", ["application/json", "application/apply-patch+cbor", "x/y"])
async def test_unknown_patch_types_list_the_known(wire: Wire, content_type: str) -> None:
    await wire("POST", f"{NS}/configmaps", config_map())
    answer = await wire("PATCH", f"{NS}/configmaps/a", b"{}", content_type)
    assert answer.status == 415
    for accepted in ("json-patch+json", "merge-patch+json", "strategic-merge-patch+json"):
        assert accepted in answer.message


PATCHES = [
    ("application/json-patch+json", b"{}", 400),
    ("application/json-patch+json", b"nope", 400),
    ("application/json-patch+json", b'[{"op":"replace","path":"/data/x","value":"1"}]', 422),
    ("application/json-patch+json", b'[{"op":"test","path":"/data/k","value":"no"}]', 422),
    ("application/json-patch+json", b'[{"op":"frobnicate","path":"/data/k"}]', 400),
    ("application/json-patch+json", b'[{"op":"replace","path":"","value":[]}]', 422),
    ("application/merge-patch+json", b"[]", 400),
    ("application/merge-patch+json", b"3", 400),
    ("application/merge-patch+json", b'{"metadata":null}', None),
    ("application/merge-patch+json", b'{"kind":"Pod"}', 400),
    ("application/merge-patch+json", b'{"apiVersion":"v2"}', 400),
    ("application/merge-patch+json", b'{"metadata":{"name":"b"}}', 400),
    ("application/merge-patch+json", b'{"metadata":{"namespace":"b"}}', 400),
    ("application/merge-patch+json", b'{"metadata":{"resourceVersion":"1"}}', 409),
    ("application/merge-patch+json", b'{"metadata":{"uid":"1"}}', 409),
    ("application/merge-patch+json", b'{"data":{"k":1}}', 422),
    ("application/strategic-merge-patch+json", b'{"data":{"k":1}}', 422),
    ("application/strategic-merge-patch+json", b"[]", 400),
    ("application/strategic-merge-patch+json", b'{"data":{"$patch":"frob"}}', None),
]


@pytest.mark.parametrize(("content_type", "body", "status"), PATCHES, ids=range(len(PATCHES)))
async def test_patches_that_do_not_apply(wire: Wire, content_type: str, body: bytes, status: int | None) -> None:
    made = await wire("POST", f"{NS}/configmaps", config_map(k="v"))
    answer = await wire("PATCH", f"{NS}/configmaps/a", body, content_type)
    assert answer.status == status or (status is None and answer.status < 500), answer.body
    if status is not None:
        assert answer.json["kind"] == "Status"
        assert (await wire("GET", f"{NS}/configmaps/a")).json == made.json


# -- field validation


async def test_strict_refuses_unknown_fields(wire: Wire) -> None:
    obj = pod(containers=[{"name": "c", "image": "i", "foo": 1}])
    answer = await wire("POST", f"{NS}/pods?fieldValidation=Strict", obj)
    assert answer.status == 400
    assert answer.message == (
        'Pod in version "v1" cannot be handled as a Pod: strict decoding error: unknown field "spec.containers[0].foo"'
    )
    assert (await wire("GET", f"{NS}/pods")).json["items"] == []


@pytest.mark.parametrize("query", ["", "?fieldValidation=Warn"])
async def test_warn_warns_and_drops(wire: Wire, query: str) -> None:
    answer = await wire("POST", f"{NS}/pods{query}", pod(bogus=1))
    assert answer.status == 201
    assert answer.warnings == ['299 - "unknown field \\"spec.bogus\\""']
    assert "bogus" not in answer.json["spec"]


async def test_ignore_is_silent(wire: Wire) -> None:
    answer = await wire("POST", f"{NS}/pods?fieldValidation=Ignore", pod(bogus=1))
    assert (answer.status, answer.warnings) == (201, [])
    assert "bogus" not in answer.json["spec"]


async def test_strict_patches(wire: Wire) -> None:
    await wire("POST", f"{NS}/configmaps", config_map())
    answer = await wire(
        "PATCH", f"{NS}/configmaps/a?fieldValidation=Strict", {"bogus": 1}, "application/merge-patch+json"
    )
    assert (answer.status, answer.json["reason"]) == (422, "Invalid")
    assert answer.json["details"]["causes"][0]["field"] == "patch"
    assert answer.message.endswith('strict decoding error: unknown field "bogus"')
    merged = await wire(
        "PATCH", f"{NS}/configmaps/a?fieldValidation=Strict", {"bogus": [1]}, "application/strategic-merge-patch+json"
    )
    assert merged.message == (
        ' "" is invalid: patch: Invalid value: "map[bogus:[1]]": strict decoding error: unknown field "bogus"'
    )


async def test_strict_refuses_a_field_said_twice(wire: Wire) -> None:
    body = b'{"metadata":{"name":"a","name":"b"}}'
    answer = await wire("POST", f"{NS}/configmaps?fieldValidation=Strict", body)
    assert (answer.status, 'duplicate field "metadata.name"' in answer.message) == (400, True)


@pytest.mark.parametrize(
    "query", ["fieldValidation=Loud", "dryRun=Some", "limit=x&watch=0", "timeoutSeconds=x&watch=true"]
)
async def test_query_parameters_that_make_no_sense(wire: Wire, query: str) -> None:
    method = "GET" if "watch" in query else "POST"
    answer = await wire(method, f"{NS}/configmaps?{query}", config_map() if method == "POST" else None)
    assert answer.status in {400, 422}, answer.body


# -- dry run


async def test_a_dry_run_writes_nothing(wire: Wire, registry: Registry) -> None:
    revision = await registry.store.revision()
    made = await wire("POST", f"{NS}/configmaps?dryRun=All", config_map(k="v"))
    assert made.status == 201
    assert made.json["metadata"]["uid"]
    assert await registry.store.revision() == revision
    await wire("POST", f"{NS}/configmaps", config_map(k="v"))
    revision = await registry.store.revision()
    put = await wire("PUT", f"{NS}/configmaps/a?dryRun=All", config_map(k="w"))
    assert put.json["data"] == {"k": "w"}
    patched = await wire("PATCH", f"{NS}/configmaps/a?dryRun=All", {"data": {"k": "x"}}, "application/merge-patch+json")
    assert patched.json["data"] == {"k": "x"}
    assert (await wire("DELETE", f"{NS}/configmaps/a?dryRun=All")).status == 200
    assert (await wire("DELETE", f"{NS}/configmaps/a", {"dryRun": ["All"]})).status == 200
    assert (await wire("DELETE", f"{NS}/configmaps?dryRun=All")).status == 200
    assert (await wire("POST", f"{NS}/configmaps?dryRun=All", config_map())).status == 409
    assert await registry.store.revision() == revision


# -- refusals


@pytest.mark.parametrize(
    ("method", "path", "status", "message"),
    [
        ("GET", f"{NS}/pods/x", 404, 'pods "x" not found'),
        ("GET", "/apis/apps/v1/namespaces/default/deployments/x", 404, 'deployments.apps "x" not found'),
        ("DELETE", f"{NS}/pods/x", 404, 'pods "x" not found'),
        ("GET", "/api/v1/namespaces/x", 404, 'namespaces "x" not found'),
        ("DELETE", "/api/v1/namespaces", 405, 'deletecollection is not supported on resources of kind "namespaces"'),
        ("PUT", f"{NS}/pods", 405, 'update is not supported on resources of kind "pods"'),
        ("PATCH", f"{NS}/pods", 405, 'patch is not supported on resources of kind "pods"'),
        ("POST", f"{NS}/pods/x", 405, 'create is not supported on resources of kind "pods"'),
        ("POST", f"{NS}/pods/x/status", 405, 'create is not supported on resources of kind "pods"'),
        ("DELETE", f"{NS}/pods/x/status", 405, 'delete is not supported on resources of kind "pods"'),
        (
            "DELETE",
            "/api/v1/namespaces/default",
            403,
            'namespaces "default" is forbidden: this namespace may not be deleted',
        ),
        ("GET", f"{NS}/bindings", 405, 'list is not supported on resources of kind "bindings"'),
        ("GET", f"{NS}/pods?fieldSelector=foo=bar", 400, "field label not supported: foo"),
    ],
)
async def test_refusals(wire: Wire, method: str, path: str, status: int, message: str) -> None:
    answer = await wire(method, path, {} if method in {"PUT", "POST", "PATCH"} else None)
    assert (answer.status, answer.message) == (status, message)
    assert answer.json["code"] == status
    assert answer.json["status"] == "Failure"


@pytest.mark.parametrize(
    "path",
    [
        "/foo",
        "/api/v2",
        "/apis/nope",
        "/apis/apps/v9",
        "/api/v1/foos",
        "/openapi/v2",
        "/api/v1/pods/x",
        "/api/v1/namespaces/default/nodes",
        "/api/v1/namespaces/default/pods/x/foo",
        "/api/v1/namespaces//pods",
    ],
)
async def test_unknown_paths(wire: Wire, path: str) -> None:
    answer = await wire("GET", path)
    assert (answer.status, answer.json["reason"]) == (404, "NotFound")
    assert answer.message == "the server could not find the requested resource"


async def test_creating_in_a_missing_namespace(wire: Wire) -> None:
    answer = await wire("POST", "/api/v1/namespaces/none/configmaps", config_map())
    assert (answer.status, answer.message) == (404, 'namespaces "none" not found')


async def test_creating_in_a_namespace_that_goes(wire: Wire) -> None:
    await wire("POST", "/api/v1/namespaces", {"metadata": {"name": "x"}})
    await wire("DELETE", "/api/v1/namespaces/x")
    answer = await wire("POST", "/api/v1/namespaces/x/configmaps", config_map())
    assert answer.status == 403
    assert answer.message == (
        'configmaps "a" is forbidden: unable to create new content in namespace x because it is being terminated'
    )
    assert answer.json["details"]["causes"][0]["reason"] == "NamespaceTerminating"


@pytest.mark.parametrize(
    ("obj", "message"),
    [
        ({"apiVersion": "v2"}, "the API version in the data (v2) does not match the expected API version (v1)"),
        (
            {"metadata": {"name": "a", "resourceVersion": "1"}},
            "resourceVersion should not be set on objects to be created",
        ),
        (
            {"metadata": {"name": "a", "namespace": "b"}},
            "the namespace of the provided object does not match the namespace sent on the request",
        ),
    ],
)
async def test_bodies_for_another_door(wire: Wire, obj: dict[str, Any], message: str) -> None:
    answer = await wire("POST", f"{NS}/configmaps", {**config_map(), **obj})
    assert (answer.status, answer.message) == (400, message)


async def test_a_kind_for_another_door(wire: Wire) -> None:
    answer = await wire("POST", f"{NS}/configmaps", {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a"}})
    assert answer.status == 400
    assert "Pod" in answer.message


async def test_no_name(wire: Wire) -> None:
    answer = await wire("POST", f"{NS}/configmaps", {"metadata": {}})
    assert (answer.status, answer.json["reason"]) == (422, "Invalid")
    assert answer.json["details"]["causes"][0]["field"] == "metadata.name"


async def test_the_invalid_say_every_cause(wire: Wire) -> None:
    answer = await wire("POST", f"{NS}/pods", {"metadata": {"name": "x"}, "spec": {"containers": []}})
    assert answer.status == 422
    assert answer.message == 'Pod "x" is invalid: spec.containers: Required value'
    assert answer.json["details"] == {
        "name": "x",
        "kind": "Pod",
        "causes": [{"reason": "FieldValueRequired", "message": "Required value", "field": "spec.containers"}],
    }


async def test_generated_names(wire: Wire) -> None:
    names = set()
    for _ in range(20):
        made = await wire("POST", f"{NS}/configmaps", {"metadata": {"generateName": "web-"}})
        names.add(made.json["metadata"]["name"])
    assert len(names) == 20
    assert all(name.startswith("web-") and len(name) == 9 for name in names)


async def test_put_creates_where_upstream_does(wire: Wire) -> None:
    role = {"metadata": {"name": "r"}, "rules": []}
    path = "/apis/rbac.authorization.k8s.io/v1/namespaces/default/roles/r"
    assert (await wire("PUT", path, role)).status == 201
    assert (await wire("PUT", f"{NS}/configmaps/a", config_map())).status == 404


async def test_delete_collection(wire: Wire) -> None:
    for name in "abc":
        await wire(
            "POST", f"{NS}/configmaps", {"metadata": {"name": name, "labels": {"x": "y"} if name != "c" else {}}}
        )
    answer = await wire("DELETE", f"{NS}/configmaps?labelSelector=x%3Dy")
    assert [item["metadata"]["name"] for item in answer.json["items"]] == ["a", "b"]
    assert [item["metadata"]["name"] for item in (await wire("GET", f"{NS}/configmaps")).json["items"]] == ["c"]


@pytest.mark.parametrize(
    "body",
    [
        {"gracePeriodSeconds": "x"},
        {"propagationPolicy": "Sideways"},
        {"kind": "Pod"},
        [],
        {"preconditions": 1},
        {"propagationPolicy": "Orphan", "orphanDependents": True},
    ],
    ids=str,
)
async def test_delete_options_that_make_no_sense(wire: Wire, body: Any) -> None:
    await wire("POST", f"{NS}/configmaps", config_map())
    assert (await wire("DELETE", f"{NS}/configmaps/a", body)).status in {400, 422}
    assert (await wire("GET", f"{NS}/configmaps/a")).status == 200


# -- documents


@pytest.mark.parametrize(
    "path",
    [
        "/version",
        "/version/",
        "/api",
        "/api/",
        "/apis",
        "/apis/",
        "/api/v1",
        "/api/v1/",
        "/apis/apps",
        "/apis/apps/v1/",
        "/openapi/v3",
        "/openapi/v3/",
        "/",
        "/openapi/v3/apis/apps/v1",
    ],
)
async def test_documents_with_and_without_a_slash(wire: Wire, path: str) -> None:
    answer = await wire("GET", path)
    assert answer.status == 200
    assert isinstance(answer.json, dict)


async def test_version(wire: Wire) -> None:
    document = (await wire("GET", "/version")).json
    assert (document["major"], document["minor"]) == ("1", "32")
    assert document["gitVersion"].startswith("v1.32.")


@pytest.mark.parametrize("version", ["v2", "v2beta1"])
@pytest.mark.parametrize("path", ["/api", "/apis"])
async def test_aggregated_discovery(wire: Wire, path: str, version: str) -> None:
    accept = f"application/json;g=apidiscovery.k8s.io;v={version};as=APIGroupDiscoveryList,application/json"
    answer = await wire("GET", path, Accept=accept)
    assert (
        answer.headers["Content-Type"] == f"application/json;g=apidiscovery.k8s.io;v={version};as=APIGroupDiscoveryList"
    )
    assert (answer.json["kind"], answer.json["apiVersion"]) == (
        "APIGroupDiscoveryList",
        f"apidiscovery.k8s.io/{version}",
    )
    again = await wire("GET", path, Accept=accept, If_None_Match=answer.headers["ETag"])
    assert (again.status, again.body) == (304, b"")
    legacy = (await wire("GET", path, Accept="application/json")).json
    assert legacy["kind"] == ("APIVersions" if path == "/api" else "APIGroupList")


async def test_openapi_documents_may_be_kept(wire: Wire) -> None:
    index = (await wire("GET", "/openapi/v3")).json["paths"]
    assert {"api/v1", "apis/apps/v1", "apis/networking.k8s.io/v1"} <= set(index)
    answer = await wire("GET", index["apis/apps/v1"]["serverRelativeURL"])
    assert answer.headers["Cache-Control"] == "public, immutable"
    assert answer.headers["ETag"]
    assert "2055" in answer.headers["Expires"]
    operation = answer.json["paths"]["/apis/apps/v1/namespaces/{namespace}/deployments/{name}"]["patch"]
    assert operation["x-kubernetes-group-version-kind"] == {"group": "apps", "version": "v1", "kind": "Deployment"}
    assert "fieldValidation" in {parameter["name"] for parameter in operation["parameters"]}


@pytest.mark.parametrize("path", ["/healthz", "/livez", "/readyz", "/healthz/ping", "/readyz/etcd"])
async def test_health(wire: Wire, path: str) -> None:
    answer = await wire("GET", path)
    assert (answer.status, answer.body) == (200, b"ok")
    assert (await wire("GET", "/readyz/nope")).status == 404


async def test_verbose_health(wire: Wire) -> None:
    text = (await wire("GET", "/readyz?verbose")).body.decode()
    assert "[+]etcd ok\n" in text
    assert text.endswith("readyz check passed\n")
    assert "[+]etcd" not in (await wire("GET", "/readyz?verbose&exclude=etcd")).body.decode()


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH"])
async def test_documents_are_read_only(wire: Wire, method: str) -> None:
    assert (await wire(method, "/version")).status == 405


# -- anonymous


@pytest.mark.parametrize("path", ["/healthz", "/livez", "/readyz", "/version", "/version/"])
async def test_anyone_may_ask_for_health_and_version(registry: Registry, path: str) -> None:
    async with serve(registry, anonymous=True) as wire:
        assert (await wire("GET", path)).status == 200


@pytest.mark.parametrize("path", ["/api", "/apis", f"{NS}/pods", "/openapi/v3", "/", "/openid/v1/jwks", "/nope"])
async def test_anyone_else_is_nobody(registry: Registry, path: str) -> None:
    async with serve(registry, anonymous=True) as wire:
        answer = await wire("GET", path)
        assert (answer.status, answer.json["reason"], answer.message) == (401, "Unauthorized", "Unauthorized")
        assert answer.headers["WWW-Authenticate"]


# -- watches


async def read_lines(wire: Wire, path: str, count: int, **headers: str) -> list[Any]:
    lines: list[Any] = []
    async with asyncio.timeout(5), wire.session.get(wire.base + path, headers=headers) as response:
        assert response.status == 200
        async for line in response.content:
            lines.append(json.loads(line))
            if len(lines) == count:
                break
    return lines


async def test_a_watch_streams_lines(wire: Wire) -> None:
    await wire("POST", f"{NS}/configmaps", config_map())
    stream = asyncio.create_task(read_lines(wire, f"{NS}/configmaps?watch=true", 3))
    await asyncio.sleep(0.1)
    await wire("PATCH", f"{NS}/configmaps/a", {"data": {"k": "v"}}, "application/merge-patch+json")
    await wire("DELETE", f"{NS}/configmaps/a")
    lines = await stream
    assert [line["type"] for line in lines] == ["ADDED", "MODIFIED", "DELETED"]
    assert all(line["object"]["kind"] == "ConfigMap" for line in lines)


async def test_headers_come_before_the_first_event(wire: Wire, registry: Registry) -> None:
    path = f"{NS}/configmaps?watch=true&resourceVersion={registry.cache.revision}"
    async with asyncio.timeout(2), wire.session.get(wire.base + path) as response:
        assert response.status == 200
        assert response.headers["Transfer-Encoding"] == "chunked"


async def test_a_table_watch_sends_columns_once(wire: Wire) -> None:
    for name in "ab":
        await wire("POST", f"{NS}/configmaps", config_map(name))
    lines = await read_lines(wire, f"{NS}/configmaps?watch=true", 2, Accept=TABLE)
    assert [bool(line["object"]["columnDefinitions"]) for line in lines] == [True, False]
    assert [line["object"]["rows"][0]["cells"][0] for line in lines] == ["a", "b"]


async def test_a_metadata_watch(wire: Wire) -> None:
    await wire("POST", f"{NS}/configmaps", config_map(k="v"))
    accept = "application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io"
    (line,) = await read_lines(wire, f"{NS}/configmaps?watch=1", 1, Accept=accept)
    assert line["object"]["kind"] == "PartialObjectMetadata"
    assert "data" not in line["object"]


async def test_watching_one_object_by_its_path(wire: Wire) -> None:
    for name in "ab":
        await wire("POST", f"{NS}/configmaps", config_map(name))
    lines = await read_lines(wire, f"{NS}/configmaps/b?watch=true&timeoutSeconds=1", 1)
    assert [line["object"]["metadata"]["name"] for line in lines] == ["b"]


async def test_a_watch_ends_in_time_and_cleanly(wire: Wire) -> None:
    async with asyncio.timeout(5), wire.session.get(f"{wire.base}{NS}/pods?watch=true&timeoutSeconds=1") as response:
        assert await response.read() == b""


async def test_bookmarks_at_the_end(wire: Wire) -> None:
    path = f"{NS}/pods?watch=true&timeoutSeconds=1&allowWatchBookmarks=true"
    (line,) = await read_lines(wire, path, 1)
    assert (line["type"], line["object"]["kind"]) == ("BOOKMARK", "Pod")


async def test_too_old_is_an_error_event(wire: Wire, registry: Registry) -> None:
    from podnet.controlplane.api.resources import PODS

    registry.cache.of(PODS).oldest = 10
    (line,) = await read_lines(wire, f"{NS}/pods?watch=true&resourceVersion=5", 1)
    assert (line["type"], line["object"]["code"], line["object"]["reason"]) == ("ERROR", 410, "Expired")
    assert line["object"]["message"] == "too old resource version: 5 (10)"


async def test_a_client_that_leaves_takes_its_watch_with_it(wire: Wire, registry: Registry) -> None:
    from podnet.controlplane.api.resources import PODS

    async with wire.session.get(f"{wire.base}{NS}/pods?watch=true"):
        assert len(registry.cache.of(PODS).watchers) == 1
    async with asyncio.timeout(2):
        while registry.cache.of(PODS).watchers:
            await asyncio.sleep(0.01)


async def test_a_stream_that_breaks_is_cut_short(
    wire: Wire, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any) -> bytes:
        raise ValueError("broken encoder")

    monkeypatch.setattr("podnet.controlplane.apiserver.http.rendering.EventEncoder.encode", broken)
    await wire("POST", f"{NS}/configmaps", config_map())
    async with wire.session.get(f"{wire.base}{NS}/configmaps?watch=true") as response:
        assert response.status == 200
        with pytest.raises(aiohttp.ClientPayloadError):
            await response.read()
    assert not registry.cache.of(CONFIGMAPS).watchers
    assert (await wire("GET", "/readyz")).body == b"ok"


async def test_an_error_nobody_expected_is_a_status(
    wire: Wire, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(*_: Any) -> None:
        raise ValueError("surprise")

    monkeypatch.setattr(registry, "list", broken)
    answer = await wire("GET", f"{NS}/pods")
    assert (answer.status, answer.json["reason"]) == (500, "InternalError")
    assert answer.message == "Internal error occurred: ValueError: surprise"


# -- bodies as HTTP frames them


async def test_a_body_that_waits_to_be_asked_for(wire: Wire) -> None:
    body = orjson.dumps(config_map())
    head = (
        f"POST {NS}/configmaps HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n"
    )
    reader, writer = await asyncio.open_connection("127.0.0.1", int(wire.base.rsplit(":", 1)[1]))
    writer.write(f"{head}Expect: 100-continue\r\n\r\n".encode())
    async with asyncio.timeout(2):
        assert await reader.readline() == b"HTTP/1.1 100 Continue\r\n"
        await reader.readline()
        writer.write(body)
        assert (await reader.readline()).startswith(b"HTTP/1.1 201")
    writer.close()


async def test_a_chunked_body(wire: Wire) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        for byte in orjson.dumps(config_map()):
            yield bytes([byte])

    async with wire.session.post(f"{wire.base}{NS}/configmaps", data=chunks()) as response:
        assert response.status == 415  # aiohttp calls it application/octet-stream
    headers = {"Content-Type": "application/json"}
    async with wire.session.post(f"{wire.base}{NS}/configmaps", data=chunks(), headers=headers) as response:
        assert response.status == 201


async def test_a_compressed_body_is_not_unpacked(wire: Wire) -> None:
    body = gzip.compress(orjson.dumps(config_map()))
    answer = await wire("POST", f"{NS}/configmaps", body, Content_Encoding="gzip")
    assert answer.status == 400


@pytest.mark.parametrize("path", ["/version", f"{NS}/pods", "/api/v1/namespaces/default"])
async def test_head(wire: Wire, path: str) -> None:
    answer = await wire("HEAD", path)
    assert (answer.status, answer.body) == (200, b"")
    assert int(answer.headers["Content-Length"]) > 0


# -- garbage


GARBAGE = [
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    b"GET\r\n\r\n",
    b"HELLO\r\n\r\n",
    b"GET / HTTP/9.9\r\n\r\n",
    b"POST /api/v1/namespaces HTTP/1.1\r\nHost: x\r\nContent-Length: nope\r\n\r\n",
    b"POST /api/v1/namespaces HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 1000 + b"\r\n",
    b"\0" * 1000,
]


@pytest.mark.parametrize("data", GARBAGE, ids=range(len(GARBAGE)))
async def test_the_server_survives_garbage(wire: Wire, data: bytes) -> None:
    port = int(wire.base.rsplit(":", 1)[1])
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(data)
    await writer.drain()
    try:
        async with asyncio.timeout(0.5):
            answer = await reader.read(4096)
            assert not answer or answer.split(b" ")[1] in {b"400", b"404", b"405", b"431"}
    except (TimeoutError, ConnectionError):
        pass
    writer.close()
    assert (await wire("GET", "/readyz")).body == b"ok"


@pytest.mark.parametrize(
    "path",
    [
        "/api/v1/namespaces/%00/pods",
        "/api/v1/namespaces/default/pods/%2e%2e",
        "/api/v1/namespaces/default/pods/a%2fb",
        "/api/v1/namespaces/default/pods/%ff",
        "/api/v1/../../etc/passwd",
        "//api/v1/pods",
        "/api/v1/pods?%zz=%zz",
        "/api/v1/pods?labelSelector=%00",
        "/api/v1/pods?limit=99999999999999999999",
        "/api/v1/pods?continue=%f0%9f",
    ],
)
async def test_odd_paths_are_never_an_internal_error(wire: Wire, path: str) -> None:
    from yarl import URL

    async with wire.session.get(URL(wire.base + path, encoded=True)) as response:
        assert response.status < 500
