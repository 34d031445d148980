"""Server-side apply: merging by ownership, conflicts, what goes when an applier lets go, and FieldsV1."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from podnet.controlplane.api import schema
from podnet.controlplane.api.apply import apply, track_update
from podnet.controlplane.api.apply.fieldset import decode, encode, render
from podnet.controlplane.api.errors import StatusError

DEPLOYMENT = schema.node("apps/v1", "Deployment")
SERVICE = schema.node("v1", "Service")
T1, T2, T3 = "2026-01-01T00:00:01Z", "2026-01-01T00:00:02Z", "2026-01-01T00:00:03Z"


def deployment(
    replicas: int | None = None, labels: dict[str, str] | None = None, **containers: dict[str, Any]
) -> dict[str, Any]:
    """A Deployment that says only this."""
    obj: dict[str, Any] = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d"}, "spec": {}}
    if labels is not None:
        obj["metadata"]["labels"] = labels
    if replicas is not None:
        obj["spec"]["replicas"] = replicas
    if containers:
        pods = [{"name": name, **fields} for name, fields in containers.items()]
        obj["spec"]["template"] = {"spec": {"containers": pods}}
    if not obj["spec"]:
        del obj["spec"]
    return obj


def by(
    manager: str, live: dict[str, Any] | None, applied: dict[str, Any], *, force: bool = False, time: str = T2
) -> dict[str, Any]:
    """`manager` applies."""
    return apply(live, applied, manager, force=force, schema=DEPLOYMENT, time=time)


def said(obj: dict[str, Any]) -> dict[str, Any]:
    """The object without its book-keeping."""
    metadata = {name: value for name, value in obj["metadata"].items() if name != "managedFields"}
    return {**obj, "metadata": metadata}


def owners(obj: dict[str, Any]) -> dict[str, Any]:
    """Manager -> FieldsV1."""
    return {entry["manager"]: entry["fieldsV1"] for entry in obj["metadata"].get("managedFields", [])}


def test_the_first_apply_creates_and_owns() -> None:
    """Every field said is owned, identity is not; list items by their keys."""
    made = by("kubectl", None, deployment(2, {"a": "b"}, web={"image": "nginx"}), time=T1)
    assert said(made) == deployment(2, {"a": "b"}, web={"image": "nginx"})
    assert made["metadata"]["managedFields"] == [
        {
            "manager": "kubectl",
            "operation": "Apply",
            "apiVersion": "apps/v1",
            "time": T1,
            "fieldsType": "FieldsV1",
            "fieldsV1": {
                "f:metadata": {"f:labels": {"f:a": {}}},
                "f:spec": {
                    "f:replicas": {},
                    "f:template": {
                        "f:spec": {"f:containers": {'k:{"name":"web"}': {".": {}, "f:image": {}, "f:name": {}}}}
                    },
                },
            },
        }
    ]


def test_ports_are_known_by_port_and_protocol() -> None:
    """The protocol's default is part of the key, also when nobody says it."""
    applied = deployment(web={"image": "x", "ports": [{"containerPort": 80}]})
    made = by("m", None, applied)
    again = by(
        "m", made, deployment(web={"image": "x", "ports": [{"containerPort": 80, "protocol": "TCP", "name": "http"}]})
    )
    assert again["spec"]["template"]["spec"]["containers"][0]["ports"] == [
        {"containerPort": 80, "protocol": "TCP", "name": "http"}
    ]
    item = owners(made)["m"]["f:spec"]["f:template"]["f:spec"]["f:containers"]['k:{"name":"web"}']
    assert item["f:ports"] == {'k:{"containerPort":80,"protocol":"TCP"}': {".": {}, "f:containerPort": {}}}


def test_two_appliers_share_an_object() -> None:
    """Each owns its part; equal values may be owned by both."""
    made = by("a", None, deployment(2, {"x": "1"}, web={"image": "nginx"}))
    both = by("b", made, deployment(2, {"y": "2"}, side={"image": "envoy"}))
    assert both["metadata"]["labels"] == {"x": "1", "y": "2"}
    assert {c["name"] for c in both["spec"]["template"]["spec"]["containers"]} == {"web", "side"}
    assert owners(both)["a"]["f:spec"]["f:replicas"] == owners(both)["b"]["f:spec"]["f:replicas"] == {}


def test_what_an_applier_drops_goes_unless_another_owns_it() -> None:
    """Fields, labels and list items alike."""
    made = by(
        "a", None, deployment(2, {"x": "1", "z": "3"}, web={"image": "nginx", "args": ["-v"]}, old={"image": "o"})
    )
    made = by("b", made, deployment(2, {"z": "3"}))
    less = by("a", made, deployment(None, {}, web={"image": "nginx"}))
    assert said(less) == deployment(2, {"z": "3"}, web={"image": "nginx"})
    gone = by("b", less, deployment())
    assert said(gone) == {**deployment(None, None, web={"image": "nginx"})}
    assert set(owners(gone)) == {"a"}


