"""FsGroup: the group that may write a pod's volumes, whichever user its containers run as.

Directories get the group, its read, write and search rights, and the set-group-id bit that gives it to what is made in
them; files get the group and its read and write rights. Where the machine lets us give nothing to another group (a user
namespace with one mapped id) the volumes stay as they are: any user may write them there.
Source: kubernetes pkg/volume/volume_linux.go (SetVolumeOwnership).
"""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

_DIRECTORY_BITS = stat.S_IRWXG | stat.S_ISGID
_FILE_BITS = stat.S_IRGRP | stat.S_IWGRP
_READ_ONLY_BITS = stat.S_IRGRP


def apply_fs_group(root: Path, group: int, policy: str, *, read_only: bool = False) -> None:
    """Give a volume to the group; `policy` OnRootMismatch leaves one alone whose root is right already."""
    if policy == "OnRootMismatch" and _is_given(root, group):
        return
    try:
        for directory, _, files in os.walk(root):
            for name in files:
                _give(Path(directory, name), group, _READ_ONLY_BITS if read_only else _FILE_BITS)
        # The root last: it is the mark that everything below is done.
        for directory, _, _ in os.walk(root, topdown=False):
            _give(Path(directory), group, _DIRECTORY_BITS & ~stat.S_IWGRP if read_only else _DIRECTORY_BITS)
    except OSError as error:
        if error.errno not in {errno.EPERM, errno.EINVAL}:  # EINVAL: the user namespace does not map the group
            raise


def _is_given(root: Path, group: int) -> bool:
    status = root.stat()
    return status.st_gid == group and status.st_mode & _DIRECTORY_BITS == _DIRECTORY_BITS


def _give(path: Path, group: int, bits: int) -> None:
    status = path.lstat()
    if status.st_gid != group:
        os.chown(path, -1, group, follow_symlinks=False)
    if bits and not stat.S_ISLNK(status.st_mode) and status.st_mode & bits != bits:
        path.chmod(stat.S_IMODE(status.st_mode) | bits)
