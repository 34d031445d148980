"""A pod's own process, the pause of podnet: it holds the pod's namespaces and is the parent of its containers.

One single-threaded loop over descriptors. It starts containers, copies their output into the log, reaps them, writes
down how they ended, and answers the runtime on a Unix socket (`protocol`). It outlives the node agent: what must not
be lost is on disk before anyone is told. It decides nothing: what to run is in the container's spec.json.

    podnet-pause ns/pod   net, UTS and IPC namespaces of the pod
      ├─ container A      its own PID (unless shared) and mount namespaces; dies with the shim (PDEATHSIG)
      │    └─ its children
      └─ an exec in A     entered A's PID and mount namespaces
"""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import socket
import sys
import time
import traceback
from collections.abc import Callable
from typing import Any

from setproctitle import setproctitle

from podnet.controlplane.kubelet.runtime import namespaces, protocol
from podnet.controlplane.kubelet.runtime.children import Children, Container, Exec
from podnet.controlplane.kubelet.runtime.layout import SandboxFiles, read_json, write_json
from podnet.controlplane.kubelet.runtime.processes import process_start_time

REQUEST_TIMEOUT_S = 2.0
MAX_FINISHED_EXECS = 256
_HIGHEST_DESCRIPTOR = 1 << 20


def run_shim(files: SandboxFiles, reply: socket.socket, gate: socket.socket) -> int:
    """Wait at `gate` for the pod's namespaces, enter them, say so on `reply`, serve until told to end; the exit code.
    The configuration stays a dict here: it is read once, and a shim's memory is counted."""
    try:
        if not namespaces.enter_namespaces(gate):
            return 1  # whoever makes them has said why
        config: dict[str, Any] = read_json(files.config)["config"]
        _detach(files, reply)
        setproctitle(f"podnet-pause {config['pod_namespace']}/{config['pod_name']}")
        shim = Shim(files, config)
    except (OSError, KeyError, TypeError) as error:
        protocol.send(reply, {"error": f"failed to start the pod's pause process: {error}"})
        return 1
    protocol.send(reply, {"pid": os.getpid()})
    reply.close()
    shim.serve()
    return 0


