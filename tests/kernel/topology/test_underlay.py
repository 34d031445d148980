"""The underlay on the real kernel: machines reach each other, cables break and mend, nothing stays behind."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from dataclasses import dataclass, replace
from ipaddress import IPv4Address
from pathlib import Path

import pytest

from podnet.topology.doctor import run_doctor
from podnet.topology.kernel import AddBridge, KernelError
from podnet.topology.linux import LinuxKernel
from podnet.topology.linux.exec import Completed
from podnet.topology.node import UnderlayError
from podnet.topology.spec import LinkSpec, NodeSpec, default_cluster_spec, load_cluster_spec
from podnet.topology.underlay import Underlay

pytestmark = pytest.mark.kernel

HEAD = "apiVersion: podnet.dev/v1alpha1\nkind: Cluster\n"
LONG = "a-worker-with-a-very-long-name"


@pytest.fixture
def underlay(room: LinuxKernel, tmp_path: Path) -> Iterator[Underlay]:
    with Underlay(default_cluster_spec(), room, tmp_path) as built:
        yield built


def has_netem() -> bool:
    return next(row for row in run_doctor() if row.name == "kernel: netem").status == "ok"


@dataclass(frozen=True)
class Ping:
    """True when every packet came back; what ping said is in a failed assertion's text."""

    said: Completed

    def __bool__(self) -> bool:
        return self.said.returncode == 0


def pings(underlay: Underlay, source: str, target: str, count: int = 1) -> Ping:
    machines = {**underlay.nodes, **underlay.hosts}
    argv = ["ping", "-c", str(count), "-i", "0.02", "-W", "1", target]
    return Ping(machines[source].exec(argv, timeout_s=30))


def test_everybody_reaches_everybody_at_once(underlay: Underlay) -> None:
    machines = underlay.machines()
    assert [machine.name for machine in machines] == ["control-plane", "worker-1", "worker-2", "client"]
    for machine in machines:
        for other in machines:
            assert pings(underlay, machine.name, other.ip), (machine.name, other.name)


def test_machines_have_their_own_names_and_know_the_others(underlay: Underlay) -> None:
    assert underlay.nodes["worker-1"].exec(["hostname"]).stdout == "worker-1\n"
    assert underlay.hosts["client"].exec(["hostname"]).stdout == "client\n"
    assert pings(underlay, "client", "worker-2")
    assert os.uname().nodename not in {"worker-1", "client"}
    assert "worker-1" not in Path("/etc/hosts").read_text()


def test_each_machine_is_in_namespaces_of_its_own(underlay: Underlay) -> None:
    for kind in ("net", "mnt", "uts"):
        inodes = {os.stat(f"/proc/{machine.pid}/ns/{kind}").st_ino for machine in underlay.machines()}
        inodes.add(os.stat(f"/proc/thread-self/ns/{kind}").st_ino)
        assert len(inodes) == len(underlay.machines()) + 1, kind


def test_exec_has_streams_and_an_exit_code(underlay: Underlay) -> None:
    done = underlay.nodes["worker-1"].exec(["sh", "-c", "cat; echo err >&2; exit 7"], stdin="in")
    assert (done.returncode, done.stdout, done.stderr) == (7, "in", "err\n")


def test_nodes_are_ready_for_kubernetes(underlay: Underlay, room: LinuxKernel) -> None:
    node = underlay.nodes["worker-1"]
    assert room.sysctl(node.netns, "net.ipv4.ip_forward") == "1"
    assert room.sysctl(node.netns, "net.bridge.bridge-nf-call-iptables") == "1"
    assert room.sysctl("", "net.bridge.bridge-nf-call-iptables") == "0"
    state = room.observe(node.netns)
    routes = {str(route.destination): route for route in state.routes if route.destination.version == 4}
    assert str(routes["0.0.0.0/0"].gateway) == "192.168.100.1"
    eth0 = state.link("eth0")
    assert eth0
    assert (eth0.mac, eth0.mtu) == ("02:00:c0:a8:64:0b", 1500)
    assert (node.role, underlay.nodes["control-plane"].role) == ("worker", "control-plane")


