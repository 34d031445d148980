"""Server-side apply and managedFields over the wire: who owns what after every kind of write."""

from __future__ import annotations

import copy
import sys
from pathlib import Path
from typing import Any

import orjson
import pytest
import yaml

sys.path.insert(0, str(Path(__file__).parent))
from http_fixtures import NS, Answer, Wire, config_map
from minimal_objects import STORED, identify, minimal

from podnet.controlplane.api.resources import CONFIGMAPS
from podnet.controlplane.api.types import Resource
from podnet.controlplane.apiserver.lastapplied import ANNOTATION
from podnet.controlplane.apiserver.local import LocalClient
from podnet.controlplane.apiserver.managers import is_component, manager_name
from podnet.controlplane.apiserver.options import UserInfo, WriteOptions
from podnet.controlplane.apiserver.registry import Registry

CM = f"{NS}/configmaps/a"
DEPLOYMENT = "/apis/apps/v1/namespaces/default/deployments/web"
APPLY = "application/apply-patch+yaml"
MERGE = "application/merge-patch+json"


def deployment(**spec: Any) -> dict[str, Any]:
    template = {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}}
    spec = {"selector": {"matchLabels": {"a": "b"}}, "template": template, **spec}
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"}, "spec": spec}


async def apply(wire: Wire, path: str, body: Any, manager: str = "one", query: str = "", **headers: str) -> Answer:
    return await wire("PATCH", f"{path}?fieldManager={manager}{query}", body, APPLY, **headers)


def managers(answer: Answer) -> dict[tuple[str, str, str], Any]:
    entries = answer.json["metadata"].get("managedFields") or []
    return {(e["manager"], e["operation"], e.get("subresource", "")): e["fieldsV1"] for e in entries}


@pytest.mark.parametrize("resource", STORED, ids=identify)
async def test_every_kind_is_created_by_an_apply_and_left_alone_by_the_next(wire: Wire, resource: Resource) -> None:
    obj = minimal(resource)
    obj.update(apiVersion=resource.api_version, kind=resource.kind)
    namespace = "/namespaces/default" if resource.namespaced else ""
    path = f"{resource.path}{namespace}/{resource.plural}/{obj['metadata']['name']}"
    made = await apply(wire, path, copy.deepcopy(obj))
    assert made.status == 201, made.body
    (entry,) = made.json["metadata"].get("managedFields") or [{"manager": "one", "operation": "Apply"}]
    assert (entry["manager"], entry["operation"]) == ("one", "Apply")
    again = await apply(wire, path, copy.deepcopy(obj))
    assert again.status == 200
    assert again.json == made.json
    labelled = {"name": obj["metadata"]["name"], "labels": {"x": "y"}}
    other = await apply(wire, path, {**{k: obj[k] for k in ("apiVersion", "kind")}, "metadata": labelled}, "two")
    assert other.status == 200, other.body
    assert ("two", "Apply", "") in managers(other)
    assert other.json["metadata"]["labels"]["x"] == "y"


async def test_the_body_may_be_yaml(wire: Wire) -> None:
    made = await apply(wire, CM, yaml.safe_dump(config_map(k="v")).encode())
    assert (made.status, made.json["data"]) == (201, {"k": "v"})


async def test_what_a_manager_no_longer_says_goes(wire: Wire) -> None:
    await apply(wire, CM, config_map(k="v", gone="soon"))
    after = await apply(wire, CM, config_map(k="v"))
    assert after.json["data"] == {"k": "v"}


async def test_what_another_owns_too_stays(wire: Wire) -> None:
    await apply(wire, CM, config_map(k="v", shared="s"))
    await apply(wire, CM, config_map(shared="s"), "two")
    after = await apply(wire, CM, config_map(k="v"))
    assert after.json["data"] == {"k": "v", "shared": "s"}


async def test_a_conflict_names_the_manager_and_the_field(wire: Wire) -> None:
    await apply(wire, CM, config_map(k="v"))
    refused = await apply(wire, CM, config_map(k="w"), "two")
    assert (refused.status, refused.json["reason"]) == (409, "Conflict")
    assert refused.message == 'Apply failed with 1 conflict: conflict with "one": .data.k'
    assert refused.json["details"]["causes"] == [
        {"reason": "FieldManagerConflict", "message": 'conflict with "one"', "field": ".data.k"}
    ]
    forced = await apply(wire, CM, config_map(k="w"), "two", "&force=true")
    assert (forced.status, forced.json["data"]) == (200, {"k": "w"})
    assert managers(forced) == {("two", "Apply", ""): {"f:data": {"f:k": {}}}}


