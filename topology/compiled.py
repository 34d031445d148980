"""Small C programs of podnet's own, compiled when first needed, where there is a compiler.

Two places start programs so often, or keep them so long, that an interpreter is too dear: the executed CNI plugin
(a start costs 8 ms in Python) and `/pause` in a pod (4 MB in Python). Both exist in Python too, and that version is used
where no compiler is found. Binaries are kept in the user's cache, named by their source, and never shipped.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

_TIMEOUT_S = 30.0


def compiled_program(source: Path, *, static: bool = False) -> bytes | None:
    """The executable of a C file, from the cache when this source was compiled here before; None without a compiler.

    `static`: without a dynamic loader to run, a program starts in half the time (where the machine has static libc).
    """
    key = hashlib.sha256(source.read_bytes() + os.uname().machine.encode() + bytes([static])).hexdigest()[:16]
    cached = cache_directory() / f"{source.stem}-{key}"
    try:
        return cached.read_bytes()
    except OSError:
        pass
    program = compile_program(source, [["-static"], []] if static else [[]])
    if program is not None:
        try:
            cached.parent.mkdir(parents=True, exist_ok=True)
            aside = cached.with_name(f".{cached.name}.{os.getpid()}.new")
            aside.write_bytes(program)
            aside.replace(cached)
        except OSError:
            pass  # an unwritable cache only costs the next cluster a compilation
    return program


def compile_program(source: Path, attempts: Sequence[Sequence[str]]) -> bytes | None:
    """Compile with the first set of flags that works."""
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        return None
    with tempfile.TemporaryDirectory() as directory:
        target = Path(directory) / source.stem
        for flags in attempts:
            command = [compiler, "-O2", *flags, "-o", str(target), str(source)]
            try:
                done = subprocess.run(command, capture_output=True, check=False, timeout=_TIMEOUT_S)
            except (OSError, subprocess.TimeoutExpired):
                return None
            if done.returncode == 0:
                return target.read_bytes()
    return None


def cache_directory() -> Path:
    """`$XDG_CACHE_HOME/podnet`."""
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path(os.path.expanduser("~")) / ".cache") / "podnet"
