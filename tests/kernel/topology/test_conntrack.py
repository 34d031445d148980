"""Tracked connections: what the kernel says, beside the conntrack tool."""

from __future__ import annotations

import re
import shutil
import socket
import subprocess
import time
from ipaddress import IPv4Address

import pytest

from podnet.topology.kernel import SetLink
from podnet.topology.linux import LinuxKernel
from podnet.topology.linux.conntrack import TCP, UDP, Flow, flows, forget_flows

pytestmark = pytest.mark.kernel

VIP, LOCAL = IPv4Address("127.0.0.5"), IPv4Address("127.0.0.1")
RULES = """
table ip t {
    chain output {
        type nat hook output priority -100;
        ip daddr 127.0.0.5 tcp dport 80 dnat to 127.0.0.1:8080
        ip daddr 127.0.0.5 udp dport 53 dnat to 127.0.0.1:5353
    }
}
"""


@pytest.fixture
def node(room: LinuxKernel) -> LinuxKernel:
    room.apply("", [SetLink("lo", up=True)])
    room.nft("", RULES)
    return room


def to_vip(protocol: int) -> list[Flow]:
    return [flow for flow in flows("") if flow.destination == VIP and flow.protocol == protocol]


@pytest.mark.usefixtures("node")
def test_a_translated_connection_from_its_beginning_to_its_end() -> None:
    with socket.create_server(("127.0.0.1", 8080)) as server, socket.create_connection((str(VIP), 80)) as client:
        accepted, _ = server.accept()
        (flow,) = to_vip(TCP)
        assert (flow.source, flow.source_port) == (LOCAL, client.getsockname()[1]) or flow.source == VIP
        assert (flow.destination_port, flow.reply_source, flow.reply_source_port) == (80, LOCAL, 8080)
        assert flow.reply_destination_port == client.getsockname()[1]
        assert flow.state == "ESTABLISHED"
        assert flow.timeout_s > 3600
        accepted.close()
    deadline = time.monotonic() + 10
    while to_vip(TCP)[0].state != "TIME_WAIT":
        assert time.monotonic() < deadline, to_vip(TCP)
        time.sleep(0.01)


@pytest.mark.usefixtures("node")
def test_udp_is_replied_or_not_and_may_be_forgotten() -> None:
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server,
    ):
        server.bind(("127.0.0.1", 5353))
        server.settimeout(5)
        client.settimeout(5)
        client.sendto(b"ask", (str(VIP), 53))
        _, sender = server.recvfrom(100)
        assert [flow.state for flow in to_vip(UDP)] == ["UNREPLIED"]
        server.sendto(b"answer", sender)
        client.recv(100)
        assert [flow.state for flow in to_vip(UDP)] == ["REPLIED"]
    assert forget_flows("", lambda flow: flow.protocol == TCP) == 0
    assert forget_flows("", lambda flow: flow.protocol == UDP) == 1
    assert to_vip(UDP) == []


@pytest.mark.usefixtures("node")
def test_the_conntrack_tool_sees_the_same() -> None:
    if shutil.which("conntrack") is None:
        pytest.skip("conntrack is not installed: apt install conntrack")
    with socket.create_server(("127.0.0.1", 8080)), socket.create_connection((str(VIP), 80)):
        said = subprocess.run(["conntrack", "-L", "-p", "tcp"], capture_output=True, text=True, check=True).stdout
        (line,) = [each for each in said.splitlines() if f"dst={VIP}" in each]
        (flow,) = to_vip(TCP)
    assert flow.state in line
    ends = re.findall(r"(src|dst|sport|dport)=(\S+)", line)
    assert [value for _, value in ends] == [
        str(value)
        for value in (
            flow.source,
            flow.destination,
            flow.source_port,
            flow.destination_port,
            flow.reply_source,
            flow.reply_destination,
            flow.reply_source_port,
            flow.reply_destination_port,
        )
    ]
