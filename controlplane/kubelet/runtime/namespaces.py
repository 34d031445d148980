"""A pod's namespaces: made by a process that ends at once, entered by the shim that keeps them.

Two processes, because making them takes Python code that dirties half a megabyte of memory which a shim would keep for
the life of its pod. The descriptors on the way between them keep the namespaces alive.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
import struct
from typing import Any

from podnet.controlplane.kubelet.runtime.layout import SandboxFiles
from podnet.controlplane.kubelet.runtime.spec import pod_hostname
from podnet.topology.linux import syscalls

_KINDS = ("net", "uts", "ipc")
_SIOCGIFFLAGS, _SIOCSIFFLAGS, _IFF_UP = 0x8913, 0x8914, 0x1


def pass_namespaces(gate: socket.socket) -> None:
    """Hand this process's namespaces to the one at the other end."""
    descriptors = [os.open(f"/proc/self/ns/{kind}", os.O_RDONLY | os.O_CLOEXEC) for kind in _KINDS]
    socket.send_fds(gate, [b"x"], descriptors)


def enter_namespaces(gate: socket.socket) -> bool:
    """Take them over; False when the other end closed without handing anything over."""
    data, descriptors, _, _ = socket.recv_fds(gate, 1, len(_KINDS))
    gate.close()
    for descriptor in descriptors:
        syscalls.setns(descriptor)
        os.close(descriptor)
    return bool(data)


def create_namespaces(files: SandboxFiles, config: dict[str, Any]) -> None:
    """Move into a new network namespace (pinned in the node's mount namespace, where CNI plugins look for it), UTS and
    IPC namespaces, and make the pod's directories under /run."""
    flags = 0 if config["host_ipc"] else syscalls.CLONE_NEWIPC
    if not config["host_network"]:
        flags |= syscalls.CLONE_NEWNET | syscalls.CLONE_NEWUTS
    if flags:
        syscalls.unshare(flags)
    os.makedirs(os.path.dirname(files.socket), exist_ok=True)
    os.makedirs(files.shm, exist_ok=True)
    os.chmod(files.shm, 0o1777)
    if not config["host_network"]:
        syscalls.sethostname(pod_hostname(config["hostname"], config["pod_name"]))
        os.makedirs(os.path.dirname(files.netns_pin), exist_ok=True)
        os.close(os.open(files.netns_pin, os.O_RDONLY | os.O_CREAT | os.O_CLOEXEC, 0o444))
        syscalls.mount("/proc/self/ns/net", files.netns_pin, flags=syscalls.MS_BIND)
        _set_loopback_up()
        _default_sysctls()
    for name, value in config["sysctls"].items():
        _write_sysctl(name, value)


def _set_loopback_up() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        request = struct.pack("16sh14x", b"lo", 0)
        flags = struct.unpack("16sh14x", fcntl.ioctl(sock, _SIOCGIFFLAGS, request))[1]
        fcntl.ioctl(sock, _SIOCSIFFLAGS, struct.pack("16sh14x", b"lo", flags | _IFF_UP))


def _default_sysctls() -> None:
    """As containerd's enable_unprivileged_ports and enable_unprivileged_icmp; groups a user namespace does not map are
    refused by the kernel, and nobody there is in them either."""
    _write_sysctl("net.ipv4.ip_unprivileged_port_start", "0")
    with contextlib.suppress(OSError):
        _write_sysctl("net.ipv4.ping_group_range", "0 2147483647")


def _write_sysctl(name: str, value: str) -> None:
    descriptor = os.open("/proc/sys/" + name.replace(".", "/"), os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(descriptor, value.encode())
    finally:
        os.close(descriptor)
