"""Control groups: where this machine lets podnet limit memory and CPU, and the groups of one cluster.

    version 2   <mount>/podnet-<cluster>-<hash>/<node>_<container>      memory.max, cpu.max
    version 1   the same in the hierarchies of `memory` and `cpu`       memory.limit_in_bytes, cpu.cfs_quota_us

A cluster's groups are made before its room is entered and removed after it has ended, by whoever does the one and the
other: the room's PID 1 cannot outlive its own processes. Root makes them at the top of a version 2 tree, where the kernel
allows processes beside groups, or below its own group in version 1. An ordinary user makes them beside its own group,
where systemd has delegated that to them (user@.service). Source: cgroups(7), Documentation/admin-guide/cgroup-v2.rst.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import threading
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

CGROUP_MOUNTS = "/sys/fs/cgroup"
ROOM_CGROUPS = "/run/podnet/cgroup"
"""Where the room shows CGROUP_MOUNTS: its own /sys is a fresh one, and so is every node's."""
CONTROLLERS = ("memory", "cpu")
_REMOVE_TIMEOUT_S, _POLL_S = 2.0, 0.01


@dataclass(frozen=True, slots=True)
class CgroupDirectory:
    """A group of the cluster's own in one hierarchy, and what can be limited there."""

    path: str
    version: int
    controllers: tuple[str, ...]

    def in_room(self) -> CgroupDirectory:
        """The same, as the room's processes see it."""
        return CgroupDirectory(self.path.replace(CGROUP_MOUNTS, ROOM_CGROUPS, 1), self.version, self.controllers)


@dataclass(frozen=True, slots=True)
class ClusterCgroups:
    """`problem`: why something cannot be limited ("" when all can)."""

    directories: tuple[CgroupDirectory, ...] = ()
    problem: str = ""

    @property
    def controllers(self) -> tuple[str, ...]:
        """What can be limited."""
        return tuple(name for name in CONTROLLERS if any(name in one.controllers for one in self.directories))


@dataclass(frozen=True, slots=True)
class Hierarchy:
    """One mounted hierarchy: where, which version, which of our controllers (none known for version 2), our own group."""

    mount: str
    version: int
    controllers: tuple[str, ...]
    own: str


def parse_hierarchies(mountinfo: str, own_groups: str) -> list[Hierarchy]:
    """What /proc/self/mountinfo and /proc/self/cgroup say about the hierarchies under /sys/fs/cgroup. Pure."""
    own = {}
    for line in own_groups.splitlines():
        _, names, path = line.split(":", 2)
        own.update(dict.fromkeys(names.split(","), path))
    found = []
    for line in mountinfo.splitlines():
        left, _, right = line.partition(" - ")
        before, after = left.split(), right.split()
        if len(before) < 5 or len(after) < 3 or not before[4].startswith(CGROUP_MOUNTS):
            continue
        root, mount, kind, options = before[3], before[4], after[0], after[2].split(",")
        if kind == "cgroup2":
            found.append(Hierarchy(mount, 2, (), _below(own.get("", "/"), root)))
        elif kind == "cgroup":
            offered = tuple(name for name in CONTROLLERS if name in options)
            if offered:
                found.append(Hierarchy(mount, 1, offered, _below(own.get(offered[0], "/"), root)))
    return found


def _below(path: str, root: str) -> str:
    """A group's path as its mount shows it."""
    return path[len(root) :] or "/" if root != "/" and path.startswith(root) else path


def group_name(cluster: str, state: str) -> str:
    """`podnet-lab-1f2e3d4c`: a cluster's name is its user's alone, its state directory is the machine's."""
    return f"podnet-{cluster}-{hashlib.sha256(state.encode()).hexdigest()[:8]}"


def make_cluster_cgroups(name: str) -> ClusterCgroups:
    """Make a cluster's groups wherever they can be made."""
    hierarchies = parse_hierarchies(
        Path("/proc/self/mountinfo").read_text(encoding="utf-8"), Path("/proc/self/cgroup").read_text(encoding="utf-8")
    )
    made: list[CgroupDirectory] = []
    problems = [] if hierarchies else ["no control groups are mounted at /sys/fs/cgroup"]
    for hierarchy in hierarchies:
        try:
            made += _make_v2(hierarchy, name) if hierarchy.version == 2 else _make_v1(hierarchy, name)
        except OSError as error:
            problems.append(f"{error.filename or hierarchy.mount}: {error.strerror}")
    have = {controller for directory in made for controller in directory.controllers}
    missing = [controller for controller in CONTROLLERS if controller not in have]
    if not missing:
        return ClusterCgroups(tuple(made))
    why = "; ".join(problems) or "the controller is not offered here"
    return ClusterCgroups(tuple(made), f"{' and '.join(missing)} cannot be limited: {why}")


