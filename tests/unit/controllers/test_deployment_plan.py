"""The arithmetic of rolling updates and scaling: upstream's tables, and the laws by simulation."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from podnet.controlplane.controllers.deployment.plan import (
    Limits,
    is_scaling,
    new_size,
    plan_recreate,
    plan_rolling,
    plan_scaling,
    replicas_of,
    resolve_limits,
    resolve_percent,
)

Object = dict[str, Any]


def deployment(replicas: int, surge: Any = "25%", unavailable: Any = "25%", **spec: Any) -> Object:
    strategy = {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": surge, "maxUnavailable": unavailable}}
    return {"metadata": {"name": "d", "uid": "d"}, "spec": {"replicas": replicas, "strategy": strategy, **spec}}


def rs(name: str, size: int, available: int | None = None, **annotations: int) -> Object:
    created = f"2026-01-01T00:00:{ord(name[0]) % 60:02d}Z"
    notes = {f"deployment.kubernetes.io/{key}-replicas": str(value) for key, value in annotations.items()}
    return {
        "metadata": {"name": name, "uid": name, "creationTimestamp": created, "annotations": notes},
        "spec": {"replicas": size},
        "status": {"replicas": size, "availableReplicas": size if available is None else available},
    }


@pytest.mark.parametrize(
    ("value", "total", "round_up", "expected"),
    [(3, 10, True, 3), ("25%", 10, True, 3), ("25%", 10, False, 2), ("0%", 10, True, 0), ("100%", 7, False, 7)],
)
def test_resolve_percent(value: Any, total: int, round_up: bool, expected: int) -> None:
    assert resolve_percent(value, total, round_up=round_up) == expected


@pytest.mark.parametrize(
    ("replicas", "surge", "unavailable", "expected"),
    [
        pytest.param(4, "25%", "25%", Limits(1, 1), id="the defaults"),
        pytest.param(1, "25%", "25%", Limits(1, 0), id="one replica surges"),
        pytest.param(10, 0, 0, Limits(0, 1), id="both zero would stand still"),
        pytest.param(3, "0%", "10%", Limits(0, 1), id="both round to zero"),
        pytest.param(2, 5, 5, Limits(5, 2), id="not more unavailable than there are"),
        pytest.param(0, 1, 1, Limits(1, 0), id="no replicas"),
    ],
)
def test_resolve_limits(replicas: int, surge: Any, unavailable: Any, expected: Limits) -> None:
    assert resolve_limits(deployment(replicas, surge, unavailable)) == expected


def test_recreate_has_no_limits() -> None:
    spec = {"metadata": {}, "spec": {"replicas": 5, "strategy": {"type": "Recreate"}}}
    assert resolve_limits(spec) == Limits(0, 0)


@pytest.mark.parametrize(
    ("wanted", "surge", "new", "old", "expected"),
    [
        pytest.param(1, 1, 0, 0, 1, id="first rollout: all at once"),
        pytest.param(10, 0, 0, 10, 0, id="no surge, no room"),
        pytest.param(10, 2, 0, 10, 2, id="as much as the surge"),
        pytest.param(10, 2, 2, 10, 2, id="the surge is used up"),
        pytest.param(10, 2, 2, 8, 4, id="room that the old left"),
        pytest.param(10, 20, 0, 10, 10, id="never more than wanted"),
    ],
)
def test_new_size(wanted: int, surge: int, new: int, old: int, expected: int) -> None:
    current = rs("new", new) if new else None
    everyone = [rs("old", old), *([current] if current else [])]
    assert new_size(deployment(wanted, surge, 0), current, everyone) == expected


@pytest.mark.parametrize(
    ("unavailable", "new", "old", "expected"),
    [
        pytest.param(0, rs("new", 1, 0), [rs("old", 10)], [], id="no room, nothing to spare"),
        pytest.param(2, rs("new", 0), [rs("old", 10)], [("old", 8)], id="the spare two"),
        pytest.param(2, rs("new", 2), [rs("old", 8)], [("old", 8 - 2)], id="the new are available: two more"),
        pytest.param(2, rs("new", 2, 0), [rs("old", 8)], [], id="the new are not available: wait"),
        pytest.param(2, rs("new", 0), [rs("old", 10, 8)], [("old", 8)], id="unhealthy first"),
        pytest.param(
            0, rs("new", 1, 0), [rs("a", 5, 0), rs("b", 5)], [], id="unhealthy ones stay while nothing is to spare"
        ),
        pytest.param(5, rs("new", 5), [rs("a", 3), rs("b", 4)], [("a", 0), ("b", 0)], id="oldest first"),
    ],
)
def test_shrinking_the_old(unavailable: int, new: Object, old: list[Object], expected: list[tuple[str, int]]) -> None:
    steps = plan_rolling(deployment(10, 0 if unavailable else 1, unavailable), new, old)
    assert [(step.replica_set["metadata"]["name"], step.replicas) for step in steps] == expected


def test_a_new_one_that_is_too_large_shrinks_at_once() -> None:
    (step,) = plan_rolling(deployment(3), rs("new", 8), [])
    assert (step.replica_set["metadata"]["name"], step.replicas) == ("new", 3)


def test_recreate_first_empties_the_old() -> None:
    old = [rs("a", 2), rs("b", 0)]
    assert [
        (s.replica_set["metadata"]["name"], s.replicas) for s in plan_recreate(rs("new", 0), old, deployment(3))
    ] == [("a", 0)]
    (step,) = plan_recreate(rs("new", 0), [rs("a", 0)], deployment(3))
    assert (step.replica_set["metadata"]["name"], step.replicas) == ("new", 3)


def test_scaling_is_told_by_the_annotation() -> None:
    assert is_scaling(deployment(5), [rs("a", 3, desired=3)])
    assert not is_scaling(deployment(3), [rs("a", 3, desired=3), rs("b", 0, desired=9)])
    assert not is_scaling(deployment(5), [rs("a", 3)])


@pytest.mark.parametrize(
    ("wanted", "new", "old", "expected"),
    [
        pytest.param(5, rs("new", 3, max=4), [], {"new": 5}, id="alone: all of it"),
        pytest.param(0, rs("new", 0), [rs("a", 4, max=4)], {"a": 0}, id="the only active one, even if old"),
        # Upstream's TestScale: in the middle of a rollout growth is shared in proportion.
        pytest.param(20, rs("new", 5, max=10), [rs("old", 5, max=10)], {"new": 10, "old": 10}, id="even shares"),
        pytest.param(6, rs("new", 5, max=12), [rs("old", 7, max=12)], {"new": 3, "old": 3}, id="shrinks in proportion"),
        pytest.param(12, rs("new", 5, max=7), [rs("old", 2, max=7)], {"new": 9, "old": 3}, id="grows in proportion"),
        pytest.param(3, rs("new", 3, desired=3), [rs("a", 2), rs("b", 1)], {"a": 0, "b": 0}, id="saturated: old go"),
    ],
)
def test_plan_scaling(wanted: int, new: Object, old: list[Object], expected: dict[str, int]) -> None:
    steps = plan_scaling(deployment(wanted, 0, 0), new, old)
    assert {step.replica_set["metadata"]["name"]: step.replicas for step in steps} == expected


@given(
    before=st.integers(1, 30),
    wanted=st.integers(0, 60),
    surge=st.integers(0, 10),
    split=st.integers(1, 29),
)
def test_proportional_scaling_ends_at_the_allowed_size(before: int, wanted: int, surge: int, split: int) -> None:
    first = min(split, before)
    notes = {"max": before, "desired": before}
    new, old = rs("new", first, **notes), rs("old", before - first + 1, **notes)
    steps = plan_scaling(deployment(wanted, surge, 0), new, [old])
    sizes = {"new": replicas_of(new), "old": replicas_of(old)}
    for step in steps:
        sizes[step.replica_set["metadata"]["name"]] = step.replicas
    assert all(size >= 0 for size in sizes.values())
    if first == wanted == before:
        assert sizes == {"new": wanted, "old": 0}  # saturated: the rollout is as good as over
    else:
        assert sum(sizes.values()) == (wanted + surge if wanted else 0)


LIMIT = st.one_of(st.integers(0, 6), st.integers(0, 100).map(lambda number: f"{number}%"))


@settings(max_examples=150, deadline=None)
@given(
    replicas=st.integers(1, 12),
    surge=LIMIT,
    unavailable=LIMIT,
    broken=st.integers(0, 4),
    data=st.data(),
)
def test_a_rolling_update_keeps_its_bounds_and_converges(
    replicas: int, surge: Any, unavailable: Any, broken: int, data: st.DataObject
) -> None:
    """Pods become available one by one, in an order chosen by hypothesis; some old ones never were."""
    target = deployment(replicas, surge, unavailable)
    limits = resolve_limits(target)
    old = rs("old", replicas, max(0, replicas - broken))
    new = rs("new", 0, 0)
    floor = min(replicas - limits.unavailable, old["status"]["availableReplicas"])
    for _ in range(40 * replicas):
        steps = plan_rolling(target, new, [old])
        for step in steps:
            status = step.replica_set["status"]
            step.replica_set["spec"]["replicas"] = step.replicas
            # The ReplicaSet takes unavailable pods first.
            status["availableReplicas"] = min(status["availableReplicas"], step.replicas)
            status["replicas"] = step.replicas
        total = replicas_of(new) + replicas_of(old)
        assert total <= replicas + limits.surge
        available = new["status"]["availableReplicas"] + old["status"]["availableReplicas"]
        assert available >= floor
        if replicas_of(new) == replicas and replicas_of(old) == 0 and new["status"]["availableReplicas"] == replicas:
            assert plan_rolling(target, new, [old]) == []
            return
        waiting = replicas_of(new) - new["status"]["availableReplicas"]
        if waiting and (not steps or data.draw(st.booleans())):
            new["status"]["availableReplicas"] += data.draw(st.integers(1, waiting))
    raise AssertionError("did not converge")
