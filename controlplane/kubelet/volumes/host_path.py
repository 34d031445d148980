"""hostPath: a place in the machine's own file system, checked as its `type` asks.

Source: kubernetes.io/docs/concepts/storage/volumes/#hostpath.
"""

from __future__ import annotations

import stat
from collections.abc import Callable
from pathlib import Path

from podnet.controlplane.kubelet.downward import ConfigError

_MUST_BE: dict[str, tuple[Callable[[int], bool], str]] = {
    "Directory": (stat.S_ISDIR, "a directory"),
    "File": (stat.S_ISREG, "a file"),
    "Socket": (stat.S_ISSOCK, "a socket file"),
    "CharDevice": (stat.S_ISCHR, "a character device"),
    "BlockDevice": (stat.S_ISBLK, "a block device"),
}


def prepare_host_path(path: Path, kind: str) -> None:
    """Create what an …OrCreate type creates and refuse what does not fit the type."""
    if kind == "DirectoryOrCreate":
        if not path.exists():
            path.mkdir(mode=0o755, parents=True)
        kind = "Directory"
    elif kind == "FileOrCreate":
        if not path.exists():
            path.touch(mode=0o644)
        kind = "File"
    if kind in _MUST_BE:
        fits, name = _MUST_BE[kind]
        if not path.exists() or not fits(path.stat().st_mode):
            raise ConfigError(f"hostPath type check failed: {path} is not {name}")
    elif not kind and not path.exists():
        # Without a type a container runtime makes a directory of what is missing.
        path.mkdir(mode=0o755, parents=True)
