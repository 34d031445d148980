"""Writes the files of a volume so that a reader sees all the old ones or all the new ones.

    volume/key            -> ..data/key          what a container opens
    volume/..data         -> ..2026_11_21_01_02_03.4567    swapped by one rename(2)
    volume/..2026_…/key      the bytes

Source: the layout that containers know from ConfigMap volumes (kubelet's AtomicWriter).
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path

from podnet.controlplane.kubelet.timestamps import rfc3339_nano
from podnet.controlplane.kubelet.volumes.payload import FilePayload

DATA = "..data"


def write_payload(volume: Path, payload: Mapping[str, FilePayload], now_ns: int) -> bool:
    """Make the volume hold exactly this; True when anything had to change."""
    volume.mkdir(parents=True, exist_ok=True)
    data = volume / DATA
    old = os.readlink(data) if data.is_symlink() else ""
    if old and _read_payload(volume / old) == payload:
        return False
    stamp = rfc3339_nano(now_ns)[:-1].replace("-", "_").replace(":", "_").replace("T", "_")
    fresh = volume / f"..{stamp}"
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir(mode=0o755)
    for path, file in payload.items():
        target = fresh / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(file.data)
        target.chmod(file.mode)
    temporary = volume / "..data_tmp"
    temporary.unlink(missing_ok=True)
    temporary.symlink_to(fresh.name)
    temporary.rename(data)
    _link_names(volume, {path.partition("/")[0] for path in payload})
    for entry in volume.iterdir():
        if entry.name.startswith("..") and entry.name not in {fresh.name, DATA}:
            shutil.rmtree(entry, ignore_errors=True)
    return True


def _link_names(volume: Path, names: set[str]) -> None:
    for name in names:
        link = volume / name
        if not link.is_symlink():
            link.symlink_to(f"{DATA}/{name}")
    for entry in volume.iterdir():
        if entry.is_symlink() and not entry.name.startswith("..") and entry.name not in names:
            entry.unlink()


def _read_payload(directory: Path) -> dict[str, FilePayload] | None:
    if not directory.is_dir():
        return None
    return {
        str(path.relative_to(directory)): FilePayload(path.read_bytes(), path.stat().st_mode & 0o7777)
        for path in directory.rglob("*")
        if path.is_file()
    }
