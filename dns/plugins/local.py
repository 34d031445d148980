"""local: answers for localhost and its reverse zones, here and for nobody else (RFC 6303).

Syntax: `local`. `localhost.DOMAIN`, which search lists make, is localhost too, and is counted.
"""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import IPv4Address, IPv6Address

from podnet.dns.config import Setup, longest_match
from podnet.dns.handler import Handler, Plugin, Request, Response, Reuse, Runtime
from podnet.dns.message import A_, AAAA, AAAA_, NS, NS_, PTR, PTR_, SOA, SOA_, A, Rdata, record, reply

TTL = 604800
ZONES = ("localhost.", "0.in-addr.arpa.", "127.in-addr.arpa.", "255.in-addr.arpa.")
_SOA = SOA("localhost.", "root.localhost.", 1, 0, 0, 0, TTL)
_ADDRESSES: dict[int, Rdata] = {A_: A(IPv4Address("127.0.0.1")), AAAA_: AAAA(IPv6Address("::1"))}
_APEX: dict[int, Rdata] = {NS_: NS("localhost."), SOA_: _SOA}
_REVERSE: dict[int, Rdata] = {PTR_: PTR("localhost.")}


class Local(Plugin):
    """Four zones of one or two names."""

    name = "local"

    async def start(self, runtime: Runtime) -> None:
        """A counter for search lists that lead here."""
        self._count = runtime.metrics.counter(
            "coredns_local_localhost_requests_total", "Counter of localhost.<domain> requests."
        )

    async def serve(self, request: Request, next_: Handler) -> Response:
        """Loopback addresses, NS, SOA and one PTR."""
        name = request.name
        if name.startswith("localhost.") and name != "localhost.":
            self._count.add()
            return self._answer(request, _ADDRESSES, request.qname).once()
        zone = longest_match(name, ZONES)
        if zone is None:
            return await next_(request)
        records: dict[int, Rdata] = {}
        if name == zone:
            records = {**_APEX, **(_ADDRESSES if name == "localhost." else {})}
        elif name == "1.0.0.127.in-addr.arpa.":
            records = _REVERSE
        return self._answer(request, records, zone)

    def _answer(self, request: Request, records: dict[int, Rdata], zone: str) -> Response:
        data = records.get(request.qtype)
        if data is None:
            return Response(reply(request.message, authority=[record(zone, TTL, _SOA)]), Reuse())
        return Response(reply(request.message, answers=[record(request.qname, TTL, data)]), Reuse())


def setup(setup: Setup) -> Sequence[Plugin]:
    """`local` takes no arguments."""
    directive = setup.once()
    if directive.args or directive.block:
        raise directive.error("local takes no arguments")
    return [Local()]
