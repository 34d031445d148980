"""The shim's children: containers' main processes and execs, from fork to the record of how they ended.

Every container has pipes (or a pty) whose near ends are read by the shim's loop and copied, line by line with a time,
into the container's log, and to whoever is attached.
"""

from __future__ import annotations

import contextlib
import functools
import os
import signal
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from setproctitle import setproctitle

from podnet.controlplane.kubelet.runtime import cgroup, process, protocol
from podnet.controlplane.kubelet.runtime.crilog import LineSplitter, LogFile, format_time
from podnet.controlplane.kubelet.runtime.layout import SandboxFiles, read_json, write_json
from podnet.controlplane.kubelet.runtime.processes import (
    kill_in_mount_namespace,
    mount_namespace,
    process_start_time,
)
from podnet.topology.linux import syscalls

READ_BYTES = 64 * 1024
MAX_TERMINATION_MESSAGE_BYTES = 4096
MAX_DRAIN_READS = 64
START_TIMEOUT_S = 30.0

Spec = dict[str, Any]  # a spec.json: a shim reads a few of its fields and leaves the rest to its children
Watch = Callable[[int, Callable[[], object]], None]
Unwatch = Callable[[int], None]


@dataclass(slots=True)
class Output:
    """One stream of a container: its near end, its splitter, and the descriptors of attached clients."""

    descriptor: int
    splitter: LineSplitter
    attached: list[int] = field(default_factory=list)


@dataclass(slots=True)
class Container:
    """A running container."""

    spec: Spec
    pid: int
    started_at_ns: int
    log: LogFile
    outputs: dict[str, Output]
    stdin: int = -1
    start_time: int = 0
    mnt_ns: int = 0

    def record(self) -> dict[str, Any]:
        """Its part of sandbox.json."""
        return {
            "id": self.spec["id"],
            "name": self.spec["name"],
            "pid": self.pid,
            "start_time": self.start_time,
            "env": dict(self.spec["env"]),
            "cwd": self.spec["cwd"] or "/",
            "uid": self.spec["uid"],
            "gid": self.spec["gid"],
            "groups": self.spec["groups"],
            "capabilities": self.spec["capabilities"],
        }


@dataclass(slots=True)
class Exec:
    """A running exec."""

    id: str
    container_id: str
    pid: int
    exit_code: int = -1


