"""Discovery and OpenAPI documents: complete against the registry, and in the shapes clients read."""

from __future__ import annotations

import orjson
import pytest

from podnet.controlplane.api import discovery, openapi, resources
from podnet.controlplane.api.types import Resource, Subresource

WIDGET = Resource(
    "example.com", "v1beta1", "widgets", "widget", "Widget", True, ("create", "get", "list", "patch"), ("wd",), ("all",),
    {"status": Subresource("status", "Widget", verbs=("get", "patch"))},
)  # fmt: skip
GROUP_VERSIONS = sorted({(resource.group, resource.version) for resource in resources.RESOURCES})


def aggregated(extra=()):
    for core in (True, False):
        for item in discovery.api_group_discovery(core, extra)["items"]:
            for version in item["versions"]:
                for row in version["resources"]:
                    yield item["metadata"].get("name", ""), version["version"], row


def test_aggregated_lists_every_resource():
    listed = {(group, version, row["resource"]) for group, version, row in aggregated()}
    assert listed == {(r.group, r.version, r.plural) for r in resources.RESOURCES}


def test_aggregated_shape():
    document = discovery.api_group_discovery(core=True)
    assert (document["kind"], document["apiVersion"]) == ("APIGroupDiscoveryList", "apidiscovery.k8s.io/v2")
    assert [item["metadata"].get("name") for item in document["items"]] == [None]
    pods = next(row for _, _, row in aggregated() if row["resource"] == "pods")
    assert pods["responseKind"] == {"group": "", "version": "v1", "kind": "Pod"}
    assert (pods["scope"], pods["singularResource"], pods["shortNames"], pods["categories"]) == (
        "Namespaced",
        "pod",
        ["po"],
        ["all"],
    )
    subs = {row["subresource"]: row for row in pods["subresources"]}
    assert subs["eviction"]["responseKind"] == {"group": "policy", "version": "v1", "kind": "Eviction"}
    assert subs["log"]["responseKind"]["kind"] == "Pod"
    assert set(subs) >= {"attach", "binding", "ephemeralcontainers", "exec", "portforward", "proxy", "status"}


def test_status_belongs_to_its_parents_group():
    deployments = next(row for _, _, row in aggregated() if row["resource"] == "deployments")
    subs = {row["subresource"]: row["responseKind"] for row in deployments["subresources"]}
    assert subs["status"] == {"group": "apps", "version": "v1", "kind": "Deployment"}
    assert subs["scale"] == {"group": "autoscaling", "version": "v1", "kind": "Scale"}


def test_groups_come_by_priority_and_versions_newest_first():
    groups = [group["name"] for group in discovery.api_group_list()["groups"]]
    assert groups[:3] == ["apiregistration.k8s.io", "apps", "events.k8s.io"]
    autoscaling = discovery.api_group("autoscaling")
    assert [row["version"] for row in autoscaling["versions"]] == ["v2", "v1"]
    assert autoscaling["preferredVersion"]["groupVersion"] == "autoscaling/v2"


def test_legacy_documents():
    assert discovery.api_versions(["127.0.0.1:6443"])["serverAddressByClientCIDRs"] == [
        {"clientCIDR": "0.0.0.0/0", "serverAddress": "127.0.0.1:6443"}
    ]
    core = discovery.api_resource_list("", "v1")
    assert core["groupVersion"] == "v1"
    rows = {row["name"]: row for row in core["resources"]}
    assert rows["pods/eviction"] == {
        "name": "pods/eviction",
        "singularName": "",
        "namespaced": True,
        "kind": "Eviction",
        "verbs": ["create"],
        "group": "policy",
        "version": "v1",
    }
    assert "group" not in rows["pods/status"]
    assert rows["nodes"]["namespaced"] is False


@pytest.mark.parametrize(("group", "version"), GROUP_VERSIONS, ids=lambda text: text or "core")
def test_every_version_has_its_documents(group, version):
    rows = discovery.api_resource_list(group, version)["resources"]
    plurals = {row["name"] for row in rows if "/" not in row["name"]}
    assert plurals == {r.plural for r in resources.RESOURCES if (r.group, r.version) == (group, version)}
    assert openapi.openapi_document(group, version)


@pytest.mark.parametrize(
    "lookup",
    [
        lambda: discovery.api_group("x"),
        lambda: discovery.api_group(""),
        lambda: discovery.api_resource_list("apps", "v2"),
        lambda: openapi.openapi_document("x", "v1"),
    ],
)
def test_what_is_not_there_is_none(lookup):
    assert lookup() is None


