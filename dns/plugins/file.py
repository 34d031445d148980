"""file: serves zones from master files.

Syntax: `file DBFILE [ZONES...] { reload DURATION; fallthrough [ZONES...] }`. The file is read again when its SOA serial
changed; a file that cannot be read leaves the old zone in service (at start it is an error).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from podnet.dns.chase import follow_cname
from podnet.dns.config import ConfigError, Directive, Setup, longest_match, parse_duration
from podnet.dns.handler import Handler, Plugin, Request, Response, Reuse, Runtime, Validity
from podnet.dns.message import AXFR_, IXFR_, NXDOMAIN, REFUSED, reply
from podnet.dns.zone import FileZone
from podnet.dns.zonefile import ZoneFileError, parse_zone_file
from podnet.dns.zones import Fallthrough, parse_fallthrough

log = logging.getLogger("plugin/file")

RELOAD_INTERVAL_S = 60.0


@dataclass(slots=True)
class _Served:
    """A zone, and the end of answers made from it."""

    path: Path
    zone: FileZone
    validity: Validity
    seen: tuple[int, int]
    fallthrough: Fallthrough


class File(Plugin):
    """Zones by name."""

    name = "file"

    def __init__(self) -> None:
        self.zones: dict[str, _Served] = {}
        self._reloads: list[float] = []
        self._resolve: Handler | None = None

    def add(self, path: Path, origins: Sequence[str], reload_s: float, fallthrough: Fallthrough) -> None:
        """Serve zones from a file. OSError or ZoneFileError when it cannot be read."""
        for origin in origins:
            zone, seen = read_zone(path, origin)
            self.zones[origin] = _Served(path, zone, Validity(), seen, fallthrough)
        if reload_s > 0:
            self._reloads.append(reload_s)

    async def start(self, runtime: Runtime) -> None:
        """Look at the files now and then."""
        self._resolve = runtime.resolve
        if self._reloads:
            runtime.spawn(self._watch(min(self._reloads)))

    async def serve(self, request: Request, next_: Handler) -> Response:
        """From the zone that is nearest."""
        origin = longest_match(request.name, tuple(self.zones))
        if origin is None:
            return await next_(request)
        if request.qtype in {AXFR_, IXFR_}:
            return Response(reply(request.message, REFUSED, authoritative=False))
        served = self.zones[origin]
        found = served.zone.lookup(request.qname, request.qtype)
        if found.rcode == NXDOMAIN and not found.answers and served.fallthrough.through(request.name):
            return await next_(request)
        message = reply(
            request.message,
            found.rcode,
            answers=found.answers,
            authority=found.authority,
            additional=found.additional,
            authoritative=found.authoritative,
        )
        response = Response(message, Reuse((served.validity,)))
        if found.chase and self._resolve is not None:
            return await follow_cname(request, response, self._resolve)
        return response

    def refresh(self) -> None:
        """Read again what changed."""
        for origin, served in self.zones.items():
            try:
                if _seen(served.path) == served.seen:
                    continue
                zone, served.seen = read_zone(served.path, origin)
            except (OSError, ValueError) as error:
                log.warning("zone %s not reloaded: %s", origin, error)
                continue
            if zone.serial != served.zone.serial:
                log.info("Successfully reloaded zone %s from %s with serial %d", origin, served.path, zone.serial)
                old, served.validity, served.zone = served.validity, Validity(), zone
                old.revoke()

    async def _watch(self, interval_s: float) -> None:
        while True:
            await asyncio.sleep(interval_s)
            self.refresh()


def read_zone(path: Path, origin: str) -> tuple[FileZone, tuple[int, int]]:
    """The zone in a file, and the file's time and size."""
    seen = _seen(path)
    return FileZone(origin, parse_zone_file(path.read_text(encoding="utf-8"), origin, file=str(path))), seen


def _seen(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_mtime_ns, status.st_size


def setup(setup: Setup) -> Sequence[Plugin]:
    """All files of the block are one plugin."""
    plugin = File()
    for directive in setup.directives:
        if not directive.args:
            raise directive.error("file needs DBFILE")
        reload_s, fallthrough = RELOAD_INTERVAL_S, Fallthrough()
        for line in directive.block:
            if line.name == "reload" and len(line.args) == 1:
                reload_s = parse_duration(line.args[0])
            elif line.name == "fallthrough":
                fallthrough = parse_fallthrough(line, setup)
            elif line.name != "upstream":  # an option of old, without effect since
                raise line.error(f"unknown property '{line.name}'")
        try:
            path = setup.path(directive.args[0])
            plugin.add(path, setup.zones_of(directive.args[1:]), reload_s, fallthrough)
        except (OSError, ZoneFileError, ValueError) as error:
            raise _wrapped(directive, error) from error
    return [plugin]


def _wrapped(directive: Directive, error: Exception) -> ConfigError:
    return directive.error(f"cannot read zone: {error}", directive.args[0])
