"""Talking to etcd members over their JSON gateway: one request at a time, to whichever member answers.

etcd serves its gRPC API as JSON over HTTP on the same port; keys and values are base64, 64-bit numbers are strings. A
member that is unreachable, has no leader or does not answer in time is passed over for the next one, until the
caller's patience ends. Whether a request that was given up may still have been carried out is told with the answer:
only the caller can say what that means for a write.
Source: etcd.io/docs/v3.4 (dev-guide/api_grpc_gateway), google.rpc.Code.
"""

from __future__ import annotations

import asyncio
import base64
import functools
import io
import ssl
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AsyncExitStack, aclosing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import aiohttp
import orjson

from podnet.controlplane.store.types import StoreClosedError, StoreUnavailableError

Message: TypeAlias = dict[str, Any]

ATTEMPT_S = 2.0
"""How long one member may take. A follower whose leader is lost holds a request for five seconds before it gives up: the
election is over long before, and the next member knows the new leader."""
CONNECT_S = 0.5
"""How long until a member that does not even answer SYN is passed over: they are one switch away."""
PATIENCE_S = 10.0
PAUSE_S = 0.1
SILENCE_S = 2.0
"""After how long a silent stream's member is asked whether it is still there."""
ALIVE_PATH = "/v3/maintenance/status"
STREAM_LINE_MAX = 64 << 20
UNAVAILABLE_CODES = frozenset({2, 4, 14})  # UNKNOWN (a proxy's own), DEADLINE_EXCEEDED, UNAVAILABLE


@dataclass(frozen=True, slots=True)
class EtcdEndpoints:
    """Where the members are (`https://192.168.100.10:2379`), and who we are to them; no files: plain HTTP."""

    urls: tuple[str, ...]
    ca_file: Path | None = None
    cert_file: Path | None = None
    key_file: Path | None = None

    def tls(self) -> ssl.SSLContext | None:
        """Our side of mutual TLS. Raises OSError (ssl.SSLError is one) for files that cannot be used."""
        if self.ca_file is None or self.cert_file is None:
            return None
        context = ssl.create_default_context(cafile=str(self.ca_file))
        context.load_cert_chain(self.cert_file, self.key_file)
        return context


