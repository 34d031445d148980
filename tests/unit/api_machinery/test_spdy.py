"""SPDY/3.1 without sockets: two ends talk, and a careless or hostile end is told apart from a good one."""

from __future__ import annotations

import struct
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from podnet.controlplane.api.spdy import Connection, Data, GoAway, SPDYError, StreamOpened, StreamReset
from podnet.controlplane.api.spdy.connection import CHUNK, MAX_DATA, MAX_STREAMS
from podnet.controlplane.api.spdy.headers import DICTIONARY, MAX_HEADERS, HeaderError, HeaderReader, HeaderWriter

ERROR_STREAM = {"streamtype": "error", "port": "80", "requestid": "0"}


def control(kind: int, body: bytes, flags: int = 0, version: int = 3) -> bytes:
    return struct.pack(">HHI", 0x8000 | version, kind, flags << 24 | len(body)) + body


def frames(data: bytes) -> list[tuple[int, int, int, bytes]]:
    """(control type or 0, stream or 0, flags, body) of each frame."""
    found = []
    while data:
        first, second = struct.unpack_from(">II", data)
        length = second & 0xFFFFFF
        kind, stream = (first & 0xFFFF, 0) if first >> 31 else (0, first)
        found.append((kind, stream, second >> 24, data[8 : 8 + length]))
        data = data[8 + length :]
    return found


def opened() -> tuple[Connection, Connection, int]:
    """A client, a server and a stream between them."""
    client, server = Connection(client=True), Connection()
    stream = client.open({"streamtype": "data"})
    server.receive(client.outgoing())
    server.reply(stream)
    client.receive(server.outgoing())
    return client, server, stream


def test_the_dictionary_is_that_of_the_draft() -> None:
    assert len(DICTIONARY) == 1423
    assert zlib.adler32(DICTIONARY) == 0xE3C6A7C2


def test_a_stream_opens_talks_both_ways_and_ends() -> None:
    client, server = Connection(client=True), Connection()
    stream = client.open(ERROR_STREAM, fin=True)
    data = client.open({"streamtype": "data"})
    assert (stream, data) == (1, 3)
    assert server.receive(client.outgoing()) == [
        StreamOpened(1, ERROR_STREAM, True),
        StreamOpened(3, {"streamtype": "data"}, False),
    ]
    server.reply(data)
    server.send(data, b"hello")
    server.send(data, b"", fin=True)
    assert client.receive(server.outgoing()) == [Data(3, b"hello", False), Data(3, b"", True)]
    client.send(data, b"bye", fin=True)
    assert server.receive(client.outgoing()) == [Data(3, b"bye", True)]
    server.send(data, b"too late")
    assert server.outgoing() == control(9, struct.pack(">II", 3, 3))  # the window update, and no data


def test_data_is_acknowledged_and_cut_into_pieces() -> None:
    client, server, stream = opened()
    client.send(stream, b"x" * (2 * CHUNK + 1), fin=True)
    sent = client.outgoing()
    assert [(len(body), flags) for _, _, flags, body in frames(sent)] == [(CHUNK, 0), (CHUNK, 0), (1, 1)]
    server.receive(sent)
    assert [(kind, struct.unpack(">II", body)) for kind, _, _, body in frames(server.outgoing())] == [
        (9, (stream, CHUNK)),
        (9, (stream, CHUNK)),
        (9, (stream, 1)),
    ]


@given(st.lists(st.binary(max_size=300), max_size=8), st.integers(1, 60))
def test_it_does_not_matter_how_the_bytes_are_cut(payloads: list[bytes], size: int) -> None:
    client, server = Connection(client=True), Connection()
    stream = client.open({"streamtype": "data", "port": "80"})
    for payload in payloads:
        client.send(stream, payload)
    client.send(stream, b"", fin=True)
    wire = client.outgoing()
    events = [e for at in range(0, len(wire), size) for e in server.receive(wire[at : at + size])]
    assert events[0] == StreamOpened(1, {"streamtype": "data", "port": "80"}, False)
    assert b"".join(e.data for e in events[1:] if isinstance(e, Data)) == b"".join(payloads)
    assert isinstance(events[-1], Data)
    assert events[-1].fin


