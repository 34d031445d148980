"""Runs the runtime's cases (runtime_cases.py, runtime_life_cases.py) and the images' (image_cases.py) in rooms of their
own: as root, and as an ordinary user in a user namespace with one uid."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
import runtime_room


@pytest.mark.kernel
@pytest.mark.parametrize("cases", ["runtime_cases.py", "runtime_life_cases.py", "image_cases.py"])
@pytest.mark.parametrize("user", ["root", "ordinary"])
def test_in_a_room(user, cases):
    reason = runtime_room.unavailable(user)
    if reason:
        pytest.skip(reason)
    done = runtime_room.run_tests_in_room(user, [f"tests/kernel/{cases}"])
    assert done.returncode == 0, done.stdout[-20000:] + done.stderr
    assert " passed" in done.stdout