async def test_scaling_takes_the_replicas_from_their_applier(wire: Wire) -> None:
    await apply(wire, DEPLOYMENT, deployment(replicas=1))
    scaled = await wire("PATCH", f"{DEPLOYMENT}/scale?fieldManager=hpa", {"spec": {"replicas": 3}}, MERGE)
    assert scaled.status == 200
    refused = await apply(wire, DEPLOYMENT, deployment(replicas=1))
    assert refused.message == (
        'Apply failed with 1 conflict: conflict with "hpa" with subresource "scale" using apps/v1: .spec.replicas'
    )
    without = await apply(wire, DEPLOYMENT, deployment())
    assert (without.status, without.json["spec"]["replicas"]) == (200, 3)


async def test_a_scale_can_be_applied(wire: Wire) -> None:
    await apply(wire, DEPLOYMENT, deployment())
    scale = {"apiVersion": "autoscaling/v1", "kind": "Scale", "metadata": {"name": "web"}, "spec": {"replicas": 4}}
    scaled = await apply(wire, f"{DEPLOYMENT}/scale", scale, "hpa")
    assert (scaled.status, scaled.json["kind"], scaled.json["spec"]) == (200, "Scale", {"replicas": 4})
    assert ("hpa", "Apply", "scale") in managers(await wire("GET", DEPLOYMENT))


async def test_status_is_applied_on_its_own_path_only(wire: Wire) -> None:
    await apply(wire, DEPLOYMENT, {**deployment(), "status": {"replicas": 9}})
    status = {**deployment(), "spec": {"replicas": 7}, "status": {"observedGeneration": 1, "replicas": 2}}
    after = await apply(wire, f"{DEPLOYMENT}/status", status, "ctl")
    assert (after.json["status"], after.json["spec"]["replicas"]) == ({"observedGeneration": 1, "replicas": 2}, 1)
    fields = managers(after)["ctl", "Apply", "status"]
    assert fields == {"f:status": {"f:observedGeneration": {}, "f:replicas": {}}}
    missing = await apply(
        wire, "/apis/apps/v1/namespaces/default/deployments/no/status", {"apiVersion": "apps/v1", "kind": "Deployment"}
    )
    assert missing.status == 404


@pytest.mark.parametrize("write", ["POST", "PUT", "PATCH"])
async def test_other_writes_are_tracked(wire: Wire, write: str) -> None:
    await wire("POST", f"{NS}/configmaps", config_map(k="v"), User_Agent="curl/8 (x)")
    if write == "PUT":
        await wire("PUT", f"{CM}?fieldManager=editor", config_map(k="w"))
    elif write == "PATCH":
        await wire("PATCH", f"{CM}?fieldManager=editor", {"data": {"k": "w"}}, MERGE)
    owner = "curl" if write == "POST" else "editor"
    fields = managers(await wire("GET", CM))
    assert fields == {(owner, "Update", ""): fields[owner, "Update", ""]}
    assert fields[owner, "Update", ""]["f:data"]["f:k"] == {}


async def test_a_write_that_changes_nothing_leaves_no_trace(wire: Wire) -> None:
    made = await wire("POST", f"{NS}/configmaps", config_map(k="v"))
    again = await wire("PATCH", f"{CM}?fieldManager=other", {"data": {"k": "v"}}, MERGE)
    assert again.json == made.json


async def test_a_put_without_managed_fields_keeps_them(wire: Wire) -> None:
    made = await apply(wire, CM, config_map(k="v"))
    kept = await wire("PUT", CM, config_map(k="v"))
    assert managers(kept) == managers(made)


async def test_managed_fields_are_forgotten_only_when_it_is_meant(wire: Wire) -> None:
    made = await apply(wire, CM, config_map(k="v"))
    kept = await wire("PATCH", CM, {"metadata": {"managedFields": []}}, MERGE)
    assert managers(kept) == managers(made)
    after = await wire("PATCH", CM, {"metadata": {"managedFields": [{}]}}, MERGE)
    assert managers(after) == {}
    owned = await apply(wire, CM, config_map(k="w"), "two")
    assert owned.message == 'Apply failed with 1 conflict: conflict with "before-first-apply" using v1: .data.k'


async def test_managed_fields_can_be_rewritten_as_kubectl_does_it(wire: Wire) -> None:
    """The migration from client-side apply is a JSON patch that makes its Update entry an Apply of kubectl's."""
    made = await wire("POST", f"{NS}/configmaps?fieldManager=kubectl-client-side-apply", config_map(k="v", old="x"))
    (entry,) = made.json["metadata"]["managedFields"]
    entries = [{**entry, "manager": "kubectl", "operation": "Apply"}]
    version = made.json["metadata"]["resourceVersion"]
    patch = [
        {"op": "replace", "path": "/metadata/managedFields", "value": entries},
        {"op": "replace", "path": "/metadata/resourceVersion", "value": version},
    ]
    moved = await wire("PATCH", CM, patch, "application/json-patch+json")
    assert list(managers(moved)) == [("kubectl", "Apply", "")]
    after = await apply(wire, CM, config_map(k="v"), "kubectl")
    assert after.json["data"] == {"k": "v"}


