"""The process: TLS and who asks, inherited sockets, an orderly end, a kill that loses nothing."""

from __future__ import annotations

import http.client
import json
import re
import signal
import ssl
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from live_server import LiveServer, listening, live_server, prepare, start, stop

from podnet.controlplane import pki
from podnet.controlplane.apiserver.config import APIServerConfig
from podnet.controlplane.apiserver.main import serve_apiserver

PODS = "/api/v1/namespaces/default/pods"
CONFIGMAPS = "/api/v1/namespaces/default/configmaps"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    with live_server(tmp_path_factory.mktemp("live")) as server:
        yield server


def tls(server: LiveServer, user: str = "", directory: Path | None = None) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=str(server.directory / "pki" / "ca.crt"))
    if user:
        base = directory or server.directory / "pki"
        context.load_cert_chain(base / f"{user}.crt", base / f"{user}.key")
    return context


def ask(
    server: LiveServer, method: str, path: str, body: Any = None, context: ssl.SSLContext | None = None, **headers: str
) -> tuple[int, Any]:
    connection = http.client.HTTPSConnection(
        "127.0.0.1", server.port, context=context or tls(server, "admin"), timeout=10
    )
    try:
        data = None if body is None else json.dumps(body)
        connection.request(method, path, data, {"Content-Type": "application/json", **headers})
        answer = connection.getresponse()
        text = answer.read()
        lines = text.count(b"\n") > 0
        return answer.status, json.loads(text) if text.startswith((b"{", b"[")) and not lines else text.decode()
    finally:
        connection.close()


@pytest.mark.parametrize(
    ("user", "name", "groups"),
    [
        ("admin", "kubernetes-admin", ["system:masters", "system:authenticated"]),
        ("kube-scheduler", "system:kube-scheduler", ["system:authenticated"]),
        ("kube-controller-manager", "system:kube-controller-manager", ["system:authenticated"]),
    ],
)
def test_a_certificate_says_who_asks(server: LiveServer, user: str, name: str, groups: list[str]) -> None:
    path = "/apis/authentication.k8s.io/v1/selfsubjectreviews"
    status, review = ask(server, "POST", path, {}, tls(server, user))
    assert status == 201
    info = review["status"]["userInfo"]
    assert (info["username"], info["groups"]) == (name, groups)
    (credential,) = info["extra"]["authentication.kubernetes.io/credential-id"]
    assert re.fullmatch("X509SHA256=[0-9a-f]{64}", credential)


def test_metrics_of_the_process(server: LiveServer) -> None:
    ask(server, "POST", CONFIGMAPS, {"metadata": {"name": "counted"}})
    status, text = ask(server, "GET", "/metrics")
    assert status == 200
    assert 'etcd_requests_total{operation="create",type="configmaps"} ' in text
    assert "\nprocess_open_fds " in text
    assert ask(server, "GET", "/metrics", context=tls(server))[0] == 401


def test_without_a_certificate_nobody(server: LiveServer) -> None:
    status, answer = ask(server, "GET", PODS, context=tls(server))
    assert (status, answer["reason"]) == (401, "Unauthorized")
    assert ask(server, "GET", "/version", context=tls(server))[0] == 200


def test_a_certificate_of_another_authority_is_no_certificate(server: LiveServer, tmp_path: Path) -> None:
    pki.ensure_pki(tmp_path, advertise_address="192.168.100.1", service_ip="10.96.0.1", cluster_domain="x")
    with pytest.raises((ssl.SSLError, ConnectionError, http.client.HTTPException)):
        ask(server, "GET", PODS, context=tls(server, "admin", tmp_path))


def test_a_service_account_token_says_who_asks(server: LiveServer) -> None:
    path = "/api/v1/namespaces/default/serviceaccounts/default/token"
    status, request = ask(server, "POST", path, {"spec": {}})
    assert status == 201
    bearer = {"Authorization": f"Bearer {request['status']['token']}"}
    status, review = ask(server, "POST", "/apis/authentication.k8s.io/v1/selfsubjectreviews", {}, tls(server), **bearer)
    assert review["status"]["userInfo"]["username"] == "system:serviceaccount:default:default"
    assert ask(server, "GET", PODS, context=tls(server), **bearer)[0] == 200


@pytest.mark.parametrize("header", ["Bearer x", "Bearer a.b.c", "Bearer", "Basic eDp5", "x"])
def test_bad_credentials_are_worse_than_none(server: LiveServer, header: str) -> None:
    assert ask(server, "GET", PODS, context=tls(server), Authorization=header)[0] == 401


