"""A node, two pods on its bridge and a host outside, real packets, and the proxy's agent on the node."""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
import struct
import threading
from contextlib import suppress
from ipaddress import IPv4Address, IPv4Interface, IPv4Network

import pytest

from podnet.controlplane.api.resources import ENDPOINTSLICES, SERVICES
from podnet.controlplane.apiserver.local import LocalClient
from podnet.controlplane.apiserver.registry import Registry
from podnet.controlplane.store.memory import MemoryStore
from podnet.proxy.agent import TCP_BE_LIBERAL, ProxyConfig, run_proxy_agent
from podnet.topology.kernel import (
    AddAddress,
    AddBridge,
    AddVeth,
    KernelError,
    ReplaceRoute,
    Route,
    SetLink,
    SetSysctl,
)
from podnet.topology.linux.kernel import LinuxKernel
from podnet.topology.linux.syscalls import create_netns, delete_netns, in_netns
from podnet.topology.paths import NodePaths

pytestmark = pytest.mark.kernel

NODE_IP, CLIENT_IP, PODS = "192.168.100.11", "192.168.100.200", ("10.244.1.2", "10.244.1.3")
WEB, NOBODY, UNUSED, NODE_PORT = "10.96.0.50", "10.96.0.51", "10.96.99.99", 30080
NEEDS_IPTABLES = pytest.mark.skipif(
    shutil.which("iptables-restore") is None, reason="iptables is not installed: apt install iptables"
)
ANY = IPv4Network("0.0.0.0/0")


class Lab:
    """The namespaces, the servers in them and the agent."""

    def __init__(self, client, directory):
        self.client, self.directory, self.kernel = client, directory, LinuxKernel()
        self.namespaces, self.sockets, self.threads = [], [], []
        self.task = None
        self.node, self.outside = self._netns("node"), self._netns("outside")
        self.kernel.apply(
            self.node,
            [
                SetLink("lo", up=True),
                AddBridge("cni0"),
                AddAddress("cni0", IPv4Interface("10.244.1.1/24")),
                AddVeth("eth0", "eth0", self.outside),
                AddAddress("eth0", IPv4Interface(f"{NODE_IP}/24")),
                SetSysctl("net.ipv4.ip_forward", "1"),
            ],
        )
        self._address(self.outside, f"{CLIENT_IP}/24", NODE_IP)
        self.kernel.apply(self.node, [ReplaceRoute(Route(ANY, "eth0", gateway=IPv4Address(CLIENT_IP)))])
        self.pods = {ip: self._pod(n, ip) for n, ip in enumerate(PODS)}

    def _netns(self, name):
        path = str(self.directory / name)
        create_netns(path)
        self.namespaces.append(path)
        return path

    def _address(self, netns, address, gateway):
        own = [SetLink("lo", up=True), SetLink("eth0", up=True), AddAddress("eth0", IPv4Interface(address))]
        self.kernel.apply(netns, [*own, ReplaceRoute(Route(ANY, "eth0", gateway=IPv4Address(gateway)))])

    def _pod(self, number, ip):
        netns = self._netns(f"pod{number}")
        self.kernel.apply(self.node, [AddVeth(f"veth{number}", "eth0", netns, master="cni0", hairpin=True)])
        self._address(netns, f"{ip}/24", "10.244.1.1")
        self._serve(netns, ip)
        return netns

    def _serve(self, netns, ip):
        """TCP and UDP on 8080: every line is answered with the server's address and the client's."""
        with in_netns(netns):
            tcp = socket.create_server(("", 8080), backlog=64)
            udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        udp.bind(("", 8080))
        self.sockets += [tcp, udp]
        for target in (self._accept, self._echo):
            thread = threading.Thread(target=target, args=(tcp if target == self._accept else udp, ip), daemon=True)
            thread.start()
            self.threads.append(thread)

    def _accept(self, server, ip):
        with suppress(OSError):
            while True:
                connection, peer = server.accept()
                threading.Thread(target=self._talk, args=(connection, f"{ip} {peer[0]}\n"), daemon=True).start()

    @staticmethod
    def _talk(connection, answer):
        with connection, suppress(OSError):
            while connection.recv(100):
                connection.sendall(answer.encode())

    @staticmethod
    def _echo(server, ip):
        with suppress(OSError):
            # A socket that was shut down reads nothing from nobody.
            while (peer := server.recvfrom(100)[1]) is not None:
                server.sendto(f"{ip} {peer[0]}\n".encode(), peer)

    def connect(self, netns, ip, port=80, timeout_s=2.0):
        with in_netns(netns):
            sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        sock.settimeout(timeout_s)
        try:
            sock.connect((ip, port))
        except OSError:
            sock.close()
            raise
        return sock

    def ask(self, netns, ip, port=80, timeout_s=2.0):
        """Who answered, and whom did it see?"""
        with self.connect(netns, ip, port, timeout_s) as sock:
            return talk(sock)

    def start(self, mode="nftables"):
        config = ProxyConfig(
            "n1",
            NODE_IP,
            NodePaths(self.directory / "state", self.directory / "run"),
            mode=mode,
            healthz_port=0,
            metrics_port=0,
            check_interval_s=0.1,
            netns=self.node,
        )
        self.task = asyncio.create_task(run_proxy_agent(config, self.client, self.kernel))

    async def stop(self):
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)

    def table(self):
        try:
            return self.kernel.nft(self.node, "list table ip kube-proxy\n")
        except KernelError:
            return ""

    async def until(self, condition):
        async with asyncio.timeout(10):
            while not condition():
                await asyncio.sleep(0.02)

    async def serve(self, name, ip, endpoints, protocol="TCP", **spec):
        port = {"name": "p", "port": 80, "protocol": protocol, "targetPort": 8080, **spec.pop("port", {})}
        meta = {"name": name, "namespace": "default"}
        body = {"clusterIP": ip, "ports": [port], **spec}
        await self.client.create(ENDPOINTSLICES, slice_of(name, endpoints, protocol))
        await self.client.create(SERVICES, {"apiVersion": "v1", "kind": "Service", "metadata": meta, "spec": body})
        await self.until(lambda: f"default/{name}" in self.table())

    async def close(self):
        if self.task is not None:
            await self.stop()
        for sock in self.sockets:
            with suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
            sock.close()
        await asyncio.to_thread(lambda: [thread.join(3) for thread in self.threads])
        for path in self.namespaces:
            self.kernel.forget(path)
            delete_netns(path)
        self.kernel.close()


