"""Every stored kind through every verb: what holds for all of them."""

from __future__ import annotations

import copy
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from minimal_objects import STORED, identify, minimal

from podnet.controlplane.api.errors import StatusError
from podnet.controlplane.api.resources import NAMESPACES, PERSISTENTVOLUMECLAIMS, PERSISTENTVOLUMES, storage_resource
from podnet.controlplane.api.types import Resource
from podnet.controlplane.apiserver.local import LocalClient
from podnet.controlplane.apiserver.registry import Registry
from podnet.controlplane.apiserver.strategy import NEEDS_RESOURCE_VERSION, WITH_GENERATION

PROTECTED = {
    PERSISTENTVOLUMECLAIMS: "kubernetes.io/pvc-protection",
    PERSISTENTVOLUMES: "kubernetes.io/pv-protection",
}
every_resource = pytest.mark.parametrize("resource", STORED, ids=identify)


def ns_of(resource: Resource) -> str:
    return "default" if resource.namespaced else ""


@every_resource
async def test_created_objects_have_an_identity(resource: Resource, client: LocalClient) -> None:
    made = await client.create(resource, minimal(resource))
    metadata = made["metadata"]
    assert (made["apiVersion"], made["kind"]) == (resource.api_version, resource.kind)
    assert len(metadata["uid"]) == 36
    assert metadata["creationTimestamp"] == "2027-01-15T08:00:00Z"
    assert int(metadata["resourceVersion"]) > 0
    assert metadata.get("generation") == (1 if resource.qualified_name in WITH_GENERATION else None)
    assert await client.get(resource, metadata["name"], ns_of(resource)) == made


@every_resource
async def test_creating_twice_is_a_conflict(resource: Resource, client: LocalClient) -> None:
    await client.create(resource, minimal(resource))
    with pytest.raises(StatusError) as caught:
        await client.create(resource, minimal(resource))
    assert caught.value.is_already_exists
    assert caught.value.message == f'{resource.qualified_name} "{minimal(resource)["metadata"]["name"]}" already exists'


@every_resource
async def test_a_missing_object_is_not_found(resource: Resource, client: LocalClient) -> None:
    for call in (client.get(resource, "no", ns_of(resource)), client.delete(resource, "no", ns_of(resource))):
        with pytest.raises(StatusError) as caught:
            await call
        assert caught.value.message == f'{resource.qualified_name} "no" not found'
        assert caught.value.details is not None
        assert caught.value.details["kind"] == resource.plural


@every_resource
async def test_a_list_holds_it_at_a_revision(resource: Resource, client: LocalClient) -> None:
    made = await client.create(resource, minimal(resource))
    listed = await client.list(resource, ns_of(resource))
    assert made in listed.items
    assert int(listed.resource_version) >= int(made["metadata"]["resourceVersion"])


@every_resource
async def test_writing_back_what_was_read_changes_nothing(resource: Resource, client: LocalClient) -> None:
    made = await client.create(resource, minimal(resource))
    again = await client.update(resource, copy.deepcopy(made))
    assert again == made


@every_resource
async def test_a_label_is_a_new_revision_of_the_same_object(resource: Resource, client: LocalClient) -> None:
    made = await client.create(resource, minimal(resource))
    patched = await client.patch(
        resource, made["metadata"]["name"], ns_of(resource), {"metadata": {"labels": {"new": "yes"}}}
    )
    assert patched["metadata"]["labels"]["new"] == "yes"
    assert patched["metadata"]["uid"] == made["metadata"]["uid"]
    assert int(patched["metadata"]["resourceVersion"]) > int(made["metadata"]["resourceVersion"])
    assert patched["metadata"].get("generation") == made["metadata"].get("generation")


@every_resource
@pytest.mark.parametrize("patch_type", ["json", "merge", "strategic"])
async def test_every_patch_type_sets_an_annotation(resource: Resource, patch_type: str, client: LocalClient) -> None:
    made = await client.create(resource, minimal(resource))
    patch: object = {"metadata": {"annotations": {"k": "v"}}}
    if patch_type == "json":
        patch = [{"op": "add", "path": "/metadata/annotations", "value": {"k": "v"}}]
    patched = await client.patch(resource, made["metadata"]["name"], ns_of(resource), patch, patch_type=patch_type)  # type: ignore[arg-type]
    assert patched["metadata"]["annotations"]["k"] == "v"


@every_resource
async def test_a_stale_update_is_refused_and_nothing_is_stored(resource: Resource, client: LocalClient) -> None:
    made = await client.create(resource, minimal(resource))
    name = made["metadata"]["name"]
    fresh = await client.patch(resource, name, ns_of(resource), {"metadata": {"labels": {"one": "1"}}})
    stale = copy.deepcopy(made)
    stale["metadata"]["labels"] = {"two": "2"}
    with pytest.raises(StatusError) as caught:
        await client.update(resource, stale)
    assert caught.value.is_conflict
    assert caught.value.message == (
        f'Operation cannot be fulfilled on {resource.qualified_name} "{name}": the object has been modified; '
        "please apply your changes to the latest version and try again"
    )
    assert await client.get(resource, name, ns_of(resource)) == fresh


