"""The control socket's messages."""

from __future__ import annotations

import contextlib
import os
import socket
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from podnet import wire

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


@pytest.fixture
def pair():
    left, right = socket.socketpair()
    with left, right:
        yield left, right


@given(st.dictionaries(st.text(max_size=10), JSON, max_size=4))
def test_a_message_arrives_as_it_was_sent(message):
    left, right = socket.socketpair()
    with left, right:
        wire.send(left, message)
        assert wire.receive(right) == (message, [])


def test_descriptors_arrive_with_the_message(pair):
    read_fd, write_fd = os.pipe()
    wire.send(pair[0], {"verb": "exec"}, (write_fd,))
    message, fds = wire.receive(pair[1])
    os.write(fds[0], b"hello")
    assert (message, os.read(read_fd, 10)) == ({"verb": "exec"}, b"hello")
    assert not os.get_inheritable(fds[0])
    for fd in (read_fd, write_fd, *fds):
        os.close(fd)


@pytest.mark.parametrize(
    "data",
    [b"", b"{", b"[]\n", b"nonsense\n", b'"x"\n', b"\xff\xfe\n"],
    ids=["nothing", "half", "list", "word", "string", "bytes"],
)
def test_garbage_is_refused(pair, data):
    pair[0].sendall(data)
    pair[0].close()
    with pytest.raises(wire.WireError):
        wire.receive(pair[1])


def test_a_line_without_end_is_refused(pair):
    def endless() -> None:
        with contextlib.suppress(BrokenPipeError):  # how the writer learns that nobody reads on
            while True:
                pair[0].sendall(b"x" * 65536)

    pair[1].settimeout(30)
    thread = threading.Thread(target=endless, daemon=True)
    thread.start()
    with pytest.raises(wire.WireError, match="over 1 MiB"):
        wire.receive(pair[1])
    pair[1].close()
    thread.join(30)
    assert not thread.is_alive()


def test_many_messages_in_one_piece(pair):
    pair[0].sendall(b'{"a":1}\n{"b":2}\n{"done":true}\n')
    pair[0].close()
    assert list(wire.messages(pair[1])) == [{"a": 1}, {"b": 2}, {"done": True}]


def test_a_socket_with_a_very_long_path(tmp_path):
    path = tmp_path / ("d" * 120) / "control.sock"
    with wire.listen(path) as server, wire.connect(path) as client:
        other, _ = server.accept()
        with other:
            wire.send(client, {"x": 1})
            assert wire.receive(other)[0] == {"x": 1}
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_peer_that_died_with_our_request_unread_has_hung_up(tmp_path):
    with wire.listen(tmp_path / "control.sock") as server:
        client = wire.connect(tmp_path / "control.sock")
        peer, _ = server.accept()
        client.sendall(b"{}\n")
        peer.close()  # unread data: the kernel answers with a reset
        with client:
            assert list(wire.messages(client)) == []
