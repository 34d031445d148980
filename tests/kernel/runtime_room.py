"""Runs a program in a room of its own: private user (for the ordinary user), network, mount, PID, UTS and IPC
namespaces with a fresh /proc and /run. Nothing of it outlives the program."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
ORDINARY = 65534
_SET_UP = 'mount --make-rprivate / && mount -t proc proc /proc && mount -t tmpfs tmpfs /run && exec "$@"'


def unavailable(user: str) -> str:
    """Why this kind of room cannot be had here; empty when it can."""
    for tool in ("unshare", "setpriv"):
        if shutil.which(tool) is None:
            return f"{tool} (util-linux) is not installed"
    if user == "root" and not _is_root():
        return "needs root"
    probe = subprocess.run([*_enter(user), "true"], capture_output=True, text=True, check=False)
    return "" if probe.returncode == 0 else f"no namespaces for {user}: {probe.stderr.strip()}"


def _is_root() -> bool:
    """Real root, and not an ordinary user whom his user namespace calls so."""
    return os.geteuid() == 0 and Path("/proc/self/uid_map").read_text(encoding="ascii").split()[2] != "1"


def _enter(user: str) -> list[str]:
    words: list[str] = []
    unshare = ["unshare", "--mount", "--pid", "--fork", "--uts", "--ipc", "--net", "--kill-child"]
    if user != "root":
        if _is_root():
            words += ["setpriv", f"--reuid={ORDINARY}", f"--regid={ORDINARY}", "--clear-groups"]
        unshare += ["--user", "--map-root-user"]
    return [*words, *unshare, "sh", "-c", _SET_UP, "room"]


@contextmanager
def scratch(user: str) -> Iterator[Path]:
    """A directory which the user of the room owns."""
    directory = Path(tempfile.mkdtemp(prefix="podnet-room-"))
    if user != "root" and _is_root():
        os.chown(directory, ORDINARY, ORDINARY)
    try:
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def run_in_room(user: str, argv: Sequence[str], timeout_s: float = 240.0) -> subprocess.CompletedProcess[str]:
    """Run Python with these arguments in a room."""
    env = dict(os.environ) | {
        "PODNET_TEST_ROOM": user,
        "PYTHONSAFEPATH": "1",
        "PYTHONPATH": str(ROOT),
        "PYTHONDONTWRITEBYTECODE": "1",
        "HOME": "/tmp",
    }
    command = [*_enter(user), sys.executable, *argv]
    return subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=timeout_s, check=False)


def run_tests_in_room(user: str, files: Sequence[str], *options: str) -> subprocess.CompletedProcess[str]:
    """Run pytest on these files in a room."""
    with scratch(user) as directory:
        argv = ["-m", "pytest", "-p", "no:cacheprovider", f"--basetemp={directory}/t", *options, *files]
        return run_in_room(user, argv)
