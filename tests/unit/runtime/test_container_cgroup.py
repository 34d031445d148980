"""A container's limits: what is written where, and who is told of a kill."""

from __future__ import annotations

import pytest

from podnet.controlplane.kubelet.runtime import cgroup
from podnet.topology.cgroups import CgroupDirectory

BOTH = CgroupDirectory("/g", 2, ("memory", "cpu"))
OLD = (CgroupDirectory("/m", 1, ("memory",)), CgroupDirectory("/c", 1, ("cpu",)))


def written(plan):
    return {path: value for path, value, _ in plan["writes"]}


def test_version_2():
    plan = cgroup.plan_cgroup([BOTH], "n_1", memory_bytes=1 << 20, cpu_m=250)
    assert plan["directories"] == ["/g/n_1"]
    assert plan["oom"] == "/g/n_1/memory.events"
    assert written(plan)["/g/n_1/memory.max"] == "1048576"
    assert written(plan)["/g/n_1/cpu.max"] == "25000 100000"


def test_version_1():
    plan = cgroup.plan_cgroup(OLD, "n_1", memory_bytes=1 << 20, cpu_m=1500)
    assert plan["directories"] == ["/m/n_1", "/c/n_1"]
    assert plan["oom"] == "/m/n_1/memory.oom_control"
    assert written(plan)["/m/n_1/memory.limit_in_bytes"] == "1048576"
    assert written(plan)["/c/n_1/cpu.cfs_quota_us"] == "150000"


@pytest.mark.parametrize(("directories", "memory", "cpu"), [([BOTH], 0, 0), ([], 1, 1), (OLD[:1], 0, 100)])
def test_nothing_to_limit_or_nowhere_to(directories, memory, cpu):
    assert cgroup.plan_cgroup(directories, "n_1", memory_bytes=memory, cpu_m=cpu) == {}


def test_a_tiny_share_is_the_smallest_that_the_kernel_takes():
    assert written(cgroup.plan_cgroup([BOTH], "x", memory_bytes=0, cpu_m=1))["/g/x/cpu.max"] == "1000 100000"


def test_an_optional_file_may_be_missing_and_another_not(tmp_path):
    group = tmp_path / "n_1"
    group.mkdir()
    (group / "memory.max").touch()
    plan = {
        "directories": [str(group)],
        "writes": [(f"{group}/memory.max", "5", False), (f"{group}/memory.swap.max", "0", True)],
    }
    assert cgroup.make(plan) == ""
    assert (group / "memory.max").read_text() == "5"
    plan["writes"].append((f"{group}/cpu.max", "1 2", False))
    assert "cpu.max" in cgroup.make(plan)


def test_a_kill_is_read_from_either_version(tmp_path):
    file = tmp_path / "memory.events"
    for text, killed in (("low 0\noom_kill 0\n", False), ("oom_kill_disable 0\nunder_oom 0\noom_kill 2\n", True)):
        file.write_text(text)
        assert cgroup.oom_killed({"oom": str(file)}) is killed
    assert cgroup.oom_killed({}) is False
