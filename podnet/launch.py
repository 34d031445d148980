"""Starting and stopping clusters from outside the room: what `podnet up`, `down`, `ls` and `clean` do.

No terminal here: progress is handed to a callback, refusals are `ClusterError` with one line and, where there is one,
a fix. Whatever fails, nothing is left behind.
"""

from __future__ import annotations

import contextlib
import errno
import importlib
import os
import re
import shutil
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NoReturn

from podnet import room, wire
from podnet.directories import ClusterDirectories, RoomRecord, cluster_directories, known_clusters, remove_tree
from podnet.interrupts import HeldInterrupts
from podnet.topology.cgroups import (
    ClusterCgroups,
    group_name,
    make_cluster_cgroups,
    remove_groups,
    remove_recorded,
    write_record,
)
from podnet.topology.paths import ClusterPaths
from podnet.topology.spec import ClusterSpec

DOWN_TIMEOUT_S = 5.0
_PORT_MAX = 65535


class ClusterError(Exception):
    """What went wrong in one line, and what would mend it in another."""

    def __init__(self, message: str, fix: str = "") -> None:
        super().__init__(message)
        self.fix = fix


@dataclass(frozen=True, slots=True)
class RunningCluster:
    """A cluster that is up."""

    name: str
    kubeconfig: Path
    api_port: int
    seconds: float


Progress = Callable[[dict[str, Any]], None]


def up(spec: ClusterSpec, on_progress: Progress, *, api_port: int = 0) -> RunningCluster:
    """Boot a cluster and return when it is ready. Raises ClusterError; then nothing of it is left running.

    The caller must be single-threaded until this has returned from its fork (no progress display before).
    """
    began = time.monotonic()
    directories = cluster_directories(spec.name)
    check_programs()
    _refuse_second(directories)
    importlib.import_module("podnet.cluster")  # half a second; now, while there is nothing that a SIGKILL could leave
    is_new = directories.is_new
    lock = _take_name(directories)
    with HeldInterrupts() as interrupts:
        with contextlib.ExitStack() as stack:
            stack.callback(os.close, lock)
            undo = _Undo(directories, is_new)
            stack.callback(undo.run)
            api_socket = stack.enter_context(_listen_api(api_port, directories))
            control = stack.enter_context(wire.listen(directories.control_socket))
            record = _start(spec, directories, api_socket, control, lock, began, interrupts, is_new=is_new)
            undo.wanted = False
        try:
            interrupts.release()
            seconds = _wait_ready(directories, on_progress, began)
        except BaseException as error:
            room.kill_room(record.pid, record.start_time)
            _wait_gone(record)
            undo.wanted = True
            undo.run(keep_logs=isinstance(error, ClusterError))
            raise
    return RunningCluster(spec.name, ClusterPaths(directories.state).kubeconfig, record.api_port, seconds)


@dataclass(slots=True)
class _Undo:
    """What a start that was refused leaves of a cluster that was not there before: nothing."""

    directories: ClusterDirectories
    is_new: bool
    wanted: bool = True

    def run(self, *, keep_logs: bool = False) -> None:
        """Undo, unless the room stands. `keep_logs`: they say why it fell."""
        if self.wanted:
            self.directories.remove_runtime()
            if self.is_new and keep_logs:
                self.directories.remove_state_but_logs()
            elif self.is_new:
                self.directories.remove_state()


def _take_name(directories: ClusterDirectories) -> int:
    """The lock on a cluster's name. Raises ClusterError while the cluster runs, also when its lock file was deleted."""
    lock = directories.try_lock()
    try:
        _refuse_second(directories)
    except ClusterError:
        if lock is not None:
            os.close(lock)
        raise
    if lock is None:
        raise _running_already(directories, ", or just starting or ending")
    return lock


def _refuse_second(directories: ClusterDirectories) -> None:
    record = directories.record()
    if record is not None and record.running:
        raise _running_already(directories, f" (pid {record.pid})")


