"""Random kills under a steady load of changes: at the end desired = actual, and nothing has leaked.

Thirty seconds in the suite; `make chaos` runs ten minutes, three times. The order of faults comes from a seed that a
failure prints: PODNET_CHAOS_SEED repeats it, PODNET_CHAOS_SECONDS sets the length.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import re
import sqlite3
import threading
import time
from collections import Counter
from ipaddress import ip_address

import kubernetes
import pytest
from kubernetes.client.exceptions import ApiException
from urllib3.exceptions import HTTPError

SECONDS = float(os.environ.get("PODNET_CHAOS_SECONDS", "30"))
SEED = int(os.environ.get("PODNET_CHAOS_SEED", "0")) or random.SystemRandom().randrange(1, 1 << 30)
NAMESPACE = "chaos"
APPS = tuple(f"app-{number}" for number in range(6))
WORKERS = ("worker-1", "worker-2")
SETTLE_S = 180.0


@pytest.fixture(scope="module")
def arena(boot_cluster):
    cluster = boot_cluster()
    cluster.kubectl("create", "namespace", NAMESPACE)
    yield cluster
    cluster.down()


class Load(threading.Thread):
    """Changes at a steady rate; `wanted` and `kept` are what was acknowledged, which is what must be there at the end."""

    def __init__(self, kubeconfig, rng):
        super().__init__(daemon=True)
        configuration = kubernetes.client.Configuration()
        kubernetes.config.load_kube_config(str(kubeconfig), client_configuration=configuration)
        configuration.retries = False
        client = kubernetes.client.ApiClient(configuration)
        self.core, self.apps = kubernetes.client.CoreV1Api(client), kubernetes.client.AppsV1Api(client)
        self.rng = rng
        self.stop = threading.Event()
        self.wanted: dict[str, tuple[int, str]] = {}
        self.kept: set[str] = set()
        self.acknowledged = self.refused = 0
        self.broken: BaseException | None = None

    def run(self):
        try:
            while not self.stop.wait(0.1):
                self.change()
        except BaseException as error:
            self.broken = error

    def change(self):
        try:
            self.rng.choice((self.scale, self.scale, self.roll, self.note))()
            self.acknowledged += 1
        except (HTTPError, OSError):  # the API server is being killed: whether it happened is not known
            self.refused += 1
        except ApiException as error:
            if error.status not in (404, 409, 429, 500, 503):
                raise
            self.refused += 1

    def scale(self):
        name, replicas = self.rng.choice(APPS), self.rng.randrange(5)
        self.put(name, replicas, self.wanted.get(name, (0, "0"))[1])

    def roll(self):
        name = self.rng.choice(APPS)
        self.put(name, self.wanted.get(name, (1, "0"))[0], str(self.rng.randrange(1 << 16)))

    def put(self, name, replicas, version):
        """The Deployment and its Service, wanted from now on: the last word counts, known to have arrived or not."""
        self.wanted[name] = (replicas, version)
        self.write(name)

    def write(self, name):
        replicas, version = self.wanted[name]
        container = {"name": "c", "image": "nginx", "env": [{"name": "VERSION", "value": version}]}
        template = {
            "metadata": {"labels": {"app": name}},
            "spec": {"containers": [container], "terminationGracePeriodSeconds": 1},
        }
        spec = {"replicas": replicas, "selector": {"matchLabels": {"app": name}}, "template": template}
        port = {"port": 80, "targetPort": 80, "protocol": "TCP"}
        service = {"metadata": {"name": name}, "spec": {"selector": {"app": name}, "ports": [port]}}
        upsert(
            lambda: self.apps.patch_namespaced_deployment(name, NAMESPACE, {"spec": spec}, _request_timeout=5),
            lambda: self.apps.create_namespaced_deployment(
                NAMESPACE, {"metadata": {"name": name}, "spec": spec}, _request_timeout=5
            ),
        )
        upsert(
            lambda: self.core.read_namespaced_service(name, NAMESPACE, _request_timeout=5),
            lambda: self.core.create_namespaced_service(NAMESPACE, service, _request_timeout=5),
        )

    def note(self):
        name = f"note-{len(self.kept)}-{self.rng.randrange(1 << 30)}"
        self.core.create_namespaced_config_map(NAMESPACE, {"metadata": {"name": name}}, _request_timeout=5)
        self.kept.add(name)


def upsert(change, create):
    try:
        change()
    except ApiException as error:
        if error.status != 404:
            raise
        create()


class Faults:
    """What may happen to a cluster; each returns what it did."""

    def __init__(self, cluster, rng):
        self.cluster = cluster
        self.rng = rng

    def one(self):
        return self.rng.choice((self.component, self.component, self.agent, self.container, self.link, self.node))()

    def component(self):
        return self.kill_component(
            self.rng.choice(("kube-apiserver", "kube-controller-manager", "kube-scheduler")) + "/control-plane"
        )

    def agent(self):
        return self.kill_component("podnet-node/" + self.rng.choice(WORKERS))

    def kill_component(self, name):
        pid = self.cluster.component(name)["pid"]
        if pid:
            self.cluster.exec("node/control-plane", "kill", "-9", str(pid), check=False)
        return f"kill {name}"

    def container(self):
        """Some process of a pod: the program, or the pause process that holds the namespaces."""
        table = self.cluster.exec("node/control-plane", "ps", "-eo", "pid,args", check=False).stdout.splitlines()
        victims = [line.split(maxsplit=1) for line in table if re.search(r"podnet-pause chaos/|nginx -g", line)]
        if not victims:
            return "no pod to kill"
        pid, name = self.rng.choice(victims)
        self.cluster.exec("node/control-plane", "kill", "-9", pid, check=False)
        return f"kill {name}"

    def link(self):
        node = self.rng.choice(WORKERS)
        self.cluster.podnet("link", "down", node, "s1", "-c", self.cluster.name)
        time.sleep(self.rng.uniform(0.2, 2.0))
        self.cluster.podnet("link", "up", node, "s1", "-c", self.cluster.name)
        return f"cut {node} for a moment"

    def node(self):
        node = self.rng.choice(WORKERS)
        self.cluster.podnet("node", "crash", node, "-c", self.cluster.name)
        time.sleep(self.rng.uniform(0.2, 3.0))
        self.cluster.podnet("node", "restart", node, "-c", self.cluster.name)
        return f"crash {node}"


def test_desired_is_actual_after_random_kills_under_load(arena):
    rng = random.Random(SEED)
    load, faults, said = Load(arena.kubeconfig, random.Random(SEED + 1)), Faults(arena, rng), []
    load.start()
    end = time.monotonic() + SECONDS
    while time.monotonic() < end and load.is_alive():
        said.append(faults.one())
        load.stop.wait(rng.uniform(0.2, 2.0))
    load.stop.set()
    load.join(30)
    story = f"PODNET_CHAOS_SEED={SEED}: {load.acknowledged} changes, {load.refused} refused; {Counter(said)}"
    print(story)
    assert load.broken is None, f"{story}: {load.broken!r}"
    assert load.acknowledged > SECONDS, f"the load was hardly there: {story}"
    arena.wait(lambda: rewritten(load), "the last word of every change is written", 60)
    settle(arena, load, story)
    arena.kubectl("delete", "namespace", NAMESPACE, "--timeout=120s", timeout=150)
    arena.wait(lambda: not leaks(arena), "what was taken is given back", SETTLE_S)


def rewritten(load):
    """Of the last changes nobody knows whether they arrived: say them once more."""
    try:
        for name in load.wanted:
            load.write(name)
    except (HTTPError, OSError, ApiException):
        return False
    return True


def settle(arena, load, story):
    """Wait until the cluster is what the load asked for; fail with what is not."""
    deadline = time.monotonic() + SETTLE_S
    while True:
        wrong = differences(arena, load) or leaks(arena)
        if not wrong:
            return
        assert time.monotonic() < deadline, f"{story}\nstill wrong after {SETTLE_S:.0f} s:\n" + "\n".join(wrong)
        time.sleep(0.5)


def differences(arena, load):
    """Desired against actual, as the API tells it."""
    wrong = []
    notes = {item["metadata"]["name"] for item in arena.kubectl_json("get", "configmaps", "-n", NAMESPACE)["items"]}
    wrong += [f"{name} was acknowledged and is lost" for name in load.kept - notes]
    pods = arena.kubectl_json("get", "pods", "-n", NAMESPACE)["items"]
    for name, (replicas, version) in load.wanted.items():
        mine = [pod for pod in pods if pod["metadata"]["labels"]["app"] == name]
        good = [pod for pod in mine if is_good(pod, version)]
        if (len(good), len(mine)) != (replicas, replicas):
            wrong.append(f"{name}: {len(good)} good of {len(mine)} pods, {replicas} wanted")
        slices = arena.kubectl_json(
            "get", "endpointslices", "-n", NAMESPACE, "-l", f"kubernetes.io/service-name={name}"
        )
        told = {a for s in slices["items"] for e in s["endpoints"] or () for a in e["addresses"]}
        if told != {pod["status"].get("podIP") for pod in mine}:
            wrong.append(f"{name}: its slices say {sorted(told)}")
    nodes = arena.kubectl_json("get", "nodes")["items"]
    wrong += [f"{node['metadata']['name']} is not Ready" for node in nodes if not ready(node)]
    return wrong


def is_good(pod, version):
    return (
        ready(pod)
        and "deletionTimestamp" not in pod["metadata"]
        and pod["spec"]["containers"][0]["env"][0]["value"] == version
    )


def ready(item):
    return any(c["type"] == "Ready" and c["status"] == "True" for c in item["status"].get("conditions", ()))


def leaks(arena):
    """What nodes hold against what the API says they should: interfaces, namespaces, directories, addresses, rules,
    processes. One line for each difference."""
    pods = arena.kubectl_json("get", "pods", "-A")["items"]
    services = arena.kubectl_json("get", "services", "-A")["items"]
    wrong = [f"{pod['metadata']['name']} is being deleted" for pod in pods if "deletionTimestamp" in pod["metadata"]]
    for node in ("control-plane", *WORKERS):
        here = [pod for pod in pods if pod["spec"].get("nodeName") == node]
        wrong += [f"{node}: {line}" for line in node_leaks(arena, node, here)]
        rules = arena.exec(f"node/{node}", "nft", "list", "ruleset").stdout
        known = {pod["status"].get("podIP") for pod in pods} | {s["spec"]["clusterIP"] for s in services}
        found = set(re.findall(r"\b10\.(?:96|244)\.\d+\.[1-9]\d*\b(?!/)", rules))
        wrong += [f"{node}: a rule for {address}, which nobody has" for address in sorted(found - known)]
    table = arena.exec("node/control-plane", "ps", "-eo", "args").stdout
    running = sorted(re.findall(r"^podnet-pause (\S+)", table, re.MULTILINE))
    wanted = sorted(f"{pod['metadata']['namespace']}/{pod['metadata']['name']}" for pod in pods)
    if running != wanted:
        wrong.append(f"pause processes {running}, pods {wanted}")
    return wrong


def node_leaks(arena, node, pods):
    addresses = {pod["status"].get("podIP") for pod in pods}
    links = re.findall(r"veth\w+", arena.exec(f"node/{node}", "ip", "-br", "link").stdout)
    mounts = arena.exec(f"node/{node}", "cat", "/proc/mounts").stdout
    files = arena.state / "nodes" / node
    counts = {
        "interfaces": len(links),
        "network namespaces": len(re.findall(r"/netns/\w+ nsfs", mounts)),
        "pod directories": len(list((files / "pods").glob("*"))),
    }
    wrong = [f"{count} {what}, {len(pods)} pods" for what, count in counts.items() if count != len(pods)]
    uids = {pod["metadata"]["uid"] for pod in pods}
    # The sandbox before the living one stays for `kubectl logs --previous`, but only as long as its pod.
    wrong += [f"a sandbox of pod {uid}, which is gone" for uid in sorted(sandbox_owners(files / "sandboxes") - uids)]
    leased = leases(files / "cni" / "state" / "ipam.db")
    return wrong + [f"address {address} is leased to nobody" for address in sorted(leased - addresses)]


def sandbox_owners(directory):
    """UIDs of the pods that sandbox directories belong to; a directory without a record belongs to nobody."""
    owners = set()
    for sandbox in directory.glob("*"):
        try:
            owners.add(json.loads((sandbox / "config.json").read_text())["config"]["pod_uid"])
        except FileNotFoundError:
            owners.add(f"unknown ({sandbox.name})")
    return owners


def leases(database):
    if not database.exists():
        return set()
    with contextlib.closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection:
        return {str(ip_address(row[0])) for row in connection.execute("SELECT address FROM leases")}
