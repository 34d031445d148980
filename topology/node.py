"""Mininet hosts as cluster nodes and as machines outside the cluster.

Mininet makes a host by `mnexec`: a shell in a network and mount namespace of its own. Added here: a UTS namespace with
the machine's name; the program check without `ifconfig`; interfaces configured through the `Kernel`, not by spawning
`ifconfig`; and `exec`, which has separate streams and an exit code where `cmd()` has neither.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import threading
from collections.abc import Callable, Sequence
from ipaddress import IPv4Address
from typing import Any

from podnet.topology.kernel import Kernel, KernelError
from podnet.topology.linux import exec as linux_exec
from podnet.topology.linux.syscalls import CLONE_NEWUTS, MS_BIND, mount, sethostname, setns, unshare
from podnet.topology.mininet_modules import mininet
from podnet.topology.spec.types import HostSpec, NodeSpec, Role

_CLONE_FS = 0x00000200


class UnderlayError(Exception):
    """The underlay cannot be built or changed as asked; the message is one clear line."""


class Machine(mininet.node.Node):  # type: ignore[misc]  # Mininet has no types
    """A Mininet host with a name of its own, reached by `netns` and `pid`."""

    def __init__(self, name: str, *, address: IPv4Address, switch: str, kernel: Kernel, **params: Any) -> None:
        self.address = address
        self.switch_name = switch
        self.kernel = kernel
        # Where a machine's port is plugged in: the interface on the switch's side.
        self.port = ""
        params.pop("ip", None)
        super().__init__(name, **params)

    @classmethod
    def setup(cls) -> None:
        """Mininet's own check asks for ifconfig too, and ends the process where it is missing."""
        if shutil.which("mnexec") is None:
            raise UnderlayError("mnexec is not installed (Debian and Ubuntu: apt install mininet)")

    @property
    def ip(self) -> str:
        """The underlay address."""
        return str(self.address)

    @property
    def netns(self) -> str:
        """The path of the network namespace."""
        return f"/proc/{self.pid}/ns/net"

    def exec(self, argv: Sequence[str], *, stdin: str = "", timeout_s: float | None = None) -> linux_exec.Completed:
        """Run a program on this machine to its end, with its own streams and exit code."""
        return linux_exec.run(self.pid, argv, stdin=stdin, timeout_s=timeout_s)

    def bind_file(self, source: str, target: str) -> None:
        """Show `source` as `target` on this machine only (its mount namespace is private)."""
        fd = os.open(f"/proc/{self.pid}/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)

        def bind() -> None:
            unshare(_CLONE_FS)
            setns(fd)
            mount(source, target, flags=MS_BIND)

        try:
            _in_thread(bind)
        finally:
            os.close(fd)

    def bind_if_there(self, source: str, target: str) -> None:
        """The same; a machine whose file is missing, or a link to nowhere, goes without."""
        with contextlib.suppress(OSError):
            self.bind_file(source, target)

    def hang_up(self) -> None:
        """End the shell without waiting for it; `terminate` waits."""
        if self.shell and self.shell.poll() is None:
            try:
                os.killpg(self.shell.pid, signal.SIGHUP)
            except ProcessLookupError:
                return

    def cleanup(self) -> None:
        """Mininet keeps two class-wide tables of descriptors and forgets to clear them."""
        if self.shell:
            for table in (self.inToNode, self.outToNode):
                table.pop(self.master, None)
        super().cleanup()

    def _popen(self, cmd: list[str], **params: Any) -> subprocess.Popen[bytes]:
        """The shell is born in a UTS namespace of its own; later programs (Mininet's popen) join the shell's."""
        joined = os.open(f"/proc/{self.pid}/ns/uts", os.O_RDONLY | os.O_CLOEXEC) if self.pid else -1
        started: list[subprocess.Popen[bytes]] = []

        def born_there() -> None:
            if joined >= 0:
                setns(joined)
            else:
                unshare(CLONE_NEWUTS)
                sethostname(self.name)
            started.append(subprocess.Popen(cmd, **params))

        try:
            _in_thread(born_there)
        finally:
            if joined >= 0:
                os.close(joined)
        return started[0]


class Node(Machine):
    """A node of the cluster."""

    def __init__(self, name: str, *, spec: NodeSpec, kernel: Kernel, **params: Any) -> None:
        self.spec = spec
        super().__init__(name, address=spec.ip, switch=spec.switch, kernel=kernel, **params)

    @property
    def role(self) -> Role:
        """`control-plane` or `worker`."""
        return self.spec.role


class OutsideHost(Machine):
    """A machine on the underlay that is no part of the cluster."""

    def __init__(self, name: str, *, spec: HostSpec, kernel: Kernel, **params: Any) -> None:
        self.spec = spec
        super().__init__(name, address=spec.ip, switch=spec.switch, kernel=kernel, **params)


def _in_thread(work: Callable[[], None]) -> None:
    """Do it in a thread that ends afterwards: namespaces are a thread's, and this one's must not change."""
    failed: list[Exception] = []

    def guarded() -> None:
        try:
            work()
        except (OSError, KernelError) as error:
            failed.append(error)

    thread = threading.Thread(target=guarded, name="namespaces")
    thread.start()
    thread.join()
    if failed:
        raise failed[0]
