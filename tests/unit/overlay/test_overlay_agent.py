"""The agent against the real registry in memory and fake kernels."""

from __future__ import annotations

import asyncio
import json
from ipaddress import IPv4Interface

import pytest

from podnet.controlplane.api.resources import NODES
from podnet.controlplane.apiserver.local import LocalClient
from podnet.controlplane.apiserver.registry import Registry
from podnet.controlplane.store.memory import MemoryStore
from podnet.overlay.agent import OverlayConfig, run_overlay_agent
from podnet.topology.fake import FakeKernel
from podnet.topology.kernel import AddAddress, AddVeth, DeleteLink, DeleteRoute, SetLink, SetSysctl
from podnet.topology.paths import NodePaths

PREFIX = "flannel.alpha.coreos.com/"


class Cluster:
    """Nodes are fake kernels; each may have an agent."""

    def __init__(self, client, directory):
        self.client = client
        self.directory = directory
        self.kernels = {}
        self.tasks = {}

    def paths(self, n):
        return NodePaths(self.directory / f"state{n}", self.directory / f"run{n}")

    def start(self, n, **fields):
        if n not in self.kernels:
            kernel = self.kernels[n] = FakeKernel()
            kernel.apply("", [AddVeth("eth0", "wire"), SetLink("eth0", up=True), SetLink("wire", up=True)])
            kernel.apply("", [AddAddress("eth0", IPv4Interface(f"192.168.100.{n}/24"))])
        config = OverlayConfig(
            f"w{n}", f"192.168.100.{n}", self.paths(n), resync_interval_s=0.05, min_interval_s=0.001, **fields
        )
        self.tasks[n] = asyncio.create_task(run_overlay_agent(config, self.client, self.kernels[n]))

    async def stop(self, n):
        task = self.tasks.pop(n)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    async def add_node(self, n, cidr=True):
        spec = {"podCIDR": f"10.244.{n}.0/24", "podCIDRs": [f"10.244.{n}.0/24"]} if cidr else {}
        await self.client.create(
            NODES, {"apiVersion": "v1", "kind": "Node", "metadata": {"name": f"w{n}"}, "spec": spec}
        )

    async def node(self, n):
        return await self.client.get(NODES, f"w{n}")

    def state(self, n):
        return self.kernels[n].observe("")

    def peers(self, n):
        return {str(route.destination) for route in self.state(n).routes if route.link == "flannel.1"}

    def script(self, n):
        written = [script for script in self.kernels[n].scripts("") if not script.startswith("list")]
        return written[-1] if written else ""

    def mac(self, n):
        link = self.state(n).link("flannel.1")
        return link.mac if link else ""


async def until(condition, what=""):
    async with asyncio.timeout(5):
        while True:
            value = condition()
            if asyncio.iscoroutine(value):
                value = await value
            if value:
                return value
            await asyncio.sleep(0.005)
    raise AssertionError(what)


@pytest.fixture
async def cluster(tmp_path):
    store = MemoryStore()
    registry = Registry(store)
    await registry.start()
    cluster = Cluster(LocalClient(registry), tmp_path)
    try:
        yield cluster
    finally:
        for n in list(cluster.tasks):
            await cluster.stop(n)
        await registry.stop()
        await store.close()


async def test_nodes_find_each_other(cluster):
    for n in (1, 2, 3):
        cluster.start(n)
        await cluster.add_node(n)
    await until(lambda: all(len(cluster.peers(n)) == 2 for n in (1, 2, 3)))
    node = await until(lambda: _with_condition(cluster, 1))
    assert node["metadata"]["annotations"][PREFIX + "public-ip"] == "192.168.100.1"
    assert cluster.paths(1).subnet_env.read_text().splitlines()[1] == "FLANNEL_SUBNET=10.244.1.1/24"
    assert cluster.kernels[1].sysctl("", "net.ipv4.ip_forward") == "1"
    assert "192.168.100.3" in cluster.script(1)
    assert {entry.mac for entry in cluster.state(1).fdb} == {cluster.mac(2), cluster.mac(3)}


async def _with_condition(cluster, n):
    node = await cluster.node(n)
    conditions = node.get("status", {}).get("conditions", [])
    return node if any(c["type"] == "NetworkUnavailable" and c["status"] == "False" for c in conditions) else None


async def test_nothing_happens_before_the_node_has_a_subnet(cluster):
    cluster.start(1)
    await cluster.add_node(1, cidr=False)
    await asyncio.sleep(0.1)
    assert cluster.state(1).link("flannel.1") is None
    assert not cluster.paths(1).subnet_env.exists()
    patch = {"spec": {"podCIDR": "10.244.1.0/24", "podCIDRs": ["10.244.1.0/24"]}}
    await cluster.client.patch(NODES, "w1", "", patch)
    await until(cluster.paths(1).subnet_env.exists)


async def test_a_node_that_goes_is_forgotten(cluster):
    for n in (1, 2):
        cluster.start(n)
        await cluster.add_node(n)
    await until(lambda: cluster.peers(1))
    await cluster.stop(2)
    await cluster.client.delete(NODES, "w2")
    await until(lambda: not cluster.peers(1))
    assert cluster.state(1).fdb == ()
    assert cluster.state(1).neighbours == ()


