"""OpenFlow switches: packets pass, TCP too, flows are installed, and the controller may die."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from ipaddress import IPv4Address, ip_address, ip_interface

import pytest

from podnet.topology.kernel import AddAddress, AddVxlan, FdbEntry, Neighbour, ReplaceFdb, ReplaceNeighbour, SetLink
from podnet.topology.linux import LinuxKernel
from podnet.topology.linux import exec as linux_exec
from podnet.topology.linux.ethtool import tx_checksum
from podnet.topology.linux.syscalls import in_netns
from podnet.topology.node import Machine
from podnet.topology.spec import load_cluster_spec
from podnet.topology.underlay import Underlay

pytestmark = [
    pytest.mark.kernel,
    pytest.mark.skipif(
        shutil.which("ovs-vswitchd", path=os.environ.get("PATH", "") + ":/usr/sbin") is None,
        reason="Open vSwitch is not installed (apt install openvswitch-switch)",
    ),
    pytest.mark.skipif(importlib.util.find_spec("os_ken") is None, reason="os-ken is not installed (extra sdn)"),
]

SPEC = """
apiVersion: podnet.dev/v1alpha1
kind: Cluster
spec:
  nodes: [{name: cp, role: control-plane}, {name: w1}, {name: w2, switch: s3}]
  switches: [{name: s1, kind: openflow}, {name: s2}, {name: s3, kind: openflow}]
  links: [{endpoints: [s1, s2]}, {endpoints: [s2, s3]}, {endpoints: [client, s2]}]