class EtcdRefusedError(Exception):
    """A member understood and refused: a google.rpc code and etcd's words."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True, slots=True)
class Answer:
    """`uncertain`: an earlier attempt of this same request may have been carried out, too."""

    message: Message
    uncertain: bool


class EtcdGateway:
    """The members as one. Make it anywhere; it opens connections in the loop that first calls it."""

    def __init__(
        self, endpoints: EtcdEndpoints, *, attempt_s: float = ATTEMPT_S, patience_s: float = PATIENCE_S
    ) -> None:
        self._urls = endpoints.urls
        self._tls = endpoints.tls()
        self._attempt_s = attempt_s
        self._patience_s = patience_s
        self._at = 0
        self._asking: dict[str, asyncio.Lock] = {}
        self._answered: dict[str, float] = {}
        self._session: aiohttp.ClientSession | None = None
        self.closed = False

    async def call(self, path: str, body: Message) -> Answer:
        """POST one request. Raises EtcdRefusedError, StoreUnavailableError, StoreClosedError."""
        deadline = time.monotonic() + self._patience_s
        uncertain = False
        data = orjson.dumps(body)
        while True:
            try:
                return Answer(await self._attempt(path, data), uncertain)
            except aiohttp.ClientConnectorError as error:  # nothing was sent
                problem: Exception = error
            except (aiohttp.ClientError, TimeoutError, _Unavailable) as error:
                problem, uncertain = error, True
            if time.monotonic() >= deadline:
                raise StoreUnavailableError(f"etcd is not available: {_words(problem)}")
            self.pass_over()
            await asyncio.sleep(PAUSE_S)

    async def stream(self, path: str, body: Message) -> AsyncGenerator[Message, None]:
        """POST one request to one member and yield what it streams, until either side ends it.

        Raises EtcdRefusedError, StoreUnavailableError (at once: the caller knows from where to go on).
        """
        # A member cut off from the others would keep a watch open and silent; asked so, it ends it instead.
        headers = {"Grpc-Metadata-hasleader": "true"}
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_S)
        member = self._urls[self._at]
        try:
            async with AsyncExitStack() as stack:
                async with asyncio.timeout(self._attempt_s):
                    request = self._open().post(
                        member + path, data=orjson.dumps(body), headers=headers, timeout=timeout
                    )
                    response = await stack.enter_async_context(request)
                    await _check(response)
                silent = functools.partial(self._ask_alive, member)
                async for line in await stack.enter_async_context(aclosing(_lines(response, silent))):
                    message = orjson.loads(line)
                    if "error" in message:
                        raise _refusal(message["error"])
                    yield message["result"]
        except (aiohttp.ClientError, TimeoutError, _Unavailable, ValueError) as error:
            raise StoreUnavailableError(_words(error)) from error

    def pass_over(self) -> None:
        """Ask the next member from now on."""
        self._at = (self._at + 1) % len(self._urls)

    async def close(self) -> None:
        """Drop every connection."""
        self.closed = True
        if self._session is not None:
            await self._session.close()

    async def _ask_alive(self, member: str) -> None:
        """One that is frozen, or whose cable is cut, keeps a stream open for ever: TimeoutError or ClientError then. Any
        answer will do, and one answer will do for all streams."""
        async with self._asking.setdefault(member, asyncio.Lock()):
            if time.monotonic() - self._answered.get(member, 0.0) < SILENCE_S:
                return
            timeout = aiohttp.ClientTimeout(total=self._attempt_s, sock_connect=CONNECT_S)
            async with self._open().post(member + ALIVE_PATH, data=b"{}", timeout=timeout) as response:
                await response.read()
            self._answered[member] = time.monotonic()

    async def _attempt(self, path: str, data: bytes) -> Message:
        timeout = aiohttp.ClientTimeout(total=self._attempt_s, sock_connect=CONNECT_S)
        async with self._open().post(self._url(path), data=io.BytesIO(data), timeout=timeout) as response:
            await _check(response)
            message: Message = orjson.loads(await response.read())
            return message

    def _open(self) -> aiohttp.ClientSession:
        if self.closed:
            raise StoreClosedError
        if self._session is None:
            connector = aiohttp.TCPConnector(limit=0, ssl=self._tls if self._tls is not None else False)
            # etcd writes a warning about our certificate's name for every request that has an Accept header.
            self._session = aiohttp.ClientSession(
                connector=connector, read_bufsize=1 << 20, skip_auto_headers=("Accept",)
            )
        return self._session

    def _url(self, path: str) -> str:
        return self._urls[self._at] + path


class _Unavailable(Exception):
    """One member cannot serve now; another one may."""


async def _check(response: aiohttp.ClientResponse) -> None:
    if response.status == 200:
        return
    try:
        raise _refusal(orjson.loads(await response.read()))
    except ValueError as error:
        raise _Unavailable(f"HTTP {response.status} from {response.url}") from error


def _refusal(error: Message) -> Exception:
    code = int(error.get("code") or error.get("grpc_code") or 2)
    words = str(error.get("message") or error.get("error") or "etcd refused")
    return _Unavailable(words) if code in UNAVAILABLE_CODES else EtcdRefusedError(code, words)


async def _lines(
    response: aiohttp.ClientResponse, silent: Callable[[], Awaitable[None]]
) -> AsyncGenerator[bytes, None]:
    """Newline-delimited JSON of any length (StreamReader.readline has a limit that a big object passes). `silent` is
    awaited whenever nothing has come for a while, and ends the stream by raising."""
    pending = bytearray()
    while True:
        reading = asyncio.ensure_future(response.content.readany())
        try:
            while not (await asyncio.wait({reading}, timeout=SILENCE_S))[0]:
                await silent()
        finally:
            reading.cancel()
        chunk = await reading
        if not chunk:
            return
        pending += chunk
        if len(pending) > STREAM_LINE_MAX:
            raise _Unavailable("a message of more than 64 MiB")
        while (end := pending.find(b"\n")) >= 0:
            line = bytes(pending[:end])
            del pending[: end + 1]
            if line:
                yield line


def _words(error: Exception) -> str:
    return str(error) or ("no answer in time" if isinstance(error, TimeoutError) else type(error).__name__)


def encode(text: str | bytes) -> str:
    """A key or value as the gateway wants it."""
    return base64.b64encode(text.encode() if isinstance(text, str) else text).decode()


def decode(text: str) -> bytes:
    """A key or value of an answer."""
    return base64.b64decode(text)
