"""The fork server of a node: a warm, single-threaded copy of the node agent from which pods' shims are forked.

`start_zygote` is called before the agent has threads, an event loop or secrets in memory. A shim costs one fork and
its own namespaces, and shares the interpreter's memory with the zygote. Shims belong to no one: forked twice, in a
session of their own, their parent is PID 1 of the room, so neither the agent's nor the zygote's end touches them.

    agent ──(files, reply socket)──▶ zygote ──fork──▶ maker ──fork──▶ shim ──(ready | error)──▶ agent
                                                        └──(namespaces)──▶┘

The zygote ends when the agent's end of its socket closes. When it was killed, the next request forks a new one.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import signal
import socket
import traceback
from dataclasses import dataclass, field

from setproctitle import setproctitle

from podnet.controlplane.kubelet.images.programs import launch
from podnet.controlplane.kubelet.runtime import layout, namespaces, protocol, shim
from podnet.controlplane.kubelet.runtime.layout import SandboxFiles, encode
from podnet.topology.paths import NodePaths

_HIGHEST_DESCRIPTOR = 1 << 20


@dataclass(slots=True)
class Zygote:
    """The agent's handle of its fork server."""

    pid: int = 0
    _socket: socket.socket | None = field(default=None)
    _loop: asyncio.AbstractEventLoop | None = field(default=None)

    def start_shim(self, paths: NodePaths, sandbox_id: str) -> socket.socket:
        """Ask for the shim of a sandbox whose config.json is written; the socket on which it says {"pid": …} or
        {"error": …}, and which closes without a word when it died on the way."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            message = encode(SandboxFiles.of(paths, sandbox_id))
            try:
                self._send(message, theirs)
            except OSError:  # it was killed: a new one takes the request
                self.close()
                self._start()
                self._send(message, theirs)
        except OSError:
            ours.close()
            raise
        finally:
            theirs.close()
        return ours

    def alive(self) -> bool:
        """Whether its end of the socket is open: it never writes, so anything readable is its end."""
        if self._socket is None:
            return False
        try:
            return bool(self._socket.recv(1, socket.MSG_DONTWAIT | socket.MSG_PEEK))
        except BlockingIOError:
            return True
        except OSError:
            return False

    def watch(self) -> None:
        """From here on reap a fork server that was killed as soon as it ends, not at the next request: else it stands in
        `ps` as a zombie until then. Call it in the agent's loop."""
        self._loop = asyncio.get_running_loop()
        if self._socket is not None:
            self._loop.add_reader(self._socket.fileno(), self._bury)

    def _bury(self) -> None:
        if not self.alive():
            self.close()

    def close(self) -> None:
        """End the fork server and reap it; shims go on."""
        if self._socket is not None:
            if self._loop is not None and not self._loop.is_closed():
                self._loop.remove_reader(self._socket.fileno())
            self._socket.close()
            self._socket = None
        if self.pid:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)
            with contextlib.suppress(ChildProcessError):
                os.waitpid(self.pid, 0)
            self.pid = 0

    def _send(self, message: protocol.Message, reply: socket.socket) -> None:
        if self._socket is None:
            raise BrokenPipeError
        protocol.send(self._socket, message, [reply.fileno()])

    def _start(self) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        gc.freeze()
        pid = os.fork()
        if pid == 0:
            _become_zygote(theirs)
        theirs.close()
        self.pid, self._socket = pid, ours
        if self._loop is not None:
            self.watch()


def start_zygote() -> Zygote:
    """Fork the fork server. Call it single-threaded, before the event loop."""
    launch.preload()
    zygote = Zygote()
    zygote._start()  # noqa: SLF001 - its own constructor
    return zygote


def _become_zygote(requests: socket.socket) -> None:
    """Serve requests until the agent's end closes. Does not return."""
    code = 1
    try:
        # A zygote forked from within the agent's loop would remember it as running, under a pid which a process of
        # another PID namespace may have too.
        asyncio._set_running_loop(None)  # noqa: SLF001 - asyncio's own door for this
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C on the agent's terminal is the agent's business
        signal.pthread_sigmask(signal.SIG_SETMASK, [])
        kept = requests.fileno()
        os.closerange(3, kept)
        os.closerange(kept + 1, _HIGHEST_DESCRIPTOR)
        setproctitle("podnet-zygote")
        gc.collect()
        gc.freeze()
        _serve(requests)
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)


def _serve(requests: socket.socket) -> None:
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the kernel reaps: a request does not wait for the one before
    while True:
        message, descriptors = protocol.receive(requests)
        if message is None:
            return
        if os.fork() == 0:
            requests.close()
            _make_sandbox(SandboxFiles(**message), socket.socket(fileno=descriptors[0]))
        protocol.close_all(descriptors)


def _make_sandbox(files: SandboxFiles, reply: socket.socket) -> None:
    """Fork the shim, make its namespaces, hand them over and leave, so that the shim's parent is the room's PID 1. Does
    not return."""
    code = 1
    try:
        os.setsid()
        ours, gate = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        if os.fork() == 0:
            ours.close()
            code = shim.run_shim(files, reply, gate)
            return
        gate.close()
        try:
            namespaces.create_namespaces(files, layout.read_json(files.config)["config"])
            namespaces.pass_namespaces(ours)
            code = 0
        except (OSError, KeyError, TypeError) as error:
            protocol.send(reply, {"error": f"failed to create the pod's namespaces: {error}"})
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)
