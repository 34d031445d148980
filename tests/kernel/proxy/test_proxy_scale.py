"""2,000 Services and 1,000 endpoints in both modes. As an ordinary user too (tests/kernel/topology/test_ordinary_user.py),
whose netlink socket takes no transaction of that size."""

from __future__ import annotations

import shutil
import socket
import subprocess
import sys
from ipaddress import IPv4Address
from pathlib import Path

import pytest

from podnet.proxy.model import Endpoint, Model, ServicePort, compile_model
from podnet.proxy.modes import MODES, new_backend
from podnet.topology.kernel import SetLink
from podnet.topology.linux.kernel import LinuxKernel
from podnet.topology.linux.syscalls import create_netns, delete_netns, in_netns

sys.path.insert(0, str(Path(__file__).parents[2] / "unit" / "proxy"))

from proxy_objects import endpoint, facts, piece, service

pytestmark = pytest.mark.kernel

SERVICES = 2000
ENDPOINTS = 1000
CONNECTIONS = 200
FIRST = IPv4Address("10.244.4.1")


@pytest.fixture(params=MODES)
def node(request, tmp_path):
    """(mode, path of the namespace, kernel, its backend)."""
    if request.param == "iptables" and shutil.which("iptables-restore") is None:
        pytest.skip("iptables is not installed (apt install iptables)")
    path = str(tmp_path / "node")
    create_netns(path)
    kernel = LinuxKernel()
    yield request.param, path, kernel, new_backend(request.param, kernel, path)
    kernel.forget(path)
    kernel.close()
    delete_netns(path)


def many(count, behind=2):
    """Services of two endpoints."""
    ports = []
    for number in range(count):
        endpoints = tuple(Endpoint(FIRST + number % 1000 + each, 8080) for each in range(behind))
        cluster_ip = IPv4Address("10.96.0.10") + number
        ports.append(
            ServicePort("default", f"web-{number:04d}", "http", "TCP", cluster_ip, 80, cluster_endpoints=endpoints,
                        serving=endpoints, has_endpoints=True)
        )  # fmt: skip
    return Model(facts(), tuple(ports))


def test_thousands_of_services_are_loaded_changed_taken_over_and_removed(node):
    mode, path, kernel, backend = node
    whole = many(SERVICES)
    backend.sync(whole)
    assert backend.is_intact()
    changed = Model(whole.node, (*many(1, 1).ports, *whole.ports[1:-1]))
    backend.sync(changed)
    assert backend.is_intact()
    # The agent was killed and comes back.
    again = new_backend(mode, kernel, path)
    again.sync(changed)
    assert again.is_intact()
    again.sync(many(1))
    assert again.is_intact()
    again.invalidate()
    again.sync(many(1))
    assert again.is_intact()


def test_a_thousand_endpoints_are_loaded_and_used_alike(node):
    _mode, path, kernel, backend = node
    ips = [str(FIRST + number) for number in range(ENDPOINTS)]
    web = service("web", clusterIP="10.96.0.5")
    backend.sync(compile_model(facts(), [web], [piece(*map(endpoint, ips))]))
    assert backend.is_intact()
    kernel.apply(path, [SetLink("lo", up=True)])
    # Every endpoint is an address of this namespace, and one socket serves them all.
    for words in (
        ["route", "add", "local", "10.244.4.0/22", "dev", "lo"],
        ["address", "add", "10.244.0.1/32", "dev", "lo"],
        ["route", "add", "10.96.0.0/16", "dev", "lo", "src", "10.244.0.1"],
    ):
        with in_netns(path):
            subprocess.run(["ip", *words], check=True)
    hit = answering(path, CONNECTIONS)
    # Of 200 throws among 1,000, 150 different ones or fewer come once in 10^10 runs.
    assert len(hit) > 150
    assert hit <= set(ips)
    assert max(int(IPv4Address(ip)) for ip in hit) - min(int(IPv4Address(ip)) for ip in hit) > ENDPOINTS * 0.8
    gone = compile_model(facts(), [web], [piece(*map(endpoint, ips[:-1]))])
    backend.sync(gone)
    assert backend.is_intact()


def answering(path, connections):
    """The endpoints to which connections to the cluster IP went."""
    hit = set()
    with in_netns(path):
        server = socket.create_server(("", 8080), backlog=16)
    with server:
        for _ in range(connections):
            with in_netns(path):
                client = socket.create_connection(("10.96.0.5", 80), timeout=5)
            accepted, _ = server.accept()
            hit.add(accepted.getsockname()[0])
            accepted.close()
            client.close()
    return hit
