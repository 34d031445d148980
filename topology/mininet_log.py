"""Mininet's messages, brought to Python's logging.

Mininet writes to the terminal through a logger that is in no hierarchy; its warnings appear as `podnet.topology.mininet`.
"""

from __future__ import annotations

import logging

import mininet.log


class _Forward(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        logging.getLogger("podnet.topology.mininet").log(record.levelno, "%s", record.getMessage().rstrip())


def forward_mininet_log() -> None:
    """Do it; doing it again changes nothing."""
    mininet.log.lg.handlers = [_Forward()]
    mininet.log.lg.setLevel(logging.WARNING)
