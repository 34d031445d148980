"""A network namespace for one test: the test's thread enters it and comes back."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from podnet.topology.linux import LinuxKernel
from podnet.topology.linux.syscalls import CLONE_NEWNET, setns, unshare


@pytest.fixture
def room() -> Iterator[LinuxKernel]:
    """The kernel, in an empty namespace of the test's own."""
    if os.geteuid() != 0:
        pytest.skip(
            "needs root, or uid 0 in a user namespace; test_ordinary_user.py runs this file as an ordinary user"
        )
    here = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    kernel = LinuxKernel()
    try:
        unshare(CLONE_NEWNET)
        yield kernel
    finally:
        kernel.close()
        setns(here, CLONE_NEWNET)
        os.close(here)