def test_an_item_stays_while_another_owns_a_part_of_it() -> None:
    """With its keys, without what the first one alone had said."""
    made = by("a", None, deployment(web={"image": "nginx", "args": ["-v"]}))
    made = by("b", made, deployment(web={"workingDir": "/"}))
    less = by("a", made, deployment(1))
    assert less["spec"]["template"]["spec"]["containers"] == [{"name": "web", "workingDir": "/"}]


def test_a_conflict_names_the_manager_and_the_field() -> None:
    """409 with the cause; nothing happened."""
    made = by("a", None, deployment(2))
    before = copy.deepcopy(made)
    with pytest.raises(StatusError) as error:
        by("b", made, deployment(3))
    assert error.value.is_conflict
    assert error.value.message == 'Apply failed with 1 conflict: conflict with "a": .spec.replicas'
    assert error.value.details == {
        "causes": [{"reason": "FieldManagerConflict", "message": 'conflict with "a"', "field": ".spec.replicas"}]
    }
    assert made == before


def test_a_conflict_with_an_updater_names_its_version() -> None:
    """As `kubectl scale` would leave it."""
    made = by("a", None, deployment(2))
    scaled = track_update(made, {**made, "spec": {"replicas": 5}}, "kubectl", schema=DEPLOYMENT, time=T2)
    assert owners(scaled) == {"kubectl": {"f:spec": {"f:replicas": {}}}}
    with pytest.raises(StatusError) as error:
        by("a", scaled, deployment(2))
    assert error.value.message == 'Apply failed with 1 conflict: conflict with "kubectl" using apps/v1: .spec.replicas'


def test_several_conflicts_are_listed() -> None:
    """By manager, each field on a line of its own."""
    made = by("a", None, deployment(2, {"x": "1"}, web={"image": "nginx"}))
    with pytest.raises(StatusError) as error:
        by("b", made, deployment(3, {"x": "2"}, web={"image": "apache"}))
    assert error.value.message == (
        'Apply failed with 3 conflicts: conflicts with "a":\n- .metadata.labels.x\n- .spec.replicas\n'
        '- .spec.template.spec.containers[name="web"].image'
    )


def test_force_takes_the_field_over() -> None:
    """The other one does not own it any more."""
    made = by("a", None, deployment(2, {"x": "1"}))
    forced = by("b", made, deployment(3), force=True)
    assert forced["spec"]["replicas"] == 3
    assert owners(forced) == {"a": {"f:metadata": {"f:labels": {"f:x": {}}}}, "b": {"f:spec": {"f:replicas": {}}}}


def test_applying_the_same_again_changes_nothing() -> None:
    """Not even a time, so that the server sees a no-op."""
    made = by("a", None, deployment(2, {"x": "1"}, web={"image": "nginx"}), time=T1)
    assert by("a", made, deployment(2, {"x": "1"}, web={"image": "nginx"}), time=T3) == made


def test_an_object_never_tracked_belongs_to_before_first_apply() -> None:
    """Its values conflict when they differ, and do not when they are the same."""
    live = deployment(2)
    assert owners(by("a", live, deployment(2, {"x": "1"})))["before-first-apply"] == {"f:spec": {"f:replicas": {}}}
    with pytest.raises(StatusError, match=r'conflict with "before-first-apply" using apps/v1: .spec.replicas'):
        by("a", live, deployment(3))


def test_atomic_parts_are_owned_and_replaced_whole() -> None:
    """A Service's selector is one value."""
    live = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "s"},
        "spec": {"selector": {"a": "1", "b": "2"}},
    }
    made = apply(None, live, "m", force=False, schema=SERVICE, time=T1)
    assert owners(made)["m"] == {"f:spec": {"f:selector": {}}}
    changed = copy.deepcopy(live)
    changed["spec"]["selector"] = {"c": "3"}
    assert apply(made, changed, "m", force=False, schema=SERVICE, time=T2)["spec"]["selector"] == {"c": "3"}


def test_custom_resources_merge_maps_and_replace_lists() -> None:
    """Without a schema nothing more can be known."""
    live = {"apiVersion": "x/v1", "kind": "W", "metadata": {"name": "w"}, "spec": {"a": 1, "l": [1, 2]}}
    made = apply(None, live, "m", force=False, schema=None, time=T1)
    other = {"apiVersion": "x/v1", "kind": "W", "metadata": {"name": "w"}, "spec": {"b": {"c": 2}}}
    both = apply(made, other, "n", force=False, schema=None, time=T2)
    assert both["spec"] == {"a": 1, "l": [1, 2], "b": {"c": 2}}
    assert owners(both) == {"m": {"f:spec": {"f:a": {}, "f:l": {}}}, "n": {"f:spec": {"f:b": {"f:c": {}}}}}


