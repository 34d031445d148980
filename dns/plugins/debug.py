"""debug: let a broken plugin end the process instead of answering SERVFAIL, so that its traceback is seen.

Syntax: `debug`. Reports of the log level DEBUG are shown too.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

from podnet.dns.config import Setup
from podnet.dns.handler import Plugin, Runtime


class Debug(Plugin):
    """`instance.py` looks for it by name."""

    name = "debug"

    async def start(self, runtime: Runtime) -> None:  # noqa: ARG002 - nothing of it is needed
        """Show debug messages."""
        logging.getLogger().setLevel(logging.DEBUG)


def setup(setup: Setup) -> Sequence[Plugin]:
    """`debug` takes no arguments."""
    directive = setup.once()
    if directive.args:
        raise directive.error("debug takes no arguments")
    return [Debug()]