def test_extra_resources_are_listed():
    listed = [(group, row["resource"]) for group, _, row in aggregated([WIDGET])]
    assert listed[-1] == ("example.com", "widgets")
    assert discovery.api_resource_list("example.com", "v1beta1", [WIDGET])["resources"][0]["name"] == "widgets"
    assert discovery.api_group("example.com", [WIDGET])["preferredVersion"]["version"] == "v1beta1"


def test_version_priority():
    order = ["v10", "v2", "v1", "v11beta2", "v10beta3", "v3beta1", "v12alpha1", "v11alpha2"]
    assert sorted(set(order), key=discovery.version_priority, reverse=True) == order
    assert discovery.version_priority("foo") == discovery.version_priority("v1x") == (-1, 0, 0)


# --- OpenAPI ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module", params=GROUP_VERSIONS, ids=lambda pair: f"{pair[0] or 'core'}.{pair[1]}")
def document(request):
    return request.param, orjson.loads(openapi.openapi_document(*request.param))


def walk(node, seen):
    if isinstance(node, dict):
        if isinstance(node.get("$ref"), str):
            seen.append(node["$ref"])
        for value in node.values():
            walk(value, seen)
    elif isinstance(node, list):
        for value in node:
            walk(value, seen)


def test_every_reference_has_its_schema(document):
    _, body = document
    seen = []
    walk(body, seen)
    assert {ref.removeprefix("#/components/schemas/") for ref in seen} <= set(body["components"]["schemas"])
    assert not any("$defs" in ref for ref in seen)


def test_no_type_is_a_list_and_no_kind_is_a_constant(document):
    _, body = document

    def check(node):
        if isinstance(node, dict):
            if "description" in node:
                assert not isinstance(node.get("type"), list)
            for value in node.values():
                check(value)
        elif isinstance(node, list):
            for value in node:
                check(value)

    check(body)
    for schema in body["components"]["schemas"].values():
        assert "enum" not in schema.get("properties", {}).get("kind", {})


def test_patch_says_who_it_is_and_that_fields_are_validated(document):
    (group, version), body = document
    for resource in resources.RESOURCES:
        if (resource.group, resource.version) != (group, version) or "patch" not in resource.verbs:
            continue
        base = resource.path + ("/namespaces/{namespace}" if resource.namespaced else "")
        patch = body["paths"][f"{base}/{resource.plural}/{{name}}"]["patch"]
        assert patch["x-kubernetes-group-version-kind"] == {"group": group, "version": version, "kind": resource.kind}
        assert {"dryRun", "fieldManager", "fieldValidation"} <= {row["name"] for row in patch["parameters"]}
        assert "post" in body["paths"][f"{base}/{resource.plural}"]


def test_index_names_every_document_with_its_hash():
    index = openapi.openapi_index()
    assert set(index["paths"]) == {f"apis/{g}/{v}" if g else f"api/{v}" for g, v in GROUP_VERSIONS}
    url = index["paths"]["apis/apps/v1"]["serverRelativeURL"]
    assert url == f"/openapi/v3/apis/apps/v1?hash={openapi.document_hash('apps', 'v1')}"


def test_index_of_given_hashes():
    index = openapi.openapi_index({"apis/example.com/v1": "ABC"})
    assert index == {
        "paths": {"apis/example.com/v1": {"serverRelativeURL": "/openapi/v3/apis/example.com/v1?hash=ABC"}}
    }


def test_hashes_differ():
    hashes = openapi.document_hashes()
    assert len(set(hashes.values())) == len(hashes) == len(GROUP_VERSIONS)


def test_custom_resources_render_from_their_own_schema():
    schema = {
        "type": "object",
        "properties": {"spec": {"type": "object"}},
        "x-kubernetes-group-version-kind": [{"group": "example.com", "version": "v1beta1", "kind": "Widget"}],
    }
    body = openapi.render_document([WIDGET], {"com.example.v1beta1.Widget": schema})
    assert "/apis/example.com/v1beta1/namespaces/{namespace}/widgets/{name}/status" in body["paths"]
    assert list(body["components"]["schemas"]) == ["com.example.v1beta1.Widget"]


def test_merge_keys_and_list_types_survive():
    schemas = openapi.schemas()
    ports = schemas["io.k8s.api.core.v1.ServiceSpec"]["properties"]["ports"]
    assert ports["x-kubernetes-patch-merge-key"] == "port"
    assert ports["x-kubernetes-list-map-keys"] == ["port", "protocol"]
    assert schemas["io.k8s.apimachinery.pkg.util.intstr.IntOrString"]["format"] == "int-or-string"