def _detach(files: SandboxFiles, reply: socket.socket) -> None:
    """Nothing of the agent's stays: descriptors, directory, mask."""
    os.chdir("/")
    os.umask(0o022)
    null = os.open("/dev/null", os.O_RDWR)
    log = os.open(files.shim_log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.dup2(null, 0)
    os.dup2(log, 1)
    os.dup2(log, 2)
    kept = reply.fileno()
    os.closerange(3, kept)
    os.closerange(kept + 1, _HIGHEST_DESCRIPTOR)


class Shim:
    """The loop."""

    def __init__(self, files: SandboxFiles, config: dict[str, Any]) -> None:
        self._files = files
        self._config = config
        self._selector = selectors.DefaultSelector()
        self._children = Children(files, config, self._watch, self._unwatch)
        self._subscribers: set[socket.socket] = set()
        self._exec_waiters: dict[str, list[socket.socket]] = {}
        self._leaving: list[socket.socket] | None = None
        self._listener = protocol.listen(files.socket)
        self._watch(self._listener.fileno(), self._accept)
        self._catch_signals()
        self._write_record()

    def serve(self) -> None:
        """Serve until the sandbox is stopped."""
        while True:
            for key, _ in self._selector.select():
                try:
                    key.data()
                except (OSError, ValueError, KeyError, TypeError):
                    # One bad request or one broken stream must not take the pod's containers down.
                    traceback.print_exc()
                    sys.stderr.flush()
            if self._leaving is not None and not self._children.any_alive():
                self._leave()
                return

    def _catch_signals(self) -> None:
        reader, writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
        for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: None)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        self._watch(reader, lambda: self._signalled(reader))

    def _signalled(self, reader: int) -> None:
        numbers = os.read(reader, 512)
        if signal.SIGTERM in numbers or signal.SIGINT in numbers:
            self._shutdown()
        for ended in self._children.reap():
            if isinstance(ended, Container):
                self._container_ended(ended)
            else:
                self._exec_ended(ended)

    def _watch(self, descriptor: int, callback: Callable[[], object]) -> None:
        self._selector.register(descriptor, selectors.EVENT_READ, callback)

    def _unwatch(self, descriptor: int) -> None:
        with contextlib.suppress(KeyError):
            self._selector.unregister(descriptor)

    def _accept(self) -> None:
        connection, _ = self._listener.accept()
        connection.settimeout(REQUEST_TIMEOUT_S)
        try:
            message, descriptors = protocol.receive(connection)
        except (OSError, ValueError):
            connection.close()
            return
        if message is None:
            connection.close()
            return
        try:
            keep = self._answer(connection, message, descriptors)
        except BrokenPipeError:
            keep = False
        except (OSError, KeyError, TypeError, ValueError) as error:
            keep = False
            with contextlib.suppress(OSError):
                protocol.send(connection, {"error": f"{type(error).__name__}: {error}"})
        finally:
            protocol.close_all(descriptors)
        if not keep:
            connection.close()

    def _answer(self, connection: socket.socket, message: dict[str, Any], descriptors: list[int]) -> bool:
        """Do what is asked; True when the connection stays open."""
        match message["op"]:
            case "start":
                protocol.send(connection, self._start(message["id"]))
            case "exec":
                answer, master = self._children.start_exec(message, descriptors)
                protocol.send(connection, answer, [] if master < 0 else [master])
                protocol.close_all([master])
            case "wait":
                return self._wait_exec(connection, message["exec"])
            case "kill":
                protocol.send(connection, {"delivered": self._children.kill(message["id"], message["signal"])})
            case "attach":
                answer, stdin = self._children.attach(message["id"], descriptors)
                descriptors.clear()  # they are the container's now
                protocol.send(connection, answer, [] if stdin < 0 else [stdin])
                protocol.close_all([stdin])
            case "events":
                self._subscribe(connection)
                return True
            case "shutdown":
                self._shutdown()
                assert self._leaving is not None
                self._leaving.append(connection)
                return True
            case other:
                protocol.send(connection, {"error": f"unknown request {other!r}"})
        return False

    def _start(self, container_id: str) -> dict[str, Any]:
        if self._leaving is not None:
            return {"error": "the sandbox is being stopped"}
        container = self._children.start_container(container_id)
        if isinstance(container, str):
            return {"error": container}
        self._write_record()
        return {"pid": container.pid, "started_at_ns": container.started_at_ns}

    def _wait_exec(self, connection: socket.socket, exec_id: str) -> bool:
        ended = self._children.finished.pop(exec_id, None)
        if ended is not None:
            protocol.send(connection, {"exit_code": ended})
            return False
        if not self._children.has_exec(exec_id):
            protocol.send(connection, {"error": f"no exec {exec_id}"})
            return False
        self._exec_waiters.setdefault(exec_id, []).append(connection)
        return True

    def _exec_ended(self, ended: Exec) -> None:
        waiters = self._exec_waiters.pop(ended.id, [])
        for connection in waiters:
            with contextlib.suppress(OSError):
                protocol.send(connection, {"exit_code": ended.exit_code})
            connection.close()
        if not waiters:
            finished = self._children.finished
            finished[ended.id] = ended.exit_code
            while len(finished) > MAX_FINISHED_EXECS:
                finished.pop(next(iter(finished)))

    def _subscribe(self, connection: socket.socket) -> None:
        connection.setblocking(False)
        self._subscribers.add(connection)
        protocol.send(connection, {"running": self._children.running()})
        # A subscriber never sends: readable means it has gone.
        self._watch(connection.fileno(), lambda: self._unsubscribe(connection))

    def _unsubscribe(self, connection: socket.socket) -> None:
        self._unwatch(connection.fileno())
        self._subscribers.discard(connection)
        connection.close()

    def _container_ended(self, container: Container) -> None:
        self._write_record()
        for connection in tuple(self._subscribers):
            try:
                protocol.send(connection, {"exited": container.spec["id"]})
            except OSError:  # gone, or so far behind that it must read the disk again
                self._unsubscribe(connection)

    def _shutdown(self) -> None:
        if self._leaving is None:
            self._leaving = []
        self._children.kill_all()

    def _leave(self) -> None:
        self._write_record()
        os.unlink(self._files.socket)
        for connection in self._leaving or ():
            with contextlib.suppress(OSError):
                protocol.send(connection, {"stopped": True})

    def _write_record(self) -> None:
        """What `podnet exec` reads: who runs here, as the room sees it."""
        containers = [container.record() for container in self._children.containers()]
        record = {
            "pod_name": self._config["pod_name"],
            "pod_namespace": self._config["pod_namespace"],
            "pod_uid": self._config["pod_uid"],
            "sandbox_id": self._files.id,
            "pause_pid": os.getpid(),
            "pause_start_time": process_start_time(os.getpid()),
            "netns": "" if self._config["host_network"] else self._files.netns_pin,
            "written_at_ns": time.time_ns(),
            "labels": self._config["labels"],
            "containers": containers,
        }
        write_json(self._files.record, record)
