"""The laws of the difference, on the fake kernel; the plans of the modes."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Address, IPv4Interface, IPv4Network

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from podnet.overlay.diff import diff_overlay, observed_overlay
from podnet.overlay.hostgw import desired_hostgw
from podnet.overlay.lease import Lease
from podnet.overlay.types import OverlayState, Owned
from podnet.overlay.vxlan import VxlanParams, desired_vxlan
from podnet.topology.fake import FakeKernel
from podnet.topology.kernel import (
    AddAddress,
    AddVeth,
    AddVxlan,
    DeleteFdb,
    DeleteLink,
    DeleteRoute,
    FdbEntry,
    Neighbour,
    ReplaceFdb,
    ReplaceNeighbour,
    ReplaceRoute,
    Route,
    SetLink,
)

OWNED = Owned("flannel.1", "eth0", IPv4Network("10.244.0.0/16"))
PARAMS = VxlanParams()


def lease(n, mac=None, backend="vxlan", ip=None):
    return Lease(
        f"w{n}",
        IPv4Network(f"10.244.{n}.0/24"),
        IPv4Address(ip or f"192.168.100.{n + 10}"),
        mac or f"8e:00:00:00:00:{n:02x}",
        1,
        backend,
    )


def underlay():
    kernel = FakeKernel()
    kernel.apply("", [AddVeth("eth0", "wire"), SetLink("eth0", up=True), SetLink("wire", up=True)])
    kernel.apply("", [AddAddress("eth0", IPv4Interface("192.168.100.11/24"))])
    return kernel


def settle(kernel, desired):
    ops = diff_overlay(kernel.observe(""), desired, OWNED)
    kernel.apply("", ops)
    return ops


peers = st.lists(st.integers(2, 9), unique=True, max_size=6).flatmap(
    lambda numbers: st.tuples(
        *(
            st.sampled_from([lease(n), lease(n, f"8e:00:00:00:01:{n:02x}"), lease(n, ip=f"192.168.100.{n + 100}")])
            for n in numbers
        )
    )
)
owns = st.sampled_from([lease(1), lease(1, "8e:00:00:00:ff:01")])
vxlans = st.builds(
    lambda own, others, direct, mtu: desired_vxlan(own, others, replace(PARAMS, direct_network=direct, mtu=mtu)),
    owns,
    peers,
    st.sampled_from([None, IPv4Network("192.168.100.0/26")]),
    st.sampled_from([1450, 1400]),
)
hostgws = st.builds(
    lambda others: desired_hostgw(lease(1, backend="host-gw"), [replace(o, backend="host-gw") for o in others], "eth0"),
    peers,
)
states = vxlans | hostgws


@settings(deadline=None)
@given(st.lists(states, min_size=1, max_size=4))
def test_apply_reaches_the_desired_state_from_any_other_and_twice_changes_nothing(walk):
    kernel = underlay()
    for desired in walk:
        settle(kernel, desired)
        assert observed_overlay(kernel.observe(""), OWNED) == desired
        assert diff_overlay(kernel.observe(""), desired, OWNED) == ()


@settings(deadline=None)
@given(states, st.data())
def test_whatever_is_broken_is_repaired(desired, data):
    kernel = underlay()
    settle(kernel, desired)
    breakages = [DeleteRoute(route) for route in sorted(desired.routes, key=str)]
    breakages += [DeleteFdb(entry) for entry in sorted(desired.fdb, key=str)]
    breakages += [ReplaceFdb(replace(entry, mac="8e:00:00:00:99:99")) for entry in sorted(desired.fdb, key=str)]
    breakages += [
        ReplaceNeighbour(replace(item, mac="8e:00:00:00:98:98")) for item in sorted(desired.neighbours, key=str)
    ]
    if desired.device is not None:
        breakages += [
            DeleteLink("flannel.1"),
            SetLink("flannel.1", mtu=1300),
            SetLink("flannel.1", mac="8e:00:00:00:aa:aa"),
        ]
        breakages += [SetLink("flannel.1", up=False), AddAddress("flannel.1", IPv4Interface("10.9.9.9/32"))]
    if not breakages:
        return
    kernel.apply("", [data.draw(st.sampled_from(breakages))])
    settle(kernel, desired)
    assert observed_overlay(kernel.observe(""), OWNED) == desired


def test_nothing_of_others_is_touched():
    kernel = underlay()
    kernel.apply(
        "",
        [
            ReplaceRoute(Route(IPv4Network("0.0.0.0/0"), "eth0", gateway=IPv4Address("192.168.100.1"))),
            ReplaceRoute(Route(IPv4Network("10.9.0.0/16"), "eth0", gateway=IPv4Address("192.168.100.7"))),
            ReplaceRoute(
                Route(IPv4Network("10.244.99.0/24"), "eth0", gateway=IPv4Address("192.168.100.7"), protocol=3)
            ),
            AddVxlan("vxlan9", 9, IPv4Address("192.168.100.11"), "eth0", port=4789),
            ReplaceNeighbour(Neighbour("eth0", IPv4Address("192.168.100.7"), "8e:00:00:00:00:77")),
        ],
    )
    before = kernel.observe("")
    settle(kernel, desired_vxlan(lease(1), [lease(2)], PARAMS))
    settle(kernel, OverlayState())
    assert kernel.observe("") == before


def test_three_entries_a_peer():
    desired = desired_vxlan(lease(1), [lease(1), lease(2), lease(3)], PARAMS)
    assert desired.routes == {
        Route(IPv4Network(f"10.244.{n}.0/24"), "flannel.1", gateway=IPv4Address(f"10.244.{n}.0"), onlink=True)
        for n in (2, 3)
    }
    assert desired.neighbours == {
        Neighbour("flannel.1", IPv4Address(f"10.244.{n}.0"), f"8e:00:00:00:00:0{n}") for n in (2, 3)
    }
    assert desired.fdb == {
        FdbEntry("flannel.1", f"8e:00:00:00:00:0{n}", IPv4Address(f"192.168.100.1{n}")) for n in (2, 3)
    }
    assert str(desired.device.address) == "10.244.1.0/32"


def test_peers_of_another_network_or_backend_are_left_out():
    others = [replace(lease(2), vni=2), replace(lease(3), backend="host-gw")]
    assert desired_vxlan(lease(1), others, PARAMS).routes == frozenset()
    assert desired_hostgw(lease(1, backend="host-gw"), [lease(2)], "eth0").routes == frozenset()


def test_cross_subnet_encapsulates_only_what_leaves_the_subnet():
    far = lease(3, ip="172.16.0.3")
    desired = desired_vxlan(lease(1), [lease(2), far], replace(PARAMS, direct_network=IPv4Network("192.168.100.0/24")))
    assert {(str(r.destination), r.link, str(r.gateway)) for r in desired.routes} == {
        ("10.244.2.0/24", "eth0", "192.168.100.12"),
        ("10.244.3.0/24", "flannel.1", "10.244.3.0"),
    }
    assert len(desired.fdb) == 1


def test_entries_come_before_routes_and_leave_after_them():
    kernel = underlay()
    ops = [type(op) for op in settle(kernel, desired_vxlan(lease(1), [lease(2)], PARAMS))]
    assert ops[-3:] == [ReplaceNeighbour, ReplaceFdb, ReplaceRoute]
    ops = [type(op).__name__ for op in settle(kernel, desired_vxlan(lease(1), [], PARAMS))]
    assert ops == ["DeleteRoute", "DeleteFdb", "DeleteNeighbour"]


def test_a_changed_mac_of_a_peer_replaces_in_place():
    kernel = underlay()
    settle(kernel, desired_vxlan(lease(1), [lease(2)], PARAMS))
    ops = settle(kernel, desired_vxlan(lease(1), [lease(2, "8e:00:00:00:0a:02")], PARAMS))
    assert [type(op).__name__ for op in ops] == ["DeleteFdb", "ReplaceNeighbour", "ReplaceFdb"]


@pytest.mark.parametrize(
    "changed",
    [VxlanParams(vni=1, port=4789), VxlanParams(device="eth1")],
    ids=["port", "device"],
)
def test_what_cannot_change_on_a_living_device_makes_a_new_one(changed):
    kernel = underlay()
    kernel.apply("", [AddVeth("eth1", "wire1"), SetLink("eth1", up=True)])
    settle(kernel, desired_vxlan(lease(1), [lease(2)], PARAMS))
    desired = desired_vxlan(lease(1), [lease(2)], changed)
    ops = settle(kernel, desired)
    assert isinstance(ops[0], DeleteLink)
    assert observed_overlay(kernel.observe(""), OWNED) == desired


def test_a_device_of_an_earlier_vni_goes():
    kernel = underlay()
    settle(kernel, desired_vxlan(lease(1), [lease(2)], PARAMS))
    desired = desired_vxlan(lease(1), [replace(lease(2), vni=7)], replace(PARAMS, vni=7))
    kernel.apply("", diff_overlay(kernel.observe(""), desired, replace(OWNED, vxlan="flannel.7")))
    assert kernel.observe("").link("flannel.1") is None
    assert kernel.observe("").link("flannel.7") is not None
