"""A node that is cut off, a daemon that is killed, a pod's process that is shot: the cluster notices and mends."""

from __future__ import annotations

import json

import pytest


@pytest.fixture(scope="module")
def lab(boot_cluster):
    """A cluster of its own: its nodes come to harm."""
    cluster = boot_cluster()
    yield cluster
    cluster.down()


def pods(cluster, selector):
    return cluster.kubectl_json("get", "pods", "-l", selector)["items"]


def sandbox_record(cluster, node, pod):
    """What the runtime wrote down about a pod: the pids of its processes as the room sees them."""
    records = [json.loads(p.read_text()) for p in (cluster.state / "nodes" / node / "sandboxes").glob("*/sandbox.json")]
    return next(r for r in records if r["pod_name"] == pod)


def node_ready(cluster, name):
    conditions = cluster.kubectl_json("get", "node", name)["status"]["conditions"]
    return next(c for c in conditions if c["type"] == "Ready")["status"]


def test_a_node_that_is_cut_off_is_noticed_its_pods_replaced_and_its_return_cleans_up(lab):
    lab.kubectl("create", "deployment", "web", "--image=nginx", "--replicas=4")
    lab.kubectl("rollout", "status", "deploy/web", "--timeout=60s")
    lab.podnet("link", "down", "worker-2", "s1", "-c", lab.name)
    lab.wait(lambda: node_ready(lab, "worker-2") == "Unknown", "the node's Ready becomes Unknown", 60)
    taints = lab.kubectl_json("get", "node", "worker-2")["spec"]["taints"]
    assert {"node.kubernetes.io/unreachable"} == {t["key"] for t in taints}
    lab.wait(
        lambda: (
            sum(
                p["spec"].get("nodeName") == "worker-1"
                and p["status"]["phase"] == "Running"
                and "deletionTimestamp" not in p["metadata"]
                for p in pods(lab, "app=web")
            )
            == 4
        ),
        "all four run on the node that is left",
        90,
    )
    lab.podnet("link", "up", "worker-2", "s1", "-c", lab.name)
    lab.wait(lambda: node_ready(lab, "worker-2") == "True", "the node is Ready again", 60)
    lab.wait(lambda: len(pods(lab, "app=web")) == 4, "the replaced pods are gone", 60)
    lab.wait(
        lambda: "veth" not in lab.exec("node/worker-2", "ip", "-br", "link").stdout,
        "and so are their interfaces",
        60,
    )
    lab.kubectl("delete", "deploy", "web")


def test_a_containers_process_that_is_shot_is_restarted(lab):
    lab.kubectl("run", "victim", "--image=nginx")
    lab.kubectl("wait", "--for=condition=Ready", "pod/victim", "--timeout=60s")
    address = lab.kubectl_json("get", "pod", "victim")["status"]["podIP"]
    node = lab.kubectl_json("get", "pod", "victim")["spec"]["nodeName"]
    record = sandbox_record(lab, node, "victim")
    lab.exec(f"node/{node}", "kill", "-9", str(record["containers"][0]["pid"]))
    lab.wait(
        lambda: (
            (s := lab.kubectl_json("get", "pod", "victim")["status"]["containerStatuses"][0])["restartCount"] >= 1
            and s["ready"]
        ),
        "the container is restarted",
        60,
    )
    after = lab.kubectl_json("get", "pod", "victim")["status"]
    assert after["podIP"] == address
    assert after["containerStatuses"][0]["lastState"]["terminated"]["exitCode"] == 137
    lab.kubectl("delete", "pod", "victim", "--now")


def test_a_pods_shim_that_is_shot_gives_a_new_sandbox(lab):
    lab.kubectl("run", "shimless", "--image=nginx")
    lab.kubectl("wait", "--for=condition=Ready", "pod/shimless", "--timeout=60s")
    node = lab.kubectl_json("get", "pod", "shimless")["spec"]["nodeName"]
    started = lab.kubectl_json("get", "pod", "shimless")["status"]["containerStatuses"][0]["containerID"]
    lab.exec(f"node/{node}", "kill", "-9", str(sandbox_record(lab, node, "shimless")["pause_pid"]))
    lab.wait(
        lambda: (
            (s := lab.kubectl_json("get", "pod", "shimless")["status"]["containerStatuses"][0])["ready"]
            and s["containerID"] != started
        ),
        "the pod runs again in a new sandbox",
        60,
    )
    lab.kubectl("delete", "pod", "shimless", "--now")


def test_a_full_restart_of_the_control_plane_keeps_every_object(lab):
    lab.kubectl("create", "configmap", "precious", "--from-literal=k=v")
    for name in ("kube-apiserver", "kube-controller-manager", "kube-scheduler"):
        pid = lab.component(f"{name}/control-plane")["pid"]
        lab.exec("switch/s1", "kill", "-9", str(pid))
    lab.wait(
        lambda: (
            (r := lab.kubectl("get", "configmap", "precious", "-o", "json", check=False)).returncode == 0
            and json.loads(r.stdout)["data"] == {"k": "v"}
        ),
        "the object is there",
    )


def test_shaped_and_lossy_links(lab):
    rate = json.loads(
        lab.podnet("link", "set", "worker-1", "s1", "--rate", "50Mbit", "-c", lab.name, "-o", "json").stdout
    )
    assert rate[0]["rate_bit_s"] == 50_000_000
    result = lab.exec("node/worker-1", "tc", "qdisc", "show", "dev", "eth0").stdout
    assert "tbf" in result
    lab.podnet("link", "set", "worker-1", "s1", "--rate", "0", "-c", lab.name)
    assert "tbf" not in lab.exec("node/worker-1", "tc", "qdisc", "show", "dev", "eth0").stdout


def test_an_openflow_underlay_carries_a_cluster(boot_cluster, tmp_path):
    file = tmp_path / "cluster.yaml"
    file.write_text(
        "apiVersion: podnet.dev/v1alpha1\nkind: Cluster\nspec:\n"
        "  nodes: [{name: control-plane, role: control-plane}, {name: blue}, {name: green}]\n"
        "  switches: [{name: s1, kind: openflow}]\n"
    )
    cluster = boot_cluster("-f", str(file))
    cluster.kubectl("create", "deployment", "web", "--image=nginx", "--replicas=2")
    cluster.kubectl("rollout", "status", "deploy/web", "--timeout=60s")
    for pod in pods(cluster, "app=web"):
        for node in ("blue", "green"):
            page = cluster.exec(
                f"node/{node}", "curl", "-sS", "--max-time", "5", f"http://{pod['status']['podIP']}/"
            ).stdout
            assert "nginx" in page
    flows = json.loads(cluster.podnet("flows", "-c", cluster.name, "-o", "json").stdout)
    assert any(f["packets"] > 0 and "output" in f["actions"] for f in flows)
    cluster.down()
