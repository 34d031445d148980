"""hostPorts on a booted cluster: a pod answers at its node, from wherever the question comes."""

from __future__ import annotations

import json

import pytest

REFUSED = 7
"""curl's exit code for a connection that is refused; one that times out gives 28."""
AGNHOST = "registry.k8s.io/e2e-test-images/agnhost:2.53"


def server(name: str, node: str, *ports: dict) -> dict:
    spec = {"nodeName": node, "terminationGracePeriodSeconds": 0}
    arguments = ["netexec", "--http-port=8080", "--udp-port=8081"]
    spec["containers"] = [{"name": "c", "image": AGNHOST, "args": arguments, "ports": [*ports]}]
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec}


def client_pod(name: str, node: str) -> dict:
    container = {"name": "c", "image": "nicolaka/netshoot", "command": ["sleep", "infinity"]}
    spec = {"nodeName": node, "terminationGracePeriodSeconds": 0, "containers": [container]}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec}


def tcp(host_port: int, **fields: str) -> dict:
    return {"containerPort": 8080, "hostPort": host_port, "protocol": "TCP", **fields}


def udp(host_port: int, **fields: str) -> dict:
    return {"containerPort": 8081, "hostPort": host_port, "protocol": "UDP", **fields}


def run_pods(cluster, namespace: str, *pods: dict) -> None:
    items = {"apiVersion": "v1", "kind": "List", "items": [*pods]}
    cluster.kubectl("apply", "-n", namespace, "-f", "-", input=json.dumps(items))
    names = [f"pod/{pod['metadata']['name']}" for pod in pods]
    cluster.kubectl("wait", "-n", namespace, "--for=condition=Ready", *names, "--timeout=60s")


def get(cluster, source: str, url: str) -> str:
    return cluster.exec(source, "curl", "-sS", "--max-time", "3", url, check=False).stdout


def ask_udp(cluster, source: str, address: str, port: int) -> str:
    command = f"echo hostname | socat -t 1 - udp:{address}:{port}"
    return cluster.exec(source, "sh", "-c", command, check=False).stdout.strip()


def hostport_rules(cluster, node: str) -> str:
    return cluster.exec(f"node/{node}", "nft", "list", "table", "ip", "podnet-hostports", check=False).stdout


@pytest.fixture(scope="module")
def nodes(cluster) -> dict[str, str]:
    return {node["name"]: node["ip"] for node in cluster.status()["nodes"]}


def test_it_answers_from_everywhere(cluster, namespace, nodes):
    near, far = client_pod("near", "worker-1"), client_pod("far", "worker-2")
    run_pods(cluster, namespace, server("web", "worker-1", tcp(18080), udp(18081)), near, far)
    address = nodes["worker-1"]
    sources = ["host/client", "node/worker-1", "node/worker-2", "node/control-plane"]
    sources += [f"pod/{namespace}/{name}" for name in ("near", "far", "web")]
    for source in sources:
        assert get(cluster, source, f"http://{address}:18080/hostname") == "web", source
        assert ask_udp(cluster, source, address, 18081) == "web", source
    assert get(cluster, "node/worker-1", "http://127.0.0.1:18080/hostname") == "web"
    client = get(cluster, "host/client", f"http://{address}:18080/clientip")
    own = get(cluster, "host/client", f"http://{address}:18080/hostname")
    assert (own, client.partition(":")[0]) == ("web", "192.168.100.200"), "the client's address is kept"


def test_the_same_port_with_another_address_or_protocol_does_not_conflict(cluster, namespace, nodes):
    address = nodes["worker-2"]
    run_pods(
        cluster,
        namespace,
        server("pod1", "worker-2", tcp(54323, hostIP="127.0.0.1")),
        server("pod2", "worker-2", tcp(54323, hostIP=address)),
        server("pod3", "worker-2", udp(54323, hostIP=address)),
    )
    assert get(cluster, "node/worker-2", "http://127.0.0.1:54323/hostname") == "pod1"
    assert get(cluster, "host/client", f"http://{address}:54323/hostname") == "pod2"
    assert ask_udp(cluster, "host/client", address, 54323) == "pod3"


def test_two_pods_with_one_host_port_go_to_two_nodes_and_a_third_waits(cluster, namespace):
    pods = [server(f"p{number}", "", tcp(18090)) for number in range(3)]
    for pod in pods:
        del pod["spec"]["nodeName"]
    items = {"apiVersion": "v1", "kind": "List", "items": pods}
    cluster.kubectl("apply", "-n", namespace, "-f", "-", input=json.dumps(items))

    def placed() -> bool:
        found = cluster.kubectl_json("get", "pods", "-n", namespace)["items"]
        hosts = [pod["spec"]["nodeName"] for pod in found if pod["spec"].get("nodeName")]
        return len(hosts) == 2 == len(set(hosts))

    cluster.wait(placed, "one pod on each worker")
    events = cluster.kubectl("get", "events", "-n", namespace, "--field-selector=reason=FailedScheduling").stdout
    assert "didn't have free ports for the requested pod ports" in events


def test_a_deleted_pod_leaves_no_rule_and_the_next_one_has_its_port(cluster, namespace, nodes):
    run_pods(cluster, namespace, server("old", "worker-1", tcp(18070), udp(18071)))
    assert get(cluster, "host/client", f"http://{nodes['worker-1']}:18070/hostname") == "old"
    cluster.kubectl("delete", "pod", "old", "-n", namespace, "--wait")
    cluster.wait(
        lambda: not {"18070", "18071"} & set(hostport_rules(cluster, "worker-1").split()),
        "the rules of a deleted pod are gone",
    )
    refused = cluster.exec("host/client", "curl", "-sS", f"http://{nodes['worker-1']}:18070/", check=False)
    assert refused.returncode == REFUSED, refused.stderr
    run_pods(cluster, namespace, server("new", "worker-1", tcp(18070)))
    assert get(cluster, "host/client", f"http://{nodes['worker-1']}:18070/hostname") == "new"
