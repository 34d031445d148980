"""Overlays of the machine's directories, and what to do where the kernel refuses one.

The rule: whatever the fallback, nothing of the machine is mounted writable.
Sources: overlayfs.rst; mount_namespaces(7) on mounts that are locked together.
"""

from __future__ import annotations

import contextlib
import os
import shutil

from podnet.topology.linux import syscalls

_KEPT_FLAGS = {
    os.ST_NOSUID: syscalls.MS_NOSUID,
    os.ST_NODEV: syscalls.MS_NODEV,
    os.ST_NOEXEC: syscalls.MS_NOEXEC,
    os.ST_NOATIME: syscalls.MS_NOATIME,
    os.ST_NODIRATIME: 0x800,
    os.ST_RELATIME: 0x200000,
}
# Mounts that a graft made: a root that becomes read-only later takes them along. One container a process.
_grafted: list[str] = []


def mount_overlay(target: str, lowers: tuple[str, ...], scratch: str) -> None:
    """Mount an overlay of `lowers` (the uppermost first) with upper and work directories inside `scratch`."""
    upper, work = f"{scratch}/upper", f"{scratch}/work"
    os.makedirs(upper, exist_ok=True)
    os.makedirs(work, exist_ok=True)
    # Without trusted.* attributes (a user namespace) overlayfs keeps its marks in user.*; without either it still
    # works but cannot replace a directory of the machine by a file.
    extra = ",userxattr" if _in_user_namespace() else ""
    lower = ":".join(escape(path) for path in lowers)
    options = f"lowerdir={lower},upperdir={escape(upper)},workdir={escape(work)}{extra}"
    syscalls.mount("overlay", target, "overlay", 0, options)


def graft(target: str, lowers: tuple[str, ...], scratch: str) -> None:
    """The same directory without one overlay for all of it: a tmpfs with each subdirectory as an overlay of its own, or
    bound read-only; files copied. A directory that holds podnet's own state is left empty."""
    syscalls.mount("podnet", target, "tmpfs", data="mode=755,size=256m")
    seen: set[str] = set()
    for layer in lowers:
        for entry in os.scandir(layer):
            if entry.name in seen:
                continue
            seen.add(entry.name)
            place = f"{target}/{entry.name}"
            if entry.is_symlink():
                os.symlink(os.readlink(entry.path), place)
            elif entry.is_dir():
                os.mkdir(place)
                below = tuple(f"{lower}/{entry.name}" for lower in lowers if os.path.isdir(f"{lower}/{entry.name}"))
                _graft_directory(place, below, f"{scratch}/{entry.name}")
            elif entry.is_file():
                with contextlib.suppress(OSError):  # what root here may not read, no container of this room may
                    shutil.copy(entry.path, place)


def _graft_directory(place: str, lowers: tuple[str, ...], scratch: str) -> None:
    os.makedirs(scratch, exist_ok=True)
    with contextlib.suppress(OSError):
        mount_overlay(place, lowers, scratch)
        _grafted.append(place)
        return
    machine = lowers[-1]
    if scratch.startswith(f"{machine}/"):
        os.chmod(place, os.stat(machine).st_mode & 0o7777)
        return
    syscalls.mount(machine, place, flags=syscalls.MS_BIND | syscalls.MS_REC)
    for mounted in (place, *_mounts_below(place)):
        make_read_only(mounted)


def grafted_below(target: str) -> list[str]:
    """The overlays that stand in for one overlay of this directory."""
    return [place for place in _grafted if place.startswith(f"{target.rstrip('/')}/")]


def _mounts_below(place: str) -> list[str]:
    """Mount points below a directory, from /proc/self/mountinfo (whose field 5 escapes blanks in octal)."""
    found = []
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
        for line in file:
            point = line.split(" ")[4].encode("latin-1", "surrogateescape").decode("unicode_escape")
            if point.startswith(f"{place}/"):
                found.append(point)
    return found


def make_read_only(target: str) -> None:
    """Remount one mount read-only, keeping the flags it has: a user namespace may not drop them."""
    have = os.statvfs(target).f_flag
    flags = syscalls.MS_REMOUNT | syscalls.MS_BIND | syscalls.MS_RDONLY
    for bit, flag in _KEPT_FLAGS.items():
        if have & bit:
            flags |= flag
    syscalls.mount("", target, flags=flags)


def escape(path: str) -> str:
    """Overlayfs splits its options at commas and its lower directories at colons."""
    return path.replace("\\", "\\\\").replace(":", "\\:").replace(",", "\\,")


def _in_user_namespace() -> bool:
    with open("/proc/self/uid_map", encoding="ascii") as file:
        return file.read().split() != ["0", "0", "4294967295"]
