"""Messages between the runtime, the zygote and the shims: one JSON object in one packet, file descriptors beside it.

Unix SOCK_SEQPACKET keeps message borders, so there is no framing and no partial read; what is large (a container's
specification) goes through a file and only its path through the socket. One request is one connection: the answer
ends it, except for `events`, which stays open and gets one message a change.
"""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Sequence
from typing import Any

MAX_MESSAGE_BYTES = 160 * 1024
MAX_DESCRIPTORS = 4
_SUN_PATH_BYTES = 107

Message = dict[str, Any]


def send(sock: socket.socket, message: Message, descriptors: Sequence[int] = ()) -> None:
    """Send one message. OSError(EMSGSIZE) when it is larger than a packet may be."""
    socket.send_fds(sock, [json.dumps(message, separators=(",", ":")).encode()], list(descriptors))


def receive(sock: socket.socket) -> tuple[Message | None, list[int]]:
    """The next message and its descriptors (close-on-exec); None at the end of the connection."""
    data, descriptors, _, _ = socket.recv_fds(sock, MAX_MESSAGE_BYTES, MAX_DESCRIPTORS, socket.MSG_CMSG_CLOEXEC)
    if not data:
        close_all(descriptors)
        return None, []
    return json.loads(data), descriptors


def close_all(descriptors: Sequence[int]) -> None:
    """Close descriptors, each once; negative ones stand for "none"."""
    for descriptor in descriptors:
        if descriptor >= 0:
            os.close(descriptor)


def connect(path: str) -> socket.socket:
    """Connect to a shim's socket. OSError when nobody listens."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    try:
        _with_short_path(path, sock.connect)
    except OSError:
        sock.close()
        raise
    return sock


def listen(path: str, backlog: int = 64) -> socket.socket:
    """Listen on a socket file of mode 0600, replacing a dead one."""
    if os.path.lexists(path):
        os.unlink(path)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    try:
        _with_short_path(path, sock.bind)
        os.chmod(path, 0o600)
        sock.listen(backlog)
    except OSError:
        sock.close()
        raise
    return sock


def _with_short_path(path: str, use: Any) -> None:
    """sun_path holds 107 bytes: a longer path is reached through a descriptor of its directory."""
    if len(os.fsencode(path)) <= _SUN_PATH_BYTES:
        use(path)
        return
    directory = os.open(os.path.dirname(path), os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        use(f"/proc/self/fd/{directory}/{os.path.basename(path)}")
    finally:
        os.close(directory)
