"""Pod statuses reach the API: once, in order, whatever happens to the server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine
from typing import Any

import pytest

from podnet.controlplane.api.errors import conflict, invalid, not_found, service_unavailable
from podnet.controlplane.kubelet.config_cache import ConfigCache, Reference
from podnet.controlplane.kubelet.lane import wait_unbroken
from podnet.controlplane.kubelet.status_writer import StatusWriter


class Server:
    """Holds one pod; `errors` are raised first, `slow` delays a write."""

    def __init__(self) -> None:
        self.pod: dict[str, Any] | None = pod(1)
        self.errors: list[Exception] = []
        self.writes: list[dict[str, Any]] = []
        self.slow_s = 0.0
        self.busy = 0

    async def update(self, _: Any, obj: dict[str, Any], *, subresource: str = "") -> dict[str, Any]:
        assert subresource == "status"
        self.busy += 1
        assert self.busy == 1, "two writes at once"
        await asyncio.sleep(self.slow_s)
        self.busy -= 1
        if self.errors:
            raise self.errors.pop(0)
        if self.pod is None:
            raise not_found("pods", "web")
        if obj["metadata"]["resourceVersion"] != self.pod["metadata"]["resourceVersion"]:
            raise conflict("pods", "web")
        self.writes.append(obj["status"])
        self.pod = pod(int(self.pod["metadata"]["resourceVersion"]) + 1, status=obj["status"])
        return self.pod

    async def get(self, *_: Any) -> dict[str, Any]:
        if self.pod is None:
            raise not_found("pods", "web")
        return self.pod


def pod(version: int, uid: str = "u", status: Any = None) -> dict[str, Any]:
    metadata = {"name": "web", "namespace": "default", "uid": uid, "resourceVersion": str(version)}
    return {"metadata": metadata, "spec": {}, "status": status or {"phase": "Pending"}}


def status(phase: str) -> dict[str, Any]:
    return {"phase": phase, "conditions": []}


@pytest.fixture
async def tasks() -> AsyncIterator[Any]:
    async with asyncio.TaskGroup() as group:

        def spawn(work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
            return group.create_task(work, name=name)

        yield spawn


async def wait(writer: StatusWriter) -> None:
    async with asyncio.timeout(5):
        await writer.wait_written("u")


async def test_what_stands_is_not_written_again(tasks: Any) -> None:
    server = Server()
    writer = StatusWriter(server, tasks)  # type: ignore[arg-type]
    writer.put(pod(1), {"phase": "Pending"})
    await wait(writer)
    assert server.writes == []
    writer.put(pod(1), status("Running"))
    await wait(writer)
    writer.put(pod(1), status("Running"))
    await wait(writer)
    assert [entry["phase"] for entry in server.writes] == ["Running"]


async def test_the_newest_wins_and_one_write_runs_at_a_time(tasks: Any) -> None:
    server = Server()
    server.slow_s = 0.05
    writer = StatusWriter(server, tasks)  # type: ignore[arg-type]
    for phase in ("A", "B", "C", "D"):
        writer.put(pod(1), status(phase))
        await asyncio.sleep(0.01)
    await wait(writer)
    assert [entry["phase"] for entry in server.writes] == ["A", "D"]


async def test_a_server_that_is_away_gets_it_later(tasks: Any) -> None:
    server = Server()
    server.errors = [service_unavailable("away")] * 3
    writer = StatusWriter(server, tasks)  # type: ignore[arg-type]
    writer.put(pod(1), status("Running"))
    await wait(writer)
    assert [entry["phase"] for entry in server.writes] == ["Running"]


async def test_a_conflict_is_answered_by_reading_again(tasks: Any) -> None:
    server = Server()
    gate = {"type": "example.com/gate", "status": "True"}
    server.pod = pod(7, status={"phase": "Pending", "conditions": [gate]})
    writer = StatusWriter(server, tasks)  # type: ignore[arg-type]
    writer.put(pod(1), status("Running"))
    await wait(writer)
    assert server.writes == [{"phase": "Running", "conditions": [gate]}]
    assert writer.current(pod(1))["status"]["phase"] == "Running"


@pytest.mark.parametrize("after", [None, "another"], ids=["gone", "same-name-another-uid"])
async def test_a_pod_that_is_gone_is_forgotten(tasks: Any, after: str | None) -> None:
    server = Server()
    server.pod = None if after is None else pod(9, uid=after)
    writer = StatusWriter(server, tasks)  # type: ignore[arg-type]
    writer.put(pod(1), status("Running"))
    await wait(writer)
    assert server.writes == []


async def test_a_refused_status_holds_nobody_up(tasks: Any) -> None:
    server = Server()
    server.errors = [invalid("Pod", "web", [])] * 50
    writer = StatusWriter(server, tasks)  # type: ignore[arg-type]
    writer.put(pod(1), status("Running"))
    await wait(writer)
    writer.forget("u")


async def test_unbroken_work_ends_before_the_cancellation() -> None:
    done = []

    async def work() -> str:
        await asyncio.sleep(0.05)
        done.append(True)
        return "made"

    task = asyncio.create_task(wait_unbroken(work()))
    await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert done == [True]
    assert await wait_unbroken(work()) == "made"


async def test_unbroken_work_may_fail() -> None:
    async def work() -> None:
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        await wait_unbroken(work())


async def test_the_config_cache_watches_while_somebody_holds(node: Any) -> None:
    from podnet.controlplane.api.resources import CONFIGMAPS

    woken: list[str] = []
    reference = Reference(CONFIGMAPS, "default", "settings")
    async with asyncio.TaskGroup() as group:
        cache = ConfigCache(node.client, lambda work, name: group.create_task(work, name=name), woken.append)
        await cache.acquire("one", [reference])
        assert cache.get(reference) is None
        metadata = {"name": "settings", "namespace": "default"}
        await node.client.create(CONFIGMAPS, {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata})

        async def arrived() -> bool:
            return cache.get(reference) is not None and woken == ["one"]

        await node.until(arrived)
        await cache.acquire("two", [reference])
        cache.release("one")
        assert cache.get(reference) is not None
        await cache.acquire("two", [])
        assert cache.get(reference) is None
