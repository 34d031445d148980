"""From the names people use (`pod/a`, `node/worker-1`, `host/client`, `switch/s1`) to namespaces.

Names are parsed here without a look at anything (`parse_target`, `parse_point`); `Resolver` looks them up. Pods are
found in the runtimes' own files, not through the API server: a look into a pod must work while the API server is down.
"""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from podnet.controlplane.kubelet.runtime import enter as containers
from podnet.controlplane.kubelet.runtime.pty import take_terminal
from podnet.topology.linux import syscalls

KINDS = {
    "pod": "pod",
    "po": "pod",
    "pods": "pod",
    "node": "node",
    "no": "node",
    "nodes": "node",
    "host": "host",
    "hosts": "host",
    "switch": "switch",
    "switches": "switch",
}


class TargetError(ValueError):
    """A name that cannot be understood or found; the message says what there is instead."""


@dataclass(frozen=True, slots=True)
class Target:
    """One parsed name. `namespace` and `container` are for pods only."""

    kind: str
    name: str
    namespace: str = ""
    container: str = ""

    def __str__(self) -> str:
        return f"{self.kind}/{self.name}"


@dataclass(frozen=True, slots=True)
class Point:
    """A place to capture: an interface in the namespace of a target (empty: its first)."""

    target: Target
    interface: str


def parse_target(text: str, namespace: str = "default", container: str = "") -> Target:
    """`pod/a`, `pod/ns/a`, `node/worker-1`, `host/client`, `switch/s1`; a bare name is a pod's.

    >>> parse_target("pod/shop/a")
    Target(kind='pod', name='a', namespace='shop', container='')
    """
    parts = text.split("/")
    if len(parts) == 1:
        parts = ["pod", *parts]
    kind = KINDS.get(parts[0])
    if kind is None or not all(parts) or len(parts) > (3 if kind == "pod" else 2):
        raise TargetError(
            f"{text!r} is no target: write pod/NAME, pod/NAMESPACE/NAME, node/NAME, host/NAME or switch/NAME"
        )
    if kind != "pod":
        return Target(kind, parts[1])
    if len(parts) == 3:
        return Target(kind, parts[2], parts[1], container)
    return Target(kind, parts[1], namespace, container)


def parse_point(text: str, namespace: str = "default") -> Point:
    """`pod/a`, `pod/ns/a:eth0`, `node/worker-1:cni0`, `switch/s1`; what follows a colon is an interface. Where no
    namespace can be meant a slash does as well: `node/worker-1/cni0`."""
    name, _, interface = text.partition(":")
    words = name.split("/")
    if not interface and len(words) == 3 and KINDS.get(words[0]) not in (None, "pod"):
        name, interface = "/".join(words[:2]), words[2]
    return Point(parse_target(name, namespace), interface)


@dataclass(frozen=True, slots=True)
class Place:
    """Where a target lives: the process whose namespaces to enter (0: the room's own), and for a container what its
    programs expect around them.
    """

    pid: int
    netns: str
    container: containers.ContainerHandle | None = None

    def enter(self) -> None:
        """Enter for good; for a forked child that is about to exec."""
        if self.container is not None:
            containers.enter_container(self.container)
        elif self.pid:
            syscalls.enter(self.pid, "net mnt uts")
            os.chdir("/")


@dataclass(frozen=True, slots=True)
class Resolver:
    """`processes`: kind → name → pid of nodes and hosts; asked anew each time, since nodes come and go. `back`: for a node
    that is switched off, the command that brings it back."""

    nodes_dir: Path
    processes: Callable[[], dict[str, dict[str, int]]]
    back: Callable[[str], str] = lambda _name: ""

    def place(self, target: Target) -> Place:
        """Find a target. Raises TargetError, naming what there is."""
        if target.kind == "pod":
            try:
                handle = containers.find_container(self.nodes_dir, target.namespace, target.name, target.container)
            except LookupError as err:
                raise TargetError(str(err.args[0])) from err
            return Place(handle.pid, f"/proc/{handle.pid}/ns/net", handle)
        known = self.processes().get(target.kind, {})
        if target.kind == "node" and target.name not in known and (back := self.back(target.name)):
            raise TargetError(f"{target} is switched off ({back})")
        if target.name not in known:
            names = ", ".join(sorted(known)) or "none"
            raise TargetError(f"there is no {target}: {target.kind} names are {names}")
        pid = known[target.name]
        return Place(pid, f"/proc/{pid}/ns/net" if pid else "")

    def exec_work(self, target: Target, argv: list[str], env: dict[str, str], *, tty: bool) -> Callable[[], int]:
        """What a forked child does to become `argv` inside a target. With `tty` descriptor 0 is a socket: it opens a
        terminal there and gives its master to the socket."""
        place = self.place(target)

        def run() -> int:
            place.enter()
            if tty:
                _hand_over_terminal()
            if place.container is None:
                _exec(argv, {**_node_env(), **env})
            return _exec_in_pid_namespace(argv, {**place.container.env, **env})

        return run


def _hand_over_terminal() -> None:
    """A terminal of the target's own, not of the caller: programs in a container look for its device in their /dev."""
    with socket.socket(fileno=os.dup(0)) as channel:
        master = take_terminal()
        socket.send_fds(channel, [b"tty"], [master])
        os.close(master)


def _node_env() -> dict[str, str]:
    path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    return {"PATH": path, "HOME": os.environ.get("HOME", "/root"), "LANG": "C.UTF-8"}


def _exec_in_pid_namespace(argv: list[str], env: dict[str, str]) -> int:
    """Only children are in a PID namespace that was entered: fork once more, wait as a shell would, hand on the code.

    The terminal's signals reach the child by themselves (it is in this process's group); this side only outlives them.
    """
    child = os.fork()
    if child == 0:
        syscalls.set_parent_death_signal(signal.SIGKILL)
        _exec(argv, env)
    for number in (signal.SIGINT, signal.SIGQUIT, signal.SIGTSTP):
        signal.signal(number, signal.SIG_IGN)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda number, _frame: os.kill(child, number))
    _, wait_status = os.waitpid(child, 0)
    code = os.waitstatus_to_exitcode(wait_status)
    return code if code >= 0 else 128 - code


def _exec(argv: list[str], env: dict[str, str]) -> NoReturn:
    try:
        os.execvpe(argv[0], argv, env)
    except FileNotFoundError:
        os.write(2, f"podnet: {argv[0]}: not found in $PATH\n".encode())
        os._exit(127)
    except OSError as err:
        os.write(2, f"podnet: {argv[0]}: {err.strerror}\n".encode())
        os._exit(126)
