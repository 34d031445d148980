"""The real kubectl against a real process: what it asks, and what other kubectls do. No command here needs a kubelet."""

from __future__ import annotations

import json
import os
import re
import select
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import IO

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from live_server import LiveServer, manifest

pytestmark = pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl is not on PATH")


# -- the server


def test_version(server: LiveServer) -> None:
    assert re.search(r"Server Version: v1\.32\.", server.kubectl("version"))


def test_cluster_info(server: LiveServer) -> None:
    assert f"is running at {server.url}" in re.sub(r"\x1b\[[0-9;]*m", "", server.kubectl("cluster-info"))


def test_api_resources(server: LiveServer) -> None:
    lines = server.kubectl("api-resources", "--no-headers").splitlines()
    assert len(lines) == 60  # both autoscaling versions are one line
    assert any(line.split() == ["deployments", "deploy", "apps/v1", "true", "Deployment"] for line in lines)
    assert "pods" in server.kubectl("api-resources", "--categories=all", "-o", "name")
    assert "networkpolicies.networking.k8s.io" in server.kubectl(
        "api-resources", "--api-group=networking.k8s.io", "-o", "name"
    )


def test_api_versions(server: LiveServer) -> None:
    assert {"v1", "apps/v1", "autoscaling/v1", "autoscaling/v2", "events.k8s.io/v1"} <= set(
        server.kubectl("api-versions").split()
    )


@pytest.mark.parametrize(
    "path", ["/healthz", "/livez", "/readyz", "/readyz?verbose", "/version", "/api/v1", "/apis/apps/v1"]
)
def test_raw(server: LiveServer, path: str) -> None:
    assert server.kubectl("get", "--raw", path)


# -- get, in every form


def read_until(stream: IO[str], words: str, timeout_s: float = 20.0) -> None:
    """Read until there is something that matches."""
    seen = ""
    deadline = time.monotonic() + timeout_s
    while not re.search(words, seen, re.MULTILINE):
        ready, _, _ = select.select([stream], [], [], max(0.0, deadline - time.monotonic()))
        assert ready, seen
        data = os.read(stream.fileno(), 65536).decode()
        assert data, seen
        seen += data


@pytest.fixture(scope="module")
def two_pods(server: LiveServer) -> str:
    server.kubectl("create", "namespace", "forms")
    server.kubectl("-n", "forms", "create", "serviceaccount", "default")
    for name in ("a", "b"):
        server.kubectl("-n", "forms", "run", name, "--image=busybox", f"--labels=app={name},tier=x")
    return "forms"


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([], r"NAME +READY +STATUS +RESTARTS +AGE\na +0/1 +Pending +0 +\w+\nb "),
        (["-o", "wide"], r"NOMINATED NODE +READINESS GATES\na .*<none> +<none> +<none> +<none>\n"),
        (["-o", "name"], r"^pod/a\npod/b\n$"),
        (["--no-headers"], r"^a +0/1"),
        (["--show-labels"], r"LABELS\na .* app=a,tier=x\n"),
        (["-L", "app"], r"APP\na .* a\n"),
        (["-l", "app=b", "-o", "name"], r"^pod/b\n$"),
        (["-l", "app in (a,c)", "-o", "name"], r"^pod/a\n$"),
        (["-l", "tier,app!=a", "-o", "name"], r"^pod/b\n$"),
        (["--field-selector", "metadata.name=b", "-o", "name"], r"^pod/b\n$"),
        (["--field-selector", "status.phase!=Pending"], r"No resources found"),
        (["-o", "jsonpath={.items[*].metadata.name}"], r"^a b$"),
        (["-o", "custom-columns=N:.metadata.name,I:.spec.containers[0].image"], r"N +I\na +busybox\nb +busybox\n"),
        (["-o", "go-template={{range .items}}{{.metadata.name}};{{end}}"], r"^a;b;$"),
        (["--sort-by=.metadata.name"], r"NAME .*\na .*\nb "),
        (["--chunk-size=1", "-o", "name"], r"^pod/a\npod/b\n$"),
        (["a"], r"\na +0/1"),
        (["a", "b", "-o", "name"], r"^pod/a\npod/b\n$"),
        (["-o", "json"], r'"kind": "List"'),
        (["-o", "yaml"], r"kind: List"),
        (["--show-kind"], r"\npod/a "),
        (["--server-print=false"], r"NAME +AGE\n"),
        (["--ignore-not-found", "zzz"], r"^$"),
    ],
    ids=lambda value: " ".join(value) or "plain" if isinstance(value, list) else "",
)
def test_get(server: LiveServer, two_pods: str, arguments: list[str], expected: str) -> None:
    assert re.search(expected, server.kubectl("-n", two_pods, "get", "pods", *arguments))


def test_get_everywhere(server: LiveServer, two_pods: str) -> None:
    assert re.search(r"NAMESPACE +NAME .*\n(.*\n)*forms +a ", server.kubectl("get", "pods", "-A"))
    assert re.search(r"pod/a(.*\n)*", server.kubectl("-n", two_pods, "get", "all"))
    assert "service/kubernetes" in server.kubectl("get", "all", "-A")
    assert "serviceaccount/default" in server.kubectl("-n", two_pods, "get", "po,sa")


def test_get_what_is_not_there(server: LiveServer) -> None:
    assert 'Error from server (NotFound): pods "zzz" not found' in server.kubectl("get", "pod", "zzz", check=False)
    assert 'the server doesn\'t have a resource type "foos"' in server.kubectl("get", "foos", check=False)
    assert "No resources found in default namespace." in server.kubectl("get", "jobs")


