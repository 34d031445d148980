"""One upstream resolver: queries over UDP and TCP, matched to their answers, and its health.

The rule kept here: an answer is taken only from the address that was asked, for an id and a question that are waiting
(RFC 5452); ids are random and the port changes with every socket. A query has one deadline and no retry: choosing
another upstream is `plugins/forward.py`'s.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
import socket
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field, replace

from podnet.dns.message import NS_, Message, Question
from podnet.dns.wire import MAX_MESSAGE, WireError, decode, encode

log = logging.getLogger("plugin/forward")

READ_TIMEOUT_S = 2.0
CONNECT_TIMEOUT_S = 2.0
EXPIRE_S = 10.0
"""A socket, and with it the source port, is used no longer than this."""
MAX_WAITING = 4096
RECEIVE_BATCH = 64


class UpstreamError(Exception):
    """No answer; the text says why."""


@dataclass(slots=True)
class _Socket:
    sock: socket.socket
    born: float
    waiting: dict[int, tuple[Question, asyncio.Future[Message]]] = field(default_factory=dict)


class Upstream:
    """A resolver at an address. `fails` counts failed probes in a row; any answer sets it back."""

    def __init__(self, host: str, port: int, *, expire_s: float = EXPIRE_S) -> None:
        self.host, self.port = host, port
        self.fails = 0
        self.probing = False
        self._expire_s = expire_s
        self._family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._current: _Socket | None = None
        self._old: list[_Socket] = []

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if self._family == socket.AF_INET6 else f"{self.host}:{self.port}"

    def down(self, max_fails: int) -> bool:
        """Failed more probes than allowed? 0 means never."""
        return max_fails > 0 and self.fails > max_fails

    async def ask(self, message: Message, *, tcp: bool = False, timeout_s: float = READ_TIMEOUT_S) -> Message:
        """The answer, with the id of `message`; UpstreamError when there is none."""
        try:
            async with asyncio.timeout(timeout_s):
                answer = await (self._ask_tcp(message) if tcp else self._ask_udp(message))
        except TimeoutError:
            raise UpstreamError(f"read {'tcp' if tcp else 'udp'} {self}: i/o timeout") from None
        except (OSError, asyncio.IncompleteReadError, WireError) as error:
            raise UpstreamError(f"{'tcp' if tcp else 'udp'} {self}: {error}") from error
        return replace(answer, id=message.id)

    def probe(
        self, spawn: Callable[[Coroutine[object, object, None]], object], interval_s: float, question: Message
    ) -> None:
        """Ask until it answers: it just failed a query."""
        if not self.probing and interval_s > 0:
            self.probing = True
            spawn(self._probe(interval_s, question))

    async def _probe(self, interval_s: float, question: Message) -> None:
        try:
            while True:
                try:
                    await self.ask(question, timeout_s=1.0)
                except UpstreamError:
                    self.fails += 1
                else:
                    self.fails = 0
                    return
                await asyncio.sleep(interval_s)
        finally:
            self.probing = False

    def close(self) -> None:
        """Close all sockets; whoever waits is told."""
        for each in [*self._old, *([self._current] if self._current else [])]:
            self._discard(each, OSError("closed"))
        self._old, self._current = [], None

    async def _ask_udp(self, message: Message) -> Message:
        used = self._socket()
        if len(used.waiting) >= MAX_WAITING:
            raise UpstreamError(f"udp {self}: too many queries under way")
        ident = secrets.randbelow(65536)
        while ident in used.waiting:
            ident = secrets.randbelow(65536)
        future: asyncio.Future[Message] = asyncio.get_running_loop().create_future()
        used.waiting[ident] = (message.questions[0], future)
        try:
            used.sock.send(encode(replace(message, id=ident)))
            return await future
        finally:
            used.waiting.pop(ident, None)
            if used in self._old and not used.waiting:
                self._old.remove(used)
                self._discard(used, OSError("expired"))

    def _socket(self) -> _Socket:
        """The one in use, or a new one when that has served its time."""
        now = time.monotonic()
        current = self._current
        if current is not None and now - current.born < self._expire_s:
            return current
        if current is not None:
            if current.waiting:
                self._old.append(current)
            else:
                self._discard(current, OSError("expired"))
        sock = socket.socket(self._family, socket.SOCK_DGRAM)
        try:
            sock.setblocking(False)
            sock.connect((self.host, self.port))
        except OSError:
            sock.close()
            raise
        fresh = self._current = _Socket(sock, now)
        asyncio.get_running_loop().add_reader(sock.fileno(), self._readable, fresh)
        return fresh

    def _discard(self, each: _Socket, error: OSError) -> None:
        asyncio.get_running_loop().remove_reader(each.sock.fileno())
        each.sock.close()
        for _, future in each.waiting.values():
            if not future.done():
                future.set_exception(error)

    def _readable(self, used: _Socket) -> None:
        for _ in range(RECEIVE_BATCH):
            try:
                data = used.sock.recv(MAX_MESSAGE)
            except BlockingIOError:
                return
            except OSError as error:
                # ICMP port unreachable: nobody there; those who wait need not sit out their time.
                for _, future in list(used.waiting.values()):
                    if not future.done():
                        future.set_exception(OSError(error.errno, error.strerror))
                return
            self._received(used, data)

    def _received(self, used: _Socket, data: bytes) -> None:
        try:
            message = decode(data)
        except WireError:
            return
        question, future = used.waiting.get(message.id, (None, None))
        if question is None or future is None or future.done() or not message.response:
            return
        if len(message.questions) == 1 and _same(message.questions[0], question):
            future.set_result(message)

    async def _ask_tcp(self, message: Message) -> Message:
        reader, writer = await asyncio.open_connection(self.host, self.port)
        try:
            data = encode(replace(message, id=secrets.randbelow(65536)))
            writer.write(len(data).to_bytes(2, "big") + data)
            await writer.drain()
            size = int.from_bytes(await reader.readexactly(2), "big")
            answer = decode(await reader.readexactly(size))
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()
        if not answer.response or answer.id != int.from_bytes(data[:2], "big"):
            raise WireError("an answer to another question")
        if answer.questions and not _same(answer.questions[0], message.questions[0]):
            raise WireError("an answer to another question")
        return answer


def _same(one: Question, other: Question) -> bool:
    return one.type == other.type and one.qclass == other.qclass and one.name.lower() == other.name.lower()


def probe_question(domain: str = ".", *, recursion: bool = True) -> Message:
    """What a health probe asks: the name servers of the root."""
    return Message(recursion_desired=recursion, questions=(Question(domain, NS_),))
