"""reload: reads the Corefile again when it (or a file it imports) changed, and swaps without losing a query.

Syntax: `reload [INTERVAL] [JITTER]`, 30s and 15s if not said, at least 2s and 1s; `reload 0` is off. What decides is a
hash of what the Corefile says, so a change of comments is none.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import random
from collections.abc import Mapping, Sequence
from pathlib import Path

from podnet.dns.config import ConfigError, Setup, parse_duration
from podnet.dns.corefile import parse_corefile
from podnet.dns.handler import Plugin, Runtime

log = logging.getLogger("plugin/reload")

DEFAULT_INTERVAL_S, DEFAULT_JITTER_S = 30.0, 15.0
MIN_INTERVAL_S, MIN_JITTER_S = 2.0, 1.0


class Reload(Plugin):
    """Looks at the file in a task of its own."""

    name = "reload"

    def __init__(self, corefile: Path | None, environ: Mapping[str, str], interval_s: float, jitter_s: float) -> None:
        self._corefile = corefile
        self._environ = environ
        self.interval_s, self.jitter_s = interval_s, min(jitter_s, interval_s / 2)
        self._digest = digest(corefile, environ)

    async def start(self, runtime: Runtime) -> None:
        """Watch, and count what could not be loaded."""
        failed = runtime.metrics.counter(
            "coredns_reload_failed_total", "Counter of the number of failed reload attempts."
        )
        failed.add(amount=0)
        version = runtime.metrics.gauge(
            "coredns_reload_version_info", "A metric with a constant '1' value.", ("hash", "value")
        )
        version.values.clear()
        version.set(1, "sha512", self._digest)
        log.info("Running configuration SHA512 = %s", self._digest)
        if self._corefile is None or self.interval_s == 0 or runtime.reload is None:
            return
        reload = runtime.reload

        async def watch() -> None:
            while True:
                await asyncio.sleep(self.interval_s + random.uniform(0, self.jitter_s))
                found = digest(self._corefile, self._environ)
                if found == self._digest:
                    continue
                self._digest = found
                log.info("Reloading")
                # The reload ends this very instance, so it must not run inside of it.
                if not await asyncio.shield(asyncio.ensure_future(reload())):
                    failed.add()

        runtime.spawn(watch())


def digest(corefile: Path | None, environ: Mapping[str, str]) -> str:
    """SHA-512 of what the Corefile says; of its text when that says nothing."""
    if corefile is None:
        return ""
    try:
        text = corefile.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return "unreadable"
    try:
        text = repr(
            [
                ([key.text for key in block.keys], _plain(block.directives))
                for block in parse_corefile(text, str(corefile), environ)
            ]
        )
    except ConfigError as error:
        text = f"{error}\n{text}"
    return hashlib.sha512(text.encode()).hexdigest()


def _plain(directives: Sequence[object]) -> list[object]:
    return [(each.name, each.words, _plain(each.block)) for each in directives]  # type: ignore[attr-defined]


def setup(setup: Setup) -> Sequence[Plugin]:
    """Read interval and jitter."""
    directive = setup.once()
    if len(directive.args) > 2:
        raise directive.error("reload takes [INTERVAL] [JITTER]")
    interval_s, jitter_s = DEFAULT_INTERVAL_S, DEFAULT_JITTER_S
    if directive.args:
        interval_s = parse_duration(directive.args[0])
        if 0 < interval_s < MIN_INTERVAL_S:
            raise directive.error(f"interval value must be greater or equal to {MIN_INTERVAL_S:g}s", directive.args[0])
        jitter_s = min(DEFAULT_JITTER_S, interval_s / 2)
    if len(directive.args) > 1:
        jitter_s = parse_duration(directive.args[1])
        if jitter_s < MIN_JITTER_S:
            raise directive.error(f"jitter value must be greater or equal to {MIN_JITTER_S:g}s", directive.args[1])
    return [Reload(setup.corefile, setup.environ, interval_s, jitter_s)]