class Children:
    """Starts, finds, signals and reaps them."""

    def __init__(self, files: SandboxFiles, config: dict[str, Any], watch: Watch, unwatch: Unwatch) -> None:
        self._files = files
        self._watch = watch
        self._unwatch = unwatch
        self._containers: dict[str, Container] = {}
        self._execs: dict[str, Exec] = {}
        self.finished: dict[str, int] = {}
        self._own_pid_ns = os.open("/proc/self/ns/pid", os.O_RDONLY | os.O_CLOEXEC)
        self._shared_pid_ns = -1
        self._holder = 0
        # Orphans of a hostPID container come to the shim, not to the room's init: they are the pod's.
        syscalls.set_child_subreaper()
        if config["share_process_namespace"] and not config["host_pid"]:
            self._hold_pid_namespace()

    def containers(self) -> Iterator[Container]:
        """Those running, in the order of their start."""
        return iter(self._containers.values())

    def running(self) -> dict[str, int]:
        """Container ID → pid."""
        return {container.spec["id"]: container.pid for container in self._containers.values()}

    def any_alive(self) -> bool:
        """Whether a container or an exec still runs."""
        return bool(self._containers or self._execs)

    def has_exec(self, exec_id: str) -> bool:
        """Whether this exec runs."""
        return exec_id in self._execs

    # --- containers ---

    def start_container(self, container_id: str) -> Container | str:
        """Start what spec.json says; the container, or why it could not start."""
        files = self._files.container(container_id)
        if container_id in self._containers:
            return "the container is already running"
        spec = read_json(files.spec)
        if not os.path.isdir(files.rootfs):
            os.mkdir(files.rootfs)
        refusal = cgroup.make(spec.get("cgroup") or {})
        if refusal:
            return refusal
        near, far = _make_pipes(spec)
        report, childs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            pid = self._fork(new=not spec["host_pid"] and not spec["share_pid"], namespace=self._pid_ns_for(spec))
        except OSError as refused:
            protocol.close_all([*near.values(), far.stdin, far.stdout, far.stderr, report.detach(), childs.detach()])
            return f"fork: {refused.strerror}"
        if pid == 0:
            process.run_main(spec, far, childs)
        childs.close()
        protocol.close_all([far.stdin, far.stdout, far.stderr])
        error, master = _await_start(report)
        started_at_ns = time.time_ns()
        if error:
            _end(pid)
            cgroup.remove(spec.get("cgroup") or {})
            protocol.close_all([*near.values(), master])
            return error
        if spec["tty"]:
            near = {"stdin": master, "stdout": master}
        container = self._track(spec, pid, started_at_ns, near)
        status = {"state": "CONTAINER_RUNNING", "pid": pid, "started_at_ns": started_at_ns}
        self._write_status(container_id, status)
        return container

    def _track(self, spec: Spec, pid: int, started_at_ns: int, near: dict[str, int]) -> Container:
        outputs: dict[str, Output] = {
            stream: Output(near[stream], LineSplitter(stream)) for stream in ("stdout", "stderr") if stream in near
        }
        stdin = near.get("stdin", -1) if spec["stdin"] or spec["tty"] else -1
        container = Container(
            spec,
            pid,
            started_at_ns,
            LogFile(spec["log_path"]),
            outputs,
            stdin,
            process_start_time(pid),
            mount_namespace(pid),
        )
        self._containers[spec["id"]] = container
        for stream, output in outputs.items():
            os.set_blocking(output.descriptor, False)
            self._watch(output.descriptor, functools.partial(self._copy, container, stream))
        return container

    def kill(self, child_id: str, number: int) -> bool:
        """Signal a container's main process, or an exec and its process group; False when it is not running."""
        if child_id in self._containers:
            os.kill(self._containers[child_id].pid, number)
            return True
        if child_id in self._execs:
            pid = self._execs[child_id].pid
            with contextlib.suppress(ProcessLookupError):
                os.killpg(pid, number)
            os.kill(pid, number)
            return True
        return False

    def kill_all(self) -> None:
        """SIGKILL everything."""
        pids = [container.pid for container in self._containers.values()]
        for pid in [*pids, *(running.pid for running in self._execs.values())]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    # --- execs and attach ---

    def start_exec(self, message: dict[str, Any], descriptors: list[int]) -> tuple[dict[str, Any], int]:
        """Start a process in a container; the answer and, with a tty, the pty's master."""
        container = self._containers.get(message["id"])
        if container is None:
            return {"error": "container is not running", "reason": "NotRunning"}, -1
        streams = process.Streams(tty=True)
        if not message["tty"]:
            given = iter(descriptors)
            ends = [next(given) if name in message["streams"] else -1 for name in ("stdin", "stdout", "stderr")]
            streams = process.Streams(ends[0], ends[1], ends[2])
        report, childs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        mnt = os.open(f"/proc/{container.pid}/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
        pid_ns = os.open(f"/proc/{container.pid}/ns/pid", os.O_RDONLY | os.O_CLOEXEC)
        try:
            pid = self._fork(new=False, namespace=pid_ns)
            if pid == 0:
                process.run_exec(container.spec, message["argv"], mnt, streams, childs)
        finally:
            protocol.close_all([mnt, pid_ns])
        childs.close()
        error, master = _await_start(report)
        if error:
            _end(pid)
            protocol.close_all([master])
            return {"error": error, "reason": "StartError"}, -1
        self._execs[message["exec"]] = Exec(message["exec"], container.spec["id"], pid)
        return {"pid": pid}, master

    def attach(self, container_id: str, descriptors: list[int]) -> tuple[dict[str, Any], int]:
        """Copy the container's output to these descriptors from now on; a copy of its stdin (-1: it has none)."""
        container = self._containers.get(container_id)
        if container is None:
            protocol.close_all(descriptors)
            return {"error": "container is not running", "reason": "NotRunning"}, -1
        for descriptor, stream in zip(descriptors, ("stdout", "stderr"), strict=False):
            if stream not in container.outputs:
                os.close(descriptor)
                continue
            os.set_blocking(descriptor, False)
            container.outputs[stream].attached.append(descriptor)
        stdin = os.dup(container.stdin) if container.stdin >= 0 else -1
        if container.spec["stdin_once"] and not container.spec["tty"] and container.stdin >= 0:
            # The first client's end of input is the container's, as StdinOnce says.
            os.close(container.stdin)
            container.stdin = -1
        return {"pid": container.pid}, stdin

    # --- output ---

    def _copy(self, container: Container, stream: str) -> bool:
        """Move what is there from a stream to the log and to those attached; False when there was nothing."""
        output = container.outputs[stream]
        try:
            data = os.read(output.descriptor, READ_BYTES)
        except BlockingIOError:
            return False
        except OSError:  # a pty whose slaves are all closed says EIO
            data = b""
        if not data:
            self._close_output(container, stream)
            return False
        text = data.replace(b"\r\n", b"\n") if container.spec["tty"] else data
        container.log.write(output.splitter.feed(text, format_time(time.time_ns())))
        for descriptor in tuple(output.attached):
            try:
                os.write(descriptor, data)
            except OSError:  # gone, or not reading: the container must not wait for it
                output.attached.remove(descriptor)
                os.close(descriptor)
        return True

    def _close_output(self, container: Container, stream: str) -> None:
        output = container.outputs.pop(stream)
        self._unwatch(output.descriptor)
        container.log.write(output.splitter.finish(format_time(time.time_ns())))
        if not container.spec["tty"]:
            os.close(output.descriptor)
        protocol.close_all(output.attached)

    def _drain(self, container: Container) -> None:
        """The main process has ended: what it wrote is in the pipes, whoever may still hold their far ends. A pipe
        holds no more than a few reads; a writer that goes on is not waited for."""
        for stream in tuple(container.outputs):
            for _ in range(MAX_DRAIN_READS):
                if stream not in container.outputs or not self._copy(container, stream):
                    break
            if stream in container.outputs:
                self._close_output(container, stream)

    # --- the end ---

    def reap(self) -> Iterator[Container | Exec]:
        """Everyone who has ended since the last time."""
        while True:
            try:
                pid, wait_status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            for container in tuple(self._containers.values()):
                if container.pid == pid:
                    self._container_ended(container, wait_status)
                    yield container
            for running in tuple(self._execs.values()):
                if running.pid == pid:
                    running.exit_code = exit_code(wait_status)
                    del self._execs[running.id]
                    yield running

    def _container_ended(self, container: Container, wait_status: int) -> None:
        finished_at_ns = time.time_ns()
        spec = container.spec
        if spec["host_pid"] or spec["share_pid"]:
            kill_in_mount_namespace(container.mnt_ns)
        self._drain(container)
        container.log.close()
        protocol.close_all([container.stdin])
        del self._containers[spec["id"]]
        code = exit_code(wait_status)
        groups = spec.get("cgroup") or {}
        reason = "Completed" if code == 0 else "Error"
        if cgroup.oom_killed(groups):
            reason = "OOMKilled"
        cgroup.remove(groups)
        status = {
            "state": "CONTAINER_EXITED",
            "started_at_ns": container.started_at_ns,
            "finished_at_ns": finished_at_ns,
            "exit_code": code,
            "signal": os.WTERMSIG(wait_status) if os.WIFSIGNALED(wait_status) else 0,
            "reason": reason,
            "message": self._termination_message(spec["id"]),
        }
        self._write_status(spec["id"], status)

    def _termination_message(self, container_id: str) -> str:
        try:
            with open(self._files.container(container_id).termination_log, "rb") as file:
                # Of a longer one the end is kept, as of a log.
                file.seek(max(0, file.seek(0, os.SEEK_END) - MAX_TERMINATION_MESSAGE_BYTES))
                return file.read(MAX_TERMINATION_MESSAGE_BYTES).decode(errors="replace")
        except OSError:
            return ""

    def _write_status(self, container_id: str, status: dict[str, Any]) -> None:
        path = self._files.container(container_id).status
        with contextlib.suppress(OSError):  # a container removed meanwhile has no status to keep
            write_json(path, (read_json(path) or {}) | {"pid": 0} | status)

    # --- PID namespaces ---

    def _pid_ns_for(self, spec: Spec) -> int:
        return self._shared_pid_ns if spec["share_pid"] else -1

    def _fork(self, *, new: bool, namespace: int) -> int:
        """Fork a child into a new PID namespace, into another one, or into ours. Only the child is there; we stay."""
        if new:
            syscalls.unshare(syscalls.CLONE_NEWPID)
        elif namespace >= 0:
            syscalls.setns(namespace, syscalls.CLONE_NEWPID)
        try:
            pid = os.fork()
        except OSError:
            syscalls.setns(self._own_pid_ns, syscalls.CLONE_NEWPID)
            raise
        if pid and (new or namespace >= 0):
            syscalls.setns(self._own_pid_ns, syscalls.CLONE_NEWPID)
        return pid

    def _hold_pid_namespace(self) -> None:
        """shareProcessNamespace: PID 1 is a pause of its own, so that any container may end and be started again."""
        self._holder = self._fork(new=True, namespace=-1)
        if self._holder == 0:
            _hold()
        self._shared_pid_ns = os.open(f"/proc/{self._holder}/ns/pid", os.O_RDONLY | os.O_CLOEXEC)


def _hold() -> None:
    """PID 1 of a shared PID namespace: reap everyone, end with the shim. Does not return."""
    try:
        syscalls.set_parent_death_signal(signal.SIGKILL)
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the kernel reaps
        setproctitle("/pause")
        while True:
            signal.pause()
    finally:
        os._exit(0)


def _end(pid: int) -> None:
    """A child that failed to start is ending; one that hangs is made to."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)


def exit_code(wait_status: int) -> int:
    """128 + N for a signal, as shells and container runtimes report it."""
    return os.WEXITSTATUS(wait_status) if os.WIFEXITED(wait_status) else 128 + os.WTERMSIG(wait_status)


def _make_pipes(spec: Spec) -> tuple[dict[str, int], process.Streams]:
    """Near ends by stream, and the far ends for the child."""
    if spec["tty"]:
        return {}, process.Streams(tty=True)
    out_near, out_far = os.pipe2(os.O_CLOEXEC)
    err_near, err_far = os.pipe2(os.O_CLOEXEC)
    near = {"stdout": out_near, "stderr": err_near}
    in_far = -1
    if spec["stdin"]:
        in_far, near["stdin"] = os.pipe2(os.O_CLOEXEC)
    return near, process.Streams(in_far, out_far, err_far)


def _await_start(report: socket.socket) -> tuple[str, int]:
    """Wait until the child runs its program: the error ("" = none) and the pty's master (-1 = none)."""
    report.settimeout(START_TIMEOUT_S)
    master = -1
    try:
        while True:
            message, descriptors = protocol.receive(report)
            if message is None:
                return "", master
            if "error" in message:
                return str(message["error"]), master
            master = descriptors[0]
    except TimeoutError:
        return f"the process did not start within {START_TIMEOUT_S:g} s", master
    finally:
        report.close()
