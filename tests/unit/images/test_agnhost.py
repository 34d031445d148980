"""agnhost's subcommands, as the Kubernetes network tests rely on them: tables of request and answer."""

from __future__ import annotations

import json
import os
import socket
import threading
import time

import pytest

from podnet.controlplane.kubelet.images.programs import agnhost
from podnet.controlplane.kubelet.images.programs.agnhost import (
    connect,
    dial,
    liveness,
    logs_generator,
    netexec,
    no_snat_test,
    porter,
    resolver,
    test_webserver,
)
from podnet.controlplane.kubelet.images.programs.http import Request, Response

HOST = os.uname().nodename


def request(target: str, method: str = "GET", body: bytes = b"", **headers: str) -> Request:
    pairs = [("Host", "h"), *((name.replace("_", "-"), value) for name, value in headers.items())]
    return Request(method, target, "HTTP/1.1", pairs, ("::ffff:10.0.0.9", 4242), ("10.0.0.1", 8080), body)


async def ask(target: str, state: netexec.State | None = None, **more) -> Response:
    answer = netexec.Handlers(state or netexec.State(answering=True)).answer(request(target, **more))
    return answer if isinstance(answer, Response) else await answer


@pytest.mark.parametrize(
    ("target", "status", "body"),
    [
        ("/hostname", 200, HOST),
        ("/hostName", 200, HOST),
        ("/clientip", 200, "10.0.0.9:4242"),
        ("/header?key=X-A", 200, "one"),
        ("/echo?msg=hi", 200, "hi"),
        ("/echo?msg=hi&code=404", 404, "hi"),
        ("/echo?code=x", 400, "argument 'code' must be an integer or empty, got \"x\"\n"),
        ("/healthz", 200, ""),
        ("/readyz", 200, "ok"),
        ("/dial?host=a&port=1", 400, None),
        ("/dial?host=a&port=1&request=hostname&protocol=icmp", 400, None),
        ("/dial?host=a&port=1&request=hostname&tries=x", 400, None),
        ("/shell?cmd=echo%20hi", 200, '{"output":"hi\\n"}'),
        ("/shell?shellCommand=echo%20hi;exit%203", 200, '{"output":"hi\\n","error":"exit status 3"}'),
        ("/shell?cmd=false", 200, '{"error":"exit status 1"}'),
    ],
)
async def test_netexec(target, status, body):
    response = await ask(target, X_A="one")
    assert response.status == status
    if body is not None:
        assert response.body.decode() == body


async def test_netexec_root_and_any_other_path_is_the_time():
    for target in ("/", "/what/ever"):
        body = (await ask(target)).body.decode()
        assert body.startswith("NOW: 2")
        assert body.endswith("+0000 UTC")


async def test_netexec_header_without_key_is_all_of_them_as_json():
    assert json.loads((await ask("/header", x_a="1", B="2")).body) == {"B": ["2"], "X-A": ["1"]}


async def test_netexec_redirect():
    response = await ask("/redirect?location=http://a/b&code=301")
    assert (response.status, ("Location", "http://a/b") in response.headers) == (301, True)
    assert (await ask("/redirect?location=/x")).status == 302


@pytest.mark.parametrize(
    ("state", "healthz", "readyz"),
    [
        (netexec.State(answering=False), 412, 412),
        (netexec.State(answering=True), 200, 200),
        (netexec.State(answering=True, stopping=True), 200, 503),
    ],
    ids=["no udp or sctp server", "up", "after SIGTERM"],
)
async def test_netexec_health(state, healthz, readyz):
    assert (await ask("/healthz", state)).status == healthz
    response = await ask("/readyz", state)
    assert response.status == readyz
    if readyz == 503:
        assert response.body == b"shutting down"


async def test_netexec_override_answers_everything_with_one_path():
    response = await ask("/anything", netexec.State(override="/echo?msg=fixed"))
    assert response.body == b"fixed"


