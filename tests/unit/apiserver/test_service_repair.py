"""Services and IPAddress objects that disagree: what is mended, what is told, and that the server starts in any case."""

from __future__ import annotations

import json
from ipaddress import IPv4Network
from typing import Any

import pytest

from podnet.controlplane.api.resources import EVENTS, IPADDRESSES, SERVICES
from podnet.controlplane.apiserver.allocation import ServiceRanges
from podnet.controlplane.apiserver.allocation.repair import plan_repair
from podnet.controlplane.apiserver.bootstrap import ensure_bootstrap
from podnet.controlplane.apiserver.keys import key_of
from podnet.controlplane.apiserver.local import LocalClient
from podnet.controlplane.apiserver.registry import Registry
from podnet.controlplane.apiserver.services import ip_address

RANGES = ServiceRanges(IPv4Network("10.96.0.0/16"), (30000, 32767))
Object = dict[str, Any]


def service(name: str, address: str, age: int = 0, node_port: int = 0) -> Object:
    made = f"2026-01-01T00:00:{59 - age:02}Z"
    port = {"port": 80, "protocol": "TCP", **({"nodePort": node_port} if node_port else {})}
    spec = {
        "type": "NodePort" if node_port else "ClusterIP",
        "clusterIP": address,
        "clusterIPs": [address],
        "ports": [port],
    }
    metadata = {"name": name, "namespace": "default", "uid": name, "creationTimestamp": made}
    return {"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": spec}


def by_hand(address: str) -> Object:
    record = ip_address(service("router", address), address)
    record["metadata"]["labels"] = {}
    return record


A, B = service("a", "10.96.7.7", age=1), service("b", "10.96.7.7", age=2)
TWICE = "Cluster IP [IPv4]: 10.96.7.7 was assigned to multiple services; please recreate service"


@pytest.mark.parametrize(
    ("services", "records", "record", "forget", "complaints"),
    [
        ([A], [], [("a", "10.96.7.7")], [], []),
        ([A], [ip_address(A, "10.96.7.7")], [], [], []),
        ([], [ip_address(A, "10.96.7.7")], [], ["10.96.7.7"], []),
        ([], [by_hand("10.96.7.7")], [], [], []),
        ([A], [ip_address(service("gone", "x"), "10.96.7.7")], [("a", "10.96.7.7")], [], []),
        ([A, B], [], [("b", "10.96.7.7")], [], [("a", "ClusterIPAlreadyAllocated", TWICE)]),
        ([A, B], [ip_address(A, "10.96.7.7")], [], [], [("b", "ClusterIPAlreadyAllocated", TWICE)]),
        ([A], [by_hand("10.96.7.7")], [], [], [("a", "ClusterIPAlreadyAllocated", TWICE)]),
        (
            [service("far", "10.97.0.1")],
            [],
            [("far", "10.97.0.1")],
            [],
            [("far", "ClusterIPOutOfRange", "Cluster IP [IPv4]: 10.97.0.1 is not within any configured Service CIDR; please recreate service")],
        ),
        (
            [service("odd", "here")],
            [],
            [],
            [],
            [("odd", "ClusterIPNotValid", "Cluster IP here is not a valid IP; please recreate service")],
        ),
        ([service("zeros", "010.096.007.007")], [ip_address(service("zeros", "x"), "10.96.7.7")], [], [], []),
        (
            [service("x", "None", 2, 30001), service("y", "None", 1, 30001), service("z", "None", 0, 80)],
            [],
            [],
            [],
            [
                ("y", "PortAlreadyAllocated", "Port 30001 was assigned to multiple services; please recreate service"),
                ("z", "PortOutOfRange", "Port 80 is not within the port range 30000-32767; please recreate service"),
            ],
        ),
    ],
    ids=["unrecorded", "right", "left behind", "by hand", "another's record", "twice, unrecorded", "twice, recorded",
         "taken by hand", "out of range", "no address", "zeros in front", "ports"],
)  # fmt: skip
def test_what_is_to_be_done(services, records, record, forget, complaints) -> None:
    repair = plan_repair(services, {found["metadata"]["name"]: found for found in records}, RANGES)
    assert [(found["metadata"]["name"], address) for found, address in repair.record] == record
    assert repair.forget == forget
    assert [(c.service["metadata"]["name"], c.reason, c.message) for c in repair.complaints] == complaints


async def test_a_store_with_wrong_addresses_does_not_stop_the_server(registry: Registry) -> None:
    for body in (A, B, service("far", "10.97.0.1"), service("odd", "here")):
        await registry.store.create(key_of(SERVICES, "default", body["metadata"]["name"]), json.dumps(body).encode())
    again = Registry(registry.store)
    await again.start()
    client = LocalClient(again)
    try:
        for _ in range(2):  # the second time everything is known, and told already
            await ensure_bootstrap(again, advertise_address="192.168.100.10", port=6443)
            events = (await client.list(EVENTS, "default")).items
            assert sorted((event["involvedObject"]["name"], event["reason"]) for event in events) == [
                ("a", "ClusterIPAlreadyAllocated"),
                ("far", "ClusterIPOutOfRange"),
                ("odd", "ClusterIPNotValid"),
            ]
        assert (await client.get(IPADDRESSES, "10.96.7.7"))["spec"]["parentRef"]["name"] == "b"
        await client.delete(SERVICES, "b", "default")
        await again.repair_services()
        assert (await client.get(IPADDRESSES, "10.96.7.7"))["spec"]["parentRef"]["name"] == "a"
    finally:
        await again.stop()
