"""Namespaced sysctls: /proc/sys/net shows the network namespace of the thread that looks a name up.

So one thread enters the namespace, opens the file and comes back; no /proc of the namespace's own is needed. Keys are
sysctl(8)'s dotted names; the interface in `net.ipv4.conf.<interface>.<leaf>` may itself hold dots (`flannel.1`).
"""

from __future__ import annotations

import os

from podnet.topology.kernel import KernelError, Netns
from podnet.topology.linux.syscalls import in_netns

_PER_INTERFACE = ("conf", "neigh")
_VALUE_BYTES = 4096


def sysctl_path(key: str) -> str:
    """The file of a dotted (or slashed) key under /proc/sys."""
    if "/" in key.split(".", 1)[0]:
        parts = key.split("/")
    else:
        # As sysctl(8) has it: in a dotted name a slash stands for a dot inside one component.
        parts = [part.replace("/", ".") for part in key.split(".")]
        if len(parts) > 4 and parts[0] == "net" and parts[2] in _PER_INTERFACE:
            parts = [*parts[:3], ".".join(parts[3:-1]), parts[-1]]
    if any(part in ("", ".", "..") for part in parts):
        raise KernelError(f"sysctl {key!r}: not a sysctl's name", 22)
    return "/proc/sys/" + "/".join(parts)


def read_sysctl(netns: Netns, key: str) -> str:
    """The value, without its newline."""
    path = sysctl_path(key)
    try:
        with in_netns(netns):
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            return os.read(fd, _VALUE_BYTES).decode().strip()
        finally:
            os.close(fd)
    except OSError as error:
        raise KernelError(f"sysctl {key}: {error.strerror}", error.errno or 0) from error


def write_sysctl(netns: Netns, key: str, value: str) -> None:
    """Write one value."""
    path = sysctl_path(key)
    try:
        with in_netns(netns):
            fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.write(fd, value.encode())
        finally:
            os.close(fd)
    except OSError as error:
        raise KernelError(f"sysctl {key} = {value}: {error.strerror}", error.errno or 0) from error
