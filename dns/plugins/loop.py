"""loop: finds out whether what is forwarded comes back, and ends the process if so.

Syntax: `loop`. At start it sends itself a HINFO query for a random name; seeing that come in more than twice means that
an upstream of this server is this server. Better to stop than to answer itself until the memory is full.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Sequence
from ipaddress import IPv4Address

from podnet.dns.config import Setup
from podnet.dns.handler import Handler, Plugin, Request, Response, Runtime
from podnet.dns.message import HINFO_, SERVFAIL, query

log = logging.getLogger("plugin/loop")

MAX_SEEN = 2
WATCH_S = 30.0
"""How long the name is watched for."""
ATTEMPTS = 10
RETRY_S = 1.0


class Loop(Plugin):
    """Counts its own question. Passes everything on."""

    name = "loop"
    transparent = True

    def __init__(self, zone: str) -> None:
        self.zone = zone
        self.qname = f"{secrets.randbits(62)}.{secrets.randbits(62)}." + ("" if zone == "." else zone)
        self.seen = 0
        self.watching = True
        self._runtime: Runtime | None = None

    async def start(self, runtime: Runtime) -> None:
        """Ask."""
        self._runtime = runtime
        runtime.spawn(self._probe(runtime))

    async def serve(self, request: Request, next_: Handler) -> Response:
        """Count, and pass on."""
        if self.watching and request.qtype == HINFO_ and request.name == self.qname:
            self.seen += 1
            if self.seen > MAX_SEEN and self._runtime is not None and self._runtime.stop is not None:
                self.watching = False
                reason = (
                    f"plugin/loop: Loop ({request.client}:{request.client_port} -> :{request.local_port}) detected for zone "
                    f'"{self.zone}", see https://coredns.io/plugins/loop#troubleshooting. Query: "HINFO {self.qname}"'
                )
                log.critical("%s", reason)
                self._runtime.stop(reason)
        return await next_(request)

    async def _probe(self, runtime: Runtime) -> None:
        """Ask from the top of the chain; upstreams may not be there yet, so try some times."""
        question = Request(query(self.qname, HINFO_), IPv4Address("127.0.0.1"))
        for _ in range(ATTEMPTS):
            response = await runtime.resolve(question)
            if response.message.rcode != SERVFAIL or self.seen > MAX_SEEN:
                break
            # Unanswered is not seen: the count is of what comes back for one question.
            self.seen = 0
            await asyncio.sleep(RETRY_S)
        await asyncio.sleep(WATCH_S)
        self.watching = False


def setup(setup: Setup) -> Sequence[Plugin]:
    """`loop` takes no arguments."""
    directive = setup.once()
    if directive.args or directive.block:
        raise directive.error("loop takes no arguments")
    return [Loop(setup.zones[0])]
