"""What labs are made of: checks, the decoding of captures, ping's output."""

from __future__ import annotations

import doctest

import pytest
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.l2 import ARP, Ether
from scapy.layers.vxlan import VXLAN

import podnet.addresses
import podnet.components
import podnet.lab.session
import podnet.targets
from podnet.capture import pcapng
from podnet.lab import Check, decode_capture, run_checks
from podnet.lab.checks import CheckFailed, exit_code
from podnet.lab.session import PingResult, parse_ping


def failing() -> str:
    raise CheckFailed("saw something else", "over there")


def test_checks_pass_fail_and_are_skipped_after_a_failure():
    shown = []
    results = run_checks(
        [
            Check("one", lambda: "fine"),
            Check("two", failing, needs=("one",)),
            Check("three", lambda: "never", needs=("two",)),
            Check("four", lambda: "fine", needs=("one",)),
        ],
        shown.append,
    )
    assert [(r.name, r.status) for r in results] == [
        ("one", "pass"),
        ("two", "fail"),
        ("three", "skip"),
        ("four", "pass"),
    ]
    assert (results[1].seen, results[1].look_at) == ("saw something else", "over there")
    assert shown == results
    assert exit_code(results) == 1


@pytest.mark.parametrize(
    ("statuses", "code"), [([], 2), ([lambda: "x"], 0), ([lambda: "x", failing], 1)], ids=["none", "all", "some"]
)
def test_exit_codes(statuses, code):
    assert exit_code(run_checks([Check(str(i), run) for i, run in enumerate(statuses)])) == code


def write_capture(path, packets):
    points = sorted({point for point, _, _ in packets})
    data = pcapng.section_header("test") + b"".join(pcapng.interface_description(p, "", 65535) for p in points)
    for point, time_ns, packet in packets:
        frame = bytes(packet)
        data += pcapng.enhanced_packet(points.index(point), time_ns, frame, len(frame))
    path.write_bytes(data)


def test_captures_decode_to_sightings_in_order_of_time(tmp_path):
    inner = Ether() / IP(src="10.244.1.2", dst="10.244.2.2", ttl=63) / ICMP(type=8, id=7, seq=1)
    outer = (
        Ether()
        / IP(src="192.168.100.11", dst="192.168.100.12")
        / UDP(sport=1, dport=8472)
        / VXLAN(vni=1, flags=8)
        / inner
    )
    path = tmp_path / "x.pcapng"
    write_capture(
        path,
        [
            ("node/worker-1:eth0", 2_000, outer),
            ("pod/a", 1_000, inner),
            ("pod/a", 500, Ether() / ARP()),
            ("pod/a", 3_000, Ether() / IP(src="1.1.1.1", dst="2.2.2.2") / TCP(sport=5, dport=80, flags="S")),
        ],
    )
    first, second, third = decode_capture(path)
    assert (first.point, first.outer, first.ttl, first.summary) == ("pod/a", None, 63, "echo-request id 7 seq 1")
    assert second.encapsulated
    assert second.outer == ("192.168.100.11", "192.168.100.12", 1)
    assert (second.source, second.destination) == ("10.244.1.2", "10.244.2.2")
    assert third.protocol == "tcp"
    assert "5 > 80 [S]" in third.summary


@pytest.mark.parametrize(
    ("text", "result"),
    [
        ("", PingResult(0, 0, 0, 0.0)),
        ("2 packets transmitted, 0 received, 100% packet loss, time 1ms", PingResult(2, 0, 0, 0.0)),
        (
            (
                "64 bytes from 1.2.3.4: icmp_seq=1 ttl=62 time=0.2 ms\n3 packets transmitted, 3 received, 0% packet loss\n"
                "rtt min/avg/max/mdev = 0.1/0.219/0.3/0.0 ms"
            ),
            PingResult(3, 3, 62, 0.219),
        ),
    ],
    ids=["nothing", "lost", "good"],
)
def test_ping_is_read(text, result):
    assert parse_ping(text) == result


@pytest.mark.parametrize(
    "module", [podnet.lab.session, podnet.targets, podnet.addresses, podnet.components], ids=lambda m: m.__name__
)
def test_examples_in_docstrings_are_true(module):
    result = doctest.testmod(module)
    assert result.attempted
    assert not result.failed


def test_without_scapy_a_lab_says_so_before_it_boots(monkeypatch):
    from podnet.lab.session import require_scapy
    from podnet.launch import ClusterError

    require_scapy()
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)
    with pytest.raises(ClusterError, match="scapy is not installed"):
        require_scapy()