@pytest.mark.parametrize(
    "form", [[], ["-o", "name"], ["-o", "wide"], ["--output-watch-events"], ["-o", "json"]], ids=str
)
def test_get_watch(server: LiveServer, ns: str, form: list[str]) -> None:
    environment = {
        "KUBECONFIG": str(server.kubeconfig),
        "HOME": str(server.directory),
        "PATH": "/usr/bin:/bin:/usr/local/bin",
    }
    watching = subprocess.Popen(
        ["kubectl", "-n", ns, "get", "pods", "-w", *form], stdout=subprocess.PIPE, text=True, env=environment
    )
    assert watching.stdout is not None
    try:
        server.kubectl("-n", ns, "run", "w", "--image=busybox")
        named, events = r'(^|/|\s|")w(\s|$|")', form == ["--output-watch-events"]
        read_until(watching.stdout, "^ADDED +w " if events else named)
        server.kubectl("-n", ns, "delete", "pod", "w", "--now")
        read_until(watching.stdout, "^DELETED +w " if events else named)
    finally:
        watching.terminate()
        watching.wait(5)


def test_a_watch_list_client(server: LiveServer, two_pods: str) -> None:
    answer = server.kubectl("-n", two_pods, "get", "pods", "-o", "name", KUBE_FEATURE_WatchListClient="true")
    assert answer == "pod/a\npod/b\n"


# -- describe, explain, events, who


@pytest.mark.parametrize("kind", ["deploy", "svc", "cm"])
def test_describe(server: LiveServer, ns: str, kind: str) -> None:
    server.kubectl("-n", ns, "create", "-f", "-", stdin=manifest())
    assert re.search(r"Name: +web", server.kubectl("-n", ns, "describe", kind, "web"))


def test_describe_pod_and_namespace(server: LiveServer, two_pods: str) -> None:
    assert re.search(
        r"Name: +a\n(.*\n)*Tolerations: +node.kubernetes.io/not-ready",
        server.kubectl("-n", two_pods, "describe", "pod", "a"),
    )
    assert re.search(r"Status: +Active", server.kubectl("describe", "ns", two_pods))


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("pod.spec.containers.ports", "FIELD: ports <\\[\\]ContainerPort>"),
        ("deploy.spec.strategy", "rollingUpdate"),
        ("networkpolicy", "KIND: +NetworkPolicy"),
        ("svc.spec.type", "ENUM|type <string>"),
    ],
)
def test_explain(server: LiveServer, path: str, words: str) -> None:
    assert re.search(words, server.kubectl("explain", path))


def test_events(server: LiveServer, ns: str) -> None:
    event = {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": "e"},
        "type": "Normal",
        "reason": "Pulled",
        "message": "hello",
        "involvedObject": {"kind": "Pod", "name": "p", "namespace": ns, "apiVersion": "v1"},
        "count": 1,
        "firstTimestamp": "2026-01-01T00:00:00Z",
        "lastTimestamp": "2026-01-01T00:00:00Z",
    }
    server.kubectl("-n", ns, "create", "-f", "-", stdin=json.dumps(event))
    assert re.search(r"Normal +Pulled +pod/p +hello", server.kubectl("-n", ns, "get", "events"))
    assert re.search(r"Normal +Pulled +Pod/p +hello", server.kubectl("-n", ns, "events"))
    assert "hello" in server.kubectl("-n", ns, "events", "--for", "pod/p")
    assert "hello" in server.kubectl("-n", ns, "get", "events", "--field-selector", "involvedObject.name=p")
    assert "regarding" in server.kubectl("-n", ns, "get", "events.v1.events.k8s.io", "e", "-o", "yaml")


def test_who(server: LiveServer) -> None:
    assert re.search(r"Username +kubernetes-admin", server.kubectl("auth", "whoami"))
    assert server.kubectl("auth", "can-i", "create", "pods").strip() == "yes"
    assert re.search(r"\*\.\* ", server.kubectl("auth", "can-i", "--list"))
    token = server.kubectl("create", "token", "default").strip()
    assert len(token.split(".")) == 3


def test_logs_and_exec_of_a_pod_without_a_node(server: LiveServer, two_pods: str) -> None:
    assert server.kubectl("-n", two_pods, "logs", "a") == ""
    assert "pod a does not have a host assigned" in server.kubectl("-n", two_pods, "exec", "a", "--", "ls", check=False)


@pytest.mark.parametrize("minor", ["27", "28", "29", "30", "31", "33"])
def test_other_kubectls(server: LiveServer, ns: str, minor: str) -> None:
    binary = shutil.which(f"kubectl.1.{minor}", path=str(Path(shutil.which("kubectl") or "/").resolve().parent))
    if binary is None:
        pytest.skip(f"kubectl.1.{minor} is not beside kubectl")
    environment = {"KUBECONFIG": str(server.kubeconfig), "HOME": str(server.directory / minor), "PATH": "/usr/bin:/bin"}

    def run(*arguments: str) -> str:
        done = subprocess.run(
            [binary, "-n", ns, *arguments], capture_output=True, text=True, env=environment, check=False, timeout=60
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert "created" in run("create", "deployment", "x", "--image=i", "--replicas=1")
    assert "x " in run("get", "deploy")
    assert "scaled" in run("scale", "deploy/x", "--replicas=2")
    assert "Name:" in run("describe", "deploy", "x")
    assert "deleted" in run("delete", "deploy", "x")
    (server.directory / "m.yaml").write_text(manifest())
    assert "deployment.apps/web created" in run("apply", "-f", str(server.directory / "m.yaml"))
    (server.directory / "m.yaml").write_text(manifest(replicas=4))
    assert "deployment.apps/web configured" in run("apply", "-f", str(server.directory / "m.yaml"))
