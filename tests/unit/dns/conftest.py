"""dnspython for tests: its name is `dns`, like the room's, so it is found only where the room's folder is not."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def dnspython():
    """The module `dns.message` of dnspython, even when the repository itself is on the path (PYTHONPATH)."""
    saved = list(sys.path)
    sys.path[:] = [entry for entry in saved if not (Path(entry or ".") / "dns" / "corefile.py").exists()]
    importlib.invalidate_caches()
    try:
        return pytest.importorskip("dns.message", reason="dnspython is not installed")
    finally:
        sys.path[:] = saved