def _make_v1(hierarchy: Hierarchy, name: str) -> list[CgroupDirectory]:
    path = f"{hierarchy.mount}{hierarchy.own.rstrip('/')}/{name}"
    os.makedirs(path, exist_ok=True)
    return [CgroupDirectory(path, 1, hierarchy.controllers)]


def _make_v2(hierarchy: Hierarchy, name: str) -> list[CgroupDirectory]:
    if not _words(f"{hierarchy.mount}/cgroup.controllers") & set(CONTROLLERS):
        return []  # a tree beside those of version 1
    own = f"{hierarchy.mount}{hierarchy.own.rstrip('/')}"
    beside = [os.path.dirname(own)] if hierarchy.own != "/" else []  # nothing is above the top
    parents = [hierarchy.mount, *beside] if os.geteuid() == 0 else beside
    refused = OSError(errno.EPERM, "nobody has delegated a group to this user", own)
    for parent in dict.fromkeys(parents):
        try:
            return [_make_v2_below(parent, name)]
        except OSError as error:
            refused = error
    raise refused


def _make_v2_below(parent: str, name: str) -> CgroupDirectory:
    """A group with its controllers handed on to its children; nothing is left where that is refused."""
    _hand_on(parent)
    path = f"{parent}/{name}"
    os.makedirs(path, exist_ok=True)
    try:
        _hand_on(path)
    except OSError:
        with contextlib.suppress(OSError):
            os.rmdir(path)
        raise
    return CgroupDirectory(path, 2, tuple(c for c in CONTROLLERS if c in _words(f"{path}/cgroup.subtree_control")))


def _hand_on(group: str) -> None:
    offered = _words(f"{group}/cgroup.controllers")
    wanted = [c for c in CONTROLLERS if c in offered and c not in _words(f"{group}/cgroup.subtree_control")]
    if wanted:
        write(f"{group}/cgroup.subtree_control", " ".join(f"+{name}" for name in wanted))


def _words(path: str) -> set[str]:
    with open(path, encoding="ascii") as file:
        return set(file.read().split())


def write(path: str, value: str) -> None:
    """Write one control file."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(descriptor, value.encode())
    except OSError as error:
        raise OSError(error.errno, os.strerror(error.errno or 0), path) from error
    finally:
        os.close(descriptor)


# --- the record of a cluster's groups, for whoever removes them -------------------------------------------------------


def write_record(file: Path, directories: Sequence[CgroupDirectory]) -> None:
    """Note which groups are the cluster's."""
    file.write_text(json.dumps([asdict(directory) for directory in directories]), encoding="utf-8")


def remove_recorded(file: Path) -> None:
    """Remove the groups that a file names, and the file. Waits a moment for processes that are just ending."""
    try:
        paths = [str(entry["path"]) for entry in json.loads(file.read_text(encoding="utf-8"))]
    except (OSError, ValueError, KeyError, TypeError):
        return
    remove_groups(path for path in paths if path.startswith(f"{CGROUP_MOUNTS}/") and "/podnet-" in path)
    file.unlink(missing_ok=True)


def remove_groups(paths: Iterable[str]) -> None:
    """Remove groups with their children; those with living processes stay."""
    deadline = time.monotonic() + _REMOVE_TIMEOUT_S
    for path in paths:
        while os.path.isdir(path):
            sweep(path)
            try:
                os.rmdir(path)
            except OSError:
                if time.monotonic() > deadline:
                    break
                threading.Event().wait(_POLL_S)


def sweep(path: str, prefix: str = "") -> None:
    """Remove the children of a group in which nothing runs any more."""
    with contextlib.suppress(OSError):
        for entry in os.scandir(path):
            if entry.is_dir(follow_symlinks=False) and entry.name.startswith(prefix):
                with contextlib.suppress(OSError):
                    os.rmdir(entry.path)