def test_what_is_outside_is_unreachable_and_says_so(underlay: Underlay) -> None:
    done = underlay.nodes["worker-1"].exec(["ping", "-c1", "-W1", "203.0.113.9"])
    assert done.returncode == 1
    assert "From 192.168.100.1" in done.stdout


def test_a_cut_cable_is_a_lost_carrier_and_mends(underlay: Underlay, room: LinuxKernel) -> None:
    node = underlay.nodes["worker-1"]
    assert not underlay.set_link("worker-1", "s1", up=False).up
    for _ in range(300):
        # The kernel's link watch tells the other end within a second.
        eth0 = room.observe(node.netns).link("eth0")
        assert eth0
        if eth0.operstate != "UP":
            break
        threading.Event().wait(0.01)
    assert eth0.up
    assert eth0.operstate != "UP"
    assert not pings(underlay, "worker-2", node.ip)
    assert pings(underlay, "worker-2", underlay.hosts["client"].ip)
    # Whom nobody answered, worker-2 asks for once a second; that is ARP's pace and not the cable's.
    underlay.nodes["worker-2"].exec(["ip", "neigh", "flush", "dev", "eth0"])
    assert underlay.set_link("s1", "worker-1", up=True).up
    assert pings(underlay, "worker-2", node.ip)
    assert pings(underlay, "worker-1", "192.168.100.1"), "its default route is still there"


def test_mininet_sees_the_same_network(underlay: Underlay) -> None:
    worker = underlay.net.get("worker-1")
    assert worker is underlay.nodes["worker-1"]
    assert worker.IP() == "192.168.100.11"
    assert worker.cmd("hostname").strip() == "worker-1"
    out, err, code = worker.pexec(["sh", "-c", "hostname; exit 3"])
    assert (out, err, code) == ("worker-1\n", "", 3)
    assert underlay.net.ping([worker, underlay.net.get("client")]) == 0
    underlay.net.configLinkStatus("worker-1", "s1", "down")
    assert not underlay.link_state("worker-1", "s1").up
    underlay.net.configLinkStatus("worker-1", "s1", "up")
    assert underlay.link_state("worker-1", "s1").up
    assert underlay.net.get("s1").cmd("echo here").strip() == "here"


def test_rate_limits_both_directions(underlay: Underlay) -> None:
    state = underlay.set_link("worker-1", "s1", rate_bit_s=20_000_000)
    assert (state.rate_bit_s, state.a_interface, state.b_interface) == (20_000_000, "eth0", "worker-1")
    node = underlay.nodes["worker-1"]
    assert "rate 20Mbit" in node.exec(["tc", "qdisc", "show", "dev", "eth0"]).stdout
    assert "rate 20Mbit" in underlay.net.get("s1").cmd("tc qdisc show dev worker-1")
    assert pings(underlay, "worker-1", "worker-2")
    underlay.set_link("worker-1", "s1", rate_bit_s=0)
    assert "tbf" not in node.exec(["tc", "qdisc", "show", "dev", "eth0"]).stdout


def test_loss_is_partial_total_and_removable(underlay: Underlay) -> None:
    underlay.set_link("worker-1", "s1", loss_percent=30)
    argv = ["ping", "-c", "200", "-i", "0.002", "-W", "1", "-q", "worker-2"]
    out = underlay.nodes["worker-1"].exec(argv, timeout_s=60).stdout
    received = int(out.split(" received")[0].rsplit(" ", 1)[1])
    assert 20 <= received <= 180
    assert underlay.set_link("worker-1", "s1", loss_percent=100).loss_percent == 100
    assert not pings(underlay, "worker-1", "192.168.100.12")
    underlay.set_link("worker-1", "s1", loss_percent=0)
    assert pings(underlay, "worker-1", "192.168.100.12", count=20)
    assert underlay.nodes["worker-1"].exec(["nft", "list", "tables"]).stdout == ""


