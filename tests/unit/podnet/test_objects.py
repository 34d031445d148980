"""The small client's manifests, and the pure parts of boot, directories and bench."""

from __future__ import annotations

import os

import pytest

from podnet import objects
from podnet.bench.rows import GROUPS, Row, median, run_groups
from podnet.boot import last_log_line, not_ready_reasons, ready_nodes
from podnet.directories import RoomRecord, cluster_directories, known_clusters
from podnet.launch import ClusterError
from podnet.room import process_start_time

POD = "apiVersion: v1\nkind: Pod\nmetadata: {name: a}\n"


def test_manifests_of_several_documents_get_a_namespace():
    text = POD + "---\n---\napiVersion: v1\nkind: Namespace\nmetadata: {name: n}\n"
    pod, namespace = objects.parse_manifests(text, "f.yaml", "shop")
    assert (pod.name, pod.object["metadata"]["namespace"]) == ("pod/a", "shop")
    assert (namespace.name, "namespace" in namespace.object["metadata"]) == ("namespace/n", False)


def test_lists_are_unfolded():
    text = "apiVersion: v1\nkind: List\nitems:\n- {apiVersion: apps/v1, kind: Deployment, metadata: {name: d, namespace: x}}\n"
    (manifest,) = objects.parse_manifests(text, "f.yaml", "shop")
    assert (manifest.name, manifest.object["metadata"]["namespace"]) == ("deployment.apps/d", "x")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no objects"),
        ("a: [", "not YAML"),
        ("- 1\n", "apiVersion and kind must be set"),
        ("apiVersion: v1\nmetadata: {name: a}\n", "apiVersion and kind must be set"),
        ("apiVersion: v1\nkind: Pud\nmetadata: {name: a}\n", 'no matches for kind "Pud" in version "v1"'),
        ("apiVersion: v1\nkind: Pod\n", "metadata.name must be set"),
        ("apiVersion: v1\nkind: Pod\nmetadata: 7\n", "metadata.name must be set"),
    ],
    ids=["empty", "yaml", "list", "no kind", "unknown kind", "no name", "metadata"],
)
def test_bad_manifests_name_file_and_reason(text, message):
    with pytest.raises(ClusterError, match=r"f\.yaml") as refused:
        objects.parse_manifests(text, "f.yaml", "default")
    assert message in str(refused.value)


def test_a_directory_is_read_in_order_of_name(tmp_path):
    (tmp_path / "20.yaml").write_text(POD.replace("name: a", "name: b"))
    (tmp_path / "10.yml").write_text(POD)
    (tmp_path / "notes.txt").write_text("not a manifest")
    assert [m.name for m in objects.read_manifests(tmp_path, "default")] == ["pod/a", "pod/b"]


@pytest.mark.parametrize(
    ("word", "plural"),
    [
        ("pods", "pods"),
        ("po", "pods"),
        ("Pod", "pods"),
        ("deploy", "deployments"),
        ("deployments.apps", "deployments"),
        ("ns", "namespaces"),
    ],
)
def test_resources_by_any_name(word, plural):
    assert objects.find_resource(word).plural == plural


def test_an_unknown_resource_is_refused_as_kubectl_does():
    with pytest.raises(ClusterError, match='resource type "nonsense"'):
        objects.find_resource("nonsense")


@pytest.mark.parametrize(
    ("obj", "ready"),
    [
        ({"kind": "Pod", "status": {"conditions": [{"type": "Ready", "status": "True"}]}}, True),
        ({"kind": "Pod", "status": {"conditions": [{"type": "Ready", "status": "False"}]}}, False),
        ({"kind": "Pod", "status": {}}, False),
        (
            {
                "kind": "Deployment",
                "metadata": {"generation": 2},
                "spec": {"replicas": 2},
                "status": {"observedGeneration": 2, "updatedReplicas": 2, "availableReplicas": 2},
            },
            True,
        ),
        (
            {
                "kind": "Deployment",
                "metadata": {"generation": 2},
                "spec": {"replicas": 2},
                "status": {"observedGeneration": 1, "updatedReplicas": 2, "availableReplicas": 2},
            },
            False,
        ),
        (
            {
                "kind": "Deployment",
                "metadata": {"generation": 1},
                "spec": {"replicas": 2},
                "status": {"observedGeneration": 1, "updatedReplicas": 2, "availableReplicas": 1},
            },
            False,
        ),
    ],
    ids=["ready", "not ready", "new", "rolled out", "stale", "partly"],
)
def test_readiness(obj, ready):
    assert objects.is_ready(obj) is ready


def node(name, status, message=""):
    return {
        "metadata": {"name": name},
        "status": {"conditions": [{"type": "Ready", "status": status, "message": message}]},
    }


def test_what_boot_waits_for_is_said_by_name():
    nodes = [node("a", "True"), node("b", "False", "no network")]
    assert ready_nodes(nodes) == {"a"}
    assert not_ready_reasons(nodes, ("a", "b", "c")) == "b: no network; c: has not registered"


def test_the_last_words_of_a_component(tmp_path):
    log = tmp_path / "log"
    log.write_text("first\nlast words\n\n")
    assert last_log_line(log) == "last words"
    assert last_log_line(tmp_path / "none") == ""


def test_records_tell_running_from_gone(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "s"))
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    directories = cluster_directories("x")
    assert directories.record() is None
    directories.runtime.mkdir(parents=True)
    directories.write_record(RoomRecord(os.getpid(), process_start_time(os.getpid()), 7))
    assert directories.record().running
    directories.write_record(RoomRecord(os.getpid(), 1, 7))
    assert not directories.record().running
    directories.record_file.write_text("garbage")
    assert directories.record() is None
    assert [d.name for d in known_clusters()] == ["x"]


def test_a_cluster_name_is_held_by_one(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    directories = cluster_directories("x")
    held = directories.try_lock()
    assert held is not None
    assert directories.try_lock() is None
    os.close(held)
    again = directories.try_lock()
    assert again is not None
    os.close(again)


@pytest.mark.parametrize(
    ("row", "within", "ratio"),
    [
        (Row("g", "n", 3.0, "s", 5.0, True, "r", 6.0), True, 0.5),
        (Row("g", "n", 7.0, "s", 5.0), False, None),
        (Row("g", "n", 0.98, "", 0.97, False), True, None),
        (Row("g", "n", 0.9, "", 0.97, False), False, None),
        (Row("g", "n", 1.0, ""), None, None),
        (Row("g", "n", None, "", 5.0, error="broken"), None, None),
    ],
    ids=["good", "over", "at least", "under", "no budget", "error"],
)
def test_bench_rows(row, within, ratio):
    assert row.within_budget is within
    assert row.ratio == ratio
    assert row.to_dict()["withinBudget"] is within


def test_a_group_that_fails_gives_a_row_with_the_reason(monkeypatch):
    def broken(_settings):
        raise RuntimeError("no iperf3")

    monkeypatch.setitem(GROUPS, "broken", broken)
    monkeypatch.setitem(GROUPS, "good", lambda _settings: [Row("good", "n", 1.0, "")])
    broken_row, good_row = run_groups(["broken", "good"])
    assert broken_row.error == "RuntimeError: no iperf3"
    assert good_row.value == 1.0


@pytest.mark.parametrize(("values", "middle"), [([3.0, 1.0, 2.0], 2.0), ([4.0, 1.0], 1.0), ([5.0], 5.0)])
def test_median(values, middle):
    assert median(values) == middle
