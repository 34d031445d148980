"""The wire: methods, negotiation, dry runs, refusals, documents."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

sys.path.insert(0, str(Path(__file__).parent))
from http_fixtures import NS, TABLE, Wire, config_map, serve
from minimal_objects import STORED, identify, minimal

from podnet.controlplane.api.types import Resource
from podnet.controlplane.apiserver.http import paths
from podnet.controlplane.apiserver.registry import Registry


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

NO_METHOD = "the server does not allow this method on the requested resource"


@pytest.mark.parametrize(
    ("method", "path", "status", "message"),
    [
        ("GET", f"{NS}/pods/x", 404, 'pods "x" not found'),
        ("GET", "/apis/apps/v1/namespaces/default/deployments/x", 404, 'deployments.apps "x" not found'),
        ("DELETE", f"{NS}/pods/x", 404, 'pods "x" not found'),
        ("GET", "/api/v1/namespaces/x", 404, 'namespaces "x" not found'),
        ("DELETE", "/api/v1/namespaces", 405, NO_METHOD),
        ("PUT", f"{NS}/pods", 405, NO_METHOD),
        ("PATCH", f"{NS}/pods", 405, NO_METHOD),
        ("POST", f"{NS}/pods/x", 405, NO_METHOD),
        ("POST", f"{NS}/pods/x/status", 405, NO_METHOD),
        ("DELETE", f"{NS}/pods/x/status", 405, NO_METHOD),
        (
            "DELETE",
            "/api/v1/namespaces/default",
            403,
            'namespaces "default" is forbidden: this namespace may not be deleted',
        ),
        ("GET", f"{NS}/bindings", 405, NO_METHOD),
        ("POST", "/api/v1/configmaps", 405, NO_METHOD),
        ("DELETE", "/api/v1/configmaps", 405, NO_METHOD),
        ("GET", "/apis/authentication.k8s.io/v1/selfsubjectreviews", 405, NO_METHOD),
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


@pytest.mark.parametrize(
    "path", ["/api", "/apis", f"{NS}/pods", "/openapi/v3", "/", "/openid/v1/jwks", "/nope", "/versions", "/healthzz"]
)
async def test_anyone_else_is_nobody(registry: Registry, path: str) -> None:
    async with serve(registry, anonymous=True) as wire:
        answer = await wire("GET", path)
        assert (answer.status, answer.json["reason"], answer.message) == (401, "Unauthorized", "Unauthorized")
        assert answer.headers["WWW-Authenticate"]


async def test_an_error_nobody_expected_is_a_status(
    wire: Wire, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(*_: Any) -> None:
        raise ValueError("surprise")

    monkeypatch.setattr(registry, "list", broken)
    answer = await wire("GET", f"{NS}/pods")
    assert (answer.status, answer.json["reason"]) == (500, "InternalError")
    assert answer.message == "Internal error occurred: ValueError: surprise"


@pytest.mark.parametrize("path", ["/version", f"{NS}/pods", "/api/v1/namespaces/default"])
async def test_head(wire: Wire, path: str) -> None:
    answer = await wire("HEAD", path)
    assert (answer.status, answer.body) == (200, b"")
    assert int(answer.headers["Content-Length"]) > 0


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


def test_a_path_is_remembered_only_when_it_is_short() -> None:
    kept = paths._remembered.cache_info
    assert paths.parse_path(f"{NS}/pods/{'x' * 60_000}") is not None
    before = kept().currsize
    assert paths.parse_path(f"{NS}/pods/{'y' * 60_000}") is not None
    assert kept().currsize == before
    assert paths.parse_path(f"{NS}/pods/only-here") is not None
    assert kept().currsize == before + 1
