"""Run one HTTP server until a signal: the main() of every small echo server here."""

from __future__ import annotations

import asyncio
import signal
import sys

from podnet.controlplane.kubelet.images.programs import http
from podnet.controlplane.kubelet.images.programs.http import Handler, Log, Server


def run(
    handler: Handler,
    port: int,
    *,
    host: str | None = None,
    headers: tuple[tuple[str, str], ...] = (),
    log: Log | None = None,
    started: str = "",
    stop_signals: tuple[int, ...] = (signal.SIGTERM, signal.SIGINT),
    tls: tuple[str, str] | None = None,
) -> int:
    """Serve until one of the signals; the exit code, 1 when the port can not be had."""
    try:
        asyncio.run(_serve(Server(handler, headers=headers, log=log), host, port, started, stop_signals, tls))
    except OSError as error:
        print(f"listen tcp {host or ''}:{port}: bind: {(error.strerror or str(error)).lower()}", file=sys.stderr)
        return 1
    return 0


async def _serve(
    server: Server,
    host: str | None,
    port: int,
    started: str,
    stop_signals: tuple[int, ...],
    tls: tuple[str, str] | None,
) -> None:
    stop = http.stop_event(stop_signals)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # as PID 1 it inherits orphans: the kernel reaps them
    listener = await server.listen(host, port, tls=http.tls_context(*tls) if tls else None)
    if started:
        print(started, file=sys.stderr, flush=True)
    await stop.wait()
    listener.close()
    await server.drain(5.0)
