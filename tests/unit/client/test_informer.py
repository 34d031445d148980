"""Informers against a scripted server: lists, watches, disconnections, expiry."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from podnet.controlplane.api.errors import StatusError, gone, service_unavailable
from podnet.controlplane.api.resources import PODS
from podnet.controlplane.client.backoff import Backoff
from podnet.controlplane.client.informer import Informer, InformerSet
from podnet.controlplane.client.types import ObjectList, WatchEvent


def pod(name: str, version: int, *, uid: str = "", **labels: str) -> dict[str, Any]:
    metadata = {"name": name, "namespace": "ns", "uid": uid or name, "resourceVersion": str(version), "labels": labels}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata}


class ScriptedClient:
    """Each list takes the next of `lists`, each watch the next of `watches`; a watch without a script hangs."""

    def __init__(self, lists: list[Any], watches: list[list[Any]]) -> None:
        self.lists, self.watches = lists, watches
        self.watched_from: list[str] = []
        self.exhausted = asyncio.Event()

    async def list(self, *_: Any, **__: Any) -> ObjectList:
        answer = self.lists.pop(0)
        if isinstance(answer, StatusError):
            raise answer
        version, items = answer
        return ObjectList(items, str(version))

    async def watch(self, *_: Any, resource_version: str = "", **__: Any) -> AsyncIterator[WatchEvent]:
        self.watched_from.append(resource_version)
        script = self.watches.pop(0) if self.watches else None
        for event in script or ():
            if isinstance(event, StatusError):
                raise event
            yield WatchEvent(*event)
        if script is None:
            self.exhausted.set()
            await asyncio.Event().wait()


class Log:
    def __init__(self) -> None:
        self.lines: list[str] = []

    def __call__(self, key: str, old: dict | None, new: dict | None) -> None:
        def version(obj: dict | None) -> str:
            return obj["metadata"]["resourceVersion"] if obj is not None else "-"

        self.lines.append(f"{key} {version(old)}>{version(new)}")


async def play(lists: list[Any], watches: list[list[Any]]) -> tuple[Informer, Log, ScriptedClient]:
    client = ScriptedClient(lists, watches)
    informer = Informer(client, PODS, backoff=Backoff(0.0001, 0.001), jitter=lambda: 0.5)
    log = Log()
    informer.add_handler(log)
    task = asyncio.create_task(informer.run())
    await asyncio.wait_for(client.exhausted.wait(), 2)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    return informer, log, client


async def test_list_then_watch() -> None:
    informer, log, client = await play(
        [(5, [pod("a", 3), pod("b", 5)])],
        [[("MODIFIED", pod("a", 6)), ("ADDED", pod("c", 7)), ("DELETED", pod("b", 8))]],
    )
    assert log.lines == ["ns/a ->3", "ns/b ->5", "ns/a 3>6", "ns/c ->7", "ns/b 8>-"]
    assert sorted(informer.cache) == ["ns/a", "ns/c"]
    assert client.watched_from == ["5", "8"]
    assert informer.has_synced


async def test_bookmarks_move_the_revision_and_nothing_else() -> None:
    bookmark = {"kind": "Pod", "apiVersion": "v1", "metadata": {"resourceVersion": "99"}}
    _, log, client = await play([(5, [])], [[("BOOKMARK", bookmark)]])
    assert log.lines == []
    assert client.watched_from == ["5", "99"]


@pytest.mark.parametrize(
    ("failure", "lists"),
    [(service_unavailable("down"), 1), (gone("too old resource version: 5 (9)"), 2)],
    ids=["connection lost: watch again", "expired: list again"],
)
async def test_after_a_failed_watch(failure: StatusError, lists: int) -> None:
    answers = [(5, [pod("a", 3)]), (9, [pod("a", 3), pod("b", 8)])][:lists]
    _, log, client = await play(answers, [[("MODIFIED", pod("a", 6)), failure]])
    assert client.lists == []
    assert client.watched_from == ["5", "6" if lists == 1 else "9"]
    assert ("ns/b ->8" in log.lines) is (lists == 2)


async def test_a_relist_tells_what_was_missed() -> None:
    informer, log, _ = await play(
        [
            (5, [pod("same", 1), pod("changed", 2), pod("deleted", 3), pod("replaced", 4)]),
            (20, [pod("same", 1), pod("changed", 12), pod("replaced", 14, uid="other"), pod("new", 15)]),
        ],
        [[gone("too old")]],
    )
    assert log.lines[4:] == ["ns/deleted 3>-", "ns/changed 2>12", "ns/replaced 4>-", "ns/replaced ->14", "ns/new ->15"]
    assert len(informer.list("ns")) == 4


async def test_a_server_that_is_not_there_yet() -> None:
    informer, _, _ = await play([service_unavailable("no"), service_unavailable("no"), (1, [pod("a", 1)])], [])
    assert informer.get("ns/a") is not None


async def test_indexes_follow_changes_and_late_handlers_catch_up() -> None:
    client = ScriptedClient(
        [(1, [pod("a", 1, app="x"), pod("b", 1, app="x")])],
        [[("MODIFIED", pod("a", 2, app="y")), ("DELETED", pod("b", 3, app="x"))]],
    )
    informer = Informer(client, PODS)
    informer.add_indexer("app", lambda obj: [obj["metadata"]["labels"]["app"]])
    task = asyncio.create_task(informer.run())
    await asyncio.wait_for(client.exhausted.wait(), 2)
    assert informer.by_index("app", "x") == []
    assert [obj["metadata"]["name"] for obj in informer.by_index("app", "y")] == ["a"]
    log = Log()
    remove = informer.add_handler(log)
    assert log.lines == ["ns/a ->2"]
    remove()
    remove()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_handler_that_fails_hurts_nobody(caplog: pytest.LogCaptureFixture) -> None:
    client = ScriptedClient([(1, [pod("a", 1)])], [])
    informer, log = Informer(client, PODS), Log()

    def bad(*_: object) -> None:
        raise ValueError

    informer.add_handler(bad)
    informer.add_handler(log)
    task = asyncio.create_task(informer.run())
    await asyncio.wait_for(client.exhausted.wait(), 2)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert log.lines == ["ns/a ->1"]
    assert "a handler of pods failed" in caplog.text


async def test_a_set_shares_informers_and_starts_late_ones() -> None:
    client = ScriptedClient([(1, [pod("a", 1)]), (1, [])], [])
    informers = InformerSet(client)
    first = informers.of(PODS)
    assert informers.of(PODS) is first
    task = asyncio.create_task(informers.run())
    await asyncio.wait_for(informers.wait_synced(), 2)
    late = informers.of(PODS, "other")
    assert late is not first
    await asyncio.wait_for(late.wait_synced(), 2)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


CHANGES = st.lists(
    st.one_of(
        st.tuples(st.sampled_from(["put", "delete"]), st.sampled_from("abc")),
        st.tuples(st.sampled_from(["close", "expire", "fail"]), st.just("")),
    ),
    max_size=30,
)


class Store:
    """A server of one resource whose watches end as the steps say."""

    def __init__(self, steps: list[tuple[str, str]]) -> None:
        self.steps = steps
        self.objects: dict[str, dict[str, Any]] = {}
        self.version = 0
        self.log: list[tuple[int, WatchEvent]] = []
        self.exhausted = asyncio.Event()

    def step(self) -> str:
        verb, name = self.steps.pop(0)
        if verb == "put":
            self.version += 1
            uid = self.objects[name]["metadata"]["uid"] if name in self.objects else f"{name}{self.version}"
            kind = "MODIFIED" if name in self.objects else "ADDED"
            self.objects[name] = pod(name, self.version, uid=uid)
            self.log.append((self.version, WatchEvent(kind, self.objects[name])))
        elif verb == "delete" and name in self.objects:
            self.version += 1
            last = pod(name, self.version, uid=self.objects.pop(name)["metadata"]["uid"])
            self.log.append((self.version, WatchEvent("DELETED", last)))
        return verb

    async def list(self, *_: Any, **__: Any) -> ObjectList:
        return ObjectList([*self.objects.values()], str(self.version))

    async def watch(self, *_: Any, resource_version: str = "", **__: Any) -> AsyncIterator[WatchEvent]:
        seen = int(resource_version)
        while True:
            for version, event in [entry for entry in self.log if entry[0] > seen]:
                seen = version
                yield event
            if not self.steps:
                self.exhausted.set()
                await asyncio.Event().wait()
            verb = self.step()
            if verb == "close":
                # What happens while nobody watches must not be lost.
                if self.steps and self.steps[0][0] in {"put", "delete"}:
                    self.step()
                return
            if verb == "expire":
                if self.steps and self.steps[0][0] in {"put", "delete"}:
                    self.step()
                raise gone("too old")
            if verb == "fail":
                raise service_unavailable("down")


@settings(max_examples=60, deadline=None)
@given(CHANGES)
def test_the_cache_and_the_handlers_end_where_the_server_is(steps: list[tuple[str, str]]) -> None:
    async def play_out() -> None:
        store = Store([*steps])
        informer = Informer(store, PODS, backoff=Backoff(0.0, 0.0), jitter=lambda: 0.0)
        told: dict[str, dict[str, Any]] = {}

        def follow(key: str, old: dict[str, Any] | None, new: dict[str, Any] | None) -> None:
            assert (key in told) == (old is not None)
            if new is None:
                del told[key]
            else:
                told[key] = new

        informer.add_handler(follow)
        task = asyncio.create_task(informer.run())
        await asyncio.wait_for(store.exhausted.wait(), 5)
        task.cancel()
        await asyncio.wait({task})
        expected = {f"ns/{name}": obj for name, obj in store.objects.items()}
        assert dict(informer.cache) == expected == told

    asyncio.run(play_out())
