"""port-forward, proxies, SPDY exec and server-side apply as people use them: real kubectl, real pods, real libraries."""

from __future__ import annotations

import concurrent.futures
import json
import os
import re
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request

import pytest

WEB = """
apiVersion: v1
kind: Pod
metadata: {name: web, labels: {app: web}}
spec:
  terminationGracePeriodSeconds: 0
  containers: [{name: web, image: "agnhost:2.45", args: [netexec, --http-port=8080], ports: [{name: http, containerPort: 8080}]}]
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {selector: {app: web}, ports: [{name: web, port: 80, targetPort: http}]}
"""
DEPLOYMENT = """
apiVersion: apps/v1
kind: Deployment
metadata: {{name: d}}
spec:
  {replicas}
  selector: {{matchLabels: {{app: d}}}}
  template:
    metadata: {{labels: {{app: d}}}}
    spec: {{containers: [{{name: c, image: "{image}"}}]}}
"""
RAW = {"KUBECTL_PORT_FORWARD_WEBSOCKETS": "false", "KUBECTL_REMOTE_COMMAND_WEBSOCKETS": "false"}
TRANSPORTS = pytest.mark.parametrize("transport", [{}, RAW], ids=["websocket", "spdy"])


@pytest.fixture(scope="module")
def module_namespace(cluster):
    cluster.kubectl("create", "namespace", "streams")
    yield "streams"
    cluster.kubectl("delete", "namespace", "streams", "--wait=false", check=False)


@pytest.fixture(scope="module")
def web(cluster, module_namespace):
    """Pod `web` that serves on 8080 and Service `web` on 80."""
    cluster.kubectl("-n", module_namespace, "apply", "-f", "-", input=WEB)
    cluster.kubectl("-n", module_namespace, "wait", "--for=condition=Ready", "pod/web", "--timeout=60s")
    return module_namespace