async def test_the_mac_outlives_the_agent_and_the_device(cluster):
    cluster.start(1)
    await cluster.add_node(1)
    mac = await until(lambda: cluster.mac(1))
    await until(lambda: _with_condition(cluster, 1))
    await cluster.stop(1)
    cluster.kernels[1].apply("", [DeleteLink("flannel.1")])
    cluster.start(1)
    assert await until(lambda: cluster.mac(1)) == mac


async def test_a_changed_mac_converges_everywhere(cluster):
    for n in (1, 2):
        cluster.start(n)
        await cluster.add_node(n)
    await until(lambda: cluster.peers(1) and cluster.peers(2))
    new = "8e:00:00:00:00:99"
    data = json.dumps({"VNI": 1, "VtepMAC": new})
    await cluster.client.patch(NODES, "w2", "", {"metadata": {"annotations": {PREFIX + "backend-data": data}}})
    await until(lambda: cluster.mac(2) == new)
    await until(lambda: [entry.mac for entry in cluster.state(1).fdb] == [new])
    assert [item.mac for item in cluster.state(1).neighbours] == [new]


async def test_what_somebody_deletes_comes_back(cluster):
    for n in (1, 2):
        cluster.start(n)
        await cluster.add_node(n)
    await until(lambda: cluster.peers(1))
    mac = cluster.mac(1)
    cluster.kernels[1].apply("", [DeleteRoute(next(r for r in cluster.state(1).routes if r.link == "flannel.1"))])
    await until(lambda: cluster.peers(1))
    cluster.kernels[1].apply("", [DeleteLink("flannel.1")])
    await until(lambda: cluster.peers(1) and cluster.state(1).fdb)
    assert cluster.mac(1) == mac


async def test_broken_annotations_of_a_peer_take_only_that_peer_out(cluster):
    for n in (1, 2, 3):
        cluster.start(n)
        await cluster.add_node(n)
    await until(lambda: len(cluster.peers(1)) == 2)
    await cluster.stop(2)
    await cluster.client.patch(NODES, "w2", "", {"metadata": {"annotations": {PREFIX + "backend-data": "{"}}})
    await until(lambda: cluster.peers(1) == {"10.244.3.0/24"})


@pytest.mark.parametrize(
    ("all_", "eth0", "expected"), [("0", "0", "0"), ("1", "0", "2"), ("0", "1", "2"), ("2", "1", "2")]
)
async def test_a_strict_reverse_path_filter_is_loosened(cluster, all_, eth0, expected):
    cluster.start(1)
    for name, value in (("all", all_), ("eth0", eth0)):
        cluster.kernels[1].apply("", [SetSysctl(f"net.ipv4.conf.{name}.rp_filter", value)])
    await cluster.add_node(1)
    await until(cluster.paths(1).subnet_env.exists)
    assert cluster.kernels[1].sysctl("", "net.ipv4.conf.all.rp_filter") == expected


@pytest.mark.parametrize(
    ("cidr", "ip", "same_mac"),
    [
        ("10.0.0.0/8", "192.168.100.9", False),
        ("172.16.0.0/24", "192.168.100.9", False),
        ("10.244.1.0/25", "192.168.100.9", False),
        ("10.244.9.0/24", "192.168.100.1", False),
        ("10.244.9.0/24", "192.168.100.9", True),
    ],
    ids=["the whole network and more", "another network", "our subnet", "our address", "our MAC"],
)
async def test_a_node_that_claims_too_much_is_left_out(cluster, cidr, ip, same_mac):
    for n in (1, 2):
        cluster.start(n)
        await cluster.add_node(n)
    await until(lambda: cluster.peers(1))
    data = json.dumps({"VNI": 1, "VtepMAC": cluster.mac(1) if same_mac else "8e:00:00:00:00:09"})
    notes = {"backend-type": "vxlan", "backend-data": data, "public-ip": ip}
    meta = {"name": "rogue", "annotations": {PREFIX + key: value for key, value in notes.items()}}
    spec = {"podCIDR": cidr, "podCIDRs": [cidr]}
    await cluster.client.create(NODES, {"apiVersion": "v1", "kind": "Node", "metadata": meta, "spec": spec})
    cluster.start(3)
    await cluster.add_node(3)
    await until(lambda: cluster.peers(1) == {"10.244.2.0/24", "10.244.3.0/24"})


async def test_host_gw(cluster):
    for n in (1, 2):
        cluster.start(n, mode="host-gw")
        await cluster.add_node(n)
    await until(lambda: any(str(r.gateway) == "192.168.100.2" for r in cluster.state(1).routes))
    assert cluster.state(1).link("flannel.1") is None
    await until(cluster.paths(1).subnet_env.exists)
    assert "FLANNEL_MTU=1500" in cluster.paths(1).subnet_env.read_text()


async def test_without_masquerade_the_table_is_removed(cluster):
    cluster.start(1, masquerade=False)
    await cluster.add_node(1)
    await until(lambda: cluster.script(1))
    assert "masquerade" not in cluster.script(1)
    await until(cluster.paths(1).subnet_env.exists)
    assert "FLANNEL_IPMASQ=false" in cluster.paths(1).subnet_env.read_text()


def test_an_unknown_mode_is_refused(tmp_path):
    with pytest.raises(ValueError, match="vxlan, vxlan-cross-subnet, host-gw"):
        OverlayConfig("w1", "192.168.100.1", NodePaths(tmp_path, tmp_path), mode="ipip")
