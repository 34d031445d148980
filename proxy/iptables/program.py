"""iptables-restore and iptables-save, run in a network namespace.

The programs and not the kernel's own interface: which of the two there are (nf_tables or legacy) is the machine's choice,
and only its programs know it. Their lock, /run/xtables.lock, is the node's own. Source: iptables-restore(8).
"""

from __future__ import annotations

import functools
import subprocess
from collections.abc import Sequence

from podnet.topology.kernel import KernelError, Netns
from podnet.topology.linux.syscalls import in_netns

_LOCK_WAIT_S = 5
_TIMEOUT_S = 60.0
_ENOENT, _ETIMEDOUT, _EINVAL, EMSGSIZE = 2, 110, 22, 90


class Iptables:
    """The programs, as two questions."""

    def restore(self, netns: Netns, script: str) -> None:
        """Apply a script, each of its tables as one transaction, leaving alone what it does not name."""
        _run(netns, ["iptables-restore", "--noflush", "-w", str(_LOCK_WAIT_S)], script)

    def save(self, netns: Netns) -> str:
        """All tables, as iptables-save prints them."""
        return _run(netns, ["iptables-save"], "")

    def is_nftables(self) -> bool:
        """Whether these programs write nf_tables, whose generation number then tells of every change."""
        return _version_is_nftables()


@functools.cache
def _version_is_nftables() -> bool:
    return "nf_tables" in _run("", ["iptables-restore", "--version"], "")


def _run(netns: Netns, argv: Sequence[str], script: str) -> str:
    try:
        with in_netns(netns):
            process = subprocess.Popen(
                argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
            )
    except FileNotFoundError as error:
        if netns and error.filename == netns:
            raise KernelError(f"network namespace {netns!r}: {error.strerror}", _ENOENT) from error
        raise KernelError(f"{argv[0]}: the program is not installed (Debian: apt install iptables)", _ENOENT) from error
    except OSError as error:
        raise KernelError(f"{argv[0]}: {error}", error.errno or _EINVAL) from error
    with process:
        try:
            output, message = process.communicate(script, timeout=_TIMEOUT_S)
        except subprocess.TimeoutExpired as error:
            process.kill()
            raise KernelError(f"{argv[0]}: no end after {_TIMEOUT_S:.0f} s", _ETIMEDOUT) from error
    if process.returncode:
        raise KernelError(
            f"{' '.join(argv)}: {message.strip() or process.returncode}",
            EMSGSIZE if "Message too long" in message else _EINVAL,
        )
    return output
