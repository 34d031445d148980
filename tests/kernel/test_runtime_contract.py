"""The runtime with namespaces keeps the contract of `RuntimeService`, as root and as an ordinary user."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
import runtime_room


@pytest.mark.kernel
@pytest.mark.parametrize("user", ["root", "ordinary"])
def test_cri_contract(user):
    reason = runtime_room.unavailable(user)
    if reason:
        pytest.skip(reason)
    done = runtime_room.run_tests_in_room(user, ["tests/contract/test_cri.py"], "-k", "namespaces")
    assert done.returncode == 0, done.stdout + done.stderr
    assert " passed" in done.stdout
    assert "skipped" not in done.stdout
