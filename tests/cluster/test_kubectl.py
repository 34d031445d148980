"""The real kubectl against a booted cluster: what people type in their first week behaves as they know it."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time

import pytest
import yaml

DEPLOYMENT = """
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, labels: {app: web}}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      terminationGracePeriodSeconds: 0
      containers:
        - {name: nginx, image: "nginx:1.25", ports: [{containerPort: 80}]}
"""
POD = """
apiVersion: v1
kind: Pod
metadata: {name: box, labels: {app: box}}
spec:
  terminationGracePeriodSeconds: 0
  containers:
    - name: main
      image: busybox
      command: [sh, -c, "for i in 1 2 3; do echo line $i; done; echo oops >&2; exec sleep infinity"]
"""


@pytest.fixture
def kubectl(cluster, namespace):
    def run(*words, **kwargs):
        return cluster.kubectl("-n", namespace, *words, **kwargs)

    return run


@pytest.fixture
def box(kubectl):
    """A running pod `box`."""
    kubectl("apply", "-f", "-", input=POD)
    kubectl("wait", "--for=condition=Ready", "pod/box", "--timeout=60s")
    return "box"


@pytest.fixture
def web(kubectl):
    """A rolled out Deployment `web` of two."""
    kubectl("apply", "-f", "-", input=DEPLOYMENT)
    kubectl("rollout", "status", "deploy/web", "--timeout=60s")
    return "web"


def test_version(cluster):
    version = json.loads(cluster.kubectl("version", "-o", "json").stdout)
    assert version["serverVersion"]["gitVersion"].startswith("v1.32.")


def test_cluster_info(cluster):
    assert "Kubernetes control plane" in cluster.kubectl("cluster-info").stdout
    assert "is running at" in cluster.kubectl("cluster-info").stdout


def test_api_resources_lists_all(cluster):
    lines = cluster.kubectl("api-resources", "--no-headers").stdout.splitlines()
    kinds = {line.split()[-1] for line in lines}
    assert {"Pod", "Deployment", "NetworkPolicy", "StorageClass", "HorizontalPodAutoscaler", "Lease"} <= kinds
    assert len(lines) >= 55


def test_api_versions(cluster):
    versions = cluster.kubectl("api-versions").stdout.split()
    assert {"v1", "apps/v1", "batch/v1", "networking.k8s.io/v1", "rbac.authorization.k8s.io/v1"} <= set(versions)


def test_nodes_are_ready_with_details(cluster):
    lines = cluster.kubectl("get", "nodes", "-o", "wide", "--no-headers").stdout.splitlines()
    by_name = {line.split()[0]: line for line in lines}
    assert set(by_name) == {"control-plane", "worker-1", "worker-2"}
    assert all(line.split()[1] == "Ready" for line in lines)
    assert "control-plane" in by_name["control-plane"].split()[2]
    assert re.search(r"192\.168\.100\.\d+", by_name["worker-1"])
    assert "podnet://" in by_name["worker-1"]


@pytest.mark.parametrize(
    "form",
    [
        "json",
        "yaml",
        "name",
        "wide",
        "jsonpath={.metadata.name}",
        "go-template={{.metadata.name}}",
        "custom-columns=N:.metadata.name",
    ],
)
def test_get_in_every_output_form(kubectl, box, form):
    out = kubectl("get", "pod", box, "-o", form).stdout
    assert "box" in out
    if form == "yaml":
        assert yaml.safe_load(out)["kind"] == "Pod"
    if form == "wide":
        assert re.search(r"10\.244\.\d+\.\d+", out)


def test_get_with_selectors_and_across_namespaces(cluster, kubectl, namespace, box):
    assert kubectl("get", "pods", "-l", "app=box", "-o", "name").stdout == "pod/box\n"
    assert kubectl("get", "pods", "-l", "app in (x,y)", "-o", "name").stdout == ""
    assert kubectl("get", "pods", "--field-selector", "status.phase=Running", "-o", "name").stdout == "pod/box\n"
    assert kubectl("get", "pods", "--field-selector", "metadata.name!=box", "-o", "name").stdout == ""
    everywhere = cluster.kubectl("get", "pods", "-A", "--no-headers").stdout
    assert re.search(rf"^{namespace}\s+box\s+1/1\s+Running", everywhere, re.MULTILINE)


def test_get_shows_labels_and_sorts(kubectl, web):
    assert "app=web" in kubectl("get", "pods", "--show-labels").stdout
    names = kubectl("get", "pods", "--sort-by=.metadata.name", "-o", "name").stdout.split()
    assert names == sorted(names)
    assert len(names) == 2


def test_get_watch_sees_changes(cluster, kubectl, namespace):
    watch = subprocess.Popen(
        ["kubectl", "-n", namespace, "get", "configmaps", "-w", "-o", "name"],
        stdout=subprocess.PIPE,
        text=True,
        env=cluster.env,
    )
    try:
        assert watch.stdout.readline().startswith("configmap/kube-root-ca.crt")
        kubectl("create", "configmap", "seen")
        assert watch.stdout.readline() == "configmap/seen\n"
    finally:
        watch.terminate()
        watch.communicate(timeout=10)


def test_get_what_is_not_there(kubectl):
    result = kubectl("get", "pod", "nope", check=False)
    assert result.returncode == 1
    assert result.stderr == 'Error from server (NotFound): pods "nope" not found\n'


def test_describe_pod(kubectl, box):
    out = kubectl("describe", "pod", box).stdout
    for text in (
        "Status:           Running",
        "Container ID:  podnet://",
        "Started",
        "Scheduled",
        "Successfully assigned",
        "QoS Class:",
        "node.kubernetes.io/not-ready:NoExecute",
    ):
        assert text in out


def test_describe_deployment_and_node(cluster, kubectl, web):
    out = kubectl("describe", "deployment", web).stdout
    assert "2 desired | 2 updated | 2 total | 2 available | 0 unavailable" in out
    assert "ScalingReplicaSet" in out
    node = cluster.kubectl("describe", "node", "worker-1").stdout
    for text in ("KubeletReady", "PodCIDR:", "Allocated resources", "Lease:", "HolderIdentity:"):
        assert text in node


def test_create_deployment_and_scale(kubectl):
    kubectl("create", "deployment", "made", "--image=nginx", "--replicas=1")
    kubectl("rollout", "status", "deploy/made", "--timeout=60s")
    kubectl("scale", "deploy/made", "--replicas=3")
    kubectl("rollout", "status", "deploy/made", "--timeout=60s")
    assert len(kubectl("get", "pods", "-l", "app=made", "-o", "name").stdout.split()) == 3


def test_create_refuses_what_exists(kubectl):
    kubectl("create", "configmap", "one", "--from-literal=a=b")
    result = kubectl("create", "configmap", "one", check=False)
    assert result.stderr == 'error: failed to create configmap: configmaps "one" already exists\n'


def test_create_from_file_and_with_protobuf_bodies(kubectl):
    assert kubectl("create", "-f", "-", input=DEPLOYMENT).stdout == "deployment.apps/web created\n"
    kubectl("create", "secret", "generic", "s", "--from-literal=k=v")
    kubectl("create", "serviceaccount", "sa")
    kubectl("create", "quota", "q", "--hard=pods=10")
    assert kubectl("get", "secret", "s", "-o", "jsonpath={.data.k}").stdout == "dg=="


def test_apply_three_times(kubectl):
    assert kubectl("apply", "-f", "-", input=DEPLOYMENT).stdout == "deployment.apps/web created\n"
    assert kubectl("apply", "-f", "-", input=DEPLOYMENT).stdout == "deployment.apps/web unchanged\n"
    changed = DEPLOYMENT.replace("replicas: 2", "replicas: 3")
    assert kubectl("apply", "-f", "-", input=changed).stdout == "deployment.apps/web configured\n"
    assert kubectl("get", "deploy", "web", "-o", "jsonpath={.spec.replicas}").stdout == "3"


def test_diff(kubectl):
    kubectl("apply", "-f", "-", input=DEPLOYMENT)
    assert kubectl("diff", "-f", "-", input=DEPLOYMENT, check=False).returncode == 0
    result = kubectl("diff", "-f", "-", input=DEPLOYMENT.replace("nginx:1.25", "nginx:1.26"), check=False)
    assert result.returncode == 1
    assert re.search(r"^\+\s+-? ?image: nginx:1.26$", result.stdout, re.MULTILINE)
    assert kubectl("get", "deploy", "web", "-o", "jsonpath={..image}").stdout == "nginx:1.25"


def test_rollout_history_undo_restart(cluster, kubectl, web):
    kubectl("set", "image", "deploy/web", "nginx=nginx:1.26")
    kubectl("rollout", "status", "deploy/web", "--timeout=60s")
    history = kubectl("rollout", "history", "deploy/web").stdout
    assert re.findall(r"^(\d+)\s", history, re.MULTILINE) == ["1", "2"]
    kubectl("rollout", "undo", "deploy/web")
    kubectl("rollout", "status", "deploy/web", "--timeout=60s")
    assert kubectl("get", "deploy", "web", "-o", "jsonpath={..image}").stdout == "nginx:1.25"
    assert re.findall(r"^(\d+)\s", kubectl("rollout", "history", "deploy/web").stdout, re.MULTILINE) == ["2", "3"]
    before = set(kubectl("get", "pods", "-l", "app=web", "-o", "jsonpath={.items[*].metadata.uid}").stdout.split())
    kubectl("rollout", "restart", "deploy/web")
    kubectl("rollout", "status", "deploy/web", "--timeout=60s")
    cluster.wait(
        lambda: (
            not before
            & set(kubectl("get", "pods", "-l", "app=web", "-o", "jsonpath={.items[*].metadata.uid}").stdout.split())
        ),
        "every pod of before the restart is gone",
    )
    image = kubectl("rollout", "history", "deploy/web", "--revision=2").stdout
    assert "nginx:1.26" in image


def test_label_annotate_patch(kubectl, box):
    kubectl("label", "pod", box, "tier=front")
    assert kubectl("get", "pods", "-l", "tier=front", "-o", "name").stdout == "pod/box\n"
    kubectl("label", "pod", box, "tier-")
    assert kubectl("get", "pods", "-l", "tier", "-o", "name").stdout == ""
    kubectl("annotate", "pod", box, "note=hello")
    assert kubectl("get", "pod", box, "-o", "jsonpath={.metadata.annotations.note}").stdout == "hello"
    for kind, patch in (
        ("strategic", '{"metadata":{"labels":{"p":"s"}}}'),
        ("merge", '{"metadata":{"labels":{"p":"m"}}}'),
        ("json", '[{"op":"replace","path":"/metadata/labels/p","value":"j"}]'),
    ):
        kubectl("patch", "pod", box, f"--type={kind}", "-p", patch)
        assert kubectl("get", "pod", box, "-o", "jsonpath={.metadata.labels.p}").stdout == kind[0]


def test_edit(cluster, kubectl, web, namespace, tmp_path):
    editor = tmp_path / "editor"
    editor.write_text('#!/bin/sh\nsed -i "s/replicas: 2/replicas: 1/" "$1"\n')
    editor.chmod(0o755)
    result = cluster._run(
        ["env", f"EDITOR={editor}", f"KUBE_EDITOR={editor}", "kubectl", "-n", namespace, "edit", "deploy/web"]
    )
    assert result.returncode == 0, result.stderr
    assert "edited" in result.stdout
    assert kubectl("get", "deploy", "web", "-o", "jsonpath={.spec.replicas}").stdout == "1"


def test_wait_and_delete(kubectl, box):
    kubectl("wait", "--for=jsonpath={.status.phase}=Running", "pod/box", "--timeout=10s")
    kubectl("delete", "pod", box)
    kubectl("wait", "--for=delete", "pod/box", "--timeout=20s")
    assert kubectl("get", "pods", "-o", "name").stdout == ""


def test_delete_cascades_to_what_is_owned(cluster, kubectl, web):
    kubectl("delete", "deploy", web)
    cluster.wait(
        lambda: kubectl("get", "rs,pods", "-o", "name").stdout == "", "the garbage collector deletes what web owned"
    )


def test_logs(cluster, kubectl, namespace, box):
    cluster.wait(lambda: "oops" in kubectl("logs", box).stdout, "all lines are in the log")
    assert kubectl("logs", box).stdout.splitlines()[:3] == ["line 1", "line 2", "line 3"]
    assert kubectl("logs", box, "--tail=1").stdout in ("oops\n", "line 3\n")
    assert re.match(r"\d{4}-\d\d-\d\dT[\d:.]+Z line 1", kubectl("logs", box, "--timestamps").stdout)
    following = subprocess.Popen(
        ["kubectl", "-n", namespace, "logs", "-f", box], stdout=subprocess.PIPE, text=True, env=cluster.env
    )
    try:
        assert following.stdout.readline() == "line 1\n"
    finally:
        following.terminate()
        following.communicate(timeout=10)


def test_logs_follow_ends_with_the_container(kubectl):
    kubectl(
        "run",
        "count",
        "--image=busybox",
        "--restart=Never",
        "--",
        "sh",
        "-c",
        "for i in 1 2 3; do echo $i; sleep 0.2; done",
    )
    kubectl("wait", "--for=jsonpath={.status.phase}", "pod/count", "--timeout=30s", check=False)
    kubectl("wait", "--for=jsonpath={.status.startTime}", "pod/count", "--timeout=30s")
    out = ""
    for _ in range(50):
        result = kubectl("logs", "-f", "count", check=False)
        out = result.stdout
        if result.returncode == 0:
            break
        time.sleep(0.1)
    assert out == "1\n2\n3\n"


def test_exec(kubectl, box):
    assert kubectl("exec", box, "--", "hostname").stdout == "box\n"
    result = kubectl("exec", box, "--", "sh", "-c", "echo out; echo err >&2; exit 7", check=False)
    assert (result.stdout, result.returncode) == ("out\n", 7)
    assert "err\n" in result.stderr
    assert "command terminated with exit code 7" in result.stderr
    assert kubectl("exec", "-i", box, "--", "cat", input="hello\n").stdout == "hello\n"
    missing = kubectl("exec", box, "--", "no-such-program", check=False)
    assert missing.returncode != 0
    assert "no-such-program" in missing.stderr


def test_exec_with_a_terminal(cluster, namespace, box):
    """Through a pty, as a person would: the prompt comes, the shell knows it has a terminal, exit ends it."""
    script = (
        "import os, pty, sys\n"
        "pid, fd = pty.fork()\n"
        f"if pid == 0: os.execvp('kubectl', ['kubectl', '-n', '{namespace}', 'exec', '-it', '{box}', '--', 'sh'])\n"
        "os.write(fd, b'tty && stty size; exit 5\\n')\n"
        "out = b''\n"
        "try:\n"
        "    while True: out += os.read(fd, 4096)\n"
        "except OSError: pass\n"
        "print(out.decode()); sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))\n"
    )
    result = cluster._run([sys.executable, "-c", script], timeout=60)
    assert "/dev/pts/" in result.stdout
    assert result.returncode == 5


@pytest.mark.parametrize("path", ["pods", "pod.spec.containers", "deployment.spec.strategy", "networkpolicies"])
def test_explain(cluster, path):
    out = cluster.kubectl("explain", path).stdout
    assert "DESCRIPTION" in out
    assert "VERSION" in out


def test_events(cluster, kubectl, box):
    cluster.wait(lambda: "Started" in kubectl("events").stdout, "the kubelet's events arrive")
    out = kubectl("events", "--for", "pod/box").stdout
    for reason in ("Scheduled", "Pulled", "Created", "Started"):
        assert reason in out
    assert "pod/box" in kubectl("get", "events").stdout.lower()


@pytest.mark.parametrize(
    ("manifest", "message"),
    [
        (
            "apiVersion: v1\nkind: Pod\nmetadata: {name: x}\nspec: {containers: [{name: a, image: b, imag: c}]}",
            'unknown field "spec.containers[0].imag"',
        ),
        ("apiVersion: v1\nkind: Pod\nmetadata: {name: x}\nspec: {containers: []}", "spec.containers: Required value"),
        (
            "apiVersion: v1\nkind: Pod\nmetadata: {name: X_Y}\nspec: {containers: [{name: a, image: b}]}",
            "metadata.name: Invalid value",
        ),
        ("apiVersion: v1\nkind: Pod\nmetadata: {name: x}\nspec: {containers: a}", "cannot unmarshal"),
        (
            DEPLOYMENT.replace("matchLabels: {app: web}", "matchLabels: {app: other}"),
            "`selector` does not match template `labels`",
        ),
        (DEPLOYMENT.replace("replicas: 2", "replicas: many"), "replicas"),
    ],
    ids=["unknown field", "no containers", "bad name", "wrong type", "selector", "wrong number"],
)
def test_bad_manifests_are_refused_with_the_path(kubectl, manifest, message):
    result = kubectl("apply", "-f", "-", input=manifest, check=False)
    assert result.returncode == 1
    assert message in result.stderr
    assert kubectl("get", "pods,deploy", "-o", "name").stdout == ""


def test_an_unknown_image_says_so(cluster, kubectl):
    kubectl("run", "ghost", "--image=example.com/no/such:1")
    cluster.wait(
        lambda: "ErrImagePull" in (out := kubectl("get", "pod", "ghost").stdout) or "ImagePullBackOff" in out,
        "ErrImagePull is shown",
    )
    assert "no/such" in kubectl("describe", "pod", "ghost").stdout


def test_an_impossible_pod_says_why(cluster, kubectl):
    kubectl("apply", "-f", "-", input=POD.replace("spec:", "spec:\n  nodeSelector: {disk: none}"))
    cluster.wait(lambda: "FailedScheduling" in kubectl("events").stdout, "the scheduler says why")
    out = kubectl("describe", "pod", "box").stdout
    assert "0/3 nodes are available" in out
    assert "didn't match Pod's node affinity/selector" in out


def test_crash_loops_are_shown(cluster, kubectl):
    kubectl("run", "crash", "--image=busybox", "--", "sh", "-c", "exit 3")
    cluster.wait(
        lambda: re.search(r"(Error|CrashLoopBackOff)\s+[1-9]", kubectl("get", "pod", "crash").stdout),
        "restarts are counted",
    )
    status = json.loads(kubectl("get", "pod", "crash", "-o", "json").stdout)["status"]["containerStatuses"][0]
    last = status["lastState"].get("terminated") or status["state"].get("terminated")
    assert last["exitCode"] == 3
    assert last["reason"] == "Error"


def test_service_account_token_in_a_pod_works(cluster, kubectl, box):
    token = kubectl("exec", box, "--", "cat", "/var/run/secrets/kubernetes.io/serviceaccount/token").stdout
    assert token.count(".") == 2
    assert (
        "BEGIN CERTIFICATE"
        in kubectl("exec", box, "--", "cat", "/var/run/secrets/kubernetes.io/serviceaccount/ca.crt").stdout
    )
    who = cluster._run(
        [
            "kubectl",
            "--kubeconfig=/dev/null",
            f"--server=https://127.0.0.1:{cluster.status()['apiPort']}",
            f"--certificate-authority={cluster.state}/pki/ca.crt",
            f"--token={token}",
            "auth",
            "whoami",
            "-o",
            "json",
        ]
    )
    assert "system:serviceaccount:" in who.stdout, who.stderr


def test_strangers_get_401(cluster):
    port = cluster.status()["apiPort"]
    for path, code in (
        ("/api/v1/pods", "401"),
        ("/version", "200"),
        ("/healthz", "200"),
        ("/readyz", "200"),
        ("/livez", "200"),
    ):
        result = cluster._run(
            ["curl", "-sk", "-o", "/dev/null", "-w", "%{http_code}", f"https://127.0.0.1:{port}{path}"]
        )
        assert result.stdout == code, path


def test_the_kubeconfig_is_private(cluster):
    assert cluster.kubeconfig.stat().st_mode & 0o777 == 0o600


def test_namespaces_take_their_contents_with_them(cluster):
    cluster.kubectl("create", "namespace", "doomed")
    cluster.kubectl("-n", "doomed", "create", "configmap", "c")
    cluster.kubectl("-n", "doomed", "create", "deployment", "d", "--image=nginx")
    cluster.kubectl("delete", "namespace", "doomed", "--timeout=60s")
    assert cluster.kubectl("get", "namespace", "doomed", check=False).returncode == 1