"""
SERVER = "import socket; s=socket.create_server(('', 80)); print('up', flush=True); c,_=s.accept(); c.sendall(c.recv(9)*2000)"
CLIENT = "import socket,sys; c=socket.create_connection((sys.argv[1],80),5); c.sendall(b'123456789'); n=0\nwhile d:=c.recv(65536): n+=len(d)\nprint(n)"


@pytest.fixture
def underlay(room: LinuxKernel) -> Iterator[Underlay]:
    with Underlay(load_cluster_spec(SPEC), room) as built:
        yield built


def pings(underlay: Underlay, source: str, target: str) -> bool:
    machine = {**underlay.nodes, **underlay.hosts}[source]
    return machine.exec(["ping", "-c1", "-W2", "-q", target], timeout_s=10).returncode == 0


def fetched(client: Machine, server: Machine, address: str) -> str:
    """What a client printed that fetched 18,000 bytes by TCP."""
    streams = linux_exec.Streams(stdout=subprocess.PIPE)
    with linux_exec.start(server.pid, [sys.executable, "-c", SERVER], streams=streams) as process:
        try:
            assert process.stdout
            assert process.stdout.readline() == b"up\n"
            return client.exec([sys.executable, "-c", CLIENT, address], timeout_s=20).stdout
        finally:
            process.kill()


def test_ping_and_tcp_pass_and_flows_are_installed(underlay: Underlay, room: LinuxKernel) -> None:
    machines = underlay.machines()
    for machine in machines:
        for other in machines:
            assert pings(underlay, machine.name, other.ip), (machine.name, other.name)
        assert pings(underlay, machine.name, "192.168.100.1")
    w1, w2 = underlay.nodes["w1"], underlay.nodes["w2"]
    assert fetched(w1, w2, w2.ip) == "18000\n"
    learned = [flow for flow in underlay.flows() if flow.priority == 10]
    assert {flow.switch for flow in learned} == {"s1", "s3"}
    for _ in range(300):
        # Open vSwitch sums up its counters about twice a second.
        counted = [
            flow for flow in underlay.flows("s1") if "dl_src=02:00:c0:a8:64:0b" in flow.match and flow.packets > 3
        ]
        if counted:
            break
        threading.Event().wait(0.01)
    assert counted
    assert [flow.actions for flow in underlay.flows("s3") if flow.priority == 0] == ["CONTROLLER:65535"]
    if underlay.switches["s1"].userspace:
        assert not tx_checksum(w1.netns, "eth0")
        assert any("user space" in warning for warning in underlay.warnings)
    assert tx_checksum(underlay.hosts["client"].netns, "eth0"), "a Linux bridge needs nothing of the kind"


def test_vxlan_and_tcp_in_it_pass(underlay: Underlay, room: LinuxKernel) -> None:
    w1, w2 = underlay.nodes["w1"], underlay.nodes["w2"]
    for number, (node, other) in enumerate([(w1, w2), (w2, w1)], start=1):
        inner, mac = ip_address(f"10.9.0.{3 - number}"), f"02:11:00:00:00:0{3 - number}"
        room.apply(
            node.netns,
            [
                AddVxlan("vx", 1, node.address, "eth0", mac=f"02:11:00:00:00:0{number}", mtu=1450),
                AddAddress("vx", ip_interface(f"10.9.0.{number}/24")),
                SetLink("vx", up=True),
                ReplaceNeighbour(Neighbour("vx", inner, mac)),
                ReplaceFdb(FdbEntry("vx", mac, other.address)),
            ],
        )
    assert pings(underlay, "w1", "10.9.0.2")
    assert fetched(w1, w2, "10.9.0.2") == "18000\n"


def test_the_controller_answers_arp(underlay: Underlay) -> None:
    # Not tcpdump: as uid 0 of a user namespace it fails to give up privileges it does not have.
    with in_netns(underlay.nodes["cp"].netns):
        watcher = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x0806))
    with watcher:
        watcher.bind(("eth0", 0x0806))
        watcher.setblocking(False)
        assert pings(underlay, "w1", "192.168.100.12")
        neighbours = underlay.nodes["w1"].exec(["ip", "neigh", "show", "192.168.100.12"]).stdout
        assert "02:00:c0:a8:64:0c" in neighbours
        seen = []
        with contextlib.suppress(BlockingIOError):
            while True:
                seen.append(watcher.recv(100))
    asked = [
        IPv4Address(frame[38:42]) for frame in seen if frame[20:22] == b"\0\1" and frame[6:12].hex(":").endswith("0b")
    ]
    assert IPv4Address("192.168.100.12") not in asked, "nobody else saw the question"


def test_flows_survive_the_controller_and_it_can_be_restarted(underlay: Underlay) -> None:
    for _ in range(3):
        # The first request is flooded, the first reply and the second request install the flows.
        assert pings(underlay, "w1", "192.168.100.10")
    daemons = underlay.switches["s1"].daemons
    os.kill(daemons.pids()["controller"], signal.SIGKILL)
    for _ in range(200):
        if "controller" not in daemons.pids():
            break
        threading.Event().wait(0.01)
    assert set(daemons.pids()) == {"ovsdb-server", "ovs-vswitchd"}
    assert pings(underlay, "w1", "192.168.100.10"), "the installed flows go on"
    assert underlay.revive() == ["controller"]
    assert underlay.revive() == []
    for _ in range(400):
        if pings(underlay, "w2", "192.168.100.11"):
            break
        threading.Event().wait(0.01)
    assert pings(underlay, "w2", "192.168.100.11")


def test_the_switch_itself_comes_back_with_its_ports(underlay: Underlay) -> None:
    daemons = underlay.switches["s1"].daemons
    pid = daemons.pids()["ovs-vswitchd"]
    os.kill(pid, signal.SIGKILL)
    for _ in range(200):
        if "ovs-vswitchd" not in daemons.pids():
            break
        threading.Event().wait(0.01)
    assert underlay.revive() == ["ovs-vswitchd"]
    for _ in range(200):
        if pings(underlay, "w1", "192.168.100.12"):
            break
        threading.Event().wait(0.05)
    assert pings(underlay, "w2", "192.168.100.10")


def test_a_cut_cable_and_a_new_node(underlay: Underlay) -> None:
    assert pings(underlay, "w1", "192.168.100.12")
    underlay.set_link("w1", "s1", up=False)
    assert not pings(underlay, "w2", "192.168.100.11")
    underlay.set_link("w1", "s1", up=True)
    assert pings(underlay, "w2", "192.168.100.11")
    new = replace(underlay.spec.nodes[1], name="w3", ip=IPv4Address("192.168.100.33"))
    underlay.add_node(new)
    assert pings(underlay, "w2", "192.168.100.33")
    underlay.remove_node("w3")
    assert not pings(underlay, "w2", "192.168.100.33")


def test_nothing_stays_behind(room: LinuxKernel) -> None:
    underlay = Underlay(load_cluster_spec(SPEC), room)
    underlay.start()
    daemons = underlay.switches["s1"].daemons
    pids, directory = list(daemons.pids().values()), daemons.directory
    assert len(pids) == 3
    underlay.stop()
    assert not [pid for pid in pids if os.path.exists(f"/proc/{pid}")]
    assert not directory.exists()
    assert [link.name for link in room.observe("").links if link.name not in ("lo", "ovs-netdev")] == []
