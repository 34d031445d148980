"""A cluster's name becomes part of paths that are removed with it: nothing but a name is taken for one."""

from __future__ import annotations

import pytest

from podnet.directories import ClusterNameError, cluster_directories, known_clusters


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
