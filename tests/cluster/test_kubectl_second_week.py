"""The real kubectl against a booted cluster: what people type in their second week, and when things go wrong."""

from __future__ import annotations

import json
import re
import subprocess

import pytest

POD = """
apiVersion: v1
kind: Pod
metadata: {name: box, labels: {app: box}}
spec:
  terminationGracePeriodSeconds: 30
  containers:
    - {name: main, image: busybox, command: [sh, -c, "trap '' TERM; echo ready; while read line; do echo got $line; done; sleep infinity"], stdin: true}
"""
DEPLOYMENT = """
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, labels: {app: web}}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec: {terminationGracePeriodSeconds: 0, containers: [{name: c, image: pause}]}
"""


@pytest.fixture(scope="module")
def kubectl(cluster):
    """kubectl in the namespace of this module."""
    cluster.kubectl("create", "namespace", "second-week")
    yield lambda *words, **how: cluster.kubectl("-n", "second-week", *words, **how)
    cluster.kubectl("delete", "namespace", "second-week", "--wait=false", check=False)


@pytest.fixture(scope="module")
def box(kubectl):
    """A running pod that reads lines and does not end when it is asked to."""
    kubectl("apply", "-f", "-", input=POD)
    kubectl("wait", "--for=condition=Ready", "pod/box", "--timeout=60s")
    return "box"


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("/", '"/metrics"'),
        ("/healthz", "ok"),
        ("/readyz?verbose", "[+]etcd ok"),
        ("/version", '"gitVersion":"v1.32.'),
        ("/apis/apps/v1", '"deployments/scale"'),
        ("/openapi/v3", "serverRelativeURL"),
        ("/metrics", 'apiserver_request_total{verb="WATCH"'),
        ("/metrics", 'etcd_request_duration_seconds_count{operation="update",type="leases.coordination.k8s.io"}'),
        ("/metrics", "process_resident_memory_bytes"),
        ("/api/v1/nodes/worker-1/proxy/metrics", 'kubelet_node_name{node="worker-1"} 1'),
        ("/api/v1/nodes/worker-1/proxy/healthz", "ok"),
    ],
)
def test_raw_paths(cluster, path, words):
    assert words in cluster.kubectl("get", "--raw", path).stdout


@pytest.mark.parametrize("path", ["/nothing", "/api/v1/foos", "/apis/apps/v2", "/metrics/nothing"])
def test_raw_paths_that_are_not_there(cluster, path):
    result = cluster.kubectl("get", "--raw", path, check=False)
    assert result.stderr == "Error from server (NotFound): the server could not find the requested resource\n"


def test_top_without_a_metrics_server(cluster):
    for what in ("nodes", "pods"):
        result = cluster.kubectl("top", what, check=False)
        assert (result.returncode, result.stderr) == (1, "error: Metrics API not available\n")


def test_who_am_i_and_what_may_i(cluster):
    assert "kubernetes-admin" in cluster.kubectl("auth", "whoami").stdout
    assert cluster.kubectl("auth", "can-i", "delete", "nodes").stdout == "yes\n"
    anonymous = cluster.kubectl("auth", "can-i", "get", "pods", "--as=system:anonymous", check=False)
    assert (anonymous.returncode, anonymous.stdout.split()[0]) == (1, "no")


def test_copy_there_and_back(kubectl, box, tmp_path):
    (tmp_path / "dir").mkdir(mode=0o755)
    (tmp_path / "dir" / "file").write_text("hello\n")
    tmp_path.chmod(0o755)
    # The owner may be a user whom an ordinary user's containers do not know.
    kubectl("cp", "--no-preserve", str(tmp_path / "dir"), f"{box}:/tmp/there")
    assert kubectl("exec", box, "--", "cat", "/tmp/there/file").stdout == "hello\n"
    kubectl("exec", box, "--", "sh", "-c", "echo back > /tmp/there/other")
    assert kubectl("exec", box, "--", "tar", "cf", "-", "-C", "/tmp/there", "other").stdout
    kubectl("cp", f"{box}:/no/such", str(tmp_path / "none"), check=False)  # whether it says so is kubectl's own race
    assert not (tmp_path / "none").exists()