class Forward:
    """A running `kubectl port-forward` and the local port it chose."""

    def __init__(self, cluster, namespace, what, port, transport):
        self.process = subprocess.Popen(
            ["kubectl", "-n", namespace, "port-forward", what, f":{port}", "--address=127.0.0.1"],
            env={**cluster.env, **transport},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        line = self.process.stdout.readline()
        found = re.match(r"Forwarding from 127\.0\.0\.1:(\d+) ", line)
        assert found, line + self.process.stdout.read()
        self.port = int(found[1])

    def get(self, path="/hostname"):
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=10) as answer:
            return answer.read().decode()

    def output(self):
        """End it, and what it said."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
        return self.process.communicate(timeout=10)[0]


@pytest.fixture
def forward(cluster, web):
    running = []

    def start(what, port, transport=None):
        running.append(Forward(cluster, web, what, port, transport or {}))
        return running[-1]

    yield start
    for one in running:
        one.process.kill()
        one.process.communicate()


# -- port-forward


@TRANSPORTS
def test_port_forward_to_a_pod(forward, transport):
    running = forward("pod/web", 8080, transport)
    assert running.get() == "web"
    assert running.get() == "web"
    assert "Handling connection" in running.output()


def test_port_forward_to_a_service(forward):
    assert forward("svc/web", 80).get() == "web"


@TRANSPORTS
def test_many_connections_at_once(forward, transport):
    running = forward("pod/web", 8080, transport)
    with concurrent.futures.ThreadPoolExecutor(10) as pool:
        assert list(pool.map(lambda _: running.get(), range(60))) == ["web"] * 60


def test_a_connection_that_stays_open_while_others_come_and_go(forward):
    running = forward("pod/web", 8080)
    with socket.create_connection(("127.0.0.1", running.port), timeout=10) as idle:
        assert running.get() == "web"
        idle.sendall(b"GET /hostname HTTP/1.0\r\n\r\n")
        answer = b""
        while data := idle.recv(4096):
            answer += data
    assert answer.endswith(b"web")


@TRANSPORTS
def test_a_port_where_nobody_listens(forward, transport):
    running = forward("pod/web", 81, transport)
    with pytest.raises((urllib.error.URLError, ConnectionError)):
        running.get()
    running.process.wait(timeout=15)
    said = running.output()
    assert "error forwarding port 81 to pod web" in said
    assert "connection refused" in said


def test_a_pod_that_is_not_there(cluster, web):
    result = cluster.kubectl("-n", web, "port-forward", "pod/none", "1234:80", check=False)
    assert result.returncode == 1
    assert 'pods "none" not found' in result.stderr


def test_nothing_is_left_in_the_node_when_the_client_leaves(cluster, web, forward):
    running = forward("pod/web", 8080)
    with socket.create_connection(("127.0.0.1", running.port), timeout=10) as idle:
        idle.sendall(b"GET /hostname HTTP/1.1\r\nHost: x\r\n\r\n")
        assert b"200" in idle.recv(4096)
        assert loopback_connections(cluster, web) == 1
        running.process.kill()
        cluster.wait(lambda: loopback_connections(cluster, web) == 0, "the pod's connection closed")


def loopback_connections(cluster, namespace):
    """Established connections inside the pod to its port 8080 on loopback, as the server sees them."""
    table = cluster.exec(f"pod/{namespace}/web", "cat", "/proc/net/tcp", "/proc/net/tcp6").stdout
    rows = [line.split() for line in table.splitlines() if ":" in line.split()[0]]
    return sum(1 for row in rows if row[1].endswith(":1F90") and row[3] == "01")


# -- exec over SPDY


def test_exec_over_spdy(cluster, web):
    def run(*words, **kwargs):
        return subprocess.run(
            ["kubectl", "-n", web, "exec", *words],
            env={**cluster.env, **RAW},
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
            **kwargs,
        )

    both = run("-i", "web", "--", "sh", "-c", "cat; echo oops >&2; exit 7", input="hello\n")
    assert (both.stdout, both.returncode) == ("hello\n", 7)
    assert both.stderr.splitlines()[0] == "oops"
    large = os.urandom(500_000).hex()
    assert run("-i", "web", "--", "cat", input=large).stdout == large
    missing = run("web", "-c", "none", "--", "true")
    assert "container none is not valid for pod web" in missing.stderr


# -- proxies


@pytest.mark.parametrize(
    "path",
    ["pods/web:8080", "pods/web:http", "pods/web", "services/web:80", "services/web:web", "services/http:web:80"],
)
def test_proxies_reach_the_pod(cluster, web, path):
    raw = f"/api/v1/namespaces/{web}/{path}/proxy/hostname"
    assert cluster.kubectl("get", "--raw", raw).stdout == "web"


def test_a_node_proxy_is_the_kubelet(cluster, web):
    assert cluster.kubectl("get", "--raw", "/api/v1/nodes/worker-1/proxy/healthz").stdout.strip() == "ok"
    node = cluster.kubectl_json("-n", web, "get", "pod", "web")["spec"]["nodeName"]
    pods = json.loads(cluster.kubectl("get", "--raw", f"/api/v1/nodes/{node}/proxy/pods").stdout)
    assert "web" in [pod["metadata"]["name"] for pod in pods["items"]]


def test_a_proxy_to_a_closed_port_says_so(cluster, web):
    result = cluster.kubectl("get", "--raw", f"/api/v1/namespaces/{web}/pods/web:81/proxy/", check=False)
    assert result.returncode == 1
    assert "error trying to reach service: dial tcp" in result.stderr
    assert "connection refused" in result.stderr


def test_kubectl_proxy(cluster, web):
    process = subprocess.Popen(["kubectl", "proxy", "--port=0"], env=cluster.env, stdout=subprocess.PIPE, text=True)
    try:
        port = re.search(r":(\d+)$", process.stdout.readline())[1]
        base = f"http://127.0.0.1:{port}/api/v1/namespaces/{web}/services/web:80/proxy"
        with urllib.request.urlopen(f"{base}/hostname", timeout=10) as answer:
            assert answer.read() == b"web"
        with urllib.request.urlopen(f"{base}/echo?msg=a%20b", timeout=10) as answer:
            assert answer.read() == b"a b"
    finally:
        process.kill()
        process.communicate()


# -- other clients, in a process of their own: they read the kubeconfig once and keep it

PYTHON_CLIENT = """
import os, sys
from kubernetes import client, config, dynamic
from kubernetes.stream import portforward
namespace = sys.argv[1]
config.load_kube_config(os.environ["KUBECONFIG"])
api = client.CoreV1Api()
forward = portforward(api.connect_get_namespaced_pod_portforward, "web", namespace, ports="8080,81")
connection = forward.socket(8080)
connection.setblocking(True)
connection.sendall(b"GET /hostname HTTP/1.0\\r\\n\\r\\n")
answer = b""
while data := connection.recv(4096):
    answer += data
