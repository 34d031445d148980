"""What the boot says and does about the cluster's DNS."""

from __future__ import annotations

import asyncio
import socket

import pytest

from podnet import boot
from podnet.boot import DNSCheck, pods_in_words
from podnet.controlplane.api.errors import StatusError
from podnet.dns import wire
from podnet.dns.message import REFUSED, reply
from podnet.dns.records.rendering import render_address


def pod(name, phase="Pending", waiting="", condition=""):
    status = {"phase": phase}
    if waiting:
        status["containerStatuses"] = [{"state": {"waiting": {"reason": waiting}}}]
    if condition:
        status["conditions"] = [{"type": "PodScheduled", "status": "False", "message": condition}]
    return {"metadata": {"name": name}, "status": status}


def test_pods_say_what_they_wait_for():
    pods = [pod("a", waiting="CrashLoopBackOff"), pod("b", condition="0/1 nodes are available"), pod("c", "Running")]
    assert pods_in_words(pods) == "a Pending: CrashLoopBackOff; b Pending: 0/1 nodes are available; c Running"
    assert pods_in_words([]) == ""


class Client:
    """An API server that has some objects already."""

    def __init__(self, *existing):
        self.existing = existing
        self.created = []

    async def create(self, _resource, obj):
        if obj in self.existing:
            raise StatusError(409, "AlreadyExists", "there is one")
        self.created.append(obj)


async def test_only_what_is_missing_is_created():
    client = Client("b")
    await boot._create_missing(client, ((None, "a"), (None, "b"), (None, "c")))
    assert client.created == ["a", "c"]


@pytest.fixture
def dns_server():
    """A name server on loopback that refuses twice, then answers."""

    class Server(asyncio.DatagramProtocol):
        asked = 0

        def connection_made(self, transport):
            self.transport = transport

        def datagram_received(self, data, address):
            self.asked += 1
            asked = wire.decode(data)
            answers = (render_address(asked.question.name, "10.96.0.1", 5),) if self.asked > 2 else ()
            self.transport.sendto(wire.encode(reply(asked, 0 if answers else REFUSED, answers=answers)), address)

    return Server


async def test_the_name_is_asked_for_until_it_is_answered(dns_server, monkeypatch):
    loop = asyncio.get_running_loop()
    transport, server = await loop.create_datagram_endpoint(dns_server, local_addr=("127.0.0.1", 0))
    monkeypatch.setattr(boot, "DNS_PORT", transport.get_extra_info("sockname")[1])
    try:
        check = DNSCheck("kube-system", "coredns", "127.0.0.1", "kubernetes.default.svc.cluster.local")
        await boot._wait_name(check, loop.time() + 10)
    finally:
        transport.close()
    assert server.asked == 3


async def test_a_silent_name_server_is_named(monkeypatch):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        monkeypatch.setattr(boot, "DNS_PORT", sock.getsockname()[1])
        monkeypatch.setattr(boot, "DNS_TIMEOUT_S", 0.01)
        with pytest.raises(TimeoutError, match=r"127\.0\.0\.1 does not answer for a\.b"):
            await boot._wait_name(DNSCheck("n", "d", "127.0.0.1", "a.b"), 0.0)
