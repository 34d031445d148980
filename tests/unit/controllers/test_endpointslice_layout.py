"""Slices and Endpoints beyond the first hundred: where endpoints go, hints, truncation, mirroring. Pure."""

from __future__ import annotations

from typing import Any

import pytest

from podnet.controlplane.api import meta
from podnet.controlplane.controllers.endpointslice.endpoints import changed_endpoints, desired_endpoints
from podnet.controlplane.controllers.endpointslice.layout import SliceChanges, owned_by_service, plan_slices
from podnet.controlplane.controllers.endpointslice.mirror import is_mirrored, mirrored_backends, owned_by_endpoints
from podnet.controlplane.controllers.endpointslice.plan import Backend, desired_backend

Object = dict[str, Any]
HTTP = (("http", 8080, "TCP", ""),)


def service(**spec: Any) -> Object:
    body = {"selector": {"app": "web"}, "ports": [{"name": "http", "port": 80, "targetPort": 8080}], **spec}
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "web", "namespace": "default", "uid": "s", "labels": {"team": "a"}},
        "spec": body,
    }


def backend(number: int, *, ready: bool = True, terminating: bool = False) -> Backend:
    conditions = {"ready": ready and not terminating, "serving": ready, "terminating": terminating}
    endpoint = {
        "addresses": [f"10.{number // 62500}.{number // 250 % 250}.{number % 250}"],
        "conditions": conditions,
        "targetRef": {"kind": "Pod", "name": f"p{number}", "uid": str(number)},
    }
    return Backend(HTTP, endpoint)


def slices_with(*groups: range) -> list[Object]:
    """Existing slices, one per group of pod numbers."""
    made = []
    for index, group in enumerate(groups):
        (body,) = plan_slices(owned_by_service(service()), "IPv4", [backend(number) for number in group], []).create
        made.append({**body, "metadata": {**body["metadata"], "name": f"s{index}"}})
    return made


def plan(existing: list[Object], *groups: range) -> SliceChanges:
    wanted = [backend(number) for group in groups for number in group]
    return plan_slices(owned_by_service(service()), "IPv4", wanted, existing)


def sizes(bodies: tuple[Object, ...]) -> dict[str, int]:
    return {body["metadata"].get("name", "new"): len(body["endpoints"]) for body in bodies}


@pytest.mark.parametrize(
    ("existing", "wanted", "updated", "created", "deleted"),
    [
        pytest.param([range(50)], [range(51)], {"s0": 51}, {}, [], id="one more fits"),
        pytest.param([range(100)], [range(101)], {}, {"new": 1}, [], id="one more does not fit"),
        pytest.param(
            [range(90), range(200, 250)], [range(90), range(200, 255)], {"s0": 95}, {}, [], id="the fullest with room"
        ),
        pytest.param(
            [range(90), range(200, 280)],
            [range(90), range(200, 279), range(300, 305)],
            {"s1": 84},
            {},
            [],
            id="one that is rewritten anyway",
        ),
        pytest.param(
            [range(90), range(200, 290)],
            [range(90), range(200, 290), range(300, 315)],
            {},
            {"new": 15},
            [],
            id="never spread over slices that need no change",
        ),
        pytest.param([range(90), range(200, 290)], [range(200, 290)], {}, {}, ["s0"], id="an emptied slice goes"),
        pytest.param([], [range(250)], {}, {"new": 50}, [], id="two hundred and fifty"),
        pytest.param([range(50), range(60, 70)], [range(50), range(60, 70)], {}, {}, [], id="never repacked"),
    ],
)
def test_where_endpoints_go(
    existing: list[range], wanted: list[range], updated: dict[str, int], created: dict[str, int], deleted: list[str]
) -> None:
    changes = plan(slices_with(*existing), *wanted)
    assert sizes(changes.update) == updated
    assert sizes(changes.create[-1:]) == created
    assert [meta.name(body) for body in changes.delete] == deleted


def test_a_thousand_endpoints_are_ten_full_slices() -> None:
    changes = plan([], range(1000))
    assert [len(body["endpoints"]) for body in changes.create] == [100] * 10


def test_a_changed_label_of_the_service_rewrites_its_slices() -> None:
    existing = slices_with(range(3))
    named = service()
    named["metadata"]["labels"] = {"team": "b"}
    wanted = [backend(number) for number in range(3)]
    (changed,) = plan_slices(owned_by_service(named), "IPv4", wanted, existing).update
    assert meta.labels(changed)["team"] == "b"


@pytest.mark.parametrize(
    ("spec", "ready", "expected"),
    [
        ({"trafficDistribution": "PreferClose"}, True, {"forZones": [{"name": "zone-1"}]}),
        ({"trafficDistribution": "PreferClose"}, False, None),
        ({"trafficDistribution": "PreferClose", "clusterIP": "None"}, True, None),
        ({}, True, None),
    ],
    ids=["close", "not ready", "headless", "not asked for"],
)
def test_hints_name_the_zone_of_the_endpoint(spec: Object, ready: bool, expected: Object | None) -> None:
    pod = {
        "metadata": {"name": "p", "namespace": "default", "uid": "u"},
        "spec": {"nodeName": "n", "containers": []},
        "status": {"podIP": "10.0.0.1", "conditions": [{"type": "Ready", "status": str(ready)}]},
    }
    found = desired_backend(service(**spec), pod, "IPv4", lambda _: "zone-1")
    assert found is not None
    assert found.endpoint.get("hints") == expected
    nowhere = desired_backend(service(**spec), pod, "IPv4", lambda _: "")
    assert nowhere is not None
    assert "hints" not in nowhere.endpoint
    assert "zone" not in nowhere.endpoint


