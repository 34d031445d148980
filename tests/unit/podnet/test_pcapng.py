"""The capture file format, against a reader that nobody here wrote."""

from __future__ import annotations

import shutil
import struct
import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.inet import ICMP, IP
from scapy.layers.l2 import Ether
from scapy.utils import PcapNgReader

from podnet.capture import pcapng
from podnet.capture.filters import FilterError, compile_filter, parse_program

FRAME = bytes(Ether(src="02:00:00:00:00:01", dst="02:00:00:00:00:02") / IP(src="10.0.0.1", dst="10.0.0.2") / ICMP())
T0 = 1_700_000_000_123_456_789


def _file(packets) -> bytes:
    names = ("pod/a", "node/worker-1:flannel.1")
    head = pcapng.section_header("podnet") + b"".join(pcapng.interface_description(n, "d", 65535) for n in names)
    body = b"".join(pcapng.enhanced_packet(i, t, frame, len(frame), d) for i, t, frame, d in packets)
    return head + body + pcapng.interface_statistics(0, T0, len(packets), 0)


def _blocks(data: bytes):
    while data:
        kind, length = struct.unpack_from("<II", data)
        assert length % 4 == 0
        assert struct.unpack_from("<I", data, length - 4)[0] == length
        yield kind, data[8 : length - 4]
        data = data[length:]


def test_scapy_reads_what_was_written(tmp_path):
    path = tmp_path / "x.pcapng"
    path.write_bytes(_file([(0, T0, FRAME, 1), (1, T0 + 5, FRAME, 2)]))
    with PcapNgReader(str(path)) as reader:
        packets = list(reader)
    assert [bytes(packet) for packet in packets] == [FRAME, FRAME]
    assert [packet.sniffed_on for packet in packets] == ["pod/a", "node/worker-1:flannel.1"]


@pytest.mark.skipif(not shutil.which("tshark"), reason="tshark is not installed: apt install tshark")
def test_tshark_reads_names_and_nanoseconds(tmp_path):
    path = tmp_path / "x.pcapng"
    path.write_bytes(_file([(0, T0, FRAME, 1), (1, T0 + 5, FRAME, 2)]))
    fields = ["frame.interface_name", "frame.time_epoch", "ip.dst"]
    command = ["tshark", "-r", str(path), "-T", "fields", *[w for f in fields for w in ("-e", f)]]
    lines = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout.splitlines()
    assert [line.split("\t") for line in lines] == [
        ["pod/a", "1700000000.123456789", "10.0.0.2"],
        ["node/worker-1:flannel.1", "1700000000.123456794", "10.0.0.2"],
    ]


@given(st.lists(st.tuples(st.integers(0, 1), st.integers(0, 2**63 - 1), st.binary(max_size=200), st.integers(0, 2))))
def test_blocks_are_whole_and_aligned(packets):
    kinds = [kind for kind, _ in _blocks(_file(packets))]
    assert kinds == [0x0A0D0D0A, 1, 1] + [6] * len(packets) + [5]


@pytest.mark.parametrize("text", ["1\n6 0 0 262144\n", "2\n40 0 0 12\n6 0 0 0\n"], ids=["one", "two"])
def test_programs_parse(text):
    assert len(parse_program(text)) == 8 * int(text[0])


@pytest.mark.parametrize("text", ["2\n6 0 0 1\n", "1\n6 0 0\n", "x"], ids=["short", "narrow", "garbage"])
def test_garbage_is_no_program(text):
    with pytest.raises(ValueError):
        parse_program(text)


@pytest.mark.skipif(
    not shutil.which("tcpdump", path="/usr/bin:/usr/sbin"), reason="tcpdump is missing: apt install tcpdump"
)
def test_filters_compile_and_refuse():
    assert len(compile_filter("udp port 8472")) % 8 == 0
    with pytest.raises(FilterError, match="no such filter"):
        compile_filter("no such filter")
