"""Rules all catalogue programs keep, and the small ones' behaviour."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from podnet.controlplane.kubelet.images.programs import (
    busybox_httpd,
    docker_entrypoint,
    echoserver,
    http_https_echo,
    httpd,
    launch,
    nslookup,
    wget,
    whoami,
)
from podnet.controlplane.kubelet.images.programs import curl as own_curl
from podnet.controlplane.kubelet.images.programs import nc as own_nc
from podnet.controlplane.kubelet.images.programs.http import Request, Response

PACKAGE = "podnet.controlplane.kubelet.images.programs"
FOLDER = Path(launch.__file__).parent
MODULES = sorted(FOLDER.rglob("*.py"))


def request(target: str = "/", method: str = "GET", body: bytes = b"", **headers: str) -> Request:
    pairs = [("Host", "web:80"), *((name.replace("_", "-"), value) for name, value in headers.items())]
    return Request(method, target, "HTTP/1.1", pairs, ("::ffff:10.0.0.9", 4242), ("::ffff:10.0.0.1", 80), body)


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(FOLDER)))
def test_programs_stand_alone(path):
    """In a container there is the standard library and this folder, nothing else."""
    for node in ast.walk(ast.parse(path.read_text())):
        names = []
        if isinstance(node, ast.ImportFrom):
            names = [node.module or ""]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        for name in names:
            assert name.startswith(PACKAGE) or name.split(".")[0] in sys.stdlib_module_names, name


def test_connect_starts_light():
    code = f"import sys; import {PACKAGE}.agnhost.connect; print(' '.join(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-IS", "-c", f"import sys; sys.path.insert(0, '.'); {code}"],
        cwd=FOLDER.parents[4],
        capture_output=True,
        text=True,
        check=True,
    )
    assert not {"asyncio", "ssl", "http.client", "subprocess", "json", "re", "argparse"} & set(done.stdout.split())


@pytest.mark.parametrize("name", sorted(launch.PROGRAMS))
def test_every_program_has_a_main(name):
    assert callable(launch._main(name))


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("#!/usr/bin/python3 -IS\n# podnet program: agnhost\nx\n", "agnhost"),
        ("#!/usr/bin/python3\n# something else\nx\n", ""),
        ("# podnet program: agnhost\nx\n", ""),
        ("", ""),
    ],
)
def test_a_launcher_is_known_by_its_second_line(tmp_path, text, name):
    path = tmp_path / "file"
    path.write_text(text)
    assert launch.program_name(str(path)) == name
    assert launch.program_name(str(tmp_path / "none")) == ""


def test_a_crash_is_exit_code_1(capsys, monkeypatch):
    monkeypatch.setitem(launch.PROGRAMS, "broken", "flags")
    assert launch.call("broken", ["broken"]) == 1
    assert "Traceback" in capsys.readouterr().err


def test_envsubst_leaves_nginx_variables_alone():
    env = {"HOST": "a", "PORT": "80"}
    assert docker_entrypoint.substitute("listen ${PORT}; $HOST $host ${none}", env) == "listen 80; a $host ${none}"


def test_whoami_page():
    page = whoami.page(request("/x?y=1", User_Agent="curl"), "me")
    assert page.startswith("Name: me\nHostname: ")
    assert "\nRemoteAddr: 10.0.0.9:4242\nGET /x?y=1 HTTP/1.1\nHost: web:80\nUser-Agent: curl\n" in page
    assert whoami.answer(request("/health"), "", [503]).status == 503
    assert whoami.answer(request("/data?size=2&unit=kb"), "", [200]).length == 2048


def test_echo_servers_tell_the_request():
    assert "\tclient_address=10.0.0.9\n\tmethod=POST\n" in echoserver.page(request("/p?q=1", "POST", b"hello"))
    told = http_https_echo.describe(request("/p?q=1", "POST", b'{"a": 1}', Content_Type="application/json"))
    assert (told["path"], told["query"], told["json"], told["method"]) == ("/p", {"q": "1"}, {"a": 1}, "POST")


def test_httpd_log_and_pages():
    page = httpd.error_page(404, request("/x"))
    assert b"<h1>Not Found</h1>" in page.body
    line = httpd.log_line(request("/x"), Response(200, b"abc"), 0)
    assert line == '10.0.0.9 - - [01/Jan/1970:00:00:00 +0000] "GET /x HTTP/1.1" 200 3'


@pytest.mark.parametrize(
    ("args", "flags", "rest"),
    [
        (["-zv", "h", "1"], {"z", "v"}, ["h", "1"]),
        (["-w", "1", "-u", "h", "1"], {"u"}, ["h", "1"]),
        (["-w1", "-lk", "-p", "80"], {"l", "k"}, []),
    ],
)
def test_nc_options(args, flags, rest):
    options = own_nc.parse(args)
    assert (options.flags, options.rest) == (flags, rest)


@pytest.mark.parametrize(
    ("args", "options"),
    [
        (["-f", "-v", "-p", "8080", "-h", "/www"], {"f": "1", "v": "1", "p": "8080", "h": "/www"}),
        (["-fvvp8080", "-h/www"], {"f": "1", "v": "2", "p": "8080", "h": "/www"}),
        ([], {}),
    ],
    ids=["apart", "together", "none"],
)
def test_busybox_httpd_options(args, options):
    assert busybox_httpd.parse(args) == options


@pytest.mark.parametrize("args", [["-x"], ["-p"], ["word"], ["-f", "-"]])
def test_busybox_httpd_refuses(args, capsys):
    with pytest.raises(ValueError):
        busybox_httpd.parse(args)
    assert busybox_httpd.main(["httpd", *args]) == 1
    assert capsys.readouterr().err.startswith("httpd: ")


@pytest.mark.parametrize(
    ("text", "place"),
    [("80", (None, 80)), ("127.0.0.1:8080", ("127.0.0.1", 8080)), ("[::1]:81", ("::1", 81)), ("0", None), ("x", None)],
)
def test_busybox_httpd_addresses(text, place):
    if place is None:
        with pytest.raises(ValueError, match="bad port"):
            busybox_httpd.address(text)
    else:
        assert busybox_httpd.address(text) == place


def test_options_nobody_knows_are_refused():
    for parse, args in ((own_nc.parse, ["-Y"]), (wget.parse, ["--nope"]), (own_curl.parse, ["--nope"])):
        with pytest.raises(ValueError, match=r"nope|Y"):
            parse(args)


def test_wget_and_curl_options_cluster():
    flags, values, urls = wget.parse(["-qO-", "-T", "5", "--header=A: b", "http://x"])
    assert (flags, values, urls) == ({"quiet"}, {"output": ["-"], "timeout": ["5"], "header": ["A: b"]}, ["http://x"])
    flags, values, urls = own_curl.parse(["-gqs", "-o/dev/null", "-w", "%{http_code}", "-m", "3", "x"])
    assert (flags, values["write-out"], urls) == ({"globoff", "no-config", "silent"}, ["%{http_code}"], ["x"])
    assert own_curl._write_out("%{http_code}\\n", None) == "000\n"


def test_nslookup_speaks_dns():
    dnslib = pytest.importorskip("dnslib")
    question = dnslib.DNSRecord.parse(nslookup.encode_query(7, "a.default.svc.cluster.local", 1))
    assert (question.header.id, question.header.rd, str(question.q.qname)) == (7, 1, "a.default.svc.cluster.local.")
    answer = question.reply()
    answer.add_answer(*dnslib.RR.fromZone("a.default.svc.cluster.local. 5 IN A 10.96.0.7"))
    answer.add_answer(*dnslib.RR.fromZone("a.default.svc.cluster.local. 5 IN AAAA fd00::7"))
    answer.add_answer(*dnslib.RR.fromZone("_p._tcp.a. 5 IN SRV 0 100 80 pod.a."))
    assert nslookup.decode_answers(answer.pack()) == (
        0,
        [
            ("a.default.svc.cluster.local", "A", "10.96.0.7"),
            ("a.default.svc.cluster.local", "AAAA", "fd00::7"),
            ("_p._tcp.a", "SRV", "0 100 80 pod.a"),
        ],
    )


@pytest.mark.parametrize(
    ("name", "ndots", "tried"),
    [
        ("web", 5, ["web.ns.svc", "web.svc", "web"]),
        ("a.b", 1, ["a.b", "a.b.ns.svc", "a.b.svc"]),
        ("a.b.", 5, ["a.b"]),
    ],
)
def test_nslookup_search_list(name, ndots, tried):
    assert nslookup.candidates(name, ["ns.svc", "svc."], ndots) == tried
