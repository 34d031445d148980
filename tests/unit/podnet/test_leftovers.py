"""What a start that fails leaves behind, and how a running cluster is found when its files were taken away."""

from __future__ import annotations

import os

import pytest

from podnet import launch
from podnet.directories import RoomRecord, cluster_directories, remove_tree_but
from podnet.room import process_start_time
from podnet.topology.spec import default_cluster_spec


@pytest.fixture
def directories(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "s"))
    (tmp_path / "r").mkdir()
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "r"))
    return cluster_directories("x")


def own_record() -> RoomRecord:
    return RoomRecord(os.getpid(), process_start_time(os.getpid()), 6443)


def make_runtime(directories):
    directories.runtime.mkdir(parents=True)
    directories.state.mkdir(parents=True, exist_ok=True)


@pytest.mark.parametrize(
    ("entries", "is_new"),
    [
        ([], True),
        (["lock"], True),
        (["lock", "logs", "cgroups.json", "room.json"], True),
        (["lock", "cluster.yaml"], False),
        (["store"], False),
    ],
    ids=["empty", "lock", "a boot that failed", "a cluster", "only its store"],
)
def test_a_cluster_is_new_until_there_is_something_to_lose(directories, entries, is_new):
    assert directories.is_new
    directories.state.mkdir(parents=True)
    for name in entries:
        (directories.state / name).mkdir()
    assert directories.is_new is is_new


@pytest.mark.parametrize("lost", ["runtime", "state"])
def test_a_running_cluster_is_found_without_one_of_its_directories(directories, lost):
    make_runtime(directories)
    directories.write_record(own_record())
    remove_tree_but(getattr(directories, lost), "")
    record = directories.record()
    assert record == own_record()
    assert record.running
    with pytest.raises(launch.ClusterError, match=rf"is running already \(pid {os.getpid()}\)") as refused:
        launch.up(default_cluster_spec("x"), lambda _event: None)
    assert "podnet down -c x" in refused.value.fix


def test_a_stale_record_does_not_hide_a_running_one(directories):
    make_runtime(directories)
    directories.write_record(own_record())
    directories.record_file.write_text('{"pid": 1, "start_time": 1, "api_port": 1}')
    assert directories.record() == own_record()


@pytest.mark.parametrize("text", ["", "[]", "null", '{"pid": "x"}', '{"pid": 1}', '{"pid": null, "start_time": 1}'])
def test_a_record_that_is_garbage_is_none(directories, text):
    make_runtime(directories)
    directories.record_file.write_text(text)
    assert directories.record() is None


def test_a_lock_whose_file_was_removed_holds_no_name(directories):
    first = directories.try_lock()
    assert directories.try_lock() is None
    directories.remove_state()
    second = directories.try_lock()  # the name is free again, and is locked by the new file
    assert second is not None
    assert os.path.samestat(os.fstat(second), (directories.state / "lock").stat())
    assert directories.try_lock() is None
    os.close(first)
    os.close(second)


def test_only_the_logs_of_a_failure_stay(directories):
    logs = directories.state / "logs"
    logs.mkdir(parents=True)
    (logs / "supervisor.log").write_text("why")
    (directories.state / "pki").mkdir()
    (directories.state / "lock").write_text("")
    (directories.state / "link").symlink_to(logs)
    directories.remove_state_but_logs()
    assert [entry.name for entry in directories.state.iterdir()] == ["logs"]
    assert (logs / "supervisor.log").read_text() == "why"


def test_without_logs_nothing_stays(directories):
    (directories.state / "pki").mkdir(parents=True)
    directories.remove_state_but_logs()
    assert not directories.state.exists()


@pytest.mark.parametrize(
    ("kept", "stays"),
    [((), False), (("lock",), False), (("logs",), True), (("cluster.yaml", "store"), True)],
    ids=["nothing", "lock", "why a boot failed", "a cluster"],
)
def test_clean_forgets_what_nothing_is_kept_of(directories, kept, stays):
    make_runtime(directories)
    for name in kept:
        (directories.state / name).touch()
    assert launch.clean() == ["x"]
    assert not directories.runtime.exists()
    assert directories.state.exists() is stays
    assert all((directories.state / name).exists() for name in kept if stays)
    assert launch.clean() == []


def test_clean_leaves_alone_what_boots(directories):
    make_runtime(directories)
    held = directories.try_lock()
    assert launch.clean() == []
    assert directories.runtime.exists()
    os.close(held)


def test_not_running_names_the_clusters_that_run(directories):
    make_runtime(directories)
    directories.write_record(own_record())
    error = launch.not_running(cluster_directories("other"))
    assert str(error) == "cluster 'other' is not running"
    assert error.fix == "podnet up -c other; or choose one that runs: -c x"
    assert "does not listen" in str(launch.not_running(directories))
