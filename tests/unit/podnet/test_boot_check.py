"""A kernel that lacks something is refused at once, by name."""

from __future__ import annotations

import errno

import pytest

from podnet.cluster import BootError, check_kernel
from podnet.launch import ClusterError, check_programs
from podnet.topology.kernel import AddVxlan, KernelError


class KernelWithout:
    def __init__(self, refused: type) -> None:
        self.refused = refused
        self.applied: list[object] = []

    def apply(self, _netns, ops):
        for op in ops:
            if isinstance(op, self.refused):
                raise KernelError("Operation not supported", errno.EOPNOTSUPP, op)
            self.applied.append(op)


def test_a_kernel_without_vxlan_is_refused_by_name():
    with pytest.raises(BootError, match="this kernel has no vxlan"):
        check_kernel(KernelWithout(AddVxlan), "vxlan")


def test_host_gw_needs_no_vxlan():
    kernel = KernelWithout(AddVxlan)
    check_kernel(kernel, "host-gw")
    assert len(kernel.applied) == 2


def test_a_missing_program_is_named_with_its_package(monkeypatch):
    monkeypatch.setattr("shutil.which", lambda name, path=None: None if name == "mnexec" else f"/usr/bin/{name}")
    with pytest.raises(ClusterError, match="mnexec") as refused:
        check_programs()
    assert refused.value.fix == "sudo apt install mininet"
