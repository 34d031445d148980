"""The control socket's messages: JSON lines over a Unix stream, and file descriptors beside the first (SCM_RIGHTS).

A conversation is one connection: the client sends one request line with its descriptors, the supervisor answers with
any number of event lines and, last, one line with `done`. Both sides refuse lines over 1 MiB.
"""

from __future__ import annotations

import array
import json
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

MAX_LINE = 1 << 20
MAX_FDS = 8


class WireError(Exception):
    """The other side hung up or sent something that is not a message."""


def send(sock: socket.socket, message: dict[str, Any], fds: tuple[int, ...] = ()) -> None:
    """Send one message."""
    data = json.dumps(message, separators=(",", ":")).encode() + b"\n"
    ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
    sent = sock.sendmsg([data], ancillary)
    if sent < len(data):
        sock.sendall(data[sent:])


def receive(sock: socket.socket) -> tuple[dict[str, Any], list[int]]:
    """The first message of a conversation, and the descriptors that came with it (close-on-exec, the caller's)."""
    data = b""
    fds: list[int] = []
    while not data.endswith(b"\n"):
        chunk, ancillary, _, _ = sock.recvmsg(65536, socket.CMSG_SPACE(MAX_FDS * 4), socket.MSG_CMSG_CLOEXEC)
        for level, kind, raw in ancillary:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                received = array.array("i")
                received.frombytes(raw[: len(raw) - len(raw) % received.itemsize])
                fds += received
        data += chunk
        if not chunk or len(data) > MAX_LINE:
            for fd in fds:
                os.close(fd)
            raise WireError(_why_no_message(data, ended=not chunk))
    return parse(data), fds


def _why_no_message(data: bytes, *, ended: bool) -> str:
    if not ended:
        return "a line over 1 MiB"
    return "the connection ended in the middle of a message" if data else "nothing was sent"


def parse(line: bytes) -> dict[str, Any]:
    """One line as a message. Raises WireError."""
    try:
        message = json.loads(line)
    except ValueError as err:
        raise WireError(f"not a message: {err}") from err
    if not isinstance(message, dict):
        raise WireError("not a message: a JSON object was expected")
    return message


def messages(sock: socket.socket) -> Iterator[dict[str, Any]]:
    """Every further message until the other side closes."""
    buffer = b""
    while True:
        while b"\n" in buffer:
            line, _, buffer = buffer.partition(b"\n")
            yield parse(line)
        if len(buffer) > MAX_LINE:
            raise WireError("a line over 1 MiB")
        try:
            chunk = sock.recv(65536)
        except ConnectionResetError:  # it died with our request unread: as good as a close
            return
        if not chunk:
            return
        buffer += chunk


def connect(path: Path) -> socket.socket:
    """Connect to a control socket, whatever the length of its path (sun_path holds 108 bytes)."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    directory = os.open(path.parent, os.O_PATH | os.O_DIRECTORY)
    try:
        sock.connect(f"/proc/self/fd/{directory}/{path.name}")
    except BaseException:
        sock.close()
        raise
    finally:
        os.close(directory)
    return sock


def listen(path: Path) -> socket.socket:
    """Listen on a control socket, only for its owner; a dead one in the way is replaced."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    path.unlink(missing_ok=True)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    directory = os.open(path.parent, os.O_PATH | os.O_DIRECTORY)
    try:
        sock.bind(f"/proc/self/fd/{directory}/{path.name}")
    finally:
        os.close(directory)
    path.chmod(0o600)
    sock.listen(64)
    return sock
