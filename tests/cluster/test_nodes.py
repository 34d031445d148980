"""Nodes crash, come back, join and leave while the cluster runs; drains keep their budgets. Lab profile: seconds."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

WAIT_S = 90.0


@pytest.fixture(scope="module")
def yard(boot_cluster):
    """A cluster of its own: its nodes do not stay as they were. Twice as quick as the lab profile, which lab 04 shows."""
    timing = {"nodeMonitorGracePeriod": 4, "nodeLeaseDurationSeconds": 4, "defaultTolerationSeconds": 4}
    nodes = [{"name": "control-plane", "role": "control-plane"}, *({"name": f"worker-{n}"} for n in (1, 2, 3))]
    cluster = boot_cluster(spec={"timing": timing, "nodes": nodes})
    yield cluster
    cluster.down()


def node(cluster, *words, check=True):
    result = cluster.podnet("node", *words, "-c", cluster.name, "-o", "json", check=check)
    return json.loads(result.stdout) if result.returncode == 0 else result


def ready(cluster, name):
    found = cluster.kubectl("get", "node", name, "-o", "json", check=False)
    conditions = json.loads(found.stdout)["status"]["conditions"] if found.returncode == 0 else []
    return any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)


def pods_of(cluster, app, namespace="default"):
    return cluster.kubectl_json("-n", namespace, "get", "pods", "-l", f"app={app}")["items"]


def endpoint_nodes(cluster, service):
    """Nodes of the ready endpoints."""
    slices = cluster.kubectl_json("get", "endpointslices", "-l", f"kubernetes.io/service-name={service}")["items"]
    return {
        e["nodeName"] for one in slices for e in one.get("endpoints") or () if e["conditions"].get("ready") is not False
    }


def peers(cluster, name):
    """(pod networks routed, VTEPs known) of a node."""
    routes = cluster.exec(f"node/{name}", "ip", "-j", "route", "show", "dev", "flannel.1").stdout
    entries = cluster.exec(f"node/{name}", "bridge", "-j", "fdb", "show", "dev", "flannel.1").stdout
    return {r["dst"] for r in json.loads(routes)}, {e["dst"] for e in json.loads(entries) if "dst" in e}


def deploy(cluster, app, replicas):
    cluster.kubectl("create", "deployment", app, "--image=nginx", f"--replicas={replicas}")
    cluster.kubectl("expose", "deployment", app, "--port=80")
    cluster.kubectl("rollout", "status", f"deployment/{app}", f"--timeout={WAIT_S:.0f}s")


def members(cluster, name, replicas):
    """A StatefulSet with a member on every node."""
    spread = {"maxSkew": 1, "topologyKey": "kubernetes.io/hostname", "whenUnsatisfiable": "ScheduleAnyway"}
    labels = {"app": name}
    pod = {
        "terminationGracePeriodSeconds": 1,
        "topologySpreadConstraints": [{**spread, "labelSelector": {"matchLabels": labels}}],
        "containers": [{"name": "c", "image": "busybox", "command": ["sleep", "100000"]}],
    }
    template = {"metadata": {"labels": labels}, "spec": pod}
    spec = {"serviceName": name, "replicas": replicas, "selector": {"matchLabels": labels}, "template": template}
    body = {"apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": {"name": name}, "spec": spec}
    cluster.apply(json.dumps({**body, "spec": {**spec, "podManagementPolicy": "Parallel"}}))
    cluster.kubectl("rollout", "status", f"statefulset/{name}", f"--timeout={WAIT_S:.0f}s")


def settled(cluster, app, replicas, not_on=""):
    found = pods_of(cluster, app)
    running = [
        p
        for p in found
        if p["spec"].get("nodeName") != not_on
        and not p["metadata"].get("deletionTimestamp")
        and any(c["type"] == "Ready" and c["status"] == "True" for c in p["status"].get("conditions", ()))
    ]
    return len(running) == replicas


def test_what_a_dead_node_ran_runs_elsewhere_and_its_return_cleans_up(yard):
    members(yard, "named", 3)
    deploy(yard, "healed", 6)
    (member,) = [p["metadata"] for p in pods_of(yard, "named") if p["spec"]["nodeName"] == "worker-1"]
    victims = [p for p in pods_of(yard, "healed") if p["spec"]["nodeName"] == "worker-1"]
    assert victims, "every node has its share"
    state = yard.state / "nodes" / "worker-1"
    began = time.monotonic()
    answer = node(yard, "crash", "worker-1")
    assert (answer["state"], answer["node"]) == ("crashed", "worker-1")
    assert answer["killed"] > len(victims)
    rows = {row["name"]: row for row in node(yard, "ls")}
    assert rows["worker-1"]["state"] == "crashed"
    assert rows["worker-1"]["pid"] == 0
    assert yard.exec("node/worker-1", "true", check=False).returncode != 0
    links = json.loads(yard.podnet("link", "ls", "-c", yard.name, "-o", "json").stdout)
    assert [link["a"] for link in links if not link["up"]] == ["worker-1"]
    yard.wait(lambda: not ready(yard, "worker-1"), "NotReady", WAIT_S)
    yard.wait(lambda: "worker-1" not in endpoint_nodes(yard, "healed"), "its endpoints leave the Service", WAIT_S)
    yard.wait(lambda: settled(yard, "healed", 6, "worker-1"), "replacements", WAIT_S)
    assert time.monotonic() - began < 60
    assert any((state / "sandboxes").iterdir()), "the disk of a dead node stays"
    # Of a StatefulSet there are never two of one name: it waits until somebody says that the first has ended.
    waiting = yard.kubectl_json("get", "pod", member["name"])["metadata"]
    assert waiting["uid"] == member["uid"]
    assert "deletionTimestamp" in waiting
    yard.kubectl("taint", "node", "worker-1", "node.kubernetes.io/out-of-service=nodeshutdown:NoExecute")
    yard.wait(lambda: settled(yard, "named", 3, "worker-1"), "the member runs elsewhere", WAIT_S)
    yard.kubectl("taint", "node", "worker-1", "node.kubernetes.io/out-of-service-")
    answer = node(yard, "restart", "worker-1")
    assert answer["state"] == "running"
    assert ready(yard, "worker-1")
    yard.wait(
        lambda: not [p for p in pods_of(yard, "healed") if p["spec"]["nodeName"] == "worker-1"], "cleaned", WAIT_S
    )

    def nothing_left():
        leases = list((state / "cni" / "state" / "results").iterdir())
        return not leases and not list((state / "pods").iterdir()) and not list((state / "sandboxes").iterdir())

    yard.wait(nothing_left, "nothing of the replaced pods on its disk", WAIT_S)
    assert len(pods_of(yard, "healed")) == 6
    yard.kubectl("delete", "deployment/healed", "service/healed", "statefulset/named")


def test_a_restart_keeps_the_pods_that_nobody_replaced(yard):
    overrides = {"spec": {"nodeName": "worker-2", "terminationGracePeriodSeconds": 1}}
    yard.kubectl("run", "rooted", "--image=nginx", f"--overrides={json.dumps(overrides)}")
    yard.kubectl("wait", "pod/rooted", "--for=condition=Ready", f"--timeout={WAIT_S:.0f}s")
    before = yard.kubectl_json("get", "pod", "rooted")
    assert node(yard, "restart", "worker-2")["killed"] > 2

    def again():
        found = yard.kubectl_json("get", "pod", "rooted")
        status = found["status"].get("containerStatuses") or [{}]
        return found if status[0].get("restartCount") == 1 and status[0].get("ready") else None

    after = yard.wait(again, "the pod in a new sandbox", WAIT_S)
    assert after["metadata"]["uid"] == before["metadata"]["uid"]
    yard.kubectl("run", "asker", "--image=busybox", "--", "sleep", "1000")
    yard.kubectl("wait", "pod/asker", "--for=condition=Ready", f"--timeout={WAIT_S:.0f}s")
    yard.exec("pod/asker", "ping", "-c1", "-W5", after["status"]["podIP"])
    yard.kubectl("delete", "pod", "rooted", "asker", "--now")


def test_a_node_joins_and_leaves(yard):
    answer = node(yard, "add", "worker-9", "--label", "disk=ssd", "--taint", "own=yes:NoSchedule")
    assert answer["switch"] == "s1"
    found = yard.kubectl_json("get", "node", "worker-9")
    assert found["metadata"]["labels"]["disk"] == "ssd"
    assert {"key": "own", "value": "yes", "effect": "NoSchedule"} in found["spec"]["taints"]
    cidr = found["spec"]["podCIDR"]
    yard.wait(lambda: cidr in peers(yard, "worker-1")[0], "the peers' route", WAIT_S)
    assert answer["ip"] in peers(yard, "worker-1")[1]
    overrides = {"spec": {"nodeName": "worker-9", "terminationGracePeriodSeconds": 1}}
    yard.kubectl("run", "guest", "--image=nginx", f"--overrides={json.dumps(overrides)}")
    yard.kubectl("wait", "pod/guest", "--for=condition=Ready", f"--timeout={WAIT_S:.0f}s")
    assert "worker-9" in (yard.state / "cluster.yaml").read_text()
    answer = node(yard, "rm", "worker-9")
    assert answer["state"] == "removed"
    yard.wait(lambda: cidr not in peers(yard, "worker-1")[0], "the route is gone", WAIT_S)
    assert len(peers(yard, "worker-1")[1]) == 3
    assert "worker-9" not in {row["name"] for row in node(yard, "ls")}
    assert "worker-9" not in (yard.state / "cluster.yaml").read_text()
    assert not (yard.state / "nodes" / "worker-9").exists()
    yard.wait(lambda: yard.kubectl("get", "pod", "guest", check=False).returncode, "its pods are collected", WAIT_S)
    # The next one gets what was given back, and is there again after `down` and `up`.
    node(yard, "add", "worker-10")
    assert yard.kubectl_json("get", "node", "worker-10")["spec"]["podCIDR"] == cidr


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (("crash", "nobody"), "there is no node 'nobody'"),
        (("crash", "control-plane"), "the API server"),
        (("rm", "control-plane"), "the API server"),
        (("restart", "control-plane"), "the API server"),
        (("add", "worker-1"), "taken by a node"),
        (("add", "client"), "taken by a host"),
        (("add", "s1"), "taken by a switch"),
        (("add", "No_Name"), "DNS-1123"),
        (("add", "w", "--ip", "10.1.1.1"), "outside the underlay"),
        (("add", "w", "--ip", "192.168.100.11"), "is the address of"),
        (("add", "w", "--switch", "s9"), "no switch 's9'"),
        (("add", "w", "--taint", "a=b:Never"), "NoSchedule"),
        (("add", "w", "--label", "nothing"), "KEY=VALUE"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, tuple) else None,
)
def test_refusals_say_why(yard, words, text):
    result = node(yard, *words, check=False)
    assert result.returncode in (1, 2)
    assert text in result.stderr
    assert "Traceback" not in result.stderr


def test_drain_keeps_a_budget_and_uncordon_takes_back(yard):
    deploy(yard, "drained", 4)
    yard.kubectl("create", "pdb", "drained", "--selector=app=drained", "--min-available=3")
    yard.wait(
        lambda: yard.kubectl_json("get", "pdb", "drained").get("status", {}).get("disruptionsAllowed") == 1,
        "the budget",
        WAIT_S,
    )
    yard.kubectl("drain", "worker-3", "--ignore-daemonsets", "--delete-emptydir-data", f"--timeout={WAIT_S:.0f}s")
    assert yard.kubectl_json("get", "node", "worker-3")["spec"]["unschedulable"] is True
    assert {row["name"]: row["schedulable"] for row in node(yard, "ls")}["worker-3"] == "no"
    yard.wait(lambda: settled(yard, "drained", 4, "worker-3"), "four elsewhere", WAIT_S)
    yard.kubectl("uncordon", "worker-3")
    assert "unschedulable" not in yard.kubectl_json("get", "node", "worker-3")["spec"]
    yard.kubectl("delete", "deployment,service,pdb", "drained")


def test_a_cluster_comes_back_with_the_nodes_it_had(yard):
    names = {row["name"] for row in node(yard, "ls")}
    groups = [entry["path"] for entry in json.loads((yard.state / "cgroups.json").read_text())]
    assert all(Path(path).is_dir() for path in groups)
    node(yard, "crash", "worker-3")
    yard.podnet("down", "-c", yard.name)
    assert not [path for path in groups if Path(path).exists()], "control groups go with their cluster"
    yard.up()
    assert {row["name"] for row in node(yard, "ls")} == names
    assert all(row["state"] == "running" for row in node(yard, "ls"))