def _running_already(directories: ClusterDirectories, where: str) -> ClusterError:
    return ClusterError(
        f"cluster {directories.name!r} is running already{where}",
        f"podnet down -c {directories.name}, or choose another name with -c NAME",
    )


PROGRAMS = {"mnexec": "mininet", "ip": "iproute2", "nft": "nftables"}


def check_programs() -> None:
    """Raise ClusterError when a program is missing that every cluster needs."""
    path = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/local/sbin:/usr/sbin:/sbin"])
    missing = [name for name in PROGRAMS if shutil.which(name, path=path) is None]
    if missing:
        packages = " ".join(PROGRAMS[name] for name in missing)
        raise ClusterError(f"not installed: {', '.join(missing)}", f"sudo apt install {packages}")


def _start(
    spec: ClusterSpec,
    directories: ClusterDirectories,
    api_socket: socket.socket,
    control: socket.socket,
    lock: int,
    began: float,
    interrupts: HeldInterrupts,
    *,
    is_new: bool,
) -> RoomRecord:
    from podnet.cluster import ClusterConfig, run_cluster  # late: everything is imported here, once, and then shared

    paths = ClusterPaths(directories.state)
    runtime = os.open(directories.runtime.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)

    def forget() -> None:
        # In the room: its own /run and /sys hide where the two lie on the host, so by what was opened before.
        remove_groups(group.in_room().path for group in config.cgroups.directories)
        remove_tree(Path(f"/proc/self/fd/{runtime}", directories.name))
        if is_new:
            directories.remove_state()

    config = ClusterConfig(spec, paths, api_socket, control, lock, began, on_abandoned=forget)

    def supervise() -> NoReturn:
        interrupts.restore()
        run_cluster(config)

    try:
        paths.logs_dir.mkdir(parents=True, exist_ok=True)  # PID 1 writes there before it can tell anybody anything
        remove_recorded(directories.cgroups_file)  # of a room that was killed
        config = replace(config, cgroups=_make_cgroups(directories))
        pid = room.start_room(supervise, f"podnet-{spec.name}"[:63])
    except room.RoomError as err:
        directories.remove_runtime()
        raise ClusterError(str(err), err.fix) from err
    except BaseException:
        directories.remove_runtime()
        raise
    finally:
        os.close(runtime)
    record = RoomRecord(pid, room.process_start_time(pid), int(api_socket.getsockname()[1]))
    try:
        directories.write_record(record)
    except BaseException:  # a full disk: nobody would find the room again
        room.kill_room(record.pid, record.start_time)
        directories.remove_runtime()
        raise
    return record


def _make_cgroups(directories: ClusterDirectories) -> ClusterCgroups:
    cgroups = make_cluster_cgroups(group_name(directories.name, str(directories.state)))
    write_record(directories.cgroups_file, cgroups.directories)
    return cgroups


def _listen_api(port: int, directories: ClusterDirectories) -> socket.socket:
    """A listening socket on 127.0.0.1: the port asked for, else the one of the last time, else any."""
    wanted = port or _last_port(ClusterPaths(directories.state).kubeconfig)
    sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        sock.bind(("127.0.0.1", wanted))
    except OSError as err:
        if port:
            sock.close()
            what = "is taken" if err.errno == errno.EADDRINUSE else "cannot be used"
            raise ClusterError(
                f"port {port} on 127.0.0.1 {what} ({err.strerror})", "choose another one with --api-port, or none"
            ) from err
        sock.bind(("127.0.0.1", 0))
    sock.listen(1024)
    return sock


def _last_port(kubeconfig: Path) -> int:
    """The port in the kubeconfig of last time; 0 where there is none: it is written anew in any case."""
    with contextlib.suppress(OSError):
        found = re.search(rb"https://127\.0\.0\.1:(\d{1,5})\b", kubeconfig.read_bytes())
        if found and int(found[1]) <= _PORT_MAX:
            return int(found[1])
    return 0


