"""The one place that imports Mininet, with what it needs before that and after.

Before: its release on PyPI imports `distutils.version`, which Python 3.12 took away; where no setuptools stands in for
it, a stand-in with the one class Mininet compares Open vSwitch versions with is put in place. After: its messages, which
it writes to the terminal through a logger in no hierarchy, go to Python's logging as `podnet.topology.mininet`.
"""

from __future__ import annotations

import importlib.util
import logging
import sys
import types


class StrictVersion:
    """Dotted numbers that compare, as distutils had them."""

    def __init__(self, text: str) -> None:
        self.parts = tuple(int(part) for part in text.split(".") if part.isdigit())

    def __lt__(self, other: StrictVersion) -> bool:
        return self.parts < other.parts


def provide_distutils() -> None:
    """Put the stand-in in place where Python has no distutils."""
    if importlib.util.find_spec("distutils") is not None:
        return
    version = types.ModuleType("distutils.version")
    version.StrictVersion = StrictVersion  # type: ignore[attr-defined]
    package = types.ModuleType("distutils")
    package.version = version  # type: ignore[attr-defined]
    sys.modules.update({"distutils": package, "distutils.version": version})


provide_distutils()

import mininet.link  # noqa: E402 - see above
import mininet.log  # noqa: E402
import mininet.net  # noqa: E402
import mininet.node  # noqa: E402

__all__ = ["forward_mininet_log", "mininet", "provide_distutils"]


class _Forward(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        logging.getLogger("podnet.topology.mininet").log(record.levelno, "%s", record.getMessage().rstrip())


def forward_mininet_log() -> None:
    """Bring Mininet's messages to Python's logging; doing it again changes nothing."""
    mininet.log.lg.handlers = [_Forward()]
    mininet.log.lg.setLevel(logging.WARNING)
