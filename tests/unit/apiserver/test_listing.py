"""LIST: pages, revisions, selectors, and the combinations that are refused."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from podnet.controlplane.api.errors import StatusError
from podnet.controlplane.api.resources import CONFIGMAPS, NAMESPACES, PODS
from podnet.controlplane.apiserver.listing import CONTINUE_EXPIRED, decode_continue, encode_continue
from podnet.controlplane.apiserver.local import LocalClient
from podnet.controlplane.apiserver.options import ListOptions
from podnet.controlplane.apiserver.registry import Registry


async def fill(client: LocalClient, count: int) -> None:
    for index in range(count):
        labels = {"odd": "yes"} if index % 2 else {"even": "yes"}
        await client.create(
            CONFIGMAPS, {"metadata": {"name": f"c{index:03}", "namespace": "default", "labels": labels}}
        )


async def pages(registry: Registry, limit: int, **selectors: str) -> list[list[str]]:
    token, out = "", []
    while True:
        options = ListOptions(limit=limit, continue_token=token, **selectors)
        page = await registry.list(CONFIGMAPS, "default", options)
        out.append([entry.obj["metadata"]["name"] for entry in page.entries])
        token = page.continue_token
        if not token:
            return out


@pytest.mark.parametrize("limit", [1, 2, 3, 5, 10, 11])
async def test_pages_make_up_the_list(registry: Registry, client: LocalClient, limit: int) -> None:
    await fill(client, 10)
    got = await pages(registry, limit)
    assert [name for page in got for name in page] == [f"c{index:03}" for index in range(10)]
    assert all(len(page) == limit for page in got[:-1])


@pytest.mark.parametrize("limit", [1, 2, 4])
async def test_pages_of_a_selection(registry: Registry, client: LocalClient, limit: int) -> None:
    await fill(client, 10)
    got = await pages(registry, limit, label_selector="odd=yes")
    assert [name for page in got for name in page] == [f"c{index:03}" for index in range(1, 10, 2)]


async def test_all_pages_are_one_snapshot(registry: Registry, client: LocalClient) -> None:
    await fill(client, 6)
    first = await registry.list(CONFIGMAPS, "default", ListOptions(limit=2))
    await client.create(CONFIGMAPS, {"metadata": {"name": "c000a", "namespace": "default"}})
    await client.create(CONFIGMAPS, {"metadata": {"name": "c003a", "namespace": "default"}})
    await client.delete(CONFIGMAPS, "c004", "default")
    second = await registry.list(CONFIGMAPS, "default", ListOptions(limit=10, continue_token=first.continue_token))
    assert [entry.obj["metadata"]["name"] for entry in second.entries] == ["c002", "c003", "c004", "c005"]
    assert second.revision == first.revision


async def test_remaining_is_said_without_selectors_only(registry: Registry, client: LocalClient) -> None:
    await fill(client, 6)
    assert (await registry.list(CONFIGMAPS, "", ListOptions(limit=2))).remaining == 4
    assert (await registry.list(CONFIGMAPS, "", ListOptions("even", limit=2))).remaining is None


async def test_a_continue_token_expires_with_a_way_on(registry: Registry, client: LocalClient) -> None:
    await fill(client, 6)
    first = await registry.list(CONFIGMAPS, "default", ListOptions(limit=2))
    await client.delete(CONFIGMAPS, "c004", "default")
    await registry.cache.wait_fresh()
    await registry.store.compact(await registry.store.revision())
    with pytest.raises(StatusError) as caught:
        await registry.list(CONFIGMAPS, "default", ListOptions(limit=2, continue_token=first.continue_token))
    assert (caught.value.code, caught.value.reason, caught.value.message) == (410, "Expired", CONTINUE_EXPIRED)
    fresh = caught.value.to_status()["metadata"]["continue"]
    rest = await registry.list(CONFIGMAPS, "default", ListOptions(continue_token=fresh))
    assert [entry.obj["metadata"]["name"] for entry in rest.entries] == ["c002", "c003", "c005"]


@pytest.mark.parametrize(
    "token", ["x", "e30", "!!!", "eyJ2IjoibWV0YS5rOHMuaW8vdjEiLCJydiI6MCwic3RhcnQiOiJhIn0", "W10", "é"]
)
async def test_a_token_that_is_none_of_ours(registry: Registry, token: str) -> None:
    with pytest.raises(StatusError, match="continue key is not valid") as caught:
        await registry.list(CONFIGMAPS, "default", ListOptions(limit=2, continue_token=token))
    assert caught.value.code == 400


@given(st.integers(1, 2**62), st.text(min_size=1).filter(lambda s: not s.startswith("/")))
def test_tokens_come_back_as_they_went(revision: int, start: str) -> None:
    try:
        start.encode()
    except UnicodeEncodeError:
        return
    assert decode_continue(encode_continue(revision, start), "/p/") == (revision, "/p/" + start)


async def test_exact_shows_the_past(registry: Registry, client: LocalClient) -> None:
    await fill(client, 2)
    then = (await client.list(CONFIGMAPS)).resource_version
    await client.delete(CONFIGMAPS, "c000", "default")
    options = ListOptions(resource_version=then, resource_version_match="Exact")
    page = await registry.list(CONFIGMAPS, "", options)
    assert [entry.obj["metadata"]["name"] for entry in page.entries] == ["c000", "c001"]
    assert str(page.revision) == then


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (ListOptions(resource_version_match="Exact"), "forbidden unless resourceVersion is provided"),
        (ListOptions(resource_version="0", resource_version_match="Exact"), 'forbidden for resourceVersion "0"'),
        (ListOptions(resource_version="5", resource_version_match="Sometimes"), "Unsupported value"),
        (
            ListOptions(resource_version="5", resource_version_match="Exact", continue_token="x"),
            "when continue is provided",
        ),
        (ListOptions(limit=-1), "greater than or equal to 0"),
    ],
)
async def test_list_options_that_make_no_sense(registry: Registry, options: ListOptions, words: str) -> None:
    with pytest.raises(StatusError, match=words) as caught:
        await registry.list(CONFIGMAPS, "", options)
    assert caught.value.code == 422


@pytest.mark.parametrize("version", ["x", "-1", "1.5", "1" * 30, "0x1"])
async def test_a_version_is_a_number(client: LocalClient, version: str) -> None:
    with pytest.raises(StatusError, match="resourceVersion: Invalid value") as caught:
        await client.list(CONFIGMAPS, resource_version=version)
    assert caught.value.code == 400


@pytest.mark.parametrize(
    ("selectors", "names"),
    [
        ({"label_selector": "app=web"}, ["a", "b"]),
        ({"label_selector": "app in (web,db)"}, ["a", "b", "c"]),
        ({"label_selector": "app!=web"}, ["c", "d"]),
        ({"label_selector": "!app"}, ["d"]),
        ({"field_selector": "metadata.name=b"}, ["b"]),
        ({"field_selector": "spec.nodeName=n1"}, ["a", "c"]),
        ({"field_selector": "spec.nodeName!=n1"}, ["b", "d"]),
        ({"field_selector": "status.phase=Pending,spec.nodeName=n1", "label_selector": "app=db"}, ["c"]),
        ({"field_selector": "metadata.namespace=default"}, ["a", "b", "c", "d"]),
        ({"field_selector": "metadata.namespace=other"}, []),
        ({"field_selector": "metadata.name=nope"}, []),
    ],
    ids=str,
)
async def test_selectors(client: LocalClient, selectors: dict[str, str], names: list[str]) -> None:
    for name, app, node in (("a", "web", "n1"), ("b", "web", "n2"), ("c", "db", "n1"), ("d", "", "")):
        obj: dict[str, Any] = {
            "metadata": {"name": name, "namespace": "default", "labels": {"app": app} if app else {}},
            "spec": {"containers": [{"name": "c", "image": "i"}], "nodeName": node},
        }
        await client.create(PODS, obj)
    for namespace in ("", "default"):
        listed = await client.list(PODS, namespace, **selectors)  # type: ignore[arg-type]
        assert [item["metadata"]["name"] for item in listed.items] == names


@pytest.mark.parametrize("selectors", [{"label_selector": "a in (b"}, {"field_selector": "spec.foo=1"}], ids=str)
async def test_selectors_that_cannot_be_read(client: LocalClient, selectors: dict[str, str]) -> None:
    with pytest.raises(StatusError) as caught:
        await client.list(PODS, **selectors)  # type: ignore[arg-type]
    assert caught.value.code == 400


async def test_order_is_by_namespace_and_name(client: LocalClient) -> None:
    await client.create(NAMESPACES, {"metadata": {"name": "a"}})
    for namespace, name in (("default", "a"), ("a", "z"), ("default", "B".lower()), ("a", "b")):
        await client.create(CONFIGMAPS, {"metadata": {"name": name, "namespace": namespace}})
    items = (await client.list(CONFIGMAPS)).items
    assert [(i["metadata"]["namespace"], i["metadata"]["name"]) for i in items] == [
        ("a", "b"),
        ("a", "z"),
        ("default", "a"),
        ("default", "b"),
    ]
    assert len((await client.list(CONFIGMAPS, "a")).items) == 2


async def test_a_namespace_is_no_prefix_of_another(client: LocalClient) -> None:
    for name in ("a", "ab"):
        await client.create(NAMESPACES, {"metadata": {"name": name}})
        await client.create(CONFIGMAPS, {"metadata": {"name": "x", "namespace": name}})
    assert len((await client.list(CONFIGMAPS, "a")).items) == 1
