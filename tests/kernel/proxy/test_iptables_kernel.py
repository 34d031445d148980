"""The iptables mode in a real namespace: the programs take its texts, damage is seen, and modes leave nothing to each other."""

from __future__ import annotations

import itertools
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from podnet.proxy.iptables.backend import IptablesBackend
from podnet.proxy.iptables.program import Iptables
from podnet.proxy.model import Model, compile_model
from podnet.proxy.nftables.backend import NftablesBackend
from podnet.topology.linux.kernel import LinuxKernel
from podnet.topology.linux.syscalls import create_netns, delete_netns, in_netns

sys.path.insert(0, str(Path(__file__).parents[2] / "unit" / "proxy"))

from proxy_objects import LOCAL, REMOTE, facts, model, piece, service

pytestmark = [
    pytest.mark.kernel,
    pytest.mark.skipif(shutil.which("iptables-restore") is None, reason="iptables is not installed"),
]
PROTOCOLS = ("TCP", "UDP", "SCTP")


class Counting(Iptables):
    """The real programs, counting listings."""

    def __init__(self) -> None:
        self.saves = 0

    def save(self, netns: str) -> str:
        self.saves += 1
        return super().save(netns)


class Node:
    """One namespace and short ways to ask it."""

    def __init__(self, path: str) -> None:
        self.path, self.kernel, self.program = path, LinuxKernel(), Counting()
        self.backend = IptablesBackend(self.kernel, path, self.program)

    def run(self, *argv: str) -> str:
        with in_netns(self.path):
            return subprocess.run(argv, check=True, text=True, capture_output=True).stdout


@pytest.fixture
def node(tmp_path):
    path = str(tmp_path / "node")
    create_netns(path)
    one = Node(path)
    yield one
    one.kernel.close()
    delete_netns(path)


def services(count: int, *endpoints: dict, **spec) -> Model:
    names = [f"s{number}" for number in range(count)]
    return model(
        [service(name, clusterIP=f"10.96.1.{number + 1}", **spec) for number, name in enumerate(names)],
        [piece(*endpoints, name=name) for name in names],
    )


def test_every_kind_of_service_is_taken_by_the_programs(node):
    ports = [{"name": "http", "port": 80, "protocol": protocol, "nodePort": 30080} for protocol in PROTOCOLS]
    behind = [{"name": "http", "port": 8080, "protocol": protocol} for protocol in PROTOCOLS]
    for external, internal, affinity, ranges, endpoints in itertools.product(
        ("Cluster", "Local"), ("Cluster", "Local"), ("None", "ClientIP"), ([], ["198.51.100.0/24"]), ([], [REMOTE], [LOCAL])
    ):  # fmt: skip
        one = service(
            type="LoadBalancer",
            ports=ports,
            externalTrafficPolicy=external,
            internalTrafficPolicy=internal,
            sessionAffinity=affinity,
            externalIPs=["203.0.113.1"],
            loadBalancerSourceRanges=ranges,
            ingress=[{"ip": "203.0.113.9"}],
        )
        node.backend.sync(compile_model(facts(), [one], [piece(*endpoints, ports=behind)]))
        assert node.backend.is_intact()


def test_our_own_changes_need_no_listing(node):
    if not node.program.is_nftables():
        pytest.skip("iptables is the legacy one, which has no generation number")
    node.backend.sync(services(3, LOCAL))
    assert node.backend.is_intact()
    seen = node.program.saves
    for change in (services(3, LOCAL, REMOTE), services(2, REMOTE, sessionAffinity="ClientIP"), services(2)):
        node.backend.sync(change)
        assert node.backend.is_intact()
    assert node.program.saves == seen
    assert "KUBE-SVC-" not in node.run("iptables-save")


@pytest.mark.parametrize(
    "damage",
    [
        ["-t", "nat", "-F", "KUBE-SERVICES"],
        ["-t", "nat", "-F", "PREROUTING"],
        ["-t", "filter", "-D", "KUBE-FORWARD", "1"],
        ["-t", "nat", "-N", "KUBE-SEP-AAAAAAAAAAAAAAAA"],
    ],
    ids=" ".join,
)
def test_damage_is_seen_and_mended(node, damage):
    node.backend.sync(services(2, LOCAL))
    assert node.backend.is_intact()
    before = [line for line in node.run("iptables-save").splitlines() if line.startswith("-A")]
    node.run("iptables", *damage)
    assert not node.backend.is_intact()
    node.backend.invalidate()
    node.backend.sync(services(2, LOCAL))
    assert node.backend.is_intact()
    assert [line for line in node.run("iptables-save").splitlines() if line.startswith("-A")] == before


def test_a_new_life_takes_over_and_others_rules_stay(node):
    node.run("iptables", "-N", "KUBE-NWPLCY-A")
    node.run("iptables", "-A", "FORWARD", "-m", "comment", "--comment", "jump -j KUBE-SERVICES", "-j", "KUBE-NWPLCY-A")
    foreign = [line for line in node.run("iptables-save").splitlines() if "NWPLCY" in line]
    node.backend.sync(services(3, LOCAL))
    again = IptablesBackend(node.kernel, node.path)
    again.sync(services(1, LOCAL))
    assert again.is_intact()
    listed = node.run("iptables-save")
    assert "default/s0:http" in listed
    assert "default/s2:http" not in listed
    again.cleanup()
    left = [line for line in node.run("iptables-save").splitlines() if line.startswith("-A") or "KUBE" in line]
    assert left == foreign
    assert node.kernel.sysctl(node.path, "net.ipv4.conf.all.route_localnet") == "0"


def test_a_change_of_mode_leaves_nothing_of_the_other(node):
    other = NftablesBackend(node.kernel, node.path)
    other.sync(services(2, LOCAL))
    node.backend.sync(services(2, LOCAL))
    other.cleanup()
    assert "kube-proxy" not in node.run("nft", "list", "tables")
    assert node.backend.is_intact()
    other.sync(services(2, LOCAL))
    node.backend.cleanup()
    assert "KUBE-" not in node.run("iptables-save")
    assert other.is_intact()
