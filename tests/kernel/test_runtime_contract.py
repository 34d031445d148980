"""The runtime with namespaces keeps the contract of `RuntimeService`, as root and as an ordinary user."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest


def _room() -> ModuleType:
    spec = importlib.util.spec_from_file_location("runtime_room", Path(__file__).with_name("runtime_room.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


room = _room()


@pytest.mark.kernel
@pytest.mark.parametrize("user", ["root", "ordinary"])
def test_cri_contract(user):
    reason = room.unavailable(user)
    if reason:
        pytest.skip(reason)
    done = room.run_tests_in_room(user, ["tests/contract/test_cri.py"], "-k", "namespaces")
    assert done.returncode == 0, done.stdout + done.stderr
    assert " passed" in done.stdout
    assert "skipped" not in done.stdout