def test_endpoints_hold_a_thousand_ready_ones_first_and_say_so() -> None:
    backends = [backend(number, ready=number % 2 == 0) for number in range(1200)]
    body = desired_endpoints(service(), backends)
    (subset,) = body["subsets"]
    assert (len(subset["addresses"]), len(subset["notReadyAddresses"])) == (600, 400)
    assert body["metadata"]["annotations"] == {"endpoints.kubernetes.io/over-capacity": "truncated"}


def test_the_annotation_goes_when_all_fit_again_and_others_stay() -> None:
    current = desired_endpoints(service(), [backend(number) for number in range(1001)])
    current["metadata"]["annotations"]["mine"] = "stays"
    changed = changed_endpoints(current, desired_endpoints(service(), [backend(1)]))
    assert changed is not None
    assert changed["metadata"]["annotations"] == {"mine": "stays"}
    assert changed_endpoints(changed, desired_endpoints(service(), [backend(1)])) is None


@pytest.mark.parametrize(("published", "shown"), [(False, 0), (True, 1)], ids=["left out", "published"])
def test_a_terminating_pod_is_in_endpoints_only_when_published(published: bool, shown: int) -> None:
    body = desired_endpoints(service(publishNotReadyAddresses=published), [backend(1, terminating=True)])
    assert len(body.get("subsets", [])) == shown


def test_a_headless_service_without_ports_still_has_addresses() -> None:
    portless = Backend((), backend(1).endpoint)
    named = service(clusterIP="None", ports=[])
    assert [len(subset["addresses"]) for subset in desired_endpoints(named, [portless])["subsets"]] == [1]
    assert "subsets" not in desired_endpoints(service(), [portless]), "a port that the pod does not have is no endpoint"


def endpoints(**metadata: Any) -> Object:
    return {
        "apiVersion": "v1",
        "kind": "Endpoints",
        "metadata": {"name": "db", "namespace": "default", "uid": "e", **metadata},
        "subsets": [
            {
                "addresses": [{"ip": "192.0.2.5", "hostname": "a"}, {"ip": "fd00::5"}],
                "notReadyAddresses": [{"ip": "192.0.2.6", "nodeName": "n"}],
                "ports": [{"name": "sql", "port": 5432, "protocol": "TCP"}],
            }
        ],
    }


BARE = {"metadata": {"name": "db"}, "spec": {"ports": [{"port": 5432}]}}


@pytest.mark.parametrize(
    ("metadata", "of", "expected"),
    [
        ({}, BARE, True),
        ({}, None, False),
        ({}, {"metadata": {}, "spec": {"selector": {"a": "b"}}}, False),
        ({"labels": {"endpointslice.kubernetes.io/skip-mirror": "true"}}, BARE, False),
        ({"labels": {"endpointslice.kubernetes.io/skip-mirror": "false"}}, BARE, True),
        ({"annotations": {"control-plane.alpha.kubernetes.io/leader": "{}"}}, BARE, False),
        ({"deletionTimestamp": "x"}, BARE, False),
    ],
    ids=["mirrored", "no service", "selector", "skip", "skip false", "leader", "terminating"],
)
def test_which_endpoints_are_mirrored(metadata: Object, of: Object | None, expected: bool) -> None:
    assert is_mirrored(endpoints(**metadata), of) is expected


def test_the_mirror_says_the_same_by_family() -> None:
    found = mirrored_backends(endpoints())
    assert {family: [dict(b.endpoint) for b in backends] for family, backends in found.items()} == {
        "IPv4": [
            {"addresses": ["192.0.2.5"], "conditions": {"ready": True}, "hostname": "a"},
            {"addresses": ["192.0.2.6"], "conditions": {"ready": False}, "nodeName": "n"},
        ],
        "IPv6": [{"addresses": ["fd00::5"], "conditions": {"ready": True}}],
    }
    assert found["IPv4"][0].ports == (("sql", 5432, "TCP", ""),)


def test_the_mirror_bears_labels_and_owner_but_not_kubectls_notes() -> None:
    notes = {"kubectl.kubernetes.io/last-applied-configuration": "{}", "mine": "yes"}
    source = endpoints(labels={"tier": "db"}, annotations=notes)
    (body,) = plan_slices(owned_by_endpoints(source), "IPv4", mirrored_backends(source)["IPv4"], []).create
    assert body["metadata"]["labels"] == {
        "tier": "db",
        "kubernetes.io/service-name": "db",
        "endpointslice.kubernetes.io/managed-by": "endpointslicemirroring-controller.k8s.io",
    }
    assert body["metadata"]["annotations"] == {"mine": "yes"}
    assert (body["metadata"]["ownerReferences"][0]["kind"], body["metadata"]["generateName"]) == ("Endpoints", "db-")


def test_a_mirrored_address_that_becomes_unready_rewrites_its_slice() -> None:
    source = endpoints()
    owner = owned_by_endpoints(source)
    (body,) = plan_slices(owner, "IPv4", mirrored_backends(source)["IPv4"], []).create
    existing = [{**body, "metadata": {**body["metadata"], "name": "db-1"}}]
    subset = source["subsets"][0]
    subset["notReadyAddresses"].append(subset["addresses"].pop(0))
    changes = plan_slices(owner, "IPv4", mirrored_backends(source)["IPv4"], existing)
    assert [e["conditions"]["ready"] for e in changes.update[0]["endpoints"]] == [False, False]
    assert (changes.create, changes.delete) == ((), ())
