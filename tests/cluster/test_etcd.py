"""etcd as the store: three members over the underlay that lose their leader, their majority and their memory."""

from __future__ import annotations

import json
import shutil

import pytest

YAML = """
apiVersion: podnet.dev/v1alpha1
kind: Cluster
spec:
  store: {driver: etcd}
  nodes:
  - {name: cp-1, role: control-plane}
  - {name: cp-2, role: control-plane}
  - {name: cp-3, role: control-plane}
  - {name: worker-1}
"""
IP = {"cp-1": "192.168.100.10", "cp-2": "192.168.100.11", "cp-3": "192.168.100.12"}


@pytest.fixture(scope="module")
def spec_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("etcd") / "cluster.yaml"
    path.write_text(YAML)
    return path


@pytest.fixture(scope="module")
def lab(boot_cluster, spec_file):
    for program, package in (("etcd", "etcd-server"), ("etcdctl", "etcd-client")):
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed: apt install {package}")
    cluster = boot_cluster("-f", str(spec_file))
    yield cluster
    cluster.down()


def etcdctl(lab, *words, node="cp-1", check=True):
    return lab.podnet("etcd", "ctl", "-c", lab.name, "--node", node, "--", *words, check=check)


def members(lab, asked=("cp-1", "cp-2", "cp-3"), node="cp-1"):
    """Name → status of the members that answer `node`."""
    endpoints = ",".join(f"https://{IP[name]}:2379" for name in asked)
    request = ["env", f"ETCDCTL_ENDPOINTS={endpoints}", *etcdctl_command(lab)]
    said = lab.exec(f"node/{node}", *request, "endpoint", "status", "-w", "json", check=False).stdout
    names = {ip: name for name, ip in IP.items()}
    return {names[m["Endpoint"].split("/")[2].split(":")[0]]: m["Status"] for m in json.loads(said or "[]")}


def etcdctl_command(lab):
    pki = lab.state / "pki" / "etcd"
    files = [f"--cacert={pki / 'ca.crt'}", f"--cert={pki / 'client.crt'}", f"--key={pki / 'client.key'}"]
    return ["ETCDCTL_API=3", "etcdctl", "--command-timeout=1s", *files]


def leader(lab, asked=("cp-1", "cp-2", "cp-3"), node="cp-1"):
    found = members(lab, asked, node)
    return next((n for n, s in found.items() if s["leader"] == s["header"]["member_id"]), None)


def spread(lab):
    """How far the last member is behind the first; they are asked one after the other, and the cluster writes meanwhile."""
    indexes = [status["raftIndex"] for status in members(lab).values()]
    return max(indexes) - min(indexes)


def make_leader(lab, name):
    lab.wait(lambda: leader(lab), "there is a leader")
    if leader(lab) != name:
        member_id = members(lab)[name]["header"]["member_id"]
        current = IP[leader(lab)]
        command = ["env", f"ETCDCTL_ENDPOINTS=https://{current}:2379", *etcdctl_command(lab)]
        lab.exec("node/cp-1", *command, "move-leader", f"{member_id:x}")
    lab.wait(lambda: leader(lab) == name, f"{name} leads")


def write(lab, name, check=True):
    return lab.kubectl("create", "configmap", name, "--from-literal=a=b", "--request-timeout=30s", check=check)


def names(lab):
    return {item["metadata"]["name"] for item in lab.kubectl_json("get", "configmaps")["items"]}


def test_the_objects_are_in_etcd_on_every_member(lab):
    """Under the registry's prefix, seen by the real etcdctl on each member, and not by one without a certificate."""
    write(lab, "seen")
    for node, ip in IP.items():
        found = etcdctl(lab, "get", "--keys-only", "/registry/core/configmaps/default/seen", node=node).stdout
        assert found.strip() == "/registry/core/configmaps/default/seen"
        refused = lab.exec("node/worker-1", "curl", "-sk", f"https://{ip}:2379/health", check=False)
        assert refused.returncode != 0, "etcd lets nobody in without a certificate"
    assert {f"etcd/{name}" for name in IP} <= {component["name"] for component in lab.status()["components"]}


