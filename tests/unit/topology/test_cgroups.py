"""Where control groups are, in version 1 and 2, and what is made of them; on directories that play the kernel's."""

from __future__ import annotations

import os

import pytest

from podnet.topology import cgroups
from podnet.topology.cgroups import CgroupDirectory, Hierarchy, group_name, parse_hierarchies

V2 = "30 23 0:26 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate\n"
V1 = (
    "31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw\n"
    "32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n"
    "35 31 0:32 /docker/1 /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n"
    "40 31 0:37 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,name=systemd\n"
    "41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n"
    "42 31 0:39 / /elsewhere rw - cgroup2 cgroup2 rw\n"
)


def test_version_2_is_one_tree():
    own = "0::/user.slice/user-1000.slice/session-1.scope\n"
    assert parse_hierarchies(V2, own) == [
        Hierarchy("/sys/fs/cgroup", 2, (), "/user.slice/user-1000.slice/session-1.scope")
    ]


def test_version_1_is_a_tree_for_each_controller():
    own = "9:name=systemd:/\n4:memory:/docker/1/inner\n2:cpu,cpuacct:/\n0::/\n"
    assert parse_hierarchies(V1, own) == [
        Hierarchy("/sys/fs/cgroup/cpu,cpuacct", 1, ("cpu",), "/"),
        Hierarchy("/sys/fs/cgroup/memory", 1, ("memory",), "/inner"),
        Hierarchy("/sys/fs/cgroup/unified", 2, (), "/"),
    ]


def test_clusters_of_one_name_have_groups_of_their_own():
    assert group_name("lab", "/home/a") != group_name("lab", "/home/b")
    assert group_name("lab", "/home/a").startswith("podnet-lab-")


@pytest.fixture
def tree(tmp_path, monkeypatch):
    """A version 2 root whose new groups have the kernel's files."""

    def group(path):
        (path / "cgroup.controllers").write_text("cpu io memory\n")
        (path / "cgroup.subtree_control").write_text("")

    group(tmp_path)
    make = os.makedirs

    def makedirs(path, **more):
        make(path, **more)
        group(tmp_path.__class__(path))

    def write(path, value):  # the kernel keeps a set of names, not what was written
        with open(path, "w", encoding="ascii") as file:
            file.write(value.replace("+", ""))

    monkeypatch.setattr(cgroups.os, "makedirs", makedirs)
    monkeypatch.setattr(cgroups.os, "geteuid", lambda: 0)
    monkeypatch.setattr(cgroups, "write", write)
    return tmp_path


def test_version_2_hands_its_controllers_on(tree):
    made = cgroups._make_v2(Hierarchy(str(tree), 2, (), "/some/scope"), "podnet-x")
    assert made == [CgroupDirectory(str(tree / "podnet-x"), 2, ("memory", "cpu"))]
    assert set((tree / "cgroup.subtree_control").read_text().split()) == {"memory", "cpu"}


def test_a_refusal_leaves_nothing(tree, monkeypatch):
    def refuse(path, _value):
        raise PermissionError(13, "Permission denied", path)

    monkeypatch.setattr(cgroups, "write", refuse)
    with pytest.raises(PermissionError):
        cgroups._make_v2(Hierarchy(str(tree), 2, (), "/"), "podnet-x")
    assert not (tree / "podnet-x").exists()


def test_a_record_removes_only_groups_of_podnet(tmp_path):
    foreign = tmp_path / "podnet-not-a-cgroup"
    foreign.mkdir()
    record = tmp_path / "cgroups.json"
    cgroups.write_record(record, [CgroupDirectory(str(foreign), 2, ("cpu",))])
    cgroups.remove_recorded(record)
    assert foreign.exists(), "it is not under /sys/fs/cgroup"
    assert not record.exists()
    cgroups.remove_recorded(record)
