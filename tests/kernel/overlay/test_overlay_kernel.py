"""Namespaces as nodes on one bridge: the overlay carries, heals and leaves alone, seen on the wire."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import struct
import subprocess
from contextlib import contextmanager
from ipaddress import IPv4Address, IPv4Interface, IPv4Network

import pytest

from podnet.controlplane.api.resources import NODES
from podnet.controlplane.apiserver.local import LocalClient
from podnet.controlplane.apiserver.registry import Registry
from podnet.controlplane.store.memory import MemoryStore
from podnet.overlay.agent import OverlayConfig, run_overlay_agent
from podnet.topology.kernel import (
    AddAddress,
    AddBridge,
    AddVeth,
    DeleteFdb,
    DeleteLink,
    DeleteNeighbour,
    DeleteRoute,
    FdbEntry,
    Neighbour,
    ReplaceRoute,
    Route,
    SetLink,
    SetSysctl,
)
from podnet.topology.linux.kernel import LinuxKernel
from podnet.topology.linux.syscalls import create_netns, delete_netns, in_netns
from podnet.topology.paths import NodePaths

pytestmark = pytest.mark.kernel
DATA = "flannel.alpha.coreos.com/backend-data"
ETH_P_IP = 0x0800


class Wire:
    """A switch, nodes w1, w2, … each with one pod, and a host that is no node."""

    def __init__(self, client, directory, count):
        self.client, self.directory, self.kernel = client, directory, LinuxKernel()
        self.namespaces, self.tasks = [], {}
        self.switch = self.netns("switch")
        self.kernel.apply(self.switch, [AddBridge("br0")])
        self.client_host = self.host("client", "192.168.100.50/24")
        self.nodes = {n: self.host(f"w{n}", f"192.168.100.1{n}/24") for n in range(1, count + 1)}
        self.pods = {n: self.pod(n) for n in self.nodes}

    def netns(self, name):
        path = str(self.directory / name)
        create_netns(path)
        self.namespaces.append(path)
        return path

    def host(self, name, address):
        netns = self.netns(name)
        self.kernel.apply(self.switch, [AddVeth(f"p-{name}", "eth0", netns, 1500, master="br0")])
        self.kernel.apply(
            netns, [SetLink("lo", up=True), SetLink("eth0", up=True), AddAddress("eth0", IPv4Interface(address))]
        )
        return netns

    def pod(self, n):
        pod, node = self.netns(f"pod{n}"), self.nodes[n]
        gateway = IPv4Address(f"10.244.{n}.1")
        self.kernel.apply(
            node,
            [
                AddBridge("cni0", mtu=1450),
                AddAddress("cni0", IPv4Interface(f"{gateway}/24")),
                AddVeth("veth0", "eth0", pod, 1450, master="cni0", hairpin=True),
            ],
        )
        own = [SetLink("lo", up=True), SetLink("eth0", up=True), AddAddress("eth0", IPv4Interface(f"10.244.{n}.2/24"))]
        self.kernel.apply(pod, [*own, ReplaceRoute(Route(IPv4Network("0.0.0.0/0"), "eth0", gateway=gateway))])
        return pod

    def start(self, n, **fields):
        paths = NodePaths(self.directory / f"state{n}", self.directory / f"run{n}")
        config = OverlayConfig(
            f"w{n}", f"192.168.100.1{n}", paths, netns=self.nodes[n], resync_interval_s=0.2, **fields
        )
        self.tasks[n] = asyncio.create_task(run_overlay_agent(config, self.client, self.kernel))

    async def boot(self, **fields):
        for n in self.nodes:
            self.start(n, **fields)
            spec = {"podCIDR": f"10.244.{n}.0/24", "podCIDRs": [f"10.244.{n}.0/24"]}
            body = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": f"w{n}"}, "spec": spec}
            await self.client.create(NODES, body)
        await self.until(lambda: all(len(self.peers(n)) == len(self.nodes) - 1 for n in self.nodes))

    async def stop(self, n):
        task = self.tasks.pop(n)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    def state(self, n):
        return self.kernel.observe(self.nodes[n])

    def peers(self, n):
        pod_network = IPv4Network("10.244.0.0/16")
        return {r.destination for r in self.state(n).routes if r.gateway and r.destination.subnet_of(pod_network)}

    async def until(self, condition):
        async with asyncio.timeout(10):
            while not condition():
                await asyncio.sleep(0.02)

    async def ping(self, netns, address, size=56):
        with in_netns(netns):
            process = subprocess.Popen(  # noqa: ASYNC220 - started in the namespace, waited for in a thread
                ["ping", "-c1", "-W2", "-n", "-M", "do", "-s", str(size), address], stdout=subprocess.DEVNULL
            )
        return await asyncio.to_thread(process.wait) == 0

    async def close(self):
        for n in list(self.tasks):
            await self.stop(n)
        for path in self.namespaces:
            self.kernel.forget(path)
            delete_netns(path)
        self.kernel.close()


@pytest.fixture
async def cluster(tmp_path):
    if os.geteuid() != 0:
        pytest.skip("needs root, or uid 0 in a user namespace, to create network namespaces")
    store = MemoryStore()
    registry = Registry(store)
    await registry.start()
    made = []

    def make(count=2):
        made.append(Wire(LocalClient(registry), tmp_path, count))
        return made[0]

    try:
        yield make
    finally:
        for wire in made:
            await wire.close()
        await registry.stop()
        await store.close()


@contextmanager
def capture(netns, device):
    """Frames that pass a device, as a function that returns what came so far."""
    with in_netns(netns):
        sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
    try:
        sock.bind((device, 0))
        sock.setblocking(False)

        def frames():
            found = []
            while True:
                try:
                    found.append(sock.recv(65535))
                except BlockingIOError:
                    return found

        yield frames
    finally:
        sock.close()


def ipv4(frame):
    """(source, destination, protocol, payload) of an Ethernet frame with IPv4, else None."""
    if struct.unpack_from("!H", frame, 12)[0] != ETH_P_IP:
        return None
    packet = frame[14:]
    return IPv4Address(packet[12:16]), IPv4Address(packet[16:20]), packet[9], packet[(packet[0] & 15) * 4 :]


def vxlan(frame, port=8472):
    """(outer source, outer destination, VNI, inner frame) of a VXLAN packet, else None."""
    outer = ipv4(frame)
    if outer is None or outer[2] != 17 or struct.unpack_from("!H", outer[3], 2)[0] != port:
        return None
    return outer[0], outer[1], int.from_bytes(outer[3][12:15], "big"), outer[3][16:]


async def test_pods_of_two_nodes_reach_each_other_encapsulated_and_without_nat(cluster):
    wire = cluster()
    await wire.boot()
    with capture(wire.switch, "p-w1") as on_the_wire, capture(wire.pods[2], "eth0") as at_the_pod:
        assert await wire.ping(wire.pods[1], "10.244.2.2", size=1450 - 28)
        outer = [packet for frame in on_the_wire() if (packet := vxlan(frame))]
        inner = [packet for frame in at_the_pod() if (packet := ipv4(frame))]
    assert {(str(a), str(b), vni) for a, b, vni, _ in outer} == {
        ("192.168.100.11", "192.168.100.12", 1),
        ("192.168.100.12", "192.168.100.11", 1),
    }
    carried = {tuple(map(str, ipv4(frame)[:2])) for _, _, _, frame in outer}
    assert carried == {("10.244.1.2", "10.244.2.2"), ("10.244.2.2", "10.244.1.2")}
    assert {(str(a), str(b)) for a, b, _, _ in inner} == carried, "the receiver sees the sender's own address"


async def test_nodes_and_pods_reach_each_other_without_nat(cluster):
    wire = cluster()
    await wire.boot()
    with capture(wire.pods[2], "eth0") as at_the_pod:
        assert await wire.ping(wire.nodes[1], "10.244.2.2")
        sources = {str(packet[0]) for frame in at_the_pod() if (packet := ipv4(frame))}
    assert sources == {"10.244.1.0", "10.244.2.2"}, "a node's packets come from its VTEP"
    with capture(wire.nodes[2], "eth0") as at_the_node:
        assert await wire.ping(wire.pods[1], "192.168.100.12")
        packets = {(str(p[0]), str(p[1])) for frame in at_the_node() if (p := ipv4(frame)) and p[2] == 1}
    assert ("10.244.1.2", "192.168.100.12") in packets
    assert await wire.ping(wire.pods[1], "192.168.100.11")
    assert await wire.ping(wire.nodes[1], "10.244.1.2")


async def test_pods_reach_nodes_where_the_machine_filters_strictly_by_reverse_path(cluster):
    wire = cluster()
    for netns in wire.nodes.values():
        wire.kernel.apply(
            netns, [SetSysctl(f"net.ipv4.conf.{name}.rp_filter", "1") for name in ("all", "default", "eth0")]
        )
    await wire.boot()
    await wire.until(lambda: wire.kernel.sysctl(wire.nodes[2], "net.ipv4.conf.all.rp_filter") == "2")
    assert await wire.ping(wire.pods[1], "192.168.100.12")
    assert await wire.ping(wire.pods[1], "10.244.2.2")


async def test_the_world_outside_sees_the_nodes_address(cluster):
    wire = cluster()
    await wire.boot()
    with capture(wire.client_host, "eth0") as outside:
        assert await wire.ping(wire.pods[1], "192.168.100.50")
        sources = {str(packet[0]) for frame in outside() if (packet := ipv4(frame)) and packet[2] == 1}
    assert sources == {"192.168.100.11", "192.168.100.50"}


async def test_without_masquerade_pods_keep_their_address(cluster):
    wire = cluster()
    await wire.boot(masquerade=False)
    back = Route(IPv4Network("10.244.1.0/24"), "eth0", gateway=IPv4Address("192.168.100.11"))
    wire.kernel.apply(wire.client_host, [ReplaceRoute(back)])
    with capture(wire.client_host, "eth0") as outside:
        assert await wire.ping(wire.pods[1], "192.168.100.50")
        assert "10.244.1.2" in {str(packet[0]) for frame in outside() if (packet := ipv4(frame))}


def vtep(wire, n):
    return wire.state(n).link("flannel.1")


BREAKAGES = {
    "device": lambda w: [DeleteLink("flannel.1")],
    "down": lambda w: [SetLink("flannel.1", up=False)],
    "fdb": lambda w: [DeleteFdb(FdbEntry("flannel.1", vtep(w, 2).mac, IPv4Address("192.168.100.12")))],
    "neighbour": lambda w: [DeleteNeighbour(Neighbour("flannel.1", IPv4Address("10.244.2.0"), vtep(w, 2).mac))],
    "route": lambda w: [DeleteRoute(next(r for r in w.state(1).routes if r.link == "flannel.1"))],
    "mac": lambda w: [SetLink("flannel.1", mac="8e:00:00:00:00:66")],
    "mtu": lambda w: [SetLink("flannel.1", mtu=1300)],
}


@pytest.mark.parametrize("name", BREAKAGES)
async def test_what_is_broken_heals(cluster, name):
    wire = cluster()
    await wire.boot()
    whole = _shape(wire)
    wire.kernel.apply(wire.nodes[1], BREAKAGES[name](wire))
    assert _shape(wire) != whole
    await wire.until(lambda: _shape(wire) == whole)
    assert await wire.ping(wire.pods[1], "10.244.2.2")


@pytest.mark.parametrize("script", ["delete table ip podnet-masq\n", "flush chain ip podnet-masq postrouting\n"])
async def test_a_changed_nft_table_heals(cluster, script):
    wire = cluster()
    await wire.boot()

    def table():
        ruleset = wire.kernel.nft(wire.nodes[1], "list ruleset\n")
        return ruleset if "fully-random" in ruleset else ""

    await wire.until(table)
    whole = table()
    wire.kernel.nft(wire.nodes[1], script)
    assert not table()
    await wire.until(lambda: table() == whole)


def _shape(wire):
    state = wire.state(1)
    link = state.link("flannel.1")
    entries = [sorted(map(str, part)) for part in (state.routes, state.neighbours, state.fdb)]
    return (link and (link.mac, link.mtu, link.up, link.vxlan), entries)


async def test_nodes_that_come_go_and_change_their_mac(cluster):
    wire = cluster(3)
    await wire.boot()
    for source in (1, 2, 3):
        for target in {1, 2, 3} - {source}:
            assert await wire.ping(wire.pods[source], f"10.244.{target}.2")
    new = "8e:00:00:00:00:99"
    data = json.dumps({"VNI": 1, "VtepMAC": new})
    await wire.client.patch(NODES, "w2", "", {"metadata": {"annotations": {DATA: data}}})
    await wire.until(
        lambda: all(new in {entry.mac for entry in wire.state(n).fdb} for n in (1, 3)) and vtep(wire, 2).mac == new
    )
    assert len(wire.state(1).fdb) == len(wire.state(1).neighbours) == 2
    assert await wire.ping(wire.pods[1], "10.244.2.2")
    await wire.stop(3)
    await wire.client.delete(NODES, "w3")
    await wire.until(lambda: len(wire.peers(1)) == 1 and len(wire.state(1).fdb) == 1)
    assert await wire.ping(wire.pods[1], "10.244.2.2")


async def test_a_restarted_agent_changes_nothing(cluster):
    wire = cluster()
    await wire.boot()
    whole = _shape(wire)
    await wire.stop(1)
    assert await wire.ping(wire.pods[1], "10.244.2.2"), "the data path needs no agent"
    wire.start(1)
    await asyncio.sleep(0.3)
    assert _shape(wire) == whole


@pytest.mark.parametrize("mode", ["host-gw", "vxlan-cross-subnet"])
async def test_plain_routing_on_one_subnet(cluster, mode):
    wire = cluster()
    await wire.boot(mode=mode)
    with capture(wire.switch, "p-w1") as on_the_wire:
        assert await wire.ping(wire.pods[1], "10.244.2.2")
        frames = on_the_wire()
    assert not [frame for frame in frames if vxlan(frame)]
    assert ("10.244.1.2", "10.244.2.2") in {(str(p[0]), str(p[1])) for frame in frames if (p := ipv4(frame))}
