"""hostPorts on a real node: reached from outside, from the node, from 127.0.0.1 and from the pod itself."""

from __future__ import annotations

import contextlib
import ipaddress
import json
import re
import socket
import threading
import time

import pytest

from podnet.cni.portmap import PORTMAP_TYPE
from podnet.topology.kernel import AddAddress, AddVeth, ReplaceRoute, Route, SetLink
from podnet.topology.linux.conntrack import flows
from podnet.topology.linux.syscalls import in_netns

pytestmark = pytest.mark.kernel


class Answering:
    """A TCP and a UDP server in a namespace; both answer with a name and the client's address."""

    def __init__(self, netns, name, port=80):
        with in_netns(netns):
            self.tcp = socket.create_server(("0.0.0.0", port))
            self.udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            self.udp.bind(("0.0.0.0", port))
        self.name = name
        self.threads = [threading.Thread(target=work) for work in (self._serve_tcp, self._serve_udp)]
        for thread in self.threads:
            thread.start()

    def _serve_tcp(self):
        while True:
            try:
                connection, client = self.tcp.accept()
            except OSError:
                return
            with connection:
                connection.sendall(f"{self.name} {client[0]}".encode())

    def _serve_udp(self):
        while True:
            try:
                _, client = self.udp.recvfrom(99)
                if client is None:
                    return  # shut down
                self.udp.sendto(f"{self.name} {client[0]}".encode(), client)
            except OSError:
                return

    def close(self):
        for sock in (self.tcp, self.udp):
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
        for thread in self.threads:
            thread.join()
        self.tcp.close()
        self.udp.close()


def ask(netns, address, port, kind="tcp", source_port=0):
    with in_netns(netns):
        sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM if kind == "tcp" else socket.SOCK_DGRAM)
    with sock:
        sock.settimeout(2)
        sock.bind(("", source_port))
        sock.connect((address, port))
        if kind == "udp":
            sock.send(b"?")
        return sock.recv(99).decode()


def outside(node):
    """A host next to the node: 192.0.2.1 is the node's address there, 192.0.2.2 the host's."""
    host = node.new_netns("outside")
    kernel = node.kernel
    kernel.apply(node.netns, [AddVeth("out", "eth0", peer_netns=host)])
    kernel.apply(node.netns, [AddAddress("out", ipaddress.ip_interface("192.0.2.1/24")), SetLink("out", up=True)])
    kernel.apply(host, [AddAddress("eth0", ipaddress.ip_interface("192.0.2.2/24")), SetLink("eth0", up=True)])
    everywhere = ipaddress.ip_network("0.0.0.0/0")
    kernel.apply(host, [ReplaceRoute(Route(everywhere, "eth0", gateway=ipaddress.ip_address("192.0.2.1")))])
    return host


def table(node):
    return node.run("nft", "list", "table", "ip", "podnet-hostports").stdout


def open_port(node, container, netns, result, *mappings, verb="ADD"):
    runtime = {"portMappings": [*mappings]}
    program = node.paths.cni_bin_dir / PORTMAP_TYPE
    return node.ok(verb, container, netns, plugin=program, type=PORTMAP_TYPE, prevResult=result, runtimeConfig=runtime)


WEB = {"hostPort": 8080, "containerPort": 80, "protocol": "tcp"}
DNS = {"hostPort": 5353, "containerPort": 80, "protocol": "udp"}


@pytest.fixture
def web(node):
    netns = node.new_netns("web")
    result = node.ok("ADD", "web", netns)
    server = Answering(netns, "web")
    yield netns, result
    server.close()


def test_from_everywhere(node, web):
    netns, result = web
    host = outside(node)
    neighbour = node.new_netns("neighbour")
    node.ok("ADD", "neighbour", neighbour)
    assert open_port(node, "web", netns, result, WEB, DNS) == result
    assert ask(host, "192.0.2.1", 8080) == "web 192.0.2.2", "the client's address is kept"
    assert ask(host, "192.0.2.1", 5353, "udp") == "web 192.0.2.2"
    assert ask(node.netns, "192.0.2.1", 8080).startswith("web ")
    assert ask(node.netns, "127.0.0.1", 8080) == "web 10.244.1.1", "127.0.0.1 cannot be answered, the bridge can"
    assert ask(node.netns, "127.0.0.1", 5353, "udp") == "web 10.244.1.1"
    assert ask(neighbour, "192.0.2.1", 8080) == "web 10.244.1.3"
    assert ask(netns, "192.0.2.1", 8080) == "web 10.244.1.1", "a pod reaches itself"
    open_port(node, "web", netns, result, WEB, DNS, verb="CHECK")


def test_host_ip_limits_where_it_answers(node, web):
    netns, result = web
    host = outside(node)
    open_port(node, "web", netns, result, {**WEB, "hostIP": "127.0.0.1"})
    assert ask(node.netns, "127.0.0.1", 8080).startswith("web ")
    with pytest.raises(ConnectionRefusedError):
        ask(host, "192.0.2.1", 8080)


