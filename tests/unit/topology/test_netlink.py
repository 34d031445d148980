"""The netlink wire format: what is packed is unpacked, and damaged input is no exception."""

from __future__ import annotations

import errno
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from podnet.topology.linux import netlink as nl


@given(st.lists(st.tuples(st.integers(0, 0x3FFF), st.binary(max_size=40)), unique_by=lambda item: item[0]))
def test_attributes_come_back(pairs: list[tuple[int, bytes]]) -> None:
    packed = b"".join(nl.attr(kind, value) for kind, value in pairs)
    assert len(packed) % 4 == 0
    assert nl.attributes(packed) == dict(pairs)


@given(
    st.lists(st.tuples(st.integers(16, 200), st.integers(0, 0xFFFF), st.integers(0, 2**32 - 1), st.binary(max_size=30)))
)
def test_messages_come_back(items: list[tuple[int, int, int, bytes]]) -> None:
    stream = b""
    for kind, flags, seq, body in items:
        stream += nl.numbered(nl.message(kind, flags, body), seq)
        stream += bytes(-len(stream) % 4)
    found = list(nl.messages(stream))
    assert found == [(kind, flags | nl.NLM_F_REQUEST, seq, body) for kind, flags, seq, body in items]


@given(st.binary(max_size=200))
def test_any_bytes_are_survived(data: bytes) -> None:
    assert all(isinstance(body, bytes) for _, _, _, body in nl.messages(data))
    assert all(isinstance(value, bytes) for value in nl.attributes(data).values())


def test_nested_attribute_carries_its_flag() -> None:
    packed = nl.nested(18, nl.attr_str(1, "veth"))
    (_, kind) = struct.unpack_from("=HH", packed)
    assert kind == 18 | nl.NLA_F_NESTED
    assert nl.text(nl.attributes(nl.attributes(packed)[18])[1]) == "veth"


@pytest.mark.parametrize(
    ("flags", "echo"),
    [(nl.NLM_F_ACK_TLVS | nl.NLM_F_CAPPED, b""), (nl.NLM_F_ACK_TLVS, b"\1" * 8)],
    ids=["capped", "echoed"],
)
def test_refusal_has_the_kernels_words(flags: int, echo: bytes) -> None:
    header = struct.pack("=IHHII", 16 + len(echo), 16, 0, 1, 0)
    body = struct.pack("=i", -errno.EEXIST) + header + echo + nl.attr_str(1, "it is there")
    assert nl.error_of(flags, body) == (errno.EEXIST, "it is there")


def test_refusal_without_words() -> None:
    assert nl.error_of(0, struct.pack("=i", -errno.EPERM) + bytes(16)) == (errno.EPERM, "")
    assert nl.error_of(0, bytes(20)) == (0, "")


@pytest.mark.parametrize(
    "mac", ["", "02:00", "02-00-00-00-00-01", "zz:00:00:00:00:01", "02:00:00:00:00:01:02", "020000000001"]
)
def test_what_is_no_mac_is_refused(mac: str) -> None:
    with pytest.raises(ValueError, match=r"not a MAC|non-hexadecimal"):
        nl.mac_bytes(mac)


@given(st.binary(min_size=6, max_size=6))
def test_mac_comes_back(raw: bytes) -> None:
    assert nl.mac_bytes(nl.mac_text(raw)) == raw