@pytest.mark.parametrize(
    ("applied", "manager", "message"),
    [
        (deployment(1), "", "fieldManager: Required value"),
        ({**deployment(1), "metadata": {"managedFields": [{}]}}, "m", "metadata.managedFields must be nil"),
        (
            deployment() | {"spec": {"template": {"spec": {"containers": [{"image": "x"}]}}}},
            "m",
            'omits key field "name"',
        ),
    ],
)
def test_bodies_that_cannot_be_applied(applied: dict[str, Any], manager: str, message: str) -> None:
    """400."""
    with pytest.raises(StatusError, match=message) as error:
        by(manager, deployment(1), applied)
    assert error.value.code == 400


def test_updates_move_ownership() -> None:
    """Who changes a field owns it; what is removed nobody owns; a status has owners of its own."""
    made = track_update(None, deployment(2, {"x": "1"}), "creator", schema=DEPLOYMENT, time=T1)
    assert set(owners(made)) == {"creator"}
    changed = copy.deepcopy(made)
    changed["spec"]["replicas"] = 3
    del changed["metadata"]["labels"]
    changed = track_update(made, changed, "scaler", schema=DEPLOYMENT, time=T2)
    assert owners(changed) == {"scaler": {"f:spec": {"f:replicas": {}}}}
    status = {**changed, "status": {"replicas": 3}}
    status = track_update(changed, status, "controller", schema=DEPLOYMENT, time=T3, subresource="status")
    entry = next(entry for entry in status["metadata"]["managedFields"] if entry["manager"] == "controller")
    assert (entry["operation"], entry["subresource"], entry["time"]) == ("Update", "status", T3)
    assert track_update(status, status, "nobody", schema=DEPLOYMENT, time=T3) == status


@pytest.mark.parametrize(
    ("path", "text"),
    [
        (("f:spec", "f:replicas"), ".spec.replicas"),
        (("f:a", 'k:{"containerPort":80,"protocol":"TCP"}', "f:b"), '.a[containerPort=80,protocol="TCP"].b'),
        (("f:metadata", "f:finalizers", 'v:"x"'), '.metadata.finalizers[="x"]'),
        (("f:metadata", "f:labels", "f:example.com/a"), ".metadata.labels.example.com/a"),
    ],
)
def test_paths_as_text(path: tuple[str, ...], text: str) -> None:
    """As conflicts print them."""
    assert render(path) == text


PATHS = st.frozensets(
    st.lists(st.sampled_from(["f:a", "f:b", 'k:{"n":1}', 'v:"x"']), min_size=1, max_size=4).map(tuple), max_size=8
)
DEPLOYMENTS = st.builds(
    deployment,
    replicas=st.none() | st.integers(0, 3),
    labels=st.none() | st.dictionaries(st.sampled_from("xyz"), st.sampled_from("12"), max_size=3),
    web=st.fixed_dictionaries({}, optional={"image": st.sampled_from(["n", "m"]), "args": st.lists(st.sampled_from("ab"), max_size=2)}),
    side=st.fixed_dictionaries({}, optional={"image": st.sampled_from(["n", "m"])}),
)  # fmt: skip


@given(PATHS)
def test_fields_v1_is_a_faithful_encoding(paths: frozenset[tuple[str, ...]]) -> None:
    """decode(encode(x)) is x."""
    assert frozenset(decode(encode(paths))) == paths


@given(DEPLOYMENTS, DEPLOYMENTS, DEPLOYMENTS)
def test_laws_of_apply(first: dict[str, Any], second: dict[str, Any], other: dict[str, Any]) -> None:
    """Idempotent; a sole applier gets exactly what it says; a forced apply leaves what it says in the object."""
    alone = by("a", by("a", None, first), second)
    assert alone.get("spec", {}).get("replicas") == second.get("spec", {}).get("replicas")
    assert (alone["metadata"].get("labels") or {}) == (second["metadata"].get("labels") or {})
    shared = by("b", alone, other, force=True)
    before = copy.deepcopy(shared)
    assert by("b", shared, other, force=True, time=T3) == shared == before
    for name, value in (other["metadata"].get("labels") or {}).items():
        assert shared["metadata"]["labels"][name] == value
    if "replicas" in other.get("spec", {}):
        assert shared["spec"]["replicas"] == other["spec"]["replicas"]
