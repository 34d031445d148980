"""The graph of owners: who is looked at when something changes, and what owners mean."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from podnet.controlplane.api.resources import CONFIGMAPS, EVENTS, EVENTS_V1, NODES, PODS
from podnet.controlplane.controllers.garbage.controller import collectable
from podnet.controlplane.controllers.garbage.graph import Graph, Item, Owner, classify, drop_owners_patch, reaches


def owner(uid: str, *, blocks: bool = True) -> Owner:
    return Owner("v1", "ConfigMap", uid, uid, blocks)


def item(uid: str, *owners: str, deleting: bool = False, finalizers: tuple[str, ...] = (), blocks: bool = True) -> Item:
    references = tuple(owner(name, blocks=blocks) for name in owners)
    return Item(uid, CONFIGMAPS, "ns", uid, references, deleting, frozenset(finalizers))


def foreground(uid: str, *owners: str) -> Item:
    return item(uid, *owners, deleting=True, finalizers=("foregroundDeletion",))


def test_a_dependent_is_looked_at_when_it_comes_and_when_its_owner_goes() -> None:
    graph = Graph()
    assert graph.set(item("child", "parent")) == ["child"]
    assert graph.set(item("child", "parent")) == []
    assert graph.set(item("parent")) == []
    assert graph.remove("parent") == ["child"]
    assert graph.remove("parent") == ["child"]
    assert graph.remove("child") == []
    assert graph.dependents("parent") == []


def test_foreground_waits_for_those_that_block() -> None:
    graph = Graph()
    graph.set(item("blocking", "parent"))
    graph.set(item("free", "parent", blocks=False))
    assert graph.set(foreground("parent")) == ["parent"]
    assert [entry.uid for entry in graph.blocking("parent")] == ["blocking"]
    assert graph.remove("blocking") == ["parent"]
    assert graph.blocking("parent") == []


def test_orphan_deletion_is_looked_at_once() -> None:
    graph = Graph()
    graph.set(item("parent"))
    going = item("parent", deleting=True, finalizers=("orphan",))
    assert graph.set(going) == ["parent"]
    assert graph.set(going) == []


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        pytest.param(item("o"), "solid", id="there"),
        pytest.param(None, "absent", id="not there"),
        pytest.param(foreground("o"), "waiting", id="waits for its dependents"),
        pytest.param(item("o", deleting=True, finalizers=("example.com/x",)), "solid", id="held by another finalizer"),
    ],
)
def test_classify(found: Item | None, expected: str) -> None:
    verdict = classify([owner("o")], {"o": found})
    assert {name for name in ("solid", "waiting", "absent") if getattr(verdict, name)} == {expected}


def test_references_stay_in_the_namespace_or_go_up() -> None:
    child = item("c")
    assert reaches(item("o"), child)
    assert reaches(Item("n", NODES, "", "n", (), False, frozenset()), child)
    assert not reaches(Item("o", CONFIGMAPS, "other", "o", (), False, frozenset()), child)


def test_the_patch_takes_off_only_those_owners() -> None:
    assert drop_owners_patch("me", [owner("a"), owner("a")]) == {
        "metadata": {"ownerReferences": [{"$patch": "delete", "uid": "a"}], "uid": "me"}
    }


def test_what_is_collected() -> None:
    resources = collectable()
    assert PODS in resources
    assert NODES in resources
    assert EVENTS not in resources
    assert EVENTS_V1 not in resources
    assert len(resources) == len(set(resources)) > 30


UIDS = st.sampled_from("abcd")


@given(
    st.lists(st.tuples(st.sampled_from(["set", "remove"]), UIDS, st.lists(UIDS, max_size=2, unique=True)), max_size=40)
)
def test_the_edges_are_those_of_the_items(steps: list[tuple[str, str, list[str]]]) -> None:
    graph, model = Graph(), {}
    for verb, uid, owners in steps:
        if verb == "set":
            graph.set(item(uid, *owners))
            model[uid] = owners
        else:
            woken = graph.remove(uid)
            model.pop(uid, None)
            assert {key for key, names in model.items() if uid in names} <= set(woken)
        for parent in "abcd":
            expected = {key for key, names in model.items() if parent in names}
            assert {entry.uid for entry in graph.dependents(parent)} == expected
