"""any: answers ANY queries with a short HINFO instead of everything (RFC 8482).

Syntax: `any`.
"""

from __future__ import annotations

from collections.abc import Sequence

from podnet.dns.config import Setup
from podnet.dns.handler import Handler, Plugin, Request, Response, Reuse
from podnet.dns.message import ANY_, HINFO_, Raw, record, reply

TTL = 8482
_HINFO = b"\x0dANY obsoleted\x0cSee RFC 8482"


class Any(Plugin):
    """Lets all other types pass."""

    name = "any"

    async def serve(self, request: Request, next_: Handler) -> Response:
        """HINFO for ANY."""
        if request.qtype != ANY_:
            return await next_(request)
        return Response(
            reply(request.message, answers=[record(request.qname, TTL, Raw(_HINFO), rtype=HINFO_)]), Reuse()
        )


def setup(setup: Setup) -> Sequence[Plugin]:
    """`any` takes no arguments."""
    directive = setup.once()
    if directive.args or directive.block:
        raise directive.error("any takes no arguments")
    return [Any()]