def test_only_masters_impersonate(server: LiveServer) -> None:
    path, headers = (
        "/apis/authentication.k8s.io/v1/selfsubjectreviews",
        {"Impersonate-User": "jane", "Impersonate-Group": "devs"},
    )
    status, review = ask(server, "POST", path, {}, **headers)
    assert review["status"]["userInfo"] == {"username": "jane", "groups": ["devs", "system:authenticated"]}
    status, refusal = ask(server, "POST", path, {}, tls(server, "kube-scheduler"), **headers)
    assert (status, refusal["reason"]) == (403, "Forbidden")


def test_the_kubernetes_service_stands_for_the_server(server: LiveServer) -> None:
    _, service = ask(server, "GET", "/api/v1/namespaces/default/services/kubernetes")
    assert service["spec"]["clusterIP"] == "10.96.0.1"
    _, endpoints = ask(server, "GET", "/api/v1/namespaces/default/endpoints/kubernetes")
    assert endpoints["subsets"] == [
        {"addresses": [{"ip": "192.168.100.1"}], "ports": [{"name": "https", "port": 6443, "protocol": "TCP"}]}
    ]
    _, slices = ask(server, "GET", "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices/kubernetes")
    assert slices["endpoints"][0]["addresses"] == ["192.168.100.1"]


@pytest.mark.parametrize("name", ["default", "kube-system", "kube-public", "kube-node-lease"])
def test_namespaces_stand_from_the_start(server: LiveServer, name: str) -> None:
    status, namespace = ask(server, "GET", f"/api/v1/namespaces/{name}")
    assert (status, namespace["status"]["phase"]) == (200, "Active")
    assert namespace["metadata"]["labels"]["kubernetes.io/metadata.name"] == name


def test_system_priorities(server: LiveServer) -> None:
    _, listed = ask(server, "GET", "/apis/scheduling.k8s.io/v1/priorityclasses")
    assert {item["metadata"]["name"]: item["value"] for item in listed["items"]} == {
        "system-node-critical": 2000001000,
        "system-cluster-critical": 2000000000,
    }


def test_issuer_documents(server: LiveServer) -> None:
    _, document = ask(server, "GET", "/.well-known/openid-configuration")
    assert document["issuer"] == "https://kubernetes.default.svc.cluster.local"
    _, keys = ask(server, "GET", "/openid/v1/jwks")
    assert keys["keys"][0]["alg"] == "ES256"


def test_an_end_in_time_with_a_watch_open(tmp_path: Path) -> None:
    with live_server(tmp_path) as server:
        connection = http.client.HTTPSConnection("127.0.0.1", server.port, context=tls(server, "admin"), timeout=10)
        connection.request("GET", f"{PODS}?watch=true")
        answer = connection.getresponse()
        began = time.monotonic()
        assert stop(server) == 0
        assert time.monotonic() - began < 3
        assert answer.read() == b""
        connection.close()


def test_a_taken_port_is_one_clear_line(tmp_path: Path) -> None:
    with listening() as taken:
        port = taken.getsockname()[1]
        prepare(tmp_path, port)
        config = APIServerConfig(
            pki_dir=tmp_path / "pki", store_dir=tmp_path / "store", store_driver="memory", bind=(("127.0.0.1", port),)
        )
        with pytest.raises(SystemExit) as caught:
            serve_apiserver(config)
    assert str(caught.value) == f"kube-apiserver: cannot listen on 127.0.0.1:{port}: Address already in use"


def test_missing_certificates_are_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="kube-apiserver: "):
        serve_apiserver(APIServerConfig(pki_dir=tmp_path, store_dir=tmp_path, store_driver="memory"))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_what_was_acknowledged_is_there_after_a_restart(tmp_path: Path, number: signal.Signals) -> None:
    """The next process takes over the same socket and the same store; a watch goes on from where it was."""
    with listening() as listener:
        prepare(tmp_path, listener.getsockname()[1])
        server = start(tmp_path, listener, "sqlite")
        made = [ask(server, "POST", CONFIGMAPS, {"metadata": {"name": f"c{i}"}})[1] for i in range(20)]
        stop(server, number)
        server = start(tmp_path, listener, "sqlite")
        try:
            for obj in made:
                assert ask(server, "GET", f"{CONFIGMAPS}/{obj['metadata']['name']}") == (200, obj)
            version = made[9]["metadata"]["resourceVersion"]
            status, text = ask(server, "GET", f"{CONFIGMAPS}?watch=true&timeoutSeconds=1&resourceVersion={version}")
            events = [json.loads(line) for line in text.splitlines()]
            assert status == 200
            assert events[0]["object"] == made[10]
        finally:
            assert stop(server) == 0
