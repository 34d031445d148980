"""The command line on real clusters: boot, refuse, break, clean; as we are and as an ordinary user."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from podnet.room import process_start_time

ORDINARY_UID = 65534


def host_state() -> dict[str, object]:
    """What a cluster must not change on the host: interfaces, mounts, namespaces of processes that are left."""
    mounts = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    return {"interfaces": sorted(os.listdir("/sys/class/net")), "mounts": sorted(mounts)}


def pids_of_namespace(inode: int) -> list[str]:
    found = []
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                if os.stat(f"/proc/{entry}/ns/pid").st_ino == inode:
                    found.append(entry)
            except OSError:
                continue
    return found


@pytest.fixture(params=[None, ORDINARY_UID], ids=["as we are", "ordinary user"])
def small(request, boot_cluster):
    """A cluster of one worker, for tests that break it."""
    if request.param is not None and os.geteuid() != 0:
        pytest.skip("this is an ordinary user already: the other parameter is this case")
    cluster = boot_cluster("--nodes", "1", uid=request.param)
    yield cluster
    cluster.down()


def test_up_tells_its_phases_and_where_the_kubeconfig_is(cluster):
    phases = [phase["phase"] for phase in cluster.boot["phases"]]
    assert phases == ["room", "underlay", "certificates", "control plane", "nodes", "dns"]
    assert Path(cluster.boot["kubeconfig"]) == cluster.kubeconfig
    assert cluster.boot["apiServer"].startswith("https://127.0.0.1:")


def test_ls_and_status(cluster):
    rows = json.loads(cluster.podnet("ls", "-o", "json").stdout)
    row = next(r for r in rows if r["name"] == cluster.name)
    assert row["state"] == "running"
    status = cluster.status()
    names = {c["name"] for c in status["components"]}
    assert names == {
        "kube-apiserver/control-plane",
        "kube-controller-manager/control-plane",
        "kube-scheduler/control-plane",
        "podnet-node/control-plane",
        "podnet-node/worker-1",
        "podnet-node/worker-2",
    }
    assert all(c["state"] == "running" for c in status["components"])
    text = cluster.podnet("status", "-c", cluster.name).stdout
    assert "kube-apiserver/control-plane" in text
    assert "\x1b[" not in text


def test_a_second_up_of_the_same_name_is_refused(cluster):
    result = cluster.podnet("up", "-c", cluster.name, check=False)
    assert result.returncode == 1
    assert result.stderr.startswith(f"podnet: cluster '{cluster.name}' is running already")
    assert "fix:" in result.stderr
    assert cluster.status()["components"]


def test_a_taken_port_is_refused(cluster):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        result = cluster.podnet("up", "-c", "other", "--api-port", str(port), check=False)
    assert result.returncode == 1
    assert f"port {port} on 127.0.0.1 is taken" in result.stderr
    assert "other" not in [r["name"] for r in json.loads(cluster.podnet("ls", "-o", "json").stdout)]


def test_several_clusters_at_once_do_not_meet(cluster, boot_cluster):
    other = boot_cluster("--nodes", "0")
    other.kubectl("create", "configmap", "only-here")
    assert cluster.kubectl("get", "configmap", "only-here", check=False).returncode == 1
    assert cluster.status()["apiPort"] != other.status()["apiPort"]
    other.down()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("apiVersion: podnet.dev/v1alpha1\nkind: Cluster\nspec:\n  nodez: []\n", ":4: spec.nodez: unknown field"),
        ("apiVersion: podnet.dev/v1alpha1\nkind: Cluster\nspec:\n  podCIDR: 7\n", "spec.podCIDR"),
        ("apiVersion: v1\nkind: Pod\n", "apiVersion"),
        ("{", "YAML"),
        ("", "empty"),
    ],
    ids=["unknown field", "wrong type", "wrong kind", "no yaml", "empty"],
)
def test_a_bad_cluster_yaml_names_path_and_line(cluster, tmp_path, text, expected):
    file = tmp_path / "cluster.yaml"
    file.write_text(text)
    result = cluster.podnet("up", "-f", str(file), "-c", "bad", check=False)
    assert result.returncode == 1
    assert expected in result.stderr
    assert "Traceback" not in result.stderr
    assert not (cluster.home / "state" / "podnet" / "bad").exists()


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["exec", "pod/none", "--", "true"], 1),
        (["exec", "svc/x", "--", "true"], 2),
        (["exec", "node/none", "--", "true"], 1),
        (["capture", "node/worker-1:none", "-w", "/dev/null"], 1),
        (["capture", "node/worker-1", "-w", "/dev/null", "-f", "gibberish filter"], 1),
        (["capture", "node/worker-1", "-w", "/dev/full"], 1),
        (["conntrack", "pod/x"], 1),
        (["up", "--nodes", "-1"], 2),
        (["up", "-c", "Bad_Name"], 1),
        (["nonsense"], 2),
        (["status", "-c", "not-running"], 1),
        (["down", "-c", "not-running"], 1),
        (["link", "down", "worker-1"], 2),
        (["link", "down", "worker-1", "nowhere"], 1),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_wrong_use_is_one_clear_line(cluster, words, code):
    if words[0] in ("exec", "capture", "link", "conntrack"):
        words = [words[0], "-c", cluster.name, *words[1:]]
    result = cluster.podnet(*words, check=False)
    assert result.returncode == code, result.stderr
    assert result.stderr.strip()
    assert "Traceback" not in result.stderr


def test_exec_passes_streams_and_exit_codes(cluster):
    assert cluster.exec_cli("node/worker-1", "hostname").stdout == "worker-1\n"
    assert cluster.exec_cli("host/client", "hostname").stdout == "client\n"
    assert cluster.exec_cli("node/worker-1", "sh", "-c", "exit 9", check=False).returncode == 9
    assert cluster.exec_cli("node/worker-1", "cat", input="in and out").stdout == "in and out"
    assert cluster.exec_cli("node/worker-1", "no-such-program", check=False).returncode == 127
    assert cluster.exec_cli("node/worker-1", "sh", "-c", "kill -9 $$", check=False).returncode == 137


@pytest.mark.parametrize("name", ["worker-1", "node/worker-1", "client", "host/client"])
def test_what_a_node_or_host_tracks_by_any_of_its_names(cluster, name):
    flows = json.loads(cluster.podnet("conntrack", "-c", cluster.name, name, "-o", "json").stdout)
    assert isinstance(flows, list)
    assert name.endswith("client") or any(flow["destination_port"] == 6443 for flow in flows)


def test_ping_and_curl_by_name(cluster, namespace):
    cluster.kubectl("-n", namespace, "run", "srv", "--image=nginx")
    cluster.kubectl("-n", namespace, "wait", "--for=condition=Ready", "pod/srv", "--timeout=60s")
    ping = cluster.podnet("ping", "-c", cluster.name, "node/worker-1", f"pod/{namespace}/srv")
    assert " 0% packet loss" in ping.stdout
    assert (
        "Welcome to nginx"
        in cluster.podnet("curl", "-c", cluster.name, "node/worker-2", f"http://pod/{namespace}/srv:80/").stdout
    )


def test_podnet_kubectl_and_kubeconfig(cluster):
    env = {**cluster.env, "PODNET_CLUSTER": cluster.name}
    env.pop("KUBECONFIG")
    result = cluster.podnet("kubectl", "-c", cluster.name, "get", "nodes", "-o", "name")
    assert "node/worker-1" in result.stdout
    assert cluster.podnet("kubeconfig", "-c", cluster.name).stdout.strip() == str(cluster.kubeconfig)


def test_the_small_client(cluster, namespace, tmp_path):
    manifest = tmp_path / "pod.yaml"
    manifest.write_text(
        "apiVersion: v1\nkind: Pod\nmetadata: {name: hi}\nspec:\n  restartPolicy: Never\n"
        "  containers: [{name: main, image: busybox, command: [echo, hello]}]\n"
    )
    common = ("-c", cluster.name, "-n", namespace)
    assert cluster.podnet("apply", *common, "-f", str(manifest)).stdout == "pod/hi created\n"
    assert cluster.podnet("apply", *common, "-f", str(manifest)).stdout == "pod/hi unchanged\n"
    cluster.wait(lambda: cluster.podnet("logs", *common, "hi", check=False).stdout == "hello\n", "the log arrives")
    assert "hi" in cluster.podnet("get", *common, "pods").stdout
    assert cluster.podnet("delete", *common, "pod", "hi").stdout == 'pod "hi" deleted\n'


def test_killing_the_supervisor_leaves_nothing(small):
    record = json.loads((small.home / "run" / "podnet" / small.name / "room.json").read_text())
    small.kubectl("run", "x", "--image=nginx")
    small.kubectl("wait", "--for=condition=Ready", "pod/x", "--timeout=60s")
    inode = os.stat(f"/proc/{record['pid']}/ns/pid").st_ino
    before = host_state()
    assert len(pids_of_namespace(inode)) > 8
    os.kill(record["pid"], signal.SIGKILL)
    small.wait(lambda: process_start_time(record["pid"]) == 0, "the room is gone")
    small.wait(lambda: not pids_of_namespace(inode), "no process is left")
    assert host_state() == before
    assert small.podnet("status", "-c", small.name, check=False).returncode == 1
    assert small.name in small.podnet("clean").stdout
    assert small.podnet("clean").stdout == "nothing to clean\n"


def test_down_is_quick_and_up_again_finds_the_objects(small):
    small.kubectl("create", "deployment", "keep", "--image=nginx")
    small.kubectl("rollout", "status", "deploy/keep", "--timeout=60s")
    out = small.podnet("down", "-c", small.name).stdout
    assert float(out.rpartition("(")[2].split()[0]) < 3.0
    small.up("--nodes", "1")
    small.kubectl("rollout", "status", "deploy/keep", "--timeout=60s")
    small.wait(
        lambda: (
            [p["status"]["phase"] for p in small.kubectl_json("get", "pods", "-l", "app=keep")["items"]] == ["Running"]
        ),
        "its pod runs again",
    )
    small.podnet("down", "-c", small.name, "--purge")
    assert not (small.home / "state" / "podnet" / small.name).exists(), "purged is purged, whoever it was"


def test_nothing_of_the_host_changes(boot_cluster):
    before = host_state()
    cluster = boot_cluster("--nodes", "0")
    assert host_state() == before
    cluster.down()
    assert host_state() == before


def traces(cluster, name: str) -> list[Path]:
    """What is there of a cluster in the two directories."""
    return [
        path for path in (cluster.home / "state/podnet" / name, cluster.home / "run/podnet" / name) if path.exists()
    ]


def test_an_up_that_is_killed_leaves_nothing(cluster):
    words = [sys.executable, "-m", "podnet", "up", "-c", "killed", "--nodes", "0"]
    env = {**cluster.env, "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(words, env=env, stdout=subprocess.PIPE, text=True) as up:
        assert up.stdout.readline().startswith("Booting cluster killed")
        assert len(traces(cluster, "killed")) == 2
        up.kill()
    cluster.wait(lambda: not traces(cluster, "killed"), "its room has ended and tidied up", 60)
    assert not list(Path("/sys/fs/cgroup").glob("*/podnet-killed-*"))
    assert "killed" not in cluster.podnet("ls").stdout


def test_a_first_up_that_fails_leaves_its_logs_and_says_where(cluster, tmp_path):
    file = tmp_path / "cluster.yaml"
    file.write_text("apiVersion: podnet.dev/v1alpha1\nkind: Cluster\nspec:\n  store: {driver: etcd}\n")
    programs = tmp_path / "bin"
    programs.mkdir()
    for name in ("mnexec", "ip", "nft", "grep"):  # everything but etcd (grep: Mininet counts cores with it)
        (programs / name).symlink_to(shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin:/sbin"))
    words = [sys.executable, "-m", "podnet", "up", "-c", "failed", "-f", str(file)]
    env = {**cluster.env, "PATH": str(programs)}
    up = subprocess.run(words, env=env, capture_output=True, text=True, timeout=120, check=False)
    assert up.returncode == 1
    assert up.stderr.startswith("podnet: the cluster did not come up: etcd is not installed")
    logs = cluster.home / "state/podnet/failed/logs"
    assert f"logs are in {logs}" in up.stderr
    assert traces(cluster, "failed") == [logs.parent]
    assert [entry.name for entry in logs.parent.iterdir()] == ["logs"]
    rows = json.loads(cluster.podnet("ls", "-o", "json").stdout)
    assert [row["state"] for row in rows if row["name"] == "failed"] == ["failed"]
    assert cluster.podnet("down", "--purge", "-c", "failed").stdout == "cluster failed is forgotten\n"
    assert not traces(cluster, "failed")


def test_a_reader_that_leaves_and_a_runtime_directory_that_is_swept_away(cluster):
    shell = f"{sys.executable} -m podnet up -c swept --nodes 1 | head -1"
    up = subprocess.run(["sh", "-c", shell], env=cluster.env, capture_output=True, text=True, timeout=120, check=False)
    assert (up.stdout, up.stderr) == ("Booting cluster swept: 2 nodes on 1 switch(es)\n", "")
    try:
        crashed = cluster.podnet("node", "crash", "-c", "swept", "worker-1").stdout
        assert "podnet node restart -c swept worker-1" in crashed
        refused = cluster.podnet("exec", "-c", "swept", "node/worker-1", "--", "true", check=False)
        assert refused.stderr == "podnet: node/worker-1 is switched off (podnet node restart -c swept worker-1)\n"
        shutil.rmtree(cluster.home / "run/podnet/swept")
        again = cluster.podnet("up", "-c", "swept", check=False)
        assert again.stderr.startswith("podnet: cluster 'swept' is running already (pid ")
        assert "podnet down -c swept" in cluster.podnet("status", "-c", "swept", check=False).stderr
    finally:
        down = cluster.podnet("down", "--purge", "-c", "swept", check=False)
    assert down.stdout.startswith("cluster swept is down")
    assert not traces(cluster, "swept")


def test_a_zygote_that_is_killed_is_no_zombie(cluster):
    count = "cat /proc/[0-9]*/stat 2>/dev/null | grep -c '(podnet-zygote) {}'"
    cluster.exec_cli("node/worker-1", "pkill", "-9", "-x", "podnet-zygote")
    for state in "SZ":
        cluster.wait(
            lambda state=state: (
                cluster.exec_cli("node/worker-1", "sh", "-c", count.format(state), check=False).stdout == "0\n"
            ),
            f"none in state {state}",
        )
    cluster.kubectl("run", "after-zygote", "--image=busybox", "--restart=Never", "--", "true")
    cluster.kubectl("wait", "--for=jsonpath={.status.phase}=Succeeded", "pod/after-zygote", "--timeout=60s")
    cluster.kubectl("delete", "pod", "after-zygote", "--now")