def talk(sock):
    sock.sendall(b"?\n")
    return tuple(sock.recv(100).decode().split())


def slice_of(name, endpoints, protocol="TCP"):
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {"name": name, "namespace": "default", "labels": {"kubernetes.io/service-name": name}},
        "addressType": "IPv4",
        "ports": [{"name": "p", "port": 8080, "protocol": protocol}],
        "endpoints": [{"addresses": [ip], "nodeName": "n1", "conditions": {"ready": True}} for ip in endpoints],
    }


@pytest.fixture
async def lab(tmp_path):
    if os.geteuid() != 0:
        pytest.skip("needs root, or uid 0 in a user namespace, to create network namespaces")
    store = MemoryStore()
    registry = Registry(store)
    await registry.start()
    client = LocalClient(registry)
    meta = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "default"}}
    with suppress(Exception):
        from podnet.controlplane.api.resources import NAMESPACES

        await client.create(NAMESPACES, meta)
    made = Lab(client, tmp_path)
    made.start()
    try:
        yield made
    finally:
        await made.close()
        await registry.stop()
        await store.close()


async def gather(lab, netns, *where, count=24):
    return [await asyncio.to_thread(lab.ask, netns, *where) for _ in range(count)]


async def test_everybody_reaches_every_endpoint(lab):
    await lab.serve("web", WEB, PODS, type="NodePort", port={"nodePort": NODE_PORT})
    pod = lab.pods[PODS[0]]
    answers = await gather(lab, pod, WEB)
    assert {server for server, _ in answers} == set(PODS)
    # Seen as itself by the other; as the node by itself.
    assert {seen for server, seen in answers if server != PODS[0]} == {PODS[0]}
    assert {seen for server, seen in answers if server == PODS[0]} == {"10.244.1.1"}
    for netns, where in ((lab.node, (WEB,)), (lab.node, (NODE_IP, NODE_PORT)), (lab.outside, (NODE_IP, NODE_PORT))):
        answers = await gather(lab, netns, *where)
        assert {server for server, _ in answers} == set(PODS)
        assert {seen for _, seen in answers} == {"10.244.1.1"}


