"""Events are counted and limited; expectations remember what has not come back yet."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from podnet.controlplane.api.errors import not_found, service_unavailable
from podnet.controlplane.client.events import BURST, COMBINED, Correlator, EventRecorder, Report
from podnet.controlplane.client.expectations import TIMEOUT_S, Expectations

POD = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {"name": "web", "namespace": "shop", "uid": "u1", "resourceVersion": "7"},
}


class Recording:
    def __init__(self) -> None:
        self.created: list[dict[str, Any]] = []
        self.patched: list[tuple[str, str, dict[str, Any]]] = []
        self.forgotten = False

    async def create(self, _resource: Any, obj: dict[str, Any]) -> dict[str, Any]:
        self.created.append(obj)
        return obj

    async def patch(self, _resource: Any, name: str, namespace: str, patch: dict[str, Any]) -> dict[str, Any]:
        if self.forgotten:
            raise not_found("events", name)
        self.patched.append((name, namespace, patch))
        return patch


async def recorded(*said: tuple[str, str, str], client: Recording | None = None) -> Recording:
    client = client or Recording()
    recorder = EventRecorder(client, "tester", "node-1", clock=lambda: 1000.0)
    for kind, reason, message in said:
        recorder.event(POD, kind, reason, message)
    task = asyncio.create_task(recorder.run())
    await asyncio.wait_for(recorder.wait_flushed(), 2)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    return client


async def test_an_event_says_all_there_is_to_say() -> None:
    client = await recorded(("Normal", "Started", "Started container c"))
    (event,) = client.created
    assert event["metadata"] == {"name": "web.e8d4a51000", "namespace": "shop"}
    assert event["involvedObject"]["uid"] == "u1"
    assert (event["reason"], event["message"], event["type"]) == ("Started", "Started container c", "Normal")
    assert event["source"] == {"component": "tester", "host": "node-1"}
    assert event["firstTimestamp"] == event["lastTimestamp"] == "1970-01-01T00:16:40Z"
    assert event["count"] == 1


async def test_a_repeat_raises_the_count() -> None:
    client = await recorded(*[("Warning", "BackOff", "again")] * 3)
    assert len(client.created) == 1
    assert [patch["count"] for _, _, patch in client.patched] == [2, 3]


async def test_components_share_one_writer() -> None:
    client = Recording()
    recorder = EventRecorder(client, "manager", clock=lambda: 1000.0)
    recorder.named("one").event(POD, "Normal", "R", "m")
    recorder.named("two").event(POD, "Normal", "R", "m")
    task = asyncio.create_task(recorder.run())
    await asyncio.wait_for(recorder.wait_flushed(), 2)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert [event["source"] for event in client.created] == [{"component": "one"}, {"component": "two"}]


async def test_an_event_waits_for_a_server_that_is_away() -> None:
    class Away(Recording):
        refusals = 2

        async def create(self, resource: Any, obj: dict[str, Any]) -> dict[str, Any]:
            if self.refusals:
                self.refusals -= 1
                raise service_unavailable("away")
            return await super().create(resource, obj)

    client = await recorded(("Normal", "Started", "m"), client=Away())
    assert len(client.created) == 1


async def test_an_event_that_expired_is_told_anew() -> None:
    client = Recording()
    client.forgotten = True
    client = await recorded(*[("Warning", "BackOff", "again")] * 2, client=client)
    assert [event["count"] for event in client.created] == [1, 1]


def test_many_wordings_become_one() -> None:
    correlator = Correlator()
    reports = [correlator.aggregate(Report("tester", (("uid", "u"),), "Normal", "R", f"m{n}"), 0.0) for n in range(12)]
    assert [report.message.startswith(COMBINED) for report in reports] == [False] * 10 + [True] * 2
    correlator.remember(reports[10], "name", 1)
    assert correlator.known(reports[11]) is not None
    assert correlator.aggregate(Report("tester", (("uid", "u"),), "Normal", "R", "late"), 601.0).message == "late"


def test_one_object_gets_a_burst_and_then_a_trickle() -> None:
    correlator, report = Correlator(), Report("tester", (("uid", "u"),), "Normal", "R", "m")
    assert [correlator.admit(report, 0.0) for _ in range(int(BURST) + 1)] == [True] * int(BURST) + [False]
    assert not correlator.admit(report, 299.0)
    assert correlator.admit(report, 301.0)
    assert correlator.admit(Report("tester", (("uid", "other"),), "Normal", "R", "m"), 0.0)


def test_creations_are_awaited() -> None:
    expectations = Expectations()
    assert expectations.satisfied("a", 0.0)
    expectations.expect_creations("a", 2, 0.0)
    assert not expectations.satisfied("a", 1.0)
    expectations.creation_observed("a")
    assert not expectations.satisfied("a", 1.0)
    expectations.creation_observed("a")
    assert expectations.satisfied("a", 1.0)


def test_one_deletion_seen_twice_is_one() -> None:
    expectations = Expectations()
    expectations.expect_deletions("a", ["x", "y"], 0.0)
    expectations.deletion_observed("a", "x")
    expectations.deletion_observed("a", "x")
    assert not expectations.satisfied("a", 1.0)
    expectations.deletion_observed("a", "y")
    assert expectations.satisfied("a", 1.0)


def test_an_echo_that_never_comes_does_not_block_for_ever() -> None:
    expectations = Expectations()
    expectations.expect_creations("a", 1, 0.0)
    assert not expectations.satisfied("a", TIMEOUT_S - 1)
    assert expectations.satisfied("a", TIMEOUT_S + 1)
    expectations.forget("a")
    assert expectations.satisfied("a", 0.0)
