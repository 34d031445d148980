"""One exchange: query bytes in, answer bytes out, by way of the plugin chain. The slow path, and the one that defines
what is right.

The rule kept here: no socket. Whatever the bytes are, there is an answer or silence, never an exception:

    shorter than a header, or a response      nothing (answering would make loops)
    opcode other than QUERY                   NOTIMP
    not one question, unreadable              FORMERR, the header alone where no question can be read
    EDNS version not 0                        BADVERS
    class not IN, or no zone of ours          REFUSED
    a plugin broke                            SERVFAIL, and a traceback in the log

Sources: RFC 1035 section 4.1, RFC 6891 sections 6 and 7, RFC 9619 (one question).
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace

from podnet.dns.handler import Handler, Plugin, Request, Response, WireAnswer, failure, link, refuse
from podnet.dns.message import (
    BADVERS,
    FORMERR,
    IN,
    NOTIMP,
    QUERY,
    REFUSED,
    Edns,
    Message,
    reply,
)
from podnet.dns.wire import HEADER, MAX_MESSAGE, MIN_UDP_PAYLOAD, WireError, decode, decode_name, encode

log = logging.getLogger(__name__)

KEPT_OPTIONS = frozenset({3, 9, 10, 11, 12})
"""NSID, EXPIRE, COOKIE, TCP KEEPALIVE and PADDING go back to the client as they came, as in CoreDNS."""


@dataclass(frozen=True)
class Block:
    """A server block in service: the zone it is listed under, its plugins and their chain."""

    zone: str
    plugins: Sequence[Plugin]
    chain: Handler

    @classmethod
    def of(cls, zone: str, plugins: Sequence[Plugin]) -> Block:
        """Link the plugins."""
        return cls(zone, plugins, link(plugins))

    def prepare(self, question: bytes) -> WireAnswer | None:
        """A prepared answer of a plugin that nothing opaque stands before."""
        rotates = False
        for plugin in self.plugins:
            rotates = rotates or plugin.name == "loadbalance"
            found = plugin.prepare(question)
            if found is not None:
                if rotates and found.reuse is not None and found.stride:
                    return replace(found, reuse=replace(found.reuse, rotates=True))
                return found
            if type(plugin).serve is not Plugin.serve and not plugin.transparent:
                return None
        return None


@dataclass(frozen=True, slots=True)
class Answer:
    """What to send, and what it was made from; `message` is None where no chain was asked."""

    data: bytes
    message: Message | None = None
    response: Response | None = None
    zone: str = ""


class Exchange:
    """The blocks of one listening address; the longest zone that matches answers."""

    def __init__(self, blocks: Sequence[Block], *, debug: bool = False) -> None:
        self._blocks = {block.zone: block for block in blocks}
        self._debug = debug

    @property
    def zones(self) -> list[str]:
        """What is served here."""
        return list(self._blocks)

    def match(self, name: str) -> Block | None:
        """The block for a lower-case name: the longest suffix wins."""
        blocks = self._blocks
        while True:
            block = blocks.get(name)
            if block is not None:
                return block
            if name == ".":
                return None
            # A backslash only ever escapes a dot that belongs to a label; such names are rare: go the long way.
            name = name.partition(".")[2] or "." if "\\" not in name else _parent(name)

    def prepare(self, question: bytes) -> tuple[str, WireAnswer] | None:
        """For the fast path: a prepared answer to a question in lower-case wire form."""
        try:
            name, end = decode_name(question, 0)
        except (WireError, IndexError):
            return None
        if end != len(question) - 4 or question[end + 2 :] != b"\0\1":
            return None
        block = self.match(name)
        found = block.prepare(question) if block else None
        return (block.zone, found) if block and found else None

    async def resolve(self, request: Request) -> Response:
        """Ask the responsible chain, as a client would, inside the process."""
        block = self.match(request.name)
        return await (block.chain if block else refuse)(request)

    async def answer(self, data: bytes, way: Request) -> Answer | None:
        """The answer to a query that came in `way`, or None for silence."""
        if len(data) < HEADER.size or data[2] & 0x80:
            return None
        try:
            query = decode(data)
        except WireError:
            if data[2] >> 3 & 15 != QUERY:
                return Answer(_bare(data, NOTIMP))
            return Answer(_bare(data, FORMERR))
        if query.opcode != QUERY:
            return Answer(_bare(data, NOTIMP))
        if len(query.questions) != 1 or query.answers or len(query.authority) > 1 or len(query.additional) > 1:
            return Answer(_bare(data, FORMERR))
        request = replace(way, message=query, size=len(data))
        response, zone = await self._respond(request)
        if response.silent:
            return None
        return _finish(request, response, zone)

    async def _respond(self, request: Request) -> tuple[Response, str]:
        query = request.message
        if query.edns is not None and query.edns.version != 0:
            return Response(reply(query, BADVERS, authoritative=False)), ""
        block = self.match(request.name)
        if block is None or request.qclass != IN:
            return Response(reply(query, REFUSED, authoritative=False)), "dropped"
        request = replace(request, server_zone=block.zone)
        try:
            return await block.chain(request), block.zone
        except Exception as error:
            if self._debug:
                raise
            log.exception("recovered from a broken plugin: %s", request.qname)
            return failure(request, f"{type(error).__name__}: {error}"), block.zone


def _parent(name: str) -> str:
    index = 0
    while name[index] != ".":
        index += 2 if name[index] == "\\" else 1
    return name[index + 1 :] or "."


def _bare(data: bytes, rcode: int) -> bytes:
    """A header that says no: id, opcode and RD are the query's, there is nothing else."""
    return data[:2] + bytes((0x80 | data[2] & 0x79, rcode)) + bytes(8)


def _finish(request: Request, response: Response, zone: str) -> Answer:
    """Add EDNS if the client has it, and fit the answer to what the client can take."""
    query, message = request.message, response.message
    edns = None
    limit = MAX_MESSAGE if request.transport == "tcp" else MIN_UDP_PAYLOAD
    if query.edns is not None:
        payload = query.edns.payload if message.edns is None else min(message.edns.payload, query.edns.payload)
        if request.transport != "tcp":
            limit = max(MIN_UDP_PAYLOAD, payload)
        options = message.edns.options if message.edns is not None else ()
        kept = tuple(option for option in query.edns.options if option[0] in KEPT_OPTIONS)
        edns = Edns(payload, 0, query.edns.do, options or kept)
    message = replace(message, id=query.id, response=True, edns=edns)
    if edns is None and message.rcode > 15:
        message = replace(message, rcode=message.rcode & 15)
    try:
        data = encode(message, limit)
    except WireError:
        log.exception("an answer cannot be put into bytes: %s", request.qname)
        response = failure(request, "encoding failed")
        message = replace(response.message, edns=edns)
        data = encode(message, limit)
    return Answer(data, message, response, zone)
