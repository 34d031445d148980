"""Run one CNI plugin: environment and input in, exit code and output out.

posix_spawn instead of an event loop's own subprocesses, because an ADD should cost a few milliseconds and those cost
ten in a process of this size: input and output are memory files, so nothing has to be pumped, and a pidfd tells the loop
when the plugin is done. Source: posix_spawn(3), pidfd_open(2), memfd_create(2).
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import signal
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

# A plugin that is being replaced at this moment can be executed a moment later.
_BUSY_RETRY_S = (0.01, 0.1, 1.0)


@dataclass(frozen=True, slots=True)
class Finished:
    """A plugin that has ended; a negative exit code is the signal that ended it."""

    exit_code: int
    stdout: bytes
    stderr: bytes


async def execute(path: Path, env: Mapping[str, str], stdin: bytes, timeout_s: float) -> Finished:
    """Run it to its end. TimeoutError when it takes longer, and it is killed; OSError when it cannot be started."""
    with contextlib.ExitStack() as files:
        given, out, err = (_memory_file(files, name) for name in ("stdin", "stdout", "stderr"))
        view = memoryview(stdin)
        while view:
            view = view[os.write(given, view) :]
        os.lseek(given, 0, os.SEEK_SET)
        pid = await _spawn(path, env, (given, out, err))
        exit_code = await _wait(pid, timeout_s)
        return Finished(exit_code, _content(out), _content(err))


def _memory_file(files: contextlib.ExitStack, name: str) -> int:
    fd = os.memfd_create(f"cni-{name}")
    files.callback(os.close, fd)
    return fd


def _content(fd: int) -> bytes:
    return os.pread(fd, os.fstat(fd).st_size, 0)


async def _spawn(path: Path, env: Mapping[str, str], streams: tuple[int, int, int]) -> int:
    actions = [(os.POSIX_SPAWN_DUP2, fd, number) for number, fd in enumerate(streams)]
    # Python ignores these; a plugin expects them as they are by default.
    defaults = (signal.SIGPIPE, signal.SIGXFSZ)
    for delay_s in (*_BUSY_RETRY_S, None):
        try:
            return os.posix_spawn(  # noqa: ASYNC221 - returns as soon as the plugin is executed, in a millisecond
                path, [str(path)], env, file_actions=actions, setsigdef=defaults
            )
        except OSError as error:
            if error.errno != errno.ETXTBSY or delay_s is None:
                raise
            await asyncio.sleep(delay_s)
    raise AssertionError("the last try returns or raises")


async def _wait(pid: int, timeout_s: float) -> int:
    loop = asyncio.get_running_loop()
    ended = loop.create_future()
    pidfd = os.pidfd_open(pid)
    loop.add_reader(pidfd, _finish, ended)
    try:
        async with asyncio.timeout(timeout_s):
            await ended
    except BaseException:
        signal.pidfd_send_signal(pidfd, signal.SIGKILL)
        raise
    finally:
        loop.remove_reader(pidfd)
        os.close(pidfd)
        _, status = os.waitpid(pid, 0)  # noqa: ASYNC222 - it has ended, or was killed: nothing to wait for
    return os.waitstatus_to_exitcode(status)


def _finish(ended: asyncio.Future[None]) -> None:
    if not ended.done():
        ended.set_result(None)
