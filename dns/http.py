"""A very small HTTP/1.1 server for health, readiness and metrics: GET of a known path, one answer, closed.

The rule kept here: a listener belongs to the process and its pages to whoever registered them last, so that a reload
swaps pages and never closes a port in between. (aiohttp would cost a coredns pod ten times this memory.)
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from typing import TypeAlias

REQUEST_TIMEOUT_S = 5.0
MAX_REQUEST = 16 * 1024
MAX_CONNECTIONS = 256


@dataclass(frozen=True, slots=True)
class Page:
    """What a path says now."""

    status: int
    text: str
    content_type: str = "text/plain; charset=utf-8"


Handler: TypeAlias = Callable[[], Page]


class HttpListeners:
    """Every listener of the process by (host, port)."""

    def __init__(self) -> None:
        self._listeners: dict[tuple[str, int], _Listener] = {}

    async def serve(self, host: str, port: int, path: str, page: Handler) -> Callable[[], None]:
        """Serve `path` at an address; the result ends it. A later registration of the path takes its place."""
        key = (host, port)
        listener = self._listeners.get(key)
        if listener is None:
            listener = _Listener()
            await listener.open(host, port)
            self._listeners[key] = listener
        listener.pages[path] = page

        def end() -> None:
            if listener.pages.get(path) is page:
                del listener.pages[path]
            if not listener.pages and self._listeners.pop(key, None) is not None:
                listener.close()

        return end

    def port_of(self, host: str, port: int) -> int:
        """The port in use, where 0 was asked for."""
        return self._listeners[host, port].port

    def close(self) -> None:
        """Close all of them."""
        for listener in self._listeners.values():
            listener.close()
        self._listeners.clear()


class _Listener:
    def __init__(self) -> None:
        self.pages: dict[str, Handler] = {}
        self.port = 0
        self._server: asyncio.Server | None = None
        self._connections = 0

    async def open(self, host: str, port: int) -> None:
        self._server = await asyncio.start_server(self._connection, host or None, port, limit=MAX_REQUEST)
        self.port = self._server.sockets[0].getsockname()[1]

    def close(self) -> None:
        if self._server is not None:
            self._server.close()

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._connections += 1
        try:
            if self._connections <= MAX_CONNECTIONS:
                async with asyncio.timeout(REQUEST_TIMEOUT_S):
                    writer.write(self._answer(await reader.readuntil(b"\r\n\r\n")))
                    await writer.drain()
        except (OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            pass  # a client that says nothing, too much, or went away gets nothing
        finally:
            self._connections -= 1
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    def _answer(self, head: bytes) -> bytes:
        words = head.split(b"\r\n", 1)[0].decode("latin-1").split(" ")
        if len(words) != 3 or not words[2].startswith("HTTP/1."):
            return _render(Page(HTTPStatus.BAD_REQUEST, "Bad Request\n"))
        if words[0] not in {"GET", "HEAD"}:
            return _render(Page(HTTPStatus.METHOD_NOT_ALLOWED, "Method Not Allowed\n"))
        handler = self.pages.get(words[1].partition("?")[0])
        page = handler() if handler else Page(HTTPStatus.NOT_FOUND, "404 page not found\n")
        return _render(page, body=words[0] == "GET")


def _render(page: Page, *, body: bool = True) -> bytes:
    text = page.text.encode()
    head = (
        f"HTTP/1.1 {page.status} {HTTPStatus(page.status).phrase}\r\nContent-Type: {page.content_type}\r\n"
        f"Content-Length: {len(text)}\r\nConnection: close\r\n\r\n"
    )
    return head.encode() + (text if body else b"")