async def test_external_local_keeps_the_clients_address(lab):
    port = {"nodePort": NODE_PORT}
    await lab.serve("web", WEB, PODS, type="NodePort", externalTrafficPolicy="Local", port=port)
    answers = await gather(lab, lab.outside, NODE_IP, NODE_PORT, count=4)
    assert {seen for _, seen in answers} == {CLIENT_IP}


async def test_refusals(lab):
    await lab.serve("nobody", NOBODY, ())
    await lab.serve("web", WEB, PODS)
    pod = lab.pods[PODS[0]]
    for netns in (pod, lab.node):
        for where in ((NOBODY, 80), (WEB, 81)):
            with pytest.raises(ConnectionRefusedError):
                await asyncio.to_thread(lab.ask, netns, *where)
    with pytest.raises(TimeoutError):
        await asyncio.to_thread(lab.ask, pod, UNUSED, 80, 0.3)


async def test_a_node_port_without_endpoints_refuses_and_one_without_local_ones_drops(lab):
    await lab.serve("nobody", NOBODY, (), type="NodePort", port={"nodePort": NODE_PORT})
    for netns in (lab.pods[PODS[0]], lab.node, lab.outside):
        with pytest.raises(ConnectionRefusedError):
            await asyncio.to_thread(lab.ask, netns, NODE_IP, NODE_PORT)
    elsewhere = {"externalTrafficPolicy": "Local", "port": {"nodePort": NODE_PORT + 1}}
    await lab.serve("web", WEB, (), type="NodePort", **elsewhere)
    remote = slice_of("web", PODS)
    for endpoint in remote["endpoints"]:
        endpoint["nodeName"] = "another"
    await lab.client.update(ENDPOINTSLICES, remote)
    await lab.until(lambda: "dnat ip to numgen" in lab.table())
    with pytest.raises(TimeoutError):
        await asyncio.to_thread(lab.ask, lab.outside, NODE_IP, NODE_PORT + 1, 0.3)
    for netns in (lab.pods[PODS[0]], lab.node):
        assert (await asyncio.to_thread(lab.ask, netns, NODE_IP, NODE_PORT + 1))[0] in PODS


async def test_established_connections_meet_no_rule(lab):
    """A rule that counts what comes by its hook counts the first packet of a connection, and that alone."""
    await lab.serve("web", WEB, PODS)
    await lab.stop()  # or it would take the rule out again
    lab.kernel.nft(lab.node, f"insert rule ip kube-proxy nat-prerouting ip daddr {WEB} counter\n")
    with await asyncio.to_thread(lab.connect, lab.outside, WEB) as sock:
        for _ in range(5):
            await asyncio.to_thread(talk, sock)
    assert f"ip daddr {WEB} counter packets 1 " in lab.table()


async def test_affinity_survives_a_new_agent(lab):
    await lab.serve("web", WEB, PODS, sessionAffinity="ClientIP")
    answers = await gather(lab, lab.outside, WEB, count=6)
    assert len({server for server, _ in answers}) == 1
    await lab.stop()
    lab.kernel.nft(lab.node, "flush chain ip kube-proxy services\n")
    lab.start()
    await lab.until(lambda: "vmap @service-ips" in lab.table())
    assert await gather(lab, lab.outside, WEB, count=6) == answers


async def test_rules_deleted_by_hand_come_back(lab):
    await lab.serve("web", WEB, PODS)
    whole = lab.table()
    chain = next(word for word in whole.split() if word.startswith("service-") and "default/web" in word)
    for script in (
        "delete table ip kube-proxy\n",
        "flush chain ip kube-proxy nat-prerouting\n",
        f"flush chain ip kube-proxy {chain}\n",
        f"delete element ip kube-proxy service-ips {{ {WEB} . tcp . 80 }}\n",
        "add rule ip kube-proxy services drop\n",
    ):
        lab.kernel.nft(lab.node, script)
        assert lab.table() != whole
        await lab.until(lambda: lab.table() == whole)


