"""Start a program in the namespaces of a process, with its own standard streams and exit code.

Mininet's `cmd()` types into one shell per host: one command at a time, both streams mixed, no exit code. Here a thread
enters the namespaces and starts the program; the thread ends, the program stays where it was born. No extra process,
no preexec function. A thread may enter a mount namespace once it has a root and working directory of its own
(CLONE_FS), which Linux gives a thread on request. Beware: a parent-death signal counts threads, so a program that asks
for one gets it at once.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import IO, TypeAlias

from podnet.topology.kernel import KernelError
from podnet.topology.linux.syscalls import setns, unshare

_CLONE_FS = 0x00000200

Stream: TypeAlias = int | IO[bytes] | None


@dataclass(frozen=True, slots=True)
class Completed:
    """What a finished program left."""

    returncode: int
    stdout: str
    stderr: str


@dataclass(frozen=True, slots=True)
class Streams:
    """Standard streams as subprocess takes them; None inherits."""

    stdin: Stream = subprocess.DEVNULL
    stdout: Stream = None
    stderr: Stream = None


def start(
    pid: int,
    argv: Sequence[str],
    *,
    kinds: str = "net mnt uts ipc",
    env: Mapping[str, str] | None = None,
    cwd: str | None = None,
    streams: Streams = Streams(),
    new_session: bool = False,
) -> subprocess.Popen[bytes]:
    """Start `argv` in the namespaces of `pid`.

    KernelError(ESRCH) where the process is gone; OSError where the program cannot be started.
    """
    fds = _open_namespaces(pid, kinds)
    started: list[subprocess.Popen[bytes]] = []
    failed: list[OSError] = []

    def born_there() -> None:
        try:
            unshare(_CLONE_FS)
            for fd in fds:
                setns(fd)
            started.append(
                subprocess.Popen(
                    list(argv),
                    env=env,
                    cwd=cwd,
                    stdin=streams.stdin,
                    stdout=streams.stdout,
                    stderr=streams.stderr,
                    start_new_session=new_session,
                )
            )
        except OSError as error:
            failed.append(error)

    try:
        thread = threading.Thread(target=born_there, name=f"exec-{pid}")
        thread.start()
        thread.join()
    finally:
        for fd in fds:
            os.close(fd)
    if failed:
        raise failed[0]
    return started[0]


def run(
    pid: int,
    argv: Sequence[str],
    *,
    kinds: str = "net mnt uts ipc",
    stdin: str = "",
    env: Mapping[str, str] | None = None,
    timeout_s: float | None = None,
) -> Completed:
    """Run to the end. After `timeout_s` the program is killed and subprocess.TimeoutExpired raised."""
    streams = Streams(stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    with start(pid, argv, kinds=kinds, env=env, streams=streams) as process:
        try:
            stdout, stderr = process.communicate(stdin.encode(), timeout=timeout_s)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            raise
    return Completed(process.returncode, stdout.decode(errors="replace"), stderr.decode(errors="replace"))


def _open_namespaces(pid: int, kinds: str) -> list[int]:
    """Descriptors of the namespaces that differ from ours; entering one's own is needless, and refused for `user`."""
    fds: list[int] = []
    try:
        for kind in kinds.split():
            fd = os.open(f"/proc/{pid}/ns/{kind}", os.O_RDONLY | os.O_CLOEXEC)
            here = os.stat(f"/proc/thread-self/ns/{kind}")
            there = os.fstat(fd)
            if (here.st_dev, here.st_ino) == (there.st_dev, there.st_ino):
                os.close(fd)
            else:
                fds.append(fd)
    except OSError as error:
        for fd in fds:
            with contextlib.suppress(OSError):
                os.close(fd)
        code = 3 if isinstance(error, FileNotFoundError) else error.errno or 0
        raise KernelError(f"process {pid}: {error.strerror}", code) from error
    return fds