async def test_netexec_upload(tmp_path, monkeypatch):
    monkeypatch.setattr(netexec, "UPLOADS", str(tmp_path))
    body = b'--B\r\nContent-Disposition: form-data; name="file"; filename="f"\r\n\r\nhello\r\n--B--\r\n'
    response = await ask("/upload", method="POST", body=body, Content_Type="multipart/form-data; boundary=B")
    assert response.status == 201
    [path] = tmp_path.iterdir()
    assert json.loads(response.body)["output"] == str(path)
    assert path.read_bytes() == b"hello"
    assert (await ask("/upload", method="POST")).status == 500


@pytest.mark.parametrize(
    ("data", "answer"),
    [
        (b"hostname", HOST),
        (b" HostName\n", HOST),
        (b"echo Hello World", "hello world"),
        (b"clientip", "10.0.0.9:4242"),
        (b"what", None),
        (b"", None),
    ],
)
def test_netexec_datagrams(data, answer):
    found = netexec.datagram_answer(data, ("::ffff:10.0.0.9", 4242))
    assert (found.decode() if found is not None else None) == answer


@pytest.fixture
def udp_echo():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))
        server.settimeout(5)

        def serve():
            try:
                while True:
                    data, peer = server.recvfrom(100)
                    if data == b"stop":
                        return
                    if data != b"silence":
                        server.sendto(b"re:" + data, peer)
            except TimeoutError:
                return

        thread = threading.Thread(target=serve)
        thread.start()
        yield server.getsockname()[1]
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as end:
            end.sendto(b"stop", server.getsockname())
        thread.join()


@pytest.fixture
def closed_port():
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


@pytest.fixture
def open_port():
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def test_dial(udp_echo, closed_port, monkeypatch):
    monkeypatch.setattr(dial, "TRY_TIMEOUT_S", 0.2)
    wanted = dial.Dial("127.0.0.1", str(udp_echo), "x", "udp", 2)
    assert dial.run(wanted) == {"responses": ["re:x", "re:x"]}
    silent = dial.run(dial.Dial("127.0.0.1", str(udp_echo), "silence", "udp"))
    assert silent == {"errors": [f"read udp 127.0.0.1:{udp_echo}: i/o timeout"]}
    refused = dial.run(dial.Dial("127.0.0.1", str(closed_port), "hostname", "http"))
    assert list(refused) == ["errors"]
    assert "connection refused" in refused["errors"][0]


def test_dial_drops_the_responses_when_the_last_try_fails(monkeypatch):
    answers = iter(["a", TimeoutError()])

    def one(_):
        answer = next(answers)
        if isinstance(answer, str):
            return answer
        raise answer

    monkeypatch.setattr(dial, "dial_http", one)
    assert dial.run(dial.Dial("h", "1", "r", tries=2)) == {"errors": ["dial tcp h:1: i/o timeout"]}


def test_connect(udp_echo, closed_port, open_port, capsys):
    def run(*args):
        code = agnhost.main(["/agnhost", "connect", *args])
        out, err = capsys.readouterr()
        assert out == ""
        return code, err

    assert run(f"127.0.0.1:{open_port}") == (0, "")
    assert run(f"127.0.0.1:{open_port}", "--timeout=1s", "--protocol", "tcp") == (0, "")
    assert run(f"127.0.0.1:{closed_port}") == (1, "REFUSED\n")
    assert run(f"127.0.0.1:{udp_echo}", "--protocol=udp", "--timeout=2s") == (0, "")
    assert run(f"127.0.0.1:{udp_echo}", "--protocol=udp", "--timeout=100ms", "--udp-data=silence") == (1, "TIMEOUT\n")
    assert run(f"127.0.0.1:{closed_port}", "--protocol=udp", "--timeout=1s") == (1, "REFUSED\n")
    code, err = run("no-such-name.invalid:80", "--timeout=2s")
    assert (code, err[:3]) == (1, "DNS")
    for bad in ("127.0.0.1", "127.0.0.1:x", "127.0.0.1:99999"):
        code, err = run(bad)
        assert (code, err[:7]) == (1, "UNKNOWN")
    code, err = run("127.0.0.1:80", "--protocol=icmp")
    assert (code, err) == (1, "UNKNOWN: unsupported protocol icmp\n")
    assert run()[0] == 1


