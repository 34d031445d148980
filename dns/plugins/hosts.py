"""hosts: answers from a file in the format of /etc/hosts, and from lines in the Corefile.

Syntax: `hosts [FILE [ZONES...]] { [INLINE]; ttl SECONDS; no_reverse; reload DURATION; fallthrough [ZONES...] }`.
A name that is not there falls through or is SERVFAIL (there is no SOA for an NXDOMAIN), as in CoreDNS. The file is read
again when it changed; answers made from its old text end at that moment.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from podnet.dns.config import Directive, Setup, longest_match, parse_duration, parse_number
from podnet.dns.handler import Address, Handler, Plugin, Request, Response, Reuse, Runtime, Validity, failure
from podnet.dns.message import A_, AAAA, AAAA_, PTR, PTR_, A, Rdata, fqdn, record, reply
from podnet.dns.zones import NO_FALLTHROUGH, Fallthrough, parse_fallthrough, reversed_address

log = logging.getLogger("plugin/hosts")

DEFAULT_FILE = "/etc/hosts"
DEFAULT_TTL = 3600
RELOAD_INTERVAL_S = 5.0
MAX_TTL = 65535
_OPTIONS = {"fallthrough", "no_reverse", "ttl", "reload"}


@dataclass(frozen=True)
class HostsTable:
    """Names to addresses and back."""

    addresses: dict[str, list[Address]] = field(default_factory=dict)
    names: dict[Address, list[str]] = field(default_factory=dict)


def parse_hosts(lines: Iterable[str], *, reverse: bool = True) -> HostsTable:
    """Every `ADDRESS NAME...` line; what is none is left out, as resolvers do."""
    table = HostsTable()
    for line in lines:
        words = line.partition("#")[0].split()
        if len(words) < 2:
            continue
        try:
            address = ipaddress.ip_address(words[0].partition("%")[0])
        except ValueError:
            continue
        for word in words[1:]:
            name = fqdn(word)
            known = table.addresses.setdefault(name.lower(), [])
            if address not in known:
                known.append(address)
            if reverse:
                names = table.names.setdefault(address, [])
                if name not in names:
                    names.append(name)
    return table


@dataclass(frozen=True, slots=True)
class HostsOptions:
    """The directive, understood."""

    path: Path
    zones: tuple[str, ...]
    inline: tuple[str, ...] = ()
    ttl: int = DEFAULT_TTL
    reverse: bool = True
    reload_s: float = RELOAD_INTERVAL_S
    fallthrough: Fallthrough = NO_FALLTHROUGH


class Hosts(Plugin):
    """A table and the file it came from."""

    name = "hosts"

    def __init__(self, options: HostsOptions) -> None:
        self.options = options
        self._seen: tuple[int, int] | None = None
        self._validity = Validity()
        self._table = parse_hosts(options.inline, reverse=options.reverse)
        self.refresh()

    async def start(self, runtime: Runtime) -> None:
        """Look at the file now and then."""
        if self.options.reload_s > 0:
            runtime.spawn(self._watch())

    async def serve(self, request: Request, next_: Handler) -> Response:
        """Addresses of a name, or names of an address."""
        options, table = self.options, self._table
        if longest_match(request.name, options.zones) is None and request.qtype != PTR_:
            return await next_(request)
        data: list[Rdata] = []
        if request.qtype == PTR_:
            address = reversed_address(request.name)
            data = [PTR(name) for name in table.names.get(address, ())] if address else []
            if not data:
                return await next_(request)
        found = table.addresses.get(request.name, [])
        if request.qtype in {A_, AAAA_}:
            data = [
                A(each) if each.version == 4 else AAAA(each) for each in found if _TYPE[each.version] == request.qtype
            ]
        if not data and not found:
            if options.fallthrough.through(request.name):
                return await next_(request)
            return failure(request, "")
        answers = [record(request.qname, options.ttl, each) for each in data]
        return Response(reply(request.message, answers=answers), Reuse((self._validity,)))

    def refresh(self) -> None:
        """Read the file if it is another one than last time."""
        try:
            status = self.options.path.stat()
            seen = (status.st_mtime_ns, status.st_size)
            if seen == self._seen:
                return
            lines = self.options.path.read_text(encoding="utf-8", errors="replace").splitlines()
        except OSError as error:
            if self._seen is not None:
                log.warning("cannot read %s: %s", self.options.path, error.strerror)
            return
        self._seen = seen
        self._table = parse_hosts((*self.options.inline, *lines), reverse=self.options.reverse)
        old, self._validity = self._validity, Validity()
        old.revoke()

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(self.options.reload_s)
            self.refresh()


_TYPE = {4: A_, 6: AAAA_}


def setup(setup: Setup) -> Sequence[Plugin]:
    """Read the directive."""
    directive = setup.once()
    path = setup.path(directive.args[0]) if directive.args else Path(DEFAULT_FILE)
    values: dict[str, object] = {}
    inline: list[str] = []
    for line in directive.block:
        if line.name in _OPTIONS:
            values.update(_option(line, setup))
        elif line.args and _is_address(line.name):
            inline.append(" ".join((line.name, *line.words)))
        else:
            raise line.error(f"unknown property '{line.name}'")
    zones = setup.zones_of(directive.args[1:])
    return [Hosts(HostsOptions(path, zones, tuple(inline), **values))]  # type: ignore[arg-type]


def _option(line: Directive, setup: Setup) -> dict[str, object]:
    if line.name == "fallthrough":
        return {"fallthrough": parse_fallthrough(line, setup)}
    if line.name == "no_reverse":
        if line.args:
            raise line.error("no_reverse takes no arguments")
        return {"reverse": False}
    if len(line.args) != 1:
        raise line.error(f"{line.name} needs one value")
    if line.name == "ttl":
        return {"ttl": parse_number(line.args[0], 1, MAX_TTL)}
    return {"reload_s": parse_duration(line.args[0])}


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True
