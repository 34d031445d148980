"""Scores: which of the nodes that would do is best."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from podnet.controlplane.scheduler.decide import Placement, decide
from podnet.controlplane.scheduler.scores import (
    balanced_allocation,
    inter_pod_affinity,
    least_allocated,
    node_affinity,
    normalized,
    taint_toleration,
    topology_spread,
)
from podnet.controlplane.scheduler.topology import PodTopology
from podnet.controlplane.scheduler.types import NodeInfo, node_infos, parse_pod

Object = dict[str, Any]
HOST, ZONE = "kubernetes.io/hostname", "topology.kubernetes.io/zone"


def node(name: str, labels: dict[str, str] | None = None, taints: list[Object] | None = None, cpu: str = "4") -> Object:
    return {
        "metadata": {"name": name, "labels": {HOST: name, **(labels or {})}},
        "spec": {"taints": taints or []},
        "status": {"allocatable": {"cpu": cpu, "memory": "8Gi", "pods": "110"}},
    }


def pod(name: str = "p", on: str = "", cpu: str = "1", memory: str = "2Gi", owner: str = "", **spec: Any) -> Object:
    labels = spec.pop("labels", {})
    body: Object = {"containers": [{"resources": {"requests": {"cpu": cpu, "memory": memory}}}], **spec}
    if on:
        body["nodeName"] = on
    metadata: Object = {"name": name, "namespace": "ns", "uid": name, "labels": labels}
    if owner:
        metadata["ownerReferences"] = [{"kind": "ReplicaSet", "name": owner, "uid": owner, "controller": True}]
    return {"metadata": metadata, "spec": body}


def scored(function: Any, wanted: Object, nodes: list[Object], others: list[Object]) -> list[int]:
    infos, parsed = node_infos(nodes, others), parse_pod(wanted)
    return function(parsed, infos, PodTopology(parsed, infos, lambda _: {}))


NODES = [node("a"), node("b")]


def test_least_allocated_prefers_the_emptier() -> None:
    # a would hold 2 of 4 cpu and 4 of 8 Gi: 50 free; b 1 of 4 and 2 of 8: 75 free.
    assert scored(least_allocated, pod(), NODES, [pod("q", on="a")]) == [50, 75]


def test_balanced_allocation_prefers_even_use() -> None:
    # a: all cpu and no memory beside our quarter: shares 1.0 and 0.25.
    others = [pod("q", on="a", cpu="3", memory="0")]
    assert scored(balanced_allocation, pod(), NODES, others) == [62, 100]


def test_taints_that_are_only_preferred() -> None:
    nodes = [node("a", taints=[{"key": "x", "effect": "PreferNoSchedule"}]), node("b")]
    assert scored(taint_toleration, pod(), nodes, []) == [0, 100]
    tolerant = pod(tolerations=[{"key": "x", "operator": "Exists"}])
    assert scored(taint_toleration, tolerant, nodes, []) == [100, 100]


def test_preferred_node_affinity_by_weight() -> None:
    def preferred(weight: int, value: str) -> Object:
        expression = {"key": "disk", "operator": "In", "values": [value]}
        return {"weight": weight, "preference": {"matchExpressions": [expression]}}

    affinity = {
        "nodeAffinity": {
            "preferredDuringSchedulingIgnoredDuringExecution": [preferred(80, "ssd"), preferred(20, "hdd")]
        }
    }
    nodes = [node("a", {"disk": "ssd"}), node("b", {"disk": "hdd"}), node("c")]
    assert scored(node_affinity, pod(affinity=affinity), nodes, []) == [100, 25, 0]


def test_pods_of_one_owner_are_spread() -> None:
    others = [pod("q", on="a", owner="rs"), pod("r", on="a", owner="rs"), pod("s", on="b", owner="another")]
    on_a, on_b = scored(topology_spread, pod(owner="rs"), NODES, others)
    assert on_b > on_a
    assert scored(topology_spread, pod(), NODES, others) == [100, 100]


def test_soft_constraints_replace_the_default_spread() -> None:
    constraint = {
        "topologyKey": ZONE,
        "maxSkew": 1,
        "whenUnsatisfiable": "ScheduleAnyway",
        "labelSelector": {"matchLabels": {"app": "web"}},
    }
    nodes = [node("a", {ZONE: "1"}), node("b", {ZONE: "2"}), node("c", {ZONE: "2"})]
    others = [pod("q", on="b", labels={"app": "web"})]
    on_a, on_b, on_c = scored(topology_spread, pod(topologySpreadConstraints=[constraint]), nodes, others)
    assert on_a > on_b == on_c


def test_a_node_without_the_label_of_a_soft_constraint_gains_nothing() -> None:
    constraint = {
        "topologyKey": ZONE,
        "maxSkew": 1,
        "whenUnsatisfiable": "ScheduleAnyway",
        "labelSelector": {"matchLabels": {"app": "web"}},
    }
    nodes = [node("a", {ZONE: "1"}), node("b", {ZONE: "2"}), node("c")]
    others = [pod("q", on="a", labels={"app": "web"})]
    assert scored(topology_spread, pod(topologySpreadConstraints=[constraint]), nodes, others) == [0, 100, 0]


@pytest.mark.parametrize(
    ("kind", "strength", "expected"),
    [
        ("podAffinity", "preferred", [100, 0]),
        ("podAntiAffinity", "preferred", [0, 100]),
        ("podAffinity", "required", [100, 0]),
    ],
)
def test_what_those_who_are_there_wish(kind: str, strength: str, expected: list[int]) -> None:
    term: Object = {"topologyKey": HOST, "labelSelector": {"matchLabels": {"app": "web"}}}
    entry = {"weight": 10, "podAffinityTerm": term} if strength == "preferred" else term
    there = pod("q", on="a", affinity={kind: {f"{strength}DuringSchedulingIgnoredDuringExecution": [entry]}})
    assert scored(inter_pod_affinity, pod(labels={"app": "web"}), NODES, [there]) == expected
    assert scored(inter_pod_affinity, pod(labels={"app": "other"}), NODES, [there]) == [0, 0]


@pytest.mark.parametrize(("kind", "expected"), [("podAffinity", [100, 0]), ("podAntiAffinity", [0, 100])])
def test_preferred_pod_affinity(kind: str, expected: list[int]) -> None:
    term = {"topologyKey": HOST, "labelSelector": {"matchLabels": {"app": "db"}}}
    preferred = [{"weight": 10, "podAffinityTerm": term}]
    wanted = pod(affinity={kind: {"preferredDuringSchedulingIgnoredDuringExecution": preferred}})
    assert scored(inter_pod_affinity, wanted, NODES, [pod("q", on="a", labels={"app": "db"})]) == expected


@pytest.mark.parametrize(
    ("raw", "reverse", "expected"),
    [([0, 0], False, [0, 0]), ([0, 0], True, [100, 100]), ([1, 4], False, [25, 100]), ([1, 4], True, [75, 0])],
)
def test_normalized(raw: list[int], reverse: bool, expected: list[int]) -> None:
    assert normalized(raw, reverse=reverse) == expected


@given(st.integers(1, 6), st.integers(1, 40))
def test_equal_pods_end_up_evenly_on_equal_nodes(node_count: int, pod_count: int) -> None:
    infos: list[NodeInfo] = node_infos([node(f"n{index}", cpu="400") for index in range(node_count)])
    by_name = {info.name: info for info in infos}
    for index in range(pod_count):
        parsed = parse_pod(pod(f"p{index}", owner="rs", cpu="100m", memory="1Mi"))
        outcome = decide(parsed, infos, lambda _: 0)
        assert isinstance(outcome, Placement)
        by_name[outcome.node].add_pod(parsed)
    counts = Counter({info.name: len(info.pods) for info in infos})
    assert max(counts.values()) - min(counts.values()) <= 1


@given(st.lists(st.tuples(st.sampled_from("abc"), st.booleans()), max_size=30))
def test_a_node_that_is_emptied_is_as_new(steps: list[tuple[str, bool]]) -> None:
    (info,) = node_infos([node("a")])
    for name, add in steps:
        if add:
            info.add_pod(parse_pod(pod(name, owner="rs")))
        else:
            info.remove_pod(f"ns/{name}")
    for name in "abc":
        info.remove_pod(f"ns/{name}")
    assert not any(info.requested.values())
    assert not any(info.score_requested.values())
    assert not info.used_ports
    assert info.owners["rs"] == 0
