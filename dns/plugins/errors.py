"""errors: writes what went wrong below it to standard output.

Syntax: `errors { stacktrace; consolidate DURATION REGEXP [LEVEL] }`. A consolidated error is counted, and told once at
the end of the duration.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from podnet.dns.config import Setup, parse_duration
from podnet.dns.handler import Handler, Plugin, Request, Response, Runtime
from podnet.dns.message import type_name

log = logging.getLogger("plugin/errors")
_LEVELS = {"error": logging.ERROR, "warning": logging.WARNING, "info": logging.INFO, "debug": logging.DEBUG}


@dataclass
class Pattern:
    """A kind of error that is told once in a while, and how often it came since."""

    expression: re.Pattern[str]
    period_s: float
    level: int = logging.ERROR
    count: int = field(default=0)


class Errors(Plugin):
    """Logs the `error` of responses; the response goes on unchanged."""

    name = "errors"
    transparent = True

    def __init__(self, patterns: Sequence[Pattern] = ()) -> None:
        self.patterns = patterns

    async def start(self, runtime: Runtime) -> None:
        """Tell of consolidated errors at the end of each period."""
        for pattern in self.patterns:
            runtime.spawn(self._tell(pattern))

    async def serve(self, request: Request, next_: Handler) -> Response:
        """Log what the plugins below could not do."""
        response = await next_(request)
        if response.error:
            for pattern in self.patterns:
                if pattern.expression.search(response.error):
                    pattern.count += 1
                    return response
            log.error(
                "%d %s %s: %s",
                response.message.rcode,
                request.qname,
                type_name(request.qtype),
                response.error,
            )
        return response

    async def _tell(self, pattern: Pattern) -> None:
        while True:
            await asyncio.sleep(pattern.period_s)
            count, pattern.count = pattern.count, 0
            if count:
                log.log(
                    pattern.level,
                    "%d errors like '%s' occurred in last %gs",
                    count,
                    pattern.expression.pattern,
                    pattern.period_s,
                )


def setup(setup: Setup) -> Sequence[Plugin]:
    """Read the block."""
    directive = setup.once()
    if directive.args and directive.words != ("stdout",):
        raise directive.error("invalid log file", directive.args[0])
    patterns: list[Pattern] = []
    for line in directive.block:
        if line.name == "stacktrace" and not line.args:
            continue  # tracebacks of broken plugins are logged in any case
        if line.name != "consolidate" or len(line.args) not in {2, 3}:
            raise line.error(f"unknown property '{line.name}'")
        level = line.words[2] if len(line.args) == 3 else "error"
        if level not in _LEVELS:
            raise line.error(f"unknown log level '{level}'", line.args[2])
        try:
            expression = re.compile(line.words[1])
        except re.error as error:
            raise line.error(f"failed to compile regular expression: {error}", line.args[1]) from error
        patterns.append(Pattern(expression, parse_duration(line.args[0]), _LEVELS[level]))
    return [Errors(patterns)]
