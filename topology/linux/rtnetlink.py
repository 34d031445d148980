"""One NETLINK_ROUTE socket in one network namespace: send a request, read its answer.

A socket stays in the namespace where it was opened, so the calling thread enters, opens and comes straight back: 20 µs
in all. That is why sockets live for one batch and are never kept: a kept socket would hold a dead pod's namespace, and
with it the pod's links, in the kernel.

Requests go out one at a time, since the kernel works through a packet of several requests to its end even when one of
them is refused, and `Kernel.apply` promises to stop there. A system call more costs 3 µs; a request costs 10 to 500.
"""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import struct
from collections.abc import Iterator
from typing import Self

from podnet.topology.kernel import KernelError, Netns
from podnet.topology.linux import netlink as nl
from podnet.topology.linux.syscalls import in_netns

_SOL_NETLINK = 270
_NETLINK_CAP_ACK = 10
_NETLINK_EXT_ACK = 11
_SIOCGIFINDEX = 0x8933
# An acknowledgement is small, and a large buffer costs 15 µs to allocate; a dump comes in pieces of up to 32 KiB.
_ACK_BYTES = 8192
_DUMP_BYTES = 1 << 16
_DUMP_TRIES = 5


class RouteSocket:
    """A blocking netlink socket, of routing unless another protocol is named. Not shared between threads: it lives for
    one call."""

    def __init__(self, netns: Netns, protocol: int = 0) -> None:
        try:
            with in_netns(netns):
                self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, protocol)
        except OSError as error:
            raise KernelError(f"network namespace {netns!r}: {error.strerror}", error.errno or 0) from error
        self._socket.setsockopt(_SOL_NETLINK, _NETLINK_CAP_ACK, 1)
        self._socket.setsockopt(_SOL_NETLINK, _NETLINK_EXT_ACK, 1)
        self._seq = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def index_of(self, name: str) -> int:
        """The ifindex of a link in the socket's namespace; ENODEV where there is none."""
        request = struct.pack("16si20x", name.encode()[:15], 0)
        try:
            answer = fcntl.ioctl(self._socket, _SIOCGIFINDEX, request)
        except OSError as error:
            raise KernelError(f"link {name!r}: {error.strerror}", error.errno or 0) from error
        return int(struct.unpack_from("=i", answer, 16)[0])

    def request(self, request: bytes) -> None:
        """Send one request and wait for its acknowledgement; KernelError with the kernel's own words on refusal."""
        self._seq += 1
        self._socket.send(nl.numbered(request, self._seq))
        for kind, flags, body in self._answers(_ACK_BYTES):
            if kind == nl.NLMSG_ERROR:
                _raise_refusal(flags, body)
                return

    def dump(self, kind: int, body: bytes) -> list[bytes]:
        """All answers to a dump; asked again when something changed half-way through it."""
        for _ in range(_DUMP_TRIES):
            bodies, interrupted = self._dump_once(kind, body)
            if not interrupted:
                return bodies
        raise KernelError(f"dump {kind} interrupted {_DUMP_TRIES} times", errno.EINTR)

    def _dump_once(self, kind: int, body: bytes) -> tuple[list[bytes], bool]:
        self._seq += 1
        self._socket.send(nl.numbered(nl.message(kind, nl.NLM_F_DUMP, body), self._seq))
        bodies: list[bytes] = []
        interrupted = False
        for answer, flags, payload in self._answers(_DUMP_BYTES):
            interrupted |= bool(flags & nl.NLM_F_DUMP_INTR)
            if answer == nl.NLMSG_DONE:
                break
            if answer == nl.NLMSG_ERROR:
                _raise_refusal(flags, payload)
                break
            bodies.append(payload)
        return bodies, interrupted

    def _answers(self, most_bytes: int) -> Iterator[tuple[int, int, bytes]]:
        while True:
            data = self._socket.recv(most_bytes)
            for kind, flags, seq, body in nl.messages(data):
                if seq == self._seq:
                    yield kind, flags, body


def _raise_refusal(flags: int, body: bytes) -> None:
    code, words = nl.error_of(flags, body)
    if code:
        raise KernelError(words or os.strerror(code), code)
