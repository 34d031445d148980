"""whoami: answers with the client's own address (A or AAAA), and its port and protocol as SRV, in the additional section.

Syntax: `whoami`. Nothing here is served twice: the answer is the client's.
"""

from __future__ import annotations

from collections.abc import Sequence

from podnet.dns.config import Setup
from podnet.dns.handler import Handler, Plugin, Request, Response
from podnet.dns.message import AAAA, SRV, A, record, reply


class Whoami(Plugin):
    """Ends the chain."""

    name = "whoami"

    async def serve(self, request: Request, next_: Handler) -> Response:  # noqa: ARG002 - it answers everything
        """The name asked for, with the asker's address."""
        qname = request.qname
        address = record(qname, 0, A(request.client) if request.client.version == 4 else AAAA(request.client))
        # `_udp.name` for a name, `_udp.` alone under the root, as CoreDNS writes it.
        owner = f"_{request.transport}." + ("" if qname == "." else qname)
        port = record(owner, 0, SRV(0, 0, request.client_port, "."))
        return Response(reply(request.message, additional=(address, port)))


def setup(setup: Setup) -> Sequence[Plugin]:
    """`whoami` takes no arguments."""
    directive = setup.once()
    if directive.args or directive.block:
        raise directive.error("whoami takes no arguments")
    return [Whoami()]
