"""The scheduling queue's order, back-off and moves; the cache's assumptions."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from podnet.controlplane.scheduler.cache import SchedulerCache
from podnet.controlplane.scheduler.queue import PARKED_MAX_S, SchedulingQueue
from podnet.controlplane.scheduler.types import PodInfo, parse_pod

Object = dict[str, Any]


def pod(name: str, priority: int = 0, uid: str = "", **spec: Any) -> PodInfo:
    metadata = {"name": name, "namespace": "ns", "uid": uid or name}
    container = {"resources": {"requests": {"cpu": "1"}}}
    return parse_pod({"metadata": metadata, "spec": {"containers": [container], "priority": priority, **spec}})


def popped(queue: SchedulingQueue, now: float) -> list[str]:
    names = []
    while (found := queue.pop(now)) is not None:
        names.append(found.key.removeprefix("ns/"))
    return names


def test_priority_first_then_age() -> None:
    queue = SchedulingQueue()
    for index, (name, priority) in enumerate([("old", 0), ("young", 0), ("urgent", 9)]):
        queue.add(pod(name, priority), float(index))
    assert popped(queue, 5.0) == ["urgent", "old", "young"]
    assert len(queue) == 3


@pytest.mark.parametrize(("attempts", "delay_s"), [(1, 0.1), (2, 0.2), (3, 0.4), (7, 6.4), (8, 10.0), (12, 10.0)])
def test_a_parked_pod_waits_for_a_change_and_then_for_its_back_off(attempts: int, delay_s: float) -> None:
    queue, now = SchedulingQueue(), 0.0
    queue.add(pod("a"), now)
    for _ in range(attempts):
        now += 1000.0
        queue.move(now)
        assert popped(queue, now) == ["a"]
        queue.park(pod("a"), now)
    assert popped(queue, now + 50) == []
    queue.move(now)
    assert queue.next_due() == now + delay_s
    assert popped(queue, now + delay_s - 0.001) == []
    assert popped(queue, now + delay_s) == ["a"]


def test_a_change_long_after_the_attempt_needs_no_back_off() -> None:
    queue = SchedulingQueue()
    queue.add(pod("a"), 0.0)
    queue.pop(0.0)
    queue.park(pod("a"), 0.0)
    queue.move(60.0)
    assert popped(queue, 60.0) == ["a"]


def test_a_parked_pod_is_tried_again_in_the_end() -> None:
    queue = SchedulingQueue()
    queue.add(pod("a"), 0.0)
    queue.pop(0.0)
    queue.park(pod("a"), 0.0)
    assert queue.next_due() == PARKED_MAX_S
    assert popped(queue, PARKED_MAX_S - 1) == []
    assert popped(queue, PARKED_MAX_S) == ["a"]


@pytest.mark.parametrize(
    ("change", "expected"),
    [({"nodeSelector": {"a": "b"}}, ["a"]), ({}, [])],
    ids=["spec changed", "only the status changed"],
)
def test_a_pod_that_changes_itself_is_tried_again(change: Object, expected: list[str]) -> None:
    queue = SchedulingQueue()
    queue.add(pod("a"), 0.0)
    queue.pop(0.0)
    queue.park(pod("a"), 0.0)
    queue.add(pod("a", **change), 5.0)
    assert popped(queue, 5.0) == expected


def test_a_namesake_is_another_pod() -> None:
    queue = SchedulingQueue()
    queue.add(pod("a", uid="1"), 0.0)
    queue.pop(0.0)
    queue.park(pod("a", uid="1"), 0.0)
    queue.add(pod("a", uid="2"), 0.0)
    assert popped(queue, 0.0) == ["a"]


def test_a_refused_binding_comes_again() -> None:
    queue = SchedulingQueue()
    queue.add(pod("a"), 0.0)
    queue.pop(0.0)
    queue.remove("ns/a")
    queue.retry(pod("a"), 0.0)
    assert popped(queue, 0.05) == []
    assert popped(queue, 0.1) == ["a"]


def test_a_change_wakes_only_whom_it_concerns() -> None:
    queue = SchedulingQueue()
    for name in ("a", "b"):
        queue.add(pod(name), 0.0)
        queue.pop(0.0)
        queue.park(pod(name), 0.0)
    queue.move(60.0, lambda parked: parked.key == "ns/b")
    assert popped(queue, 60.0) == ["b"]


@given(st.lists(st.tuples(st.sampled_from(["add", "pop", "park", "move", "remove", "wait"]), st.sampled_from("abc"))))
def test_no_pod_is_lost(steps: list[tuple[str, str]]) -> None:
    queue, now, known = SchedulingQueue(), 0.0, set()
    for verb, name in steps:
        if verb == "add":
            queue.add(pod(name), now)
            known.add(name)
        elif verb == "pop":
            found = queue.pop(now)
            if found is not None:
                queue.park(found, now)
        elif verb == "park":
            queue.park(pod(name), now)
        elif verb == "move":
            queue.move(now)
        elif verb == "remove":
            queue.remove(f"ns/{name}")
            known.discard(name)
        else:
            now += 3.0
    assert len(queue) == len(known)
    assert set(popped(queue, now + PARKED_MAX_S + 1)) == known


def node(name: str) -> Object:
    return {"metadata": {"name": name}, "status": {"allocatable": {"cpu": "4"}}}


def requested(cache: SchedulerCache) -> dict[str, int]:
    return {info.name: info.requested.get("cpu", 0) for info in cache.nodes()}


def test_an_assumed_pod_counts_at_once_and_once() -> None:
    cache = SchedulerCache()
    cache.set_node(node("n"))
    cache.assume(pod("a"), "n")
    assert requested(cache) == {"n": 1000}
    assert cache.is_assumed("ns/a", "a")
    cache.set_pod(pod("a"), "n")
    assert requested(cache) == {"n": 1000}
    assert not cache.is_assumed("ns/a", "a")
    cache.forget(pod("a"))  # the answer was lost, but the echo came
    assert requested(cache) == {"n": 1000}
    cache.remove_pod("ns/a")
    assert requested(cache) == {"n": 0}


def test_a_refused_assumption_is_forgotten() -> None:
    cache = SchedulerCache()
    cache.set_node(node("n"))
    cache.assume(pod("a"), "n")
    cache.forget(pod("a"))
    assert requested(cache) == {"n": 0}


def test_a_pod_that_went_elsewhere_counts_there() -> None:
    cache = SchedulerCache()
    for name in ("n", "m"):
        cache.set_node(node(name))
    cache.assume(pod("a"), "n")
    cache.set_pod(pod("a"), "m")
    assert requested(cache) == {"n": 0, "m": 1000}


def test_nodes_may_come_after_their_pods_and_go_before_them() -> None:
    cache = SchedulerCache()
    cache.set_pod(pod("a"), "n")
    assert cache.nodes() == []
    cache.set_node(node("n"))
    assert requested(cache) == {"n": 1000}
    cache.remove_node("n")
    assert cache.nodes() == []
    cache.set_node(node("n"))
    assert requested(cache) == {"n": 1000}
    cache.remove_node("n")
    cache.remove_pod("ns/a")
    cache.set_node(node("n"))
    assert requested(cache) == {"n": 0}