async def test_a_connection_outlives_agent_rules_and_endpoint(lab):
    await lab.serve("web", WEB, PODS)
    with await asyncio.to_thread(lab.connect, lab.outside, WEB) as sock:
        first = talk(sock)
        await lab.stop()
        lab.start()
        await lab.until(lambda: lab.task is not None and "default/web" in lab.table())
        assert await asyncio.to_thread(talk, sock) == first
        lab.kernel.nft(lab.node, "delete table ip kube-proxy\n")
        await lab.until(lambda: "default/web" in lab.table())
        assert await asyncio.to_thread(talk, sock) == first
        others = [ip for ip in PODS if ip != first[0]]
        await lab.client.update(ENDPOINTSLICES, slice_of("web", others))
        await lab.until(lambda: f"dnat to {others[0]}:8080" in lab.table())
        assert await asyncio.to_thread(talk, sock) == first
        assert {server for server, _ in await gather(lab, lab.outside, WEB, count=4)} == set(others)


async def test_a_udp_client_with_one_port_gets_the_next_endpoint(lab):
    await lab.serve("dns", WEB, PODS[:1], protocol="UDP")
    with in_netns(lab.outside):
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with sock:
        sock.settimeout(0.5)
        sock.bind(("", 12345))
        sock.connect((WEB, 80))
        assert (await asyncio.to_thread(talk, sock))[0] == PODS[0]
        await lab.client.update(ENDPOINTSLICES, slice_of("dns", PODS[1:], "UDP"))
        await lab.until(lambda: f"dnat to {PODS[1]}:8080" in lab.table())
        async with asyncio.timeout(5):
            while (await asyncio.to_thread(talk, sock))[0] != PODS[1]:
                await asyncio.sleep(0.05)


@pytest.mark.parametrize("mode", ["nftables", pytest.param("iptables", marks=NEEDS_IPTABLES)])
async def test_a_packet_outside_the_window_ends_no_connection(lab, mode):
    """Untranslated, it would come from an endpoint of which the client knows nothing, and be answered RST."""
    await lab.serve("web", WEB, PODS[1:])
    if mode == "iptables":
        await lab.stop()
        lab.start(mode)
        await lab.until(lambda: not lab.table())
    liberal = "1" if mode == "nftables" else "0"
    await lab.until(lambda: lab.kernel.sysctl(lab.node, TCP_BE_LIBERAL) == liberal)
    with in_netns(lab.pods[PODS[0]]):
        tap = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(0x0800))
    with in_netns(lab.pods[PODS[1]]):
        raw = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_TCP)
    with tap, raw, lab.connect(lab.pods[PODS[0]], WEB) as sock:
        assert await asyncio.to_thread(talk, sock) == (PODS[1], PODS[0])
        tap.settimeout(0.5)
        client = sock.getsockname()[1]
        for number in range(8):  # one of them might be within the window; hardly all
            raw.sendto(tcp_segment(PODS[1], PODS[0], 8080, client, number << 28), (PODS[0], 0))
        assert await asyncio.to_thread(talk, sock) == (PODS[1], PODS[0]), "the connection lives"
        assert PODS[1] not in await asyncio.to_thread(sources_of_tcp, tap)


def tcp_segment(source, destination, source_port, destination_port, sequence):
    """A TCP header with ACK and PSH and four bytes."""
    body = struct.pack("!HHIIBBHHH", source_port, destination_port, sequence, 1, 5 << 4, 0x18, 1024, 0, 0) + b"boom"
    pseudo = IPv4Address(source).packed + IPv4Address(destination).packed + struct.pack("!HH", 6, len(body))
    total = sum(struct.unpack(f"!{len(pseudo + body) // 2}H", pseudo + body))
    total = (total & 0xFFFF) + (total >> 16)
    return body[:16] + struct.pack("!H", ~(total + (total >> 16)) & 0xFFFF) + body[18:]


def sources_of_tcp(tap):
    """Who sent what arrived until nothing came for a moment."""
    found = set()
    with suppress(TimeoutError):
        while True:
            packet, place = tap.recvfrom(2048)
            if packet[9] == 6 and place[2] != socket.PACKET_OUTGOING:
                found.add(str(IPv4Address(packet[12:16])))
    return found


async def test_nothing_is_left_of_a_service(lab):
    await lab.until(lambda: "vmap @service-ips" in lab.table())
    before = lab.table()
    await lab.serve("web", WEB, PODS, sessionAffinity="ClientIP", type="NodePort", port={"nodePort": NODE_PORT})
    await lab.client.delete(SERVICES, "web", "default")
    await lab.until(lambda: lab.table() == before)
