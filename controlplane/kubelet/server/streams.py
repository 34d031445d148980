"""Joins a process in a container with a WebSocket: exec and attach.

Reading stops while the client is slow (a send waits for the socket to drain), and the socket is not read while the
process is slow. When the client leaves, an exec's process is killed; an attached container goes on.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import signal
import struct
import termios
from collections.abc import Awaitable, Callable

from aiohttp import WSMessage, WSMsgType, web

from podnet.controlplane.kubelet.cri import ExecProcess
from podnet.controlplane.kubelet.server.channels import (
    PROTOCOLS,
    STDERR,
    STDOUT,
    V4,
    Resize,
    Stdin,
    StdinClosed,
    encode_status,
    error_status,
    parse_message,
)
from podnet.controlplane.kubelet.server.descriptors import read_some, write_all

DRAIN_S = 0.5
"""How long output may be silent after the process has ended: its own is in the pipe by then, and a background child
that keeps the pipe open is not waited for."""
MESSAGE_MAX = 4 * 1024 * 1024
EOT = b"\x04"

Outcome = Callable[[], Awaitable[dict[str, object]]]


async def open_socket(request: web.Request) -> web.WebSocketResponse:
    """Accept the upgrade with the newest protocol both sides speak."""
    socket = web.WebSocketResponse(protocols=PROTOCOLS, max_msg_size=MESSAGE_MAX, autoclose=True, heartbeat=None)
    await socket.prepare(request)
    return socket


async def refuse(socket: web.WebSocketResponse, message: str) -> None:
    """Say on the error channel why there is nothing to talk to, and close."""
    await socket.send_bytes(encode_status(error_status(message)))
    await socket.close()


def frame_payload(message: WSMessage) -> bytes | None:
    """The bytes of a data frame, None for any other. Text counts too: the Python client sends what is written to
    standard input as a str in text frames, and upstream reads both kinds alike."""
    if message.type is WSMsgType.TEXT:
        return str(message.data).encode()
    return bytes(message.data) if message.type is WSMsgType.BINARY else None


class Session:
    """One exec or attach. `outcome` waits for the end and gives the Status; with `kill`, the process dies when the
    client leaves."""

    def __init__(
        self, socket: web.WebSocketResponse, process: ExecProcess, outcome: Outcome, *, tty: bool, kill: bool
    ) -> None:
        self._socket = socket
        self._process = process
        self._outcome = outcome
        self._tty = tty
        self._kill = kill
        self._stdin = process.stdin
        self._last_output = 0.0
        self._open = {d for d in (process.stdin, process.stdout, process.stderr) if d >= 0}

    async def run(self) -> None:
        """Until the process has ended and its output is sent, or the client has left."""
        for descriptor in self._open:
            os.set_blocking(descriptor, False)
        process = self._process
        outputs = [
            asyncio.create_task(self._copy_out(descriptor, channel))
            for descriptor, channel in ((process.stdout, STDOUT), (process.stderr, STDERR))
            if descriptor >= 0
        ]
        ended = asyncio.ensure_future(self._outcome())
        client = asyncio.create_task(self._copy_in())
        try:
            await self._socket.send_bytes(bytes((STDOUT,)))  # the customary empty frame: the stream is open
            await asyncio.wait({ended, client}, return_when=asyncio.FIRST_COMPLETED)
            if not ended.done():
                self._kill_process()
                if self._kill:
                    await ended
                return
            await self._drain(outputs, client)
            if not self._socket.closed:
                await self._socket.send_bytes(encode_status(ended.result()))
                await self._socket.close()
        except ConnectionError:
            self._kill_process()
            if self._kill:
                await ended
        finally:
            for task in (client, *outputs, ended):
                task.cancel()
            await asyncio.gather(client, *outputs, ended, return_exceptions=True)
            for descriptor in self._open:
                os.close(descriptor)
            self._open.clear()

    async def _copy_out(self, descriptor: int, channel: int) -> None:
        loop = asyncio.get_running_loop()
        head = bytes((channel,))
        while data := await read_some(descriptor):
            await self._socket.send_bytes(head + data)
            self._last_output = loop.time()

    async def _drain(self, outputs: list[asyncio.Task[None]], client: asyncio.Task[None]) -> None:
        clock = asyncio.get_running_loop().time
        self._last_output = clock()
        while pending := [task for task in outputs if not task.done()]:
            left_s = self._last_output + DRAIN_S - clock()
            if left_s <= 0 or client.done():
                return
            await asyncio.wait(pending, timeout=left_s)

    async def _copy_in(self) -> None:
        """Returns when the client has left."""
        protocol = self._socket.ws_protocol or V4
        async for message in self._socket:
            if (data := frame_payload(message)) is None:
                continue
            match parse_message(data, protocol):
                case Stdin(data) if self._stdin >= 0 and not await write_all(self._stdin, data):
                    self._close_stdin()
                case StdinClosed():
                    await self._end_stdin()
                case Resize(width, height) if self._tty:
                    self._resize(struct.pack("HHHH", height & 0xFFFF, width & 0xFFFF, 0, 0))
                case _:
                    pass

    def _resize(self, size: bytes) -> None:
        """The terminal is behind both streams of an exec, and behind the input alone of an attach, whose output is a copy."""
        for descriptor in (self._process.stdin, self._process.stdout):
            if descriptor in self._open and os.isatty(descriptor):
                with contextlib.suppress(OSError):
                    fcntl.ioctl(descriptor, termios.TIOCSWINSZ, size)
                return

    async def _end_stdin(self) -> None:
        if self._stdin < 0:
            return
        if self._tty:
            await write_all(self._stdin, EOT)  # a terminal has no half-close: this is what Ctrl-D sends
            self._stdin = -1
        else:
            self._close_stdin()

    def _close_stdin(self) -> None:
        if self._stdin >= 0 and self._stdin not in {self._process.stdout, self._process.stderr}:
            self._open.discard(self._stdin)
            os.close(self._stdin)
        self._stdin = -1

    def _kill_process(self) -> None:
        pid = self._process.pid
        if not self._kill or pid <= 1:
            return
        with contextlib.suppress(ProcessLookupError, PermissionError):
            if os.getpgid(pid) == pid:
                os.killpg(pid, signal.SIGKILL)
            else:
                os.kill(pid, signal.SIGKILL)
