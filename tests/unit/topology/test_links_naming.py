"""Interfaces of the underlay: their names, their MACs, and the operations that make a cable."""

from __future__ import annotations

from ipaddress import IPv4Address, ip_interface, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from podnet.topology.fake import FakeKernel
from podnet.topology.kernel import MAX_IFNAME, AddVeth
from podnet.topology.links import (
    NODE_SYSCTLS,
    apply_sysctls,
    mac_of,
    plan_machine,
    plan_port,
    port_name,
    trunk_name,
)
from podnet.topology.spec import HostRoute, default_cluster_spec

LABELS = st.from_regex(r"\A[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?\Z")


@pytest.mark.parametrize("name", ["worker-1", "control-plane", "client", "fifteen-chars-x"])
def test_short_names_are_port_names(name: str) -> None:
    assert port_name(name) == name


@given(LABELS, LABELS)
def test_every_name_makes_a_valid_and_distinct_interface(one: str, other: str) -> None:
    names = {port_name(one), port_name(other), trunk_name(one, other), trunk_name(other, one)}
    assert all(0 < len(name) <= MAX_IFNAME for name in names)
    assert port_name(one) != "lo"
    assert len(names) == (4 if one != other else 2)


def test_long_names_keep_their_beginning() -> None:
    long = "a-very-long-worker-name"
    assert port_name(long).startswith("a-very-lon_")
    assert port_name(long) != port_name(long + "s")


def test_macs_are_stable_unicast_and_locally_administered() -> None:
    mac = mac_of(IPv4Address("192.168.100.11"))
    assert mac == "02:00:c0:a8:64:0b"
    first = int(mac[:2], 16)
    assert (first & 1, first & 2) == (0, 2)


def test_a_cable_is_one_pair_plugged_into_its_bridge() -> None:
    pair, alias = plan_port("worker-1", "/proc/7/ns/net", "02:00:00:00:00:01", "s1", 1500, bridged=True)
    assert pair == AddVeth("worker-1", "eth0", "/proc/7/ns/net", 1500, peer_mac="02:00:00:00:00:01", master="s1")
    assert getattr(alias, "alias", "") == "worker-1 eth0 on s1"


def test_a_machine_gets_its_address_and_routes() -> None:
    spec = default_cluster_spec()
    kernel = FakeKernel()
    kernel.create_netns("m")
    kernel.apply("", [AddVeth("worker-1", "eth0", "m")])
    route = HostRoute(ip_network("10.96.0.0/16"), IPv4Address("192.168.100.11"))  # type: ignore[arg-type]
    kernel.apply("m", plan_machine(spec, IPv4Address("192.168.100.200"), (route,)))
    state = kernel.observe("m")
    assert ("eth0", ip_interface("192.168.100.200/24")) in state.addresses
    assert {str(r.destination): str(r.gateway) for r in state.routes if r.gateway} == {
        "0.0.0.0/0": "192.168.100.1",
        "10.96.0.0/16": "192.168.100.11",
    }


def test_sysctls_that_the_kernel_lacks_are_named() -> None:
    kernel = FakeKernel()
    assert apply_sysctls(kernel, "", NODE_SYSCTLS) == []
    assert kernel.sysctl("", "net.ipv4.ip_forward") == "1"
    assert kernel.sysctl("", "net.bridge.bridge-nf-call-iptables") == "1"
    assert apply_sysctls(kernel, "", (("net.bridge.nothing", "1"),)) == ["net.bridge.nothing"]