def test_delay_works_or_is_refused_with_the_reason(underlay: Underlay) -> None:
    if has_netem():
        assert underlay.set_link("worker-1", "s1", delay_ms=20).delay_ms == 20
        out = underlay.nodes["worker-1"].exec(["ping", "-c1", "192.168.100.12"]).stdout
        assert float(out.split("time=")[1].split()[0]) >= 40
        return
    with pytest.raises(UnderlayError, match="CONFIG_NET_SCH_NETEM"):
        underlay.set_link("worker-1", "s1", delay_ms=20)
    assert underlay.link_state("worker-1", "s1").delay_ms == 0
    assert pings(underlay, "worker-1", "worker-2")


@pytest.mark.parametrize(
    "change", [{"rate_bit_s": -1}, {"loss_percent": 101}, {"delay_ms": -0.1}, {"loss_percent": float("nan")}]
)
def test_impossible_changes_are_refused(underlay: Underlay, change: dict[str, float]) -> None:
    with pytest.raises(UnderlayError, match="must be"):
        underlay.set_link("worker-1", "s1", **change)  # type: ignore[arg-type]


def test_unknown_links_are_refused_with_the_known_ones(underlay: Underlay) -> None:
    with pytest.raises(UnderlayError, match=r"no link between 'worker-1' and 'worker-2'.*worker-1-s1"):
        underlay.set_link("worker-1", "worker-2", up=False)


def test_nodes_come_and_go(underlay: Underlay, room: LinuxKernel) -> None:
    spec = NodeSpec(LONG, "worker", IPv4Address("192.168.100.50"), "s1")
    node = underlay.add_node(spec, LinkSpec(LONG, "s1", rate_bit_s=50_000_000))
    assert len(node.port) <= 15
    assert pings(underlay, "client", LONG), "forwarding at once, and by name"
    assert underlay.spec.node(LONG) == spec
    assert underlay.link_state(LONG, "s1").rate_bit_s == 50_000_000
    alias = room.observe("").link(node.port)
    assert alias
    assert alias.alias == f"{LONG} eth0 on s1"
    netns = node.netns
    underlay.remove_node(LONG)
    assert room.observe("").link(node.port) is None
    assert underlay.spec.node(LONG) is None
    assert not os.path.exists(netns)
    assert LONG not in underlay.net
    assert underlay.add_node(spec).exec(["true"]).returncode == 0


def test_a_node_without_power_keeps_its_place_and_its_cables_shape(underlay: Underlay, room: LinuxKernel) -> None:
    underlay.set_link("worker-1", "s1", rate_bit_s=50_000_000)
    node = underlay.nodes["worker-1"]
    netns, order = node.netns, list(underlay.nodes)
    underlay.power_off("worker-1")
    assert room.observe("").link(node.port) is None
    assert not os.path.exists(netns)
    assert underlay.spec.node("worker-1") is not None
    assert [state.a for state in underlay.link_states() if not state.up] == ["worker-1"]
    with pytest.raises(UnderlayError, match="worker-1 is switched off"):
        underlay.set_link("worker-1", "s1", up=True)
    underlay.power_off("worker-1")
    back = underlay.power_on("worker-1")
    assert back.ip == node.ip
    assert list(underlay.nodes) == order
    assert pings(underlay, "client", "worker-1"), "forwarding at once, and by name"
    assert underlay.link_state("worker-1", "s1").rate_bit_s == 50_000_000
    with pytest.raises(UnderlayError, match="no node 'worker-1' that is switched off"):
        underlay.power_on("worker-1")


@pytest.mark.parametrize(
    ("name", "ip", "switch", "words"),
    [
        ("worker-1", "192.168.100.60", "s1", "name 'worker-1' is taken"),
        ("s1", "192.168.100.60", "s1", "name 's1' is taken"),
        ("new", "192.168.100.11", "s1", "address 192.168.100.11 is taken"),
        ("new", "192.168.100.1", "s1", "address 192.168.100.1 is taken"),
        ("new", "192.168.100.60", "s9", "no switch 's9'"),
    ],
)
def test_impossible_nodes_are_refused(underlay: Underlay, name: str, ip: str, switch: str, words: str) -> None:
    before = underlay.spec
    with pytest.raises(UnderlayError, match=words):
        underlay.add_node(NodeSpec(name, "worker", IPv4Address(ip), switch))
    assert underlay.spec == before
    with pytest.raises(UnderlayError, match="no node 'nobody'"):
        underlay.remove_node("nobody")


