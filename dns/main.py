"""The coredns process: read the Corefile, serve, end in good order.

    main.serve_dns(Path("/etc/coredns/Corefile"))    blocks until SIGTERM or SIGINT; SIGUSR1 reads the Corefile again

It runs in a pod, so it imports little (no aiohttp, no uvloop, no YAML) and takes the name it has in upstream's image.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gc
import logging
import signal
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from podnet.dns.config import DEFAULT_PORT, ConfigError
from podnet.dns.server import Server

log = logging.getLogger(__name__)


class LogFormat(logging.Formatter):
    """CoreDNS' lines: `[ERROR] plugin/errors: 2 example.org. A: ...`, queries without the name of their plugin, and bare
    lines for what is served."""

    def format(self, record: logging.LogRecord) -> str:
        """One line; a traceback below it."""
        text = super().format(record)
        if getattr(record, "plain", False):
            return text
        origin = f"{record.name}: " if record.name.startswith("plugin/") and record.name != "plugin/log" else ""
        return f"[{record.levelname}] {'' if text.startswith(origin) else origin}{text}"


def configure_logging() -> None:
    """Everything goes to standard output, as CoreDNS' does."""
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(LogFormat())
    logging.basicConfig(level=logging.INFO, handlers=[handler])


def serve_dns(
    corefile: Path | None,
    *,
    text: str | None = None,
    environ: Mapping[str, str] | None = None,
    port: int = DEFAULT_PORT,
    title: str = "coredns",
) -> None:
    """Serve what a Corefile says (a file, or its `text`; neither is CoreDNS's default) until SIGTERM.

    SystemExit with a message when it cannot start, or when a plugin ends the process (a forwarding loop)."""
    _set_title(title)
    try:
        asyncio.run(run_dns(corefile, text=text, environ=environ, port=port))
    except ConfigError as error:
        raise SystemExit(str(error)) from None
    except OSError as error:
        raise SystemExit(error.strerror or str(error)) from None


async def run_dns(
    corefile: Path | None,
    *,
    text: str | None = None,
    environ: Mapping[str, str] | None = None,
    port: int = DEFAULT_PORT,
) -> None:
    """The same inside a running loop."""
    server = Server(corefile, text=text, environ=environ, port=port)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        with contextlib.suppress(RuntimeError, ValueError):  # not the main thread: whoever called cancels instead
            loop.add_signal_handler(number, server.stop)
    reloads: set[asyncio.Task[bool]] = set()

    def reload() -> None:
        task = loop.create_task(server.reload())
        reloads.add(task)
        task.add_done_callback(reloads.discard)

    with contextlib.suppress(RuntimeError, ValueError):
        loop.add_signal_handler(signal.SIGUSR1, reload)
    # What is imported now stays for good: the collector need not look at it again.
    gc.collect()
    gc.freeze()
    try:
        await server.run()
    except BaseExceptionGroup as group:
        raise _first(group) from None
    if server.failed:
        raise SystemExit(server.failed)


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def _set_title(title: str) -> None:
    try:
        from setproctitle import setproctitle  # not everywhere, and not needed to serve
    except ImportError:
        return
    setproctitle(title)


def main(argv: Sequence[str] | None = None) -> None:
    """`python -m podnet.dns.main -conf Corefile`, with CoreDNS's own flags."""
    parser = argparse.ArgumentParser(prog="coredns", allow_abbrev=False)
    parser.add_argument("-conf", "--conf", default="Corefile", help="the Corefile")
    parser.add_argument("-dns.port", "--dns.port", dest="port", type=int, default=DEFAULT_PORT, help="default port")
    options = parser.parse_args(argv)
    configure_logging()
    path = Path(options.conf)
    if not path.exists() and options.conf == "Corefile":
        serve_dns(None, port=options.port)
    else:
        serve_dns(path, port=options.port)


if __name__ == "__main__":
    main()
