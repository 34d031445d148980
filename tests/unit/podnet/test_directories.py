"""A cluster's name becomes part of paths that are removed with it: nothing but a name is taken for one."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile

import pytest

from podnet.directories import ClusterNameError, cluster_directories, known_clusters, remove_tree


@pytest.mark.parametrize("name", ["a", "default", "lab-02", "7", "a" * 40])
def test_names(name):
    assert cluster_directories(name).state.name == name


@pytest.mark.parametrize(
    "name", ["", ".", "..", "../x", "/", "/etc", "a/b", "A", "a_b", "-a", "a-", "a" * 41, "a\n", "a\0", "ä", " a"]
)
def test_what_is_no_name_never_becomes_a_path(name):
    with pytest.raises(ClusterNameError, match="is no cluster name"):
        cluster_directories(name)


def test_foreign_directories_are_nobodys_clusters(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "none"))
    for name in ("mine", "Not Mine", ".cache"):
        (tmp_path / "podnet" / name).mkdir(parents=True)
    assert [found.name for found in known_clusters()] == ["mine"]


def test_a_tree_with_closed_directories_is_removed_by_an_ordinary_user_too(tmp_path):
    kept = tmp_path / "kept"
    kept.mkdir(mode=0o500)
    script = f"""
import os, sys, pathlib
from podnet.directories import remove_tree
root = pathlib.Path(sys.argv[1]) / "state"
(root / "fs" / "work" / "work" / "deep").mkdir(parents=True)
(root / "link").symlink_to({str(kept)!r})
(root / "fs" / "work" / "work" / "deep").chmod(0)
(root / "fs" / "work" / "work").chmod(0)
remove_tree(root)
print(root.exists())
"""
    with tempfile.TemporaryDirectory(dir="/tmp") as directory:  # not tmp_path, whose parents are this user's alone
        os.chmod(directory, 0o777)
        drop = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"] if os.geteuid() == 0 else []
        done = subprocess.run(
            [*drop, sys.executable, "-c", script, directory],
            cwd=os.getcwd(),
            env={**os.environ, "PYTHONPATH": os.getcwd(), "PYTHONSAFEPATH": "1", "PYTHONDONTWRITEBYTECODE": "1"},
            capture_output=True,
            text=True,
            check=False,
        )
    assert (done.stdout, done.stderr) == ("False\n", "")
    assert kept.stat().st_mode & 0o777 == 0o500, "a link is removed, not followed"


def test_removing_what_is_not_there_is_no_error(tmp_path):
    remove_tree(tmp_path / "none")
    assert not (tmp_path / "none").exists()
