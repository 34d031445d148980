"""A piece of work in a machine room of its own: namespaces where an ordinary user may do what root may, gone with it.

    caller ──start_room──▶ PID 1: work(say) ──lines──▶ caller, one by one; the last says how it ended

The room never outlives the call: the end of the work, an error, the deadline, an interrupt and a caller that stops reading
all kill PID 1, and with it goes whatever was made.
"""

from __future__ import annotations

import os
import select
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NoReturn

import orjson

from podnet import room
from podnet.bench.rows import BenchError
from podnet.interrupts import HeldInterrupts

_CHUNK = 65536


def run_in_room(work: Callable[[Callable[[object], None]], None], name: str, timeout_s: float) -> Iterator[object]:
    """What `work` says (anything that JSON can carry), as it says it. BenchError when it fails or takes too long."""
    read_fd, write_fd = os.pipe()
    with _closed_at_end(read_fd), HeldInterrupts() as interrupts:

        def main() -> NoReturn:
            os.close(read_fd)
            interrupts.restore()
            _work(work, write_fd)

        try:
            pid = room.start_room(main, name)
        finally:
            os.close(write_fd)
        start = room.process_start_time(pid)
        try:
            interrupts.release()
            for kind, said in _messages(read_fd, name, time.monotonic() + timeout_s):
                if kind == "end":
                    return
                if kind == "error":
                    raise BenchError(f"{name}: {said}")
                yield said
            raise BenchError(f"{name}: ended before its work was done")
        finally:
            room.kill_room(pid, start)


@contextmanager
def _closed_at_end(descriptor: int) -> Iterator[None]:
    try:
        yield
    finally:
        os.close(descriptor)


def _work(work: Callable[[Callable[[object], None]], None], write_fd: int) -> NoReturn:
    """PID 1: work and say how it ended; nothing is written where the caller's terminal is."""

    def send(kind: str, said: object) -> None:
        data = orjson.dumps([kind, said]) + b"\n"
        while data:
            data = data[os.write(write_fd, data) :]

    tempfile.tempdir = "/run"  # the room's own memory: nothing stays on a disk when the room is killed
    try:
        work(lambda said: send("said", said))
        send("end", None)
    except BrokenPipeError:
        pass  # the caller has gone, and takes the room with it
    except BaseException as err:
        send("error", "".join(traceback.format_exception_only(err)).strip())
    os._exit(0)


def _messages(read_fd: int, name: str, deadline: float) -> Iterator[tuple[str, object]]:
    rest = b""
    while True:
        ready, _, _ = select.select([read_fd], [], [], max(0.0, deadline - time.monotonic()))
        if not ready:
            raise BenchError(f"{name}: not done in time")
        chunk = os.read(read_fd, _CHUNK)
        if not chunk:
            return
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            kind, said = orjson.loads(line)
            yield str(kind), said
