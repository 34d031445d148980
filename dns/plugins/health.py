"""health: `GET /health` says OK while the process runs; `lameduck` delays its end so that others can look elsewhere.

Syntax: `health [ADDRESS] { lameduck DURATION }`, by default on :8080.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence

from podnet.dns.config import Directive, Setup, Token, parse_duration, parse_number
from podnet.dns.handler import Plugin, Runtime
from podnet.dns.http import Page

log = logging.getLogger("plugin/health")

DEFAULT_ADDRESS = ("", 8080)


class Health(Plugin):
    """A page, and a pause."""

    name = "health"

    def __init__(self, address: tuple[str, int], lameduck_s: float = 0.0) -> None:
        self.address = address
        self.lameduck_s = lameduck_s
        self._end: Callable[[], None] | None = None

    async def start(self, runtime: Runtime) -> None:
        """Serve the page."""
        self._end = await runtime.http.serve(*self.address, "/health", lambda: Page(200, "OK"))

    async def stop(self) -> None:
        """No page any more."""
        if self._end:
            self._end()

    async def lameduck(self) -> None:
        """Go on for a while: the Service's other endpoints take over meanwhile."""
        if self.lameduck_s > 0:
            log.info("Going into lameduck mode for %gs", self.lameduck_s)
            await asyncio.sleep(self.lameduck_s)


def parse_http_address(token: Token) -> tuple[str, int]:
    """`:8080`, `localhost:8080`, `[::1]:8080`."""
    host, separator, port = token.text.rpartition(":")
    if not separator:
        raise Directive(token).error(f"'{token.text}' is not HOST:PORT")
    number = parse_number(Token(port, token.file, token.line), 0, 65535)
    return host.removeprefix("[").removesuffix("]"), number


def setup(setup: Setup) -> Sequence[Plugin]:
    """Read address and lameduck."""
    directive = setup.once()
    if len(directive.args) > 1:
        raise directive.error("health takes one address")
    address = parse_http_address(directive.args[0]) if directive.args else DEFAULT_ADDRESS
    lameduck_s = 0.0
    for line in directive.block:
        if line.name != "lameduck" or len(line.args) != 1:
            raise line.error(f"unknown property '{line.name}'")
        lameduck_s = parse_duration(line.args[0])
    return [Health(address, lameduck_s)]