def test_connect_over_sctp_says_unknown_where_the_kernel_has_none(open_port, capsys):
    try:
        socket.socket(socket.AF_INET, socket.SOCK_STREAM, 132).close()
    except OSError:
        assert connect.connect("sctp", "127.0.0.1", open_port, 1, b"x") == 1
        assert capsys.readouterr().err.startswith("UNKNOWN")
    else:
        assert connect.connect("sctp", "127.0.0.1", open_port, 1, b"x") == 1
        assert capsys.readouterr().err.startswith("REFUSED")


def test_porter_reads_the_environment():
    env = {
        "SERVE_PORT_80": "a",
        "SERVE_TCP_PORT_81": "b",
        "SERVE_UDP_PORT_80": "c",
        "SERVE_TLS_PORT_443": "d",
        "SERVE_SCTP_PORT_9": "e",
        "OTHER": "x",
    }
    found = {(port.protocol, port.number, port.value) for port in porter.wanted_ports(env)}
    assert found == {("tcp", 80, "a"), ("tcp", 81, "b"), ("udp", 80, "c"), ("tls", 443, "d"), ("sctp", 9, "e")}
    with pytest.raises(ValueError, match="SERVE_PORT_x"):
        porter.wanted_ports({"SERVE_PORT_x": ""})
    port = porter.Port("tcp", 80, "foo")
    assert porter.answer(port, request("/any"), as_json=False).body == b"foo"
    assert porter.answer(port, request("/", "POST"), as_json=True).body == b'{"Method":"POST","Body":"foo"}'


@pytest.mark.parametrize(
    ("text", "servers", "search"),
    [
        ("nameserver 10.96.0.10\nsearch a.svc svc\noptions ndots:5\n", ["10.96.0.10"], ["a.svc", "svc"]),
        ("nameserver 1.1.1.1\nnameserver 2.2.2.2\nsearch x\nsearch y z\n", ["1.1.1.1", "2.2.2.2"], ["y", "z"]),
        ("# nothing\n", [], []),
    ],
)
def test_resolver_files(text, servers, search):
    assert resolver.parse_resolv_conf(text) == (servers, search)


def test_test_webserver_lists_directories(tmp_path):
    (tmp_path / "a").write_text("x")
    (tmp_path / "b").mkdir()
    assert b'<a href="a">a</a>\n<a href="b/">b/</a>' in test_webserver.listing(str(tmp_path), "/").body
    assert test_webserver.error_page(404, request("/")).body == b"404 page not found\n"


async def test_no_snat_test(monkeypatch):
    assert (await no_snat_test.answer(request("/whoami"))).body == b"10.0.0.9"
    monkeypatch.setattr(no_snat_test, "_fetch", lambda place, _: (200, {"a:1": "10.0.0.5", "b:1": "10.0.0.1"}[place]))
    assert no_snat_test.check("10.0.0.5", "10.0.0.1", ["a:1"]) == (200, "")
    status, text = no_snat_test.check("10.0.0.5", "10.0.0.1", ["a:1", "b:1"])
    assert status == 500
    assert "the address of the node" in text


def test_liveness_fails_after_ten_seconds():
    assert liveness.answer(request("/healthz"), 9.9).status == 200
    assert liveness.answer(request("/healthz"), 10.1).status == 500


def test_logs_generator_lines(capsys):
    assert agnhost.main(["/agnhost", "logs-generator", "-t", "3", "-d", "10ms"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.partition("] ")[2].split()[0] for line in lines] == ["0", "1", "2"]
    assert logs_generator.line(4, time.time()).count("/api/v1/namespaces/") == 1
    assert agnhost.main(["/agnhost", "logs-generator"]) == 1


def test_unknown_commands_and_flags(capsys):
    assert agnhost.main(["/agnhost", "nope"]) == 1
    assert 'unknown command "nope"' in capsys.readouterr().err
    assert agnhost.main(["/agnhost", "netexec", "--nope"]) == 1
    assert "unknown flag: --nope" in capsys.readouterr().err
    assert agnhost.main(["/agnhost", "webhook"]) == 1
    assert agnhost.main(["/agnhost", "serve-hostname", "--udp"]) == 1
    assert agnhost.main(["/agnhost", "--help"]) == 0