def test_a_leader_that_is_cut_off_is_replaced_and_no_write_is_lost(lab):
    make_leader(lab, "cp-2")
    lab.podnet("link", "down", "cp-2", "s1", "-c", lab.name)
    try:
        written = [f"during-{number}" for number in range(5)]
        for name in written:
            write(lab, name)
        assert leader(lab, ("cp-1", "cp-3")) in ("cp-1", "cp-3")
        alone = lab.exec("node/cp-2", "env", "ETCDCTL_ENDPOINTS=https://127.0.0.1:2379", *etcdctl_command(lab),
                         "get", "/registry/", "--prefix", "--limit=1", check=False)  # fmt: skip
        assert alone.returncode != 0, "the member that is alone answers nobody"
    finally:
        lab.podnet("link", "up", "cp-2", "s1", "-c", lab.name)
    lab.wait(lambda: len(members(lab)) == 3, "it is back")
    lab.wait(lambda: spread(lab) <= 25, "it has caught up")
    assert set(written) <= names(lab)


def test_without_a_majority_nothing_is_written_and_afterwards_it_goes_on(lab):
    for name in ("cp-2", "cp-3"):
        lab.podnet("link", "down", name, "s1", "-c", lab.name)
    try:
        refused = write(lab, "minority", check=False)
        assert refused.returncode != 0
        assert "etcd is not available" in refused.stderr
    finally:
        for name in ("cp-2", "cp-3"):
            lab.podnet("link", "up", name, "s1", "-c", lab.name)
    lab.wait(lambda: write(lab, "majority", check=False).returncode == 0, "writes go on", 60)
    assert "majority" in names(lab)
    lab.kubectl("run", "after", "--image=nginx")
    lab.kubectl("wait", "--for=condition=Ready", "pod/after", "--timeout=60s")


def test_a_member_that_is_killed_is_started_again_with_its_data(lab):
    before = lab.component("etcd/cp-3")
    lab.exec("node/cp-3", "kill", "-9", str(before["pid"]))
    write(lab, "while-down")
    lab.wait(lambda: lab.component("etcd/cp-3")["restarts"] == before["restarts"] + 1, "the supervisor starts it again")
    lab.wait(lambda: len(members(lab)) == 3, "it is back")
    lab.wait(lambda: spread(lab) <= 25, "it has caught up")


def test_a_snapshot_brings_back_what_was_deleted(lab, spec_file, tmp_path):
    write(lab, "precious")
    snapshot = lab.home / "snapshot.db"
    lab.podnet("etcd", "snapshot", str(snapshot), "-c", lab.name)
    lab.kubectl("delete", "configmap", "precious")
    write(lab, "later")
    running = lab.podnet("etcd", "restore", str(snapshot), "-c", lab.name, check=False)
    assert (running.returncode, "is running" in running.stderr) == (1, True)
    lab.podnet("down", "-c", lab.name)
    bad = tmp_path / "bad.db"
    bad.write_bytes(b"x" * 1000)
    refused = lab.podnet("etcd", "restore", str(bad), "-c", lab.name, check=False)
    assert (refused.returncode, "was not restored" in refused.stderr) == (1, True)
    lab.podnet("etcd", "restore", str(snapshot), "-c", lab.name)
    lab.up("-f", str(spec_file))
    assert "precious" in names(lab)
    assert "later" not in names(lab)


def test_etcd_verbs_of_a_cluster_without_etcd_say_so(cluster):
    said = cluster.podnet("etcd", "ctl", "-c", cluster.name, "member", "list", check=False)
    assert (said.returncode, "is not etcd" in said.stderr) == (1, True)
    absent = cluster.podnet("etcd", "snapshot", "/tmp/x", "-c", "no-such-cluster", check=False)
    assert (absent.returncode, "no cluster no-such-cluster" in absent.stderr) == (1, True)
