"""Metadata: readers that tolerate absence, references, conditions, generated names."""

from __future__ import annotations

import enum
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from podnet.controlplane.api import meta

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=15,
)
OWNER = {"apiVersion": "apps/v1", "kind": "ReplicaSet", "metadata": {"name": "rs", "namespace": "d", "uid": "u1"}}


@given(JSON)
def test_deep_copy_is_equal_and_shares_nothing(value: Any) -> None:
    """Every map and list inside is a new one."""
    copy = meta.deep_copy(value)
    assert copy == value
    seen = {id(part) for part in _containers(value)}
    assert not any(id(part) in seen for part in _containers(copy))


def _containers(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return [value, *(part for child in value.values() for part in _containers(child))]
    if isinstance(value, list):
        return [value, *(part for child in value for part in _containers(child))]
    return []


def test_deep_copy_takes_what_is_not_plain_json() -> None:
    """An enum member where a string should be, and nesting beyond marshal's depth."""

    class Phase(enum.StrEnum):
        RUNNING = "Running"

    assert meta.deep_copy({"phase": Phase.RUNNING}) == {"phase": "Running"}


@pytest.mark.parametrize("obj", [{}, {"metadata": None}, {"metadata": {}}, {"metadata": {"labels": None}}])
def test_readers_tolerate_absence(obj: dict[str, Any]) -> None:
    """Nothing raises, nothing is attached to the object."""
    before = meta.deep_copy(obj)
    assert (meta.name(obj), meta.namespace(obj), meta.uid(obj), meta.key(obj)) == ("", "", "", "")
    assert (meta.labels(obj), meta.annotations(obj), meta.finalizers(obj), meta.owner_references(obj)) == (
        {},
        {},
        [],
        [],
    )
    assert (meta.generation(obj), meta.resource_version(obj)) == (0, "")
    assert not meta.is_terminating(obj)
    assert meta.controller_of(obj) is None
    assert meta.get_condition(obj, "Ready") is None
    assert obj == before


def test_keys() -> None:
    """Split is the inverse of key."""
    assert meta.key(OWNER) == "d/rs"
    assert meta.key({"metadata": {"name": "n1"}}) == "n1"
    assert meta.split_key("d/rs") == ("d", "rs")
    assert meta.split_key("n1") == ("", "n1")


def test_owner_references() -> None:
    """The controller is found by its flag, and recognised by uid, not by name."""
    child = {"metadata": {"ownerReferences": [{"uid": "x"}, meta.controller_reference(OWNER)]}}
    assert meta.controller_of(child) == {
        "apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "rs", "uid": "u1", "controller": True,
        "blockOwnerDeletion": True,
    }  # fmt: skip
    assert meta.is_controlled_by(child, OWNER)
    assert not meta.is_controlled_by(child, {"metadata": {"name": "rs", "uid": "u2"}})
    assert "controller" not in meta.owner_reference(OWNER)


def test_object_reference() -> None:
    """Only what is known."""
    assert meta.object_reference(OWNER) == {
        "kind": "ReplicaSet", "apiVersion": "apps/v1", "name": "rs", "namespace": "d", "uid": "u1",
    }  # fmt: skip


def test_finalizers() -> None:
    """Removing the last one removes the field; the argument stays as it was."""
    obj = {"metadata": {"finalizers": ["a", "b"]}}
    assert meta.has_finalizer(obj, "a")
    assert meta.without_finalizer(obj, "a") == {"metadata": {"finalizers": ["b"]}}
    assert meta.without_finalizer(meta.without_finalizer(obj, "a"), "b") == {"metadata": {}}
    assert obj == {"metadata": {"finalizers": ["a", "b"]}}


@given(st.text(max_size=80), st.binary(min_size=5, max_size=20))
def test_generated_names(prefix: str, random: bytes) -> None:
    """At most 63 characters, five of them from the alphabet without vowels."""
    name = meta.generated_name(prefix, random)
    assert len(name) == min(len(prefix), 58) + 5
    assert set(name[-5:]) <= set("bcdfghjklmnpqrstvwxz2456789")
    assert prefix.startswith(name[:-5])


def test_a_generated_name_needs_randomness() -> None:
    """Too few bytes are an error, not a shorter name."""
    with pytest.raises(ValueError, match="needs 5 random bytes"):
        meta.generated_name("a-", b"abcd")


def test_conditions_move_only_when_their_status_does() -> None:
    """A new reason keeps lastTransitionTime, a new status sets it."""
    obj: dict[str, Any] = {}
    meta.set_condition(obj, {"type": "Ready", "status": "False", "reason": "Starting"}, "t1")
    meta.set_condition(obj, {"type": "Other", "status": "True"}, "t1")
    meta.set_condition(obj, {"type": "Ready", "status": "False", "reason": "Pulling"}, "t2")
    assert meta.get_condition(obj, "Ready") == {
        "type": "Ready", "status": "False", "reason": "Pulling", "lastTransitionTime": "t1",
    }  # fmt: skip
    assert not meta.condition_is_true(obj, "Ready")
    meta.set_condition(obj, {"type": "Ready", "status": "True"}, "t3")
    assert meta.condition_is_true(obj, "Ready")
    assert [c["lastTransitionTime"] for c in obj["status"]["conditions"]] == ["t3", "t1"]
