"""Ctrl-C, SIGTERM and a closed terminal while a cluster is being made: never lost, and never in the middle of it.

Python swallows a KeyboardInterrupt that is raised inside a hook of fork() ("Exception ignored in …"), and one that is
raised between fork() and the record of the child would leave a room that nobody knows. So the signals are only noted
while they are held, and raised when that is over. Source: signal(7), the fork hooks of Python's logging and threading.
"""

from __future__ import annotations

import signal
from types import FrameType, TracebackType
from typing import Self

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Interrupted(BaseException):
    """A signal that asks to stop; `exit_code` is the shell's 128 + number. (No KeyboardInterrupt: typer keeps those.)"""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.exit_code = 128 + number


class HeldInterrupts:
    """As a context: hold the signals until `release()`, then raise Interrupted at once. A signal that the caller's
    parent had ignored (nohup, a background job) stays ignored."""

    def __init__(self) -> None:
        self._noted = 0
        self._held = True
        self._before: dict[int, object] = {}

    def __enter__(self) -> Self:
        for number in SIGNALS:
            if signal.getsignal(number) is not signal.SIG_IGN:
                self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.restore()

    def release(self) -> None:
        """From here on a signal interrupts; one that came meanwhile does so now."""
        self._held = False
        self._raise_noted()

    def restore(self) -> None:
        """Put back what was there (also in a forked child, which is another process with signals of its own)."""
        while self._before:
            number, before = self._before.popitem()
            signal.signal(number, before)  # type: ignore[arg-type]  # what signal.signal returned, it takes

    def _note(self, number: int, _frame: FrameType | None) -> None:
        self._noted = number
        if not self._held:
            self._raise_noted()

    def _raise_noted(self) -> None:
        if self._noted:
            # One is enough: a second Ctrl-C must not stop the tidying up that the first has begun.
            self._held = True
            number, self._noted = self._noted, 0
            raise Interrupted(number)
