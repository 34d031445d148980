"""Services through the registry: addresses, node ports and IPAddress objects over a Service's life, refusals, dry runs."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from podnet.controlplane.api.errors import StatusError
from podnet.controlplane.api.resources import IPADDRESSES, SERVICECIDRS, SERVICES
from podnet.controlplane.apiserver.bootstrap import ensure_bootstrap
from podnet.controlplane.apiserver.keys import key_of
from podnet.controlplane.apiserver.local import LocalClient
from podnet.controlplane.apiserver.options import DeleteOptions, ListOptions, WriteOptions
from podnet.controlplane.apiserver.registry import Registry

Object = dict[str, Any]


def service(name: str = "web", **spec: Any) -> Object:
    spec.setdefault("ports", [{"port": 80, "protocol": "TCP"}])
    spec.setdefault("selector", {"app": "web"})
    spec = {key: value for key, value in spec.items() if value is not None}
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "namespace": "default"}, "spec": spec}


async def recorded(client: LocalClient) -> dict[str, str]:
    """Address -> Service, as the IPAddress objects say; `kubernetes` has the first one in every test."""
    found = (await client.list(IPADDRESSES)).items
    held = {item["metadata"]["name"]: item["spec"]["parentRef"]["name"] for item in found}
    assert held.pop("10.96.0.1") == "kubernetes"
    return held


async def patch(client: LocalClient, name: str, **spec: Any) -> Object:
    return await client.patch(SERVICES, name, "default", {"spec": spec})


async def refusal(call: Any) -> StatusError:
    with pytest.raises(StatusError) as caught:
        await call
    return caught.value


async def test_an_address_has_a_record_from_birth_to_death(client: LocalClient) -> None:
    made = await client.create(SERVICES, service())
    address = made["spec"]["clusterIP"]
    found = await client.get(IPADDRESSES, address)
    assert found["metadata"]["labels"] == {
        "ipaddress.kubernetes.io/ip-family": "IPv4",
        "ipaddress.kubernetes.io/managed-by": "ipallocator.k8s.io",
    }
    assert found["spec"]["parentRef"] == {"resource": "services", "namespace": "default", "name": "web"}
    await client.delete(SERVICES, "web", "default")
    assert await recorded(client) == {}


async def test_everything_a_user_sees_is_defaulted(client: LocalClient) -> None:
    spec = (await client.create(SERVICES, service(type="NodePort", sessionAffinity="ClientIP")))["spec"]
    assert spec["clusterIPs"] == [spec["clusterIP"]]
    assert 30086 <= spec["ports"][0]["nodePort"] <= 32767, "the dynamic band"
    shown = {key: value for key, value in spec.items() if key not in {"clusterIP", "clusterIPs", "ports", "selector"}}
    assert shown == {
        "type": "NodePort",
        "sessionAffinity": "ClientIP",
        "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 10800}},
        "externalTrafficPolicy": "Cluster",
        "internalTrafficPolicy": "Cluster",
        "ipFamilies": ["IPv4"],
        "ipFamilyPolicy": "SingleStack",
    }


NODE_PORT = {"type": "NodePort", "ports": [{"port": 80, "protocol": "TCP", "nodePort": 30080}]}


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (
            {"clusterIP": "10.96.7.7"},
            (
                'Service "other" is invalid: spec.clusterIPs: Invalid value: []string{"10.96.7.7"}: failed to allocate IP '
                "10.96.7.7: provided IP is already allocated"
            ),
        ),
        (
            {"clusterIP": "10.97.0.1"},
            (
                'Service "other" is invalid: spec.clusterIPs: Invalid value: []string{"10.97.0.1"}: failed to allocate IP '
                "10.97.0.1: the provided IP (10.97.0.1) is not in the valid range. The range of valid IPs is "
                "10.96.0.0/16"
            ),
        ),
        (
            NODE_PORT,
            (
                'Service "other" is invalid: spec.ports[0].nodePort: Invalid value: 30080: provided port is already '
                "allocated"
            ),
        ),
        (
            {"type": "NodePort", "ports": [{"port": 80, "protocol": "TCP", "nodePort": 80}]},
            (
                'Service "other" is invalid: spec.ports[0].nodePort: Invalid value: 80: provided port is not in the '
                "valid range. The range of valid ports is 30000-32767"
            ),
        ),
        (
            {"ipFamilyPolicy": "RequireDualStack"},
            (
                'Service "other" is invalid: spec.ipFamilyPolicy: Invalid value: "RequireDualStack": this cluster is '
                "not configured for dual-stack services"
            ),
        ),
    ],
    ids=["address taken", "address outside", "port taken", "port outside", "dual stack"],
)
async def test_what_cannot_be_had_is_refused_and_nothing_kept(client: LocalClient, spec: Object, message: str) -> None:
    await client.create(SERVICES, service("first", clusterIP="10.96.7.7", **NODE_PORT))
    error = await refusal(client.create(SERVICES, service("other", **spec)))
    assert (error.code, error.reason, error.message) == (422, "Invalid", message)
    assert await recorded(client) == {"10.96.7.7": "first"}


async def test_a_released_address_and_port_may_be_had_again(client: LocalClient) -> None:
    wanted = service("first", clusterIP="10.96.7.7", **NODE_PORT)
    await client.create(SERVICES, wanted)
    await client.delete(SERVICES, "first", "default")
    await client.create(SERVICES, {**wanted, "metadata": {"name": "second", "namespace": "default"}})
    assert await recorded(client) == {"10.96.7.7": "second"}


async def test_zeros_in_front_make_no_other_address(client: LocalClient) -> None:
    made = await client.create(SERVICES, service(clusterIP="010.096.007.007"))
    assert made["spec"]["clusterIPs"] == ["010.096.007.007"]
    assert await recorded(client) == {"10.96.7.7": "web"}
    error = await refusal(client.create(SERVICES, service("other", clusterIP="10.96.7.7")))
    assert "provided IP is already allocated" in error.message
    error = await refusal(client.create(SERVICES, service("other", clusterIP="10.96.0.001")))
    assert "provided IP is already allocated" in error.message
    await client.delete(SERVICES, "web", "default")
    assert await recorded(client) == {}


async def test_a_dry_run_allocates_nothing(client: LocalClient, registry: Registry) -> None:
    dry = WriteOptions(dry_run=True)
    shown = (await registry.create(SERVICES, "default", service(clusterIP="10.96.7.7", **NODE_PORT), dry)).obj
    assert shown["spec"]["clusterIPs"] == ["10.96.7.7"]
    assert await recorded(client) == {}
    await client.create(SERVICES, service("other", clusterIP="10.96.7.7", **NODE_PORT))
    same = service("other")
    assert (await refusal(registry.create(SERVICES, "default", same, dry))).is_already_exists


async def test_a_name_that_is_taken_leaves_no_record(client: LocalClient) -> None:
    made = await client.create(SERVICES, service())
    assert (await refusal(client.create(SERVICES, service()))).is_already_exists
    assert await recorded(client) == {made["spec"]["clusterIP"]: "web"}


async def test_an_invalid_service_leaves_no_record(client: LocalClient) -> None:
    assert (await refusal(client.create(SERVICES, service(sessionAffinity="Sometimes")))).code == 422
    assert await recorded(client) == {}


async def test_from_cluster_ip_to_external_name_and_back(client: LocalClient) -> None:
    await client.create(SERVICES, service(clusterIP="10.96.7.7"))
    external = await patch(client, "web", type="ExternalName", externalName="example.org")
    for field in ("clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy", "internalTrafficPolicy"):
        assert field not in external["spec"]
    assert await recorded(client) == {}
    back = await patch(client, "web", type="ClusterIP", externalName=None)
    assert await recorded(client) == {back["spec"]["clusterIP"]: "web"}
    assert (back["spec"]["ipFamilies"], back["spec"]["ipFamilyPolicy"]) == (["IPv4"], "SingleStack")


async def test_from_node_port_to_external_name_releases_the_port(client: LocalClient) -> None:
    await client.create(SERVICES, service(**NODE_PORT))
    external = await patch(client, "web", type="ExternalName", externalName="example.org")
    assert external["spec"]["ports"] == [{"port": 80, "protocol": "TCP", "targetPort": 80}]
    assert "externalTrafficPolicy" not in external["spec"]
    await client.create(SERVICES, service("other", **NODE_PORT))


async def test_through_the_types_and_back(client: LocalClient) -> None:
    made = await client.create(SERVICES, service())
    node_port = await patch(client, "web", type="NodePort")
    port = node_port["spec"]["ports"][0]["nodePort"]
    assert node_port["spec"]["clusterIP"] == made["spec"]["clusterIP"]
    balancer = await patch(client, "web", type="LoadBalancer", externalTrafficPolicy="Local")
    assert balancer["spec"]["ports"][0]["nodePort"] == port
    health = balancer["spec"]["healthCheckNodePort"]
    assert health not in {0, port}
    assert balancer["spec"]["allocateLoadBalancerNodePorts"] is True
    taken = service("o", type="NodePort", ports=[{"port": 1, "nodePort": health}])
    assert (await refusal(client.create(SERVICES, taken))).code == 422
    plain = await patch(client, "web", type="ClusterIP")
    assert plain["spec"] == made["spec"]
    await client.create(SERVICES, taken)


async def test_the_address_stays(client: LocalClient) -> None:
    await client.create(SERVICES, service(clusterIP="10.96.7.7"))
    for address in ("10.96.7.8", "None"):
        error = await refusal(patch(client, "web", clusterIP=address, clusterIPs=[address]))
        assert "spec.clusterIPs[0]: Invalid value: " in error.message
        assert error.message.endswith("may not change once set")
    live = await client.get(SERVICES, "web", "default")
    bare = service()
    bare["metadata"]["resourceVersion"] = live["metadata"]["resourceVersion"]
    assert (await client.update(SERVICES, bare))["spec"] == live["spec"], "left out means kept"


async def test_prefer_dual_stack_gets_one_address(client: LocalClient) -> None:
    made = await client.create(SERVICES, service(ipFamilyPolicy="PreferDualStack"))
    assert (made["spec"]["ipFamilies"], len(made["spec"]["clusterIPs"])) == (["IPv4"], 1)
    single = await patch(client, "web", ipFamilyPolicy="SingleStack")
    assert single["spec"]["clusterIP"] == made["spec"]["clusterIP"]
    error = await refusal(patch(client, "web", ipFamilyPolicy="RequireDualStack"))
    assert "this cluster is not configured for dual-stack services" in error.message


async def test_many_at_once_never_share(client: LocalClient) -> None:
    made = await asyncio.gather(*(client.create(SERVICES, service(f"s{n}", type="NodePort")) for n in range(60)))
    assert len({item["spec"]["clusterIP"] for item in made}) == 60
    assert len({item["spec"]["ports"][0]["nodePort"] for item in made}) == 60
    wanted = [client.create(SERVICES, service(f"t{n}", clusterIP="10.96.7.7")) for n in range(5)]
    answers = await asyncio.gather(*wanted, return_exceptions=True)
    assert sum(isinstance(answer, dict) for answer in answers) == 1
    assert len(await recorded(client)) == 61


async def test_deleting_a_collection_releases_all(client: LocalClient, registry: Registry) -> None:
    for number in range(5):
        made = service(f"s{number}")
        made["metadata"]["labels"] = {"of": "many"}
        await client.create(SERVICES, made)
    await registry.delete_collection(SERVICES, "default", DeleteOptions(), ListOptions("of=many"))
    assert await recorded(client) == {}


async def test_a_service_with_a_finalizer_keeps_its_address_until_it_is_gone(client: LocalClient) -> None:
    held = service(clusterIP="10.96.7.7")
    held["metadata"]["finalizers"] = ["x.y/z"]
    await client.create(SERVICES, held)
    await client.delete(SERVICES, "web", "default")
    assert await recorded(client) == {"10.96.7.7": "web"}
    await client.patch(SERVICES, "web", "default", {"metadata": {"finalizers": None}})
    assert await recorded(client) == {}


# -- records and ranges of others


def address_of(name: str, parent: str, **labels: str) -> Object:
    return {
        "apiVersion": "networking.k8s.io/v1beta1",
        "kind": "IPAddress",
        "metadata": {"name": name, "labels": labels},
        "spec": {"parentRef": {"resource": "things", "group": "example.org", "name": parent}},
    }


async def test_an_address_somebody_reserved_by_hand_is_taken(client: LocalClient, registry: Registry) -> None:
    await client.create(IPADDRESSES, address_of("10.96.7.7", "router"))
    error = await refusal(client.create(SERVICES, service(clusterIP="10.96.7.7")))
    assert "provided IP is already allocated" in error.message
    await registry.repair_services()
    assert await recorded(client) == {"10.96.7.7": "router"}


async def test_what_a_crash_left_behind_is_repaired(client: LocalClient, registry: Registry) -> None:
    await client.create(SERVICES, service(clusterIP="10.96.7.7"))
    await client.delete(IPADDRESSES, "10.96.7.7")
    ours = {"ipaddress.kubernetes.io/managed-by": "ipallocator.k8s.io"}
    await client.create(IPADDRESSES, address_of("10.96.8.8", "gone", **ours))
    await registry.repair_services()
    assert await recorded(client) == {"10.96.7.7": "web"}


async def test_a_record_of_a_service_that_never_came_is_in_nobodys_way(client: LocalClient) -> None:
    stale = address_of("10.96.7.7", "gone", **{"ipaddress.kubernetes.io/managed-by": "ipallocator.k8s.io"})
    stale["spec"]["parentRef"] = {"resource": "services", "namespace": "default", "name": "gone"}
    await client.create(IPADDRESSES, stale)
    await client.create(SERVICES, service(clusterIP="10.96.7.7"))
    assert await recorded(client) == {"10.96.7.7": "web"}


async def test_another_service_cidr_adds_a_range(client: LocalClient) -> None:
    more = {
        "apiVersion": "networking.k8s.io/v1beta1",
        "kind": "ServiceCIDR",
        "metadata": {"name": "more"},
        "spec": {"cidrs": ["10.99.0.0/24"]},
    }
    assert (await refusal(client.create(SERVICES, service(clusterIP="10.99.0.9")))).code == 422
    await client.create(SERVICECIDRS, more)
    await client.create(SERVICES, service(clusterIP="10.99.0.9"))
    assert await recorded(client) == {"10.99.0.9": "web"}


@pytest.mark.parametrize(
    ("cidrs", "words"),
    [
        ([], "spec.cidrs: Required value"),
        (["10.99.0.1/24"], "must be in canonical form"),
        (["x"], "must be a valid CIDR value"),
        (["10.99.0.0/24", "10.98.0.0/24"], "may specify no more than one IP for each IP family"),
    ],
    ids=["none", "host bits", "text", "one family twice"],
)
async def test_a_wrong_service_cidr_is_refused(client: LocalClient, cidrs: list[str], words: str) -> None:
    body = {"apiVersion": "networking.k8s.io/v1beta1", "kind": "ServiceCIDR", "metadata": {"name": "x"}}
    error = await refusal(client.create(SERVICECIDRS, {**body, "spec": {"cidrs": cidrs}}))
    assert (error.code, words in error.message) == (422, True), error.message


async def test_an_address_is_named_by_itself_and_stays_with_its_parent(client: LocalClient) -> None:
    for name in ("nowhere", "010.0.0.1"):
        assert (await refusal(client.create(IPADDRESSES, address_of(name, "x")))).code == 422
    await client.create(IPADDRESSES, address_of("10.1.2.3", "x"))
    change = {"spec": {"parentRef": {"resource": "things", "name": "y"}}}
    error = await refusal(client.patch(IPADDRESSES, "10.1.2.3", "", change))
    assert "field is immutable" in error.message


async def test_the_cluster_is_born_with_its_range_and_its_first_address(
    registry: Registry, client: LocalClient
) -> None:
    for _ in range(2):
        await ensure_bootstrap(registry, advertise_address="192.168.100.10", port=6443)
    cidr = await client.get(SERVICECIDRS, "kubernetes")
    assert cidr["spec"]["cidrs"] == ["10.96.0.0/16"]
    assert [(c["type"], c["status"]) for c in cidr["status"]["conditions"]] == [("Ready", "True")]
    assert await recorded(client) == {}


async def test_a_new_server_over_an_old_store_allocates_nothing_twice(registry: Registry, client: LocalClient) -> None:
    await client.create(SERVICES, service(clusterIP="10.96.7.7", **NODE_PORT))
    await registry.store.delete(key_of(IPADDRESSES, "", "10.96.7.7"))
    again = Registry(registry.store)
    await again.start()
    try:
        await again.repair_services()
        other = LocalClient(again)
        assert await recorded(other) == {"10.96.7.7": "web"}
        assert (await refusal(other.create(SERVICES, service("o", clusterIP="10.96.7.7")))).code == 422
        assert (await refusal(other.create(SERVICES, service("o", **NODE_PORT)))).code == 422
    finally:
        await again.stop()
