"""The pod network of a booted cluster: everybody reaches everybody, nobody translates an address, VXLAN is in between."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time

import pytest
from scapy.layers.inet import ICMP, IP
from scapy.layers.vxlan import VXLAN
from scapy.utils import PcapNgReader

REPLICAS, WORKERS = 20, 4


@pytest.fixture(scope="module")
def mesh(boot_cluster):
    """A cluster of four workers with a Deployment of twenty, rolled out; and its pods as name → (address, node)."""
    cluster = boot_cluster("--nodes", str(WORKERS))
    cluster.kubectl(
        "create", "deployment", "mesh", "--image=nicolaka/netshoot", f"--replicas={REPLICAS}", "--", "sleep", "infinity"
    )
    cluster.kubectl("rollout", "status", "deploy/mesh", "--timeout=120s")
    items = cluster.kubectl_json("get", "pods", "-l", "app=mesh")["items"]
    pods = {i["metadata"]["name"]: (i["status"]["podIP"], i["spec"]["nodeName"]) for i in items}
    yield cluster, pods
    cluster.down()


def capture_while(cluster, points, action, path, capture_filter="icmp or udp port 8472"):
    """Run `action` while capturing; the packets with their interface's name."""
    process = subprocess.Popen(
        [sys.executable, "-m", "podnet", "capture", "-c", cluster.name, *points, "-w", str(path), "-f", capture_filter],
        env=cluster.env,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        said = process.stderr.readline()
        assert said.startswith("capturing at"), said + process.stderr.read()
        action()
    finally:
        process.terminate()
        process.communicate(timeout=20)
    assert process.returncode == 0
    with PcapNgReader(str(path)) as reader:
        return list(reader)


def test_pods_are_spread_over_the_workers(mesh):
    _, pods = mesh
    assert len(pods) == REPLICAS
    per_node = [node for _, node in pods.values()]
    assert len(set(per_node)) == WORKERS
    assert max(per_node.count(n) for n in set(per_node)) - min(per_node.count(n) for n in set(per_node)) <= 1


def test_addresses_are_unique_and_of_the_nodes_cidr(mesh):
    cluster, pods = mesh
    addresses = [address for address, _ in pods.values()]
    assert len(set(addresses)) == REPLICAS
    cidrs = {n["metadata"]["name"]: n["spec"]["podCIDR"] for n in cluster.kubectl_json("get", "nodes")["items"]}
    assert all(address.rpartition(".")[0] == cidrs[node].rpartition(".")[0] for address, node in pods.values())


def test_every_pod_pings_every_other_without_nat(mesh, tmp_path):
    cluster, pods = mesh
    addresses = [address for address, _ in pods.values()]
    loop = "for ip in " + " ".join(addresses) + "; do ping -n -q -c 1 -W 2 $ip >/dev/null && echo $ip; done"

    def ping_all():
        for name in pods:
            reached = cluster.exec(f"pod/{name}", "sh", "-c", loop).stdout.split()
            assert sorted(reached) == sorted(addresses), f"from {name}"

    points = [f"pod/{name}" for name in pods]
    packets = capture_while(cluster, points, ping_all, tmp_path / "mesh.pcapng", "icmp")
    own = {f"pod/{name}": address for name, (address, _) in pods.items()}
    echoes = [p for p in packets if ICMP in p and p[ICMP].type in (0, 8)]
    assert len(echoes) >= 2 * REPLICAS * (REPLICAS - 1)
    for packet in echoes:
        assert packet[IP].src in addresses
        assert packet[IP].dst in addresses
        assert own[packet.sniffed_on] in (packet[IP].src, packet[IP].dst)


def test_the_underlay_carries_vxlan_with_the_right_addresses(mesh, tmp_path):
    cluster, pods = mesh
    (source, (source_ip, source_node)), (_, (target_ip, target_node)) = next(
        (a, b) for a in pods.items() for b in pods.items() if a[1][1] != b[1][1]
    )
    nodes = {n["name"]: n["ip"] for n in cluster.status()["nodes"]}
    path = tmp_path / "vxlan.pcapng"
    packets = capture_while(
        cluster,
        [f"node/{source_node}:eth0", f"node/{target_node}:eth0"],
        lambda: cluster.exec(f"pod/{source}", "ping", "-c", "3", "-i", "0.1", target_ip),
        path,
    )
    requests = [p for p in packets if VXLAN in p and ICMP in p[VXLAN] and p[VXLAN][ICMP].type == 8]
    assert len(requests) == 6  # three requests, seen at both nodes
    for packet in requests:
        assert (packet[IP].src, packet[IP].dst) == (nodes[source_node], nodes[target_node])
        assert packet[VXLAN].vni == 1
        assert (packet[VXLAN][IP].src, packet[VXLAN][IP].dst) == (source_ip, target_ip)
    if shutil.which("tshark"):
        command = ["tshark", "-r", str(path), "-d", "udp.port==8472,vxlan", "-Y", "vxlan && icmp.type==8", "-T", "json"]
        decoded = json.loads(subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout)
        assert len(decoded) == 6
        layers = decoded[0]["_source"]["layers"]
        assert layers["vxlan"]["vxlan.vni"] == "1"


def test_pods_and_nodes_reach_each_other_without_nat(mesh, tmp_path):
    cluster, pods = mesh
    nodes = {n["name"]: n["ip"] for n in cluster.status()["nodes"]}
    name, (address, home) = next(iter(pods.items()))
    for node, ip in nodes.items():
        packets = capture_while(
            cluster,
            [f"node/{node}:eth0", f"pod/{name}"],
            lambda node=node, ip=ip: (
                cluster.exec(f"pod/{name}", "ping", "-c", "1", "-W", "2", ip),
                cluster.exec(f"node/{node}", "ping", "-c", "1", "-W", "2", address),
            ),
            tmp_path / f"{node}.pcapng",
        )
        at_pod = {(p[IP].src, p[IP].dst) for p in packets if p.sniffed_on == f"pod/{name}" and ICMP in p}
        assert (address, ip) in at_pod
        if node != home:  # the request of a node comes from its VTEP or underlay address, never from a third one
            sources = {src for src, dst in at_pod if dst == address and src != ip}
            assert len(sources) <= 1


def test_the_outside_host_is_reached_masqueraded(mesh):
    cluster, pods = mesh
    client = next(h for h in cluster.status()["hosts"] if h["name"] == "client")
    name = next(iter(pods))
    assert cluster.exec(f"pod/{name}", "ping", "-c", "2", "-W", "2", client["ip"]).returncode == 0


def test_mtu_and_big_packets(mesh):
    cluster, pods = mesh
    (source, (_, node)) = next(iter(pods.items()))
    target = next(ip for ip, other in pods.values() if other != node)
    assert cluster.exec(f"pod/{source}", "cat", "/sys/class/net/eth0/mtu").stdout == "1450\n"
    assert cluster.exec(f"pod/{source}", "ping", "-c", "1", "-M", "do", "-s", "1422", target).returncode == 0
    assert (
        cluster.exec(f"pod/{source}", "ping", "-c", "1", "-M", "do", "-s", "1423", target, check=False).returncode != 0
    )


def test_one_neighbour_fdb_entry_and_route_a_peer(mesh):
    cluster, _ = mesh
    assert (
        len(
            cluster.exec(
                "node/worker-1", "ip", "neigh", "show", "dev", "flannel.1", "nud", "permanent"
            ).stdout.splitlines()
        )
        == WORKERS
    )
    assert (
        cluster.exec("node/worker-1", "bridge", "fdb", "show", "dev", "flannel.1").stdout.count("permanent") == WORKERS
    )
    assert len(cluster.exec("node/worker-1", "ip", "route", "show", "dev", "flannel.1").stdout.splitlines()) == WORKERS
    details = cluster.exec("node/worker-1", "ip", "-d", "link", "show", "flannel.1").stdout
    assert "vxlan id 1 " in details
    assert "nolearning" in details
    assert "dstport 8472" in details
    assert "mtu 1450" in details


def test_the_overlay_repairs_itself(mesh):
    cluster, pods = mesh
    name = next(n for n, (_, node) in pods.items() if node == "worker-1")
    target = next(ip for ip, node in pods.values() if node == "worker-2")
    cluster.exec("node/worker-1", "ip", "link", "delete", "flannel.1")
    cluster.wait(
        lambda: cluster.exec(f"pod/{name}", "ping", "-c", "1", "-W", "1", target, check=False).returncode == 0,
        "flannel.1 is made again",
        60,
    )


def test_a_changed_vtep_mac_converges(mesh):
    cluster, pods = mesh
    name = next(n for n, (_, node) in pods.items() if node == "worker-1")
    target = next(ip for ip, node in pods.values() if node == "worker-3")
    cluster.exec("node/worker-3", "ip", "link", "set", "flannel.1", "address", "02:aa:bb:cc:dd:ee")
    cluster.wait(
        lambda: cluster.exec(f"pod/{name}", "ping", "-c", "1", "-W", "1", target, check=False).returncode == 0,
        "peers and annotation agree again",
        60,
    )


def test_a_cut_link_is_felt_and_heals(mesh):
    cluster, pods = mesh
    name = next(n for n, (_, node) in pods.items() if node == "worker-1")
    target = next(ip for ip, node in pods.values() if node == "worker-4")
    ping = lambda: cluster.exec(f"pod/{name}", "ping", "-c", "1", "-W", "1", target, check=False).returncode  # noqa: E731
    assert ping() == 0
    cluster.podnet("link", "down", "worker-4", "s1", "-c", cluster.name)
    assert ping() != 0
    cluster.podnet("link", "up", "worker-4", "s1", "-c", cluster.name)
    cluster.wait(lambda: ping() == 0, "the link carries again")


@pytest.mark.parametrize(
    "component",
    [
        "kube-apiserver/control-plane",
        "kube-controller-manager/control-plane",
        "kube-scheduler/control-plane",
        "podnet-node/worker-1",
    ],
)
def test_killing_a_component_loses_nothing(mesh, component):
    cluster, _ = mesh
    before = {
        i["metadata"]["uid"]: i["status"]["podIP"]
        for i in cluster.kubectl_json("get", "pods", "-l", "app=mesh")["items"]
    }
    restarts = cluster.component(component)["restarts"]
    pid = cluster.component(component)["pid"]
    cluster.exec("switch/s1", "kill", "-9", str(pid))
    cluster.wait(
        lambda: (c := cluster.component(component))["restarts"] > restarts and c["state"] == "running",
        f"{component} is back",
    )
    name = f"after-{int(time.time() * 1000) % 100000}"
    cluster.wait(
        lambda: (
            cluster.kubectl("run", name, "--image=busybox", "--", "sleep", "infinity", check=False).returncode == 0
            or cluster.kubectl("get", "pod", name, check=False).returncode == 0
        ),
        "a pod can be created",
    )
    cluster.kubectl("wait", "--for=condition=Ready", f"pod/{name}", "--timeout=60s")
    after = {
        i["metadata"]["uid"]: i["status"]["podIP"]
        for i in cluster.kubectl_json("get", "pods", "-l", "app=mesh")["items"]
    }
    assert after == before
    statuses = cluster.kubectl_json("get", "pods", "-l", "app=mesh")["items"]
    assert all(s["restartCount"] == 0 for i in statuses for s in i["status"]["containerStatuses"])
    cluster.kubectl("delete", "pod", name, "--grace-period=0", "--force")
