"""`/pause`: sleep until SIGINT or SIGTERM, and reap whatever is orphaned meanwhile (it may be PID 1 of a pod)."""

from __future__ import annotations

import os
import signal


def main(argv: list[str]) -> int:
    """Exit code 0 after SIGINT or SIGTERM, as the real one."""
    if "-v" in argv[1:]:
        print("pause.c podnet")
        return 0
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT, signal.SIGTERM, signal.SIGCHLD])
    for awaited in (signal.SIGINT, signal.SIGTERM):
        # Never called, but seen in /proc: a signal that is waited for is not listed there as blocked.
        signal.signal(awaited, lambda *_: None)
    while True:
        number = signal.sigwait([signal.SIGINT, signal.SIGTERM, signal.SIGCHLD])
        if number != signal.SIGCHLD:
            return 0
        _reap()


def _reap() -> None:
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        return
