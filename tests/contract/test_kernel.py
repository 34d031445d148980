"""One suite for every `Kernel`: what plans rely on holds for the fake exactly as for the real one."""

from __future__ import annotations

import errno
import itertools
import os
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from ipaddress import ip_address, ip_interface, ip_network
from pathlib import Path
from typing import Any

import pytest

from podnet.topology.fake import FakeKernel
from podnet.topology.kernel import (
    AddAddress,
    AddBridge,
    AddVeth,
    AddVxlan,
    DeleteAddress,
    DeleteFdb,
    DeleteLink,
    DeleteNeighbour,
    DeleteRoute,
    FdbEntry,
    Kernel,
    KernelError,
    LimitRate,
    Link,
    Neighbour,
    ReplaceFdb,
    ReplaceNeighbour,
    ReplaceRoute,
    Route,
    SetLink,
    SetSysctl,
)
from podnet.topology.linux import LinuxKernel
from podnet.topology.linux.syscalls import create_netns, delete_netns


@dataclass
class World:
    """A kernel with two namespaces of the test's own, `a` and `b`."""

    kernel: Kernel
    a: str
    b: str
    delete_netns: Callable[[str], Any]

    def delete(self, netns: str) -> None:
        """Delete a namespace as its owner should: the kernel lets go of it first."""
        self.kernel.forget(netns)
        self.delete_netns(netns)


def _can_create_netns() -> bool:
    return os.geteuid() == 0


