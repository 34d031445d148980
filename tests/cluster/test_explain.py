"""`podnet explain` on a running cluster: rules, counters and connections of a Service, and a pod's placement."""

from __future__ import annotations

import json

import pytest

MANIFEST = """
apiVersion: v1
kind: Pod
metadata: {name: web, labels: {app: web}}
spec:
  nodeName: worker-2
  containers:
  - name: c
    image: python
    command: [python3, -m, http.server, "8080"]
    readinessProbe: {tcpSocket: {port: 8080}, periodSeconds: 1}
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {type: NodePort, selector: {app: web}, ports: [{name: http, port: 80, targetPort: 8080}]}
---
apiVersion: v1
kind: Service
metadata: {name: nobody}
spec: {selector: {app: nobody}, ports: [{port: 80}]}
---
apiVersion: v1
kind: Service
metadata: {name: direct}
spec: {clusterIP: None, selector: {app: web}, ports: [{port: 8080}]}
---
apiVersion: v1
kind: Pod
metadata: {name: huge}
spec:
  containers: [{name: c, image: python, command: [sleep, "60"], resources: {requests: {cpu: "4000"}}}]
"""


@pytest.fixture(scope="module")
def arena(boot_cluster):
    """A cluster of its own: its proxy changes its mode."""
    cluster = boot_cluster()
    cluster.apply(MANIFEST)
    cluster.kubectl("wait", "--for=condition=Ready", "pod/web", "--timeout=90s")
    yield cluster
    cluster.down()


def explain(cluster, target, *words):
    return json.loads(cluster.podnet("explain", target, "-c", cluster.name, "-o", "json", *words).stdout)


def port_of(cluster, *words):
    return explain(cluster, "svc/web", *words)["ports"][0]


@pytest.mark.parametrize("mode", ["nftables", "iptables"])
def test_counters_grow_and_the_connection_is_seen(arena, mode):
    arena.podnet("proxy", "mode", mode, "-c", arena.name)
    address = arena.kubectl_json("get", "service", "web")["spec"]["clusterIP"]

    def served():
        port = port_of(arena)
        return port if any(row["inside"] == 1 for row in port["endpoints"]) else None

    before = arena.wait(served, "the rules of the Service on worker-1", 60)
    known = {connection["client"] for connection in before["connections"]}
    arena.exec("node/worker-1", "curl", "-sS", "-o", "/dev/null", "--max-time", "10", f"http://{address}/")
    after = port_of(arena)
    assert after["opened"] == before["opened"] + 1
    fresh = [connection for connection in after["connections"] if connection["client"] not in known]
    (endpoint,) = after["endpoints"]
    assert [connection["answered_by"] for connection in fresh] == [f"{endpoint['address']}:8080"]
    assert fresh[0]["sent_to"] == f"{address}:80"
    assert (endpoint["pod"], endpoint["node"], endpoint["ready"]) == ("web", "worker-2", True)
    assert endpoint["opened"] == after["opened"]
    text = arena.podnet("explain", "svc/web", "-c", arena.name).stdout
    assert f"proxy mode {mode}" in text
    assert "--node control-plane | worker-2" in text
    assert "Not written by podnet" not in text
    assert "DNAT: the destination becomes" in text
    nobody = arena.podnet("explain", "svc/nobody", "-c", arena.name).stdout
    assert "No pod of the namespace has the labels of its selector (app=nobody)." in nobody
    assert "refused at once" in nobody


def test_another_node_has_its_own_rules(arena):
    here = arena.podnet("explain", "svc/web", "-c", arena.name, "--node", "worker-2").stdout
    assert "on node worker-2" in here
    assert "worker-2 (here)" in here


def test_what_has_no_rules_says_why(arena):
    found = explain(arena, "svc/direct")
    assert found["why_none"].startswith("headless")
    assert [row["pod"] for row in found["ports"][0]["endpoints"]] == ["web"]


@pytest.mark.parametrize(
    ("words", "message", "code"),
    [
        (["svc/missing"], "no Service 'missing' in namespace 'default'", 1),
        (["svc/web", "-n", "kube-system"], "no Service 'web' in namespace 'kube-system'", 1),
        (["pod/missing"], "no pod 'missing' in namespace 'default'", 1),
        (["svc/web", "--node", "nowhere"], "there is no node 'nowhere'", 1),
        (["deployment/web"], "cannot be explained", 2),
        (["web"], "cannot be explained", 2),
    ],
    ids=["service", "namespace", "pod", "node", "kind", "no kind"],
)
def test_a_wrong_name_gets_one_clear_line(arena, words, message, code):
    result = arena.podnet("explain", *words, "-c", arena.name, check=False)
    assert result.returncode == code
    assert message in result.stderr.splitlines()[0]
    assert "Traceback" not in result.stderr
    assert not result.stdout


def test_a_pending_pod_has_its_reasons_node_by_node(arena):
    found = explain(arena, "pod/huge")
    workers = [verdict for verdict in found["verdicts"] if verdict["node"].startswith("worker")]
    assert len(workers) == 2
    assert all(verdict["filters"]["NodeResourcesFit"] == ["Insufficient cpu"] for verdict in workers)
    condition = arena.wait(
        lambda: arena.kubectl_json("get", "pod", "huge").get("status", {}).get("conditions"), "a condition"
    )
    assert found["message"] == condition[0]["message"]
    assert found["message"] in arena.podnet("explain", "pod/huge", "-c", arena.name).stdout


def test_a_placed_pod_is_judged_as_of_now(arena):
    text = arena.podnet("explain", "pod/web", "-c", arena.name).stdout
    assert "Pod default/web (Running), on worker-2" in text
    assert "as if the pod still had to be placed" in text
    assert "NodeResourcesFit" in text
