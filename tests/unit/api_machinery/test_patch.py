"""The three patches: what each makes of a document, and what it refuses."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from podnet.controlplane.api import schema
from podnet.controlplane.api.errors import StatusError
from podnet.controlplane.api.patch import apply_json_patch, apply_merge_patch, apply_strategic_merge_patch

POD = schema.node("v1", "Pod")
SERVICE = schema.node("v1", "Service")
DEPLOYMENT = schema.node("apps/v1", "Deployment")
NODE = schema.node("v1", "Node")


def refused(error: pytest.ExceptionInfo[StatusError]) -> tuple[int, str]:
    """The code, and the reason as a person reads it."""
    return error.value.code, error.value.hint or error.value.message


# --- JSON patch ------------------------------------------------------------------------------------------------------

DOC = {"a": {"b": 1, "c/d": 2, "e~f": 3}, "l": [1, 2, 3], "n": None}


@pytest.mark.parametrize(
    ("operations", "expected"),
    [
        ([], DOC),
        ([{"op": "add", "path": "/a/x", "value": {"y": 1}}], {**DOC, "a": {**DOC["a"], "x": {"y": 1}}}),
        ([{"op": "add", "path": "/a/b", "value": 9}], {**DOC, "a": {**DOC["a"], "b": 9}}),
        ([{"op": "add", "path": "/l/1", "value": 9}], {**DOC, "l": [1, 9, 2, 3]}),
        ([{"op": "add", "path": "/l/3", "value": 9}], {**DOC, "l": [1, 2, 3, 9]}),
        ([{"op": "add", "path": "/l/-", "value": 9}], {**DOC, "l": [1, 2, 3, 9]}),
        ([{"op": "remove", "path": "/l/0"}], {**DOC, "l": [2, 3]}),
        ([{"op": "remove", "path": "/l/-1"}], {**DOC, "l": [1, 2]}),
        ([{"op": "remove", "path": "/a/c~1d"}], {**DOC, "a": {"b": 1, "e~f": 3}}),
        ([{"op": "replace", "path": "/a/e~0f", "value": 0}], {**DOC, "a": {"b": 1, "c/d": 2, "e~f": 0}}),
        ([{"op": "replace", "path": "/l/2", "value": None}], {**DOC, "l": [1, 2, None]}),
        ([{"op": "move", "from": "/a/b", "path": "/b"}], {"a": {"c/d": 2, "e~f": 3}, "l": [1, 2, 3], "n": None, "b": 1}),
        ([{"op": "move", "from": "/l/0", "path": "/l/2"}], {**DOC, "l": [2, 3, 1]}),
        ([{"op": "move", "from": "/a", "path": "/a"}], DOC),
        ([{"op": "copy", "from": "/l", "path": "/m"}], {**DOC, "m": [1, 2, 3]}),
        ([{"op": "test", "path": "/a/b", "value": 1}], DOC),
        ([{"op": "test", "path": "/a/b", "value": 1.0}], DOC),
        ([{"op": "test", "path": "/n", "value": None}, {"op": "test", "path": "/absent", "value": None}], DOC),
        ([{"op": "test", "path": "/l", "value": [1, 2, 3]}], DOC),
        ([{"op": "replace", "path": "", "value": {"new": 1}}], {"new": 1}),
        ([{"op": "add", "path": "/l/-", "value": [0]}, {"op": "add", "path": "/l/3/-", "value": 1}], {**DOC, "l": [1, 2, 3, [0, 1]]}),
    ],
)  # fmt: skip
def test_json_patch(operations: list[dict[str, Any]], expected: dict[str, Any]) -> None:
    """The result; neither argument changes."""
    document, before = copy.deepcopy(DOC), copy.deepcopy(operations)
    assert apply_json_patch(document, operations) == expected
    assert document == DOC
    assert operations == before


@pytest.mark.parametrize(
    ("operations", "code", "reason"),
    [
        ({}, 400, "error decoding patch: json: cannot unmarshal object into Go value of type []handlers.jsonPatchOp"),
        (["x"], 400, "error decoding patch: json: cannot unmarshal string into Go value of type handlers.jsonPatchOp"),
        ([{"op": "frob", "path": "/a"}], 422, "Unexpected kind: frob"),
        ([{"path": "/a"}], 422, "Unexpected kind: unknown"),
        ([{"op": [], "path": "/a"}], 400, "error decoding patch: json: cannot unmarshal array into Go struct field jsonPatchOp.op of type string"),
        ([{"op": "remove"}], 422, "remove operation has no path"),
        ([{"op": "add", "path": "/x"}], 422, "add operation has no value"),
        ([{"op": "move", "path": "/x"}], 422, "move operation has no from"),
        ([{"op": "test", "path": "/a/b", "value": 2}], 422, "testing value /a/b failed: test failed"),
        ([{"op": "test", "path": "/a/b", "value": True}], 422, "testing value /a/b failed: test failed"),
        ([{"op": "test", "path": "/l", "value": [1, 2]}], 422, "testing value /l failed: test failed"),
        ([{"op": "remove", "path": "/x"}], 422, "remove operation does not apply: Unable to remove nonexistent key: x: missing value"),
        ([{"op": "replace", "path": "/x", "value": 1}], 422, "replace operation does not apply: doc is missing key: /x: missing value"),
        ([{"op": "add", "path": "/x/y", "value": 1}], 422, 'add operation does not apply: doc is missing path: "/x/y": missing value'),
        ([{"op": "add", "path": "/l/9", "value": 1}], 422, "add operation does not apply: Unable to access invalid index: 9: invalid index referenced"),
        ([{"op": "add", "path": "/l/01", "value": 1}], 422, 'add operation does not apply: doc is missing path: "/l/01": invalid list index "01"'),
        ([{"op": "add", "path": "/a/b/c", "value": 1}], 422, 'add operation does not apply: doc is missing path: "/a/b/c": missing value'),
        ([{"op": "move", "from": "/a", "path": "/a/z"}], 422, "move operation does not apply: unable to move /a into itself"),
        ([{"op": "remove", "path": "a"}], 422, 'remove operation does not apply: doc is missing path: "a": missing value'),
        ([{"op": "remove", "path": ""}], 422, "remove operation does not apply: the whole document cannot be removed"),
        ([{"op": "replace", "path": "", "value": []}], 422, "the result is not an object"),
        ([{"op": "test", "path": "/n", "value": None}] * 10_001, 413, "Request entity too large: The allowed maximum operations in a JSON patch is 10000, got 10001"),
    ],
)  # fmt: skip
def test_json_patch_refusals(operations: Any, code: int, reason: str) -> None:
    """Nonsense is 400, what does not fit this document 422."""
    document = copy.deepcopy(DOC)
    with pytest.raises(StatusError) as error:
        apply_json_patch(document, operations)
    assert refused(error) == (code, reason)
    assert document == DOC


def test_json_patch_cannot_blow_up() -> None:
    """Copying a value into itself again and again is stopped."""
    operations = [{"op": "copy", "from": "/x", "path": f"/x/{number}"} for number in range(64)]
    with pytest.raises(StatusError) as error:
        apply_json_patch({"x": {"y": "z" * 100}}, operations)
    assert error.value.code == 422


# --- merge patch -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("document", "patch", "expected"),
    [  # the first fourteen are the object cases of RFC 7386, appendix A
        ({"a": "b"}, {"a": "c"}, {"a": "c"}),
        ({"a": "b"}, {"b": "c"}, {"a": "b", "b": "c"}),
        ({"a": "b"}, {"a": None}, {}),
        ({"a": "b", "b": "c"}, {"a": None}, {"b": "c"}),
        ({"a": ["b"]}, {"a": "c"}, {"a": "c"}),
        ({"a": "c"}, {"a": ["b"]}, {"a": ["b"]}),
        ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
        ({"a": [{"b": "c"}]}, {"a": [1]}, {"a": [1]}),
        ({"e": None}, {"a": 1}, {"e": None, "a": 1}),
        ({}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
        ({"a": 1}, {"a": {"b": {"c": 2}}}, {"a": {"b": {"c": 2}}}),
        ({"a": "b"}, {}, {"a": "b"}),
    ],
)
def test_merge_patch(document: dict[str, Any], patch: dict[str, Any], expected: dict[str, Any]) -> None:
    """RFC 7386; neither argument changes."""
    before = copy.deepcopy((document, patch))
    assert apply_merge_patch(document, patch) == expected
    assert (document, patch) == before


@pytest.mark.parametrize(("patch", "word"), [([], "array"), ("x", "string"), (1, "number"), (None, "null")])
def test_merge_patch_must_be_an_object(patch: Any, word: str) -> None:
    """The RFC would replace the document; the API refuses."""
    with pytest.raises(StatusError) as error:
        apply_merge_patch({}, patch)
    assert error.value.code == 400
    assert f"cannot unmarshal {word}" in error.value.message


# --- strategic merge patch -------------------------------------------------------------------------------------------


def containers(*names: str) -> list[dict[str, Any]]:
    """Containers with images of the same names."""
    return [{"name": name, "image": name} for name in names]


def spec(**fields: Any) -> dict[str, Any]:
    """A document with this spec."""
    return {"spec": fields}


@pytest.mark.parametrize(
    ("document", "patch", "expected"),
    [
        pytest.param(
            spec(containers=containers("a", "b")),
            spec(containers=[{"name": "b", "image": "new"}]),
            # An item of the patch comes before what only the server has, unless it stood behind it.
            spec(containers=[{"name": "a", "image": "a"}, {"name": "b", "image": "new"}]),
            id="an item is merged by its key",
        ),
        pytest.param(
            spec(containers=containers("a")),
            spec(containers=containers("b")),
            spec(containers=containers("b", "a")),
            id="a new item",
        ),
        pytest.param(
            spec(containers=containers("a", "b", "c")),
            spec(containers=[{"name": "b", "$patch": "delete"}]),
            spec(containers=containers("a", "c")),
            id="an item is deleted",
        ),
        pytest.param(
            spec(containers=containers("a")),
            spec(containers=[{"name": "zz", "$patch": "delete"}]),
            spec(containers=containers("a")),
            id="deleting an absent item is fine",
        ),
        pytest.param(
            spec(containers=containers("a", "b")),
            spec(containers=[{"$patch": "replace"}, *containers("x")]),
            spec(containers=containers("x")),
            id="the list is replaced",
        ),
        pytest.param(
            spec(containers=containers("a", "b", "c", "d")),
            spec(**{"$setElementOrder/containers": [{"name": "d"}, {"name": "b"}], "containers": [{"name": "b", "image": "n"}]}),
            spec(containers=[*containers("a", "c", "d"), {"name": "b", "image": "n"}]),
            id="an order, with items only the server has",
        ),
        pytest.param(
            spec(containers=containers("a", "b")),
            spec(**{"$setElementOrder/containers": [{"name": "b"}, {"name": "a"}]}),
            spec(containers=containers("b", "a")),
            id="an order alone",
        ),
        pytest.param(
            spec(containers=containers("a")),
            spec(**{"$setElementOrder/containers": [{"name": "b"}, {"name": "a"}], "containers": containers("b")}),
            spec(containers=containers("b", "a")),
            id="a new item at the place it was given",
        ),
        pytest.param(
            spec(),
            spec(**{"$setElementOrder/containers": [{"name": "a"}], "containers": [{"name": "a", "image": None}]}),
            spec(containers=[{"name": "a"}]),
            id="a list where none was; nulls say nothing there",
        ),
        pytest.param(
            spec(volumes=[{"name": "v", "emptyDir": {}}]),
            spec(volumes=[{"name": "v", "$retainKeys": ["name", "hostPath"], "hostPath": {"path": "/x"}}]),
            spec(volumes=[{"name": "v", "hostPath": {"path": "/x"}}]),
            id="a volume changes its source",
        ),
        pytest.param(
            spec(tolerations=[{"key": "a"}]),
            spec(tolerations=[{"key": "b"}]),
            spec(tolerations=[{"key": "b"}]),
            id="a list without a merge key is replaced",
        ),
        pytest.param(
            {"metadata": {"finalizers": ["a", "b"]}},
            {"metadata": {"finalizers": ["c", "a"]}},
            {"metadata": {"finalizers": ["c", "a", "b"]}},
            id="a set of strings is merged",
        ),
        pytest.param(
            {"metadata": {"finalizers": ["a", "b", "c"]}},
            {"metadata": {"$deleteFromPrimitiveList/finalizers": ["b", "x"]}},
            {"metadata": {"finalizers": ["a", "c"]}},
            id="strings leave a set",
        ),
        pytest.param(
            {"metadata": {"finalizers": ["a", "b"]}},
            {"metadata": {"$deleteFromPrimitiveList/finalizers": ["a"], "$setElementOrder/finalizers": ["c", "b"], "finalizers": ["c"]}},
            {"metadata": {"finalizers": ["c", "b"]}},
            id="one leaves, one comes, in this order",
        ),
        pytest.param(
            {"metadata": {"labels": {"a": "1", "b": "2"}}},
            {"metadata": {"labels": {"a": None, "c": "3"}, "annotations": {"x": None}}},
            {"metadata": {"labels": {"b": "2", "c": "3"}, "annotations": {}}},
            id="maps merge, null deletes",
        ),
        pytest.param(
            {"metadata": {"labels": {"a": "1"}}},
            {"metadata": {"labels": {"$patch": "replace", "b": "2"}}},
            {"metadata": {"labels": {"b": "2"}}},
            id="a map is replaced",
        ),
        pytest.param(
            spec(nodeSelector={"a": "1"}, securityContext={"runAsUser": 1}),
            spec(securityContext={"$patch": "delete"}),
            spec(nodeSelector={"a": "1"}, securityContext={}),
            id="a map is emptied",
        ),
        pytest.param(
            spec(containers=[{"name": "a", "env": [{"name": "X", "value": "1"}, {"name": "Y", "value": "2"}]}]),
            spec(containers=[{"name": "a", "env": [{"name": "Y", "$patch": "delete"}, {"name": "X", "value": "3"}]}]),
            spec(containers=[{"name": "a", "env": [{"name": "X", "value": "3"}]}]),
            id="two levels down",
        ),
        pytest.param(
            spec(containers=containers("a")), spec(containers=None), spec(), id="null deletes a list",
        ),
        pytest.param(
            spec(unknownThings=[{"name": "a"}]),
            spec(unknownThings=[{"name": "b"}]),
            spec(unknownThings=[{"name": "b"}]),
            id="a list the schema does not know is replaced",
        ),
    ],
)  # fmt: skip
def test_strategic_merge(document: dict[str, Any], patch: dict[str, Any], expected: dict[str, Any]) -> None:
    """The result; neither argument changes."""
    before = copy.deepcopy((document, patch))
    assert apply_strategic_merge_patch(document, patch, POD) == expected
    assert (document, patch) == before


def test_other_kinds_merge_by_their_own_keys() -> None:
    """Service ports by port, node taints not at all, conditions by type."""
    service = {"spec": {"ports": [{"port": 80, "name": "a"}, {"port": 81}]}}
    changed = apply_strategic_merge_patch(service, {"spec": {"ports": [{"port": 80, "nodePort": 30000}]}}, SERVICE)
    assert changed["spec"]["ports"] == [{"port": 80, "name": "a", "nodePort": 30000}, {"port": 81}]
    node = {"spec": {"taints": [{"key": "a"}]}, "status": {"conditions": [{"type": "Ready", "status": "True", "x": 1}]}}
    patch = {"spec": {"taints": [{"key": "b"}]}, "status": {"conditions": [{"type": "Ready", "status": "Unknown"}]}}
    assert apply_strategic_merge_patch(node, patch, NODE) == {
        "spec": {"taints": [{"key": "b"}]},
        "status": {"conditions": [{"type": "Ready", "status": "Unknown", "x": 1}]},
    }


def test_a_strategy_changes_as_kubectl_changes_it() -> None:
    """`kubectl patch` of a Deployment from RollingUpdate to Recreate."""
    before = {"spec": {"strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1}}}}
    patch = {"spec": {"strategy": {"$retainKeys": ["type"], "type": "Recreate"}}}
    assert apply_strategic_merge_patch(before, patch, DEPLOYMENT) == {"spec": {"strategy": {"type": "Recreate"}}}


@pytest.mark.parametrize(
    ("patch", "code", "reason"),
    [
        ([], 400, "error decoding patch: json: cannot unmarshal array into Go value of type map[string]interface {}"),
        (spec(containers=[{"image": "x"}]), 422, "map: map[image:x] does not contain declared merge key: name"),
        (
            spec(containers=[{"$patch": "delete"}]),
            422,
            "map: map[$patch:delete] does not contain declared merge key: name",
        ),
        (spec(containers=[{"name": "a", "$patch": "frob"}]), 422, "unknown patch type: frob"),
        (
            spec(containers=[{"name": "a", "$patch": "merge"}]),
            422,
            "merging lists cannot yet be specified in the patch",
        ),
        (spec(containers=["a"]), 422, "cannot merge a list of objects with string"),
        ({"spec": {"$patch": "frob"}}, 422, "unknown patch type: frob"),
        ({"spec": {"$retainKeys": "containers"}}, 400, "invalid patch format of retainKeys"),
        ({"spec": {"$retainKeys": ["volumes"], "hostNetwork": True}}, 400, "invalid patch format of retainKeys"),
        ({"spec": {"$setElementOrder/containers": "x"}}, 400, "invalid patch format of setElementOrder list"),
        ({"spec": {"$deleteFromPrimitiveList/containers": "x"}}, 400, "invalid patch format of primitive list"),
        (
            spec(**{"$setElementOrder/containers": [{"name": "b"}], "containers": [{"name": "a"}]}),
            422,
            "The order in patch list:\n[map[name:a]]\n doesn't match $setElementOrder list:\n[map[name:b]]\n",
        ),
    ],
)
def test_strategic_merge_refusals(patch: Any, code: int, reason: str) -> None:
    """Nonsense is 400, what does not fit 422."""
    document = spec(containers=containers("a", "b"))
    with pytest.raises(StatusError) as error:
        apply_strategic_merge_patch(document, patch, POD)
    assert refused(error) == (code, reason)
    assert document == spec(containers=containers("a", "b"))


def test_custom_resources_have_no_strategic_merge() -> None:
    """415, naming what would work."""
    with pytest.raises(StatusError) as error:
        apply_strategic_merge_patch({}, {}, None)
    assert error.value.code == 415
    assert "application/merge-patch+json" in error.value.message


# --- laws ------------------------------------------------------------------------------------------------------------

ENVS = st.lists(st.sampled_from("abcdef"), unique=True, max_size=6)


def pod_with_env(names: list[str]) -> dict[str, Any]:
    """One container with these variables."""
    return spec(containers=[{"name": "c", "env": [{"name": name, "value": name} for name in names]}])


@given(ENVS, ENVS)
def test_merged_lists_hold_both_and_keep_both_orders(server: list[str], patch: list[str]) -> None:
    """As kubectl sends it: the patch's order rules its items, the server's order the others."""
    order = [{"name": name} for name in patch]
    body = pod_with_env(patch)
    body["spec"]["containers"][0]["$setElementOrder/env"] = order
    merged = apply_strategic_merge_patch(pod_with_env(server), body, POD)
    names = [entry["name"] for entry in merged["spec"]["containers"][0].get("env", [])]
    assert sorted(names) == sorted({*server, *patch})
    assert [name for name in names if name in patch] == patch
    assert [name for name in names if name not in patch] == [name for name in server if name not in patch]


@given(ENVS, ENVS)
def test_strategic_merge_is_idempotent(server: list[str], patch: list[str]) -> None:
    """Applying the same patch again changes nothing."""
    body = pod_with_env(patch)
    once = apply_strategic_merge_patch(pod_with_env(server), body, POD)
    assert apply_strategic_merge_patch(once, body, POD) == once


DOCUMENTS = st.dictionaries(
    st.sampled_from("abc"),
    st.recursive(
        st.none() | st.integers(0, 3) | st.lists(st.integers(0, 3), max_size=2),
        lambda inner: st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
        max_leaves=8,
    ),
    max_size=3,
)


@given(DOCUMENTS, DOCUMENTS)
def test_merge_patch_is_idempotent_and_wins(document: dict[str, Any], patch: dict[str, Any]) -> None:
    """Merging again changes nothing; every leaf of the patch is in the result, every null is not."""
    once = apply_merge_patch(document, patch)
    assert apply_merge_patch(once, patch) == once
    for name, value in patch.items():
        if value is None:
            assert name not in once
        elif not isinstance(value, dict):
            assert once[name] == value


@given(DOCUMENTS, st.lists(st.fixed_dictionaries({
    "op": st.sampled_from(["add", "remove", "replace", "move", "copy", "test"]),
    "path": st.sampled_from(["", "/a", "/b", "/a/b", "/a/0", "/a/-", "/c/a/b", "/a/-1", "x"]),
    "from": st.sampled_from(["", "/a", "/b", "/a/b", "/c"]),
    "value": st.none() | st.integers(0, 2) | st.just({"a": 1}) | st.just([1]),
}), max_size=6))  # fmt: skip
def test_any_json_patch_applies_or_is_refused(document: dict[str, Any], operations: list[dict[str, Any]]) -> None:
    """Nothing but a StatusError comes out, and the document is never touched."""
    before = copy.deepcopy(document)
    try:
        assert isinstance(apply_json_patch(document, operations), dict)
    except StatusError as error:
        assert error.code in {400, 422}  # noqa: PT017 - either outcome is fine
    assert document == before


def nested(depth: int) -> dict[str, Any]:
    """Maps in maps."""
    value: dict[str, Any] = {}
    for _ in range(depth):
        value = {"a": value}
    return value


def test_patches_of_any_depth_are_answered() -> None:
    """What the decoder lets through (1,024 levels) either works or is a 400, never a crash."""
    assert apply_merge_patch(nested(300), nested(300)) == nested(300)
    for apply in (
        lambda patch: apply_merge_patch({}, patch),
        lambda patch: apply_merge_patch(nested(5000), patch),
        lambda patch: apply_strategic_merge_patch({}, patch, POD),
    ):
        with pytest.raises(StatusError) as error:
            apply(nested(5000))
        assert (error.value.code, error.value.message) == (400, "error decoding patch: exceeded max depth")