def test_attach_hears_and_is_heard(cluster, kubectl, box):
    process = subprocess.Popen(
        ["kubectl", "-n", "second-week", "attach", "-i", box],
        env=cluster.env,
        text=True,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    try:
        process.stdin.write("one\n")
        process.stdin.flush()
        assert process.stdout.readline() == "got one\n"
    finally:
        process.terminate()
        process.communicate(timeout=10)


def test_run_once_and_take_away(kubectl):
    result = kubectl("run", "once", "--image=busybox", "--rm", "-i", "--restart=Never", "--", "cat", input="through\n")
    assert "through" in result.stdout
    assert 'pod "once" deleted' in result.stdout
    failed = kubectl(
        "run", "fails", "--image=busybox", "--rm", "-i", "--restart=Never", "--", "sh", "-c", "exit 7", check=False
    )
    assert failed.returncode == 7
    assert kubectl("get", "pods", "once", "fails", "--ignore-not-found", "-o", "name").stdout == ""


def test_debug_adds_a_container(cluster, kubectl, box):
    kubectl("debug", box, "--image=busybox", "-c", "look", "--target=main", "--", "sleep", "infinity")

    def runs():
        statuses = json.loads(kubectl("get", "pod", box, "-o", "json").stdout)["status"]
        return any("running" in s["state"] for s in statuses.get("ephemeralContainerStatuses", []))

    cluster.wait(runs, "the ephemeral container runs", 60)
    assert kubectl("exec", box, "-c", "look", "--", "hostname").stdout == "box\n"


def test_debug_a_node(cluster, kubectl):
    said = kubectl("debug", "node/worker-1", "--image=busybox", "--", "hostname").stdout
    name = re.search(r"Creating debugging pod (\S+) ", said)[1]
    kubectl("wait", "--for=jsonpath={.status.phase}=Succeeded", f"pod/{name}", "--timeout=60s")
    assert kubectl("logs", name).stdout == "worker-1\n"


def test_replace_by_force(kubectl):
    kubectl("apply", "-f", "-", input=DEPLOYMENT)
    before = kubectl("get", "deploy", "web", "-o", "jsonpath={.metadata.uid}").stdout
    said = kubectl("replace", "--force", "-f", "-", input=DEPLOYMENT).stdout
    assert said == 'deployment.apps "web" deleted\ndeployment.apps/web replaced\n'
    assert kubectl("get", "deploy", "web", "-o", "jsonpath={.metadata.uid}").stdout != before


def test_an_edit_that_breaks_the_object_is_asked_again(cluster, kubectl, tmp_path):
    """The second time the editor leaves the file as it is: kubectl gives up and keeps the text."""
    kubectl("apply", "-f", "-", input=DEPLOYMENT)
    editor, done = tmp_path / "editor", tmp_path / "done"
    editor.write_text(f'#!/bin/sh\n[ -e {done} ] || sed -i "s/replicas: 2/replicas: many/" "$1"; cat "$1" >> {done}\n')
    editor.chmod(0o755)
    tmp_path.chmod(0o777)
    words = ["env", f"KUBE_EDITOR={editor}", "kubectl", "-n", "second-week", "edit", "deploy/web"]
    result = cluster._run(words)
    assert result.returncode == 1
    assert 'error: deployments.apps "web" is invalid' in result.stderr
    assert "Edit cancelled, no valid changes were saved." in result.stderr
    assert '# deployments.apps "web" was not valid:' in done.read_text()
    assert kubectl("get", "deploy", "web", "-o", "jsonpath={.spec.replicas}").stdout == "2"


def test_orphans_stay_and_the_foreground_waits(cluster, kubectl):
    kubectl("apply", "-f", "-", input=DEPLOYMENT)
    kubectl("rollout", "status", "deploy/web", "--timeout=60s")
    kubectl("delete", "deploy", "web", "--cascade=orphan")
    (orphan,) = kubectl("get", "rs", "-l", "app=web", "-o", "name").stdout.split()
    assert kubectl("get", orphan, "-o", "jsonpath={.metadata.ownerReferences}").stdout == ""
    assert len(kubectl("get", "pods", "-l", "app=web", "-o", "name").stdout.split()) == 2
    kubectl("delete", orphan, "--cascade=foreground", "--wait", "--timeout=60s")
    assert kubectl("get", "rs,pods", "-l", "app=web", "-o", "name").stdout == ""


def test_force_does_not_wait_for_anybody(kubectl):
    """Its process ignores SIGTERM and has 30 seconds."""
    box = "stubborn"
    kubectl("apply", "-f", "-", input=POD.replace("name: box", f"name: {box}"))
    kubectl("wait", "--for=condition=Ready", f"pod/{box}", "--timeout=60s")
    result = kubectl("delete", "pod", box, "--grace-period=0", "--force", timeout=20)
    assert "Warning: Immediate deletion does not wait for confirmation" in result.stderr
    assert f'pod "{box}" force deleted' in result.stdout
    assert kubectl("get", "pod", box, check=False).returncode == 1


def test_the_whole_cluster_in_one_dump(cluster):
    out = cluster.kubectl("cluster-info", "dump", "--namespaces=kube-system").stdout
    assert '"kind": "NodeList"' in out
    assert "==== START logs for container coredns of pod kube-system/" in out
