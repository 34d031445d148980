"""The watch cache follows the store: what watchers see is what happened, selected."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from podnet.controlplane.api.errors import StatusError
from podnet.controlplane.api.resources import CONFIGMAPS, EVENTS, EVENTS_V1, PODS
from podnet.controlplane.apiserver import watchcache
from podnet.controlplane.apiserver.bootstrap import ensure_bootstrap
from podnet.controlplane.apiserver.local import LocalClient
from podnet.controlplane.apiserver.options import WatchOptions
from podnet.controlplane.apiserver.registry import Registry
from podnet.controlplane.store import open_store


def config_map(name: str, **labels: str) -> dict[str, Any]:
    return {"metadata": {"name": name, "namespace": "default", "labels": labels}, "data": {}}


async def collect(
    registry: Registry, options: WatchOptions, count: int, resource: Any = CONFIGMAPS
) -> list[tuple[str, str]]:
    """(type, name) of the first `count` events."""
    out: list[tuple[str, str]] = []
    async with asyncio.timeout(5):
        async for batch in registry.watch(resource, "", options).batches():
            out += [(kind, entry.obj["metadata"].get("name", "")) for kind, entry, _ in batch]
            if len(out) >= count:
                break
    return out


async def test_without_a_version_the_state_comes_first(registry: Registry, client: LocalClient) -> None:
    await client.create(CONFIGMAPS, config_map("a"))
    assert await collect(registry, WatchOptions(), 1) == [("ADDED", "a")]
    assert await collect(registry, WatchOptions(resource_version="0"), 1) == [("ADDED", "a")]


async def test_from_a_version_only_what_came_after(registry: Registry, client: LocalClient) -> None:
    await client.create(CONFIGMAPS, config_map("a"))
    version = (await client.list(CONFIGMAPS)).resource_version
    await client.create(CONFIGMAPS, config_map("b"))
    await client.delete(CONFIGMAPS, "a", "default")
    seen = await collect(registry, WatchOptions(resource_version=version), 2)
    assert seen == [("ADDED", "b"), ("DELETED", "a")]


async def test_a_deletion_has_a_new_version_and_the_last_state(registry: Registry, client: LocalClient) -> None:
    made = await client.create(CONFIGMAPS, {**config_map("a"), "data": {"k": "v"}})
    version = made["metadata"]["resourceVersion"]
    await client.delete(CONFIGMAPS, "a", "default")
    async for event in client.watch(CONFIGMAPS, resource_version=version, timeout_s=2):
        assert event.type == "DELETED"
        assert event.object["data"] == {"k": "v"}
        assert int(event.object["metadata"]["resourceVersion"]) > int(version)
        break


async def test_entering_and_leaving_a_selection(registry: Registry, client: LocalClient) -> None:
    version = (await client.list(CONFIGMAPS)).resource_version
    await client.create(CONFIGMAPS, config_map("a", app="no"))
    for value in ("yes", "yes", "no"):
        await client.patch(CONFIGMAPS, "a", "default", {"metadata": {"labels": {"app": value, "n": value * 2}}})
        await client.patch(CONFIGMAPS, "a", "default", {"data": {value: str(value)}})
    seen = await collect(registry, WatchOptions("app=yes", resource_version=version), 3)
    assert [kind for kind, _ in seen] == ["ADDED", "MODIFIED", "DELETED"]  # what changes nothing tells nothing


async def test_an_object_that_leaves_is_shown_as_it_was(registry: Registry, client: LocalClient) -> None:
    await client.create(CONFIGMAPS, config_map("a", app="yes"))
    version = (await client.list(CONFIGMAPS)).resource_version
    left = await client.patch(CONFIGMAPS, "a", "default", {"metadata": {"labels": {"app": "no"}}})
    async for event in client.watch(CONFIGMAPS, resource_version=version, label_selector="app=yes", timeout_s=2):
        assert event.type == "DELETED"
        assert event.object["metadata"]["labels"] == {"app": "yes"}
        assert event.object["metadata"]["resourceVersion"] == left["metadata"]["resourceVersion"]
        break


async def test_field_selectors_select(registry: Registry, client: LocalClient) -> None:
    for name, node in (("a", "n1"), ("b", "n2")):
        spec = {"nodeName": node, "containers": [{"name": "c", "image": "i"}]}
        await client.create(PODS, {"metadata": {"name": name, "namespace": "default"}, "spec": spec})
    seen = await collect(registry, WatchOptions(field_selector="spec.nodeName=n2"), 1, PODS)
    assert seen == [("ADDED", "b")]


async def test_two_views_share_one_stream(registry: Registry, client: LocalClient) -> None:
    event = {"involvedObject": {"kind": "Pod", "name": "p", "namespace": "default"}, "reason": "R", "message": "m"}
    await client.create(EVENTS, {"metadata": {"name": "e", "namespace": "default"}, **event})
    async for seen in client.watch(EVENTS_V1, "default", timeout_s=2):
        assert seen.object["apiVersion"] == "events.k8s.io/v1"
        assert seen.object["regarding"]["name"] == "p"
        assert seen.object["note"] == "m"
        break
    listed = await client.list(EVENTS_V1, "default", field_selector="regarding.name=p")
    assert len(listed.items) == 1


async def test_a_version_out_of_the_window_is_expired(
    registry: Registry, client: LocalClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watchcache, "WINDOW", 4)
    old = (await client.create(CONFIGMAPS, config_map("a")))["metadata"]["resourceVersion"]
    for value in range(8):
        await client.patch(CONFIGMAPS, "a", "default", {"data": {"v": str(value)}})
    with pytest.raises(StatusError, match=f"too old resource version: {old} ") as caught:
        await collect(registry, WatchOptions(resource_version=old), 1)
    assert caught.value.is_expired


async def test_watch_list_ends_the_initial_events_with_a_bookmark(registry: Registry, client: LocalClient) -> None:
    await client.create(CONFIGMAPS, config_map("a"))
    options = WatchOptions(send_initial_events=True, resource_version_match="NotOlderThan", allow_bookmarks=True)
    async for batch in registry.watch(CONFIGMAPS, "", options).batches():
        assert [kind for kind, _, _ in batch] == ["ADDED", "BOOKMARK"]
        bookmark = batch[-1][1].obj
        assert bookmark["metadata"]["annotations"] == {"k8s.io/initial-events-end": "true"}
        assert bookmark["metadata"]["resourceVersion"] == str(registry.cache.revision)
        break


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (WatchOptions(send_initial_events=True), "sendInitialEvents requires"),
        (WatchOptions(send_initial_events=True, resource_version_match="Exact"), "Unsupported value"),
        (WatchOptions(resource_version_match="NotOlderThan"), "forbidden for watch unless sendInitialEvents"),
    ],
)
async def test_watch_options_that_make_no_sense(registry: Registry, options: WatchOptions, words: str) -> None:
    with pytest.raises(StatusError, match=words) as caught:
        registry.watch(CONFIGMAPS, "", options)
    assert caught.value.code == 422


async def test_a_watch_ends_at_its_timeout_with_a_bookmark(registry: Registry) -> None:
    began = asyncio.get_running_loop().time()
    options = WatchOptions(resource_version=str(registry.cache.revision), timeout_s=1, allow_bookmarks=True)
    batches = [batch async for batch in registry.watch(CONFIGMAPS, "", options).batches()]
    assert 0.9 < asyncio.get_running_loop().time() - began < 4
    assert [kind for batch in batches for kind, _, _ in batch] == ["BOOKMARK"]


async def test_a_watcher_that_falls_behind_is_ended(
    registry: Registry, client: LocalClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watchcache, "PENDING_MAX", 3)
    watch = registry.watch(CONFIGMAPS, "", WatchOptions(resource_version=str(registry.cache.revision))).batches()
    assert await anext(watch) == []
    for index in range(6):
        await client.create(CONFIGMAPS, config_map(f"c{index}"))
    with pytest.raises(StopAsyncIteration):
        await anext(watch)
    assert not registry.cache.of(CONFIGMAPS).watchers


async def test_closing_a_watch_forgets_it(registry: Registry) -> None:
    watch = registry.watch(CONFIGMAPS, "", WatchOptions()).batches()
    await anext(watch)
    assert len(registry.cache.of(CONFIGMAPS).watchers) == 1
    await watch.aclose()  # type: ignore[attr-defined]
    assert not registry.cache.of(CONFIGMAPS).watchers


async def test_a_restart_keeps_recent_history() -> None:
    store = open_store("memory", "")
    first = Registry(store)
    await first.start()
    await ensure_bootstrap(first, advertise_address="127.0.0.1", port=1)
    client = LocalClient(first)
    version = (await client.create(CONFIGMAPS, config_map("a")))["metadata"]["resourceVersion"]
    await client.create(CONFIGMAPS, config_map("b"))
    await first.stop()
    second = Registry(store)
    await second.start()
    assert await collect(second, WatchOptions(resource_version=version), 1) == [("ADDED", "b")]
    await second.stop()
    await store.close()


async def test_reads_see_writes_at_once(registry: Registry, client: LocalClient) -> None:
    for index in range(50):
        await client.create(CONFIGMAPS, config_map(f"c{index}"))
        assert len((await client.list(CONFIGMAPS)).items) == index + 1
        await client.get(CONFIGMAPS, f"c{index}", "default")


async def test_a_version_in_the_future_times_out(
    registry: Registry, client: LocalClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watchcache, "CATCH_UP_TIMEOUT_S", 0.05)
    with pytest.raises(StatusError, match="Too large resource version: 99999") as caught:
        await client.list(CONFIGMAPS, resource_version="99999")
    assert caught.value.code == 504
    assert caught.value.details is not None
    assert caught.value.details["causes"][0]["reason"] == "ResourceVersionTooLarge"


OPERATIONS = st.lists(
    st.tuples(st.sampled_from(["create", "label", "unlabel", "delete"]), st.sampled_from("abc")), max_size=25
)


@settings(max_examples=40, deadline=None)
@given(OPERATIONS, st.sampled_from(["", "app=yes", "app!=yes", "!app"]))
def test_replaying_a_watch_gives_the_list(operations: list[tuple[str, str]], selector: str) -> None:
    """From any start, initial list + events = final list, whatever the selector."""

    async def run() -> None:
        store = open_store("memory", "")
        registry = Registry(store)
        await registry.start()
        await ensure_bootstrap(registry, advertise_address="127.0.0.1", port=1)
        client = LocalClient(registry)
        half = len(operations) // 2
        for operation, name in operations[:half]:
            await perform(client, operation, name)
        listed = await client.list(CONFIGMAPS, label_selector=selector)
        state = {item["metadata"]["name"]: item for item in listed.items}
        for operation, name in operations[half:]:
            await perform(client, operation, name)
        options = WatchOptions(selector, resource_version=listed.resource_version)
        watch = registry.watch(CONFIGMAPS, "", options).batches()
        await registry.cache.wait_fresh()
        for kind, entry, _ in await anext(watch):
            name = entry.obj["metadata"]["name"]
            assert (kind == "ADDED") == (name not in state)
            if kind == "DELETED":
                del state[name]
            else:
                state[name] = entry.obj
        await watch.aclose()  # type: ignore[attr-defined]
        final = await client.list(CONFIGMAPS, label_selector=selector)
        assert state == {item["metadata"]["name"]: item for item in final.items}
        await registry.stop()
        await store.close()

    asyncio.run(run())


async def perform(client: LocalClient, operation: str, name: str) -> None:
    try:
        if operation == "create":
            await client.create(CONFIGMAPS, config_map(name, app="yes"))
        elif operation == "delete":
            await client.delete(CONFIGMAPS, name, "default")
        else:
            value = "yes" if operation == "label" else None
            await client.patch(CONFIGMAPS, name, "default", {"metadata": {"labels": {"app": value}}})
    except StatusError as error:
        if error.code not in {404, 409}:
            raise
