"""autopath: walks the client's search list here, so that the client asks once.

Syntax: `autopath [ZONE...] RESOLV-CONF|@PLUGIN`. `@kubernetes` asks that plugin (`search_path(client)`), which knows the
pod behind the address.

    www.example.com.default.svc.cluster.local. A   the first name of the search list ...
    answer: CNAME www.example.com., www.example.com. A 192.0.2.1     ... and the first that exists
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Protocol, runtime_checkable

from podnet.dns.config import ConfigError, Setup, Token, longest_match
from podnet.dns.handler import Address, Handler, Plugin, Request, Response, Runtime
from podnet.dns.message import CNAME, NXDOMAIN, Message, fqdn, is_subdomain, record


@runtime_checkable
class SearchPaths(Protocol):
    """Who knows the search list of a client."""

    def search_path(self, client: Address) -> Sequence[str] | None:
        """Its domains, the last one "" for the name as it is; None for a client that is not known."""


class Autopath(Plugin):
    """Asks the chain below for each name in turn."""

    name = "autopath"

    def __init__(self, zones: tuple[str, ...], path: Sequence[str] = (), provider: Token | None = None) -> None:
        self.zones = zones
        self._path = path
        self._provider_name = provider
        self._provider: SearchPaths | None = None

    async def start(self, runtime: Runtime) -> None:
        """Find the provider and count successes."""
        self._success = runtime.metrics.counter(
            "coredns_autopath_success_total", "Counter of requests that did autopath.", ("server",)
        )
        if self._provider_name is None:
            return
        provider = runtime.siblings.get(self._provider_name.text[1:])
        if not isinstance(provider, SearchPaths):
            raise ConfigError(
                f"autopath: {self._provider_name.text} is no provider of search paths here", self._provider_name
            )
        self._provider = provider

    async def serve(self, request: Request, next_: Handler) -> Response:
        """The first name of the list that exists."""
        if longest_match(request.name, self.zones) is None:
            return await next_(request)
        path = self._provider.search_path(request.client) if self._provider else self._path
        if not path or path[0] in {"", "."}:
            return await next_(request)
        first = fqdn(path[0]).lower()
        if request.name == first or not is_subdomain(request.name, first):
            return (await next_(request)).once()
        base = request.qname[: -len(first)]
        denied: Response | None = None
        for domain in path:
            qname = request.qname if domain == path[0] else base + domain.strip(".") + "."
            qname = qname.replace("..", ".")
            response = await next_(request.asking(qname))
            if response.message.rcode != NXDOMAIN:
                self._success.add("dns://")
                return Response(_renamed(response.message, request), error=response.error)
            denied = denied or response
        assert denied is not None
        return denied.once().with_message(_renamed(denied.message, request))


def _renamed(message: Message, request: Request) -> Message:
    """The answer under the name that was asked, by way of a CNAME where it is about another one."""
    answers = message.answers
    if answers and answers[0].name.lower() != request.name:
        answers = (record(request.qname, answers[0].ttl, CNAME(answers[0].name)), *answers)
    return replace(message, answers=answers, questions=request.message.questions)


def setup(setup: Setup) -> Sequence[Plugin]:
    """The last word is where the search list comes from."""
    directive = setup.once()
    if not directive.args or directive.block:
        raise directive.error("autopath needs a resolv.conf or @PLUGIN")
    *zones, source = directive.args
    names = setup.zones_of(zones)
    if source.text.startswith("@"):
        return [Autopath(names, provider=source)]
    try:
        lines = setup.path(source).read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError as error:
        raise directive.error(f"failed to parse '{source.text}': {error.strerror}", source) from error
    path: list[str] = []
    for line in lines:
        words = line.split()
        if words[:1] in (["search"], ["domain"]):
            path = [fqdn(word) for word in words[1:]]
    return [Autopath(names, [*path, ""])]