async def test_kubectl_may_take_over_what_its_client_side_apply_set(wire: Wire) -> None:
    body = config_map(k="v", mine="x")
    last = orjson.dumps(body).decode()
    body["metadata"]["annotations"] = {ANNOTATION: last}
    await wire("POST", f"{NS}/configmaps?fieldManager=kubectl-client-side-apply", body)
    assert (await apply(wire, CM, config_map(k="w"), "stranger")).status == 409
    await wire("PATCH", f"{CM}?fieldManager=editor", {"data": {"mine": "changed"}}, MERGE)
    assert 'conflict with "editor"' in (await apply(wire, CM, config_map(mine="y"), "kubectl")).message
    taken = await apply(wire, CM, config_map(k="w"), "kubectl")
    assert (taken.status, taken.json["data"]) == (200, {"k": "w", "mine": "changed"})
    kept = orjson.loads(taken.json["metadata"]["annotations"][ANNOTATION])
    assert kept == {**config_map(k="w"), "metadata": {"name": "a", "namespace": "default", "annotations": {}}}


@pytest.mark.parametrize("text", ["", "null", "[]", "{", '{"data": 1}'])
async def test_an_annotation_that_is_no_configuration_excuses_nothing(wire: Wire, text: str) -> None:
    body = config_map(k="v")
    body["metadata"]["annotations"] = {ANNOTATION: text}
    await wire("POST", f"{NS}/configmaps?fieldManager=m", body)
    assert (await apply(wire, CM, config_map(k="w"), "kubectl")).status == 409


async def test_managed_fields_that_cannot_be_read_are_not_believed(wire: Wire) -> None:
    made = await apply(wire, CM, config_map(k="v"))
    broken = [{"manager": "x", "operation": "Update", "fieldsV1": {"k:not json": {}}}]
    after = await wire("PATCH", CM, {"metadata": {"managedFields": broken}}, MERGE)
    assert managers(after) == managers(made)


async def test_what_components_make_for_themselves_is_not_tracked(registry: Registry) -> None:
    client = LocalClient(registry)
    made = await client.create(CONFIGMAPS, {"metadata": {"name": "c", "namespace": "default"}, "data": {"k": "v"}})
    changed = await client.patch(CONFIGMAPS, "c", "default", {"data": {"k": "w"}})
    assert "managedFields" not in made["metadata"]
    assert "managedFields" not in changed["metadata"]


async def test_what_components_write_to_other_objects_is(registry: Registry, wire: Wire) -> None:
    await apply(wire, CM, config_map(k="v"))
    await LocalClient(registry).patch(CONFIGMAPS, "a", "default", {"data": {"k": "w"}})
    assert set(managers(await wire("GET", CM))) == {("unknown", "Update", "")}


async def test_a_dry_run_stores_nothing(wire: Wire) -> None:
    made = await apply(wire, CM, config_map(k="v"), query="&dryRun=All")
    assert (made.status, (await wire("GET", CM)).status) == (201, 404)
    stored = await apply(wire, CM, config_map(k="v"))
    dry = await apply(wire, CM, config_map(k="w"), query="&dryRun=All")
    assert dry.json["data"] == {"k": "w"}
    assert (await wire("GET", CM)).json == stored.json


@pytest.mark.parametrize(
    ("path", "query", "body", "status", "message"),
    [
        pytest.param(
            CM, "", config_map(), 422,
            'PatchOptions.meta.k8s.io "" is invalid: fieldManager: Required value: is required for apply patch',
            id="no-manager",
        ),
        pytest.param(CM, "fieldManager=" + "x" * 129, config_map(), 422, "may not be more than 128", id="long-manager"),
        pytest.param(CM, "fieldManager=a%0Ab", config_map(), 422, "invalid character U+000A (at position 1)", id="unprintable-manager"),
        pytest.param(CM, "fieldManager=m", {"data": {}}, 400, "apiVersion and kind", id="no-kind"),
        pytest.param(CM, "fieldManager=m", [], 400, "must be an object", id="a-list"),
        pytest.param(CM, "fieldManager=m", b"a: [", 400, "error converting YAML to JSON", id="broken-yaml"),
        pytest.param(CM, "fieldManager=m", {**config_map(), "kind": "Secret"}, 400, "Secret", id="another-kind"),
        pytest.param(CM, "fieldManager=m", {**config_map(), "metadata": {"name": "b"}}, 400, "does not match", id="name"),
        pytest.param(
            CM, "fieldManager=m", {**config_map(), "metadata": {"name": "a", "managedFields": [{"manager": "x"}]}}, 400,
            "metadata.managedFields must be nil", id="managed-fields",
        ),
        pytest.param(
            DEPLOYMENT, "fieldManager=m", deployment(replicaz=1), 400,
            "failed to create typed patch object (/web; apps/v1, Kind=Deployment): "
            ".spec.replicaz: field not declared in schema", id="unknown-field",
        ),
        pytest.param(CM, "fieldManager=m", {**config_map(), "data": {"a": 1}}, 400, ".data.a: expected string", id="wrong-type"),
        pytest.param(
            CM, "fieldManager=m", {**config_map(), "metadata": {"name": "a", "uid": "u"}}, 409, "uid mismatch", id="uid"
        ),
    ],
)  # fmt: skip
async def test_refusals(wire: Wire, path: str, query: str, body: Any, status: int, message: str) -> None:
    refused = await wire("PATCH", f"{path}?{query}", body, APPLY)
    assert refused.status == status, refused.body
    assert message in refused.message


