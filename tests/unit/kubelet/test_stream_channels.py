"""The bytes of exec and attach."""

from __future__ import annotations

import json

import pytest
from aiohttp import WSMessage, WSMsgType
from hypothesis import given
from hypothesis import strategies as st

from podnet.controlplane.kubelet.server.channels import (
    V4,
    V5,
    Resize,
    Stdin,
    StdinClosed,
    encode_status,
    error_status,
    exit_status,
    parse_message,
)
from podnet.controlplane.kubelet.server.streams import frame_payload


@pytest.mark.parametrize(
    ("kind", "data", "payload"),
    [
        (WSMsgType.BINARY, b"\x00ls\n", b"\x00ls\n"),
        (WSMsgType.TEXT, "\x00ls ü\n", "\x00ls ü\n".encode()),  # what the Python client sends for a str
        (WSMsgType.PING, b"", None),
    ],
    ids=["binary", "text", "ping"],
)
def test_text_frames_are_read_as_binary_ones(kind, data, payload):
    assert frame_payload(WSMessage(kind, data, None)) == payload


@pytest.mark.parametrize(
    ("data", "protocol", "expected"),
    [
        pytest.param(b"", V5, None, id="empty"),
        pytest.param(b"\x00abc", V5, Stdin(b"abc"), id="stdin"),
        pytest.param(b"\x00", V4, Stdin(b""), id="empty-stdin"),
        pytest.param(b'\x04{"Width":80,"Height":24}', V4, Resize(80, 24), id="resize"),
        pytest.param(b"\x04junk", V5, None, id="bad-resize"),
        pytest.param(b'\x04{"Width":"x"}', V5, None, id="half-a-resize"),
        pytest.param(b"\x04[]", V5, None, id="a-list-is-no-size"),
        pytest.param(b"\xff\x00", V5, StdinClosed(), id="close-stdin"),
        pytest.param(b"\xff\x01", V5, None, id="close-another"),
        pytest.param(b"\xff\x00", V4, None, id="v4-cannot-close"),
        pytest.param(b"\x01abc", V5, None, id="stdout-is-ours"),
    ],
)
def test_client_messages(data: bytes, protocol: str, expected: object) -> None:
    assert parse_message(data, protocol) == expected


@given(st.binary(max_size=40), st.sampled_from([V4, V5]))
def test_no_bytes_break_it(data: bytes, protocol: str) -> None:
    parse_message(data, protocol)


def test_status_messages() -> None:
    assert json.loads(encode_status(exit_status(0))[1:]) == {"metadata": {}, "status": "Success"}
    failed = encode_status(exit_status(7))
    assert failed[0] == 3
    assert json.loads(failed[1:])["details"]["causes"] == [{"reason": "ExitCode", "message": "7"}]
    assert error_status("boom")["message"] == "Internal error occurred: boom"
