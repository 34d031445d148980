"""Where clusters live on this machine, which of them run, and how they are told apart.

$XDG_STATE_HOME/podnet/<name>/   (default ~/.local/state)   what a cluster keeps; `lock` is held while it runs
$XDG_RUNTIME_DIR/podnet/<name>/  (default /tmp/podnet-<uid>) control.sock and room.json of a running cluster

room.json is in both: a login's end or a cleaner of /tmp takes the second directory away, and whoever tidies up by hand the
first; a cluster that runs must be found, and stopped, without either.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import shutil
import stat
from dataclasses import asdict, dataclass
from pathlib import Path

from podnet import room
from podnet.topology.cgroups import remove_recorded

_KEPT_OF_A_FAILURE = "logs"
_NOT_YET_A_CLUSTER = frozenset({"logs", "lock", "cgroups.json", "room.json"})
_NAME = re.compile(r"[a-z0-9]([-a-z0-9]{0,38}[a-z0-9])?")


@dataclass(frozen=True, slots=True)
class RoomRecord:
    """What `up` writes down about a room: its PID 1 (with start time, so that a reused pid is not mistaken for it)
    and the port of the API server on 127.0.0.1.
    """

    pid: int
    start_time: int
    api_port: int

    @property
    def running(self) -> bool:
        """Is the room still there?"""
        return room.is_running(self.pid, self.start_time)


@dataclass(frozen=True, slots=True)
class ClusterDirectories:
    """The two directories of one cluster on the host."""

    name: str
    state: Path
    runtime: Path

    @property
    def control_socket(self) -> Path:
        """The supervisor's socket."""
        return self.runtime / "control.sock"

    @property
    def record_file(self) -> Path:
        """The RoomRecord as JSON."""
        return self.runtime / "room.json"

    def record(self) -> RoomRecord | None:
        """What was written down by the last `up`, None when there is nothing legible."""
        found = [record for file in self._record_files if (record := _read_record(file)) is not None]
        return next((record for record in found if record.running), found[0] if found else None)

    def write_record(self, record: RoomRecord) -> None:
        """Write it down."""
        for file in self._record_files:
            if file == self.record_file or self.state.is_dir():
                file.write_text(json.dumps(asdict(record)), encoding="utf-8")

    @property
    def _record_files(self) -> tuple[Path, Path]:
        return self.record_file, self.state / self.record_file.name

    @property
    def is_new(self) -> bool:
        """Has there never been a cluster of this name? One that failed at its first boot left at most its logs."""
        try:
            return {entry.name for entry in self.state.iterdir()} <= _NOT_YET_A_CLUSTER
        except FileNotFoundError:
            return True

    @property
    def is_empty(self) -> bool:
        """Is nothing kept of this name, not even why its boot failed?"""
        return self.is_new and not (self.state / _KEPT_OF_A_FAILURE).exists()

    def try_lock(self) -> int | None:
        """Take the cluster's name: a descriptor that holds it, or None while another process does. The room's
        processes inherit it, and the kernel lets go of it with the last of them.
        """
        while True:
            self.state.mkdir(parents=True, exist_ok=True, mode=0o700)
            try:
                fd = os.open(self.state / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            except FileNotFoundError:
                continue  # whoever had it has just removed the directory
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(fd)
                return None
            if _is_file_of(fd, self.state / "lock"):
                return fd
            os.close(fd)  # it was removed between the two: what it locks is no name of anybody's

    @property
    def cgroups_file(self) -> Path:
        """Which control groups are the cluster's."""
        return self.state / "cgroups.json"

    def remove_runtime(self) -> None:
        """Forget the runtime files and control groups of a room that is gone."""
        remove_recorded(self.cgroups_file)
        shutil.rmtree(self.runtime, ignore_errors=True)
        with contextlib.suppress(OSError):
            (self.state / self.record_file.name).unlink()

    def remove_state(self) -> None:
        """Forget what the cluster kept."""
        remove_tree(self.state)

    def remove_state_but_logs(self) -> None:
        """Forget a cluster that never was, but not why."""
        remove_tree_but(self.state, _KEPT_OF_A_FAILURE)


def _read_record(file: Path) -> RoomRecord | None:
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
        return RoomRecord(int(found["pid"]), int(found["start_time"]), int(found["api_port"]))
    except (OSError, ValueError, TypeError, KeyError):
        return None


def _is_file_of(fd: int, path: Path) -> bool:
    """Is this descriptor still the file of that name?"""
    try:
        named = path.stat()
    except OSError:
        return False
    return os.path.samestat(os.fstat(fd), named)


def remove_tree_but(root: Path, kept: str) -> None:
    """Remove all that is in a directory but one entry; also the directory, where there is no such entry."""
    try:
        entries = list(root.iterdir())
    except OSError:
        return
    if root / kept not in entries:
        remove_tree(root)
        return
    for entry in entries:
        if entry.name == kept:
            continue
        if entry.is_dir() and not entry.is_symlink():
            remove_tree(entry)
        else:
            with contextlib.suppress(OSError):
                entry.unlink()


def remove_tree(root: Path) -> None:
    """Remove a directory with all that is in it, as far as one may.

    overlayfs leaves directories of mode 0 in containers' files, which only root can look into: an ordinary user takes
    the right, being the owner, and tries again.
    """
    shutil.rmtree(root, ignore_errors=True)
    if not root.exists():
        return
    for directory, names, _ in os.walk(root):
        for name in names:
            path = os.path.join(directory, name)
            with contextlib.suppress(OSError):
                if stat.S_ISDIR(os.lstat(path).st_mode):  # and not a link out of here
                    os.chmod(path, 0o700)
    shutil.rmtree(root, ignore_errors=True)


def state_root() -> Path:
    """`$XDG_STATE_HOME/podnet`."""
    base = os.environ.get("XDG_STATE_HOME") or os.path.join(os.path.expanduser("~"), ".local", "state")
    return Path(base) / "podnet"


def runtime_root() -> Path:
    """`$XDG_RUNTIME_DIR/podnet`, or a directory of this user alone under /tmp."""
    base = os.environ.get("XDG_RUNTIME_DIR")
    if base and os.access(base, os.W_OK):
        return Path(base) / "podnet"
    return Path(f"/tmp/podnet-{os.geteuid()}")


class ClusterNameError(ValueError):
    """A name that no cluster may have: it becomes part of paths, which are removed with the cluster."""


def cluster_directories(name: str) -> ClusterDirectories:
    """The directories of the cluster of this name. Raises ClusterNameError."""
    if not _NAME.fullmatch(name):
        raise ClusterNameError(f"{name!r} is no cluster name: use lower-case letters, digits and dashes, at most 40")
    return ClusterDirectories(name, state_root() / name, runtime_root() / name)


def known_clusters() -> list[ClusterDirectories]:
    """Every cluster that left a trace, running or not, by name."""
    names = set()
    for root in (state_root(), runtime_root()):
        if root.is_dir():
            names |= {entry.name for entry in root.iterdir() if entry.is_dir()}
    return [cluster_directories(name) for name in sorted(names) if _NAME.fullmatch(name)]