assert answer.endswith(b"web"), answer
assert forward.error(8080) is None
assert "connection refused" in forward.error(81), forward.error(81)
assert api.connect_get_namespaced_pod_proxy_with_path("web:8080", namespace, "hostname") == "web"
maps = dynamic.DynamicClient(client.ApiClient()).resources.get(api_version="v1", kind="ConfigMap")
body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "m", "namespace": namespace}, "data": {"a": "b"}}
made = maps.server_side_apply(body=body, name="m", namespace=namespace, field_manager="python")
assert made.metadata.managedFields[0].manager == "python"
print("ok")
"""


def test_the_python_client(cluster, web):
    result = cluster.python(PYTHON_CLIENT, web)
    assert result.stdout == "ok\n", result.stderr


# -- server-side apply


@pytest.fixture
def kubectl(cluster, namespace):
    def run(*words, **kwargs):
        return cluster.kubectl("-n", namespace, *words, **kwargs)

    return run


def deployment(replicas="replicas: 1", image="pause"):
    return DEPLOYMENT.format(replicas=replicas, image=image)


def managers(kubectl):
    entries = json.loads(kubectl("get", "deploy", "d", "-o", "json", "--show-managed-fields").stdout)["metadata"][
        "managedFields"
    ]
    return {(entry["manager"], entry["operation"], entry.get("subresource", "")) for entry in entries}


def test_apply_conflict_and_force(kubectl):
    kubectl("apply", "--server-side", "-f", "-", input=deployment())
    kubectl("scale", "deploy", "d", "--replicas=2")
    refused = kubectl("apply", "--server-side", "-f", "-", input=deployment(), check=False)
    assert refused.returncode == 1
    assert (
        'Apply failed with 1 conflict: conflict with "kubectl" with subresource "scale" using apps/v1: .spec.replicas'
        in refused.stderr
    )
    kubectl("apply", "--server-side", "--force-conflicts", "-f", "-", input=deployment())
    assert kubectl("get", "deploy", "d", "-o", "jsonpath={.spec.replicas}").stdout == "1"
    two = kubectl(
        "apply",
        "--server-side",
        "--field-manager=other",
        "-f",
        "-",
        input=deployment("replicas: 3", "busybox"),
        check=False,
    )
    assert 'Apply failed with 2 conflicts: conflicts with "kubectl":' in two.stderr
    assert '- .spec.template.spec.containers[name="c"].image' in two.stderr


def test_from_client_side_to_server_side_apply_and_back(kubectl):
    kubectl("apply", "-f", "-", input=deployment())
    assert ("kubectl-client-side-apply", "Update", "") in managers(kubectl)
    assert "managedFields" not in kubectl("get", "deploy", "d", "-o", "yaml").stdout
    kubectl("apply", "--server-side", "-f", "-", input=deployment())
    after = managers(kubectl)
    assert ("kubectl", "Apply", "") in after
    assert ("kubectl-client-side-apply", "Update", "") not in after
    kubectl("apply", "--server-side", "-f", "-", input=deployment(image="nginx"))
    assert "unchanged" in kubectl("apply", "-f", "-", input=deployment(image="nginx")).stdout
    kubectl("rollout", "status", "deploy/d", "--timeout=60s")  # a status that moves would be a difference
    assert kubectl("diff", "--server-side", "-f", "-", input=deployment(image="nginx"), check=False).returncode == 0
    assert kubectl("diff", "--server-side", "-f", "-", input=deployment(), check=False).returncode == 1


def test_an_apply_that_changes_nothing_is_no_write(kubectl):
    kubectl("apply", "--server-side", "-f", "-", input=deployment("replicas: 0"))
    deadline = time.monotonic() + 20
    path = "jsonpath={.metadata.resourceVersion}/{.status.observedGeneration}"
    while not (seen := kubectl("get", "deploy", "d", "-o", path).stdout).endswith("/1"):
        assert time.monotonic() < deadline, seen
        time.sleep(0.1)
    kubectl("rollout", "status", "deploy/d", "--timeout=20s")
    before = kubectl("get", "deploy", "d", "-o", path).stdout
    kubectl("apply", "--server-side", "-f", "-", input=deployment("replicas: 0"))
    assert kubectl("get", "deploy", "d", "-o", path).stdout == before