@pytest.fixture(params=["fake", pytest.param("linux", marks=pytest.mark.kernel)])
def world(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[World]:
    if request.param == "fake":
        fake = FakeKernel()
        fake.create_netns("a")
        fake.create_netns("b")
        yield World(fake, "a", "b", fake.delete_netns)
        return
    if not _can_create_netns():
        pytest.skip("needs root, or uid 0 in a user namespace, to create network namespaces")
    kernel = LinuxKernel()
    paths = [str(tmp_path / name) for name in ("a", "b")]
    for path in paths:
        create_netns(path)

    yield World(kernel, paths[0], paths[1], delete_netns)
    kernel.close()
    for path in paths:
        delete_netns(path)


def refused(world: World, netns: str, *ops: Any) -> KernelError:
    with pytest.raises(KernelError) as caught:
        world.kernel.apply(netns, ops)
    return caught.value


def ipv4_addresses(world: World, netns: str) -> set[tuple[str, str]]:
    return {(link, str(a)) for link, a in world.kernel.observe(netns).addresses if a.version == 4}


def routes(world: World, netns: str) -> dict[str, Route]:
    return {str(r.destination): r for r in world.kernel.observe(netns).routes if r.destination.version == 4}


def settled(world: World, netns: str, name: str) -> Link:
    """A link once its operational state is known: the kernel's link watch works it out a moment later."""
    for _ in range(300):
        link = world.kernel.observe(netns).link(name)
        assert link
        if link.operstate == "UP":
            break
        threading.Event().wait(0.01)
    return link


def plug_pod(world: World) -> None:
    """A bridge with an address in `a`, a pod behind it in `b`."""
    world.kernel.apply(
        world.a,
        [
            AddBridge("cni0", mac="02:00:00:00:00:01", mtu=1450),
            AddAddress("cni0", ip_interface("10.244.1.1/24")),
            AddVeth("veth1", "eth0", world.b, mtu=1450, peer_mac="02:00:00:00:00:02", master="cni0", hairpin=True),
        ],
    )
    world.kernel.apply(
        world.b,
        [
            SetLink("lo", up=True),
            SetLink("eth0", up=True),
            AddAddress("eth0", ip_interface("10.244.1.2/24")),
            ReplaceRoute(Route(ip_network("0.0.0.0/0"), gateway=ip_address("10.244.1.1"))),
        ],
    )


def test_new_namespace_has_a_loopback_that_is_down(world: World) -> None:
    state = world.kernel.observe(world.a)
    assert [(link.name, link.index, link.up, link.kind) for link in state.links] == [("lo", 1, False, "")]
    assert (state.addresses, state.routes, state.neighbours, state.fdb) == ((), (), (), ())


def test_loopback_up_has_its_address(world: World) -> None:
    world.kernel.apply(world.a, [SetLink("lo", up=True)])
    assert ipv4_addresses(world, world.a) == {("lo", "127.0.0.1/8")}


def test_no_operations_do_nothing(world: World) -> None:
    before = world.kernel.observe(world.a)
    world.kernel.apply(world.a, [])
    assert world.kernel.observe(world.a) == before


def test_pod_is_plugged_in(world: World) -> None:
    plug_pod(world)
    eth0, port = settled(world, world.b, "eth0"), settled(world, world.a, "veth1")
    bridge = settled(world, world.a, "cni0")
    assert (bridge.kind, bridge.mac, bridge.mtu, bridge.up, bridge.operstate) == (
        "bridge",
        "02:00:00:00:00:01",
        1450,
        True,
        "UP",
    )
    assert (port.kind, port.master, port.hairpin, port.up, port.operstate) == ("veth", "cni0", True, True, "UP")
    assert port.port_state == "forwarding"
    assert (eth0.mac, eth0.mtu, eth0.up, eth0.master, eth0.port_state) == ("02:00:00:00:00:02", 1450, True, "", "")
    assert (eth0.peer_index, port.peer_index) == (port.index, eth0.index)
    assert ("eth0", "10.244.1.2/24") in ipv4_addresses(world, world.b)
    found = routes(world, world.b)
    assert found["0.0.0.0/0"].gateway == ip_address("10.244.1.1")
    assert (found["0.0.0.0/0"].link, found["0.0.0.0/0"].protocol) == ("eth0", 4)
    assert (found["10.244.1.0/24"].protocol, found["10.244.1.0/24"].source) == (2, ip_address("10.244.1.2"))


def test_far_end_of_a_new_veth_is_down(world: World) -> None:
    world.kernel.apply(world.a, [AddVeth("x", "y", world.b)])
    near, far = world.kernel.observe(world.a).link("x"), world.kernel.observe(world.b).link("y")
    assert near
    assert far
    assert (near.up, far.up) == (True, False)
    assert near.operstate != "UP"


def test_veth_with_both_ends_here(world: World) -> None:
    world.kernel.apply(world.a, [AddVeth("x", "y", up=False)])
    x, y = world.kernel.observe(world.a).link("x"), world.kernel.observe(world.a).link("y")
    assert x
    assert y
    assert (x.up, y.up, x.peer_index, y.peer_index) == (False, False, y.index, x.index)


def test_deleting_one_end_deletes_the_other(world: World) -> None:
    plug_pod(world)
    world.kernel.apply(world.b, [DeleteLink("eth0")])
    assert world.kernel.observe(world.a).link("veth1") is None
    assert routes(world, world.b) == {}


def test_deleting_the_bridge_releases_its_ports(world: World) -> None:
    plug_pod(world)
    world.kernel.apply(world.a, [DeleteLink("cni0")])
    port = world.kernel.observe(world.a).link("veth1")
    assert port
    assert (port.master, port.port_state, port.hairpin) == ("", "", False)
    assert ipv4_addresses(world, world.a) == set()


@dataclass(frozen=True)
class Refusal:
    id: str
    op: Any
    code: int
    property: str


REFUSALS = [
    Refusal("bridge-exists", AddBridge("cni0"), errno.EEXIST, "is_exists"),
    Refusal("veth-exists", AddVeth("veth1", "other"), errno.EEXIST, "is_exists"),
    Refusal("veth-peer-exists", AddVeth("other", "veth1"), errno.EEXIST, "is_exists"),
    Refusal("veth-no-bridge", AddVeth("v", "w", master="nope"), errno.ENODEV, "is_not_found"),
    Refusal("veth-no-netns", AddVeth("v", "w", "/nowhere/netns"), errno.ENOENT, "is_not_found"),
    Refusal("name-too-long", AddBridge("a-name-of-16-chr"), errno.EINVAL, ""),
    Refusal("name-empty", AddBridge(""), errno.EINVAL, ""),
    Refusal("name-with-slash", AddBridge("a/b"), errno.EINVAL, ""),
    Refusal("set-missing", SetLink("nope", up=True), errno.ENODEV, "is_not_found"),
    Refusal("rename-to-existing", SetLink("veth1", rename="cni0"), errno.EEXIST, "is_exists"),
    Refusal("master-missing", SetLink("veth1", master="nope"), errno.ENODEV, "is_not_found"),
    Refusal("delete-missing", DeleteLink("nope"), errno.ENODEV, "is_not_found"),
    Refusal("delete-loopback", DeleteLink("lo"), errno.EOPNOTSUPP, "is_unsupported"),
    Refusal("address-exists", AddAddress("cni0", ip_interface("10.244.1.1/24")), errno.EEXIST, "is_exists"),
    Refusal("address-no-link", AddAddress("nope", ip_interface("10.0.0.1/24")), errno.ENODEV, "is_not_found"),
    Refusal("address-missing", DeleteAddress("cni0", ip_interface("10.9.9.9/24")), errno.EADDRNOTAVAIL, "is_not_found"),
    Refusal("route-missing", DeleteRoute(Route(ip_network("10.9.0.0/16"))), errno.ESRCH, "is_not_found"),
    Refusal(
        "route-other-link",
        DeleteRoute(Route(ip_network("10.244.1.0/24"), gateway=ip_address("10.244.1.9"))),
        errno.ESRCH,
        "is_not_found",
    ),
    Refusal(
        "route-unreachable",
        ReplaceRoute(Route(ip_network("10.9.0.0/16"), gateway=ip_address("172.16.0.1"))),
        errno.ENETUNREACH,
        "",
    ),
    Refusal("route-no-link", ReplaceRoute(Route(ip_network("10.9.0.0/16"), "nope")), errno.ENODEV, "is_not_found"),
    Refusal(
        "neighbour-missing",
        DeleteNeighbour(Neighbour("cni0", ip_address("10.244.1.7"), "02:00:00:00:00:07")),
        errno.ENOENT,
        "is_not_found",
    ),
    Refusal(
        "fdb-missing",
        DeleteFdb(FdbEntry("flannel.1", "02:00:00:00:00:07", ip_address("192.168.0.7"))),
        errno.ENOENT,
        "is_not_found",
    ),
    Refusal("vxlan-exists", AddVxlan("flannel.2", 1, ip_address("10.244.1.1"), "cni0"), errno.EEXIST, "is_exists"),
    Refusal("vxlan-no-device", AddVxlan("v", 2, ip_address("10.244.1.1"), "nope"), errno.ENODEV, "is_not_found"),
    Refusal("sysctl-missing", SetSysctl("net.ipv4.no_such_thing", "1"), errno.ENOENT, "is_not_found"),
    Refusal("no-limit-to-remove", LimitRate("veth1", 0), errno.ENOENT, "is_not_found"),
]


@pytest.mark.parametrize("case", REFUSALS, ids=lambda case: case.id)
def test_refusal_carries_errno_and_operation_and_stops_the_batch(world: World, case: Refusal) -> None:
    plug_pod(world)
    world.kernel.apply(world.a, [AddVxlan("flannel.1", 1, ip_address("10.244.1.1"), "cni0")])
    error = refused(world, world.a, AddBridge("before"), case.op, AddBridge("after"))
    assert error.errno == case.code, error
    assert error.op == case.op
    assert type(case.op).__name__ in str(error)
    if case.property:
        assert getattr(error, case.property)
    state = world.kernel.observe(world.a)
    assert state.link("before") is not None
    assert state.link("after") is None


def test_missing_namespace_is_not_found(world: World) -> None:
    assert refused(world, "/nowhere/netns", AddBridge("b")).is_not_found
    with pytest.raises(KernelError) as caught:
        world.kernel.observe("/nowhere/netns")
    assert caught.value.is_not_found


def test_set_link_changes_only_what_is_given(world: World) -> None:
    plug_pod(world)
    before = world.kernel.observe(world.a).link("veth1")
    world.kernel.apply(world.a, [SetLink("veth1", alias="pod default/web-0")])
    after = world.kernel.observe(world.a).link("veth1")
    assert before
    assert after
    assert (before.alias, after.alias) == ("", "pod default/web-0")
    assert (after.mac, after.mtu, after.up, after.master, after.hairpin) == (
        before.mac,
        before.mtu,
        before.up,
        before.master,
        before.hairpin,
    )


def test_set_link_mac_mtu_hairpin_and_master(world: World) -> None:
    plug_pod(world)
    world.kernel.apply(world.a, [SetLink("veth1", mac="02:00:00:00:00:99", mtu=1400, hairpin=False)])
    link = world.kernel.observe(world.a).link("veth1")
    assert link
    assert (link.mac, link.mtu, link.hairpin, link.master) == ("02:00:00:00:00:99", 1400, False, "cni0")
    world.kernel.apply(world.a, [SetLink("veth1", master="")])
    link = world.kernel.observe(world.a).link("veth1")
    assert link
    assert (link.master, link.port_state) == ("", "")


def test_link_moves_and_takes_a_new_name(world: World) -> None:
    world.kernel.apply(world.a, [AddVeth("x", "y"), SetLink("y", netns=world.b, rename="eth7")])
    assert world.kernel.observe(world.a).link("y") is None
    moved, near = world.kernel.observe(world.b).link("eth7"), world.kernel.observe(world.a).link("x")
    assert moved
    assert near
    assert moved.peer_index == near.index


def test_rename(world: World) -> None:
    world.kernel.apply(world.a, [AddVeth("x", "y", up=False), SetLink("x", rename="z")])
    state = world.kernel.observe(world.a)
    assert state.link("x") is None
    assert state.link("z") is not None


def test_link_down_takes_its_routes_and_carrier(world: World) -> None:
    plug_pod(world)
    world.kernel.apply(world.b, [SetLink("eth0", up=False)])
    assert "0.0.0.0/0" not in routes(world, world.b)
    for _ in range(300):
        port = world.kernel.observe(world.a).link("veth1")
        assert port
        if port.operstate != "UP":
            break
        threading.Event().wait(0.01)
    assert port.operstate != "UP"
    error = refused(world, world.b, ReplaceRoute(Route(ip_network("10.9.0.0/16"), "eth0")))
    assert error.errno == errno.ENETDOWN
    world.kernel.apply(world.b, [SetLink("eth0", up=True)])
    assert set(routes(world, world.b)) == {"10.244.1.0/24"}


def test_replace_route_replaces(world: World) -> None:
    plug_pod(world)
    for gateway in ("10.244.1.7", "10.244.1.8"):
        route = Route(ip_network("10.244.2.0/24"), gateway=ip_address(gateway))
        world.kernel.apply(world.b, [ReplaceRoute(route)])
    found = [r for r in world.kernel.observe(world.b).routes if r.destination == ip_network("10.244.2.0/24")]
    assert [(r.gateway, r.link) for r in found] == [(ip_address("10.244.1.8"), "eth0")]
    world.kernel.apply(world.b, [DeleteRoute(Route(ip_network("10.244.2.0/24")))])
    assert "10.244.2.0/24" not in routes(world, world.b)


def test_vxlan_peer_as_flannel_has_it(world: World) -> None:
    plug_pod(world)
    mac, vtep, base = "02:11:00:00:00:02", ip_address("192.168.100.12"), ip_address("10.244.2.0")
    neighbour, entry = Neighbour("flannel.1", base, mac), FdbEntry("flannel.1", mac, vtep)
    route = Route(ip_network("10.244.2.0/24"), "flannel.1", base, onlink=True)
    world.kernel.apply(
        world.a,
        [
            AddVxlan("flannel.1", 1, ip_address("10.244.1.1"), "cni0", mac="02:11:00:00:00:01", mtu=1400),
            AddAddress("flannel.1", ip_interface("10.244.1.0/32")),
            SetLink("flannel.1", up=True),
            ReplaceNeighbour(neighbour),
            ReplaceFdb(entry),
            ReplaceRoute(route),
        ],
    )
    state = world.kernel.observe(world.a)
    link = state.link("flannel.1")
    assert link
    assert link.vxlan
    assert (link.kind, link.mac, link.mtu, link.up) == ("vxlan", "02:11:00:00:00:01", 1400, True)
    assert (link.vxlan.vni, str(link.vxlan.local), link.vxlan.device) == (1, "10.244.1.1", "cni0")
    assert (link.vxlan.port, link.vxlan.learning) == (8472, False)
    assert state.neighbours == (neighbour,)
    assert state.fdb == (entry,)
    assert route in state.routes
    elsewhere = FdbEntry("flannel.1", mac, ip_address("192.168.100.13"))
    world.kernel.apply(world.a, [ReplaceFdb(elsewhere)])
    assert world.kernel.observe(world.a).fdb == (elsewhere,)
    world.kernel.apply(world.a, [DeleteRoute(route), DeleteFdb(elsewhere), DeleteNeighbour(neighbour)])
    state = world.kernel.observe(world.a)
    assert (state.neighbours, state.fdb) == ((), ())


def test_flood_entries_of_a_vxlan_add_up(world: World) -> None:
    plug_pod(world)
    zero = "00:00:00:00:00:00"
    entries = [FdbEntry("vx", zero, ip_address(f"192.168.100.{n}")) for n in (11, 12)]
    vxlan = AddVxlan("vx", 7, ip_address("10.244.1.1"), "cni0")
    world.kernel.apply(world.a, [vxlan, *(ReplaceFdb(entry) for entry in entries)])
    assert set(world.kernel.observe(world.a).fdb) == set(entries)
    world.kernel.apply(world.a, [DeleteFdb(entries[0])])
    assert world.kernel.observe(world.a).fdb == (entries[1],)


def test_deleting_a_link_takes_everything_on_it(world: World) -> None:
    plug_pod(world)
    vxlan = AddVxlan("vx", 7, ip_address("10.244.1.1"), "cni0")
    mac = "02:11:00:00:00:02"
    world.kernel.apply(
        world.a,
        [
            vxlan,
            SetLink("vx", up=True),
            ReplaceFdb(FdbEntry("vx", mac, ip_address("192.168.0.1"))),
            ReplaceNeighbour(Neighbour("vx", ip_address("10.0.0.1"), mac)),
            DeleteLink("vx"),
        ],
    )
    state = world.kernel.observe(world.a)
    assert (state.fdb, state.neighbours) == ((), ())


def test_ipv6_address_and_route(world: World) -> None:
    plug_pod(world)
    route = Route(ip_network("fd00:2::/64"), "eth0", ip_address("fd00:1::1"))
    world.kernel.apply(world.b, [AddAddress("eth0", ip_interface("fd00:1::2/64")), ReplaceRoute(route)])
    state = world.kernel.observe(world.b)
    assert ("eth0", ip_interface("fd00:1::2/64")) in state.addresses
    assert route in state.routes
    world.kernel.apply(world.b, [DeleteAddress("eth0", ip_interface("fd00:1::2/64"))])
    assert ("eth0", ip_interface("fd00:1::2/64")) not in world.kernel.observe(world.b).addresses


def test_sysctls_belong_to_the_namespace(world: World) -> None:
    world.kernel.apply(world.a, [SetSysctl("net.ipv4.ip_forward", "1")])
    assert world.kernel.sysctl(world.a, "net.ipv4.ip_forward") == "1"
    assert world.kernel.sysctl(world.b, "net.ipv4.ip_forward") == "0"
    with pytest.raises(KernelError) as caught:
        world.kernel.sysctl(world.a, "net.ipv4.no_such_thing")
    assert caught.value.is_not_found


def test_sysctl_of_an_interface_with_a_dot(world: World) -> None:
    plug_pod(world)
    vxlan = AddVxlan("flannel.1", 1, ip_address("10.244.1.1"), "cni0")
    key = "net.ipv6.conf.flannel.1.accept_ra"
    world.kernel.apply(world.a, [vxlan, SetSysctl(key, "0")])
    assert world.kernel.sysctl(world.a, key) == "0"
    assert world.kernel.sysctl(world.a, "net.ipv6.conf.cni0.accept_ra") == "1"


def test_rate_limit_can_be_set_changed_and_removed(world: World) -> None:
    plug_pod(world)
    world.kernel.apply(world.a, [LimitRate("veth1", 10_000_000), LimitRate("veth1", 100_000_000)])
    world.kernel.apply(world.a, [LimitRate("veth1", 0)])
    assert refused(world, world.a, LimitRate("veth1", 0)).is_not_found


def test_nft_scripts_run_in_their_namespace(world: World) -> None:
    assert world.kernel.nft(world.a, "add table ip podnet") == ""
    world.kernel.nft(world.a, "add chain ip podnet c")


def test_deleting_a_namespace_deletes_the_peers_of_its_links(world: World) -> None:
    plug_pod(world)
    world.kernel.nft(world.b, "add table ip t")
    world.delete(world.b)
    for _ in itertools.takewhile(lambda n: n < 500, itertools.count()):
        # The kernel takes a namespace down in a worker of its own, soon after its last user let go.
        if world.kernel.observe(world.a).link("veth1") is None:
            break
        threading.Event().wait(0.01)
    assert world.kernel.observe(world.a).link("veth1") is None
