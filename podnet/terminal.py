"""Running a program in the room with the caller's own streams, or a terminal of its own.

Without a terminal the three standard streams are simply handed over (SCM_RIGHTS). With one, the program opens a pty where
it is, in its own /dev/pts, and its master comes back here; this side copies bytes and follows the window's size. Signals
that reach this process are passed on, the exit code comes back.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import selectors
import signal
import socket
import sys
import termios
import tty
from collections.abc import Iterator
from typing import Any

from podnet import launch, wire
from podnet.directories import ClusterDirectories

FORWARDED = (signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)


def run_in_room(directories: ClusterDirectories, request: dict[str, Any], *, want_tty: bool) -> int:
    """Do one request with streams; its exit code. Raises ClusterError with the supervisor's refusal."""
    sys.stdout.flush()
    sys.stderr.flush()
    with launch.connect(directories) as sock:
        if want_tty:
            return _with_terminal(sock, request)
        wire.send(sock, request, (0, 1, 2))
        with _signals_forwarded(sock, (*FORWARDED, signal.SIGINT)):
            return _exit_code(sock)


def _exit_code(sock: socket.socket) -> int:
    for answer in wire.messages(sock):
        if answer.get("done"):
            return _code_of(answer)
    raise launch.ClusterError("the cluster went down")


def _code_of(answer: dict[str, Any]) -> int:
    if answer.get("error"):
        raise launch.ClusterError(str(answer["error"]))
    return int(answer.get("exit", 0))


@contextlib.contextmanager
def _signals_forwarded(sock: socket.socket, numbers: tuple[signal.Signals, ...]) -> Iterator[None]:
    """Pass signals on to the program instead of dying of them."""

    def forward(number: int, _frame: object) -> None:
        with contextlib.suppress(OSError):
            wire.send(sock, {"signal": number})

    before = {number: signal.signal(number, forward) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _with_terminal(sock: socket.socket, request: dict[str, Any]) -> int:
    near, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with near:
        with far:
            wire.send(sock, {**request, "tty": True}, (far.fileno(), 1, 2))
        _, received, _, _ = socket.recv_fds(near, 16, 1)
    if not received:
        return _exit_code(sock)  # it ended before it had a terminal, and said why
    master = received[0]
    try:
        _copy_window_size(0, master)
        signal.signal(signal.SIGWINCH, lambda *_: _copy_window_size(0, master))
        saved = termios.tcgetattr(0)
        tty.setraw(0)
        try:
            with _signals_forwarded(sock, FORWARDED):
                return _relay(sock, master)
        finally:
            termios.tcsetattr(0, termios.TCSADRAIN, saved)
    finally:
        os.close(master)


def _relay(sock: socket.socket, master: int) -> int:
    """Copy terminal ↔ program until the exit code comes; what the program wrote last is still shown."""
    selector = selectors.DefaultSelector()
    for fd in (0, master, sock.fileno()):
        selector.register(fd, selectors.EVENT_READ)
    answers = wire.messages(sock)
    while True:
        for key, _ in selector.select():
            if key.fd == 0 and not _copy(0, master):
                selector.unregister(0)
            elif key.fd == master and not _copy(master, 1):
                selector.unregister(master)
            elif key.fd == sock.fileno():
                answer = next(answers, None)
                if answer is None:
                    raise launch.ClusterError("the cluster went down")
                if answer.get("done"):
                    os.set_blocking(master, False)
                    while _copy(master, 1):
                        pass
                    return _code_of(answer)


def _copy(source: int, target: int) -> bool:
    """Copy one piece; False at the end. A pty's master reads EIO when the last slave is closed."""
    try:
        data = os.read(source, 65536)
    except OSError:
        return False
    view = memoryview(data)
    while view:
        view = view[os.write(target, view) :]
    return bool(data)


def _copy_window_size(source: int, target: int) -> None:
    with contextlib.suppress(OSError):
        size = fcntl.ioctl(source, termios.TIOCGWINSZ, b"\0" * 8)
        fcntl.ioctl(target, termios.TIOCSWINSZ, size)
