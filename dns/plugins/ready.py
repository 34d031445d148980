"""ready: `GET /ready` says OK when all plugins of all server blocks have been ready once, and 503 when shutting down.

Syntax: `ready [ADDRESS] { monitor until-ready|continuously }`, by default on :8181. Who is still waiting is in the text.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from podnet.dns.config import Setup
from podnet.dns.handler import Plugin, Runtime
from podnet.dns.http import Page
from podnet.dns.plugins.health import parse_http_address

DEFAULT_ADDRESS = ("", 8181)


class Ready(Plugin):
    """A page. A plugin that was ready is not asked again, unless told to."""

    name = "ready"

    def __init__(self, address: tuple[str, int], *, continuously: bool = False) -> None:
        self.address = address
        self.continuously = continuously
        self._waiting: list[Plugin] = []
        self._all: Sequence[Plugin] = ()
        self._stopping = False
        self._end: Callable[[], None] | None = None

    async def start(self, runtime: Runtime) -> None:
        """Serve the page."""
        self._all = runtime.all_plugins
        self._waiting = list(self._all)
        self._end = await runtime.http.serve(*self.address, "/ready", self.page)

    async def stop(self) -> None:
        """No page any more."""
        if self._end:
            self._end()

    async def lameduck(self) -> None:
        """From now on: not ready, so that no new queries are sent here."""
        self._stopping = True

    def page(self) -> Page:
        """What `/ready` says now."""
        if self._stopping:
            return Page(503, "Shutting down")
        candidates = self._all if self.continuously else self._waiting
        self._waiting = [plugin for plugin in candidates if not plugin.ready()]
        if self._waiting:
            return Page(503, ",".join(sorted({plugin.name for plugin in self._waiting})))
        return Page(200, "OK")


def setup(setup: Setup) -> Sequence[Plugin]:
    """Read the address."""
    directive = setup.once()
    if len(directive.args) > 1:
        raise directive.error("ready takes one address")
    continuously = False
    for line in directive.block:
        if line.name != "monitor" or line.words not in {("until-ready",), ("continuously",)}:
            raise line.error(f"unknown property '{line.name}'")
        continuously = line.words == ("continuously",)
    address = parse_http_address(directive.args[0]) if directive.args else DEFAULT_ADDRESS
    return [Ready(address, continuously=continuously)]
