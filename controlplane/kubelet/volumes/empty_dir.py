"""emptyDir: a directory of the pod's own, on disk or, with `medium: Memory`, on a tmpfs of its own.

The tmpfs is mounted in the node's mount namespace before the pod's sandbox is made, so that its containers see it.
Source: kubernetes.io/docs/concepts/storage/volumes/#emptydir.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from podnet.controlplane.api import quantity
from podnet.topology.linux import syscalls

ANY_USER = 0o777


def tmpfs_options(source: Mapping[str, Any]) -> str:
    """Mount data of a memory-backed emptyDir: its size limit, where it has one."""
    limit = source.get("sizeLimit")
    size = quantity.of(str(limit)).to_int() if limit is not None else 0
    return f"mode=0777,size={size}" if size > 0 else "mode=0777"


def set_up_empty_dir(directory: Path, source: Mapping[str, Any]) -> None:
    """Make it, once; what is in it stays. OSError where the machine mounts no tmpfs for us."""
    in_memory = source.get("medium") == "Memory"
    if directory.exists() and (not in_memory or os.path.ismount(directory)):
        return
    directory.mkdir(parents=True, exist_ok=True)
    if in_memory:
        syscalls.mount("tmpfs", directory, "tmpfs", syscalls.MS_NOSUID | syscalls.MS_NODEV, tmpfs_options(source))
    else:
        directory.chmod(ANY_USER)  # past the umask: any user of the pod may write


def unmount_below(directory: Path) -> None:
    """Unmount what `set_up_empty_dir` has mounted there, so that the directory can be removed."""
    for path in directory.glob("volumes/kubernetes.io~empty-dir/*"):
        if os.path.ismount(path):
            with contextlib.suppress(OSError):
                syscalls.umount(path, syscalls.MNT_DETACH)
