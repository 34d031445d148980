"""The one door to the directories of a node's volumes: made, removed, listed here and nowhere else.

Every call may be repeated, and one that fails leaves nothing that the next would trip over. A directory is removed in two
steps, renamed and then emptied, so that a crash in the middle never leaves half of the data under the volume's name.
"""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path

ANY_USER = 0o777
MIN_FREE_BYTES = 1 << 20
"""With less than this left no data would fit: better no volume than one that cannot be written to."""
_REMOVING = ".removing-"


def explain(error: OSError) -> str:
    """`/where: no space left on device`, as programs of a cluster say it."""
    text = (error.strerror or str(error)).lower()
    return f"{error.filename}: {text}" if error.filename else text


class VolumeDirectories:
    """The directories below `root`, by the names of their volumes."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def path(self, name: str) -> Path:
        """Where the volume of this name is."""
        if not name or "/" in name or name.startswith("."):
            raise ValueError(f"not the name of a volume: {name!r}")
        return self.root / name

    def make(self, name: str) -> Path:
        """Make it, once; what is in it stays. OSError when the disk is full or the place cannot be written."""
        path = self.path(name)
        self.root.mkdir(parents=True, exist_ok=True)
        if not path.is_dir():
            free = os.statvfs(self.root)
            if free.f_bavail * free.f_frsize < MIN_FREE_BYTES:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
            path.mkdir()
        path.chmod(ANY_USER)  # past the umask: any user of a pod may write
        return path

    def remove(self, name: str) -> None:
        """Remove it with all that is in it; harmless when it is not there."""
        path, going = self.path(name), self.root / f"{_REMOVING}{name}"
        if path.is_symlink():
            path.unlink()
        elif path.exists():
            if going.exists():
                shutil.rmtree(going)
            path.rename(going)
        if going.exists():
            shutil.rmtree(going)

    def remove_empty(self, name: str) -> None:
        """Remove it unless something is in it."""
        try:
            self.path(name).rmdir()
        except OSError as error:
            if error.errno not in {errno.ENOENT, errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR}:
                raise

    def names(self) -> list[str]:
        """The volumes that have a directory. What a crash left of a removal goes now."""
        if not self.root.is_dir():
            return []
        entries = sorted(entry.name for entry in self.root.iterdir())
        for name in entries:
            if name.startswith(_REMOVING):
                shutil.rmtree(self.root / name)
        return [name for name in entries if not name.startswith(".")]