def test_the_same_port_with_another_protocol_or_address_is_another(node, web):
    netns, result = web
    other = node.new_netns("other")
    theirs = node.ok("ADD", "other", other)
    server = Answering(other, "other")
    host = outside(node)
    open_port(node, "web", netns, result, {**WEB, "hostIP": "192.0.2.1"})
    open_port(node, "other", other, theirs, {**WEB, "hostIP": "127.0.0.1"}, {**WEB, "protocol": "udp"})
    assert ask(host, "192.0.2.1", 8080).startswith("web ")
    assert ask(node.netns, "127.0.0.1", 8080).startswith("other ")
    assert ask(host, "192.0.2.1", 8080, "udp").startswith("other ")
    server.close()


def test_delete_leaves_no_rule_and_may_be_repeated(node, web):
    netns, result = web
    open_port(node, "web", netns, result, WEB, DNS)
    assert "comment" in table(node)
    for _ in range(2):
        node.ok("DEL", "web", netns, plugin=node.paths.cni_bin_dir / PORTMAP_TYPE, type=PORTMAP_TYPE)
    assert "elements" not in table(node)
    with pytest.raises(ConnectionRefusedError):
        ask(node.netns, "127.0.0.1", 8080)


def test_the_daemon_may_be_killed_between_add_and_delete(node, web):
    netns, result = web
    open_port(node, "web", netns, result, WEB)
    node.kill()
    node.ok("DEL", "web", netns, plugin=node.paths.cni_bin_dir / PORTMAP_TYPE, type=PORTMAP_TYPE)
    assert "elements" not in table(node)


def test_garbage_collection_closes_what_is_not_listed(node, web):
    netns, result = web
    open_port(node, "web", netns, result, WEB)
    program = node.paths.cni_bin_dir / PORTMAP_TYPE
    node.ok("GC", plugin=program, type=PORTMAP_TYPE, **{"cni.dev/valid-attachments": []})
    assert "elements" not in table(node)


def test_check_sees_a_rule_that_somebody_deleted(node, web):
    netns, result = web
    open_port(node, "web", netns, result, WEB)
    node.run("nft", "delete", "element", "ip", "podnet-hostports", "any", "{ tcp . 8080 }")
    program = node.paths.cni_bin_dir / PORTMAP_TYPE
    refused = node.refused(
        "CHECK",
        "web",
        netns,
        plugin=program,
        type=PORTMAP_TYPE,
        prevResult=result,
        runtimeConfig={"portMappings": [WEB]},
    )
    assert refused["code"] == 102
    assert "8080" in refused["msg"]


@pytest.mark.parametrize(
    "harm",
    [
        ("flush", "ruleset"),
        ("delete", "element", "ip", "podnet-hostports", "any", "{ tcp . 8080 }"),
        ("flush", "map", "ip", "podnet-hostports", "any"),
    ],
    ids=["everything", "one-port", "every-port"],
)
def test_a_rule_that_somebody_deleted_comes_back(node, web, harm):
    netns, result = web
    open_port(node, "web", netns, result, WEB)

    def rules():
        said = node.run("nft", "list", "table", "ip", "podnet-hostports").stdout
        return re.sub(r'comment "(written again|[^"]* eth0)"', "", said)

    before = rules()
    assert "8080" in before
    assert node.run("nft", *harm).returncode == 0
    assert rules() != before
    deadline = time.monotonic() + 30
    while rules() != before:
        assert time.monotonic() < deadline, rules()
        time.sleep(0.1)


def test_a_udp_client_that_keeps_its_port_meets_the_next_pod(node, web):
    netns, result = web
    host = outside(node)
    open_port(node, "web", netns, result, DNS)
    assert ask(host, "192.0.2.1", 5353, "udp", 12345).startswith("web ")
    assert any(flow.destination_port == 5353 for flow in flows(node.netns))
    node.ok("DEL", "web", netns, plugin=node.paths.cni_bin_dir / PORTMAP_TYPE, type=PORTMAP_TYPE)
    other = node.new_netns("other")
    theirs = node.ok("ADD", "other", other)
    server = Answering(other, "other")
    open_port(node, "other", other, theirs, DNS)
    assert ask(host, "192.0.2.1", 5353, "udp", 12345).startswith("other ")
    server.close()


def test_packets_from_outside_to_127_never_enter(node, web):
    netns, result = web
    host = outside(node)
    open_port(node, "web", netns, result, {**WEB, "hostIP": "127.0.0.1"})
    node.run("sysctl", "-w", "net.ipv4.conf.out.route_localnet=1", "net.ipv4.conf.all.route_localnet=1")
    node.run("ip", "route", "add", "127.0.0.1", "via", "192.0.2.1", "dev", "eth0", netns=host)
    node.run("ip", "link", "set", "lo", "down", netns=host)
    with pytest.raises(OSError):
        ask(host, "127.0.0.1", 8080)


def test_the_runtime_runs_both_plugins(node):
    conflist = json.loads((node.paths.cni_conf_dir / "10-podnet.conflist").read_text())
    assert [plugin["type"] for plugin in conflist["plugins"]] == ["podnet-bridge", PORTMAP_TYPE]