def _wait_ready(directories: ClusterDirectories, on_progress: Progress, began: float) -> float:
    """Hand on progress until the boot is done; the seconds it took."""
    with conversation(directories, {"verb": "progress"}) as events:
        for event in events:
            if event.get("error"):
                logs = ClusterPaths(directories.state).logs_dir
                raise ClusterError(f"the cluster did not come up: {event['error']}", f"logs are in {logs}")
            if event.get("done"):
                return time.monotonic() - began
            on_progress(event)
    logs = ClusterPaths(directories.state).logs_dir
    raise ClusterError("the supervisor died while booting", f"see {logs / 'supervisor.log'}")


@contextlib.contextmanager
def conversation(
    directories: ClusterDirectories, request: dict[str, Any], fds: tuple[int, ...] = ()
) -> Iterator[Iterator[dict[str, Any]]]:
    """Talk to a running cluster's supervisor. Raises ClusterError when it is not running."""
    with connect(directories) as sock:
        wire.send(sock, request, fds)
        yield wire.messages(sock)


def connect(directories: ClusterDirectories) -> socket.socket:
    """A control connection. Raises ClusterError when the cluster is not running."""
    try:
        return wire.connect(directories.control_socket)
    except OSError as err:
        raise not_running(directories) from err


def not_running(directories: ClusterDirectories) -> ClusterError:
    """Why nobody answers, and which words help."""
    name = directories.name
    record = directories.record()
    if record is not None and record.running:  # the directory of its socket was removed, or it is ending
        return ClusterError(
            f"cluster {name!r} does not listen at {directories.control_socket}", f"podnet down -c {name}"
        )
    running = [f"-c {d.name}" for d in known_clusters() if (its := d.record()) and its.running]
    others = f"; or choose one that runs: {', '.join(running)}" if running else ""
    return ClusterError(f"cluster {name!r} is not running", f"podnet up -c {name}{others}")


def ask(directories: ClusterDirectories, request: dict[str, Any]) -> dict[str, Any]:
    """One request, its final answer. Raises ClusterError with the supervisor's refusal."""
    with conversation(directories, request) as answers:
        for answer in answers:
            if answer.get("done"):
                if answer.get("error"):
                    raise ClusterError(str(answer["error"]))
                return answer
    raise ClusterError(f"the supervisor of {directories.name!r} hung up")


def down(name: str, *, purge: bool = False) -> bool:
    """Stop a cluster, by force if it must be; False when it was not running. `purge` forgets its state too."""
    directories = cluster_directories(name)
    record = directories.record()
    was_running = record is not None and record.running
    if record is not None and was_running:
        with contextlib.suppress(ClusterError, OSError), connect(directories) as sock:
            sock.settimeout(DOWN_TIMEOUT_S)
            wire.send(sock, {"verb": "stop"})
            sock.recv(4096)
        if not _wait_gone(record, 1.0):
            room.kill_room(record.pid, record.start_time)
            _wait_gone(record)
    directories.remove_runtime()
    if purge:
        directories.remove_state()
    return was_running


def _wait_gone(record: RoomRecord, timeout_s: float = 5.0) -> bool:
    deadline = time.monotonic() + timeout_s
    while record.running:
        if time.monotonic() > deadline:
            return False
        time.sleep(0.005)  # the kernel offers no event for the end of a process that is not a child (pidfd aside)
    return True


def clean() -> list[str]:
    """Remove the runtime files of clusters whose room is gone (a SIGKILL leaves only those), and what is left of a name
    that nothing is kept of; their names."""
    removed = []
    for directories in known_clusters():
        record = directories.record()
        if record is not None and record.running:
            continue
        try:
            lock = directories.try_lock()
        except OSError:
            continue  # not a directory of ours, or none that may be written
        if lock is None:
            continue  # it boots just now
        try:
            is_left_over = directories.runtime.exists() or directories.is_empty
            directories.remove_runtime()
            if directories.is_empty:
                directories.remove_state()
        finally:
            os.close(lock)
        if is_left_over:
            removed.append(directories.name)
    return removed