@every_resource
async def test_an_update_without_a_version(resource: Resource, client: LocalClient) -> None:
    made = await client.create(resource, minimal(resource))
    blind = copy.deepcopy(made)
    del blind["metadata"]["resourceVersion"]
    blind["metadata"]["labels"] = {**(blind["metadata"].get("labels") or {}), "x": "y"}
    if resource.qualified_name in NEEDS_RESOURCE_VERSION:
        with pytest.raises(StatusError, match="must be specified for an update") as caught:
            await client.update(resource, blind)
        assert caught.value.code == 422
    else:
        assert (await client.update(resource, blind))["metadata"]["labels"]["x"] == "y"


@every_resource
async def test_deleting_takes_it_away_or_marks_it(resource: Resource, client: LocalClient) -> None:
    made = await client.create(resource, minimal(resource))
    name = made["metadata"]["name"]
    await client.delete(resource, name, ns_of(resource), propagation="Background")
    if resource == NAMESPACES:
        assert (await client.get(resource, name))["status"]["phase"] == "Terminating"
        return
    if resource in PROTECTED:
        # Their finalizer, from admission, is the protection controllers' to take off.
        kept = await client.get(resource, name, ns_of(resource))
        assert kept["metadata"]["deletionTimestamp"]
        assert kept["metadata"]["finalizers"] == [PROTECTED[resource]]
        return
    with pytest.raises(StatusError) as caught:
        await client.get(resource, name, ns_of(resource))
    assert caught.value.is_not_found


@every_resource
async def test_a_finalizer_keeps_it_until_it_is_gone(resource: Resource, client: LocalClient) -> None:
    obj = minimal(resource)
    obj["metadata"]["finalizers"] = ["x.y/z"]
    made = await client.create(resource, obj)
    name = made["metadata"]["name"]
    await client.delete(resource, name, ns_of(resource), propagation="Background")
    kept = await client.get(resource, name, ns_of(resource))
    assert kept["metadata"]["deletionTimestamp"]
    await client.patch(resource, name, ns_of(resource), {"metadata": {"finalizers": None}})
    if resource == NAMESPACES:
        kept = await client.get(resource, name)
        kept["spec"]["finalizers"] = []
        await client.update(resource, kept, subresource="finalize")
    with pytest.raises(StatusError):
        await client.get(resource, name, ns_of(resource))


@every_resource
async def test_uid_and_version_preconditions(resource: Resource, client: LocalClient) -> None:
    made = await client.create(resource, minimal(resource))
    name, uid = made["metadata"]["name"], made["metadata"]["uid"]
    with pytest.raises(StatusError) as caught:
        await client.delete(resource, name, ns_of(resource), uid="other")
    assert f"the UID in the precondition (other) does not match the UID in record ({uid})." in caught.value.message
    with pytest.raises(StatusError):
        await client.delete(resource, name, ns_of(resource), resource_version="1")
    assert await client.get(resource, name, ns_of(resource)) == made


@every_resource
async def test_a_field_nobody_knows_is_refused(resource: Resource, client: LocalClient, registry: Registry) -> None:
    obj = minimal(resource)
    obj["metadata"]["bogus"] = 1
    before = await registry.store.revision()
    with pytest.raises(StatusError, match=r'unknown field "metadata\.bogus"') as caught:
        await client.create(resource, obj)
    assert caught.value.code == 400
    assert await registry.store.revision() == before


@every_resource
async def test_a_wrong_type_is_refused(resource: Resource, client: LocalClient, registry: Registry) -> None:
    obj = minimal(resource)
    obj["metadata"]["labels"] = "x"
    before = await registry.store.revision()
    with pytest.raises(StatusError, match="cannot unmarshal string") as caught:
        await client.create(resource, obj)
    assert caught.value.code == 400
    assert await registry.store.revision() == before


@every_resource
async def test_a_watch_tells_the_whole_life(resource: Resource, client: LocalClient) -> None:
    obj = minimal(resource)
    obj["metadata"]["finalizers"] = ["x.y/z"]
    stored = storage_resource(resource)
    start = (await client.list(resource)).resource_version
    made = await client.create(resource, obj)
    name = made["metadata"]["name"]
    await client.delete(resource, name, ns_of(resource), propagation="Background")
    seen = []
    async for event in client.watch(resource, ns_of(resource), resource_version=start, timeout_s=1):
        seen.append((event.type, event.object["apiVersion"], event.object["metadata"]["name"]))
        if len(seen) == 2:
            break
    assert stored.kind == resource.kind
    assert seen == [("ADDED", resource.api_version, name), ("MODIFIED", resource.api_version, name)]


@pytest.mark.parametrize("resource", [r for r in STORED if "status" in r.subresources], ids=identify)
async def test_status_and_spec_keep_to_their_doors(resource: Resource, client: LocalClient) -> None:
    made = await client.create(resource, minimal(resource))
    name = made["metadata"]["name"]
    through_status = copy.deepcopy(made)
    through_status["metadata"]["ownerReferences"] = [
        {"apiVersion": "v1", "kind": "Pod", "name": "p", "uid": "u"},
    ]
    answered = await client.update(resource, through_status, subresource="status")
    assert "ownerReferences" not in answered["metadata"]
    stripped = {key: value for key, value in copy.deepcopy(made).items() if key != "status"}
    answered = await client.update(resource, stripped)
    assert answered.get("status") == made.get("status")
    assert (await client.get(resource, name, ns_of(resource))).get("spec") == made.get("spec")
