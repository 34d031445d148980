"""Runs the runtime's cases (runtime_cases.py) and the images' (image_cases.py) in rooms of their own: as root, and as
an ordinary user in a user namespace with one uid."""

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
@pytest.mark.parametrize("cases", ["runtime_cases.py", "image_cases.py"])
@pytest.mark.parametrize("user", ["root", "ordinary"])
def test_in_a_room(user, cases):
    reason = room.unavailable(user)
    if reason:
        pytest.skip(reason)
    done = room.run_tests_in_room(user, [f"tests/kernel/{cases}"])
    assert done.returncode == 0, done.stdout[-20000:] + done.stderr
    assert " passed" in done.stdout
