"""Following a CNAME to where it leads, by asking this very server again (CoreDNS's upstream lookup)."""

from __future__ import annotations

from dataclasses import replace

from podnet.dns.handler import Handler, Request, Response
from podnet.dns.message import CNAME, CNAME_, NOERROR

MAX_CHAIN = 10


async def follow_cname(request: Request, response: Response, resolve: Handler) -> Response:
    """The response with what its last CNAME leads to appended; unchanged where it leads nowhere.

    The target's answer is by way of the whole server, so a chain goes on inside of it; whether the whole may be served
    again depends on both parts."""
    message = response.message
    last = message.answers[-1] if message.answers else None
    if last is None or not isinstance(last.data, CNAME) or request.qtype == CNAME_ or message.rcode != NOERROR:
        return response
    if len(message.answers) >= MAX_CHAIN:
        return response
    # Not over UDP: what is asked inside must not be cut to a datagram's size by an upstream.
    found = await resolve(request.asking(last.data.target))
    if found.silent or found.message.rcode not in {NOERROR, 3}:
        return replace(response.once(), error=found.error)
    merged = replace(
        message,
        answers=(*message.answers, *found.message.answers),
        truncated=message.truncated or found.message.truncated,
    )
    reuse = response.reuse.and_(found.reuse) if response.reuse is not None and found.reuse is not None else None
    return Response(merged, reuse, error=response.error)