async def test_force_is_for_applies_only(wire: Wire) -> None:
    await apply(wire, CM, config_map(k="v"))
    refused = await wire("PATCH", f"{CM}?force=true", {"data": {}}, MERGE)
    assert refused.status == 422
    assert refused.message.endswith("force: Forbidden: may not be specified for non-apply patch")


async def test_an_apply_for_a_version_that_has_passed(wire: Wire) -> None:
    made = await apply(wire, CM, config_map(k="v"))
    version = made.json["metadata"]["resourceVersion"]
    await apply(wire, CM, config_map(k="w"))
    stale = config_map(k="x")
    stale["metadata"]["resourceVersion"] = version
    refused = await apply(wire, CM, stale)
    assert (refused.status, refused.json["reason"]) == (409, "Conflict")
    assert "the object has been modified" in refused.message


@pytest.mark.parametrize(
    ("field_manager", "user_agent", "name"),
    [
        pytest.param("said", "curl/8", "said", id="said"),
        pytest.param("", "kubectl/v1.32 (linux/amd64)", "kubectl", id="user-agent"),
        pytest.param("", "Mozilla 5.0", "Mozilla", id="one-word"),
        pytest.param("", "", "unknown", id="nothing"),
    ],
)
def test_who_a_writer_is(field_manager: str, user_agent: str, name: str) -> None:
    assert manager_name(WriteOptions(field_manager=field_manager, user_agent=user_agent)) == name


@pytest.mark.parametrize(
    ("user", "component"),
    [("system:kube-scheduler", True), ("system:node:n", True), ("kubernetes-admin", False),
     ("system:serviceaccount:a:b", False), ("system:anonymous", False)],
)  # fmt: skip
def test_who_is_a_component(user: str, component: bool) -> None:
    assert is_component(UserInfo(user)) is component


MADE_BY_THE_CLUSTER = [
    pytest.param(
        "pods",
        {"spec": {"containers": [{"name": "c", "image": "i"}]}},
        ["f:serviceAccountName", "f:volumes", "f:tolerations", "f:priority"],
        "f:restartPolicy",
        id="pod",
    ),
    pytest.param(
        "services", {"spec": {"type": "NodePort", "ports": [{"port": 80}]}}, ["f:clusterIP", "f:clusterIPs"], "f:type",
        id="service",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("plural", "obj", "foreign", "own"), MADE_BY_THE_CLUSTER)
async def test_what_the_cluster_adds_to_a_new_object_is_not_its_makers(
    wire: Wire, plural: str, obj: dict[str, Any], foreign: list[str], own: str
) -> None:
    """Or kubectl, which takes its own client-side fields over at the first `apply --server-side`, would remove them."""
    kind = {"pods": "Pod", "services": "Service"}[plural]
    body = {"apiVersion": "v1", "kind": kind, "metadata": {"name": "a"}, **obj}
    made = await wire("POST", f"{NS}/{plural}?fieldManager=kubectl-client-side-apply", body)
    fields = managers(made)["kubectl-client-side-apply", "Update", ""]["f:spec"]
    assert own in fields
    assert not set(foreign) & set(fields)
    entry = made.json["metadata"]["managedFields"][0]
    taken_over = {"metadata": {"managedFields": [{**entry, "manager": "kubectl", "operation": "Apply"}]}}
    await wire("PATCH", f"{NS}/{plural}/a", taken_over, MERGE)
    applied = await apply(wire, f"{NS}/{plural}/a", body, "kubectl")
    assert applied.status == 200, applied.body
    assert applied.json["spec"] == made.json["spec"]