def test_interfaces_are_points_of_capture(underlay: Underlay, room: LinuxKernel) -> None:
    room.apply(underlay.nodes["worker-1"].netns, [AddBridge("cni0")])
    points = {interface.point: interface for interface in underlay.interfaces()}
    assert {
        "node/worker-1/eth0",
        "node/worker-1/cni0",
        "host/client/eth0",
        "switch/s1/s1",
        "switch/s1/worker-1",
    } <= set(points)
    for interface in points.values():
        link = room.observe(interface.netns).link(interface.ifname)
        assert link
        assert link.index == interface.index
    assert points["switch/s1/worker-1"].alias == "worker-1 eth0 on s1"


def test_switches_in_a_row(room: LinuxKernel) -> None:
    spec = load_cluster_spec(
        HEAD + "spec:\n  switches: [{name: s1}, {name: s2}, {name: s3}]\n"
        "  links:\n  - {endpoints: [s1, s2], rate: 100Mbit}\n  - {endpoints: [s2, s3]}\n"
        "  - {endpoints: [worker-2, s3]}\n"
    )
    with Underlay(spec, room) as underlay:
        assert pings(underlay, "worker-1", "192.168.100.12")
        assert underlay.link_state("s1", "s2").rate_bit_s == 100_000_000
        assert "switch/s2/s2_s1" in {interface.point for interface in underlay.interfaces()}
        underlay.set_link("s3", "s2", up=False)
        assert not pings(underlay, "worker-1", "192.168.100.12")
        assert pings(underlay, "worker-1", "192.168.100.10")
        underlay.set_link("s3", "s2", up=True)
        assert pings(underlay, "worker-1", "192.168.100.12")


def test_nothing_stays_behind_and_it_starts_again(room: LinuxKernel, tmp_path: Path) -> None:
    underlay = Underlay(default_cluster_spec(), room, tmp_path)
    for _ in range(2):
        assert underlay.start() > 0
        pids = [machine.pid for machine in underlay.machines()]
        underlay.stop()
        assert [link.name for link in room.observe("").links] == ["lo"]
        assert not [pid for pid in pids if os.path.exists(f"/proc/{pid}")]
        assert underlay.machines() == []
    underlay.stop()


def test_a_failed_start_leaves_nothing(room: LinuxKernel) -> None:
    class Refusing(LinuxKernel):
        """Refuses the third cable."""

        cables = 0

        def apply(self, netns, ops) -> None:  # type: ignore[no-untyped-def]
            if any(type(op).__name__ == "AddVeth" for op in ops):
                self.cables += 1
                if self.cables == 3:
                    raise KernelError("no more cables", 12)
            super().apply(netns, ops)

    underlay = Underlay(default_cluster_spec(), Refusing())
    with pytest.raises(UnderlayError, match="no more cables"):
        underlay.start()
    assert [link.name for link in room.observe("").links] == ["lo"]
    assert underlay.machines() == []


def test_it_refuses_a_namespace_that_is_in_use(room: LinuxKernel) -> None:
    room.apply("", [AddBridge("someone")])
    with pytest.raises(UnderlayError, match="namespace of its own; this one has someone"):
        Underlay(default_cluster_spec(), room).start()
    assert room.observe("").link("someone") is not None


def test_a_link_that_cannot_be_shaped_fails_the_start_clearly(room: LinuxKernel) -> None:
    spec = default_cluster_spec()
    links = tuple(replace(link, delay_ms=5.0) if link.a == "worker-1" else link for link in spec.links)
    underlay = Underlay(replace(spec, links=links), room)
    if has_netem():
        underlay.start()
        assert underlay.link_state("worker-1", "s1").delay_ms == 5
        underlay.stop()
        return
    with pytest.raises(UnderlayError, match="CONFIG_NET_SCH_NETEM"):
        underlay.start()
    assert [link.name for link in room.observe("").links] == ["lo"]
