"""Interfaces of the underlay: their names, their MACs, and the operations that make a cable."""

from __future__ import annotations

import os
import subprocess
import sys
from ipaddress import IPv4Address, ip_interface, ip_network
from pathlib import Path

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
)
from podnet.topology.naming import port_name, trunk_name
from podnet.topology.node import Machine, UnderlayError
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
    assert port_name(long).startswith("a-very_")
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


def test_thousands_of_long_names_with_one_beginning_stay_distinct() -> None:
    names = {port_name(f"a-rather-long-worker-name-{n}") for n in range(5000)}
    assert len(names) == 5000


def test_a_missing_mnexec_is_said_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(UnderlayError, match=r"mnexec is not installed .*apt install mininet"):
        Machine.setup()


BLOCKED = """
import sys
class Block:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "distutils":
            raise ModuleNotFoundError(name)
for name in [name for name in sys.modules if name.startswith("distutils")]:
    del sys.modules[name]
sys.meta_path.insert(0, Block())
import importlib.util
real = importlib.util.find_spec
importlib.util.find_spec = lambda name, *rest: None if name == "distutils" else real(name, *rest)
from podnet.topology.mininet_modules import mininet
old = mininet.node.StrictVersion
print(old.__module__, old("1.9.3") < old("1.10"), old("3.1.0") < old("1.10"))
"""


def test_mininet_is_imported_where_python_has_no_distutils() -> None:
    root = Path(__file__).resolve().parents[3]
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", BLOCKED],
        env={**os.environ, "PYTHONPATH": str(root), "PYTHONSAFEPATH": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout == "podnet.topology.mininet_modules True False\n", done.stderr
