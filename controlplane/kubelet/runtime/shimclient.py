"""The runtime's end of the conversation with a shim: one request, one connection, one answer, without blocking."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Sequence
from typing import Any

from podnet.controlplane.kubelet.runtime import protocol

REQUEST_TIMEOUT_S = 45.0


class ShimGoneError(Exception):
    """Nobody answers on the sandbox's socket: the shim is dead, and with it everything in the pod."""


class ShimError(Exception):
    """The shim refused; `reason` is a word of its own (StartError, NotRunning) or empty."""

    def __init__(self, message: str, reason: str = "") -> None:
        super().__init__(message)
        self.reason = reason


async def request(
    path: str, message: dict[str, Any], descriptors: Sequence[int] = (), timeout_s: float | None = REQUEST_TIMEOUT_S
) -> tuple[dict[str, Any], list[int]]:
    """Ask, and wait for the answer. The caller owns the descriptors that come with it."""
    try:
        sock = protocol.connect(path)
    except OSError as error:
        raise ShimGoneError(f"shim socket {path}: {error.strerror}") from error
    try:
        try:
            protocol.send(sock, message, descriptors)
        except OSError as error:
            raise ShimError(f"request refused: {error.strerror}") from error
        async with asyncio.timeout(timeout_s):
            answer, received = await receive(sock)
    finally:
        sock.close()
    if answer is None:
        raise ShimGoneError(f"shim socket {path} closed")
    if "error" in answer:
        protocol.close_all(received)
        raise ShimError(answer["error"], answer.get("reason", ""))
    return answer, received


async def receive(sock: socket.socket) -> tuple[dict[str, Any] | None, list[int]]:
    """The next message on a connection, waiting for it in the event loop."""
    sock.setblocking(False)
    loop = asyncio.get_running_loop()
    readable = loop.create_future()

    def ready() -> None:
        if not readable.done():
            readable.set_result(None)

    loop.add_reader(sock.fileno(), ready)
    try:
        await readable
    finally:
        loop.remove_reader(sock.fileno())
    try:
        return protocol.receive(sock)
    except OSError:
        return None, []
