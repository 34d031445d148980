"""The few commands that a container of the fake runtime can run, without a process.

`echo`, `sleep`, `exit`, `true`, `false`, `cat`, `pause`, `trap '' TERM`, and `sh -c` with these separated by `;`. A
program is a coroutine: it ends with an exit code, and by a signal when its task is cancelled.
"""

from __future__ import annotations

import asyncio
import shlex
from collections.abc import Callable, Sequence

Write = Callable[[str, bytes], None]

KNOWN = frozenset({"echo", "sleep", "exit", "true", "false", "cat", "pause", "trap", "sh", "/bin/sh"})
FOREVER_S = 10**8


class FakeProgram:
    """One run of a command line; `ignores_term` is set by `trap '' TERM`."""

    def __init__(self, argv: Sequence[str], write: Write) -> None:
        self._argv = list(argv)
        self._write = write
        self.ignores_term = False
        self.stdin: asyncio.Queue[bytes] = asyncio.Queue(100)

    async def run(self) -> int:
        """The exit code."""
        for words in self._steps():
            code, ends = await self._step(words)
            if ends:
                return code
        return code

    def _steps(self) -> list[list[str]]:
        if self._argv[0] in {"sh", "/bin/sh"} and self._argv[1:2] == ["-c"]:
            steps = [shlex.split(step) for step in self._argv[2].split(";")]
            return [step for step in steps if step] or [["true"]]
        return [self._argv]

    async def _step(self, words: list[str]) -> tuple[int, bool]:
        """(exit code, whether the program ends here)."""
        command, arguments = words[0], words[1:]
        if command == "exit":
            return int(arguments[0]) if arguments else 0, True
        if command == "sleep":
            await asyncio.sleep(FOREVER_S if arguments[0] == "infinity" else float(arguments[0]))
        elif command in {"pause", "sh", "/bin/sh"}:
            await asyncio.sleep(FOREVER_S)
        elif command == "trap":
            self.ignores_term = True
        elif command == "echo":
            to_stderr = ">&2" in arguments
            words = [word for word in arguments if word != ">&2"]
            self._write("stderr" if to_stderr else "stdout", (" ".join(words) + "\n").encode())
        elif command == "cat":
            while data := await self.stdin.get():
                self._write("stdout", data)
        return (1 if command == "false" else 0), False