@given(st.binary(max_size=400))
def test_any_bytes_are_understood_or_refused(noise: bytes) -> None:
    server = Connection()
    try:
        server.receive(noise)
    except SPDYError:
        return
    server.outgoing()


@given(
    st.lists(
        st.dictionaries(st.text("abc-", min_size=1), st.text(st.characters(codec="utf-8", exclude_characters="\0"))),
        max_size=5,
    )
)
def test_header_blocks_survive_one_compressor_for_the_whole_connection(blocks: list[dict[str, str]]) -> None:
    writer, reader = HeaderWriter(), HeaderReader()
    for block in blocks:
        assert reader.decode(writer.encode(block)) == block


def test_of_a_header_with_several_values_the_first_counts() -> None:
    assert HeaderReader().decode(HeaderWriter().encode({"a": "1\x002"})) == {"a": "1"}


def test_a_header_block_that_explodes_is_refused() -> None:
    with pytest.raises(HeaderError, match="larger than"):
        HeaderReader().decode(HeaderWriter().encode({"a": "x" * (MAX_HEADERS + 1)}))


@pytest.mark.parametrize("number", [1, 77])
def test_a_ping_of_the_peer_comes_back(number: int) -> None:
    server = Connection()
    assert server.receive(control(6, struct.pack(">I", number))) == []
    assert server.outgoing() == control(6, struct.pack(">I", number))


def test_the_answer_to_our_own_ping_does_not() -> None:
    server = Connection()
    server.receive(control(6, struct.pack(">I", 2)))
    assert server.outgoing() == b""


def test_a_reset_ends_both_directions() -> None:
    client, server, stream = opened()
    client.reset(stream)
    assert server.receive(client.outgoing()) == [StreamReset(stream)]
    server.send(stream, b"x")
    server.reset(stream)
    assert server.outgoing() == b""


def test_data_for_a_stream_that_was_never_opened_is_reset_and_no_more() -> None:
    server = Connection()
    assert server.receive(struct.pack(">II", 5, 1) + b"x") == []
    assert server.outgoing() == control(3, struct.pack(">II", 5, 2))


def test_settings_goaway_and_unknown_frames() -> None:
    server = Connection()
    assert server.receive(control(4, struct.pack(">III", 1, 4, 65536))) == []
    assert server.receive(control(200, b"whatever")) == []
    assert server.receive(control(7, struct.pack(">II", 0, 0))) == [GoAway()]


@pytest.mark.parametrize(
    "wire",
    [
        pytest.param(control(1, b"", version=2), id="version-2"),
        pytest.param(control(1, b"\0\0"), id="cut-short"),
        pytest.param(
            control(1, struct.pack(">IIH", 2, 0, 0) + HeaderWriter().encode({})), id="even-stream-of-a-client"
        ),
        pytest.param(control(1, struct.pack(">IIH", 0, 0, 0) + HeaderWriter().encode({})), id="stream-0"),
        pytest.param(control(1, struct.pack(">IIH", 1, 0, 0) + b"not deflated"), id="broken-headers"),
        pytest.param(struct.pack(">II", 1, MAX_DATA + 1), id="huge-data"),
        pytest.param(struct.pack(">HHI", 0x8003, 1, 0xFFFFFF), id="huge-control"),
        pytest.param(b"GET / HTTP/1.1\r\n\r\n", id="http"),
    ],
)
def test_what_is_not_spdy_ends_the_connection(wire: bytes) -> None:
    with pytest.raises(SPDYError):
        Connection().receive(wire)


def test_stream_numbers_only_grow() -> None:
    client, server = Connection(client=True), Connection()
    client.open({})
    first = client.outgoing()
    server.receive(first)
    again = control(1, struct.pack(">IIH", 1, 0, 0) + HeaderWriter().encode({}))
    with pytest.raises(SPDYError):
        server.receive(again)


def test_too_many_streams_are_refused_one_by_one() -> None:
    client, server = Connection(client=True), Connection()
    for _ in range(MAX_STREAMS + 1):
        client.open({})
    events = server.receive(client.outgoing())
    assert len(events) == MAX_STREAMS
    assert frames(server.outgoing()) == [(3, 0, 0, struct.pack(">II", 2 * MAX_STREAMS + 1, 3))]
