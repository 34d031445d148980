"""A terminal of the place where a process is: a pty of its mount namespace's own devpts.

Whoever asks is in the container already, as the user that it will be. So `tty` names a device which exists there, and the
user may open it again by its name, as screen and ssh do. Source: pts(4), ioctl_tty(2).
"""

from __future__ import annotations

import fcntl
import os
import sys
import termios

_TIOCGPTN, _TIOCSPTLCK = 0x80045430, 0x40045431
_STANDARD_STREAMS = (0, 1, 2)


def take_terminal() -> int:
    """Make a pty, this session's controlling terminal and the three standard streams; its master (close-on-exec)."""
    master = os.open("/dev/ptmx", os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)
    number = bytearray(4)
    fcntl.ioctl(master, _TIOCGPTN, number)
    fcntl.ioctl(master, _TIOCSPTLCK, b"\0\0\0\0")
    slave = os.open(f"/dev/pts/{int.from_bytes(number, sys.byteorder)}", os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)
    fcntl.ioctl(slave, termios.TIOCSCTTY, 0)
    for descriptor in _STANDARD_STREAMS:
        os.dup2(slave, descriptor)
    os.close(slave)
    return master
