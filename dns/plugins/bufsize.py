"""bufsize: limits the UDP payload size that clients may ask for, to avoid fragments.

Syntax: `bufsize [SIZE]`, 512 to 4096, 1232 if not said.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from podnet.dns.config import Setup, parse_number
from podnet.dns.handler import Handler, Plugin, Request, Response
from podnet.dns.message import Edns

DEFAULT_SIZE = 1232


class Bufsize(Plugin):
    """Lowers the client's size; an answer knows its limit by its EDNS, so it is not one for the fast path."""

    name = "bufsize"

    def __init__(self, size: int) -> None:
        self.size = size

    async def serve(self, request: Request, next_: Handler) -> Response:
        """Ask below with the lower size, and answer with it."""
        edns = request.message.edns
        if edns is None or edns.payload <= self.size:
            return await next_(request)
        lower = replace(request, message=replace(request.message, edns=replace(edns, payload=self.size)))
        response = await next_(lower)
        answer = response.message.edns or Edns()
        message = replace(response.message, edns=replace(answer, payload=min(self.size, answer.payload)))
        return response.once().with_message(message)


def setup(setup: Setup) -> Sequence[Plugin]:
    """Read the size."""
    directive = setup.once()
    if len(directive.args) > 1:
        raise directive.error("bufsize takes one size")
    return [Bufsize(parse_number(directive.args[0], 512, 4096) if directive.args else DEFAULT_SIZE)]
